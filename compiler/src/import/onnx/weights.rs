//! Tensors of a model to constant elements: all data types, all places that data may be in, without copying what is stored raw.
//!
//! Knows nothing of nodes or shapes beyond the tensor's own.
//!
//! ```text
//! TensorProto {name: "w", dims: [64, 64], data_type: FLOAT, raw_data: ..} -> dense_resource<w> : tensor<64x64xf32>
//! ```

use super::file::ExternalData;
use super::operand::Operand;
use super::schema::TensorProto;
use crate::strings;
use bytes::Bytes;
use std::sync::Arc;
use tilewright_ir::attribute::{Elements, Resource};
use tilewright_ir::element::Element;
use tilewright_ir::types::TensorType;

/// Constants of at most this many elements are kept in place.
pub(crate) const DENSE_MAX: usize = 64;
/// The most dimensions that a tensor may have.
pub(crate) const RANK_MAX: usize = 64;

/// The number of the data type STRING.
pub(crate) const STRING: i32 = 8;

/// ONNX data type number, ONNX name, our element type (`None`: not supported).
const TYPES: &[(i32, &str, Option<Element>)] = &[
    (1, "FLOAT", Some(Element::F32)),
    (2, "UINT8", Some(Element::U8)),
    (3, "INT8", Some(Element::I8)),
    (4, "UINT16", Some(Element::U16)),
    (5, "INT16", Some(Element::I16)),
    (6, "INT32", Some(Element::I32)),
    (7, "INT64", Some(Element::I64)),
    (STRING, "STRING", None),
    (9, "BOOL", Some(Element::Bool)),
    (10, "FLOAT16", Some(Element::F16)),
    (11, "DOUBLE", Some(Element::F64)),
    (12, "UINT32", Some(Element::U32)),
    (13, "UINT64", Some(Element::U64)),
    (14, "COMPLEX64", None),
    (15, "COMPLEX128", None),
    (16, "BFLOAT16", Some(Element::BF16)),
    (17, "FLOAT8E4M3FN", Some(Element::F8E4M3FN)),
    (18, "FLOAT8E4M3FNUZ", Some(Element::F8E4M3FNUZ)),
    (19, "FLOAT8E5M2", Some(Element::F8E5M2)),
    (20, "FLOAT8E5M2FNUZ", Some(Element::F8E5M2FNUZ)),
    (21, "UINT4", Some(Element::U4)),
    (22, "INT4", Some(Element::I4)),
    (23, "FLOAT4E2M1", Some(Element::F4E2M1)),
    (24, "FLOAT8E8M0", Some(Element::F8E8M0)),
    (25, "UINT2", Some(Element::U2)),
    (26, "INT2", Some(Element::I2)),
    (27, "FLOAT6E2M3", None),
    (28, "FLOAT6E3M2", None),
];

/// The element type of an ONNX data type number.
///
/// # Errors
/// Names the type.
pub(crate) fn element_of(data_type: i32) -> Result<Element, String> {
    match TYPES.iter().find(|row| row.0 == data_type) {
        Some((_, _, Some(element))) => Ok(*element),
        Some((_, name, None)) => Err(format!("data type {name} is not supported")),
        None => Err(format!("data type {data_type} is not known")),
    }
}

/// The type of a stored tensor.
///
/// # Errors
/// Names the dimension or the data type.
fn type_of(tensor: &TensorProto) -> Result<(TensorType, usize), String> {
    let element = element_of(tensor.data_type.unwrap_or(0))?;
    let count = count_of(&tensor.dims)?;
    Ok((TensorType::of(element, &tensor.dims), count))
}

/// The number of elements of a stored tensor.
fn count_of(dims: &[i64]) -> Result<usize, String> {
    if dims.len() > RANK_MAX {
        return Err(format!("it has {} dimensions, at most {RANK_MAX} are supported", dims.len()));
    }
    let mut count = 1usize;
    for dim in dims {
        let dim = usize::try_from(*dim).map_err(|_| format!("dimension {dim} is negative"))?;
        // Three bits spare, so that the bit count cannot overflow either.
        count = count
            .checked_mul(dim)
            .filter(|count| *count < usize::MAX >> 8)
            .ok_or_else(|| format!("shape {dims:?} is too large"))?;
    }
    Ok(count)
}

/// Constant elements of a stored tensor. Raw and external bytes are shared, typed fields are converted.
///
/// # Errors
/// What is wrong, with the expected and the found size.
pub(crate) fn elements(tensor: &TensorProto, external: &mut ExternalData) -> Result<Elements, String> {
    if tensor.segment.is_some() {
        return Err("it is stored in segments, which is not supported".into());
    }
    let (ty, count) = type_of(tensor)?;
    let expected = ty.element.bytes_of(count);
    let bytes = if tensor.data_location == Some(EXTERNAL) {
        external_bytes(tensor, external)?
    } else if let Some(raw) = &tensor.raw_data {
        raw.clone()
    } else {
        Bytes::from(typed_bytes(tensor, ty.element, count)?)
    };
    if bytes.len() != expected {
        return Err(format!("{ty} takes {expected} bytes, found {}", bytes.len()));
    }
    if count <= DENSE_MAX {
        // A copy of a few bytes, so that small constants keep no file mapped and compare by value.
        return Ok(Elements::Dense(ty, Bytes::copy_from_slice(&bytes)));
    }
    Ok(Elements::Resource(Arc::new(Resource::new(tensor.name.as_deref().unwrap_or_default(), ty, bytes))))
}

