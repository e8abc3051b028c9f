//! The memory plan: live ranges of buffers over the linear order of ops, then offsets in each space.
//!
//! Greedy by size, first fit: large buffers first, each at the lowest place free during its whole life (as in TensorFlow Lite's
//! arena planner, Pisarchyk & Lee 2020, arXiv:2001.03288). A use inside a loop of a buffer declared outside counts for the whole
//! loop; what an asynchronous transfer touches is in use until its wait. It must not know commands' bytes; its result is checked by
//! [`crate::check_memory_plan`], which shares no code with it.
//!
//! ```text
//! %s = "tile.buffer"() {capacity = array<i64: 4, 64>, offset_bytes = 1024} : () -> memref<4x64xf32, "sram">
//! ```

use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::types::Type;

/// Buffers begin at multiples of this: a cache line, and the widest burst of the DMA engines.
pub const ALIGNMENT_BYTES: u64 = 64;

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

/// Gives every buffer and argument below `function` its `offset_bytes`.
///
/// # Errors
/// When a space is too small; names the op, the bytes needed and available.
pub fn place(module: &mut Module, function: OpId, capacities: &Capacities) -> Result<SpaceBytes, Diagnostic> {
    let ranges = live_ranges(module, function);
    let mut by_space: BTreeMap<String, Vec<Buffer>> = BTreeMap::new();
    let mut used = SpaceBytes::new();
    let mut arguments = Vec::new();
    module.walk(function, &mut |op| {
        let def = module.op(op).def;
        if def == &tile::BUFFER {
            // A buffer that nothing touches needs no bytes, but an address all the same.
            let (first, last) = ranges.get(&module.result(op)).copied().unwrap_or((0, 0));
            let (space, bytes) = space_and_bytes(module, op);
            by_space.entry(space).or_default().push(Buffer { op, bytes, first, last, offset: 0 });
        } else if def == &tile::ARGUMENT {
            arguments.push(op);
        }
    });
    for op in arguments {
        let (space, bytes) = space_and_bytes(module, op);
        let end = used.entry(space).or_default();
        let offset = end.next_multiple_of(ALIGNMENT_BYTES);
        *end = offset + bytes;
        set_offset(module, op, offset);
    }
    for (space, mut buffers) in by_space {
        let total = assign(&mut buffers);
        if let Some(available) = capacities.of(&space).filter(|available| total > *available) {
            return Err(too_small(module, &space, &buffers, total, available));
        }
        used.insert(space, total);
        for buffer in &buffers {
            set_offset(module, buffer.op, buffer.offset);
        }
    }
    Ok(used)
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
    offset: u64,
}

/// Assigns offsets; gives the bytes taken. Only buffers alive at the same time as the one being placed are looked at.
fn assign(buffers: &mut [Buffer]) -> u64 {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(buffers[*at].bytes), buffers[*at].first, *at));
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for at in order {
        let (first, last, bytes) = (buffers[at].first, buffers[at].last, buffers[at].bytes);
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .map(|other| &buffers[*other])
            .filter(|other| other.first <= last && first <= other.last)
            .map(|other| (other.offset, other.offset + other.bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0u64;
        for (start, end) in taken {
            if offset + bytes <= start {
                break;
            }
            offset = offset.max(end.next_multiple_of(ALIGNMENT_BYTES));
        }
        buffers[at].offset = offset;
        total = total.max(offset + bytes);
        placed.push(at);
    }
    total
}

/// The message for a space that is too small: the moment of the greatest need, and who needs most then.
fn too_small(module: &Module, space: &str, buffers: &[Buffer], total: u64, available: u64) -> Diagnostic {
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
    Diagnostic::error(
        location,
        format!(
            "space '{space}' is too small: {total} bytes needed, {available} available (at most {} are alive at once, the largest \
             buffer takes {})",
            need_at(worst),
            largest.map_or(0, |buffer| buffer.bytes)
        ),
    )
    .with_help("compile for a machine with more of it, or with a smaller tile or chunk length")
}

/// First and last position in the linear order at which each buffer is in use.
fn live_ranges(module: &Module, function: OpId) -> BTreeMap<ValueId, (usize, usize)> {
    let mut scan = Scan::new(module);
    for block in module.op(function).regions.iter().flat_map(|region| &module.region(*region).blocks) {
        scan.block(*block);
    }
    scan.finish()
}

struct Scan<'a> {
    module: &'a Module,
    position: usize,
    /// Enclosing loops: position of the loop op.
    loops: Vec<usize>,
    /// Loop op's position to the position after its last op.
    ends: BTreeMap<usize, usize>,
    /// Buffer to the loops around its declaration.
    declared: BTreeMap<ValueId, Vec<usize>>,
    /// Uses: buffer, position, loops around the use.
    uses: Vec<(ValueId, usize, Vec<usize>)>,
    /// Transfers under way by token or name, to the buffers they touch.
    tokens: BTreeMap<ValueId, Vec<ValueId>>,
    names: BTreeMap<String, Vec<ValueId>>,
    waits: Vec<(String, usize, Vec<usize>)>,
}

