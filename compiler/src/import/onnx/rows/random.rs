//! Random numbers. They are drawn while importing, so that a compiled model gives the same on every run; without a seed, that of 0.
//!
//! The generator is MT19937 (Matsumoto and Nishimura 1998), read as numpy's `RandomState` reads it: ONNX's own reference draws the same.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since, standard};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::Shape;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(15, "Bernoulli", bernoulli).refuses("shapes that are symbols"),
    standard("Multinomial", multinomial).refuses("shapes that are symbols"),
    standard("RandomNormal", |node| draw(node, false, normal)).refuses("shapes that are symbols"),
    standard("RandomNormalLike", |node| draw(node, true, normal)).refuses("shapes that are symbols"),
    standard("RandomUniform", |node| draw(node, false, uniform)).refuses("shapes that are symbols"),
    standard("RandomUniformLike", |node| draw(node, true, uniform)).refuses("shapes that are symbols"),
];

/// The most numbers that one operator draws.
const COUNT_MAX: i64 = 1 << 24;
const STATE: usize = 624;

/// The generator.
struct Mt19937 {
    state: [u32; STATE],
    at: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Mt19937 {
        let mut state = [seed; STATE];
        for at in 1..STATE {
            let before = state[at - 1];
            state[at] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(at as u32);
        }
        Mt19937 { state, at: STATE }
    }

