//! Rejects a bad program before it runs.
//!
//! What is checked, for every command and for all values the registers can take:
//! - table ids, registers and numbers are in range; loops and conditions nest; `end` is last and only there
//! - a register is used only where it has a value: bound by the caller, set before, or the counter of an open loop
//! - every view stays inside its space (`bounds`); nothing writes the constants
//! - engines do work of their kind, and the matrix and vector engines reach only on-chip memory
//! - element types and ranks suit the command (`signatures`)
//! - tokens that are waited for are issued; on-chip data is not touched while a transfer to it is under way (`hazards`)
//! - inputs, outputs and states have unique names and fit their spaces; sizes are within the caller's limits
//!
//! Not checked: that a program computes what its model says; that extents which depend on registers agree (kernels check that
//! when they run); hazards in DRAM and at addresses that move, which [`trace`] finds for given register values. The interpreter checks
//! bounds again on every use.

mod bounds;
mod hazards;
mod signatures;
pub mod trace;

use crate::commands::{Access, Command, Engine, Register, ViewId};
use crate::control::jump_table;
use crate::extension::Extension;
use crate::stream::{Binding, Program};
use crate::view::{Expression, Space, View};
use bounds::{Loop, Ranges};
use std::collections::BTreeSet;

/// Largest absolute value of a coefficient, stride, constant or register: 2^44, far above any address, so that the checker's
/// own arithmetic in i128 cannot overflow.
pub const NUMBER_MAX: i64 = 1 << 44;

/// What the caller allows.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of each space, by tag.
    pub space_bytes_max: [u64; Space::COUNT],
    /// Whether commands on the matrix and vector engines must stay on the chip.
    pub engines_stay_on_chip: bool,
}

impl Default for Limits {
    /// 1 TiB of constants, 64 GiB of DRAM-like spaces, 1 GiB on the chip.
    fn default() -> Limits {
        const GIB: u64 = 1 << 30;
        Limits {
            space_bytes_max: [1024 * GIB, 64 * GIB, 64 * GIB, 64 * GIB, GIB, GIB],
            engines_stay_on_chip: true,
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {message}", place(.command), located(.location))]
pub struct CheckError {
    /// Index of the command; none for the tables.
    pub command: Option<usize>,
    /// Name in the source model.
    pub location: Option<String>,
    /// What is wrong.
    pub message: String,
}

fn place(command: &Option<usize>) -> String {
    command.map_or_else(|| "tables".to_owned(), |index| format!("command {index}"))
}

fn located(location: &Option<String>) -> String {
    location.as_ref().map_or_else(String::new, |location| format!(" ({location})"))
}

/// Findings are collected up to this many; a broken generator otherwise repeats one for every command.
const FINDINGS_MAX: usize = 32;

/// Checks a program against the size of the constants and the caller's limits.
///
/// # Errors
/// All findings, at most 32, in order of commands.
pub fn check(
    program: &Program,
    constant_bytes: u64,
    limits: &Limits,
    extension: Option<&dyn Extension>,
) -> Result<(), Vec<CheckError>> {
    let mut checker = Checker { program, constant_bytes, limits, extension, findings: Vec::new() };
    checker.tables();
    if checker.findings.is_empty() {
        match jump_table(&program.commands) {
            Err((command, error)) => checker.find(Some(command), error.to_string()),
            Ok(jumps) => {
                checker.commands();
                if checker.findings.is_empty() {
                    for (command, message) in hazards::find(program, &jumps) {
                        checker.find(Some(command), message);
                    }
                }
            }
        }
    }
    if checker.findings.is_empty() { Ok(()) } else { Err(checker.findings) }
}

struct Checker<'a> {
    program: &'a Program,
    constant_bytes: u64,
    limits: &'a Limits,
    extension: Option<&'a dyn Extension>,
    findings: Vec<CheckError>,
}

impl Checker<'_> {
    fn find(&mut self, command: Option<usize>, message: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            let location = command.and_then(|command| self.program.location(command)).map(str::to_owned);
            self.findings.push(CheckError { command, location, message: message.into() });
        }
    }

