//! Where control commands jump: matched loops and conditions of a program.
//!
//! Checker, interpreter and timing model share this. It must not know what other commands do.

use crate::commands::Command;

/// Why loops and conditions do not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NestingError {
    /// `loop_end`, `else` or `if_end` without its beginning.
    #[error("nothing to close here")]
    NothingToClose,
    /// A loop closed by `if_end` or a condition by `loop_end`.
    #[error("loops and conditions overlap")]
    Overlap,
    /// `break_unless` outside a loop.
    #[error("no loop to leave")]
    NoLoop,
    /// A loop or condition that is not closed.
    #[error("not closed before the end of the program")]
    NotClosed,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Commands after `end`, or no `end`.
    #[error("`end` must be the last command, and only that")]
    End,
}

/// Deepest nesting of loops and conditions. Generated tile loops nest at most six deep; the rest is room.
pub const DEPTH_MAX: usize = 32;

/// Per command the index it jumps to: a loop's beginning and end name each other, a break its loop's end, `if_begin` its `else` or
/// `if_end`, `else` its `if_end`. Other commands name themselves.
///
/// # Errors
/// The command that does not match, and why.
pub fn jump_table(commands: &[Command]) -> Result<Vec<u32>, (usize, NestingError)> {
    let mut jumps: Vec<u32> = (0..commands.len() as u32).collect();
    let mut open: Vec<usize> = Vec::new();
    let mut breaks: Vec<usize> = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let fail = |error| Err((index, error));
        match command {
            Command::LoopBegin { .. } | Command::IfBegin { .. } => {
                if open.len() == DEPTH_MAX {
                    return fail(NestingError::TooDeep);
                }
                open.push(index);
            }
            Command::BreakUnless { .. } => breaks.push(index),
            Command::LoopEnd {} => {
                let Some(begin) = open.pop() else { return fail(NestingError::NothingToClose) };
                if !matches!(commands[begin], Command::LoopBegin { .. }) {
                    return fail(NestingError::Overlap);
                }
                jumps[begin] = index as u32;
                jumps[index] = begin as u32;
                while breaks.last().is_some_and(|&inner| inner > begin) {
                    if let Some(inner) = breaks.pop() {
                        jumps[inner] = index as u32;
                    }
                }
            }
            Command::Else {} | Command::IfEnd {} => {
                let Some(begin) = open.pop() else { return fail(NestingError::NothingToClose) };
                let is_else = matches!(command, Command::Else {});
                match commands[begin] {
                    Command::IfBegin { .. } => {}
                    Command::Else {} if !is_else => {}
                    _ => return fail(NestingError::Overlap),
                }
                jumps[begin] = index as u32;
                if is_else {
                    open.push(index);
                }
            }
            Command::End {} if index + 1 != commands.len() => return fail(NestingError::End),
            _ => {}
        }
    }
    if let Some(&unclosed) = open.last() {
        return Err((unclosed, NestingError::NotClosed));
    }
    if let Some(&stray) = breaks.last() {
        return Err((stray, NestingError::NoLoop));
    }
    if !matches!(commands.last(), Some(Command::End {})) {
        return Err((commands.len().saturating_sub(1), NestingError::End));
    }
    Ok(jumps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{ExpressionId, Register, ViewId};

    #[test]
    fn partners_find_each_other() {
        let begin = Command::LoopBegin { register: Register(0), end: ExpressionId(0), step: 1 };
        let condition = ViewId(0);
        let commands = [
            begin.clone(),
            Command::IfBegin { condition },
            Command::BreakUnless { condition },
            Command::Else {},
            Command::IfEnd {},
            Command::LoopEnd {},
            Command::End {},
        ];
        assert_eq!(jump_table(&commands), Ok(vec![5, 3, 5, 4, 4, 0, 6]));
        let crossed = [begin.clone(), Command::IfBegin { condition }, Command::LoopEnd {}, Command::End {}];
        assert_eq!(jump_table(&crossed), Err((2, NestingError::Overlap)));
        assert_eq!(jump_table(&[begin, Command::End {}]), Err((0, NestingError::NotClosed)));
        assert_eq!(
            jump_table(&[Command::LoopEnd {}, Command::End {}]),
            Err((0, NestingError::NothingToClose))
        );
        let stray = [Command::BreakUnless { condition }, Command::End {}];
        assert_eq!(jump_table(&stray), Err((0, NestingError::NoLoop)));
        assert_eq!(jump_table(&[]), Err((0, NestingError::End)));
    }
}
