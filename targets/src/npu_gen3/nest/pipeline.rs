//! The innermost loop of a nest: two buffers for each tile that comes in, and the next tile on its way while one is computed. It may run in
//! two stretches, which share buffers.
//!
//! ```text
//! transfer a0 <- x[0..]; for i by two tiles { transfer a1; wait a0; body(a0); transfer a0; wait a1; body(a1) }; wait a0
//! ```

use super::{UNROLLED_TILES_MAX, Writer, fit, is_on_chip, tile_buffer, tile_loop};
use crate::lowering::{LoweringContext, engine};
use crate::view::View;
use tilewright_ir::dim::Dim;

/// The part of the innermost axis that is written.
pub(super) struct Stretch {
    /// Its first step.
    pub(super) first: i64,
    /// The step behind its last.
    pub(super) end: Dim,
    /// Loads that are not there.
    pub(super) absent: Vec<usize>,
}

/// A load that streams, with its buffers for even and odd tiles.
struct Stream {
    load: usize,
    buffers: [View; 2],
}

/// A tile of the innermost loop.
#[derive(Clone, Copy)]
struct TileAt<'d> {
    /// Which of two buffers it is in.
    slot: usize,
    start: &'d Dim,
    /// How many tiles the iteration has taken with this one; 0 when it may lie past the end.
    group: i64,
}

impl Writer<'_, '_> {
    /// The innermost loop, by two tiles, with the next tiles under way.
    pub(super) fn pipeline(&mut self, context: &mut LoweringContext) -> Result<(), String> {
        let axis = self.loops[self.loops.len() - 1];
        let saved = self.places[axis].clone();
        let mut streams = Vec::new();
        for (load, tensor) in self.nest.loads.iter().enumerate() {
            if self.load_depths[load] == self.loops.len() && !is_on_chip(context, &tensor.view) {
                let mut buffer = || tile_buffer(context, tensor, &self.places);
                streams.push(Stream { load, buffers: [buffer()?, buffer()?] });
            }
        }
        let end = self.nest.extents[axis].clone();
        let stretches = match &self.nest.cut {
            None => vec![Stretch { first: 0, end, absent: vec![] }],
            Some(cut) => vec![
                Stretch { first: 0, end: Dim::Known(cut.at), absent: cut.only[1].clone() },
                Stretch { first: cut.at, end, absent: cut.only[0].clone() },
            ],
        };
        for stretch in stretches {
            let here: Vec<&Stream> =
                streams.iter().filter(|stream| !stretch.absent.contains(&stream.load)).collect();
            self.stretch = Some(stretch);
            self.stream(context, &here)?;
        }
        self.stretch = None;
        self.places[axis] = saved;
        Ok(())
    }

    /// The loop over a stretch.
    fn stream(&mut self, context: &mut LoweringContext, streams: &[&Stream]) -> Result<(), String> {
        let axis = self.loops[self.loops.len() - 1];
        let tile = self.nest.tiles[axis];
        let stretch = self.stretch.as_ref().ok_or("a loop over no stretch")?;
        let (first, length) = (Dim::Known(stretch.first), &stretch.end - &Dim::Known(stretch.first));
        self.start(context, streams, TileAt { slot: 0, start: &first, group: 0 })?;
        let two = Dim::Known(2 * tile);
        let pair = |writer: &mut Self, context: &mut LoweringContext, start: &Dim| {
            let (second, next) = (start + &Dim::Known(tile), start + &two);
            let odd = TileAt { slot: 1, start: &second, group: 2 };
            writer.start(context, streams, odd)?;
            writer.meet(context, streams, TileAt { slot: 0, start, group: 1 })?;
            writer.start(context, streams, TileAt { slot: 0, start: &next, group: 0 })?;
            writer.meet(context, streams, odd)
        };
        if let Some(length) = length.known().filter(|length| *length <= UNROLLED_TILES_MAX * tile) {
            for start in (0..length).step_by(2 * tile as usize) {
                pair(self, context, &(&first + &Dim::Known(start)))?;
            }
            return Ok(());
        }
        tile_loop(context, &length, tile, 2, |context, start| pair(self, context, &(&first + start)))?;
        // The last tile fetched ahead has no elements, but its buffer must be free when the loop is left.
        streams.iter().try_for_each(|stream| context.wait_named(&self.load_name(stream.load, 0)))
    }

    fn load_name(&self, index: usize, slot: usize) -> String {
        format!("{}.load{index}.{slot}", self.prefix)
    }

    /// Starts the transfers of a tile into the buffers of its slot.
    fn start(
        &mut self,
        context: &mut LoweringContext,
        streams: &[&Stream],
        tile: TileAt,
    ) -> Result<(), String> {
        let axis = self.loops[self.loops.len() - 1];
        let place = self.place(axis, tile.start, tile.group);
        if place.length == Dim::Known(0) {
            return Ok(());
        }
        let saved = std::mem::replace(&mut self.places[axis], place);
        for stream in streams {
            let part = self.nest.loads[stream.load].at(&self.places);
            let (inside, once, _) = fit(&stream.buffers[tile.slot], &part);
            let name = self.load_name(stream.load, tile.slot);
            context.start_named_transfer(engine::DMA0, &name, &inside, &once)?;
        }
        self.places[axis] = saved;
        Ok(())
    }

    /// Waits for a tile and computes on it.
    fn meet(
        &mut self,
        context: &mut LoweringContext,
        streams: &[&Stream],
        tile: TileAt,
    ) -> Result<(), String> {
        let axis = self.loops[self.loops.len() - 1];
        self.places[axis] = self.place(axis, tile.start, tile.group);
        if self.places[axis].length == Dim::Known(0) {
            return Ok(());
        }
        for stream in streams {
            context.wait_named(&self.load_name(stream.load, tile.slot))?;
            let part = self.nest.loads[stream.load].at(&self.places);
            self.loads[stream.load] = Some(fit(&stream.buffers[tile.slot], &part).2);
        }
        for index in (0..self.loads.len()).filter(|index| self.load_depths[*index] == self.loops.len()) {
            if self.stretch.as_ref().is_some_and(|stretch| stretch.absent.contains(&index)) {
                self.loads[index] = None;
            } else if !streams.iter().any(|stream| stream.load == index) {
                self.loads[index] = Some(self.nest.loads[index].at(&self.places));
            }
        }
        self.leaf(context, tile.slot)
    }
}
