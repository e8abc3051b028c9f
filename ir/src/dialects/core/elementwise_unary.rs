//! Elementwise ops of one operand. Floats are computed in f64 and rounded once; integers wrap.
//!
//! ```text
//! %y = "core.silu"(%x) : (tensor<1x?x64xf32, ["seq"]>) -> tensor<1x?x64xf32, ["seq"]>
//! %z = "core.gelu"(%x) <{approximate = "tanh"}> : (tensor<4xf32>) -> tensor<4xf32>
//! ```

use super::numeric;
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute,
    optional_attribute, value,
};
use crate::tensor::{Data, Tensor};
use crate::types::Type;

/// Functions of `core.math`.
pub const MATH_FUNCTIONS: &[&str] = &[
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "log1p", "expm1",
    "softplus", "softsign", "mish",
];
/// Ways of `core.round`.
pub const ROUND_MODES: &[&str] = &["half_even", "floor", "ceil", "trunc"];
/// Forms of `core.gelu`.
pub const GELU_FORMS: &[&str] = &["none", "tanh"];

macro_rules! unary {
    ($(
        $(#[$meta:meta])*
        $name:ident = $text:literal, $rule:ident, [$($attribute:expr),*], $doc:literal, $evaluate:expr;
    )*) => {
        $($(#[$meta])*
        pub static $name: OpDef = OpDef {
            name: $text,
            doc: $doc,
            operands: &[value("x", TypeRule::$rule)],
            results: &[value("result", TypeRule::$rule)],
            attributes: &[$($attribute),*],
            axes: ".. -> ..",
            traits: Traits::PURE.with(Traits::ELEMENTWISE),
            infer: Infer::LikeOperand(0),
            evaluate: Evaluate::With($evaluate),
            ..OpDef::DEFAULT
        };)*
    };
}

unary! {
    /// Minus x.
    NEG = "core.neg", NumberTensor, [], "result = -x. ONNX Neg.",
        |call| number(call, |x| -x, i64::wrapping_neg);
    /// Magnitude.
    ABS = "core.abs", NumberTensor, [], "result = |x|; unsigned integers stay. ONNX Abs.",
        |call| number(call, f64::abs, i64::wrapping_abs);
    /// Exponential.
    EXP = "core.exp", FloatTensor, [], "result = e^x. ONNX Exp.", |call| real(call, f64::exp);
    /// Natural logarithm.
    LOG = "core.log", FloatTensor, [], "result = ln x. ONNX Log.", |call| real(call, f64::ln);
    /// Square root.
    SQRT = "core.sqrt", FloatTensor, [], "result = sqrt(x). ONNX Sqrt.", |call| real(call, f64::sqrt);
    /// One over the square root.
    RSQRT = "core.rsqrt", FloatTensor, [], "result = 1 / sqrt(x), rounded once. StableHLO rsqrt.",
        |call| real(call, |x| 1.0 / x.sqrt());
    /// One over x.
    RECIPROCAL = "core.reciprocal", FloatTensor, [], "result = 1 / x. ONNX Reciprocal.", |call| real(call, |x| 1.0 / x);
    /// Hyperbolic tangent.
    TANH = "core.tanh", FloatTensor, [], "result = tanh(x). ONNX Tanh.", |call| real(call, f64::tanh);
    /// Logistic function.
    SIGMOID = "core.sigmoid", FloatTensor, [], "result = 1 / (1 + e^-x). ONNX Sigmoid.", |call| real(call, numeric::sigmoid);
    /// Error function.
    ERF = "core.erf", FloatTensor, [], "result = erf(x) = 2/sqrt(pi) * integral of e^-t^2 from 0 to x. ONNX Erf.",
        |call| real(call, numeric::erf);
    /// Rectifier.
    RELU = "core.relu", NumberTensor, [], "result = max(x, 0); NaN stays. ONNX Relu.",
        |call| number(call, numeric::relu, |x| x.max(0));
    /// Sigmoid-weighted x.
    SILU = "core.silu", FloatTensor, [], "result = x * sigmoid(x) (Elfwing et al. 2017, arXiv:1702.03118). ONNX Swish with alpha 1.",
        |call| real(call, numeric::silu);
    /// Gaussian error linear unit.
    GELU = "core.gelu", FloatTensor, [attribute("approximate", AttributeRule::OneOf(GELU_FORMS))],
        "result = x/2 * (1 + erf(x / sqrt 2)) when `approximate` is none, x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) when \
         tanh (Hendrycks and Gimpel 2016, arXiv:1606.08415). ONNX Gelu.",
        |call| match call.signature.str("approximate", "none") {
            "tanh" => real(call, numeric::gelu_tanh),
            _ => real(call, numeric::gelu),
        };
    /// Logical negation.
    NOT = "core.not", BoolTensor, [], "result = not x. ONNX Not.", |call| integer(call, |x| i64::from(x == 0));
    /// Sign.
    SIGN = "core.sign", NumberTensor, [], "result = -1, 0 or 1 as x is negative, zero or positive; NaN stays. ONNX Sign.",
        evaluate_sign;
    /// To an integral value.
    ROUND = "core.round", FloatTensor, [attribute("mode", AttributeRule::OneOf(ROUND_MODES))],
        "result = x rounded to an integral value by `mode`: half_even (nearest, ties to even), floor, ceil, trunc. ONNX Round, \
         Floor, Ceil.",
        |call| match call.signature.str("mode", "half_even") {
            "floor" => real(call, f64::floor),
            "ceil" => real(call, f64::ceil),
            "trunc" => real(call, f64::trunc),
            _ => real(call, f64::round_ties_even),
        };
    /// Rarer functions.
    MATH = "core.math", FloatTensor, [attribute("function", AttributeRule::OneOf(MATH_FUNCTIONS))],
        "result = `function`(x); softplus is ln(1 + e^x), softsign x / (1 + |x|), mish x * tanh(softplus(x)). ONNX Sin and so on.",
        evaluate_math;
    /// Rectifier with a slope.
    LEAKY_RELU = "core.leaky_relu", FloatTensor, [attribute("alpha", AttributeRule::Float)],
        "result = x when x >= 0, else `alpha` * x. ONNX LeakyRelu.",
        |call| { let alpha = call.signature.float("alpha", 0.01); real(call, |x| if x < 0.0 { alpha * x } else { x }) };
    /// Exponential linear unit.
    ELU = "core.elu", FloatTensor, [attribute("alpha", AttributeRule::Float)],
        "result = x when x >= 0, else `alpha` * (e^x - 1). ONNX Elu.",
        |call| { let alpha = call.signature.float("alpha", 1.0); real(call, |x| if x < 0.0 { alpha * x.exp_m1() } else { x }) };
    /// Piecewise linear sigmoid.
    HARD_SIGMOID = "core.hard_sigmoid", FloatTensor,
        [attribute("alpha", AttributeRule::Float), attribute("beta", AttributeRule::Float)],
        "result = max(0, min(1, `alpha` * x + `beta`)); NaN stays. ONNX HardSigmoid.",
        |call| {
            let (alpha, beta) = (call.signature.float("alpha", 0.2), call.signature.float("beta", 0.5));
            real(call, |x| (alpha * x + beta).clamp(0.0, 1.0))
        };
    /// Into a range.
    CLAMP = "core.clamp", NumberTensor,
        [optional_attribute("min", AttributeRule::Float), optional_attribute("max", AttributeRule::Float)],
        "result = min(max(x, `min`), `max`); a bound left out does not bind; NaN stays. ONNX Clip.",
        evaluate_clamp;
    /// Inverts bits.
    BITWISE_NOT = "core.bitwise_not", IntegerTensor, [], "result = x with every bit inverted. ONNX BitwiseNot.",
        |call| integer(call, |x| !x);
}

/// Whether a float is not a number.
pub static IS_NAN: OpDef = OpDef {
    name: "core.is_nan",
    doc: "result = x is not a number, as i1. ONNX IsNaN.",
    operands: &[value("x", TypeRule::FloatTensor)],
    results: &[value("result", TypeRule::BoolTensor)],
    axes: ".. -> ..",
    traits: Traits::PURE.with(Traits::ELEMENTWISE),
    infer: Infer::With(infer_is_nan),
    evaluate: Evaluate::With(evaluate_is_nan),
    ..OpDef::DEFAULT
};

fn infer_is_nan(signature: &Signature) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Tensor(signature.require_tensor(0)?.with_element(Element::Bool))])
}

