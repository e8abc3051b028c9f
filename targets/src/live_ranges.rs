//! Live ranges: from when to when the linear order of ops needs each buffer.
//!
//! A use inside a loop of a buffer declared outside counts for the whole loop; what an asynchronous transfer touches is in use until
//! its wait. It must not know bytes or offsets.
//!
//! ```text
//! %b = "tile.buffer"() ..    3: "tile.transfer"(%b, ..)    4: "tile.for" .. 9: "tile.binary"(.., %b, ..) .. 12   =>   %b: 3..=12
//! ```

use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};

/// When buffers are in use.
pub(crate) struct LiveRanges {
    /// First and last position in the linear order at which each buffer is in use.
    pub(crate) buffers: BTreeMap<ValueId, (usize, usize)>,
    /// The position of each op, by its index in the module.
    pub(crate) positions: Vec<usize>,
}

/// The live ranges of a function's buffers.
pub(crate) fn live_ranges(module: &Module, function: OpId) -> LiveRanges {
    let mut scan = Scan::new(module);
    for block in module.op(function).regions.iter().flat_map(|region| &module.region(*region).blocks) {
        scan.block(*block);
    }
    scan.finish()
}

struct Scan<'a> {
    module: &'a Module,
    position: usize,
    positions: Vec<usize>,
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
            positions: vec![0; module.op_count()],
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
            self.positions[op.index()] = self.position;
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

    fn finish(mut self) -> LiveRanges {
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
        LiveRanges { buffers: ranges, positions: self.positions }
    }
}

/// The buffer, constant or argument that a view lies in.
pub(crate) fn root(module: &Module, mut value: ValueId) -> ValueId {
    while let Some(op) = module.producer_of(value, &tile::VIEW) {
        value = module.op(op).operands[0];
    }
    value
}