/// A stored tensor as a value, strings too.
///
/// # Errors
/// As [`elements`].
pub(crate) fn operand(tensor: &TensorProto, external: &mut ExternalData) -> Result<Operand, String> {
    if tensor.data_type != Some(STRING) {
        return elements(tensor, external).map(Operand::constant);
    }
    let count = count_of(&tensor.dims)?;
    let texts: Result<Vec<&str>, _> =
        tensor.string_data.iter().map(|bytes| std::str::from_utf8(bytes)).collect();
    let texts = texts.map_err(|_| "it holds a string that is not UTF-8".to_string())?;
    if texts.len() != count || tensor.segment.is_some() || tensor.data_location == Some(EXTERNAL) {
        return Err(format!("its shape {:?} takes {count} strings, found {}", tensor.dims, texts.len()));
    }
    let shape: Vec<usize> = tensor.dims.iter().map(|dim| *dim as usize).collect();
    let codes = strings::encode(&shape, &texts)?;
    let elements = if codes.len() > DENSE_MAX {
        let name = tensor.name.as_deref().unwrap_or_default();
        Elements::Resource(Arc::new(Resource::new(name, codes.ty(), codes.to_bytes().into())))
    } else {
        codes.to_elements()
    };
    Ok(Operand::strings(Operand::constant(elements)))
}

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

fn external_bytes(tensor: &TensorProto, external: &mut ExternalData) -> Result<Bytes, String> {
    let (mut location, mut offset, mut length) = ("", 0u64, None);
    for entry in &tensor.external_data {
        let value = entry.value.as_deref().unwrap_or_default();
        let number = || {
            let key = entry.key.as_deref().unwrap_or_default();
            value.trim().parse::<u64>().map_err(|_| format!("external data {key} '{value}' is not a size"))
        };
        match entry.key.as_deref() {
            Some("location") => location = value,
            Some("offset") => offset = number()?,
            Some("length") => length = Some(number()?),
            _ => {}
        }
    }
    let (ty, count) = type_of(tensor)?;
    let length = length.unwrap_or(ty.element.bytes_of(count) as u64);
    external.slice(location, offset, Some(length))
}

fn typed_bytes(tensor: &TensorProto, element: Element, count: usize) -> Result<Vec<u8>, String> {
    let (bytes, found): (Vec<u8>, usize) = match element {
        Element::F32 => {
            (flat(tensor.float_data.iter().map(|value| value.to_le_bytes())), tensor.float_data.len())
        }
        Element::F64 => {
            (flat(tensor.double_data.iter().map(|value| value.to_le_bytes())), tensor.double_data.len())
        }
        Element::I64 => {
            (flat(tensor.int64_data.iter().map(|value| value.to_le_bytes())), tensor.int64_data.len())
        }
        Element::U32 | Element::U64 => {
            let width = element.bits() / 8;
            let bytes =
                tensor.uint64_data.iter().flat_map(|value| value.to_le_bytes().into_iter().take(width));
            (bytes.collect(), tensor.uint64_data.len())
        }
        // Everything else shares int32_data: the low bytes of each number, or two or four packed elements in its low byte.
        _ => {
            let width = (element.bits() / 8).max(1);
            let bytes: Vec<u8> = tensor
                .int32_data
                .iter()
                .flat_map(|value| value.to_le_bytes().into_iter().take(width))
                .collect();
            let found = if element.bits() >= 8 { tensor.int32_data.len() } else { count };
            (bytes, found)
        }
    };
    if found != count {
        return Err(format!("its shape {:?} takes {count} elements, found {found}", tensor.dims));
    }
    Ok(bytes)
}

fn flat<const N: usize>(parts: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    parts.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> ExternalData {
        ExternalData::new(None)
    }

    #[test]
    fn raw_bytes_are_shared() {
        let raw = Bytes::from(vec![7u8; 1024]);
        let tensor = TensorProto {
            name: Some("w".into()),
            dims: vec![256],
            data_type: Some(1),
            raw_data: Some(raw.clone()),
            ..TensorProto::default()
        };
        let Elements::Resource(resource) = elements(&tensor, &mut none()).unwrap() else {
            panic!("not a resource")
        };
        assert_eq!(resource.bytes.as_ptr(), raw.as_ptr());
    }

    #[test]
    fn odd_counts_of_nibbles_pad() {
        let tensor = TensorProto {
            dims: vec![3],
            data_type: Some(22),
            int32_data: vec![0xe1, 0x07],
            ..TensorProto::default()
        };
        let value = elements(&tensor, &mut none()).unwrap();
        assert_eq!(value.bytes().as_ref(), [0xe1, 0x07]);
    }

    #[test]
    fn wrong_sizes_and_types_are_named() {
        let with = |dims: Vec<i64>, data_type: i32| TensorProto {
            dims,
            data_type: Some(data_type),
            raw_data: Some(Bytes::from_static(&[0; 8])),
            ..TensorProto::default()
        };
        for (tensor, expected) in [
            (with(vec![3], 1), "takes 12 bytes, found 8"),
            (with(vec![-1], 1), "negative"),
            (with(vec![i64::MAX, 4], 1), "too large"),
            (with(vec![i64::MAX], 1), "too large"),
            (with(vec![2], 8), "STRING"),
            (with(vec![2], 99), "not known"),
        ] {
            let error = elements(&tensor, &mut none()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