    /// Everything that is not a command.
    fn tables(&mut self) {
        let program = self.program;
        for space in Space::ALL {
            let (bytes, most) =
                (program.space_bytes[space as usize], self.limits.space_bytes_max[space as usize]);
            if bytes > most {
                self.find(None, format!("{space} needs {bytes} bytes, allowed are {most}"));
            }
        }
        let needed = program.space_bytes[Space::Constant as usize];
        if needed > self.constant_bytes {
            let given = self.constant_bytes;
            self.find(None, format!("the program needs {needed} bytes of constants, there are {given}"));
        }
        let mut names = BTreeSet::new();
        for (index, register) in program.registers.iter().enumerate() {
            let in_range = |number: i64| number.unsigned_abs() <= NUMBER_MAX as u64;
            if register.minimum > register.maximum
                || !in_range(register.minimum)
                || !in_range(register.maximum)
            {
                self.find(None, format!("register r{index} has no valid range"));
            }
            if register.is_bound && !names.insert(&register.name) {
                self.find(None, format!("two registers are named {:?}", register.name));
            }
        }
        if program.registers.len() > usize::from(u16::MAX) {
            self.find(None, "too many registers");
        }
        for (index, expression) in program.expressions.iter().enumerate() {
            if !self.is_expression(expression) {
                self.find(
                    None,
                    format!("expression {index} names a missing register or has too large numbers"),
                );
            }
        }
        for (index, view) in program.views.iter().enumerate() {
            if !self.is_view(view) {
                self.find(None, format!("view {index} names a missing register or has too large numbers"));
            }
        }
        self.bindings();
    }

    fn is_expression(&self, expression: &Expression) -> bool {
        let in_range = |number: i64| number.unsigned_abs() <= NUMBER_MAX as u64;
        in_range(expression.constant_part())
            && expression.terms().iter().all(|&(register, coefficient)| {
                usize::from(register.0) < self.program.registers.len() && in_range(coefficient)
            })
    }

    fn is_view(&self, view: &View) -> bool {
        view.dims.len() == view.strides.len()
            && view.dims.len() <= crate::view::RANK_MAX
            && self.is_expression(&view.base_bytes)
            && view.dims.iter().filter_map(|dim| dim.bound.as_ref()).all(|bound| self.is_expression(bound))
            && view.strides.iter().all(|stride| stride.unsigned_abs() <= NUMBER_MAX as u64)
    }

    fn bindings(&mut self) {
        let program = self.program;
        let states = program.states.iter();
        let fed = program.inputs.iter().chain(states.clone().map(|state| &state.input));
        let given = program.outputs.iter().chain(states.map(|state| &state.output));
        let ranges = Ranges::new(&program.registers);
        let mut names = BTreeSet::new();
        for (is_input, binding) in
            fed.map(|binding| (true, binding)).chain(given.map(|binding| (false, binding)))
        {
            let Binding { name, view } = binding;
            if !names.insert((is_input, name)) {
                self.find(None, format!("two inputs or two outputs are named {name:?}"));
            }
            if !self.is_view(view) {
                self.find(None, format!("{name:?} names a missing register or has too large numbers"));
            } else if let Err(message) = bounds::check_view(view, self.size(view.space), &ranges, &[]) {
                self.find(None, format!("{name:?}: {message}"));
            }
            if is_input && view.space == Space::Constant {
                self.find(None, format!("{name:?} is an input in the constants"));
            }
        }
        for state in &program.states {
            let (input, output) = (&state.input.view, &state.output.view);
            let agree = input.element == output.element && input.rank() == output.rank();
            if input.space != Space::State || output.space != Space::State || !agree {
                self.find(None, format!("state {:?} is not one tensor in state memory", state.input.name));
            }
            if state.growing_axis.is_some_and(|axis| usize::from(axis) >= input.rank()) {
                self.find(
                    None,
                    format!("state {:?} grows along a dimension it does not have", state.input.name),
                );
            }
        }
    }

    fn size(&self, space: Space) -> u64 {
        if space == Space::Constant { self.constant_bytes } else { self.program.space_bytes[space as usize] }
    }

    /// Every command, with the loops open around it.
    fn commands(&mut self) {
        let program = self.program;
        let ranges = Ranges::new(&program.registers);
        let mut has_value: Vec<bool> = program.registers.iter().map(|register| register.is_bound).collect();
        let mut open: Vec<Option<Loop<'_>>> = Vec::new();
        let mut context = 0u32;
        let mut proven: BTreeSet<(u32, ViewId)> = BTreeSet::new();
        let issued: BTreeSet<u16> = program.commands.iter().filter_map(token_of).collect();
        for (index, command) in program.commands.iter().enumerate() {
            let at = Some(index);
            match command {
                Command::LoopBegin { register, end, step } => {
                    let Some(end) = program.expressions.get(end.0 as usize) else {
                        self.find(at, "an expression id is out of range");
                        return;
                    };
                    if let Err(message) = self.check_expression(end, &has_value) {
                        self.find(at, message);
                    }
                    if let Err(message) = self.check_scratch(*register, &open) {
                        self.find(at, message);
                        return;
                    }
                    if *step == 0 {
                        self.find(at, "the step of a loop must be at least 1");
                    }
                    has_value[usize::from(register.0)] = true;
                    open.push(Some(Loop { register: *register, end, step: *step }));
                    context += 1;
                    continue;
                }
                Command::LoopEnd {} => {
                    if let Some(Some(closed)) = open.pop() {
                        has_value[usize::from(closed.register.0)] = false;
                    }
                    context += 1;
                    continue;
                }
                Command::IfBegin { .. } => open.push(None),
                Command::IfEnd {} => {
                    open.pop();
                }
                Command::SetRegister { register, .. } => match self.check_scratch(*register, &open) {
                    Ok(()) => has_value[usize::from(register.0)] = true,
                    Err(message) => self.find(at, message),
                },
                Command::Wait { token } if !issued.contains(token) => {
                    self.find(at, format!("waits for token {token}, which no transfer has"));
                }
                _ => {}
            }
            let loops: Vec<Loop<'_>> = open.iter().flatten().cloned().collect();
            self.operands(index, command, &ranges, &loops, &has_value, context, &mut proven);
        }
    }

