//! Elementwise ops of several operands with numpy broadcasting. Floats are computed in f64 and rounded once; integers wrap.
//!
//! ```text
//! %y = "core.add"(%x, %bias) : (tensor<1x?x64xf32, ["seq"]>, tensor<64xf32>) -> tensor<1x?x64xf32, ["seq"]>
//! %m = "core.compare"(%i, %j) <{predicate = "le"}> : (tensor<4x1xi64>, tensor<4xi64>) -> tensor<4x4xi1>
//! ```

use super::support::{broadcast_to, common_shape, floats, from_integers, integers};
use crate::element::Element;
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute, value,
};
use crate::tensor::{Data, Tensor};
use crate::types::Type;
use std::cmp::Ordering;

/// Predicates of `core.compare`.
pub const PREDICATES: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge"];
/// Functions of `core.logical`.
pub const LOGICAL_FUNCTIONS: &[&str] = &["and", "or", "xor"];
/// Functions of `core.bitwise`.
pub const BITWISE_FUNCTIONS: &[&str] = &["and", "or", "xor", "shl", "shr"];

const ELEMENTWISE: Traits = Traits::PURE.with(Traits::ELEMENTWISE);

macro_rules! binary {
    ($(
        $(#[$meta:meta])*
        $name:ident = $text:literal, $rule:ident, $traits:expr, [$($attribute:expr),*], $doc:literal, $evaluate:expr;
    )*) => {
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
            evaluate: Evaluate::With($evaluate),
            ..OpDef::DEFAULT
        };)*
    };
}

binary! {
    /// Sum.
    ADD = "core.add", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [], "result = a + b. ONNX Add.",
        |call| arithmetic(call, |a, b| a + b, i64::wrapping_add, u64::wrapping_add);
    /// Difference.
    SUB = "core.sub", NumberTensor, ELEMENTWISE, [], "result = a - b. ONNX Sub.",
        |call| arithmetic(call, |a, b| a - b, i64::wrapping_sub, u64::wrapping_sub);
    /// Product.
    MUL = "core.mul", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [], "result = a * b. ONNX Mul.",
        |call| arithmetic(call, |a, b| a * b, i64::wrapping_mul, u64::wrapping_mul);
    /// Quotient.
    DIV = "core.div", NumberTensor, ELEMENTWISE, [],
        "result = a / b; integers truncate towards zero, and division of an integer by zero gives 0. ONNX Div.",
        |call| arithmetic(call, |a, b| a / b, divide, |a, b| a.checked_div(b).unwrap_or(0));
    /// Power.
    POW = "core.pow", NumberTensor, ELEMENTWISE, [],
        "result = a^b; integers by repeated multiplication that wraps, a negative integer exponent truncates. ONNX Pow.",
        |call| arithmetic(call, f64::powf, power, |a, b| power_of(a as i64, b) as u64);
    /// Larger.
    MAX = "core.max", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [],
        "result = the larger of a and b; NaN when either is NaN (numpy.maximum). ONNX Max.",
        |call| arithmetic(call, maximum, i64::max, u64::max);
    /// Smaller.
    MIN = "core.min", NumberTensor, ELEMENTWISE.with(Traits::COMMUTATIVE), [],
        "result = the smaller of a and b; NaN when either is NaN (numpy.minimum). ONNX Min.",
        |call| arithmetic(call, minimum, i64::min, u64::min);
    /// Remainder.
    REMAINDER = "core.remainder", NumberTensor, ELEMENTWISE,
        [attribute("mode", AttributeRule::OneOf(&["floor", "trunc"]))],
        "result = a - b * q(a / b) with q by `mode`: floor (sign of b, Python %) or trunc (sign of a, C fmod); 0 for integers when \
         b is 0. ONNX Mod.",
        evaluate_remainder;
    /// Logical connective.
    LOGICAL = "core.logical", BoolTensor, ELEMENTWISE.with(Traits::COMMUTATIVE),
        [attribute("function", AttributeRule::OneOf(LOGICAL_FUNCTIONS))],
        "result = a `function` b (and, or, xor) on truth values. ONNX And, Or, Xor.",
        evaluate_logical;
    /// Bit by bit.
    BITWISE = "core.bitwise", IntegerTensor, ELEMENTWISE,
        [attribute("function", AttributeRule::OneOf(BITWISE_FUNCTIONS))],
        "result = a `function` b (and, or, xor, shl, shr) on bits; shr keeps the sign of signed types; a shift by the width or \
         more gives 0 (or the sign). ONNX BitwiseAnd, BitShift.",
        evaluate_bitwise;
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
    evaluate: Evaluate::With(evaluate_compare),
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
    evaluate: Evaluate::With(evaluate_select),
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

/// Applies the function that fits the element type to both operands, broadcast.
fn arithmetic(
    call: &Invocation,
    real: impl Fn(f64, f64) -> f64,
    integer: impl Fn(i64, i64) -> i64,
    unsigned: impl Fn(u64, u64) -> u64,
) -> Result<Vec<Tensor>, String> {
    let (a, b) = (call.operand(0), call.operand(1));
    let shape = common_shape(&[a, b])?;
    let (a, b) = (broadcast_to(a, &shape)?, broadcast_to(b, &shape)?);
    let element = a.element;
    Ok(vec![match (&a.data, &b.data) {
        (Data::F32(left), Data::F32(right)) if element == Element::F32 => {
            let pairs = left.iter().zip(right);
            let values = pairs.map(|(a, b)| real(f64::from(*a), f64::from(*b)) as f32).collect();
            Tensor { element, shape, data: Data::F32(values) }
        }
        (Data::I64(left), Data::I64(right)) => {
            let pairs = left.iter().zip(right);
            let values = if element == Element::U64 {
                pairs.map(|(a, b)| unsigned(*a as u64, *b as u64) as i64).collect()
            } else {
                pairs.map(|(a, b)| integer(*a, *b)).collect()
            };
            from_integers(element, &shape, values)
        }
        _ => {
            let pairs = floats(&a).into_iter().zip(floats(&b));
            Tensor::from_floats(element, &shape, pairs.map(|(a, b)| real(a, b)).collect())
        }
    }])
}

fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a >= b { a } else { b }
}

fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a <= b { a } else { b }
}

fn divide(a: i64, b: i64) -> i64 {
    if b == 0 { 0 } else { a.wrapping_div(b) }
}

fn power(a: i64, b: i64) -> i64 {
    match (a, b) {
        (_, 0..) => power_of(a, b as u64),
        (1, _) => 1,
        (-1, _) => 1 - 2 * (b & 1),
        _ => 0,
    }
}

fn power_of(mut base: i64, mut exponent: u64) -> i64 {
    let mut product = 1i64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = product.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    product
}

fn evaluate_remainder(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let truncated = |a: i64, b: i64| if b == 0 { 0 } else { a.wrapping_rem(b) };
    let unsigned = |a: u64, b: u64| a.checked_rem(b).unwrap_or(0);
    if call.signature.str("mode", "floor") == "trunc" {
        return arithmetic(call, |a, b| a % b, truncated, unsigned);
    }
    let real = |a: f64, b: f64| {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
    };
    let integer = |a: i64, b: i64| {
        let rest = truncated(a, b);
        if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
    };
    arithmetic(call, real, integer, unsigned)
}

/// Applies a function of integers to both operands, broadcast.
fn integers_of(call: &Invocation, f: impl Fn(i64, i64) -> i64) -> Result<Vec<Tensor>, String> {
    arithmetic(call, |a, b| f(a as i64, b as i64) as f64, &f, |a, b| f(a as i64, b as i64) as u64)
}

fn evaluate_logical(call: &Invocation) -> Result<Vec<Tensor>, String> {
    match call.signature.str("function", "") {
        "and" => integers_of(call, |a, b| a & b),
        "or" => integers_of(call, |a, b| a | b),
        "xor" => integers_of(call, |a, b| a ^ b),
        other => Err(format!("unknown function '{other}'")),
    }
}

