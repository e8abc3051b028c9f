//! Reductions and running reductions along axes. Floats accumulate in f64 and are rounded once.
//!
//! ```text
//! %s = "core.reduce_sum"(%x) <{axes = array<i64: 2>, keep_dims = true}> : (tensor<1x4x64xf32>) -> tensor<1x4x1xf32>
//! ```

use super::index::reduced_shape;
use super::shape::axis_list;
use super::support::{around, broadcast_strides, floats, from_integers, integers, one, strided};
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    optional_attribute, value,
};
use crate::tensor::Tensor;
use crate::types::Type;

macro_rules! reduction {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $rule:ident, $doc:literal, $evaluate:expr;)*) => {
        $($(#[$meta])*
        pub static $name: OpDef = OpDef {
            name: $text,
            doc: $doc,
            operands: &[value("x", TypeRule::$rule)],
            results: &[value("result", TypeRule::$rule)],
            attributes: &[attribute("axes", AttributeRule::Ints), attribute("keep_dims", AttributeRule::Bool)],
            axes: ".. -> ..; reduce {axes}",
            traits: Traits::PURE,
            infer: Infer::With(infer_reduction),
            evaluate: Evaluate::With($evaluate),
            ..OpDef::DEFAULT
        };)*
    };
}

reduction! {
    /// Sum along axes.
    REDUCE_SUM = "core.reduce_sum", NumberTensor,
        "result = sum of x along `axes` (none listed: x); the axes stay as 1 when `keep_dims`. ONNX ReduceSum.", |call| evaluate_fold(call, Fold::Sum);
    /// Mean along axes.
    REDUCE_MEAN = "core.reduce_mean", NumberTensor,
        "result = sum of x along `axes` / their element count; the axes stay as 1 when `keep_dims`; integers truncate. ONNX \
         ReduceMean.", |call| evaluate_fold(call, Fold::Mean);
    /// Largest along axes.
    REDUCE_MAX = "core.reduce_max", Tensor,
        "result = largest of x along `axes`, NaN when one is NaN; the lowest value when there is none; the axes stay as 1 when \
         `keep_dims`. ONNX ReduceMax.", |call| evaluate_fold(call, Fold::Max);
    /// Smallest along axes.
    REDUCE_MIN = "core.reduce_min", Tensor,
        "result = smallest of x along `axes`, NaN when one is NaN; the highest value when there is none; the axes stay as 1 when \
         `keep_dims`. ONNX ReduceMin.", |call| evaluate_fold(call, Fold::Min);
    /// Product along axes.
    REDUCE_PROD = "core.reduce_prod", NumberTensor,
        "result = product of x along `axes`; the axes stay as 1 when `keep_dims`. ONNX ReduceProd.", |call| evaluate_fold(call, Fold::Product);
}

/// Running sum or product.
pub static CUMULATIVE: OpDef = OpDef {
    name: "core.cumulative",
    doc: "result[.., i, ..] = `function` (sum, prod) of x[.., 0..=i, ..] along `axis`; without element i itself when `exclusive`; \
          from the end when `reverse` (both false when left out). ONNX CumSum, CumProd.",
    operands: &[value("x", TypeRule::NumberTensor)],
    results: &[value("result", TypeRule::NumberTensor)],
    attributes: &[
        attribute("function", AttributeRule::OneOf(&["sum", "prod"])),
        attribute("axis", AttributeRule::Int),
        optional_attribute("exclusive", AttributeRule::Bool),
        optional_attribute("reverse", AttributeRule::Bool),
    ],
    axes: ".. -> ..; whole {axis}",
    traits: Traits::PURE,
    infer: Infer::LikeOperand(0),
    verify: Some(verify_axis),
    evaluate: Evaluate::With(evaluate_cumulative),
    ..OpDef::DEFAULT
};

fn infer_reduction(signature: &Signature) -> Result<Vec<Type>, String> {
    let x = signature.require_tensor(0)?;
    let axes = axis_list("axes", signature.ints("axes"), x.rank())?;
    one(x.element, reduced_shape(&x.shape, &axes, signature.bool("keep_dims", true)))
}

