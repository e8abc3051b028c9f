//! Tensors with values, for the reference evaluator and constant folding.
//!
//! Obvious and exact rather than fast: every float up to 32 bits is held as f32 (exactly), f64 as f64, every integer and truth
//! value as i64 (u64 by its bits). Values are always representable in the element type: [`Tensor::from_floats`] sees to it.

use crate::attribute::Elements;
use crate::element::{Element, Family};
use crate::number;
use crate::types::TensorType;
use bytes::Bytes;

/// The values, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Floats of at most 32 bits.
    F32(Vec<f32>),
    /// binary64.
    F64(Vec<f64>),
    /// Integers and truth values.
    I64(Vec<i64>),
}

/// A tensor with values.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Data,
}

impl Tensor {
    /// From floats, rounded to the element type (a float type).
    pub fn from_floats(element: Element, shape: &[usize], values: Vec<f64>) -> Tensor {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "value count and shape differ");
        let data = match element {
            Element::F64 => Data::F64(values),
            Element::F32 => Data::F32(values.into_iter().map(|value| value as f32).collect()),
            _ if element.is_float() => Data::F32(
                values.into_iter().map(|value| number::round_float(element, value) as f32).collect(),
            ),
            _ => Data::I64(values.into_iter().map(|value| number::float_to_int(element, value)).collect()),
        };
        Tensor { element, shape: shape.to_vec(), data }
    }

    /// From integers, wrapped to the width of the element type (or converted, when it is a float type).
    pub fn from_ints(element: Element, shape: &[i64], values: Vec<i64>) -> Tensor {
        let shape: Vec<usize> = shape.iter().map(|dim| (*dim).max(0) as usize).collect();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "value count and shape differ");
        if element.is_float() {
            return Tensor::from_floats(
                element,
                &shape,
                values.into_iter().map(|value| value as f64).collect(),
            );
        }
        let data = Data::I64(values.into_iter().map(|value| number::wrap_int(element, value)).collect());
        Tensor { element, shape, data }
    }

    /// One value everywhere.
    pub fn splat(element: Element, shape: &[usize], value: f64) -> Tensor {
        Tensor::from_floats(element, shape, vec![value; shape.iter().product()])
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
            Data::I64(values) => values.len(),
        }
    }

    /// True if it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Its type.
    pub fn ty(&self) -> TensorType {
        TensorType::of(self.element, &self.shape.iter().map(|dim| *dim as i64).collect::<Vec<_>>())
    }

    /// Element `index` (row-major) as a float. u64 reads as unsigned.
    pub fn float(&self, index: usize) -> f64 {
        match &self.data {
            Data::F32(values) => f64::from(values[index]),
            Data::F64(values) => values[index],
            Data::I64(values) if self.element == Element::U64 => values[index] as u64 as f64,
            Data::I64(values) => values[index] as f64,
        }
    }

    /// Element `index` (row-major) as an integer; floats are truncated.
    pub fn int(&self, index: usize) -> i64 {
        match &self.data {
            Data::F32(values) => values[index] as i64,
            Data::F64(values) => values[index] as i64,
            Data::I64(values) => values[index],
        }
    }

    /// All values as floats.
    pub fn floats(&self) -> Vec<f64> {
        (0..self.len()).map(|index| self.float(index)).collect()
    }

    /// All values as integers.
    pub fn ints(&self) -> Vec<i64> {
        (0..self.len()).map(|index| self.int(index)).collect()
    }

    /// A new tensor of the given type whose element `i` is element `source(i)` of this one. No arithmetic.
    pub fn pick(&self, shape: &[usize], source: impl Fn(usize) -> usize) -> Tensor {
        let count: usize = shape.iter().product();
        let data = match &self.data {
            Data::F32(values) => Data::F32((0..count).map(|index| values[source(index)]).collect()),
            Data::F64(values) => Data::F64((0..count).map(|index| values[source(index)]).collect()),
            Data::I64(values) => Data::I64((0..count).map(|index| values[source(index)]).collect()),
        };
        Tensor { element: self.element, shape: shape.to_vec(), data }
    }

    /// Element by element through floats, rounded to the element type.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Tensor {
        Tensor::from_floats(self.element, &self.shape, self.floats().into_iter().map(f).collect())
    }

    /// Reads packed little-endian bytes of a type with known dimensions.
    ///
    /// # Errors
    /// When a dimension is symbolic or the byte count is wrong.
    pub fn from_bytes(ty: &TensorType, bytes: &[u8]) -> Result<Tensor, String> {
        let shape = ty.known_shape().ok_or_else(|| format!("{ty} has symbolic dimensions"))?;
        let shape: Vec<usize> = shape.iter().map(|dim| (*dim).max(0) as usize).collect();
        let count = shape
            .iter()
            .try_fold(1usize, |product, dim| product.checked_mul(*dim))
            .ok_or_else(|| format!("{ty} is too large"))?;
        let expected = ty.element.bytes_of(count);
        if bytes.len() != expected {
            return Err(format!("{ty} takes {expected} bytes, found {}", bytes.len()));
        }
        Ok(Tensor { element: ty.element, data: number::unpack(ty.element, bytes, count), shape })
    }

    /// Packed little-endian bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        number::pack(self.element, &self.data)
    }

    /// The value of constant elements.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn from_elements(elements: &Elements) -> Result<Tensor, String> {
        Tensor::from_bytes(elements.ty(), elements.bytes())
    }

    /// In-place constant elements of this value.
    pub fn to_elements(&self) -> Elements {
        Elements::Dense(self.ty(), Bytes::from(self.to_bytes()))
    }

    /// The same values as another element type: floats are rounded, integers wrapped, floats to integers truncated and
    /// saturated, anything to bool is `!= 0`.
    pub fn cast(&self, element: Element) -> Tensor {
        if element == self.element {
            return self.clone();
        }
        let shape = self.shape.clone();
        if element == Element::Bool {
            let data = Data::I64((0..self.len()).map(|index| i64::from(self.float(index) != 0.0)).collect());
            return Tensor { element, shape, data };
        }
        if element.is_float() || self.element.family() == Family::Float {
            return Tensor::from_floats(element, &shape, self.floats());
        }
        let data = Data::I64(self.ints().into_iter().map(|value| number::wrap_int(element, value)).collect());
        Tensor { element, shape, data }
    }
}

/// Row-major strides of a shape, in elements.
pub fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}

/// Splits a row-major index into coordinates.
pub fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        let dim = shape[axis].max(1);
        at[axis] = index % dim;
        index /= dim;
    }
    at
}

/// numpy broadcasting of two known shapes.
pub fn broadcast_shapes(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (a, b) if a == b => Ok(a),
            (1, b) => Ok(b),
            (a, 1) => Ok(a),
            (x, y) => Err(format!("shapes {a:?} and {b:?} do not broadcast: {x} and {y}")),
        })
        .collect()
}

/// A function from row-major indices of `to` to row-major indices of `from`, which broadcasts to it.
pub fn broadcast_index(from: &[usize], to: &[usize]) -> impl Fn(usize) -> usize + use<> {
    let offset = to.len() - from.len();
    let strides = strides_of(from);
    let steps: Vec<usize> = (0..to.len())
        .map(|axis| if axis < offset || from[axis - offset] == 1 { 0 } else { strides[axis - offset] })
        .collect();
    let to = to.to_vec();
    let same = from == to;
    move |mut index| {
        if same {
            return index;
        }
        let mut at = 0;
        for axis in (0..to.len()).rev() {
            at += (index % to[axis]) * steps[axis];
            index /= to[axis];
        }
        at
    }
}
