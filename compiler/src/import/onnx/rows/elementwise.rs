//! Elementwise operators. Small integer tensors that follow from shapes stay dimension expressions.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::fold;
use super::super::operand::Operand;
use super::super::symbolic::{Binary, Symbolic};
use super::super::table::{Row, listing, microsoft, since, standard};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::OpDef;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("Abs", |node| unary(node, &core::ABS)),
    standard("Acos", |node| math(node, "acos")),
    since(9, "Acosh", |node| math(node, "acosh")),
    standard("Add", |node| arithmetic(node, Binary::Add, &core::ADD)),
    standard("And", |node| logical(node, Binary::And, "and")),
    standard("Asin", |node| math(node, "asin")),
    since(9, "Asinh", |node| math(node, "asinh")),
    standard("Atan", |node| math(node, "atan")),
    since(9, "Atanh", |node| math(node, "atanh")),
    since(18, "BitwiseAnd", |node| bitwise(node, "and")),
    since(18, "BitwiseNot", |node| unary(node, &core::BITWISE_NOT)),
    since(18, "BitwiseOr", |node| bitwise(node, "or")),
    since(18, "BitwiseXor", |node| bitwise(node, "xor")),
    since(11, "BitShift", bit_shift),
    since(26, "BitCast", bit_cast),
    standard("Cast", cast).refuses("strings"),
    since(15, "CastLike", cast_like).refuses("strings"),
    standard("Ceil", |node| rounded(node, "ceil")),
    since(12, "Celu", celu),
    standard("Clip", clip),
    standard("Cos", |node| math(node, "cos")),
    since(9, "Cosh", |node| math(node, "cosh")),
    standard("Div", |node| arithmetic(node, Binary::Div, &core::DIV)),
    standard("Elu", |node| with_alpha(node, &core::ELU, 1.0)),
    standard("Equal", equal).with_strings(),
    since(9, "Erf", |node| unary(node, &core::ERF)),
    standard("Exp", |node| unary(node, &core::EXP)),
    standard("Floor", |node| rounded(node, "floor")),
    since(20, "Gelu", gelu),
    standard("Greater", |node| compare(node, Binary::Greater, "gt")),
    since(12, "GreaterOrEqual", |node| compare(node, Binary::GreaterOrEqual, "ge")),
    standard("HardSigmoid", hard_sigmoid),
    since(14, "HardSwish", hard_swish),
    listing(1, "Identity", |node| Ok(vec![node.input(0)?])),
    since(10, "IsInf", is_inf),
    since(9, "IsNaN", |node| unary(node, &core::IS_NAN)),
    standard("LeakyRelu", |node| with_alpha(node, &core::LEAKY_RELU, 0.01)),
    standard("Less", |node| compare(node, Binary::Less, "lt")),
    since(12, "LessOrEqual", |node| compare(node, Binary::LessOrEqual, "le")),
    standard("Log", |node| unary(node, &core::LOG)),
    standard("Max", |node| variadic(node, Binary::Max, &core::MAX)),
    standard("Mean", mean),
    standard("Min", |node| variadic(node, Binary::Min, &core::MIN)),
    since(18, "Mish", |node| math(node, "mish")),
    since(10, "Mod", modulo),
    standard("Mul", |node| arithmetic(node, Binary::Mul, &core::MUL)),
    standard("Neg", neg),
    standard("Not", not),
    standard("Or", |node| logical(node, Binary::Or, "or")),
    standard("Pow", pow),
    standard("PRelu", prelu),
    standard("Reciprocal", |node| unary(node, &core::RECIPROCAL)),
    standard("Relu", relu),
    since(11, "Round", |node| rounded(node, "half_even")),
    standard("Selu", selu),
    since(9, "Shrink", shrink),
    standard("Sigmoid", |node| unary(node, &core::SIGMOID)),
    since(9, "Sign", |node| unary(node, &core::SIGN)),
    standard("Sin", |node| math(node, "sin")),
    since(9, "Sinh", |node| math(node, "sinh")),
    standard("Softplus", |node| math(node, "softplus")),
    standard("Softsign", softsign),
    standard("Sqrt", |node| unary(node, &core::SQRT)),
    standard("Sub", |node| arithmetic(node, Binary::Sub, &core::SUB)),
    standard("Sum", |node| variadic(node, Binary::Add, &core::ADD)),
    since(28, "SwiGLU", swiglu),
    since(24, "Swish", swish),
    standard("Tan", |node| math(node, "tan")),
    standard("Tanh", |node| unary(node, &core::TANH)),
    standard("ThresholdedRelu", thresholded_relu),
    since(9, "Where", select).moving_strings(),
    standard("Xor", |node| logical(node, Binary::Xor, "xor")),
    microsoft("BiasGelu", bias_gelu),
    microsoft("FastGelu", |node| with_bias(node, "tanh")),
    microsoft("Gelu", |node| with_bias(node, "none")),
    microsoft("QuickGelu", swish),
];

