//! An estimate of each row's work from its tile ops: commands, multiply-accumulates and DRAM bytes, loops at their longest.
//!
//! The timing model of the runtime is the judge of time; this serves to compare rows of a table.

use crate::placement::{Cost, Placement};
use crate::range::Ranges;
use std::ops::Range;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{BlockId, Module, OpId};
use tilewright_ir::types::Type;

/// Fills in the costs. Row `i` made the ops with ids in `spans[i]`.
pub(super) fn estimate(module: &Module, function: OpId, spans: &[Range<usize>], placement: &mut Placement) {
    let mut costs = vec![Cost::default(); spans.len()];
    let mut ranges = Ranges::default();
    visit(module, module.entry(function, 0), 1, &mut ranges, &mut |op, count, ranges| {
        // Spans ascend and are disjoint: rows are lowered one after another.
        let row = spans.partition_point(|span| span.end <= op.index());
        if !spans.get(row).is_some_and(|span| span.contains(&op.index())) {
            return;
        }
        let cost = &mut costs[row];
        cost.commands = cost.commands.saturating_add(count);
        let (macs, bytes) = work(module, op, ranges);
        cost.macs = cost.macs.saturating_add(macs.saturating_mul(count));
        cost.dram_bytes = cost.dram_bytes.saturating_add(bytes.saturating_mul(count));
    });
    for (row, cost) in placement.rows.iter_mut().zip(costs) {
        row.cost = cost;
    }
}

fn visit(
    module: &Module,
    block: BlockId,
    count: u64,
    ranges: &mut Ranges,
    f: &mut impl FnMut(OpId, u64, &Ranges),
) {
    for op in &module.block(block).ops {
        let operation = module.op(*op);
        let int = |name: &str| operation.attributes.get(name).and_then(Attribute::as_int);
        if operation.def == &tile::REGISTER {
            let name = operation.attributes.get("name").and_then(Attribute::as_str).unwrap_or_default();
            ranges.insert(name, int("minimum").unwrap_or(0), int("maximum").unwrap_or(0));
        }
        let mut inner = count;
        if operation.def == &tile::FOR || operation.def == &tile::LOOP {
            let limit = operation.attributes.get("limit").and_then(Attribute::as_dim);
            let limit = limit.and_then(|limit| ranges.maximum(&limit)).unwrap_or(1).max(0);
            let step = int("step").unwrap_or(1).max(1);
            let variable =
                operation.attributes.get("variable").and_then(Attribute::as_str).unwrap_or_default();
            ranges.insert(variable, 0, (limit - 1).max(0) / step * step);
            inner = count.saturating_mul((limit as u64).div_ceil(step as u64));
        } else if tile::command_op(operation.def).is_some() {
            f(*op, count, ranges);
        }
        for region in &operation.regions {
            for inner_block in &module.region(*region).blocks {
                visit(module, *inner_block, inner, ranges, f);
            }
        }
    }
}

/// Multiply-accumulates and bytes outside the chip of one run of a command.
pub(crate) fn work(module: &Module, op: OpId, ranges: &Ranges) -> (u64, u64) {
    let operation = module.op(op);
    let elements = |slot: usize| -> u64 {
        let Some(Type::View(view)) = module.operand_at(op, slot).map(|value| module.ty(value)) else {
            return 0;
        };
        let dims = view.shape.iter().map(|dim| ranges.maximum(dim).unwrap_or(1).max(0) as u64);
        dims.fold(1, u64::saturating_mul)
    };
    let last = |slot: usize| -> u64 {
        let Some(Type::View(view)) = module.operand_at(op, slot).map(|value| module.ty(value)) else {
            return 0;
        };
        view.shape.last().and_then(|dim| ranges.maximum(dim)).unwrap_or(1).max(0) as u64
    };
    let macs = if operation.def == &tile::MATMUL || operation.def == &tile::MATMUL_INTEGER {
        // Two of four rows of a sparse weight take part.
        let of = if operation.def == &tile::MATMUL && module.operand_at(op, 6).is_some() { 2 } else { 1 };
        elements(0).saturating_mul(last(1) / of)
    } else if operation.def == &tile::ATTENTION {
        // q k^T and p v: rows * t * (d + e), with rows * d elements in q, t * e in v, t * d in k.
        let (q, accumulator) = (elements(3), elements(0));
        let keys = elements(5).checked_div(last(5)).unwrap_or(0);
        let batch = elements(1).checked_div(last(1)).unwrap_or(1).max(1);
        q.saturating_add(accumulator).saturating_mul(keys / batch)
    } else if operation.def == &tile::CONVOLUTION || operation.def == &tile::CONV_TRANSPOSE {
        let outputs = match module.operand_at(op, 2).map(|value| module.ty(value)) {
            Some(Type::View(view)) => {
                view.shape.first().and_then(|dim| ranges.maximum(dim)).unwrap_or(1).max(1) as u64
            }
            _ => 1,
        };
        elements(0).saturating_mul(elements(2) / outputs)
    } else {
        0
    };
    let bytes = (0..operation.def.operands.len())
        .filter_map(|slot| Some((slot, module.ty(module.operand_at(op, slot)?).as_view()?)))
        .filter(|(_, view)| view.space != "sram" && view.space != "acc")
        .map(|(slot, view)| (elements(slot) * view.element.bits() as u64).div_ceil(8))
        .sum();
    (macs, bytes)
}
