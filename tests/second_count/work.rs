//! How much work a command is: multiplications, elements, words of SRAM's banks.

use super::operand::{Operand, named};
use tilewright_runtime::commands::{BinaryFunction, Command, UnaryFunction};
use tilewright_runtime::element::Element;
use tilewright_runtime::timing::MachineFigures;

/// Rows, columns, depth and number of the products of a command.
pub(super) fn product(command: &Command, operands: &[Operand]) -> Option<[u64; 4]> {
    let of = |name: &str| named(operands, name);
    match command {
        Command::Matmul { .. } | Command::MatmulInteger { .. } => {
            let (to, a) = (of("destination")?, of("a")?);
            let depth = if of("indices").is_some() { a.dim(1) / 2 } else { a.dim(1) };
            let (m, n) = (to.dim(2), to.dim(1));
            Some([m, n, depth, to.count() / (m * n).max(1)])
        }
        Command::Convolution { groups, .. } => {
            let (to, w) = (of("destination")?, of("w")?);
            let (channels, groups) = (w.dims[0].max(1), u64::from(*groups).max(1));
            Some([to.count() / channels, channels / groups, w.count() / channels, groups])
        }
        Command::ConvTranspose { .. } => {
            let (x, w) = (of("x")?, of("w")?);
            let channels = w.dims[0].max(1);
            Some([x.count() / channels, w.count() / channels, channels, 1])
        }
        Command::Attention { .. } => {
            let (q, k, v) = (of("q")?, of("k")?, of("v")?);
            Some([q.dim(2), k.dim(2), q.dim(1) + v.dim(1), q.count() / (q.dim(2) * q.dim(1)).max(1)])
        }
        _ => None,
    }
}

pub(super) fn types(operands: &[Operand]) -> Option<(Element, Element)> {
    let first = ["a", "x", "q"].iter().find_map(|name| named(operands, name))?;
    let second = ["b", "w", "k"].iter().find_map(|name| named(operands, name))?;
    Some((first.element, second.element))
}

/// Functions of one pass of the lanes; all others take the slow path.
const SIMPLE: &[UnaryFunction] = {
    use UnaryFunction as F;
    &[
        F::Copy,
        F::Negate,
        F::Absolute,
        F::Square,
        F::Relu,
        F::Not,
        F::BitwiseNot,
        F::IsNan,
        F::IsInfinite,
        F::Sign,
        F::RoundHalfEven,
        F::Floor,
        F::Ceil,
        F::Truncate,
        F::HardSwish,
        F::LeakyRelu,
        F::HardSigmoid,
        F::Clamp,
        F::Affine,
    ]
};

/// Elements worked on, and passes of the lanes over each.
pub(super) fn lanes(command: &Command, operands: &[Operand], slow: u64) -> (u64, u64) {
    let largest = operands.iter().map(Operand::count).max().unwrap_or(0);
    match command {
        Command::Matmul { .. }
        | Command::MatmulInteger { .. }
        | Command::Convolution { .. }
        | Command::ConvTranspose { .. }
        | Command::Transfer { .. } => (0, 1),
        Command::Unary { function, .. } => (largest, if SIMPLE.contains(function) { 1 } else { slow }),
        Command::Binary { function: BinaryFunction::Divide | BinaryFunction::Power, .. } => (largest, slow),
        Command::Softmax { .. } => (largest, slow + 3),
        Command::Normalize { .. } | Command::QuantizeGroups { .. } => (largest, 4),
        Command::Rope { .. } | Command::Quantize { .. } | Command::Dequantize { .. } => (largest, 2),
        Command::AttentionFinish { .. } => (largest, slow),
        Command::Attention { .. } => {
            let rows = named(operands, "running_sum").map_or(0, Operand::count);
            (rows * named(operands, "k").map_or(0, |k| k.dim(2)), slow + 2)
        }
        Command::Pool { kernel, .. } => {
            let window: u64 = kernel.iter().map(|extent| u64::from((*extent).max(1))).product();
            (named(operands, "destination").map_or(0, Operand::count) * window, 1)
        }
        _ => (largest, 1),
    }
}

/// Cycles that the banks need for one operand.
pub(super) fn beats(operand: &Operand, touched: u64, figures: &MachineFigures) -> u64 {
    let port = (figures.sram_bytes_per_cycle / figures.sram_banks).max(1);
    let bits = u64::from(operand.element.bits());
    let run = operand.run();
    let run_words = (run.min(touched) * bits).div_ceil(8).div_ceil(port);
    let (start, end) = operand.bytes();
    let words = (touched.div_ceil(run) * run_words).min(((end - start) as u64).div_ceil(port)).max(1);
    // Distances between the runs, as multiples of a port, tell how many banks they can begin in.
    let mut reached = run_words.max(1);
    for (count, stride) in outside(operand, run) {
        let step = (stride * bits).div_ceil(8) / port;
        let cycle = (1..=figures.sram_banks).find(|times| (times * step).is_multiple_of(figures.sram_banks));
        reached *= count.min(cycle.unwrap_or(1));
    }
    words.div_ceil(reached.min(figures.sram_banks).min(words))
}

/// Number and distance of the runs, dimension by dimension, found in the sorted offsets.
fn outside(operand: &Operand, run: u64) -> Vec<(u64, u64)> {
    let mut starts: Vec<i64> = operand.offsets.iter().copied().step_by(run as usize).collect();
    let mut found = Vec::new();
    while starts.len() > 1 {
        let step = starts[1] - starts[0];
        let count = 1 + starts.windows(2).take_while(|pair| pair[1] - pair[0] == step).count();
        found.push((count as u64, step as u64));
        starts = starts.into_iter().step_by(count).collect();
    }
    found
}