fn unary(node: &mut NodeContext, def: &'static OpDef) -> Made {
    let x = node.value(0)?;
    let y = node.unary(def, x)?;
    node.one(y)
}

fn math(node: &mut NodeContext, function: &'static str) -> Made {
    let x = node.value(0)?;
    let y = node.make(&core::MATH, |op| op.operand(x).attribute("function", function))?;
    node.one(y)
}

fn rounded(node: &mut NodeContext, mode: &'static str) -> Made {
    let x = node.value(0)?;
    let y = node.make(&core::ROUND, |op| op.operand(x).attribute("mode", mode))?;
    node.one(y)
}

fn with_alpha(node: &mut NodeContext, def: &'static OpDef, default: f64) -> Made {
    let (x, alpha) = (node.value(0)?, node.float("alpha", default)?);
    let y = node.make(def, |op| op.operand(x).attribute("alpha", alpha))?;
    node.one(y)
}

/// The result of an elementwise function, if all inputs follow from shapes.
fn symbolic(node: &NodeContext, function: Binary) -> Option<Vec<Operand>> {
    let mut inputs = node.all_symbolic()?.into_iter();
    let first = inputs.next()?;
    let result = inputs.try_fold(first, |so_far, next| Symbolic::binary(function, &so_far, &next))?;
    Some(vec![Operand::symbolic(result)])
}

fn arithmetic(node: &mut NodeContext, function: Binary, def: &'static OpDef) -> Made {
    if let Some(result) = symbolic(node, function) {
        return Ok(result);
    }
    let (a, b) = sides(node)?;
    let y = node.binary(def, a, b)?;
    node.one(y)
}

/// Both operands. Before opset 7 the second begins at `axis` of the first, with `broadcast` set; since then they align at the end.
fn sides(node: &mut NodeContext) -> Outcome<(ValueId, ValueId)> {
    let (a, b) = (node.value(0)?, node.value(1)?);
    if node.version >= 7 || !node.flag("broadcast", false)? || !node.has("axis") {
        return Ok((a, b));
    }
    let axis = node.axis("axis", 0, node.rank(a))?;
    let mut shape = node.shape(b).to_vec();
    let missing = node.rank(a).checked_sub(axis + shape.len());
    let missing = missing
        .ok_or_else(|| Fault::model(format!("{} does not fit {} at axis {axis}", node.ty(b), node.ty(a))))?;
    shape.extend(std::iter::repeat_n(Dim::Known(1), missing));
    Ok((a, node.reshape(b, &shape)?))
}

fn variadic(node: &mut NodeContext, function: Binary, def: &'static OpDef) -> Made {
    if let Some(result) = symbolic(node, function) {
        return Ok(result);
    }
    let mut y = node.value(0)?;
    for index in 1..node.input_count() {
        let next = node.value(index)?;
        y = node.binary(def, y, next)?;
    }
    node.one(y)
}

fn mean(node: &mut NodeContext) -> Made {
    let mut y = node.value(0)?;
    for index in 1..node.input_count() {
        let next = node.value(index)?;
        y = node.add(y, next)?;
    }
    let count = node.input_count().max(1) as f64;
    let y = node.scale(y, 1.0 / count)?;
    node.one(y)
}

fn compare(node: &mut NodeContext, function: Binary, predicate: &'static str) -> Made {
    if let Some(result) = symbolic(node, function) {
        return Ok(result);
    }
    let (a, b) = sides(node)?;
    let y = node.compare(predicate, a, b)?;
    node.one(y)
}

fn equal(node: &mut NodeContext) -> Made {
    let is_text = |at: usize| node.optional(at).is_some_and(|input| input.as_strings().is_some());
    if !is_text(0) && !is_text(1) {
        return compare(node, Binary::Equal, "eq");
    }
    let (a, b) = (node.strings(0)?, node.strings(1)?);
    let y = super::strings::equal(node, a, b)?;
    node.one(y)
}

