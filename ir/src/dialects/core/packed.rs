//! Movement of packed elements: what reshape, transpose and pad mean on bytes, so that a weight gets another layout straight from where it is
//! mapped and is never widened. It must not know what a layout is for.
//!
//! ```text
//! %p = "core.transpose"(%w) <{permutation = array<i64: 1, 0>}> : (tensor<64x32xi4>) -> tensor<32x64xi4>    // nibbles move, nothing else
//! ```

use crate::attribute::{Attribute, Elements};
use crate::dim::Bindings;
use crate::element::Element;
use crate::op_def::Signature;
use crate::tensor::{Tensor, strides_of};
use bytes::Bytes;

type Packed = Result<Vec<Bytes>, String>;

fn shape_of(elements: &Elements) -> Result<Vec<usize>, String> {
    let shape = elements.ty().known_shape().ok_or("a weight of unknown shape")?;
    Ok(shape.into_iter().map(|dim| dim.max(0) as usize).collect())
}

/// The same bytes.
pub(super) fn reshape(_: &Signature, operands: &[&Elements]) -> Packed {
    Ok(vec![operands[0].bytes().clone()])
}

/// Elements in the order of the permuted dimensions.
pub(super) fn transpose(signature: &Signature, operands: &[&Elements]) -> Packed {
    let shape = shape_of(operands[0])?;
    let strides = strides_of(&shape);
    let order = signature.ints("permutation").iter().map(|axis| *axis as usize);
    let axes: Vec<Axis> = order.map(|axis| Axis { length: shape[axis], step: strides[axis] }).collect();
    let (bytes, axes) = (operands[0].bytes(), merged(&axes));
    let bits = operands[0].ty().element.bits();
    Ok(vec![
        match bits {
            8 => pick::<1>(bytes, &axes),
            16 => pick::<2>(bytes, &axes),
            32 => pick::<4>(bytes, &axes),
            64 => pick::<8>(bytes, &axes),
            _ => pick_parts(bytes, &axes, bits),
        }
        .into(),
    ])
}

/// Zeros around constant padding; the other modes go through tensors.
pub(super) fn pad(signature: &Signature, operands: &[&Elements]) -> Packed {
    let shape = shape_of(operands[0])?;
    let counts = |name: &str| -> Option<Vec<usize>> {
        let dims = signature.attributes.get(name).and_then(Attribute::as_dims)?;
        dims.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect()
    };
    let is_plain = operands.len() == 1 && signature.str("mode", "constant") == "constant";
    let (Some(low), Some(high), true) = (counts("low"), counts("high"), is_plain) else {
        return through_tensors(signature, operands);
    };
    let padded: Vec<usize> = (0..shape.len()).map(|axis| low[axis] + shape[axis] + high[axis]).collect();
    let element = operands[0].ty().element;
    let mut result = zeros(element, padded.iter().product());
    let Some((row, outer)) = shape.split_last() else { return Ok(vec![operands[0].bytes().clone()]) };
    let strides = strides_of(&padded);
    let start: usize = low.iter().zip(&strides).map(|(low, stride)| low * stride).sum();
    let axes: Vec<Axis> =
        outer.iter().zip(&strides).map(|(length, step)| Axis { length: *length, step: *step }).collect();
    let mut from = 0;
    each_place(&axes, |place| {
        copy_run(operands[0].bytes(), from, &mut result, start + place, *row, element.bits());
        from += row;
    });
    Ok(vec![result.into()])
}

/// Elements that are 0, which some types write as other bits; behind the last one bits are 0.
fn zeros(element: Element, count: usize) -> Vec<u8> {
    let one = Tensor::splat(element, &[8 / element.bits().min(8)], 0.0).to_bytes();
    let mut result = vec![0; element.bytes_of(count)];
    if one.iter().any(|byte| *byte != 0) {
        result.chunks_mut(one.len()).for_each(|chunk| chunk.copy_from_slice(&one[..chunk.len()]));
        let used = count * element.bits() % 8;
        if let (1.., Some(last)) = (used, result.last_mut()) {
            *last &= (1 << used) - 1;
        }
    }
    result
}

