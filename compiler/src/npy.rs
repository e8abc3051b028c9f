//! The compiler's tensors in numpy's `.npy` files. The format is [`tilewright_runtime::npy`]'s business.
//!
//! Strings (`<U..`) are read as code points along one more axis, as [`crate::strings`] keeps them. Knows nothing of models.

use crate::strings;
use std::path::Path;
use tilewright_ir::element::Element;
use tilewright_ir::number;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;
use tilewright_runtime::npy::{self, Content};
use tilewright_targets::emit::runtime_element;

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
    let npy::Array { content, shape, data } = npy::decode(bytes)?;
    let mut dims: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
    let element = match content {
        Content::Numbers(element) => {
            let same = |one: &&Element| runtime_element(**one) == Some(element);
            *Element::ALL.iter().find(same).ok_or_else(|| format!("type {element} is not supported"))?
        }
        Content::Strings(characters) => {
            dims.push(characters as i64);
            Element::I32
        }
    };
    let tensor = Tensor::from_bytes(&TensorType::of(element, &dims), data)?;
    if let Content::Numbers(_) = content {
        return Ok(Array { tensor, is_strings: false });
    }
    strings::check(&tensor)?;
    Ok(Array { tensor: strings::shortest(&tensor), is_strings: true })
}

/// The bytes of a file of strings, from their code points.
pub fn encode_strings(codes: &Tensor) -> Vec<u8> {
    let (length, shape) = codes.shape.split_last().unwrap_or((&0, &[]));
    file(Content::Strings(*length), shape, &number::pack(Element::I32, &codes.data))
}

/// The bytes of a file.
pub fn encode(tensor: &Tensor) -> Vec<u8> {
    let known = runtime_element(tensor.element).filter(|element| npy::is_known(*element));
    let element = match known {
        Some(_) => tensor.element,
        None if tensor.element.is_float() => Element::F32,
        None => Element::I8,
    };
    let content = Content::Numbers(runtime_element(element).expect("numpy and the runtime know it"));
    file(content, &tensor.shape, &number::pack(element, &tensor.cast(element).data))
}

fn file(content: Content, shape: &[usize], data: &[u8]) -> Vec<u8> {
    npy::encode(content, shape, data).expect("numpy knows the type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_and_shapes_come_back() {
        for element in Element::ALL.iter().filter(|one| runtime_element(**one).is_some_and(npy::is_known)) {
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
    fn types_that_numpy_lacks_are_widened() {
        for (element, wider) in [(Element::BF16, Element::F32), (Element::I4, Element::I8)] {
            let tensor = Tensor::from_ints(element, &[3], vec![1, -2, 3]);
            assert_eq!(decode(&encode(&tensor)).unwrap().tensor, tensor.cast(wider));
        }
    }
}
