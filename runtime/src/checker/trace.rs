//! Finds waits that are missing, by walking a stream as it runs, with register values but without data.
//!
//! [`super::check`] is static and compares fixed on-chip addresses only; this follows every loop with its real bounds and compares the
//! exact bytes of strided views in every space. What is reported: bytes touched while a transfer to them is under way, or
//! written while one from them is; and a transfer that the program never waits for. Conditions count as true, breaks do not break,
//! registers set from memory take their largest value, as in [`crate::timing`]; host commands and targets' own are looked at alike.
//!
//! ```text
//! command 12 reads sram[0x0..0x400) while transfer 3 of command 9 to sram[0x0..0x400) is under way
//! ```

use crate::commands::{Access, Command, Engine, ViewId};
use crate::control::jump_table;
use crate::memory::Window;
use crate::stream::Program;
use std::collections::BTreeSet;
use std::ops::Range;

/// Contiguous pieces of a view that are told apart; a view of more pieces counts as everything between its first and last byte.
const PIECES_MAX: usize = 1 << 14;

/// A command that meets a transfer under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// The command; for a transfer that is never waited for, the end of the program.
    pub command: usize,
    /// The transfer's command.
    pub transfer: usize,
    /// In words.
    pub what: String,
}

/// One side of a transfer under way.
struct Side {
    token: u16,
    transfer: usize,
    is_destination: bool,
    window: Window,
}

/// What a walk showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// The first hazard; the walk ends there.
    pub hazard: Option<Hazard>,
    /// Waits at which a transfer of any bytes was under way.
    pub busy_waits: BTreeSet<usize>,
}

/// Walks `program` with values of its bound registers (others take their minimum) up to the first hazard.
///
/// # Errors
/// In words, when the program is malformed, a register does not exist, a view leaves its space, or more than `steps_max` commands run.
pub fn walk(program: &Program, registers: &[(&str, i64)], steps_max: u64) -> Result<Walked, String> {
    let jumps = jump_table(&program.commands).map_err(|(at, error)| format!("command {at}: {error}"))?;
    let mut values: Vec<i64> = program.registers.iter().map(|register| register.minimum).collect();
    for (name, value) in registers {
        let register = program.register(name).ok_or_else(|| format!("there is no register {name}"))?;
        values[usize::from(register.0)] = *value;
    }
    let mut trace = Trace { program, registers: values, under_way: Vec::new(), busy_waits: BTreeSet::new() };
    let hazard = trace.walk(&jumps, steps_max)?;
    Ok(Walked { hazard, busy_waits: trace.busy_waits })
}

struct Trace<'a> {
    program: &'a Program,
    registers: Vec<i64>,
    under_way: Vec<Side>,
    busy_waits: BTreeSet<usize>,
}