fn through_tensors(signature: &Signature, operands: &[&Elements]) -> Packed {
    let tensors: Vec<Tensor> =
        operands.iter().map(|elements| Tensor::from_elements(elements)).collect::<Result<_, _>>()?;
    let values: Vec<&Tensor> = tensors.iter().collect();
    let found = crate::evaluate::invoke(signature, &values, &Bindings::new())?;
    Ok(found.iter().map(|tensor| tensor.to_bytes().into()).collect())
}

/// One dimension of what is read: how often, and how far apart, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    length: usize,
    step: usize,
}

/// The same places by as few dimensions as can be.
fn merged(axes: &[Axis]) -> Vec<Axis> {
    let mut result: Vec<Axis> = Vec::new();
    for axis in axes.iter().filter(|axis| axis.length != 1) {
        match result.last_mut() {
            Some(last) if last.step == axis.length * axis.step => {
                *last = Axis { length: last.length * axis.length, step: axis.step };
            }
            _ => result.push(*axis),
        }
    }
    result
}

/// Calls with the place of every index, row-major.
fn each_place(axes: &[Axis], mut each: impl FnMut(usize)) {
    if axes.iter().any(|axis| axis.length == 0) {
        return;
    }
    let mut index = vec![0; axes.len()];
    let mut place = 0;
    loop {
        each(place);
        let mut at = axes.len();
        loop {
            let Some(axis) = at.checked_sub(1) else { return };
            at = axis;
            index[axis] += 1;
            place += axes[axis].step;
            if index[axis] < axes[axis].length {
                break;
            }
            place -= axes[axis].step * axes[axis].length;
            index[axis] = 0;
        }
    }
}

/// The two innermost dimensions and those around them.
fn innermost(axes: &[Axis]) -> (&[Axis], Axis, Axis) {
    let one = Axis { length: 1, step: 0 };
    match axes {
        [outer @ .., rows, columns] => (outer, *rows, *columns),
        [columns] => (&[], one, *columns),
        [] => (&[], one, one),
    }
}

/// Elements of `W` bytes.
fn pick<const W: usize>(bytes: &[u8], axes: &[Axis]) -> Vec<u8> {
    let (elements, _) = bytes.as_chunks::<W>();
    let (outer, rows, columns) = innermost(axes);
    let mut result = Vec::with_capacity(axes.iter().map(|axis| axis.length).product::<usize>() * W);
    each_place(outer, |place| {
        for row in 0..rows.length {
            let start = place + row * rows.step;
            match columns.step {
                1 => result.extend_from_slice(elements[start..start + columns.length].as_flattened()),
                step => (0..columns.length).for_each(|at| result.extend(elements[start + at * step])),
            }
        }
    });
    result
}

/// Elements of less than a byte, the first in the low bits.
fn pick_parts(bytes: &[u8], axes: &[Axis], bits: usize) -> Vec<u8> {
    let (outer, rows, columns) = innermost(axes);
    let mut result =
        Vec::with_capacity((axes.iter().map(|axis| axis.length).product::<usize>() * bits).div_ceil(8));
    let (shift, mask) = ((8 / bits).trailing_zeros(), (1u8 << bits) - 1);
    let within = (1usize << shift) - 1;
    let (mut byte, mut filled) = (0u8, 0);
    each_place(outer, |place| {
        for row in 0..rows.length {
            let mut from = place + row * rows.step;
            for _ in 0..columns.length {
                let part = bytes[from >> shift] >> ((from & within) * bits) & mask;
                byte |= part << filled;
                filled += bits;
                if filled == 8 {
                    result.push(byte);
                    (byte, filled) = (0, 0);
                }
                from += columns.step;
            }
        }
    });
    if filled > 0 {
        result.push(byte);
    }
    result
}

