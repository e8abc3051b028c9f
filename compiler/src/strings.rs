//! Strings as numbers: an i32 tensor of Unicode code points with one more axis at the end, as long as the longest string, filled up
//! with zeros. It is what NumPy's `<U` arrays hold, so they pass unchanged.
//!
//! Which inputs and outputs are strings stands in the attributes of `@main` ([`ATTRIBUTE`]) and in an artifact's metadata
//! ([`METADATA_KEY`]); the rest of the compiler sees integers. A string has no U+0000.
//!
//! ```text
//! ["to", "be?"]  <->  [[0x74, 0x6f, 0], [0x62, 0x65, 0x3f]] : tensor<2x3xi32>
//! ```

use crate::signature::{Port, Signature};
use std::collections::BTreeMap;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;

/// The entry of an argument's or result's attributes that says that it is strings.
pub const ATTRIBUTE: &str = "tw.strings";
/// The metadata of an artifact that names its inputs and outputs of strings, as a JSON list.
pub const METADATA_KEY: &str = "strings";
/// The most code points of one tensor, filled up.
const CODES_MAX: usize = 1 << 28;

/// The code points of strings of this shape (without the axis of code points), at least one for each.
///
/// # Errors
/// When a string holds U+0000, or all of them filled up are too many.
pub fn encode(shape: &[usize], strings: &[impl AsRef<str>]) -> Result<Tensor, String> {
    let lengths = strings.iter().map(|text| text.as_ref().chars().count());
    let length = lengths.max().unwrap_or(0).max(1);
    if strings.len().checked_mul(length).is_none_or(|count| count > CODES_MAX) {
        return Err(format!(
            "{} strings of up to {length} characters are more than {CODES_MAX} in all",
            strings.len()
        ));
    }
    let mut codes = Vec::with_capacity(strings.len() * length);
    for text in strings.iter().map(AsRef::as_ref) {
        let end = codes.len() + length;
        codes.extend(text.chars().map(|one| i64::from(u32::from(one))));
        codes.resize(end, 0);
    }
    let dims: Vec<i64> = shape.iter().chain([&length]).map(|dim| *dim as i64).collect();
    let tensor = Tensor::from_ints(Element::I32, &dims, codes);
    check(&tensor).map(|()| tensor)
}

fn rows(tensor: &Tensor) -> impl Iterator<Item = Vec<i64>> {
    let length = tensor.shape.last().copied().unwrap_or(1);
    (0..tensor.len() / length.max(1)).map(move |row| {
        let codes = (0..length).map(|at| tensor.int(row * length + at));
        let mut codes: Vec<i64> = codes.collect();
        while codes.last() == Some(&0) {
            codes.pop();
        }
        codes
    })
}

/// Says whether a tensor holds strings as this file describes them.
///
/// # Errors
/// The first that is none.
pub fn check(tensor: &Tensor) -> Result<(), String> {
    if tensor.element != Element::I32 || tensor.rank() == 0 {
        return Err(format!("{} holds no strings: code points are i32", tensor.ty()));
    }
    for (at, codes) in rows(tensor).enumerate() {
        let is_character = |code: &i64| u32::try_from(*code).ok().and_then(char::from_u32).is_some();
        if let Some(code) = codes.iter().find(|code| **code == 0 || !is_character(code)) {
            return Err(format!("string {at} holds {code:#x}, which is no character of a string"));
        }
    }
    Ok(())
}

