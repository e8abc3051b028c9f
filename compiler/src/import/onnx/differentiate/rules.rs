//! Vector-Jacobian products: from the gradient of an op's result to those of its operands. One row per op.
//!
//! Where an op has a kink the derivative of one side is taken, as frameworks do: 0 for relu at 0.

use super::{Rule, Step, Table, filled, sum_to};
use crate::import::onnx::fault::{Fault, Outcome};
use std::f64::consts::{FRAC_2_SQRT_PI, PI, SQRT_2};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::{OpDef, normalize_axis};

type Parts = Outcome<Vec<Option<ValueId>>>;
/// Makes the gradient of one operand.
type Part<'f> = &'f dyn Fn(&mut Step) -> Outcome<ValueId>;

/// The table. Ops that are constant almost everywhere hand nothing on.
pub(crate) static RULES: Table = &[
    (&core::NEG, |step| one(step, |step, g| step.unary(&core::NEG, g))),
    (&core::ABS, |step| times(step, |step, x, _| step.unary(&core::SIGN, x))),
    (&core::EXP, |step| times(step, |_, _, y| Ok(y))),
    (&core::LOG, |step| times(step, |step, x, _| step.unary(&core::RECIPROCAL, x))),
    (&core::SQRT, |step| times(step, |step, _, y| over(step, 0.5, y))),
    (&core::RSQRT, |step| {
        times(step, |step, x, y| {
            let share = over(step, -0.5, x)?;
            step.mul(share, y)
        })
    }),
    (&core::RECIPROCAL, |step| {
        times(step, |step, _, y| {
            let square = step.mul(y, y)?;
            step.unary(&core::NEG, square)
        })
    }),
    (&core::TANH, |step| times(step, |step, _, y| one_minus_square(step, y))),
    (&core::SIGMOID, |step| times(step, |step, _, y| logistic_slope(step, y))),
    (&core::ERF, |step| times(step, |step, x, _| bell(step, x, FRAC_2_SQRT_PI, 1.0))),
    (&core::RELU, |step| kept(step, "gt", 0.0)),
    (&core::SILU, |step| times(step, |step, x, _| silu(step, x))),
    (&core::GELU, |step| times(step, |step, x, _| gelu(step, x))),
    (&core::SIGN, |_| Ok(vec![None])),
    (&core::ROUND, |_| Ok(vec![None])),
    (&core::MATH, |step| times(step, math)),
    (&core::LEAKY_RELU, |step| {
        let alpha = number(step, "alpha", 0.01);
        times(step, |step, x, _| piecewise(step, "lt", x, |step| step.scalar_like(x, alpha)))
    }),
    (&core::ELU, |step| {
        let alpha = number(step, "alpha", 1.0);
        times(step, |step, x, y| piecewise(step, "lt", x, |step| plus(step, y, alpha)))
    }),
    (&core::HARD_SIGMOID, |step| {
        let alpha = number(step, "alpha", 0.2);
        times(step, |step, _, y| {
            let (low, high) = (step.scalar_like(y, 0.0)?, step.scalar_like(y, 1.0)?);
            let (above, below) = (step.compare("gt", y, low)?, step.compare("lt", y, high)?);
            let inside = step.logical("and", above, below)?;
            let slope = step.scalar_like(y, alpha)?;
            step.select(inside, slope, low)
        })
    }),
    (&core::CLAMP, |step| {
        let (x, y) = (step.operand(0), step.result());
        let inside = step.compare("eq", x, y)?;
        masked(step, inside).map(|part| vec![Some(part)])
    }),
    (&core::ADD, |step| Ok(vec![Some(step.gradient); 2])),
    (&core::SUB, |step| {
        let g = step.gradient;
        Ok(vec![Some(g), if step.wanted[1] { Some(step.unary(&core::NEG, g)?) } else { None }])
    }),
    (&core::MUL, |step| {
        let (g, a, b) = (step.gradient, step.operand(0), step.operand(1));
        each(step, [&|step| step.mul(g, b), &|step| step.mul(g, a)])
    }),
    (&core::DIV, |step| {
        let (g, b, y) = (step.gradient, step.operand(1), step.result());
        let first = |step: &mut Step| step.binary(&core::DIV, g, b);
        let second = |step: &mut Step| {
            let slope = step.binary(&core::DIV, y, b)?;
            let slope = step.unary(&core::NEG, slope)?;
            step.mul(g, slope)
        };
        each(step, [&first, &second])
    }),
    (&core::POW, |step| {
        let (g, a, b, y) = (step.gradient, step.operand(0), step.operand(1), step.result());
        let first = |step: &mut Step| {
            let less = plus(step, b, -1.0)?;
            let power = step.binary(&core::POW, a, less)?;
            let slope = step.mul(b, power)?;
            step.mul(g, slope)
        };
        let second = |step: &mut Step| {
            let log = step.unary(&core::LOG, a)?;
            let slope = step.mul(y, log)?;
            step.mul(g, slope)
        };
        each(step, [&first, &second])
    }),
    (&core::MAX, |step| chosen(step, "ge", "lt")),
    (&core::MIN, |step| chosen(step, "le", "gt")),
    (&core::SELECT, |step| {
        let (g, condition) = (step.gradient, step.operand(0));
        let zero = step.scalar_like(g, 0.0)?;
        Ok(vec![None, Some(step.select(condition, g, zero)?), Some(step.select(condition, zero, g)?)])
    }),
    (&core::CAST, |step| {
        let (g, x) = (step.gradient, step.operand(0));
        Ok(vec![if step.wanted[0] { Some(step.cast_like(g, x)?) } else { None }])
    }),
    (&core::RESHAPE, |step| {
        let shape = step.shape(step.operand(0));
        one(step, |step, g| step.reshape(g, &shape))
    }),
    (&core::TRANSPOSE, |step| {
        let permutation = ints(step, "permutation");
        let mut inverse = vec![0; permutation.len()];
        permutation.iter().enumerate().for_each(|(at, axis)| inverse[*axis as usize] = at);
        one(step, |step, g| step.transpose(g, &inverse))
    }),
    (&core::BROADCAST, |step| {
        let x = step.operand(0);
        one(step, |step, g| sum_to(step, g, x))
    }),
    (&core::SLICE, slice),
    (&core::CONCAT, concat),
    (&core::PAD, pad),
    (&core::GATHER, gather),
    (&core::REDUCE_SUM, |step| spread(step).map(|part| vec![Some(part)])),
    (&core::REDUCE_MEAN, |step| {
        let (x, spread) = (step.operand(0), spread(step)?);
        let count = count(step, x)?;
        Ok(vec![Some(step.binary(&core::DIV, spread, count)?)])
    }),
    (&core::REDUCE_MAX, extreme),
    (&core::REDUCE_MIN, extreme),
    (&core::CUMULATIVE, cumulative),
    (&core::SOFTMAX, |step| {
        let (g, y, axis) = (step.gradient, step.result(), axis(step)?);
        let weighted = step.mul(g, y)?;
        let sum = step.reduce(&core::REDUCE_SUM, weighted, &[axis], true)?;
        let rest = step.sub(g, sum)?;
        Ok(vec![Some(step.mul(rest, y)?)])
    }),
    (&core::LOG_SOFTMAX, |step| {
        let (g, y, axis) = (step.gradient, step.result(), axis(step)?);
        let sum = step.reduce(&core::REDUCE_SUM, g, &[axis], true)?;
        let share = step.unary(&core::EXP, y)?;
        let taken = step.mul(share, sum)?;
        Ok(vec![Some(step.sub(g, taken)?)])
    }),
    (&core::MATMUL, |step| {
        let (g, a, b) = (step.gradient, step.operand(0), step.operand(1));
        let first = |step: &mut Step| {
            let right = step.transpose_last(b)?;
            let part = step.matmul(g, right)?;
            sum_to(step, part, a)
        };
        let second = |step: &mut Step| {
            let left = step.transpose_last(a)?;
            let part = step.matmul(left, g)?;
            sum_to(step, part, b)
        };
        each(step, [&first, &second])
    }),
];

