//! An independent check of a memory plan: runs the placed tile IR with owners instead of numbers.
//!
//! Every byte of every space has an owner, the buffer that was written there last. Reading a buffer that has lost bytes to another
//! is an error; so is reading what a transfer still writes, or overwriting what one still reads. Loops run twice, which shows what a
//! second iteration meets. It shares no code with [`crate::place`] and asks it nothing.
//!
//! ```text
//! buffer %b [1024, 2048) was overwritten by %c while it was still needed
//! ```

use crate::place::Capacities;
use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::dialects::tile::{self, Access};
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::types::Type;

/// Checks every buffer's place in `function`.
///
/// # Errors
/// The first op that would read or destroy wrong bytes, or a buffer outside its space.
pub fn check_memory_plan(module: &Module, function: OpId, capacities: &Capacities) -> Result<(), Diagnostic> {
    let mut checker =
        Checker { module, capacities, places: BTreeMap::new(), owners: BTreeMap::new(), busy: Vec::new() };
    checker.block(module.entry(function, 0))
}

#[derive(Clone)]
struct Place {
    space: String,
    start: u64,
    end: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Declared, not written yet.
    Fresh,
    /// Owns its bytes.
    Owner,
    /// Lost bytes to another buffer.
    Lost(ValueId),
}

struct Transfer {
    token: Option<ValueId>,
    name: Option<String>,
    destination: ValueId,
    source: ValueId,
}

struct Checker<'a> {
    module: &'a Module,
    capacities: &'a Capacities,
    places: BTreeMap<ValueId, Place>,
    /// Space to start byte to owner.
    owners: BTreeMap<String, BTreeMap<u64, ValueId>>,
    busy: Vec<Transfer>,
}

