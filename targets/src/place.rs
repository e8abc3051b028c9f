//! The memory plan of a function: live ranges of its buffers, then offsets in each space.
//!
//! `live_ranges` says when a buffer is needed, [`crate::memory_plan`] where it goes; here is what lies between. It must not know
//! commands' bytes; its result is checked by [`crate::check_memory_plan`], which shares no code with it.
//!
//! ```text
//! %s = "tile.buffer"() {capacity = array<i64: 4, 64>, offset_bytes = 1024} : () -> memref<4x64xf32, "sram">
//! ```

use crate::live_ranges::live_ranges;
use crate::memory_plan::{self, Options, Problem, Proof};
use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{Module, OpId};
use tilewright_ir::types::Type;

/// Buffers begin at multiples of this, and take whole multiples of it: a cache line, and the widest burst of the DMA engines.
pub const ALIGNMENT_BYTES: u64 = 64;
/// Steps of the planner for each space: at most some tenths of a second, spent only where greedy orders miss the lower bound.
const FUEL: u64 = 20_000;
/// Steps for a plan that is wanted only where it is easy.
const FUEL_CHEAP: u64 = 4_000;
/// Steps when those leave a space too small, before compiling is given up.
const FUEL_TO_FIT: u64 = 500_000;

/// How much each space holds at most; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capacities {
    /// On-chip scratch memory.
    pub sram_bytes: Option<u64>,
    /// The matrix engine's accumulators.
    pub accumulator_bytes: Option<u64>,
}

impl Capacities {
    /// The limit of a space by name.
    pub fn of(&self, space: &str) -> Option<u64> {
        match space {
            "sram" => self.sram_bytes,
            "acc" => self.accumulator_bytes,
            _ => None,
        }
    }
}

/// Bytes that each space takes, by name.
pub type SpaceBytes = BTreeMap<String, u64>;

/// What the planner says of the buffers of one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpacePlan {
    /// The space's name.
    pub space: String,
    /// How many buffers lie in it.
    pub buffers: usize,
    /// Bytes they take, in whole multiples of [`ALIGNMENT_BYTES`].
    pub bytes: u64,
    /// The most bytes alive at one moment, counted alike.
    pub live_bytes_max: u64,
    /// How good the plan is.
    pub proof: Proof,
    /// Steps the planner took.
    pub steps: u64,
}

impl std::fmt::Display for SpacePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SpacePlan { space, buffers, bytes, live_bytes_max, proof, .. } = self;
        let proof = proof.name();
        write!(
            f,
            "{space}: {buffers} buffers in {bytes} bytes, at most {live_bytes_max} alive at once: {proof}"
        )
    }
}

/// Offsets given; sizes, and what is known about them.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// Bytes of each space, arguments too.
    pub bytes: SpaceBytes,
    /// One for each space with buffers, by name.
    pub plans: Vec<SpacePlan>,
}

impl Placed {
    /// Whether every space is known to take the fewest bytes that it can.
    pub fn is_proved(&self) -> bool {
        self.plans.iter().all(|plan| matches!(plan.proof, Proof::AtLowerBound | Proof::Optimal))
    }
}

/// Gives every buffer and argument below `function` its `offset_bytes`.
///
/// # Errors
/// When a space is too small; names the op, the bytes needed and available.
pub fn place(module: &mut Module, function: OpId, capacities: &Capacities) -> Result<Placed, Diagnostic> {
    place_within(module, function, capacities, FUEL, FUEL_TO_FIT)
}

/// As [`place`], but gives up where the first plan does not fit.
pub(crate) fn place_quickly(
    module: &mut Module,
    function: OpId,
    capacities: &Capacities,
) -> Result<Placed, Diagnostic> {
    place_within(module, function, capacities, FUEL, 0)
}

/// As [`place_quickly`], with little search.
pub(crate) fn place_cheaply(
    module: &mut Module,
    function: OpId,
    capacities: &Capacities,
) -> Result<Placed, Diagnostic> {
    place_within(module, function, capacities, FUEL_CHEAP, 0)
}

