//! What a node costs, in integer picoseconds of a machine, from types alone. No floats: no ties by rounding.
//!
//! A kernel launch, bytes moved, multiply-accumulates and vector work; the slowest engine decides, the launch is added. Views and
//! whatever follows from constants alone is nearly free: it is done at compile time. A target with better knowledge implements
//! [`CostModel`].
//!
//! ```text
//! (core.matmul x w)  x: 32x64xf32, w: 64x64xf32   ->  launch + max(dma 24576 B, matrix 131072 MAC)
//! ```

use crate::machine::Machine;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::op_def::{OpDef, Traits};
use tilewright_ir::types::{TensorType, Type};

/// One node to be priced.
pub struct CostQuery<'a> {
    /// The op.
    pub def: &'static OpDef,
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Types of operands by slot; `None` for absent ones.
    pub operands: &'a [Option<&'a Type>],
    /// Result types.
    pub results: &'a [Type],
    /// True if all operands are constants.
    pub constant: bool,
}

/// Prices nodes.
pub trait CostModel: Send + Sync {
    /// Picoseconds; larger than [`ILLEGAL`] means that the target cannot do it.
    fn cost(&self, query: &CostQuery) -> u64;
}

/// The price of what a target cannot do.
pub const ILLEGAL: u64 = 1 << 50;

/// Value taken for a symbolic dimension: a prompt chunk of an interactive model.
const SYMBOL_NOMINAL: i64 = 128;

/// The default price list: a [`Machine`] and the shapes.
pub struct MachineCost(pub Machine);

/// A dimension with symbols at their nominal value.
pub fn nominal(dim: &Dim) -> u64 {
    let mut symbols = std::collections::BTreeSet::new();
    dim.collect_symbols(&mut symbols);
    let bindings = symbols.into_iter().map(|name| (name, SYMBOL_NOMINAL)).collect();
    dim.evaluate(&bindings).unwrap_or(SYMBOL_NOMINAL).max(0) as u64
}

fn elements(ty: &TensorType) -> u64 {
    ty.shape.iter().map(nominal).fold(1, u64::saturating_mul)
}

fn bytes(ty: &Type) -> u64 {
    ty.as_tensor()
        .map_or(0, |tensor| elements(tensor).saturating_mul(tensor.element.bits() as u64).div_ceil(8))
}

/// Vector passes over the result that an elementwise op takes: table rows beat formulae here.
const VECTOR_PASSES: &[(&OpDef, u64)] = &[
    (&core::EXP, 4),
    (&core::LOG, 4),
    (&core::TANH, 6),
    (&core::SIGMOID, 6),
    (&core::SILU, 7),
    (&core::ERF, 8),
    (&core::GELU, 8),
    (&core::POW, 10),
    (&core::MATH, 10),
    (&core::DIV, 4),
    (&core::SOFTMAX, 8),
    (&core::RMS_NORM, 4),
    (&core::LAYER_NORM, 6),
    (&core::ROPE, 4),
];

/// Vector passes for the activation in an op's attributes: those of the op that it stands for, apart or not.
fn activation_passes(query: &CostQuery) -> u64 {
    match query.attributes.get("activation").and_then(|value| value.as_str()) {
        None | Some("none") => 0,
        Some(name) => {
            let stands_for = |row: &&(&OpDef, u64)| name.starts_with(row.0.short_name());
            VECTOR_PASSES.iter().find(stands_for).map_or(1, |row| row.1)
        }
    }
}

impl MachineCost {
    fn macs(&self, query: &CostQuery) -> (u64, Element, Element) {
        let tensor = |slot: usize| query.operands.get(slot).copied().flatten().and_then(Type::as_tensor);
        let result = query.results.first().and_then(Type::as_tensor);
        let (Some(a), Some(b), Some(result)) = (tensor(0), tensor(1), result) else {
            return (0, Element::F32, Element::F32);
        };
        let inner = a.shape.last().map_or(1, nominal);
        let macs = if query.def == &core::CONVOLUTION || query.def == &core::CONVOLUTION_INTEGER {
            let per_output = elements(b) / b.shape.first().map_or(1, nominal).max(1);
            elements(result).saturating_mul(per_output)
        } else if query.def == &core::ATTENTION {
            let keys = b.shape.get(2).map_or(1, nominal);
            elements(result).saturating_mul(keys).saturating_mul(2)
        } else {
            elements(result).saturating_mul(inner)
        };
        (macs, a.element, b.element)
    }
}

/// Products of the matrix engine.
pub(crate) const MATRIX_OPS: [&OpDef; 7] = [
    &core::MATMUL,
    &core::MATMUL_INTEGER,
    &core::LINEAR,
    &core::ATTENTION,
    &core::CONVOLUTION,
    &core::CONVOLUTION_INTEGER,
    &core::CONV_TRANSPOSE,
];

impl CostModel for MachineCost {
    fn cost(&self, query: &CostQuery) -> u64 {
        let machine = &self.0;
        // What follows from constants is made when the artifact is written, but not what would make a weight larger again.
        let grows = query.def == &core::DEQUANTIZE
            && query.results.iter().map(bytes).sum::<u64>()
                > query.operands.first().copied().flatten().map_or(0, bytes);
        if query.constant && !grows || query.def.is(Traits::CONSTANT) {
            return 1;
        }
        if query.def == &core::RESHAPE {
            return 100;
        }
        let picoseconds = |cycles: u64| cycles.saturating_mul(1_000_000) / machine.clock_mhz.max(1);
        let launch = machine.launch_cycles;
        let moved: u64 = if matches!(query.def.short_name(), "slice" | "broadcast" | "gather") {
            2 * query.results.iter().map(bytes).sum::<u64>()
        } else {
            query.operands.iter().flatten().map(|ty| bytes(ty)).chain(query.results.iter().map(bytes)).sum()
        };
        let dma = machine.dram_cycles(moved);
        let result: u64 = query.results.iter().filter_map(Type::as_tensor).map(elements).sum();
        if query.def.is(Traits::DATA_MOVEMENT) {
            // A movement is no kernel of its own: transfers with strides do it, at a smaller start-up.
            return picoseconds(launch / 4 + dma);
        }
        let lanes = machine.vector_lanes.max(1);
        let (compute, after) = if MATRIX_OPS.contains(&query.def) {
            let (macs, activation, weight) = self.macs(query);
            let product = match machine.macs_per_cycle(activation, weight) {
                Some(rate) => macs / rate.max(1),
                None => macs / lanes,
            };
            // The activation comes after the product and costs what it costs apart, so that which form is best does not depend on how many
            // rows hide behind the weights' transfer: programs of all chunk lengths round at the same places.
            (product, activation_passes(query) * result / lanes)
        } else {
            let own = VECTOR_PASSES.iter().find(|row| row.0 == query.def).map_or(1, |row| row.1);
            let width = query.operands.iter().flatten().filter_map(|ty| ty.as_tensor()).map(elements).max();
            ((own + activation_passes(query)) * result.max(width.unwrap_or(0)) / lanes, 0)
        };
        // Of a product and a linear that do the same, the linear is wanted: it is the form that takes in bias and activation.
        let form = u64::from(query.def == &core::MATMUL);
        picoseconds(launch + form + dma.max(compute) + after)
    }
}
