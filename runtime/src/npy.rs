//! Tensors in numpy's `.npy` files, versions 1 to 3, little-endian and C order, as bytes.
//!
//! Source: numpy/lib/format.py. Knows nothing of models.
//!
//! ```text
//! \x93NUMPY 1 0 <header length> {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } <data>
//! ```

use crate::element::Element;

const MAGIC: &[u8] = b"\x93NUMPY";
/// numpy aligns the data to this many bytes.
const ALIGNMENT_BYTES: usize = 64;

/// numpy's type text and ours.
const TYPES: &[(&str, Element)] = &[
    ("<f8", Element::F64),
    ("<f4", Element::F32),
    ("<f2", Element::F16),
    ("<i8", Element::I64),
    ("<i4", Element::I32),
    ("<i2", Element::I16),
    ("|i1", Element::I8),
    ("<u8", Element::U64),
    ("<u4", Element::U32),
    ("<u2", Element::U16),
    ("|u1", Element::U8),
    ("|b1", Element::Bool),
];

/// What an array is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Numbers.
    Numbers(Element),
    /// Strings of so many code points of four bytes, filled up with zeros.
    Strings(usize),
}

impl Content {
    fn item_bytes(self) -> usize {
        match self {
            Content::Numbers(element) => element.bits() as usize / 8,
            Content::Strings(characters) => characters.saturating_mul(4),
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array<'b> {
    /// Of what.
    pub content: Content,
    /// Extents.
    pub shape: Vec<usize>,
    /// Items in row-major order.
    pub data: &'b [u8],
}

/// Whether numpy has this type.
pub fn is_known(element: Element) -> bool {
    TYPES.iter().any(|row| row.1 == element)
}

/// Reads the bytes of a file.
///
/// # Errors
/// What is wrong, with what was expected.
pub fn decode(bytes: &[u8]) -> Result<Array<'_>, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not an .npy file")?;
    let (version, rest) = rest.split_at_checked(2).ok_or("the header is cut off")?;
    let width = match version[0] {
        1 => 2,
        2 | 3 => 4,
        other => return Err(format!("version {other} of the format is not known, 1 to 3 are")),
    };
    let (length, rest) = rest.split_at_checked(width).ok_or("the header is cut off")?;
    let length = length.iter().rev().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    let (header, data) = rest.split_at_checked(length).ok_or("the header is cut off")?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;
    let descr = value_of(header, "descr")?.trim_matches(['\'', '"']);
    let characters = descr.strip_prefix("<U").and_then(|digits| digits.parse::<u32>().ok());
    let row = TYPES.iter().find(|row| row.0 == descr || row.0.replace('|', "<") == descr);
    let strings = characters.map(|characters| Content::Strings(characters as usize));
    let content = row.map(|row| Content::Numbers(row.1)).or(strings).ok_or_else(|| match descr {
        "|O" => "objects are not supported: save strings with x.astype(str)".into(),
        _ => format!("type '{descr}' is not supported"),
    })?;
    if value_of(header, "fortran_order")? != "False" {
        return Err("Fortran order is not supported: save numpy.ascontiguousarray(x)".into());
    }
    let text = value_of(header, "shape")?;
    let dims: Result<Vec<u32>, _> = text
        .trim_matches(['(', ')'])
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect();
    let dims = dims.map_err(|_| format!("shape {text} is not readable"))?;
    let shape: Vec<usize> = dims.into_iter().map(|dim| dim as usize).collect();
    let expected = shape.iter().try_fold(content.item_bytes(), |bytes, dim| bytes.checked_mul(*dim));
    if expected != Some(data.len()) {
        return Err(format!("shape {text} of {descr} does not take {} bytes", data.len()));
    }
    Ok(Array { content, shape, data })
}

/// The text of a header entry: up to the comma after it, parentheses kept together.
fn value_of<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let missing = || format!("the header has no '{key}'");
    let at = header.find(&format!("'{key}'")).ok_or_else(missing)?;
    let value = header[at..].split_once(':').ok_or_else(missing)?.1.trim_start();
    let end =
        if value.starts_with('(') { value.find(')').map(|end| end + 1) } else { value.find([',', '}']) };
    Ok(value[..end.ok_or_else(missing)?].trim())
}

/// The bytes of a file; none for a type that numpy does not have.
pub fn encode(content: Content, shape: &[usize], data: &[u8]) -> Option<Vec<u8>> {
    let descr = match content {
        Content::Strings(characters) => format!("<U{characters}"),
        Content::Numbers(element) => TYPES.iter().find(|row| row.1 == element)?.0.to_string(),
    };
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let shape = match dims.as_slice() {
        [single] => format!("({single},)"),
        _ => format!("({})", dims.join(", ")),
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGNMENT_BYTES) - before;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    // Version 2 has a four-byte header length; ours always fits the two bytes of version 1.
    bytes.extend([1, 0]);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_and_shapes_come_back() {
        for (_, element) in TYPES {
            for shape in [&[][..], &[3], &[2, 3], &[0, 4]] {
                let content = Content::Numbers(*element);
                let data = vec![1; shape.iter().product::<usize>() * content.item_bytes()];
                let bytes = encode(content, shape, &data).expect("a known type");
                let back = Array { content, shape: shape.to_vec(), data: &data };
                assert_eq!(decode(&bytes), Ok(back), "{element} {shape:?}");
            }
        }
        assert!(!is_known(Element::BF16) && encode(Content::Numbers(Element::BF16), &[], &[0; 2]).is_none());
    }

    #[test]
    fn faults_are_named() {
        let good = encode(Content::Numbers(Element::F32), &[2], &[0; 8]).expect("a known type");
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_err(), "{length} bytes");
        }
        let text = String::from_utf8_lossy(&good).into_owned();
        assert!(text.contains("'<f4'"));
        let of = |old: &str, new: &str| {
            let at = good.windows(old.len()).position(|window| window == old.as_bytes()).expect("there");
            let mut bytes = good.clone();
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
            decode(&bytes).expect_err("changed")
        };
        assert!(of("False", "True ").contains("Fortran order"));
        assert!(of("<f4", "<c8").contains("type '<c8' is not supported"));
        assert!(of("(2,)", "(3,)").contains("does not take 8 bytes"));
    }
}
