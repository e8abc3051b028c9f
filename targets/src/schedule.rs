//! Keeps DRAM busy between kernels: transfers that may come earlier start where DRAM would stand still, waits stand where they are needed.
//!
//! A lowering writes one kernel after the other, each from its first transfer to its last wait. Here a block's ops get one order: what has
//! an order keeps it, a wait goes down to the first op that meets its transfer, at most to the next loop, and a load into SRAM goes up to a
//! wait at which the sequencer would stand with DRAM idle ([`clock`]), over loops too, as far as what it touches allows ([`touched`]) and
//! SRAM has room for the longer life ([`room`]). The memory plan comes later. It must not know what commands compute.
//!
//! ```text
//! tile.transfer(%dram, %y) {name = "y"}                   tile.transfer(%dram, %y) {name = "y"}
//! tile.wait {name = "y"}                           =>     %w = tile.transfer(%b, %weight)
//! %x = tile.transfer(%a, %dram)                           tile.wait {name = "y"}
//! %w = tile.transfer(%b, %weight)                         %x = tile.transfer(%a, %dram)
//! ```

mod clock;
mod room;
mod segment;
#[cfg(test)]
mod tests;
mod touched;

use self::clock::Clock;
use self::room::Room;
use self::touched::Flights;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{BlockId, Module, OpId};
use tilewright_ir::op_def::Traits;
use tilewright_passes::machine::Machine;

/// Schedules a function's transfers; at most `sram_bytes` are alive at once where it makes lives longer. Gives whether
/// anything has another place now.
pub(crate) fn schedule_transfers(
    module: &mut Module,
    function: OpId,
    machine: &Machine,
    sram_bytes: u64,
) -> bool {
    let mut blocks = Vec::new();
    module.walk(function, &mut |op| {
        for region in &module.op(op).regions {
            blocks.extend(module.region(*region).blocks.iter().copied());
        }
    });
    let flights = Flights::of(module, function);
    let mut room = Room::of(module, function, sram_bytes);
    let mut clock = Clock::new(module, function, machine);
    let mut is_changed = false;
    for block in blocks {
        let ops = in_order(module, block, &flights, &mut room, &mut clock);
        is_changed |= ops != module.block(block).ops;
        module.set_block_ops(block, ops);
    }
    is_changed
}

/// The ops of a block in their new order.
fn in_order(
    module: &Module,
    block: BlockId,
    flights: &Flights,
    room: &mut Room,
    clock: &mut Clock,
) -> Vec<OpId> {
    let mut order = Vec::new();
    let mut rest = module.block(block).ops.as_slice();
    while !rest.is_empty() {
        let end = rest.iter().position(|op| is_border(module, *op)).unwrap_or(rest.len());
        clock.restart();
        segment::Segment::new(module, &rest[..end], flights).schedule(room, clock, &mut order);
        order.extend(rest.get(end));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    order
}

/// Nothing passes an end, or an op that changes what views mean or what runs after it.
fn is_border(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    let mut is_border = operation.def.is(Traits::TERMINATOR);
    module.walk(op, &mut |inner| {
        let def = module.op(inner).def;
        is_border |= def == &tile::LOOP || def == &tile::BREAK_UNLESS || def == &tile::SET_REGISTER;
    });
    is_border
}