/// The rule of an op.
pub(super) fn find(def: &OpDef) -> Option<Rule> {
    RULES.iter().find(|row| row.0 == def).map(|row| row.1)
}

// ---- forms that rules share -------------------------------------------------------------------------------------------

/// One operand, whose gradient is made from the result's.
fn one(step: &mut Step, make: impl Fn(&mut Step, ValueId) -> Outcome<ValueId>) -> Parts {
    let gradient = step.gradient;
    make(step, gradient).map(|part| vec![Some(part)])
}

/// One operand: the gradient times a slope made of x and the result.
fn times(step: &mut Step, slope: impl Fn(&mut Step, ValueId, ValueId) -> Outcome<ValueId>) -> Parts {
    let (x, y) = (step.operand(0), step.result());
    let slope = slope(step, x, y)?;
    let gradient = step.gradient;
    step.mul(gradient, slope).map(|part| vec![Some(part)])
}

/// Two operands, each only where it is wanted.
fn each(step: &mut Step, make: [Part; 2]) -> Parts {
    let mut parts = Vec::new();
    for (at, make) in make.into_iter().enumerate() {
        parts.push(if step.wanted[at] { Some(make(step)?) } else { None });
    }
    Ok(parts)
}

/// The gradient where a condition holds, else 0.
fn masked(step: &mut Step, condition: ValueId) -> Outcome<ValueId> {
    let gradient = step.gradient;
    let zero = step.scalar_like(gradient, 0.0)?;
    step.select(condition, gradient, zero)
}

