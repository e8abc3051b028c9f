//! Reductions and running reductions along axes. Floats accumulate in f64 and are rounded once.
//!
//! ```text
//! %s = "core.reduce_sum"(%x) <{axes = array<i64: 2>, keep_dims = true}> : (tensor<1x4x64xf32>) -> tensor<1x4x1xf32>
//! ```

use super::index::reduced_shape;
use super::shape::axis_list;
use super::support::one;
use crate::op_def::{
    AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, attribute, optional_attribute, value,
};
use crate::types::Type;

macro_rules! reduction {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $rule:ident, $doc:literal;)*) => {
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
            ..OpDef::DEFAULT
        };)*
    };
}

reduction! {
    /// Sum along axes.
    REDUCE_SUM = "core.reduce_sum", NumberTensor,
        "result = sum of x along `axes` (none listed: x); the axes stay as 1 when `keep_dims`. ONNX ReduceSum.";
    /// Mean along axes.
    REDUCE_MEAN = "core.reduce_mean", NumberTensor,
        "result = sum of x along `axes` / their element count; the axes stay as 1 when `keep_dims`; integers truncate. ONNX \
         ReduceMean.";
    /// Largest along axes.
    REDUCE_MAX = "core.reduce_max", Tensor,
        "result = largest of x along `axes`, NaN when one is NaN; the lowest value when there is none; the axes stay as 1 when \
         `keep_dims`. ONNX ReduceMax.";
    /// Smallest along axes.
    REDUCE_MIN = "core.reduce_min", Tensor,
        "result = smallest of x along `axes`, NaN when one is NaN; the highest value when there is none; the axes stay as 1 when \
         `keep_dims`. ONNX ReduceMin.";
    /// Product along axes.
    REDUCE_PROD = "core.reduce_prod", NumberTensor,
        "result = product of x along `axes`; the axes stay as 1 when `keep_dims`. ONNX ReduceProd.";
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
