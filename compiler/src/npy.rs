//! Tensors in numpy's `.npy` files, versions 1 to 3, little-endian and C order.
//!
//! Strings (`<U..`) are read as code points along one more axis, as [`crate::strings`] keeps them.
//!
//! Source: numpy/lib/format.py. Knows nothing of models.
//!
//! ```text
//! \x93NUMPY 1 0 <header length> {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } <data>
//! ```

use crate::strings;
use std::path::Path;
use tilewright_ir::element::Element;
use tilewright_ir::number;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

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

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Numbers, or code points.
    pub tensor: Tensor,
    /// Whether it is strings.
    pub is_strings: bool,
}

/// Reads a file.
///
/// # Errors
/// Names the file and what is wrong.
pub fn read(path: &Path) -> Result<Array, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    decode(&bytes).map_err(|what| format!("{}: {what}", path.display()))
}

/// Writes a file. Types that numpy does not have (bf16, 4-bit ...) are written as f32 or i8.
///
/// # Errors
/// Names the file and what is wrong.
pub fn write(path: &Path, tensor: &Tensor) -> Result<(), String> {
    std::fs::write(path, encode(tensor)).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads the bytes of a file.
///
/// # Errors
/// What is wrong, with what was expected.
pub fn decode(bytes: &[u8]) -> Result<Array, String> {
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
    let element = row.map(|row| row.1).or(characters.map(|_| Element::I32));
    let element = element.ok_or_else(|| match descr {
        "|O" => "objects are not supported: save strings with x.astype(str)".into(),
        _ => format!("type '{descr}' is not supported"),
    })?;
    if value_of(header, "fortran_order")? != "False" {
        return Err("Fortran order is not supported: save numpy.ascontiguousarray(x)".into());
    }
    let shape = value_of(header, "shape")?;
    let dims: Result<Vec<i64>, _> = shape
        .trim_matches(['(', ')'])
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::parse::<u32>)
        .map(|dim| dim.map(i64::from))
        .collect();
    let mut dims = dims.map_err(|_| format!("shape {shape} is not readable"))?;
    dims.extend(characters.map(i64::from));
    let count = dims.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim as usize));
    let expected = count.and_then(|count| count.checked_mul(element.bits() / 8));
    if expected != Some(data.len()) {
        return Err(format!("shape {shape} of {descr} does not take {} bytes", data.len()));
    }
    let tensor = Tensor::from_bytes(&TensorType::of(element, &dims), data)?;
    if characters.is_none() {
        return Ok(Array { tensor, is_strings: false });
    }
    strings::check(&tensor)?;
    Ok(Array { tensor: strings::shortest(&tensor), is_strings: true })
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

/// The bytes of a file of strings, from their code points.
pub fn encode_strings(codes: &Tensor) -> Vec<u8> {
    let (length, shape) = codes.shape.split_last().unwrap_or((&0, &[]));
    file(&format!("<U{length}"), shape, &number::pack(Element::I32, &codes.data))
}

/// The bytes of a file.
pub fn encode(tensor: &Tensor) -> Vec<u8> {
    let known = TYPES.iter().find(|row| row.1 == tensor.element);
    let (descr, element) = match known {
        Some(row) => *row,
        None if tensor.element.is_float() => ("<f4", Element::F32),
        None => ("|i1", Element::I8),
    };
    file(descr, &tensor.shape, &number::pack(element, &tensor.cast(element).data))
}

fn file(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
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
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_and_shapes_come_back() {
        for (_, element) in TYPES {
            for shape in [&[][..], &[3], &[2, 3], &[0, 4]] {
                let dims: Vec<usize> = shape.iter().map(|dim: &i64| *dim as usize).collect();
                let count: usize = dims.iter().product();
                let values =
                    (0..count as i64).map(|value| if *element == Element::Bool { value % 2 } else { value });
                let tensor = Tensor::from_ints(*element, shape, values.collect());
                assert_eq!(decode(&encode(&tensor)).unwrap().tensor, tensor, "{element} {shape:?}");
            }
        }
    }

    #[test]
    fn strings_are_code_points() {
        for (shape, texts) in [(&[2usize, 1][..], &["日本", "a"][..]), (&[], &[""]), (&[0], &[])] {
            let tensor = strings::encode(shape, texts).unwrap();
            let bytes = encode_strings(&tensor);
            assert_eq!(decode(&bytes).unwrap(), Array { tensor: tensor.clone(), is_strings: true });
            let longer = encode_strings(&strings::fit(&tensor, 9).unwrap());
            assert!(
                longer.windows(4).any(|window| window == b"'<U9")
                    && decode(&longer).unwrap().tensor == tensor
            );
        }
        let mut bytes = encode_strings(&strings::encode(&[1], &["ab"]).unwrap());
        let last = bytes.len() - 8;
        bytes[last..last + 4].fill(0);
        assert!(decode(&bytes).unwrap_err().contains("no character"));
    }

    #[test]
    fn faults_are_named() {
        let good = encode(&Tensor::splat(Element::F32, &[2], 1.0));
        let with = |from: &str, to: &str| {
            let mut bytes = good.clone();
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
            decode(&bytes).unwrap_err()
        };
        assert!(with("False", "True ").contains("Fortran"));
        assert!(with("<f4", "<c8").contains("<c8"));
        assert!(with("'<f4'", "'|O' ").contains("astype(str)"));
        assert!(with("(2,)", "(3,)").contains("8 bytes"));
        assert!(with("NUMPY", "NUMPX").contains("not an .npy"));
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_err());
        }
    }
}