/// One operand: the gradient where x compares so with a number.
fn kept(step: &mut Step, predicate: &'static str, bound: f64) -> Parts {
    let x = step.operand(0);
    let bound = step.scalar_like(x, bound)?;
    let condition = step.compare(predicate, x, bound)?;
    masked(step, condition).map(|part| vec![Some(part)])
}

/// Two operands: the gradient goes to the first where it compares so with the second, else by the other comparison.
fn chosen(step: &mut Step, first: &'static str, second: &'static str) -> Parts {
    let (a, b) = (step.operand(0), step.operand(1));
    let side = |step: &mut Step, predicate| {
        let condition = step.compare(predicate, a, b)?;
        masked(step, condition)
    };
    each(step, [&|step| side(step, first), &|step| side(step, second)])
}

/// `below` where x compares so with 0, else 1.
fn piecewise(
    step: &mut Step,
    predicate: &'static str,
    x: ValueId,
    below: impl Fn(&mut Step) -> Outcome<ValueId>,
) -> Outcome<ValueId> {
    let (zero, one) = (step.scalar_like(x, 0.0)?, step.scalar_like(x, 1.0)?);
    let condition = step.compare(predicate, x, zero)?;
    let below = below(step)?;
    step.select(condition, below, one)
}

fn plus(step: &mut Step, x: ValueId, number: f64) -> Outcome<ValueId> {
    let number = step.scalar_like(x, number)?;
    step.add(x, number)
}

/// `number / x`.
fn over(step: &mut Step, number: f64, x: ValueId) -> Outcome<ValueId> {
    let number = step.scalar_like(x, number)?;
    step.binary(&core::DIV, number, x)
}

/// `1 - y^2`.
fn one_minus_square(step: &mut Step, y: ValueId) -> Outcome<ValueId> {
    let (square, one) = (step.mul(y, y)?, step.scalar_like(y, 1.0)?);
    step.sub(one, square)
}

/// `y (1 - y)`.
fn logistic_slope(step: &mut Step, y: ValueId) -> Outcome<ValueId> {
    let square = step.mul(y, y)?;
    step.sub(y, square)
}

