//! Executes a program: fetch, one match, call a kernel on resolved views.
//!
//! Commands are decoded ahead and loops are matched ahead ([`crate::control`]); nothing is allocated here. This file
//! knows commands, not operators, and no numerics: those are `kernels`. At most 300 lines.

use crate::commands::{Command, Engine, Kind, ViewId};
use crate::extension::{DESTINATIONS_MAX, Extension, SOURCES_MAX};
use crate::kernels::{Fault, index};
use crate::memory::{Destination, Memory, Source, Window, Workspace};
use crate::stream::Program;

mod dispatch;

/// When a DMA transfer's bytes move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferMode {
    /// When it is issued.
    #[default]
    Immediate,
    /// At the wait for its token: a program that forgets a wait, or reuses a buffer too early, computes wrong numbers.
    AtWait,
}

/// A transfer that was issued and not waited for.
pub(crate) struct Pending {
    token: u16,
    destination: Window,
    source: Window,
}

/// Everything one run needs. Built by the session for each run; borrows all its buffers.
pub(crate) struct Interpreter<'s> {
    pub(crate) program: &'s Program,
    pub(crate) jumps: &'s [u32],
    pub(crate) constants: &'s [u8],
    pub(crate) memory: &'s mut Memory,
    pub(crate) workspace: &'s mut Workspace,
    pub(crate) registers: &'s mut [i64],
    /// Ends of the loops that are open, innermost last.
    pub(crate) loops: &'s mut Vec<i64>,
    pub(crate) pending: &'s mut Vec<Pending>,
    pub(crate) mode: TransferMode,
    pub(crate) extension: Option<&'s dyn Extension>,
    /// Commands plus elements that may still be worked on.
    pub(crate) work_left: u64,
    /// How often the command at hand visits each element.
    pub(crate) visits: Visits,
}

/// How often a command visits each element of its largest operand.
#[derive(Clone, Copy)]
pub(crate) enum Visits {
    /// So many times.
    Times(u64),
    /// Each element of the destination takes a row of the first source: a matrix product.
    Rows,
    /// At most as often as its second largest operand has elements: other products.
    Product,
}

