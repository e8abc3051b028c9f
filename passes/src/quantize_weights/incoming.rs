//! Models that arrive quantised: their scales must be numbers that something can be multiplied by. Nothing is changed.
//!
//! A scale of 0 is right for a block that holds nothing but its zero point (quantisers write it for blocks of zeros), and wrong for any
//! other.
//!
//! ```text
//! "core.dequantize"(%q, dense<[0.5, 0x7FC00000]>)   =>   error: scale 1 of 2 is NaN
//! ```

use rayon::prelude::*;
use tilewright_ir::attribute::Elements;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::core;
use tilewright_ir::location::Location;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::op_def::normalize_axis;
use tilewright_ir::tensor::Tensor;

/// An op with a constant scale.
struct Scaled<'m> {
    op: OpId,
    /// What it scales, when that is a constant.
    stored: Option<&'m Elements>,
    scale: &'m Elements,
    zero_point: Option<&'m Elements>,
    /// Whether it divides by the scale.
    divides: bool,
}

/// Every constant scale that is not finite, or 0 where it must not be.
pub fn check_scales(module: &Module) -> Diagnostics {
    let scaled: Vec<Scaled> = module.all_ops().into_iter().filter_map(|op| scaled(module, op)).collect();
    let found: Vec<Option<Diagnostic>> = scaled.par_iter().map(|one| fault(module, one)).collect();
    found.into_iter().flatten().collect()
}

fn scaled(module: &Module, op: OpId) -> Option<Scaled<'_>> {
    let def = module.op(op).def;
    let (stored, scale, zero) = if def == &core::DEQUANTIZE || def == &core::QUANTIZE {
        (0, 1, 2)
    } else if def == &core::LINEAR {
        (1, 3, 4)
    } else {
        return None;
    };
    let elements = |slot: usize| module.operand_at(op, slot).and_then(|value| constant(module, value));
    Some(Scaled {
        op,
        stored: elements(stored),
        scale: elements(scale)?,
        zero_point: module.operand_at(op, zero).and_then(|value| constant(module, spread(module, value))),
        divides: def == &core::QUANTIZE,
    })
}

/// The elements of a constant, seen through changes of shape.
fn constant(module: &Module, mut value: ValueId) -> Option<&Elements> {
    while let Some(op) = module.producer_of(value, &core::RESHAPE) {
        value = module.op(op).operands[0];
    }
    let op = module.producer_of(value, &core::CONSTANT)?;
    module.op(op).attributes.get("value")?.as_elements()
}

/// What a broadcast spreads: a zero point that is the same for all.
fn spread(module: &Module, value: ValueId) -> ValueId {
    module.producer_of(value, &core::BROADCAST).map_or(value, |op| module.op(op).operands[0])
}

fn fault(module: &Module, one: &Scaled) -> Option<Diagnostic> {
    let scale = Tensor::from_elements(one.scale).ok()?;
    let is_wrong = |at: &usize| {
        !scale.float(*at).is_finite()
            || scale.float(*at) == 0.0 && (one.divides || scales_something(module, one, *at))
    };
    let wrong: Vec<usize> = (0..scale.len()).filter(is_wrong).collect();
    let first = *wrong.first()?;
    let operation = module.op(one.op);
    let name = match one.scale {
        Elements::Resource(resource) => format!("scale '{}' ({})", resource.name, one.scale.ty()),
        Elements::Dense(..) => format!("a scale ({})", one.scale.ty()),
    };
    let what = format!(
        "{name} of '{}': expected finite numbers other than 0, found {} of {} that are not, the first {} at index {first}",
        operation.def.name,
        wrong.len(),
        scale.len(),
        scale.float(first)
    );
    let location =
        if operation.location == Location::Unknown { Location::Unknown } else { operation.location.clone() };
    Some(
        Diagnostic::error(location, what)
            .with_help("the quantiser that wrote the model has failed here: quantise it again"),
    )
}