/// `height e^(-rate x^2)`.
fn bell(step: &mut Step, x: ValueId, height: f64, rate: f64) -> Outcome<ValueId> {
    let square = step.mul(x, x)?;
    let exponent = step.scale(square, -rate)?;
    let bell = step.unary(&core::EXP, exponent)?;
    step.scale(bell, height)
}

// ---- attributes -------------------------------------------------------------------------------------------------------

fn number(step: &Step, name: &str, default: f64) -> f64 {
    step.attribute(name).and_then(Attribute::as_float).unwrap_or(default)
}

fn ints(step: &Step, name: &str) -> Vec<i64> {
    step.attribute(name).and_then(Attribute::as_ints).unwrap_or_default().to_vec()
}

fn dims(step: &Step, name: &str) -> Vec<Dim> {
    step.attribute(name).and_then(Attribute::as_dims).unwrap_or_default()
}

fn text(step: &Step, name: &str, default: &str) -> String {
    step.attribute(name).and_then(Attribute::as_str).unwrap_or(default).to_string()
}

fn axis(step: &Step) -> Outcome<usize> {
    let axis = step.attribute("axis").and_then(Attribute::as_int).unwrap_or(-1);
    let rank = step.rank(step.operand(0));
    normalize_axis(axis, rank).ok_or_else(|| Fault::model("an axis is out of range"))
}

// ---- single functions -------------------------------------------------------------------------------------------------

/// `s (1 + x (1 - s))` with `s = sigmoid(x)`.
fn silu(step: &mut Step, x: ValueId) -> Outcome<ValueId> {
    let s = step.unary(&core::SIGMOID, x)?;
    let slope = logistic_slope(step, s)?;
    let along = step.mul(x, slope)?;
    step.add(s, along)
}

/// `P(x) + x p(x)` of the normal distribution, or of its form with tanh.
fn gelu(step: &mut Step, x: ValueId) -> Outcome<ValueId> {
    if text(step, "approximate", "none") == "none" {
        let scaled = step.scale(x, 1.0 / SQRT_2)?;
        let error = step.unary(&core::ERF, scaled)?;
        let error = plus(step, error, 1.0)?;
        let below = step.scale(error, 0.5)?;
        let density = bell(step, x, 1.0 / (2.0 * PI).sqrt(), 0.5)?;
        let along = step.mul(x, density)?;
        return step.add(below, along);
    }
    // u = c (x + 0.044715 x^3); result = x/2 (1 + tanh u).
    let (c, cubic) = ((2.0 / PI).sqrt(), 0.044715);
    let square = step.mul(x, x)?;
    let inner = step.scale(square, cubic)?;
    let inner = plus(step, inner, 1.0)?;
    let inner = step.mul(x, inner)?;
    let u = step.scale(inner, c)?;
    let y = step.unary(&core::TANH, u)?;
    let half = plus(step, y, 1.0)?;
    let half = step.scale(half, 0.5)?;
    let slope = step.scale(square, 3.0 * cubic)?;
    let slope = plus(step, slope, 1.0)?;
    let slope = step.scale(slope, 0.5 * c)?;
    let bend = one_minus_square(step, y)?;
    let rest = step.mul(bend, slope)?;
    let rest = step.mul(x, rest)?;
    step.add(half, rest)
}

