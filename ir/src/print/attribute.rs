//! Attributes as MLIR text.
//!
//! A weight prints as its name and the first 16 hexadecimal digits of its blake3 hash, never as its numbers. The key of a
//! `dense_resource` must be an MLIR identifier: other characters of the name are `$` and two hexadecimal digits, and `$$` comes
//! before the hash. Types that MLIR 19 cannot hold in `dense<..>` (nf4 and the MX formats) print as packed bytes.
//!
//! ```text
//! dense<[1, 2]> : tensor<2xi64>   dense_resource<layers.0.w$$0123456789abcdef> : tensor<4096x4096xf32>
//! #core.dense<tensor<3x!core.nf4>, "0x1203">
//! ```

use super::PrintOptions;
use super::number::{code_at, write_code};
use crate::attribute::{Attribute, Attributes, Elements, Resource, escape};
use crate::element::Element;
use crate::types::TensorType;
use std::fmt::Write;

/// MLIR prints longer constants as one hexadecimal string.
const LIST_ELEMENTS_MAX: usize = 100;

/// The stand-in name that MLIR gives to an elided constant.
pub const ELIDED: &str = "__elided__";

/// Writes an attribute. `typed` is false inside arrays, where MLIR leaves out `: i64` and `: f64`.
pub(super) fn write_attribute(out: &mut String, attribute: &Attribute, options: &PrintOptions, typed: bool) {
    match attribute {
        Attribute::Unit => out.push_str("unit"),
        Attribute::Bool(value) => push(out, format_args!("{value}")),
        Attribute::Int(value) => push(out, format_args!("{value}{}", if typed { " : i64" } else { "" })),
        Attribute::Float(value) => {
            let text = value.to_string();
            // Bits without a type would read as an integer.
            let suffix = if typed || text.starts_with("0x") { " : f64" } else { "" };
            push(out, format_args!("{text}{suffix}"));
        }
        Attribute::Str(text) => push(out, format_args!("\"{}\"", escape(text))),
        Attribute::Type(ty) => push(out, format_args!("{ty}")),
        Attribute::Ints(values) => write_numbers(out, "i64", values.iter()),
        Attribute::Segments(values) => write_numbers(out, "i32", values.iter()),
        Attribute::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write_attribute(out, item, options, false);
            }
            out.push(']');
        }
        Attribute::Dict(entries) => write_dictionary(out, entries.iter(), options),
        Attribute::Symbol(name) => write_symbol(out, name),
        Attribute::Elements(elements) => write_elements(out, elements, options),
    }
}

fn push(out: &mut String, arguments: std::fmt::Arguments) {
    let written = out.write_fmt(arguments);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

fn write_numbers<T: std::fmt::Display>(out: &mut String, element: &str, values: impl Iterator<Item = T>) {
    push(out, format_args!("array<{element}"));
    for (at, value) in values.enumerate() {
        push(out, format_args!("{}{value}", if at == 0 { ": " } else { ", " }));
    }
    out.push('>');
}

/// Writes `{a = .., b}`.
pub(super) fn write_dictionary<'a>(
    out: &mut String,
    entries: impl Iterator<Item = (&'a std::borrow::Cow<'static, str>, &'a Attribute)>,
    options: &PrintOptions,
) {
    out.push('{');
    for (at, (name, value)) in entries.enumerate() {
        out.push_str(if at == 0 { "" } else { ", " });
        if is_bare_identifier(name) {
            out.push_str(name)
        } else {
            push(out, format_args!("\"{}\"", escape(name)))
        }
        if *value != Attribute::Unit {
            out.push_str(" = ");
            write_attribute(out, value, options, true);
        }
    }
    out.push('}');
}

fn write_symbol(out: &mut String, name: &str) {
    if is_bare_identifier(name) {
        push(out, format_args!("@{name}"));
    } else {
        push(out, format_args!("@\"{}\"", escape(name)));
    }
}

/// True for MLIR's `bare-id`: a letter or `_`, then letters, digits, `_`, `$` and `.`.
pub(super) fn is_bare_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte))
}

fn write_elements(out: &mut String, elements: &Elements, options: &PrintOptions) {
    let ty = elements.ty();
    match elements {
        Elements::Resource(resource) => {
            push(out, format_args!("dense_resource<{}> : {ty}", resource_key(resource, options.hashes)));
        }
        Elements::Dense(..) if options.elide_above.is_some_and(|limit| count_of(ty) > limit) => {
            push(out, format_args!("dense_resource<{ELIDED}> : {ty}"));
        }
        Elements::Dense(_, bytes) if is_opaque(ty.element) => {
            push(out, format_args!("#core.dense<{ty}, \"0x"));
            bytes.iter().for_each(|byte| push(out, format_args!("{byte:02X}")));
            out.push_str("\">");
        }
        Elements::Dense(_, bytes) => {
            out.push_str("dense<");
            write_dense(out, ty, bytes);
            push(out, format_args!("> : {ty}"));
        }
    }
}