fn function_of(function: &'static str) -> Attributes {
    Attributes::from([("function".into(), Attribute::str(function))])
}

fn logical(node: &mut NodeContext, function: Binary, name: &'static str) -> Made {
    if let Some(result) = symbolic(node, function) {
        return Ok(result);
    }
    let (a, b) = sides(node)?;
    let y = node.binary_with(&core::LOGICAL, a, b, function_of(name))?;
    node.one(y)
}

fn bitwise(node: &mut NodeContext, name: &'static str) -> Made {
    let (a, b) = (node.value(0)?, node.value(1)?);
    let y = node.binary_with(&core::BITWISE, a, b, function_of(name))?;
    node.one(y)
}

fn bit_shift(node: &mut NodeContext) -> Made {
    match node.text("direction", "")?.as_str() {
        "LEFT" => bitwise(node, "shl"),
        "RIGHT" => bitwise(node, "shr"),
        other => Err(Fault::model(format!("attribute 'direction' must be LEFT or RIGHT, found '{other}'"))),
    }
}

fn bit_cast(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let ty = node.ty(x).with_element(node.element_attribute("to", Element::F32)?);
    let y = node.make(&core::BITCAST, |op| op.operand(x).result(ty))?;
    node.one(y)
}

fn cast_to(node: &mut NodeContext, element: Element) -> Made {
    let input = node.input(0)?;
    if input.element() == element {
        return Ok(vec![input]);
    }
    if let Some(result) = input.as_symbolic().and_then(|symbolic| symbolic.cast(element)) {
        return Ok(vec![Operand::symbolic(result)]);
    }
    let mut x = node.value(0)?;
    // Integers of less than a byte take the low bits of a wider one.
    if node.element(x).is_float() && element.is_integer() && element.bits() < 8 {
        x = node.cast(x, Element::I32)?;
    }
    let ty = node.ty(x).with_element(element);
    let saturates = node.flag("saturate", true)?;
    let rounding = node.text("round_mode", "up")?;
    let rounding = match rounding.as_str() {
        "up" | "down" | "nearest" => rounding,
        other => {
            return Err(Fault::model(format!(
                "attribute 'round_mode' must be up, down or nearest, found '{other}'"
            )));
        }
    };
    let y = node.make(&core::CAST, |op| {
        let op = op.operand(x).result(ty);
        let op = if saturates { op } else { op.attribute("saturate", false) };
        if element == Element::F8E8M0 { op.attribute("rounding", rounding.as_str()) } else { op }
    })?;
    node.one(y)
}

fn cast(node: &mut NodeContext) -> Made {
    let to = node.required_int("to")?;
    if to == 8 {
        return Err(Fault::unsupported("casts to STRING are not supported", "keep text out of the model"));
    }
    let element = node.element_attribute("to", Element::F32)?;
    cast_to(node, element)
}

fn cast_like(node: &mut NodeContext) -> Made {
    let element = node.input(1)?.element();
    cast_to(node, element)
}

fn neg(node: &mut NodeContext) -> Made {
    if let Some(x) = node.input(0)?.as_symbolic()
        && let Some(result) = x.map(x.element, |dim| Some(&Dim::Known(0) - dim))
    {
        return Ok(vec![Operand::symbolic(result)]);
    }
    unary(node, &core::NEG)
}

fn not(node: &mut NodeContext) -> Made {
    if let Some(x) = node.input(0)?.as_symbolic()
        && let Some(result) = x.map(Element::Bool, |dim| dim.known().map(|value| Dim::Known(1 - value)))
    {
        return Ok(vec![Operand::symbolic(result)]);
    }
    unary(node, &core::NOT)
}

fn select(node: &mut NodeContext) -> Made {
    if let Some(inputs) = node.all_symbolic()
        && let [condition, a, b] = inputs.as_slice()
        && let Some(result) = Symbolic::select(condition, a, b)
    {
        return Ok(vec![Operand::symbolic(result)]);
    }
    let (condition, a, b) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let y = node.select(condition, a, b)?;
    node.one(y)
}

fn modulo(node: &mut NodeContext) -> Made {
    let truncates = node.flag("fmod", false)?;
    if !truncates && let Some(result) = symbolic(node, Binary::Mod) {
        return Ok(result);
    }
    let (a, b) = (node.value(0)?, node.value(1)?);
    let mode = if truncates { "trunc" } else { "floor" };
    let attributes = Attributes::from([("mode".into(), Attribute::str(mode))]);
    let y = node.binary_with(&core::REMAINDER, a, b, attributes)?;
    node.one(y)
}