/// The derivative of a function of `core.math` at x, where it is y.
fn math(step: &mut Step, x: ValueId, y: ValueId) -> Outcome<ValueId> {
    let function = text(step, "function", "");
    let other = |step: &mut Step, name: &'static str| {
        step.make(&core::MATH, |op| op.operand(x).attribute("function", name))
    };
    // 1 / sqrt(offset + factor x^2)
    let root = |step: &mut Step, offset: f64, factor: f64| {
        let square = step.mul(x, x)?;
        let square = step.scale(square, factor)?;
        let sum = plus(step, square, offset)?;
        step.unary(&core::RSQRT, sum)
    };
    let square_over = |step: &mut Step, offset: f64, factor: f64| {
        let square = step.mul(x, x)?;
        let square = step.scale(square, factor)?;
        let sum = plus(step, square, offset)?;
        step.unary(&core::RECIPROCAL, sum)
    };
    match function.as_str() {
        "sin" => other(step, "cos"),
        "cos" => {
            let sine = other(step, "sin")?;
            step.unary(&core::NEG, sine)
        }
        "tan" => {
            let square = step.mul(y, y)?;
            plus(step, square, 1.0)
        }
        "asin" => root(step, 1.0, -1.0),
        "acos" => {
            let slope = root(step, 1.0, -1.0)?;
            step.unary(&core::NEG, slope)
        }
        "atan" => square_over(step, 1.0, 1.0),
        "sinh" => other(step, "cosh"),
        "cosh" => other(step, "sinh"),
        "asinh" => root(step, 1.0, 1.0),
        "acosh" => root(step, -1.0, 1.0),
        "atanh" => square_over(step, 1.0, -1.0),
        "log1p" => {
            let sum = plus(step, x, 1.0)?;
            step.unary(&core::RECIPROCAL, sum)
        }
        "expm1" => plus(step, y, 1.0),
        "softplus" => step.unary(&core::SIGMOID, x),
        "softsign" => {
            let size = step.unary(&core::ABS, x)?;
            let size = plus(step, size, 1.0)?;
            let share = step.unary(&core::RECIPROCAL, size)?;
            step.mul(share, share)
        }
        "mish" => {
            // t = tanh(softplus x): t + x sigmoid(x) (1 - t^2).
            let soft = other(step, "softplus")?;
            let t = step.unary(&core::TANH, soft)?;
            let (bend, s) = (one_minus_square(step, t)?, step.unary(&core::SIGMOID, x)?);
            let slope = step.mul(bend, s)?;
            let along = step.mul(x, slope)?;
            step.add(t, along)
        }
        _ => Err(Fault::unsupported(format!("function '{function}' cannot be differentiated"), "")),
    }
}

// ---- movement ---------------------------------------------------------------------------------------------------------

fn padded(step: &mut Step, x: ValueId, low: Vec<Dim>, high: Vec<Dim>) -> Outcome<ValueId> {
    step.make(&core::PAD, |op| op.operand(x).maybe(None).attribute("low", low).attribute("high", high))
}

/// Zeros around the part that was taken.
fn slice(step: &mut Step) -> Parts {
    if ints(step, "steps").iter().any(|step| *step != 1) {
        return Err(Fault::unsupported("'core.slice' with steps cannot be differentiated", ""));
    }
    let (starts, whole, part) =
        (dims(step, "starts"), step.shape(step.operand(0)), step.shape(step.result()));
    let high = (0..whole.len()).map(|axis| &(&whole[axis] - &part[axis]) - &starts[axis]).collect();
    let g = step.gradient;
    Ok(vec![Some(padded(step, g, starts, high)?)])
}

fn concat(step: &mut Step) -> Parts {
    let (axis, g, mut start) = (axis(step)?, step.gradient, Dim::Known(0));
    let mut parts = Vec::new();
    for at in 0..step.wanted.len() {
        let length = step.dim(step.operand(at), axis)?;
        let part = if step.wanted[at] { Some(step.slice_axis(g, axis, &start, &length)?) } else { None };
        parts.push(part);
        start = &start + &length;
    }
    Ok(parts)
}

/// What was added is taken away.
fn pad(step: &mut Step) -> Parts {
    if text(step, "mode", "constant") != "constant" || step.wanted.get(1) == Some(&true) {
        return Err(Fault::unsupported("'core.pad' can be differentiated with a constant border only", ""));
    }
    let less = |dims: Vec<Dim>| dims.iter().map(|dim| &Dim::Known(0) - dim).collect::<Vec<_>>();
    let (low, high) = (less(dims(step, "low")), less(dims(step, "high")));
    let g = step.gradient;
    Ok(vec![Some(padded(step, g, low, high)?), None])
}