    fn refill(&mut self) {
        for at in 0..STATE {
            let joined = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % STATE] & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + 397) % STATE] ^ (joined >> 1) ^ twist;
        }
        self.at = 0;
    }

    fn next(&mut self) -> u32 {
        if self.at == STATE {
            self.refill();
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// At least 0, less than 1, with 53 bits.
    fn uniform(&mut self) -> f64 {
        let (high, low) = (self.next() >> 5, self.next() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Two numbers of the standard normal distribution, by Marsaglia's polar method.
    fn normals(&mut self) -> [f64; 2] {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                return [factor * y, factor * x];
            }
        }
    }
}

fn generator(node: &NodeContext) -> Outcome<Mt19937> {
    // The attribute is a float in most operators and an integer in Dropout.
    let seed = node.float("seed", 0.0).or_else(|_| node.int("seed", 0).map(|seed| seed as f64))?;
    Ok(Mt19937::new(seed as i64 as u32))
}

fn count_of(shape: &[Dim]) -> Outcome<(Vec<usize>, usize)> {
    let sizes: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect();
    let count = sizes
        .as_ref()
        .and_then(|sizes| sizes.iter().try_fold(1usize, |count, size| count.checked_mul(*size)));
    match (sizes, count) {
        (Some(sizes), Some(count)) if i64::try_from(count).is_ok_and(|count| count <= COUNT_MAX) => {
            Ok((sizes, count))
        }
        _ => Err(Fault::unsupported(
            format!("at most {COUNT_MAX} random numbers of known dimensions can be drawn"),
            "bind the dimensions with --bind NAME=VALUE",
        )),
    }
}

fn uniform(node: &NodeContext, count: usize) -> Outcome<Vec<f64>> {
    let (low, high) = (node.float("low", 0.0)?, node.float("high", 1.0)?);
    let mut generator = generator(node)?;
    Ok((0..count).map(|_| low + (high - low) * generator.uniform()).collect())
}

fn normal(node: &NodeContext, count: usize) -> Outcome<Vec<f64>> {
    let (mean, scale) = (node.float("mean", 0.0)?, node.float("scale", 1.0)?);
    let mut generator = generator(node)?;
    let pairs = (0..count.div_ceil(2)).flat_map(|_| generator.normals());
    Ok(pairs.take(count).map(|value| mean + scale * value).collect())
}

fn draw(
    node: &mut NodeContext,
    is_like: bool,
    numbers: fn(&NodeContext, usize) -> Outcome<Vec<f64>>,
) -> Made {
    let (shape, default): (Shape, Element) = if is_like {
        let like = node.input(0)?;
        (like.shape().clone(), like.element())
    } else {
        let sizes =
            node.ints_attribute("shape")?.ok_or_else(|| Fault::model("attribute 'shape' is missing"))?;
        (sizes.iter().map(|size| Dim::Known(*size)).collect(), Element::F32)
    };
    let element = node.element_attribute("dtype", default)?;
    let (sizes, count) = count_of(&shape)?;
    let numbers = numbers(node, count)?;
    let y = node.tensor(&Tensor::from_floats(element, &sizes, numbers))?;
    node.one(y)
}

/// Numbers from 0 to 1 of a shape.
fn uniforms(node: &mut NodeContext, element: Element, shape: &[Dim]) -> Outcome<ValueId> {
    let (sizes, count) = count_of(shape)?;
    let mut generator = generator(node)?;
    let numbers = (0..count).map(|_| generator.uniform()).collect();
    node.tensor(&Tensor::from_floats(element, &sizes, numbers))
}

fn bernoulli(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let (shape, from) = (node.shape(x), node.element(x));
    let numbers = uniforms(node, from, &shape)?;
    let hits = node.compare("lt", numbers, x)?;
    let element = node.element_attribute("dtype", from)?;
    let y = node.cast(hits, element)?;
    node.one(y)
}

/// Classes drawn by unnormalised log-probabilities `[b, classes]`.
fn multinomial(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let samples = node.int("sample_size", 1)?;
    let shape = node.shape(x);
    if shape.len() != 2 || samples < 1 {
        return Err(Fault::model(format!("log-probabilities [b, classes] are needed, found {}", node.ty(x))));
    }
    let probabilities = node.along(&core::SOFTMAX, x, 1)?;
    let sums = node.make(&core::CUMULATIVE, |op| {
        op.operand(probabilities)
            .attribute("function", "sum")
            .attribute("axis", 1usize)
            .attribute("exclusive", false)
            .attribute("reverse", false)
    })?;
    let element = node.element(x);
    let numbers = uniforms(node, element, &[shape[0].clone(), Dim::Known(samples), Dim::Known(1)])?;
    let sums = node.reshape(sums, &[shape[0].clone(), Dim::Known(1), shape[1].clone()])?;
    let passed = node.compare("ge", numbers, sums)?;
    let passed = node.cast(passed, Element::I64)?;
    let classes = node.reduce(&core::REDUCE_SUM, passed, &[2], false)?;
    let classes_element = node.element_attribute("dtype", Element::I32)?;
    // Rounding may leave the last sum a little below 1.
    let last = node.size(&(&shape[1] - &Dim::Known(1)))?;
    let classes = node.binary(&core::MIN, classes, last)?;
    let y = node.cast(classes, classes_element)?;
    node.one(y)
}

/// Which elements a dropout of this ratio keeps, as truth values of a shape.
pub(super) fn kept(node: &mut NodeContext, shape: &[Dim], ratio: f64) -> Outcome<ValueId> {
    let (sizes, count) = count_of(shape)?;
    let mut generator = generator(node)?;
    let flags: Vec<i64> = (0..count).map(|_| i64::from(generator.uniform() >= ratio)).collect();
    let sizes: Vec<i64> = sizes.iter().map(|size| *size as i64).collect();
    node.ints(Element::Bool, &sizes, &flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_numpy() {
        // numpy.random.RandomState(0).uniform(size=3) and .standard_normal(2)
        let mut generator = Mt19937::new(0);
        let found = [generator.uniform(), generator.uniform(), generator.uniform()];
        assert_eq!(found, [0.548_813_503_927_324_7, 0.715_189_366_372_419_5, 0.602_763_376_071_643_9]);
        let found = Mt19937::new(0).normals();
        assert_eq!(found.map(|value| (value * 1e8).round()), [176_405_235.0, 40_015_721.0]);
    }
}