/// True for element types that are dialect types in MLIR text.
fn is_opaque(element: Element) -> bool {
    element.text().starts_with('!')
}

fn count_of(ty: &TensorType) -> usize {
    let shape = ty.known_shape().unwrap_or_default();
    shape.iter().fold(1usize, |product, dim| product.saturating_mul((*dim).max(0) as usize))
}

fn write_dense(out: &mut String, ty: &TensorType, bytes: &[u8]) {
    let count = count_of(ty);
    let codes = |index| code_at(ty.element, bytes, index).unwrap_or(0);
    if count == 0 {
        return;
    }
    let first = codes(0);
    if (1..count).all(|index| codes(index) == first) {
        return write_code(out, ty.element, first);
    }
    // Truth values have no hexadecimal form that all versions of MLIR agree on.
    if count > LIST_ELEMENTS_MAX && ty.element != Element::Bool {
        out.push_str("\"0x");
        // MLIR keeps elements below a byte in a byte each.
        let width = ty.element.bits().div_ceil(8);
        for index in 0..count {
            let mut code = codes(index);
            if ty.element.bits() < 8 && code >> (ty.element.bits() - 1) == 1 && !ty.element.is_float() {
                code = sign_extended(ty.element, code);
            }
            code.to_le_bytes()[..width].iter().for_each(|byte| push(out, format_args!("{byte:02X}")));
        }
        return out.push('"');
    }
    let shape: Vec<usize> = ty.known_shape().unwrap_or_default().iter().map(|dim| *dim as usize).collect();
    for index in 0..count {
        let mut opened = 0;
        let mut inner = 1;
        for dim in shape.iter().rev() {
            inner *= dim;
            opened += usize::from(index % inner == 0);
        }
        out.push_str(if index == 0 { "" } else { ", " });
        out.push_str(&"[".repeat(opened));
        write_code(out, ty.element, codes(index));
        let mut inner = 1;
        for dim in shape.iter().rev() {
            inner *= dim;
            out.push_str(if (index + 1) % inner == 0 { "]" } else { "" });
        }
    }
}

fn sign_extended(element: Element, code: u64) -> u64 {
    if element.family() == crate::element::Family::Signed { code | (0xff << element.bits()) } else { code }
}

/// The key of a weight: its name as an identifier and, if asked, the start of its hash.
pub fn resource_key(resource: &Resource, with_hash: bool) -> String {
    let mut key = String::new();
    for (at, byte) in resource.name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_';
        // An identifier begins with a letter or `_`; `_$` at the start stands for nothing and makes room for the first escape.
        let plain = plain && (at > 0 || byte.is_ascii_alphabetic() || byte == b'_');
        if plain {
            key.push(byte as char);
        } else {
            if at == 0 {
                key.push('_');
            }
            push(&mut key, format_args!("${byte:02X}"));
        }
    }
    // `_` before an escape at the start would read as the room made above, and alone as no name at all.
    if (key.starts_with("_$") || key == "_") && resource.name.starts_with('_') {
        key.replace_range(0..1, "_$5F");
    }
    if key.is_empty() {
        key.push('_');
    }
    if with_hash {
        key.push_str("$$");
        resource.hash()[..8].iter().for_each(|byte| push(&mut key, format_args!("{byte:02x}")));
    }
    key
}

/// Reads [`resource_key`]: the name, and the start of the hash if there is one.
pub fn split_resource_key(key: &str) -> (String, Option<&str>) {
    let (name, hash) = match key.rsplit_once("$$") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            (name, Some(hash))
        }
        _ => (key, None),
    };
    if name == "_" {
        return (String::new(), hash);
    }
    let name = if name.starts_with("_$") { &name[1..] } else { name };
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = std::str::from_utf8(after.get(..2).unwrap_or_default()).ok();
        match escaped
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|_| *first == b'$' && after.len() >= 2)
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), hash)
}

/// Which attributes an op prints between `<{` and `}>`: all but the discardable ones, whose names hold a dot.
pub(super) fn split_attributes(attributes: &Attributes) -> (usize, usize) {
    let discardable = attributes.keys().filter(|name| name.contains('.')).count();
    (attributes.len() - discardable, discardable)
}