/// Adds the gradient of each copy to where it was taken from.
fn gather(step: &mut Step) -> Parts {
    let (x, indices, g, axis) = (step.operand(0), step.operand(1), step.gradient, axis(step)?);
    let (shape, count) = (step.shape(x), step.rank(indices));
    // The indices' dims, then what lies before the axis and after it.
    let order: Vec<usize> =
        (axis..axis + count).chain(0..axis).chain(axis + count..shape.len() - 1 + count).collect();
    let updates = step.transpose(g, &order)?;
    let front: Vec<usize> =
        [axis].into_iter().chain((0..shape.len()).filter(|other| *other != axis)).collect();
    let zeros = filled(step, x, 0.0)?;
    let zeros = step.transpose(zeros, &front)?;
    let places: Vec<Dim> = step.shape(indices).iter().cloned().chain([Dim::Known(1)]).collect();
    let indices = step.cast(indices, Element::I64)?;
    let indices = step.reshape(indices, &places)?;
    let sum = step.make(&core::SCATTER_ND, |op| {
        op.operands(&[zeros, indices, updates]).attribute("reduction", "add")
    })?;
    let mut back = vec![0; front.len()];
    front.iter().enumerate().for_each(|(at, axis)| back[*axis] = at);
    Ok(vec![Some(step.transpose(sum, &back)?), None])
}

// ---- along axes -------------------------------------------------------------------------------------------------------

fn reduced_axes(step: &Step) -> Vec<usize> {
    let rank = step.rank(step.operand(0));
    ints(step, "axes").iter().filter_map(|axis| normalize_axis(*axis, rank)).collect()
}

/// A value of the result's shape over the operand's.
fn spread_of(step: &mut Step, value: ValueId) -> Outcome<ValueId> {
    let (whole, axes) = (step.shape(step.operand(0)), reduced_axes(step));
    let mut kept = whole.to_vec();
    axes.into_iter().for_each(|axis| kept[axis] = Dim::Known(1));
    let value = step.reshape(value, &kept)?;
    step.broadcast(value, &whole)
}

fn spread(step: &mut Step) -> Outcome<ValueId> {
    let gradient = step.gradient;
    spread_of(step, gradient)
}

/// How many elements a mean is of, as a scalar of x's type.
fn count(step: &mut Step, x: ValueId) -> Outcome<ValueId> {
    let mut count = Dim::Known(1);
    for axis in reduced_axes(step) {
        count = &count * &step.dim(x, axis)?;
    }
    let count = step.size(&count)?;
    step.cast_like(count, x)
}

/// Elements that are the extreme share the gradient.
fn extreme(step: &mut Step) -> Parts {
    let (x, y, axes) = (step.operand(0), step.result(), reduced_axes(step));
    let best = spread_of(step, y)?;
    let is_best = step.compare("eq", x, best)?;
    let is_best = step.cast_like(is_best, x)?;
    let shares = step.reduce(&core::REDUCE_SUM, is_best, &axes, true)?;
    let share = step.binary(&core::DIV, is_best, shares)?;
    let gradient = spread(step)?;
    Ok(vec![Some(step.mul(gradient, share)?)])
}

/// A running sum from the other end.
fn cumulative(step: &mut Step) -> Parts {
    if text(step, "function", "sum") != "sum" {
        return Err(Fault::unsupported("a running product cannot be differentiated", ""));
    }
    let flag = |name: &str| step.attribute(name).and_then(Attribute::as_bool).unwrap_or(false);
    let attributes = Attributes::from([
        ("function".into(), "sum".into()),
        ("axis".into(), (axis(step)? as i64).into()),
        ("exclusive".into(), flag("exclusive").into()),
        ("reverse".into(), (!flag("reverse")).into()),
    ]);
    one(step, |step, g| step.make(&core::CUMULATIVE, |op| op.operand(g).attributes(attributes.clone())))
}