/// Checks the attribute `axis` against the first operand.
pub(super) fn verify_axis(signature: &Signature) -> Result<(), String> {
    signature.axis("axis", -1, signature.require_tensor(0)?.rank()).map(|_| ())
}

/// What a reduction does with two values.
#[derive(Clone, Copy, PartialEq)]
enum Fold {
    Sum,
    Mean,
    Product,
    Max,
    Min,
}

impl Fold {
    fn real(self, a: f64, b: f64) -> f64 {
        match self {
            Fold::Sum | Fold::Mean => a + b,
            Fold::Product => a * b,
            Fold::Max if a.is_nan() || a >= b => a,
            Fold::Min if a.is_nan() || a <= b => a,
            Fold::Max | Fold::Min => b,
        }
    }

    /// On u64 the caller flips the top bit for the comparisons.
    fn integer(self, a: i64, b: i64) -> i64 {
        match self {
            Fold::Sum | Fold::Mean => a.wrapping_add(b),
            Fold::Product => a.wrapping_mul(b),
            Fold::Max => a.max(b),
            Fold::Min => a.min(b),
        }
    }

    fn real_start(self) -> f64 {
        match self {
            Fold::Sum | Fold::Mean => 0.0,
            Fold::Product => 1.0,
            Fold::Max => f64::NEG_INFINITY,
            Fold::Min => f64::INFINITY,
        }
    }

    fn integer_start(self, element: Element) -> i64 {
        let (low, high) = element.integer_range().unwrap_or((i64::MIN, i64::MAX));
        match self {
            Fold::Sum | Fold::Mean => 0,
            Fold::Product => 1,
            Fold::Max if element == Element::U64 => i64::MIN,
            Fold::Max => low,
            Fold::Min => high,
        }
    }
}

fn evaluate_fold(call: &Invocation, fold: Fold) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let axes = axis_list("axes", call.signature.ints("axes"), x.rank())?;
    let kept: Vec<usize> =
        (0..x.rank()).map(|axis| if axes.contains(&axis) { 1 } else { x.shape[axis] }).collect();
    let folded: usize = axes.iter().map(|axis| x.shape[*axis]).product();
    // For every element of x the element of the result it goes to.
    let targets = strided(&x.shape, &broadcast_strides(&kept, &x.shape), 0);
    let (shape, count) = (call.result_shape(0)?, kept.iter().product());
    if x.element.is_float() {
        let mut sums = vec![fold.real_start(); count];
        for (target, value) in targets.into_iter().zip(floats(x)) {
            sums[target] = fold.real(sums[target], value);
        }
        if fold == Fold::Mean {
            sums.iter_mut().for_each(|sum| *sum /= folded as f64);
        }
        return Ok(vec![Tensor::from_floats(x.element, &shape, sums)]);
    }
    let compares = matches!(fold, Fold::Max | Fold::Min);
    let flip = if x.element == Element::U64 && compares { i64::MIN } else { 0 };
    let mut sums = vec![fold.integer_start(x.element); count];
    for (target, value) in targets.into_iter().zip(integers(x).iter()) {
        sums[target] = fold.integer(sums[target], value ^ flip);
    }
    if fold == Fold::Mean {
        let mean = |sum: i64| sum.checked_div(folded as i64).unwrap_or(0);
        sums.iter_mut().for_each(|sum| *sum = mean(*sum));
    }
    Ok(vec![from_integers(x.element, &shape, sums.into_iter().map(|sum| sum ^ flip).collect())])
}