fn place_within(
    module: &mut Module,
    function: OpId,
    capacities: &Capacities,
    fuel: u64,
    fuel_to_fit: u64,
) -> Result<Placed, Diagnostic> {
    let ranges = live_ranges(module, function).buffers;
    let mut by_space: BTreeMap<String, Vec<Buffer>> = BTreeMap::new();
    let mut placed = Placed::default();
    let mut arguments = Vec::new();
    module.walk(function, &mut |op| {
        let def = module.op(op).def;
        if def == &tile::BUFFER {
            // A buffer that nothing touches needs no bytes, but an address all the same.
            let (first, last) = ranges.get(&module.result(op)).copied().unwrap_or((0, 0));
            let (space, bytes) = space_and_bytes(module, op);
            by_space.entry(space).or_default().push(Buffer { op, bytes, first, last });
        } else if def == &tile::ARGUMENT {
            arguments.push(op);
        }
    });
    for op in arguments {
        let (space, bytes) = space_and_bytes(module, op);
        let end = placed.bytes.entry(space).or_default();
        let offset = end.next_multiple_of(ALIGNMENT_BYTES);
        *end = offset + bytes;
        set_offset(module, op, offset);
    }
    for (space, buffers) in by_space {
        let available = capacities.of(&space);
        let plan = assign(module, &space, &buffers, available, [fuel, fuel_to_fit])?;
        let ends = buffers.iter().zip(&plan.offsets).map(|(buffer, offset)| offset + buffer.bytes);
        let total = ends.max().unwrap_or(0);
        if let Some(available) = available.filter(|available| total > *available) {
            return Err(too_small(module, &space, &buffers, total, available, plan.proof));
        }
        for (buffer, offset) in buffers.iter().zip(&plan.offsets) {
            set_offset(module, buffer.op, *offset);
        }
        placed.bytes.insert(space.clone(), total);
        placed.plans.push(SpacePlan {
            space,
            buffers: buffers.len(),
            bytes: plan.peak_bytes,
            live_bytes_max: plan.live_bytes_max,
            proof: plan.proof,
            steps: plan.steps,
        });
    }
    Ok(placed)
}

fn set_offset(module: &mut Module, op: OpId, offset: u64) {
    module.op_mut(op).attributes.insert("offset_bytes".into(), Attribute::Int(offset as i64));
}

/// The space of a buffer or argument, and the bytes of its capacity.
pub fn space_and_bytes(module: &Module, op: OpId) -> (String, u64) {
    let Type::View(view) = module.ty(module.result(op)) else { return (String::new(), 0) };
    let capacity = module.op(op).attributes.get("capacity").and_then(Attribute::as_ints).unwrap_or(&[]);
    let count = capacity.iter().fold(1u64, |product, dim| product.saturating_mul((*dim).max(0) as u64));
    (view.space.clone(), count.saturating_mul(view.element.bits() as u64).div_ceil(8))
}

struct Buffer {
    op: OpId,
    bytes: u64,
    first: usize,
    last: usize,
}

/// Plans one space: as low as can be, and when that is above `available`, once more with `fuel_to_fit`.
fn assign(
    module: &Module,
    space: &str,
    buffers: &[Buffer],
    available: Option<u64>,
    [fuel, fuel_to_fit]: [u64; 2],
) -> Result<memory_plan::Plan, Diagnostic> {
    let rows = buffers.iter().map(|buffer| {
        let bytes = buffer.bytes.checked_next_multiple_of(ALIGNMENT_BYTES).unwrap_or(u64::MAX);
        memory_plan::Buffer::new(buffer.first as u64, buffer.last as u64 + 1, bytes).aligned(ALIGNMENT_BYTES)
    });
    let problem = Problem::new(rows.collect()).map_err(|faults| {
        let fault = &faults[0];
        let location = module.op(buffers[fault.buffer].op).location.clone();
        Diagnostic::error(location, format!("space '{space}' cannot be planned: {}", fault.what))
            .with_help("a dimension of the model is too large; bind it to less")
    })?;
    let plan = memory_plan::plan(&problem, &Options { capacity_bytes: None, fuel });
    let limit = available.map(|available| available.next_multiple_of(ALIGNMENT_BYTES));
    Ok(match limit.filter(|limit| plan.peak_bytes > *limit && fuel_to_fit > 0) {
        Some(limit) => {
            memory_plan::plan(&problem, &Options { capacity_bytes: Some(limit), fuel: fuel_to_fit })
        }
        None => plan,
    })
}

/// The message for a space that is too small: the moment of the greatest need, and who needs most then.
fn too_small(
    module: &Module,
    space: &str,
    buffers: &[Buffer],
    total: u64,
    available: u64,
    proof: Proof,
) -> Diagnostic {
    let need_at = |moment: usize| -> u64 {
        buffers
            .iter()
            .filter(|buffer| (buffer.first..=buffer.last).contains(&moment))
            .map(|buffer| buffer.bytes)
            .sum()
    };
    let worst = buffers.iter().map(|buffer| buffer.first).max_by_key(|moment| need_at(*moment)).unwrap_or(0);
    let largest = buffers
        .iter()
        .filter(|buffer| (buffer.first..=buffer.last).contains(&worst))
        .max_by_key(|buffer| buffer.bytes);
    let location = largest.map(|buffer| module.op(buffer.op).location.clone()).unwrap_or_default();
    let known = match proof {
        Proof::OutOfFuel => "; no better plan was found, which does not prove that there is none",
        _ => "; no plan fits",
    };
    Diagnostic::error(
        location,
        format!(
            "space '{space}' is too small: {total} bytes needed, {available} available (at most {} are alive at once, the largest \
             buffer takes {}{known})",
            need_at(worst),
            largest.map_or(0, |buffer| buffer.bytes)
        ),
    )
    .with_help("compile for a machine with more of it, or with a smaller tile or chunk length")
}