impl Checker<'_> {
    fn block(&mut self, block: BlockId) -> Result<(), Diagnostic> {
        for op in self.module.block(block).ops.clone() {
            self.op(op)?;
        }
        Ok(())
    }

    fn op(&mut self, op: OpId) -> Result<(), Diagnostic> {
        let operation = self.module.op(op);
        if operation.def == &tile::BUFFER {
            return self.declare(op);
        }
        if operation.def == &tile::WAIT {
            let name = operation.attributes.get("name").and_then(Attribute::as_str);
            let token = operation.operands.first().copied();
            self.busy.retain(|transfer| match name {
                Some(name) => transfer.name.as_deref() != Some(name),
                None => transfer.token != token,
            });
            return Ok(());
        }
        if let Some(command) = tile::command_op(operation.def) {
            self.command(op, command.access)?;
        }
        let passes = if operation.def == &tile::FOR || operation.def == &tile::LOOP { 2 } else { 1 };
        for _ in 0..passes {
            for region in &operation.regions {
                for block in &self.module.region(*region).blocks {
                    self.block(*block)?;
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, op: OpId) -> Result<(), Diagnostic> {
        let buffer = self.module.result(op);
        let Type::View(view) = self.module.ty(buffer) else { return Ok(()) };
        let attributes = &self.module.op(op).attributes;
        let Some(offset) = attributes.get("offset_bytes").and_then(Attribute::as_int) else {
            return Err(self.error(op, "a buffer has no place".into()));
        };
        let elements: i64 =
            attributes.get("capacity").and_then(Attribute::as_ints).unwrap_or(&[]).iter().product();
        let start = offset as u64;
        let end = start + (elements as u64 * view.element.bits() as u64).div_ceil(8);
        let space = view.space.clone();
        if let Some(limit) = self.capacities.of(&space).filter(|limit| end > *limit) {
            return Err(
                self.error(op, format!("a buffer ends at byte {end} of space '{space}', which has {limit}"))
            );
        }
        // A new iteration declares anew: what the last one left is gone.
        self.release(buffer);
        self.places.insert(buffer, Place { space, start, end, state: State::Fresh });
        Ok(())
    }

    fn command(&mut self, op: OpId, access: &[Access]) -> Result<(), Diagnostic> {
        let accumulates =
            self.module.op(op).attributes.get("accumulate").and_then(Attribute::as_bool) == Some(true);
        for writes in [false, true] {
            for (slot, access) in access.iter().enumerate() {
                let Some(value) = self.module.operand_at(op, slot) else { continue };
                let buffer = self.root(value);
                if writes && access.writes() {
                    self.write(op, buffer)?;
                } else if !writes && (access.reads() || slot == 0 && accumulates) {
                    self.read(op, buffer)?;
                }
            }
        }
        let operation = self.module.op(op);
        let engine = operation.attributes.get("engine").and_then(Attribute::as_str);
        if operation.def == &tile::TRANSFER && engine.is_some_and(|engine| engine.starts_with("dma")) {
            let name = operation.attributes.get("name").and_then(Attribute::as_str).map(str::to_string);
            self.busy.push(Transfer {
                token: name.is_none().then(|| self.module.result(op)),
                name,
                destination: self.root(operation.operands[0]),
                source: self.root(operation.operands[1]),
            });
        }
        Ok(())
    }

    fn root(&self, mut value: ValueId) -> ValueId {
        while let Some(op) = self.module.producer_of(value, &tile::VIEW) {
            value = self.module.op(op).operands[0];
        }
        value
    }

    fn read(&mut self, op: OpId, buffer: ValueId) -> Result<(), Diagnostic> {
        let Some(place) = self.places.get(&buffer) else { return Ok(()) };
        let what = format!(
            "buffer {} [{}, {}) of space '{}'",
            self.label(buffer),
            place.start,
            place.end,
            place.space
        );
        match place.state {
            State::Lost(to) => {
                return Err(self.error(
                    op,
                    format!("{what} was overwritten by {} while it was still needed", self.label(to)),
                ));
            }
            State::Fresh => return Err(self.error(op, format!("{what} is read before it is written"))),
            State::Owner => {}
        }
        // Another transfer may write a different part of the same buffer (double buffering in halves), which only its views could
        // tell apart: two engines on one buffer are left to the interpreter's checks.
        Ok(())
    }

    fn write(&mut self, op: OpId, buffer: ValueId) -> Result<(), Diagnostic> {
        let Some(place) = self.places.get(&buffer).cloned() else { return Ok(()) };
        if let State::Lost(to) = place.state {
            let what = format!(
                "buffer {} is written again after {} took its bytes",
                self.label(buffer),
                self.label(to)
            );
            return Err(self.error(op, what));
        }
        if place.state == State::Owner || place.start == place.end {
            self.places.entry(buffer).and_modify(|place| place.state = State::Owner);
            return Ok(());
        }
        let owners = self.owners.entry(place.space.clone()).or_default();
        let victims: Vec<ValueId> = owners
            .range(..place.end)
            .filter(|(_, owner)| self.places.get(owner).is_some_and(|other| other.end > place.start))
            .map(|(_, owner)| *owner)
            .collect();
        for victim in &victims {
            let in_flight = self
                .busy
                .iter()
                .any(|transfer| transfer.destination == *victim || transfer.source == *victim);
            if in_flight {
                let what = format!(
                    "{} takes bytes that a transfer of {} still uses",
                    self.label(buffer),
                    self.label(*victim)
                );
                return Err(self.error(op, what));
            }
        }
        for victim in victims {
            self.places.entry(victim).and_modify(|other| other.state = State::Lost(buffer));
            self.release(victim);
        }
        self.owners.entry(place.space).or_default().insert(place.start, buffer);
        self.places.entry(buffer).and_modify(|place| place.state = State::Owner);
        Ok(())
    }

    /// Takes a buffer out of the owners.
    fn release(&mut self, buffer: ValueId) {
        let Some(place) = self.places.get(&buffer) else { return };
        let Some(owners) = self.owners.get_mut(&place.space) else { return };
        if owners.get(&place.start) == Some(&buffer) {
            owners.remove(&place.start);
        }
    }

    fn label(&self, buffer: ValueId) -> String {
        match &self.module.value(buffer).name {
            Some(name) => format!("%{name}"),
            None => format!("#{}", buffer.index()),
        }
    }

    fn error(&self, op: OpId, what: String) -> Diagnostic {
        let operation = self.module.op(op);
        Diagnostic::error(
            operation.location.clone(),
            format!("memory plan: '{}': {what}", operation.def.name),
        )
        .with_help(
            "this is a fault of the target's lowering or of the planner; please report it with the model",
        )
    }
}