fn pow(node: &mut NodeContext) -> Made {
    let (x, exponent) = sides(node)?;
    // The result has the type of the base; an exponent of another type is converted.
    let exponent = if node.element(x).is_float() || !node.element(exponent).is_float() {
        node.cast_like(exponent, x)?
    } else {
        let element = node.element(exponent);
        let wide = node.cast(x, element)?;
        let y = node.binary(&core::POW, wide, exponent)?;
        let y = node.cast_like(y, x)?;
        return node.one(y);
    };
    let y = node.binary(&core::POW, x, exponent)?;
    node.one(y)
}

fn relu(node: &mut NodeContext) -> Made {
    if node.input(0)?.element().is_float() {
        return unary(node, &core::RELU);
    }
    let x = node.value(0)?;
    let zero = node.scalar_like(x, 0.0)?;
    let y = node.binary(&core::MAX, x, zero)?;
    node.one(y)
}

/// A bound of Clip: an attribute before opset 11, an input since.
fn bound(node: &mut NodeContext, name: &str, input: usize) -> Outcome<Option<Operand>> {
    if node.version < 11 {
        if !node.has(name) {
            return Ok(None);
        }
        let value = node.float(name, 0.0)?;
        let element = node.input(0)?.element();
        let value = node.scalar(element, value)?;
        return Ok(Some(node.operand(value)));
    }
    Ok(node.optional(input))
}

fn clip(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (low, high) = (bound(node, "min", 1)?, bound(node, "max", 2)?);
    let number = |node: &NodeContext, bound: &Option<Operand>| match bound {
        None => Some(None),
        Some(operand) => fold::scalar(&node.module, operand).map(Some),
    };
    if let (Some(min), Some(max)) = (number(node, &low), number(node, &high)) {
        if min.is_none() && max.is_none() {
            return node.one(x);
        }
        let y = node.make(&core::CLAMP, |op| {
            let op = op.operand(x);
            let op = if let Some(min) = min { op.attribute("min", min) } else { op };
            if let Some(max) = max { op.attribute("max", max) } else { op }
        })?;
        return node.one(y);
    }
    let mut y = x;
    for (bound, def) in [(low, &core::MAX), (high, &core::MIN)] {
        if let Some(bound) = bound {
            let bound = node.data(&bound)?;
            y = node.binary(def, y, bound)?;
        }
    }
    node.one(y)
}

fn gelu(node: &mut NodeContext) -> Made {
    let approximate = node.text("approximate", "none")?;
    let x = node.value(0)?;
    let y = node.make(&core::GELU, |op| op.operand(x).attribute("approximate", approximate.as_str()))?;
    node.one(y)
}

fn gelu_of(node: &mut NodeContext, x: ValueId, approximate: &'static str) -> Made {
    let y = node.make(&core::GELU, |op| op.operand(x).attribute("approximate", approximate))?;
    node.one(y)
}

fn bias_gelu(node: &mut NodeContext) -> Made {
    let (x, bias) = (node.value(0)?, node.value(1)?);
    let x = node.add(x, bias)?;
    gelu_of(node, x, "none")
}

fn with_bias(node: &mut NodeContext, approximate: &'static str) -> Made {
    let mut x = node.value(0)?;
    if let Some(bias) = node.optional_value(1)? {
        x = node.add(x, bias)?;
    }
    gelu_of(node, x, approximate)
}

fn hard_sigmoid(node: &mut NodeContext) -> Made {
    let (alpha, beta) = (node.float("alpha", 0.2)?, node.float("beta", 0.5)?);
    let x = node.value(0)?;
    let y =
        node.make(&core::HARD_SIGMOID, |op| op.operand(x).attribute("alpha", alpha).attribute("beta", beta))?;
    node.one(y)
}

fn hard_swish(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let gate = node
        .make(&core::HARD_SIGMOID, |op| op.operand(x).attribute("alpha", 1.0 / 6.0).attribute("beta", 0.5))?;
    let y = node.mul(x, gate)?;
    node.one(y)
}

