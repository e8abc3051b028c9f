//! Finds on-chip data that is touched while a DMA transfer to it (or from it) is under way.
//!
//! The program is walked once in order, loop bodies twice, so that a transfer issued late in one iteration meets the commands that
//! come early in the next. Only fixed on-chip addresses are compared: what is reported is a fault, but not every fault is
//! found. Running with [`crate::interpreter::TransferMode::AtWait`] shows the others as wrong numbers.

use crate::commands::{Access, Command, Engine, ViewId};
use crate::stream::Program;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One side of a transfer that is under way.
#[derive(Clone, PartialEq)]
struct Side {
    space: u8,
    bytes: Range<i64>,
    is_destination: bool,
}

/// Findings: command and message.
pub(super) fn find(program: &Program, jumps: &[u32]) -> Vec<(usize, String)> {
    let ranges: Vec<Option<(u8, Range<i64>)>> = program.views.iter().map(fixed_range).collect();
    let mut walk = Walk { program, ranges, under_way: BTreeMap::new(), found: BTreeMap::new() };
    walk.walk(jumps);
    walk.found.into_iter().collect()
}

/// The bytes of a view whose address does not depend on registers, at its caps; on-chip spaces only.
fn fixed_range(view: &crate::view::View) -> Option<(u8, Range<i64>)> {
    let base = view.base_bytes.as_constant().filter(|_| view.space.is_on_chip())?;
    let (mut low, mut high) = (0i64, 0i64);
    for (dim, stride) in view.dims.iter().zip(&view.strides) {
        let reach = (i64::from(dim.cap) - 1).max(0).saturating_mul(*stride);
        low = low.saturating_add(reach.min(0));
        high = high.saturating_add(reach.max(0));
    }
    let bits = i64::from(view.element.bits());
    let start = base.saturating_add(low.saturating_mul(bits).div_euclid(8));
    let end =
        base.saturating_add(high.saturating_add(1).saturating_mul(bits).saturating_add(7).div_euclid(8));
    Some((view.space as u8, start..end))
}

struct Walk<'a> {
    program: &'a Program,
    ranges: Vec<Option<(u8, Range<i64>)>>,
    under_way: BTreeMap<u16, Vec<Side>>,
    found: BTreeMap<usize, String>,
}

impl Walk<'_> {
    /// In order; each loop end goes back once for every time the loop is entered.
    fn walk(&mut self, jumps: &[u32]) {
        let mut second_time: BTreeSet<usize> = BTreeSet::new();
        // Nested loops double per level; the fuel keeps hostile nesting cheap and is far above real programs' needs.
        let mut fuel = self.program.commands.len().saturating_mul(64);
        let mut at = 0;
        while let Some(command) = self.program.commands.get(at) {
            fuel = match fuel.checked_sub(1) {
                Some(left) => left,
                None => return,
            };
            if matches!(command, Command::LoopEnd {}) {
                if second_time.insert(at) {
                    at = jumps[at] as usize + 1;
                    continue;
                }
                second_time.remove(&at);
            }
            self.command(at, command);
            at += 1;
        }
    }

    fn command(&mut self, at: usize, command: &Command) {
        match command {
            Command::Wait { token } => {
                self.under_way.remove(token);
            }
            Command::Transfer { engine: Engine::Dma0 | Engine::Dma1, token, destination, source } => {
                self.touch(at, Access::Write, *destination);
                self.touch(at, Access::Read, *source);
                let side = |id: &ViewId, is_destination| {
                    let (space, bytes) = self.ranges.get(id.0 as usize)?.clone()?;
                    Some(Side { space, bytes, is_destination })
                };
                let sides = [side(destination, true), side(source, false)].into_iter().flatten().collect();
                self.under_way.insert(*token, sides);
            }
            // Either branch may run: what an `else` branch waits for counts as waited. Targets' commands are opaque.
            _ => command.for_each_view(|_, access, view| self.touch(at, access, view)),
        }
    }

    fn touch(&mut self, at: usize, access: Access, view: ViewId) {
        let Some(Some((space, bytes))) = self.ranges.get(view.0 as usize) else { return };
        for (token, sides) in &self.under_way {
            let clash = sides.iter().find(|side| {
                side.space == *space
                    && side.bytes.start < bytes.end
                    && bytes.start < side.bytes.end
                    && (side.is_destination || access.writes())
            });
            if let Some(side) = clash {
                let verb = if access.writes() { "writes" } else { "reads" };
                let direction = if side.is_destination { "to" } else { "from" };
                let message = format!(
                    "{verb} on-chip bytes {bytes:?} while transfer {token} {direction} {:?} is under way",
                    side.bytes
                );
                self.found.entry(at).or_insert(message);
            }
        }
    }
}
