//! Training (ai.onnx.preview.training): gradients, and one step of an optimizer: inputs rate, iteration, then all tensors, all gradients and
//! all states.

use super::super::context::NodeContext;
use super::super::differentiate;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, of};
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

const DOMAIN: &str = "ai.onnx.preview.training";

pub(super) static ROWS: &[Row] = &[
    of(DOMAIN, "Adagrad", |node| each(node, 3, adagrad)),
    of(DOMAIN, "Adam", |node| each(node, 4, adam)),
    of(DOMAIN, "Gradient", gradient)
        .refuses("within a subgraph; operators without a derivative here, each named"),
    of(DOMAIN, "Momentum", |node| each(node, 3, momentum)),
];

/// The gradient of the value named `y` with respect to those named in `xs`, where these and those in `zs` are what the inputs say.
fn gradient(node: &mut NodeContext) -> Made {
    let xs = node.texts_attribute("xs")?.ok_or_else(|| Fault::model("attribute 'xs' is missing"))?;
    let zs = node.texts_attribute("zs")?.unwrap_or_default();
    if xs.len() + zs.len() != node.input_count() {
        let (names, inputs) = (xs.len() + zs.len(), node.input_count());
        return Err(Fault::model(format!("'xs' and 'zs' name {names} values, {inputs} inputs are given")));
    }
    if node.blocks.len() > 1 {
        return Err(Fault::unsupported("a gradient within a subgraph is not supported", ""));
    }
    let y = node.text("y", "")?;
    let y = named(node, &y)?;
    let mut places = Vec::new();
    for (at, name) in xs.iter().chain(&zs).enumerate() {
        places.push((named(node, name)?, node.value(at)?));
    }
    let y = differentiate::at(node, y, &places)?;
    let given: Vec<ValueId> = places.into_iter().map(|(_, given)| given).collect();
    let (inputs, constants) = given.split_at(xs.len());
    let made = differentiate::gradients(node, y, inputs, constants)?;
    node.many(&made)
}

/// The data of a value of the graph.
fn named(node: &mut NodeContext, name: &str) -> Outcome<ValueId> {
    let operand = node.importer.resolve(name)?;
    let operand = operand.ok_or_else(|| Fault::model(format!("value '{name}' is not given")))?;
    node.data(&operand)
}

/// Rate and iteration as they are given.
#[derive(Clone, Copy)]
struct Step {
    rate: ValueId,
    iteration: ValueId,
}

/// Runs a rule for each tensor; results are all new tensors, then all of each state.
fn each(
    node: &mut NodeContext,
    inputs: usize,
    rule: fn(&mut NodeContext, Step, &[ValueId]) -> Outcome<Vec<ValueId>>,
) -> Made {
    let given = node.input_count().saturating_sub(2);
    if given == 0 || !given.is_multiple_of(inputs) {
        return Err(Fault::model(format!(
            "{given} tensors, gradients and states: {inputs} of each tensor are needed"
        )));
    }
    let count = given / inputs;
    let step = Step { rate: node.value(0)?, iteration: node.value(1)? };
    let mut lists: Vec<Vec<ValueId>> = vec![Vec::new(); inputs - 1];
    for at in 0..count {
        let values: Vec<ValueId> =
            (0..inputs).map(|input| node.value(2 + input * count + at)).collect::<Outcome<_>>()?;
        let made = rule(node, step, &values)?;
        lists.iter_mut().zip(made).for_each(|(list, value)| list.push(value));
    }
    node.many(&lists.concat())
}

/// `a * x + b * y`.
fn blend(node: &mut NodeContext, (a, x): (f64, ValueId), (b, y): (f64, ValueId)) -> Outcome<ValueId> {
    let (x, y) = (node.scale(x, a)?, node.scale(y, b)?);
    node.add(x, y)
}

/// The gradient with that of `norm / 2 * |x|^2`.
fn regularized(node: &mut NodeContext, x: ValueId, gradient: ValueId) -> Outcome<ValueId> {
    let norm = node.float("norm_coefficient", 0.0)?;
    blend(node, (norm, x), (1.0, gradient))
}

fn is_first(node: &mut NodeContext, step: Step) -> Outcome<ValueId> {
    let zero = node.scalar_like(step.iteration, 0.0)?;
    node.compare("le", step.iteration, zero)
}