fn swish(node: &mut NodeContext) -> Made {
    // com.microsoft.QuickGelu is the same function with another default.
    let default = if node.node.op_type.as_deref() == Some("QuickGelu") { 1.702 } else { 1.0 };
    let (x, alpha) = (node.value(0)?, node.float("alpha", default)?);
    let y = if alpha == 1.0 {
        node.unary(&core::SILU, x)?
    } else {
        let scaled = node.scale(x, alpha)?;
        let gate = node.unary(&core::SIGMOID, scaled)?;
        node.mul(x, gate)?
    };
    node.one(y)
}

fn swiglu(node: &mut NodeContext) -> Made {
    let gate = swish(node)?;
    let gate = node.data(&gate[0])?;
    let x = node.value(1)?;
    let y = node.mul(gate, x)?;
    node.one(y)
}

fn prelu(node: &mut NodeContext) -> Made {
    let (x, mut slope) = (node.value(0)?, node.value(1)?);
    // Before opset 7 a vector holds one slope per channel.
    if node.version < 7 && node.rank(slope) == 1 && node.rank(x) > 1 && node.dim(slope, 0)? != Dim::Known(1) {
        let mut shape = vec![Dim::Known(1); node.rank(x) - 1];
        shape[0] = node.dim(slope, 0)?;
        slope = node.reshape(slope, &shape)?;
    }
    let zero = node.scalar_like(x, 0.0)?;
    let is_negative = node.compare("lt", x, zero)?;
    let scaled = node.mul(x, slope)?;
    let y = node.select(is_negative, scaled, x)?;
    node.one(y)
}

fn selu(node: &mut NodeContext) -> Made {
    let (alpha, gamma) = (node.float("alpha", 1.673_263_2)?, node.float("gamma", 1.050_701)?);
    let x = node.value(0)?;
    let y = node.make(&core::ELU, |op| op.operand(x).attribute("alpha", alpha))?;
    let y = node.scale(y, gamma)?;
    node.one(y)
}

/// max(0, x) + min(0, alpha * (exp(x / alpha) - 1)), which is alpha * elu(x / alpha).
fn celu(node: &mut NodeContext) -> Made {
    let (x, alpha) = (node.value(0)?, node.float("alpha", 1.0)?);
    let scaled = node.scale(x, 1.0 / alpha)?;
    let y = node.make(&core::ELU, |op| op.operand(scaled).attribute("alpha", 1.0))?;
    let y = node.scale(y, alpha)?;
    node.one(y)
}

fn shrink(node: &mut NodeContext) -> Made {
    let (bias, limit) = (node.float("bias", 0.0)?, node.float("lambd", 0.5)?);
    let x = node.value(0)?;
    let element = node.element(x);
    let (low, high) = (node.scalar(element, -limit)?, node.scalar(element, limit)?);
    let (zero, bias) = (node.scalar(element, 0.0)?, node.scalar(element, bias)?);
    let (raised, lowered) = (node.add(x, bias)?, node.sub(x, bias)?);
    let (is_low, is_high) = (node.compare("lt", x, low)?, node.compare("gt", x, high)?);
    let y = node.select(is_high, lowered, zero)?;
    let y = node.select(is_low, raised, y)?;
    node.one(y)
}

fn softsign(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let size = node.unary(&core::ABS, x)?;
    let one = node.scalar_like(x, 1.0)?;
    let divisor = node.add(size, one)?;
    let y = node.binary(&core::DIV, x, divisor)?;
    node.one(y)
}

fn thresholded_relu(node: &mut NodeContext) -> Made {
    let (x, alpha) = (node.value(0)?, node.float("alpha", 1.0)?);
    let element = node.element(x);
    let (limit, zero) = (node.scalar(element, alpha)?, node.scalar(element, 0.0)?);
    let is_above = node.compare("gt", x, limit)?;
    let y = node.select(is_above, x, zero)?;
    node.one(y)
}

fn is_inf(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let element = node.element(x);
    let (negative, positive) = (node.flag("detect_negative", true)?, node.flag("detect_positive", true)?);
    let mut result = None;
    for (wanted, value) in [(negative, f64::NEG_INFINITY), (positive, f64::INFINITY)] {
        if wanted {
            let limit = node.scalar(element, value)?;
            let found = node.compare("eq", x, limit)?;
            result = Some(match result {
                None => found,
                Some(other) => node.binary_with(&core::LOGICAL, other, found, function_of("or"))?,
            });
        }
    }
    let y = match result {
        Some(y) => y,
        // Neither sign is asked for: false everywhere.
        None => {
            node.binary_with(&core::COMPARE, x, x, Attributes::from([("predicate".into(), "lt".into())]))?
        }
    };
    node.one(y)
}