fn evaluate_cumulative(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let axis = call.signature.axis("axis", -1, x.rank())?;
    let fold = if call.signature.str("function", "sum") == "prod" { Fold::Product } else { Fold::Sum };
    let (exclusive, reverse) =
        (call.signature.bool("exclusive", false), call.signature.bool("reverse", false));
    let (outer, dim, inner) = around(&x.shape, axis);
    fn run<T: Copy + Default>(
        values: &[T],
        (outer, dim, inner): (usize, usize, usize),
        (exclusive, reverse): (bool, bool),
        start: T,
        f: impl Fn(T, T) -> T,
    ) -> Vec<T> {
        let mut results = vec![T::default(); values.len()];
        for (before, after) in (0..outer).flat_map(|before| (0..inner).map(move |after| (before, after))) {
            let mut sum = start;
            for step in 0..dim {
                let at = if reverse { dim - 1 - step } else { step };
                let place = (before * dim + at) * inner + after;
                let next = f(sum, values[place]);
                results[place] = if exclusive { sum } else { next };
                sum = next;
            }
        }
        results
    }
    let (extent, ways) = ((outer, dim, inner), (exclusive, reverse));
    Ok(vec![if x.element.is_float() {
        let values = run(&floats(x), extent, ways, fold.real_start(), |a, b| fold.real(a, b));
        Tensor::from_floats(x.element, &x.shape, values)
    } else {
        let start = fold.integer_start(x.element);
        from_integers(x.element, &x.shape, run(&integers(x), extent, ways, start, |a, b| fold.integer(a, b)))
    }])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, i64s, ramp};
    use super::*;
    use crate::op_def::OpDef;

    fn reduce(def: &'static OpDef, axes: &[i64], x: &Tensor) -> Tensor {
        call(def).with("axes", axes).with("keep_dims", false).on(&[x])
    }

    #[test]
    fn reductions_along_axes() {
        let x = ramp(&[2, 3]);
        assert_near(&reduce(&REDUCE_SUM, &[0], &x), &[3.0, 5.0, 7.0]);
        assert_near(&reduce(&REDUCE_SUM, &[-1], &x), &[3.0, 12.0]);
        assert_near(&reduce(&REDUCE_SUM, &[0, 1], &x), &[15.0]);
        assert_eq!(reduce(&REDUCE_SUM, &[], &x), x);
        assert_near(&reduce(&REDUCE_MEAN, &[1], &x), &[1.0, 4.0]);
        assert_near(&reduce(&REDUCE_PROD, &[1], &x), &[0.0, 60.0]);
        assert_near(&reduce(&REDUCE_MIN, &[0], &x), &[0.0, 1.0, 2.0]);
        let kept = call(&REDUCE_MAX).with("axes", vec![1i64]).with("keep_dims", true);
        assert_eq!(kept.infer(&["f32: 1, seq, 64"]).unwrap(), "tensor<1x1x64xf32>");
        assert_eq!(reduce(&REDUCE_MEAN, &[0], &i64s(&[2], &[-3, -4])).ints(), [-3]);
    }

    #[test]
    fn extremes_keep_nan_and_have_a_start() {
        assert_near(&reduce(&REDUCE_MAX, &[0], &f32s(&[3], &[1.0, f64::NAN, 3.0])), &[f64::NAN]);
        assert_near(&reduce(&REDUCE_MAX, &[0], &f32s(&[0], &[])), &[f64::NEG_INFINITY]);
        let long = Tensor::from_ints(Element::U64, &[2], vec![-1, 3]);
        assert_eq!(reduce(&REDUCE_MAX, &[0], &long).ints(), [-1]);
        assert_eq!(reduce(&REDUCE_MIN, &[0], &long).ints(), [3]);
        let error = call(&REDUCE_SUM).with("axes", vec![0i64, -2]).with("keep_dims", true);
        assert_eq!(error.infer(&["f32: 2, 2"]).unwrap_err(), "attribute 'axes' names axis 0 twice");
    }

    #[test]
    fn running_sums_go_four_ways() {
        let run = |exclusive: bool, reverse: bool| {
            let call = call(&CUMULATIVE).with("function", "sum").with("axis", 0i64);
            call.with("exclusive", exclusive)
                .with("reverse", reverse)
                .on(&[&f32s(&[3], &[1.0, 2.0, 4.0])])
                .floats()
        };
        assert_eq!(run(false, false), [1.0, 3.0, 7.0]);
        assert_eq!(run(true, false), [0.0, 1.0, 3.0]);
        assert_eq!(run(false, true), [7.0, 6.0, 4.0]);
        assert_eq!(run(true, true), [6.0, 4.0, 0.0]);
        let product = call(&CUMULATIVE).with("function", "prod").with("axis", 0i64);
        assert_eq!(product.on(&[&i64s(&[3], &[2, 3, 4])]).ints(), [2, 6, 24]);
    }
}