type Borrowed<'m, const W: usize, const R: usize, const O: usize> =
    ([Destination<'m>; W], [Source<'m>; R], [Option<Source<'m>>; O], &'m mut Workspace);

impl Interpreter<'_> {
    /// Runs to `end`.
    ///
    /// # Errors
    /// The index of the command that failed, and why.
    pub(crate) fn run(&mut self) -> Result<(), (usize, Fault)> {
        self.loops.clear();
        self.pending.clear();
        let program = self.program;
        let mut at = 0;
        while let Some(command) = program.commands.get(at) {
            self.spend(1).map_err(|fault| (at, fault))?;
            match self.step(at, command).map_err(|fault| (at, fault))? {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
        Err((at, Fault::Malformed("the program has no end")))
    }

    fn spend(&mut self, work: u64) -> Result<(), Fault> {
        self.work_left = self.work_left.checked_sub(work).ok_or(Fault::WorkLimit)?;
        Ok(())
    }

    fn window(&self, id: ViewId) -> Result<Window, Fault> {
        let view =
            self.program.views.get(id.0 as usize).ok_or(Fault::Malformed("a view id is out of range"))?;
        Window::resolve(view, self.registers, self.memory.size(view.space, self.constants))
    }

    fn value(&self, id: crate::commands::ExpressionId) -> Result<i64, Fault> {
        let expression = self.program.expressions.get(id.0 as usize);
        Ok(expression.ok_or(Fault::Malformed("an expression id is out of range"))?.evaluate(self.registers))
    }

    /// Resolves and borrows the views of one command.
    fn views<const W: usize, const R: usize, const O: usize>(
        &mut self,
        writes: [&ViewId; W],
        reads: [&ViewId; R],
        optional: [&Option<ViewId>; O],
    ) -> Result<Borrowed<'_, W, R, O>, Fault> {
        const { assert!(R + O <= SOURCES_MAX) };
        let (mut work, mut second) = (1u64, 1u64);
        let mut windows: [Option<Window>; W] = [const { None }; W];
        for (window, id) in windows.iter_mut().zip(writes) {
            *window = Some(self.window(*id)?);
        }
        let mut sources: [Option<Window>; SOURCES_MAX] = [const { None }; SOURCES_MAX];
        let ids = reads.into_iter().map(|id| Some(*id)).chain(optional.into_iter().copied());
        for (window, id) in sources.iter_mut().zip(ids) {
            *window = id.map(|id| self.window(id)).transpose()?;
        }
        for window in windows.iter().chain(&sources).flatten() {
            let elements = elements(window);
            second = second.max(work.min(elements));
            work = work.max(elements);
        }
        let windows = windows.map(|window| window.expect("filled above"));
        self.spend(match (self.visits, windows.first(), &sources[0]) {
            (Visits::Times(times), ..) => work.saturating_mul(times),
            (Visits::Rows, Some(destination), Some(a)) => {
                let row = a.dims().last().map_or(1, |&dim| dim as u64);
                work.max(elements(destination).saturating_mul(row))
            }
            _ => work.saturating_mul(second),
        })?;
        let (destinations, mut sources) = self.memory.borrow(self.constants, windows, sources)?;
        let mut next = sources.iter_mut().map(Option::take);
        let reads = [(); R].map(|()| next.next().flatten().expect("filled above"));
        let optional = [(); O].map(|()| next.next().flatten());
        Ok((destinations, reads, optional, self.workspace))
    }

    /// Executes one command; returns the index of the next, or none after `end`.
    fn step(&mut self, at: usize, command: &Command) -> Result<Option<usize>, Fault> {
        use Command as C;
        let jump = self.jumps.get(at).copied().unwrap_or(0) as usize;
        self.visits = match command {
            C::Pool { kernel, .. } => {
                Visits::Times(kernel.iter().fold(1, |all: u64, &dim| all.saturating_mul(u64::from(dim))))
            }
            C::Matmul { .. } | C::MatmulInteger { .. } => Visits::Rows,
            _ if matches!(command.kind(), Kind::Matrix | Kind::Fused) => Visits::Product,
            _ => Visits::Times(1),
        };
        match command {
            C::End {} => {
                self.complete(|_| true)?;
                return Ok(None);
            }
            C::LoopBegin { register, end, .. } => {
                let end = self.value(*end)?;
                if end <= 0 {
                    return Ok(Some(jump + 1));
                }
                self.loops.push(end);
                self.set_register(register.0, 0)?;
            }
            C::LoopEnd {} => {
                let Some(C::LoopBegin { register, step, .. }) = self.program.commands.get(jump) else {
                    return Err(Fault::Malformed("a loop end without a loop"));
                };
                let end = self.loops.last().copied().ok_or(Fault::Malformed("a loop end outside a loop"))?;
                let next = self.registers[usize::from(register.0)].saturating_add(i64::from(*step).max(1));
                if next < end {
                    self.set_register(register.0, next)?;
                    return Ok(Some(jump + 1));
                }
                self.loops.pop();
            }
            C::BreakUnless { condition } => {
                if !self.condition(condition)? {
                    self.loops.pop();
                    return Ok(Some(jump + 1));
                }
            }
            C::IfBegin { condition } => {
                if !self.condition(condition)? {
                    return Ok(Some(jump + 1));
                }
            }
            C::Else {} => return Ok(Some(jump + 1)),
            C::IfEnd {} => {}
            C::SetRegister { register, source } => {
                let ([], [source], [], _) = self.views([], [source], [])?;
                if source.is_empty() {
                    return Err(Fault::Shape("set_register reads one element"));
                }
                let value = crate::kernels::lanes::load_integer(&source, 0);
                self.set_register(register.0, value)?;
            }
            C::StoreExpression { destination, value } => {
                let value = self.value(*value)?;
                let ([mut d], [], [], _) = self.views([destination], [], [])?;
                index::fill_integer(&mut d, value)?;
            }
            C::Transfer { engine, token, destination, source } => {
                let is_dma = matches!(engine, Engine::Dma0 | Engine::Dma1);
                if is_dma && self.mode == TransferMode::AtWait {
                    let (destination, source) = (self.window(*destination)?, self.window(*source)?);
                    self.pending.push(Pending { token: *token, destination, source });
                } else {
                    let ([mut d], [source], [], _) = self.views([destination], [source], [])?;
                    index::copy(&mut d, &source)?;
                }
            }
            C::Wait { token } => self.complete(|pending| pending.token == *token)?,
            C::Target { opcode, payload } => self.extended(*opcode, payload)?,
            _ => self.compute(command)?,
        }
        Ok(Some(at + 1))
    }

    fn condition(&mut self, view: &ViewId) -> Result<bool, Fault> {
        let ([], [source], [], _) = self.views([], [view], [])?;
        Ok(!source.is_empty() && crate::kernels::lanes::load_integer(&source, 0) != 0)
    }

    fn set_register(&mut self, register: u16, value: i64) -> Result<(), Fault> {
        let info =
            self.program.registers.get(usize::from(register)).ok_or(Fault::Malformed("no such register"))?;
        let (minimum, maximum) = (info.minimum, info.maximum);
        if !(minimum..=maximum).contains(&value) {
            return Err(Fault::Register { register, value, minimum, maximum });
        }
        *self.registers.get_mut(usize::from(register)).ok_or(Fault::Malformed("no such register"))? = value;
        Ok(())
    }

    /// Moves the bytes of pending transfers, in issue order.
    fn complete(&mut self, is_due: impl Fn(&Pending) -> bool) -> Result<(), Fault> {
        let mut result = Ok(());
        let (memory, constants) = (&mut *self.memory, self.constants);
        self.pending.retain(|pending| {
            if is_due(pending) && result.is_ok() {
                let (d, s) = (pending.destination.clone(), pending.source.clone());
                result = memory.borrow(constants, [d], [Some(s)]).and_then(|([mut d], [source])| {
                    index::copy(&mut d, source.as_ref().expect("one source was asked for"))
                });
            }
            !is_due(pending)
        });
        result
    }

    /// Executes a target's own command.
    fn extended(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Fault> {
        let extension = self.extension.ok_or(Fault::Malformed("no target executes this opcode"))?;
        let operands = extension.operands(opcode, payload).map_err(Fault::Extension)?;
        let count = operands.iter().filter(|operand| operand.0.writes()).count();
        let (mut writes, mut reads) = (Vec::new(), [const { None }; SOURCES_MAX]);
        for (index, (access, id)) in operands.into_iter().enumerate() {
            let window = self.window(id)?;
            match (access.writes(), index.checked_sub(count)) {
                (true, None) => writes.push(window),
                (false, Some(place)) if place < SOURCES_MAX => reads[place] = Some(window),
                _ => {
                    return Err(Fault::Malformed(
                        "a target's operands: destinations first, at most 4 and 8 sources",
                    ));
                }
            }
        }
        macro_rules! with {
            ($($count:literal)*) => {
                match writes.len() {
                    $($count => {
                        let mut writes = writes.into_iter();
                        let writes: [Window; $count] = std::array::from_fn(|_| writes.next().expect("counted"));
                        let (mut destinations, sources) = self.memory.borrow(self.constants, writes, reads)?;
                        let sources: Vec<Source<'_>> = sources.into_iter().flatten().collect();
                        extension.execute(opcode, payload, &mut destinations, &sources).map_err(Fault::Extension)
                    })*
                    _ => Err(Fault::Malformed("a target's command has too many destinations")),
                }
            };
        }
        const { assert!(DESTINATIONS_MAX == 4) };
        with!(0 1 2 3 4)
    }
}

fn elements(window: &Window) -> u64 {
    window.dims().iter().fold(1, |all, &dim| all.saturating_mul(dim.max(1) as u64))
}
