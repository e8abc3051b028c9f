//! Elementwise ops of several operands with numpy broadcasting. Floats are computed in f64 and rounded once; integers wrap.
//!
//! ```text
//! %y = "core.add"(%x, %bias) : (tensor<1x?x64xf32, ["seq"]>, tensor<64xf32>) -> tensor<1x?x64xf32, ["seq"]>
//! %m = "core.compare"(%i, %j) <{predicate = "le"}> : (tensor<4x1xi64>, tensor<4xi64>) -> tensor<4x4xi1>
//! ```

use crate::element::Element;
use crate::op_def::{AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, attribute, value};
use crate::types::Type;

/// Predicates of `core.compare`.
pub const PREDICATES: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge"];
/// Functions of `core.logical`.
pub const LOGICAL_FUNCTIONS: &[&str] = &["and", "or", "xor"];
/// Functions of `core.bitwise`.
pub const BITWISE_FUNCTIONS: &[&str] = &["and", "or", "xor", "shl", "shr"];

const ELEMENTWISE: Traits = Traits::PURE.with(Traits::ELEMENTWISE);

macro_rules! binary {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $rule:ident, $traits:expr, [$($attribute:expr),*], $doc:literal;)*) => {
        $($(#[$meta])*
        pub static $name: OpDef = OpDef {
            name: $text,
            doc: $doc,
            operands: &[value("a", TypeRule::$rule), value("b", TypeRule::$rule)],
            results: &[value("result", TypeRule::$rule)],
            attributes: &[$($attribute),*],
            axes: ".., .. -> ..",
            traits: $traits,
            infer: Infer::Broadcast,
            ..OpDef::DEFAULT
        };)*
    };
}

binary! {
    /// Sum.
    ADD = "core.add", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [], "result = a + b. ONNX Add.";
    /// Difference.
    SUB = "core.sub", NumberTensor, ELEMENTWISE, [], "result = a - b. ONNX Sub.";
    /// Product.
    MUL = "core.mul", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [], "result = a * b. ONNX Mul.";
    /// Quotient.
    DIV = "core.div", NumberTensor, ELEMENTWISE, [],
        "result = a / b; integers truncate towards zero, and division of an integer by zero gives 0. ONNX Div.";
    /// Power.
    POW = "core.pow", NumberTensor, ELEMENTWISE, [],
        "result = a^b; integers by repeated multiplication that wraps, a negative integer exponent truncates. ONNX Pow.";
    /// Larger.
    MAX = "core.max", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [],
        "result = the larger of a and b; NaN when either is NaN (numpy.maximum). ONNX Max.";
    /// Smaller.
    MIN = "core.min", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [],
        "result = the smaller of a and b; NaN when either is NaN (numpy.minimum). ONNX Min.";
    /// Remainder.
    REMAINDER = "core.remainder", NumberTensor, ELEMENTWISE,
        [attribute("mode", AttributeRule::OneOf(&["floor", "trunc"]))],
        "result = a - b * q(a / b) with q by `mode`: floor (sign of b, Python %) or trunc (sign of a, C fmod); 0 for integers when \
         b is 0. ONNX Mod.";
    /// Logical connective.
    LOGICAL = "core.logical", BoolTensor, ELEMENTWISE.with(Traits::COMMUTATIVE),
        [attribute("function", AttributeRule::OneOf(LOGICAL_FUNCTIONS))],
        "result = a `function` b (and, or, xor) on truth values. ONNX And, Or, Xor.";
    /// Bit by bit.
    BITWISE = "core.bitwise", IntegerTensor, ELEMENTWISE,
        [attribute("function", AttributeRule::OneOf(BITWISE_FUNCTIONS))],
        "result = a `function` b (and, or, xor, shl, shr) on bits; shr keeps the sign of signed types; a shift by the width or \
         more gives 0 (or the sign). ONNX BitwiseAnd, BitShift.";
}

/// Comparison.
pub static COMPARE: OpDef = OpDef {
    name: "core.compare",
    doc: "result = a `predicate` b (eq, ne, lt, le, gt, ge) as i1; comparisons with NaN are false but ne. ONNX Equal, Less ...",
    operands: &[value("a", TypeRule::Tensor), value("b", TypeRule::Tensor)],
    results: &[value("result", TypeRule::BoolTensor)],
    attributes: &[attribute("predicate", AttributeRule::OneOf(PREDICATES))],
    axes: ".., .. -> ..",
    traits: ELEMENTWISE,
    infer: Infer::With(infer_compare),
    ..OpDef::DEFAULT
};

/// Choice by condition.
pub static SELECT: OpDef = OpDef {
    name: "core.select",
    doc: "result = a where condition, else b; the three broadcast. The side not chosen has no influence (NaN). ONNX Where.",
    operands: &[
        value("condition", TypeRule::BoolTensor),
        value("a", TypeRule::Tensor),
        value("b", TypeRule::Tensor),
    ],
    results: &[value("result", TypeRule::Tensor)],
    axes: ".., .., .. -> ..",
    traits: ELEMENTWISE,
    infer: Infer::With(infer_select),
    ..OpDef::DEFAULT
};

fn infer_compare(signature: &Signature) -> Result<Vec<Type>, String> {
    match crate::shape::broadcast_operands(signature)? {
        Type::Tensor(tensor) => Ok(vec![Type::Tensor(tensor.with_element(Element::Bool))]),
        other => Err(format!("expected tensors, found {other}")),
    }
}

fn infer_select(signature: &Signature) -> Result<Vec<Type>, String> {
    let (condition, a) = (signature.require_tensor(0)?, signature.require_tensor(1)?);
    let b = signature.require_tensor(2)?;
    super::support::expect_element("condition", Element::Bool, condition)?;
    super::support::expect_element("b", a.element, b)?;
    let sides = crate::shape::broadcast(&a.shape, &b.shape)?;
    super::support::one(a.element, crate::shape::broadcast(&condition.shape, &sides)?)
}