/// Duchi et al. 2011.
fn adagrad(node: &mut NodeContext, step: Step, values: &[ValueId]) -> Outcome<Vec<ValueId>> {
    let [x, gradient, sum] = values else { return Err(Fault::model("3 values are needed")) };
    let (decay, epsilon) = (node.float("decay_factor", 0.0)?, node.float("epsilon", 1e-6)?);
    let gradient = regularized(node, *x, *gradient)?;
    let square = node.mul(gradient, gradient)?;
    let sum = node.add(*sum, square)?;
    let iteration = node.cast_like(step.iteration, *x)?;
    let one = node.scalar_like(*x, 1.0)?;
    let slowed = blend(node, (1.0, one), (decay, iteration))?;
    let rate = node.cast_like(step.rate, *x)?;
    let rate = node.binary(&core::DIV, rate, slowed)?;
    let root = node.unary(&core::SQRT, sum)?;
    let epsilon = node.scalar_like(*x, epsilon)?;
    let root = node.add(root, epsilon)?;
    let change = node.mul(rate, gradient)?;
    let change = node.binary(&core::DIV, change, root)?;
    Ok(vec![node.sub(*x, change)?, sum])
}

/// Kingma and Ba 2014 (arXiv:1412.6980); at iteration 0 without correction of the bias.
fn adam(node: &mut NodeContext, step: Step, values: &[ValueId]) -> Outcome<Vec<ValueId>> {
    let [x, gradient, mean, square] = values else { return Err(Fault::model("4 values are needed")) };
    let (alpha, beta) = (node.float("alpha", 0.9)?, node.float("beta", 0.999)?);
    let (epsilon, post) = (node.float("epsilon", 1e-6)?, node.float("norm_coefficient_post", 0.0)?);
    let gradient = regularized(node, *x, *gradient)?;
    let mean = blend(node, (alpha, *mean), (1.0 - alpha, gradient))?;
    let power = node.mul(gradient, gradient)?;
    let square = blend(node, (beta, *square), (1.0 - beta, power))?;
    let root = node.unary(&core::SQRT, square)?;
    let epsilon = node.scalar_like(*x, epsilon)?;
    let root = node.add(root, epsilon)?;
    // 1 - beta^t loses most digits of f32.
    let iteration = node.cast(step.iteration, Element::F64)?;
    let left = |node: &mut NodeContext, base: f64| -> Outcome<ValueId> {
        let base = node.scalar(Element::F64, base)?;
        let power = node.binary(&core::POW, base, iteration)?;
        let one = node.scalar(Element::F64, 1.0)?;
        node.sub(one, power)
    };
    let (above, below) = (left(node, beta)?, left(node, alpha)?);
    let above = node.unary(&core::SQRT, above)?;
    let factor = node.binary(&core::DIV, above, below)?;
    let one = node.scalar(Element::F64, 1.0)?;
    let first = is_first(node, step)?;
    let factor = node.select(first, one, factor)?;
    let factor = node.cast_like(factor, *x)?;
    let rate = node.cast_like(step.rate, *x)?;
    let rate = node.mul(rate, factor)?;
    let change = node.binary(&core::DIV, mean, root)?;
    let change = node.mul(rate, change)?;
    let next = node.sub(*x, change)?;
    Ok(vec![node.scale(next, 1.0 - post)?, mean, square])
}

fn momentum(node: &mut NodeContext, step: Step, values: &[ValueId]) -> Outcome<Vec<ValueId>> {
    let [x, gradient, velocity] = values else { return Err(Fault::model("3 values are needed")) };
    let (alpha, beta) = (node.float("alpha", 0.0)?, node.float("beta", 0.0)?);
    let nesterov = match node.text("mode", "standard")?.as_str() {
        "standard" => false,
        "nesterov" => true,
        other => return Err(Fault::model(format!("attribute 'mode' = '{other}' is not known"))),
    };
    let gradient = regularized(node, *x, *gradient)?;
    let (one, beta) = (node.scalar_like(*x, 1.0)?, node.scalar_like(*x, beta)?);
    let first = is_first(node, step)?;
    let beta = node.select(first, one, beta)?;
    let pushed = node.mul(beta, gradient)?;
    let velocity = blend(node, (alpha, *velocity), (1.0, pushed))?;
    let direction = if nesterov { blend(node, (1.0, gradient), (alpha, velocity))? } else { velocity };
    let rate = node.cast_like(step.rate, *x)?;
    let change = node.mul(rate, direction)?;
    Ok(vec![node.sub(*x, change)?, velocity])
}