    fn check_scratch(&self, register: Register, open: &[Option<Loop<'_>>]) -> Result<(), &'static str> {
        match self.program.registers.get(usize::from(register.0)) {
            None => Err("the register does not exist"),
            Some(info) if info.is_bound => Err("a bound register cannot be written"),
            Some(_) if open.iter().flatten().any(|outer| outer.register == register) => {
                Err("the register counts a loop that is open")
            }
            Some(_) => Ok(()),
        }
    }

    fn check_expression(&self, expression: &Expression, has_value: &[bool]) -> Result<(), String> {
        match expression.terms().iter().find(|(register, _)| !has_value[usize::from(register.0)]) {
            Some((register, _)) => Err(format!("register r{} has no value here", register.0)),
            None => Ok(()),
        }
    }

    /// Views, expressions, engine and element types of one command.
    #[allow(clippy::too_many_arguments, reason = "the state of one walk over the commands")]
    fn operands(
        &mut self,
        index: usize,
        command: &Command,
        ranges: &Ranges,
        loops: &[Loop<'_>],
        has_value: &[bool],
        context: u32,
        proven: &mut BTreeSet<(u32, ViewId)>,
    ) {
        let at = Some(index);
        let mut touched: Vec<(Access, ViewId)> = Vec::new();
        command.for_each_view(|_, access, view| touched.push((access, view)));
        if let Command::Target { opcode, payload } = command {
            match self.extension.map(|extension| extension.operands(*opcode, payload)) {
                None => self.find(at, format!("opcode {opcode:#04x} needs a target's extension")),
                Some(Err(message)) => self.find(at, message),
                Some(Ok(operands)) => touched.extend(operands),
            }
        }
        if let Some(engine) = command.engine().filter(|&engine| !command.kind().runs_on(engine)) {
            self.find(at, format!("{} does not run on engine {engine}", command.name()));
        }
        for &(access, id) in &touched {
            let Some(view) = self.program.views.get(id.0 as usize) else {
                self.find(at, "a view id is out of range");
                return;
            };
            if access.writes() && view.space == Space::Constant {
                self.find(at, "the constants cannot be written");
            }
            let is_npu = matches!(command.engine(), Some(Engine::Matrix | Engine::Vector));
            if is_npu && self.limits.engines_stay_on_chip && !view.space.is_on_chip() {
                self.find(
                    at,
                    format!("{} on the chip's engines cannot reach {}", command.name(), view.space),
                );
            }
            if proven.insert((context, id)) {
                let bounds = view.dims.iter().filter_map(|dim| dim.bound.as_ref());
                let result = bounds
                    .chain([&view.base_bytes])
                    .try_for_each(|expression| self.check_expression(expression, has_value))
                    .and_then(|()| bounds::check_view(view, self.size(view.space), ranges, loops));
                if let Err(message) = result {
                    proven.remove(&(context, id));
                    self.find(
                        at,
                        format!("{message}, in {}", crate::disassemble::view_to_text(self.program, view)),
                    );
                }
            }
        }
        for id in signatures::expressions(command) {
            match self.program.expressions.get(id.0 as usize) {
                None => self.find(at, "an expression id is out of range"),
                Some(expression) => {
                    if let Err(message) = self.check_expression(expression, has_value) {
                        self.find(at, message);
                    }
                }
            }
        }
        if let Err(message) = signatures::check(self.program, command) {
            self.find(at, format!("{}: {message}", command.name()));
        }
    }
}

fn token_of(command: &Command) -> Option<u16> {
    match command {
        Command::Transfer { token, .. } => Some(*token),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