/// Copies `count` elements side by side; places in elements.
fn copy_run(from: &[u8], start: usize, to: &mut [u8], place: usize, count: usize, bits: usize) {
    if [start * bits, place * bits, count * bits].iter().all(|at| at % 8 == 0) {
        let (start, place, bytes) = (start * bits / 8, place * bits / 8, count * bits / 8);
        to[place..place + bytes].copy_from_slice(&from[start..start + bytes]);
        return;
    }
    let mask = (1u8 << bits) - 1;
    for at in 0..count {
        let (source, target) = ((start + at) * bits, (place + at) * bits);
        let part = from[source / 8] >> (source % 8) & mask;
        to[target / 8] = to[target / 8] & !(mask << (target % 8)) | part << (target % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PAD, RESHAPE, TRANSPOSE};
    use super::*;
    use crate::attribute::Attributes;
    use crate::op_def::{Evaluate, OpDef};
    use crate::types::{TensorType, Type};

    /// Both meanings of an op on the same elements: packed, and through tensors.
    fn both(def: &'static OpDef, attributes: Attributes, element: Element, shape: &[i64], to: &[i64]) {
        let ty = TensorType::of(element, shape);
        let count = element.bytes_of(shape.iter().product::<i64>() as usize);
        let mut bytes: Vec<u8> = (0..count).map(|at| (at * 37 + 11) as u8 & 0x3f).collect();
        // Bits behind the last element are 0.
        let used = shape.iter().product::<i64>() as usize * element.bits() % 8;
        if let (1.., Some(last)) = (used, bytes.last_mut()) {
            *last &= (1 << used) - 1;
        }
        let elements = Elements::Dense(ty.clone(), bytes.into());
        let (operands, results) = ([Type::Tensor(ty)], [Type::Tensor(TensorType::of(element, to))]);
        let signature = Signature { def, operands: &operands, attributes: &attributes, results: &results };
        assert!(matches!(def.evaluate, Evaluate::With(_)));
        let found = def.evaluate_packed.expect("packed")(&signature, &[&elements]).expect("it runs");
        let expected = through_tensors(&signature, &[&elements]).expect("it runs");
        assert_eq!(found, expected, "{} {element} {shape:?}", def.name);
    }

    #[test]
    fn packed_movement_is_that_of_tensors() {
        let of =
            |name: &'static str, values: &[i64]| Attributes::from([(name.into(), Attribute::ints(values))]);
        let elements = [
            Element::I2,
            Element::I4,
            Element::U4,
            Element::NF4,
            Element::I8,
            Element::BF16,
            Element::F32,
            Element::I64,
        ];
        for element in elements {
            both(&RESHAPE, Attributes::new(), element, &[3, 5], &[5, 3]);
            both(&TRANSPOSE, of("permutation", &[1, 0]), element, &[3, 5], &[5, 3]);
            both(&TRANSPOSE, of("permutation", &[0, 1, 2]), element, &[2, 3, 5], &[2, 3, 5]);
            both(
                &TRANSPOSE,
                of("permutation", &[3, 0, 4, 2, 1]),
                element,
                &[3, 2, 4, 2, 16],
                &[2, 3, 16, 4, 2],
            );
            both(&TRANSPOSE, of("permutation", &[1, 0]), element, &[0, 5], &[5, 0]);
            for (low, high) in [([0, 0], [3, 1]), ([1, 2], [0, 5]), ([0, 0], [0, 0])] {
                let dims = |counts: [i64; 2]| Attribute::dims(&counts.map(crate::dim::Dim::Known));
                let attributes = Attributes::from([("low".into(), dims(low)), ("high".into(), dims(high))]);
                both(&PAD, attributes, element, &[5, 7], &[5 + low[0] + high[0], 7 + low[1] + high[1]]);
            }
        }
    }
}