fn evaluate_bitwise(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let unsigned_long = call.operand(0).element == Element::U64;
    match call.signature.str("function", "") {
        "shl" => integers_of(call, |a, b| if (0..64).contains(&b) { a << b } else { 0 }),
        "shr" if unsigned_long => {
            integers_of(call, |a, b| if (0..64).contains(&b) { (a as u64 >> b) as i64 } else { 0 })
        }
        "shr" => integers_of(call, |a, b| a >> if (0..64).contains(&b) { b } else { 63 }),
        _ => evaluate_logical(call),
    }
}

fn evaluate_compare(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (a, b) = (call.operand(0), call.operand(1));
    let shape = common_shape(&[a, b])?;
    let (a, b) = (broadcast_to(a, &shape)?, broadcast_to(b, &shape)?);
    let wanted: fn(Option<Ordering>) -> bool = match call.signature.str("predicate", "") {
        "eq" => |order| order == Some(Ordering::Equal),
        "ne" => |order| order != Some(Ordering::Equal),
        "lt" => |order| order == Some(Ordering::Less),
        "le" => |order| matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "gt" => |order| order == Some(Ordering::Greater),
        "ge" => |order| matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        other => return Err(format!("unknown predicate '{other}'")),
    };
    let order = |index: usize| match (&a.data, &b.data) {
        (Data::I64(left), Data::I64(right)) if a.element == Element::U64 => {
            Some((left[index] as u64).cmp(&(right[index] as u64)))
        }
        (Data::I64(left), Data::I64(right)) => Some(left[index].cmp(&right[index])),
        _ => a.float(index).partial_cmp(&b.float(index)),
    };
    let values = (0..a.len()).map(|index| i64::from(wanted(order(index)))).collect();
    Ok(vec![from_integers(Element::Bool, &shape, values)])
}