impl Trace<'_> {
    fn walk(&mut self, jumps: &[u32], steps_max: u64) -> Result<Option<Hazard>, String> {
        let program = self.program;
        let mut ends: Vec<i64> = Vec::new();
        let (mut at, mut steps) = (0, 0);
        while let Some(command) = program.commands.get(at) {
            steps += 1;
            if steps > steps_max {
                return Err(format!("the program runs more than {steps_max} commands"));
            }
            let jump = jumps[at] as usize;
            at = match command {
                Command::End {} => {
                    return Ok(self.under_way.first().map(|side| Hazard {
                        command: at,
                        transfer: side.transfer,
                        what: format!("the program ends before transfer {} is waited for", side.token),
                    }));
                }
                Command::LoopBegin { register, end, .. } => {
                    let end = &program.expressions[end.0 as usize];
                    let end = end.evaluate(&self.registers);
                    self.registers[usize::from(register.0)] = 0;
                    if end <= 0 {
                        jump + 1
                    } else {
                        ends.push(end);
                        at + 1
                    }
                }
                Command::LoopEnd {} => {
                    let Command::LoopBegin { register, step, .. } = &program.commands[jump] else {
                        return Err(format!("command {at} ends no loop"));
                    };
                    let next = self.registers[usize::from(register.0)] + i64::from(*step).max(1);
                    if ends.last().is_some_and(|end| next < *end) {
                        self.registers[usize::from(register.0)] = next;
                        jump + 1
                    } else {
                        ends.pop();
                        at + 1
                    }
                }
                Command::Else {} => jump + 1,
                _ => {
                    if let Some(hazard) = self.command(at, command)? {
                        return Ok(Some(hazard));
                    }
                    at + 1
                }
            };
        }
        Err("the program has no end".into())
    }

    fn command(&mut self, at: usize, command: &Command) -> Result<Option<Hazard>, String> {
        match command {
            Command::Wait { token } => {
                let before = self.under_way.len();
                self.under_way.retain(|side| side.token != *token);
                if self.under_way.len() < before {
                    self.busy_waits.insert(at);
                }
                return Ok(None);
            }
            Command::SetRegister { register, .. } => {
                let index = usize::from(register.0);
                self.registers[index] = self.program.registers[index].maximum;
            }
            _ => {}
        }
        let mut touched: Vec<(Access, ViewId)> = Vec::new();
        command.for_each_view(|_, access, view| touched.push((access, view)));
        for (access, view) in touched {
            let window = self.window(at, view)?;
            if let Some(side) = self
                .under_way
                .iter()
                .find(|side| (side.is_destination || access.writes()) && meet(&side.window, &window))
            {
                let (verb, direction) = (
                    if access.writes() { "writes" } else { "reads" },
                    if side.is_destination { "to" } else { "from" },
                );
                return Ok(Some(Hazard {
                    command: at,
                    transfer: side.transfer,
                    what: format!(
                        "{verb} {} while transfer {} of command {} {direction} {} is under way",
                        place(&window),
                        side.token,
                        side.transfer,
                        place(&side.window)
                    ),
                }));
            }
        }
        if let Command::Transfer { engine: Engine::Dma0 | Engine::Dma1, token, destination, source } = command
        {
            for (view, is_destination) in [(destination, true), (source, false)] {
                let window = self.window(at, *view)?;
                if !window.range().is_empty() {
                    self.under_way.push(Side { token: *token, transfer: at, is_destination, window });
                }
            }
        }
        Ok(None)
    }

    fn window(&self, at: usize, id: ViewId) -> Result<Window, String> {
        let view = &self.program.views[id.0 as usize];
        Window::resolve(view, &self.registers, isize::MAX as usize)
            .map_err(|fault| format!("command {at}: {fault}"))
    }
}

fn place(window: &Window) -> String {
    format!("{}[{:#x}..{:#x})", window.space, window.range().start, window.range().end)
}

/// Whether two views share a byte.
fn meet(a: &Window, b: &Window) -> bool {
    let (first, second) = (a.range(), b.range());
    let may = a.space == b.space && first.start < second.end && second.start < first.end;
    may && {
        let (a, b) = (pieces(a), pieces(b));
        let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
        loop {
            let (Some(one), Some(other)) = (left.peek(), right.peek()) else { return false };
            if one.start < other.end && other.start < one.end {
                return true;
            }
            if one.end <= other.start {
                left.next()
            } else {
                right.next()
            };
        }
    }
}

/// The contiguous pieces of a view, in order of address.
fn pieces(window: &Window) -> Vec<Range<usize>> {
    let bits = i64::from(window.element.bits());
    let mut axes: Vec<(i64, i64)> = window
        .dims()
        .iter()
        .zip(window.strides())
        .filter(|(dim, stride)| **dim > 1 && **stride != 0)
        .map(|(dim, stride)| (*dim as i64, stride.abs()))
        .collect();
    axes.sort_by_key(|(_, stride)| *stride);
    // Elements that lie side by side, from the innermost axis on.
    let mut side_by_side = 1;
    while let Some((dim, stride)) = axes.first().copied().filter(|(_, stride)| *stride <= side_by_side) {
        side_by_side += (dim - 1) * stride;
        axes.remove(0);
    }
    let count = axes.iter().fold(1usize, |count, (dim, _)| count.saturating_mul(*dim as usize));
    if count > PIECES_MAX {
        return vec![window.range()];
    }
    let mut starts = vec![0i64];
    for (dim, stride) in axes.iter().rev() {
        starts = starts.iter().flat_map(|start| (0..*dim).map(move |at| start + at * stride)).collect();
    }
    starts.sort_unstable();
    let base = window.range().start as i64;
    // Packed elements share their first and last byte with neighbours.
    let piece = |start: i64| {
        let (first, last) = (start * bits / 8, ((start + side_by_side) * bits + 7) / 8);
        (base + first) as usize..(base + last) as usize
    };
    starts.into_iter().map(piece).collect()
}
