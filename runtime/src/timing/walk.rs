//! The commands of a program in the order in which they are executed, with the registers' values.
//!
//! It knows loops and conditions, no engine and no cost. Data is not looked at: conditions count as true, breaks do not break.

use super::{Request, TimingError};
use crate::commands::{Access, Command, ViewId};
use crate::control::jump_table;
use crate::memory::Window;
use crate::stream::Program;

/// An operand: the field's name, how it is touched, where it lies.
pub(super) type Operand = (&'static str, Access, Window);

/// Calls `visit(index, command, registers)` for every command executed, control commands included, up to `end`.
pub(super) fn walk(
    program: &Program,
    request: &Request<'_>,
    mut visit: impl FnMut(usize, &Command, &[i64]) -> Result<(), TimingError>,
) -> Result<(), TimingError> {
    let jumps = jump_table(&program.commands).map_err(|_| TimingError::Malformed)?;
    let mut registers = bound_registers(program, request.registers)?;
    let mut ends: Vec<i64> = Vec::new();
    let mut at = 0;
    let mut steps_left = request.steps_max;
    while let Some(command) = program.commands.get(at) {
        let too_long = TimingError::TooLong { steps_max: request.steps_max };
        steps_left = steps_left.checked_sub(1).ok_or(too_long)?;
        if let Command::SetRegister { register, .. } = command {
            let info = program.registers.get(usize::from(register.0)).ok_or(TimingError::Malformed)?;
            registers[usize::from(register.0)] = info.maximum;
        }
        visit(at, command, &registers)?;
        let jump = jumps[at] as usize;
        at = match command {
            Command::End {} => return Ok(()),
            Command::LoopBegin { register, end, .. } => {
                let end = program.expressions.get(end.0 as usize).ok_or(TimingError::Malformed)?;
                let end = end.evaluate(&registers);
                if end <= 0 {
                    jump + 1
                } else {
                    ends.push(end);
                    *registers.get_mut(usize::from(register.0)).ok_or(TimingError::Malformed)? = 0;
                    at + 1
                }
            }
            Command::LoopEnd {} => match &program.commands[jump] {
                Command::LoopBegin { register, step, .. } => {
                    let counter = &mut registers[usize::from(register.0)];
                    let next = *counter + i64::from(*step).max(1);
                    if ends.last().is_some_and(|&end| next < end) {
                        *counter = next;
                        jump + 1
                    } else {
                        ends.pop();
                        at + 1
                    }
                }
                _ => return Err(TimingError::Malformed),
            },
            Command::Else {} => jump + 1,
            _ => at + 1,
        };
    }
    Err(TimingError::Malformed)
}

/// The registers at the start: bound ones as given, others at their minimum.
fn bound_registers(program: &Program, given: &[(&str, i64)]) -> Result<Vec<i64>, TimingError> {
    let mut registers: Vec<i64> = program.registers.iter().map(|register| register.minimum).collect();
    for &(name, value) in given {
        let register = program.register(name).filter(|register| {
            let info = &program.registers[usize::from(register.0)];
            (info.minimum..=info.maximum).contains(&value)
        });
        let unknown = || TimingError::Register { name: name.to_owned(), value };
        registers[usize::from(register.ok_or_else(unknown)?.0)] = value;
    }
    Ok(registers)
}

/// The operands of a command, for these registers.
pub(super) fn operands(
    program: &Program,
    command: &Command,
    registers: &[i64],
) -> Result<Vec<Operand>, TimingError> {
    let window = |id: ViewId| {
        let view = program.views.get(id.0 as usize)?;
        Window::resolve(view, registers, isize::MAX as usize).ok()
    };
    let mut found = Vec::new();
    let mut is_malformed = false;
    command.for_each_view(|name, access, id| match window(id) {
        Some(window) => found.push((name, access, window)),
        None => is_malformed = true,
    });
    if is_malformed { Err(TimingError::Malformed) } else { Ok(found) }
}