/// Whether the storage under scale number `at` holds anything but its zero point; true where that cannot be seen.
fn scales_something(module: &Module, one: &Scaled, at: usize) -> bool {
    let Some(stored) = one.stored else { return true };
    let Some(shape) = stored.ty().known_shape() else { return true };
    let Some(scales) = one.scale.ty().known_shape() else { return true };
    let attributes = &module.op(one.op).attributes;
    let int = |name: &str| attributes.get(name).and_then(|value| value.as_int());
    let block = int("block").unwrap_or(0);
    let axis = normalize_axis(int("axis").unwrap_or(1), shape.len());
    let (Some(axis), Ok(stored)) = (axis, Tensor::from_elements(stored)) else { return true };
    let zero = one.zero_point.and_then(|elements| Tensor::from_elements(elements).ok());
    let zero = zero.map_or(0.0, |zero| zero.float(if zero.len() == 1 { 0 } else { at }));
    let strides = |dims: &[i64]| {
        tilewright_ir::tensor::strides_of(&dims.iter().map(|dim| *dim as usize).collect::<Vec<_>>())
    };
    let scale_strides = strides(&scales);
    let dims: Vec<usize> = shape.iter().map(|dim| *dim as usize).collect();
    (0..stored.len()).any(|index| {
        let place = tilewright_ir::tensor::coordinates(index, &dims);
        let scale = match (block, scales.len()) {
            (_, 0) => 0,
            (0, _) => {
                if scales[0] == 1 {
                    0
                } else {
                    place[axis]
                }
            }
            (block, rank) if rank == dims.len() => (0..rank)
                .map(|i| scale_strides[i] * if i == axis { place[i] / block as usize } else { place[i] })
                .sum(),
            _ => at,
        };
        scale == at && stored.float(index) != zero
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::parse::{ParseOptions, parse};
    use tilewright_ir::registry::Registry;

    /// The faults of a dequantisation of `[[1, 0], [2, 0]]` by a scale per column, and of a quantisation by one scale.
    fn faults(columns: &str, divisor: &str) -> Vec<String> {
        let text = format!(
            r#""builtin.module"() ({{
  "func.func"() <{{function_type = (tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<2x2xi8>), sym_name = "main"}}> ({{
  ^bb0(%x: tensor<2x2xf32>):
    %q = "core.constant"() <{{value = dense<[[1, 0], [2, 0]]> : tensor<2x2xi8>}}> : () -> tensor<2x2xi8>
    %s = "core.constant"() <{{value = dense<{columns}> : tensor<2xf32>}}> : () -> tensor<2xf32>
    %t = "core.constant"() <{{value = dense<{divisor}> : tensor<f32>}}> : () -> tensor<f32>
    %d = "core.dequantize"(%q, %s) <{{axis = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}}> : (tensor<2x2xi8>, tensor<2xf32>) -> tensor<2x2xf32>
    %p = "core.quantize"(%x, %t) <{{operandSegmentSizes = array<i32: 1, 1, 0>}}> : (tensor<2x2xf32>, tensor<f32>) -> tensor<2x2xi8>
    "func.return"(%d, %p) : (tensor<2x2xf32>, tensor<2x2xi8>) -> ()
  }}) : () -> ()
}}) : () -> ()"#
        );
        let module = parse(&text, &Registry::builtin(), &ParseOptions::default()).expect("it reads");
        check_scales(&module).into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn scales_are_finite_and_not_zero() {
        assert!(faults("[0.5, 0.25]", "0.1").is_empty());
        // 0 over a column of zeros loses nothing; over others it does, and nothing can be divided by it.
        assert!(faults("[0.5, 0.0]", "0.1").is_empty());
        let zero = faults("[0.0, 0.5]", "0.0");
        assert_eq!(zero.len(), 2, "{zero:?}");
        assert!(zero[0].contains("found 1 of 2 that are not, the first 0 at index 0"), "{}", zero[0]);
        assert!(zero[1].contains("'core.quantize'"), "{}", zero[1]);
        let wrong = faults("[0.5, 0x7FC00000]", "0x7F800000");
        assert!(wrong[0].contains("the first NaN at index 1"), "{}", wrong[0]);
        assert!(wrong[1].contains("the first inf at index 0"), "{}", wrong[1]);
    }
}
