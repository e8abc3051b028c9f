//! Ops that move elements: copies and gathers by DMA from DRAM to DRAM; sizes by the sequencer; index ramps through SRAM.
//!
//! What a view can say (reshape, transpose, slice, broadcast) takes no command at all; copies that are needed all the same are made
//! where the host lowerings make them, by this target's copy engine.
//!
//! ```text
//! core.concat(a, b)  =>  transfer dma0 y[..a] <- a; transfer dma0 y[a..] <- b
//! ```

use super::machine::limits;
use super::nest::{Nest, Step, Tiled, Tiles};
use crate::host;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject, engine};
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;
use tilewright_ir::op_def::OpDef;

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[
    as_copies(&core::CONCAT),
    as_copies(&core::PAD),
    as_copies(&core::SIZE),
    Lowering { subject: Subject::Op(&core::GATHER), place: place_gather, lower: lower_gather },
    Lowering { subject: Subject::Op(&core::GATHER_ELEMENTS), place: place_gather, lower: lower_gather },
    Lowering { subject: Subject::Op(&core::GATHER_ND), place: place_gather, lower: lower_gather },
    Lowering { subject: Subject::Op(&core::IOTA), place: |_| Ok(()), lower: lower_iota },
];

/// An op whose host lowering is copies alone: they run on the copy engine.
const fn as_copies(def: &'static OpDef) -> Lowering {
    Lowering { subject: Subject::Op(def), place: |_| Ok(()), lower: lower_copies }
}

fn lower_copies(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let def = context.op(op).def;
    let row = host::find(def).ok_or_else(|| format!("'{}' has no lowering", def.name))?;
    (row.lower)(context, op)
}

fn place_gather(context: &PlaceContext) -> Result<(), String> {
    match context.operand(1) {
        Some(indices) if matches!(indices.element, Element::I64 | Element::I32) => Ok(()),
        Some(indices) => Err(format!("a DMA engine reads indices of 32 or 64 bits, not {}", indices.element)),
        None => Err("the indices are no tensor".into()),
    }
}

fn lower_gather(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let (x, indices) = (context.operand(op, 0)?, context.operand(op, 1)?);
    let destination = context.destination(context.result(op, 0))?;
    let def = context.op(op).def;
    let fields = context.fields(op);
    let (command, field, number) = if def == &core::GATHER_ND {
        (&tile::GATHER_ND, "batch_dims", fields.int("batch_dims", 0))
    } else {
        let command = if def == &core::GATHER { &tile::GATHER } else { &tile::GATHER_ELEMENTS };
        (command, "axis", fields.axis("axis", 0, x.rank())? as i64)
    };
    let command = context.command(command, engine::DMA0).view(&destination).view(&x).view(&indices);
    command.attribute(field, number).emit()
}

fn lower_iota(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let destination = context.destination(context.result(op, 0))?;
    let axis = context.fields(op).axis("axis", 0, destination.rank())?;
    // Other axes one by one but the last, which is taken in tiles.
    let last = destination.rank() - 1;
    let tile_bytes = limits(context).sram_bytes as i64 / 4;
    let tile = (tile_bytes * 8 / destination.element.bits() as i64).max(1);
    let tiles = (0..=last).map(|at| if at == last { tile } else { 1 }).collect();
    let nest = Nest {
        extents: destination.dims.clone(),
        tiles,
        order: (0..=last).collect(),
        loads: vec![],
        results: vec![Tiled::in_order(destination)],
        result_axes: Vec::new(),
        is_pipelined: true,
        cut: None,
    };
    nest.run(
        context,
        &mut Step(|context: &mut LoweringContext, tiles: &Tiles| {
            let start = tiles.places[axis].start.clone();
            let command = context.command(&tile::IOTA, engine::VECTOR).view(tiles.result(0));
            command.attribute("axis", axis).dim("start", &start).attribute("step", 1i64).emit()
        }),
    )
}