fn evaluate_select(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (condition, a, b) = (call.operand(0), call.operand(1), call.operand(2));
    let shape = common_shape(&[condition, a, b])?;
    let condition = broadcast_to(condition, &shape)?;
    let (a, b) = (broadcast_to(a, &shape)?, broadcast_to(b, &shape)?);
    let take = integers(&condition);
    fn choose<T: Copy>(take: &[i64], a: &[T], b: &[T]) -> Vec<T> {
        take.iter().zip(a.iter().zip(b)).map(|(take, (a, b))| if *take != 0 { *a } else { *b }).collect()
    }
    let data = match (&a.data, &b.data) {
        (Data::F32(a), Data::F32(b)) => Data::F32(choose(&take, a, b)),
        (Data::F64(a), Data::F64(b)) => Data::F64(choose(&take, a, b)),
        (Data::I64(a), Data::I64(b)) => Data::I64(choose(&take, a, b)),
        _ => return Err(format!("element types differ: {} and {}", a.element, b.element)),
    };
    Ok(vec![Tensor { element: a.element, shape, data }])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s, i64s, ramp};
    use super::*;

    #[test]
    fn operands_broadcast() {
        let found = call(&ADD).on(&[&ramp(&[2, 1]), &f32s(&[3], &[10.0, 20.0, 30.0])]);
        assert_eq!(found.floats(), [10.0, 20.0, 30.0, 11.0, 21.0, 31.0]);
        let types = ["f32: 1, seq, 64", "f32: 64"];
        assert_eq!(call(&MUL).infer(&types).unwrap(), "tensor<1x?x64xf32, [\"seq\"]>");
        let error = call(&MUL).infer(&["f32: 3", "f32: 4"]).unwrap_err();
        assert!(error.contains("3 and 4"), "{error}");
        assert!(call(&MUL).infer(&["f32: 3", "f16: 3"]).unwrap_err().contains("f32 and f16"));
    }

    #[test]
    fn integer_division_truncates_and_remainders_have_two_modes() {
        let (a, b) = (i64s(&[5], &[-7, 7, -7, i64::MIN, 3]), i64s(&[5], &[2, -2, -2, -1, 0]));
        assert_eq!(call(&DIV).on(&[&a, &b]).ints(), [-3, -3, 3, i64::MIN, 0]);
        assert_eq!(call(&REMAINDER).with("mode", "floor").on(&[&a, &b]).ints(), [1, -1, -1, 0, 0]);
        assert_eq!(call(&REMAINDER).with("mode", "trunc").on(&[&a, &b]).ints(), [-1, 1, -1, 0, 0]);
        let (a, b) = (f32s(&[2], &[-7.5, 7.5]), f32s(&[2], &[2.0, -2.0]));
        assert_eq!(call(&REMAINDER).with("mode", "floor").on(&[&a, &b]).floats(), [0.5, -0.5]);
        assert_eq!(call(&REMAINDER).with("mode", "trunc").on(&[&a, &b]).floats(), [-1.5, 1.5]);
    }

    #[test]
    fn powers_of_integers() {
        let (a, b) = (i64s(&[5], &[2, -1, 2, 1, -3]), i64s(&[5], &[10, -3, -1, -9, 3]));
        assert_eq!(call(&POW).on(&[&a, &b]).ints(), [1024, -1, 0, 1, -27]);
        let narrow = Tensor::from_ints(Element::I8, &[1], vec![2]);
        let seven = Tensor::from_ints(Element::I8, &[1], vec![7]);
        assert_eq!(call(&POW).on(&[&narrow, &seven]).ints(), [-128]);
    }

    #[test]
    fn max_and_min_keep_nan() {
        let (a, b) = (f32s(&[3], &[f64::NAN, 1.0, 2.0]), f32s(&[3], &[1.0, f64::NAN, 3.0]));
        assert_near(&call(&MAX).on(&[&a, &b]), &[f64::NAN, f64::NAN, 3.0]);
        assert_near(&call(&MIN).on(&[&a, &b]), &[f64::NAN, f64::NAN, 2.0]);
    }

    #[test]
    fn u64_is_unsigned() {
        let of = |values: Vec<i64>| Tensor::from_ints(Element::U64, &[2], values);
        let (a, b) = (of(vec![-1, 6]), of(vec![2, 4]));
        assert_eq!(call(&DIV).on(&[&a, &b]).ints(), [i64::MAX, 1]);
        assert_eq!(call(&MAX).on(&[&a, &b]).ints(), [-1, 6]);
        assert_eq!(call(&COMPARE).with("predicate", "gt").on(&[&a, &b]).ints(), [1, 1]);
        assert_eq!(call(&BITWISE).with("function", "shr").on(&[&a, &b]).ints(), [i64::MAX >> 1, 0]);
    }

    #[test]
    fn comparisons_and_bits() {
        let (a, b) = (f32s(&[3], &[f64::NAN, 1.0, 2.0]), f32s(&[3], &[f64::NAN, 1.0, 3.0]));
        for (predicate, expected) in [
            ("eq", [0, 1, 0]),
            ("ne", [1, 0, 1]),
            ("lt", [0, 0, 1]),
            ("le", [0, 1, 1]),
            ("gt", [0, 0, 0]),
            ("ge", [0, 1, 0]),
        ] {
            assert_eq!(
                call(&COMPARE).with("predicate", predicate).on(&[&a, &b]).ints(),
                expected,
                "{predicate}"
            );
        }
        let of = |values: &[i64]| Tensor::from_ints(Element::I8, &[values.len() as i64], values.to_vec());
        let bits = |function: &str, b: &[i64]| {
            call(&BITWISE).with("function", function).on(&[&of(&[-8, 5, 127]), &of(b)]).ints()
        };
        assert_eq!(bits("and", &[12, 12, 12]), [8, 4, 12]);
        assert_eq!(bits("xor", &[1, 1, 1]), [-7, 4, 126]);
        assert_eq!(bits("shl", &[1, 1, 1]), [-16, 10, -2]);
        assert_eq!(bits("shr", &[1, 1, 100]), [-4, 2, 0]);
    }

    #[test]
    fn select_ignores_the_side_not_taken() {
        let condition = Tensor::from_ints(Element::Bool, &[2, 1], vec![1, 0]);
        let found = call(&SELECT).on(&[&condition, &f32s(&[], &[f64::NAN]), &f32s(&[2], &[1.0, 2.0])]);
        assert_near(&found, &[f64::NAN, f64::NAN, 1.0, 2.0]);
    }
}