/// Applies a function of reals; f32 data takes no detour.
fn real(call: &Invocation, f: impl Fn(f64) -> f64) -> Result<Vec<Tensor>, String> {
    Ok(vec![numeric::map(call.operand(0), f)])
}

/// Applies a function of integers.
fn integer(call: &Invocation, f: impl Fn(i64) -> i64) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let values = super::support::integers(x).iter().map(|value| f(*value)).collect();
    Ok(vec![super::support::from_integers(x.element, &x.shape, values)])
}

/// Applies the one that fits the element type. The integer one is for signed types; unsigned values only take part where wrapping
/// gives the right answer.
fn number(call: &Invocation, f: impl Fn(f64) -> f64, g: impl Fn(i64) -> i64) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let unsigned = x.element == Element::U64;
    match &x.data {
        Data::I64(_) if unsigned && call.signature.def.name != NEG.name => Ok(vec![x.clone()]),
        Data::I64(_) => integer(call, g),
        _ => real(call, f),
    }
}

fn evaluate_sign(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    match &x.data {
        Data::I64(_) if x.element == Element::U64 => integer(call, |x| i64::from(x != 0)),
        Data::I64(_) => integer(call, i64::signum),
        _ => real(call, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
    }
}

fn evaluate_math(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let f: fn(f64) -> f64 = match call.signature.str("function", "") {
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "log1p" => f64::ln_1p,
        "expm1" => f64::exp_m1,
        "softplus" => numeric::softplus,
        "softsign" => |x| x / (1.0 + x.abs()),
        "mish" => |x| x * numeric::softplus(x).tanh(),
        other => return Err(format!("unknown function '{other}'")),
    };
    real(call, f)
}

fn evaluate_clamp(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let low = call.signature.float("min", f64::NEG_INFINITY);
    let high = call.signature.float("max", f64::INFINITY);
    let x = call.operand(0);
    if x.element == Element::U64 {
        let bound = |value: f64| value as u64;
        return integer(call, |x| (x as u64).max(bound(low)).min(bound(high)) as i64);
    }
    // `as` saturates, so infinite bounds become the largest integers and do not bind.
    number(
        call,
        |x| if x.is_nan() { x } else { x.max(low).min(high) },
        |x| x.max(low as i64).min(high as i64),
    )
}

fn evaluate_is_nan(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let values = (0..x.len()).map(|index| i64::from(x.float(index).is_nan())).collect();
    Ok(vec![super::support::from_integers(Element::Bool, &x.shape, values)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, i64s};
    use super::*;

    #[test]
    fn functions_have_hand_computed_values() {
        let x = f32s(&[3], &[-1.0, 0.25, 4.0]);
        assert_near(&call(&EXP).on(&[&x]), &[0.367_879_44, 1.284_025_4, 54.598_15]);
        assert_near(&call(&RSQRT).on(&[&x]), &[f64::NAN, 2.0, 0.5]);
        assert_near(&call(&RECIPROCAL).on(&[&x]), &[-1.0, 4.0, 0.25]);
        assert_near(&call(&SIGMOID).on(&[&x]), &[0.268_941_42, 0.562_176_5, 0.982_013_8]);
        assert_near(&call(&LEAKY_RELU).with("alpha", 0.1).on(&[&x]), &[-0.1, 0.25, 4.0]);
        assert_near(&call(&ELU).with("alpha", 2.0).on(&[&x]), &[-1.264_241_1, 0.25, 4.0]);
        let hard = call(&HARD_SIGMOID).with("alpha", 0.5).with("beta", 0.5);
        assert_near(&hard.on(&[&x]), &[0.0, 0.625, 1.0]);
        assert_near(&call(&MATH).with("function", "softsign").on(&[&x]), &[-0.5, 0.2, 0.8]);
        assert_near(&call(&MATH).with("function", "mish").on(&[&x]), &[-0.303_401_5, 0.169_572_4, 3.997_413]);
    }

    #[test]
    fn rounding_is_half_even() {
        let x = f32s(&[4], &[-1.5, 0.5, 1.5, 2.5]);
        assert_eq!(call(&ROUND).with("mode", "half_even").on(&[&x]).floats(), [-2.0, 0.0, 2.0, 2.0]);
        assert_eq!(call(&ROUND).with("mode", "trunc").on(&[&x]).floats(), [-1.0, 0.0, 1.0, 2.0]);
        assert_eq!(call(&ROUND).with("mode", "ceil").on(&[&x]).floats(), [-1.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn integers_wrap_and_nan_stays() {
        let least = Tensor::from_ints(Element::I8, &[2], vec![-128, 5]);
        assert_eq!(call(&ABS).on(&[&least]).ints(), [-128, 5]);
        assert_eq!(call(&NEG).on(&[&least]).ints(), [-128, -5]);
        let unsigned = Tensor::from_ints(Element::U8, &[2], vec![0, 200]);
        assert_eq!(call(&BITWISE_NOT).on(&[&unsigned]).ints(), [255, 55]);
        let huge = Tensor::from_ints(Element::U64, &[1], vec![-1]);
        assert_eq!(call(&ABS).on(&[&huge]), huge);
        assert_eq!(call(&SIGN).on(&[&huge]).ints(), [1]);
        let x = f32s(&[3], &[f64::NAN, -3.0, 9.0]);
        assert_near(&call(&RELU).on(&[&x]), &[f64::NAN, 0.0, 9.0]);
        assert_near(&call(&SIGN).on(&[&x]), &[f64::NAN, -1.0, 1.0]);
        assert_near(&call(&CLAMP).with("max", 6.0).on(&[&x]), &[f64::NAN, -3.0, 6.0]);
        assert_eq!(call(&CLAMP).with("min", 0.0).on(&[&i64s(&[2], &[-4, 4])]).ints(), [0, 4]);
        // The bound may be beyond every u64.
        assert_eq!(call(&CLAMP).on(&[&huge]), huge);
        assert_eq!(call(&IS_NAN).on(&[&x]).ints(), [1, 0, 0]);
        assert_eq!(call(&NOT).on(&[&Tensor::from_ints(Element::Bool, &[2], vec![1, 0])]).ints(), [0, 1]);
    }

    #[test]
    fn half_precision_is_rounded_once() {
        let x = Tensor::from_floats(Element::F16, &[1], vec![1.0]);
        // e = 2.71828; the neighbours in f16 are 2.71680 and 2.71875.
        assert_eq!(call(&EXP).on(&[&x]).floats(), [2.71875]);
    }
}