impl<'a> Scan<'a> {
    fn new(module: &'a Module) -> Scan<'a> {
        Scan {
            module,
            position: 0,
            loops: Vec::new(),
            ends: BTreeMap::new(),
            declared: BTreeMap::new(),
            uses: Vec::new(),
            tokens: BTreeMap::new(),
            names: BTreeMap::new(),
            waits: Vec::new(),
        }
    }

    fn block(&mut self, block: BlockId) {
        for op in self.module.block(block).ops.clone() {
            self.position += 1;
            self.op(op);
        }
    }

    fn op(&mut self, op: OpId) {
        let module = self.module;
        let operation = module.op(op);
        let def = operation.def;
        if def == &tile::BUFFER {
            self.declared.insert(module.result(op), self.loops.clone());
        }
        let buffers: Vec<ValueId> = operation
            .operands
            .iter()
            .map(|value| root(module, *value))
            .filter(|root| self.declared.contains_key(root))
            .collect();
        if tile::command_op(def).is_some() {
            for buffer in &buffers {
                self.uses.push((*buffer, self.position, self.loops.clone()));
            }
        }
        if def == &tile::TRANSFER {
            match operation.attributes.get("name").and_then(Attribute::as_str) {
                Some(name) => self.names.entry(name.to_string()).or_default().extend(buffers),
                None => {
                    self.tokens.insert(module.result(op), buffers);
                }
            }
        } else if def == &tile::WAIT {
            if let Some(name) = operation.attributes.get("name").and_then(Attribute::as_str) {
                self.waits.push((name.to_string(), self.position, self.loops.clone()));
            } else if let Some(buffers) = operation.operands.first().and_then(|token| self.tokens.get(token))
            {
                self.uses.extend(buffers.iter().map(|buffer| (*buffer, self.position, self.loops.clone())));
            }
        }
        let is_loop = def == &tile::FOR || def == &tile::LOOP;
        let start = self.position;
        if is_loop {
            self.loops.push(start);
        }
        for region in &operation.regions {
            for block in &module.region(*region).blocks {
                self.block(*block);
            }
        }
        if is_loop {
            self.loops.pop();
            self.position += 1;
            self.ends.insert(start, self.position);
        }
    }

    fn finish(mut self) -> BTreeMap<ValueId, (usize, usize)> {
        for (name, position, loops) in std::mem::take(&mut self.waits) {
            for buffer in self.names.get(&name).into_iter().flatten() {
                self.uses.push((*buffer, position, loops.clone()));
            }
        }
        let mut ranges: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
        for (buffer, position, loops) in self.uses {
            let declared = &self.declared[&buffer];
            // The outermost loop around the use that is not around the declaration.
            let (first, last) = match loops.iter().find(|start| !declared.contains(start)) {
                Some(start) => (*start, self.ends[start]),
                None => (position, position),
            };
            let range = ranges.entry(buffer).or_insert((first, last));
            *range = (range.0.min(first), range.1.max(last));
        }
        ranges
    }
}

/// The buffer, constant or argument that a view lies in.
pub fn root(module: &Module, mut value: ValueId) -> ValueId {
    while let Some(op) = module.producer_of(value, &tile::VIEW) {
        value = module.op(op).operands[0];
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(rows: &[(u64, usize, usize)]) -> Vec<Buffer> {
        let op = Module::new().root();
        rows.iter()
            .map(|(bytes, first, last)| Buffer { op, bytes: *bytes, first: *first, last: *last, offset: 0 })
            .collect()
    }

    #[test]
    fn lives_that_do_not_meet_share_bytes() {
        let mut plan = buffers(&[(128, 0, 1), (128, 2, 3), (64, 1, 2)]);
        assert_eq!(assign(&mut plan), 192);
        assert_eq!((plan[0].offset, plan[1].offset, plan[2].offset), (0, 0, 128));
    }

    #[test]
    fn a_gap_is_filled_when_it_fits() {
        let mut plan = buffers(&[(256, 0, 9), (128, 0, 2), (64, 3, 9), (64, 3, 9)]);
        assert_eq!(assign(&mut plan), 384);
        assert_eq!((plan[2].offset, plan[3].offset), (256, 320));
    }
}