/// The strings of a tensor of code points, row by row; what is no character becomes U+FFFD.
pub fn decode(tensor: &Tensor) -> Vec<String> {
    let character = |code: i64| {
        let found = u32::try_from(code).ok().and_then(char::from_u32);
        found.unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    rows(tensor).map(|codes| codes.into_iter().map(character).collect()).collect()
}

/// The same strings with room for `length` code points each.
///
/// # Errors
/// When one of them is longer.
pub fn fit(tensor: &Tensor, length: usize) -> Result<Tensor, String> {
    check(tensor)?;
    let mut codes = Vec::new();
    for (at, mut row) in rows(tensor).enumerate() {
        if row.len() > length {
            return Err(format!("string {at} has {} characters, there is room for {length}", row.len()));
        }
        row.resize(length, 0);
        codes.extend(row);
    }
    let mut dims: Vec<i64> = tensor.shape.iter().map(|dim| *dim as i64).collect();
    dims.pop();
    dims.push(length as i64);
    Ok(Tensor::from_ints(Element::I32, &dims, codes))
}

/// Values of inputs, strings filled up where the number of code points is known.
///
/// # Errors
/// All strings that do not fit, with the names of their inputs.
pub fn fitted(ports: &[Port], values: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
    let mut problems = Diagnostics::new();
    let mut fitted = values.to_vec();
    for (port, value) in ports.iter().zip(&mut fitted).filter(|(port, _)| port.is_strings) {
        if let Some(length) = port.ty.shape.last().and_then(Dim::known) {
            match fit(value, length.max(0) as usize) {
                Ok(longer) => *value = longer,
                Err(what) => problems.push(does_not_fit(&port.name, &what)),
            }
        }
    }
    if problems.is_empty() { Ok(fitted) } else { Err(problems) }
}

/// Says that the strings given for an input do not fit.
pub fn does_not_fit(input: &str, what: &str) -> Diagnostic {
    Diagnostic::error(Location::name(input), format!("input '{input}': {what}"))
        .with_help("compile with --bind and more characters for this input")
}

/// Results of a run in the form that [`encode`] gives: strings with room for the longest one.
pub fn shortened(ports: &[Port], results: Vec<Tensor>) -> Vec<Tensor> {
    let shorten = |(at, tensor): (usize, Tensor)| match ports.get(at) {
        Some(port) if port.is_strings => shortest(&tensor),
        _ => tensor,
    };
    results.into_iter().enumerate().map(shorten).collect()
}

/// Strings with room for the longest one; what is none stays as it is.
pub fn shortest(tensor: &Tensor) -> Tensor {
    let longest = rows(tensor).map(|row| row.len()).max().unwrap_or(0).max(1);
    fit(tensor, longest).unwrap_or_else(|_| tensor.clone())
}

/// What an artifact's metadata says about a border: nothing when it has no strings.
pub fn metadata(signature: &Signature) -> Option<(String, String)> {
    let ports = signature.inputs.iter().chain(&signature.outputs);
    let names: Vec<&str> = ports.filter(|port| port.is_strings).map(|port| &*port.name).collect();
    (!names.is_empty()).then(|| (METADATA_KEY.to_string(), serde_json::json!(names).to_string()))
}

/// The inputs and outputs of strings that an artifact's metadata names.
pub fn names(metadata: &BTreeMap<String, String>) -> Vec<String> {
    let list = metadata.get(METADATA_KEY).map(String::as_str).unwrap_or("[]");
    serde_json::from_str(list).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back() {
        let words = ["", "日本", "straße", "🦀"];
        let tensor = encode(&[2, 2], &words).unwrap();
        assert_eq!(tensor.shape, [2, 2, 6]);
        assert_eq!(decode(&tensor), words);
        let longer = fit(&tensor, 9).unwrap();
        assert_eq!((longer.shape[2], decode(&longer)), (9, decode(&tensor)));
        assert_eq!(fit(&longer, 6).unwrap(), tensor);
        assert_eq!(encode(&[0], &[] as &[&str]).unwrap().shape, [0, 1]);
    }

    #[test]
    fn what_is_no_string_is_named() {
        assert!(encode(&[1], &["a\0b"]).unwrap_err().contains("0x0"));
        let surrogate = Tensor::from_ints(Element::I32, &[1, 1], vec![0xd800]);
        assert!(check(&surrogate).unwrap_err().contains("0xd800"));
        assert_eq!(decode(&surrogate), ["\u{fffd}"]);
        assert!(check(&Tensor::splat(Element::F32, &[1], 0.0)).is_err());
        assert!(fit(&encode(&[1], &["long"]).unwrap(), 3).unwrap_err().contains("4 characters"));
    }
}
