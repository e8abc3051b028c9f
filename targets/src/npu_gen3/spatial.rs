//! Windows over spatial dimensions: which input rows a tile of output rows reads, with how much padding. It must not know tiles of
//! channels.
//!
//! ```text
//! stride 2, window 3, padding 1: output rows 4..8 read input rows 7..16
//! ```

use crate::host::{cut_padding, zero_points};
use crate::lowering::{LoweringContext, engine};
use crate::view::View;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::module::OpId;

/// Which op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `core.convolution`.
    Plain,
    /// `core.conv_transpose`.
    Transposed,
    /// `core.pool`.
    Pool,
}

/// The windows of an op.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Which op.
    pub kind: Kind,
    /// Channel groups.
    pub groups: i64,
    window: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads_low: Vec<i64>,
    pads_high: Vec<i64>,
    function: String,
    count_include_pad: bool,
    /// What integers of x and w count from.
    zeros: [i64; 2],
}

/// Rows of x that some output rows read, and the padding beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsRead {
    /// The first.
    pub first: i64,
    /// How many.
    pub count: i64,
    /// Rows of padding before.
    pub pad_low: i64,
    /// Rows of padding after.
    pub pad_high: i64,
}

/// The input of a tile of output rows.
pub struct RowTile {
    /// The input rows.
    pub x: View,
    pads_low: Vec<i64>,
    pads_high: Vec<i64>,
}

impl Shape {
    /// Reads an op; negative padding is cut off x.
    ///
    /// # Errors
    /// When the window's size is not known.
    pub fn of(
        context: &LoweringContext,
        op: OpId,
        x: &View,
        w: Option<&View>,
    ) -> Result<(Shape, View), String> {
        let mut shape = Shape::read(context, op, x.rank() - 2, w.map(|w| w.dims.as_slice()))?;
        let x = match shape.kind {
            Kind::Transposed => x.clone(),
            _ => cut_padding(x, &mut shape.pads_low, &mut shape.pads_high),
        };
        Ok((shape, x))
    }

    /// Reads an op over `spatial` dimensions with weights of these dimensions.
    ///
    /// # Errors
    /// When the window's size is not known.
    pub fn read(
        context: &LoweringContext,
        op: OpId,
        spatial: usize,
        w: Option<&[Dim]>,
    ) -> Result<Shape, String> {
        let fields = context.fields(op);
        let def = context.op(op).def;
        let kind = match def {
            def if def == &core::POOL => Kind::Pool,
            def if def == &core::CONV_TRANSPOSE => Kind::Transposed,
            _ => Kind::Plain,
        };
        let window = match w {
            Some(dims) => dims[2..].iter().map(Dim::known).collect::<Option<Vec<i64>>>(),
            None => Some(fields.ints("kernel").to_vec()),
        };
        let shape = Shape {
            kind,
            groups: fields.int("groups", 1),
            window: window.ok_or("the window's size is not known")?,
            strides: fields.ints_or("strides", 1, spatial),
            dilations: fields.ints_or("dilations", 1, spatial),
            pads_low: fields.ints_or("pads_low", 0, spatial),
            pads_high: fields.ints_or("pads_high", 0, spatial),
            function: fields.text("function", "").to_string(),
            count_include_pad: fields.flag("count_include_pad", false),
            zeros: ["x_zero", "w_zero"].map(|name| fields.int(name, 0)),
        };
        Ok(shape)
    }

    /// Whether padding cuts rows or columns off.
    pub fn cuts(&self) -> bool {
        self.kind != Kind::Transposed && self.pads_low.iter().chain(&self.pads_high).any(|pad| *pad < 0)
    }

    /// Positions of a window.
    pub fn window_size(&self) -> i64 {
        self.window.iter().product()
    }

    fn reach(&self) -> i64 {
        (self.window[0] - 1) * self.dilations[0]
    }

    /// Most input rows that a tile of output rows reads.
    pub fn rows_reached(&self, height: i64, rows: i64) -> i64 {
        let reached = match self.kind {
            Kind::Transposed => (height + self.reach()) / self.strides[0] + 2,
            _ => (height - 1) * self.strides[0] + self.reach() + 1,
        };
        reached.clamp(1, rows.max(1))
    }

    /// Rows of x and its padding that windows of the output rows `start..start + length` reach, the first and the one after the last.
    fn reached(&self, start: i64, length: i64) -> (i64, i64) {
        let first = start * self.strides[0] - self.pads_low[0];
        (first, first + (length - 1) * self.strides[0] + self.reach() + 1)
    }

    /// Rows of x, of `rows`, that the output rows `start..start + length` read: the first and the one after the last.
    pub fn rows_read(&self, start: i64, length: i64, rows: i64) -> (i64, i64) {
        match self.kind {
            Kind::Transposed => {
                // Input row i reaches output rows i * stride - pad .. + reach.
                let at = start + self.pads_low[0];
                let first = -(-(at - self.reach())).div_euclid(self.strides[0]);
                let first = first.min(at.div_euclid(self.strides[0])).clamp(0, rows);
                (first, ((at + length - 1).div_euclid(self.strides[0]) + 1).clamp(first, rows))
            }
            _ => {
                let (first, end) = self.reached(start, length);
                let first = first.clamp(0, rows);
                (first, end.clamp(first, rows))
            }
        }
    }

    /// The input of output rows `start..start + length`.
    pub fn row_tile(&self, x: &View, start: i64, length: &Dim) -> RowTile {
        let (mut pads_low, mut pads_high) = (self.pads_low.clone(), self.pads_high.clone());
        // Rows that follow a register are never cut: all of x, with its own padding.
        let (Some(length), Some(rows)) = (length.known(), x.dims[2].known()) else {
            return RowTile { x: x.clone(), pads_low, pads_high };
        };
        let read = self.reads(start, length, rows);
        (pads_low[0], pads_high[0]) = (read.pad_low, read.pad_high);
        RowTile { x: x.slice(2, &Dim::Known(read.first), &Dim::Known(read.count), 1), pads_low, pads_high }
    }

    /// Rows of x, of `rows`, and of padding that the output rows `start..start + length` read.
    pub fn reads(&self, start: i64, length: i64, rows: i64) -> RowsRead {
        let (first, end) = self.rows_read(start, length, rows);
        let (pad_low, pad_high) = match self.kind {
            Kind::Transposed => (start + self.pads_low[0] - first * self.strides[0], self.pads_high[0]),
            _ => {
                let (from, until) = self.reached(start, length);
                // Beyond the padding lies what a rounded-up result reaches: it counts as nothing.
                ((-from).max(0), (until - rows).clamp(0, self.pads_high[0]))
            }
        };
        RowsRead { first, count: end - first, pad_low, pad_high }
    }

    /// Writes a convolution command.
    ///
    /// # Errors
    /// When the views do not fit the command.
    #[allow(clippy::too_many_arguments, reason = "the command's own operands")]
    pub fn emit_convolution(
        &self,
        context: &mut LoweringContext,
        destination: &View,
        x: &View,
        w: &View,
        rows: &RowTile,
        groups: i64,
        accumulate: bool,
    ) -> Result<(), String> {
        let def = if self.kind == Kind::Transposed { &tile::CONV_TRANSPOSE } else { &tile::CONVOLUTION };
        let command = context
            .command(def, engine::MATRIX)
            .view(destination)
            .view(x)
            .view(w)
            .attribute("strides", self.strides.clone())
            .attribute("dilations", self.dilations.clone())
            .attribute("pads_low", rows.pads_low.clone())
            .attribute("groups", groups)
            .attribute("accumulate", accumulate);
        zero_points(command, self.zeros).emit()
    }

    /// Writes a pooling command.
    ///
    /// # Errors
    /// When the views do not fit the command.
    pub fn emit_pool(
        &self,
        context: &mut LoweringContext,
        destination: &View,
        x: &View,
        rows: &RowTile,
    ) -> Result<(), String> {
        context
            .command(&tile::POOL, engine::VECTOR)
            .view(destination)
            .view(x)
            .attribute("function", self.function.as_str())
            .attribute("kernel", self.window.clone())
            .attribute("strides", self.strides.clone())
            .attribute("dilations", self.dilations.clone())
            .attribute("pads_low", rows.pads_low.clone())
            .attribute("pads_high", rows.pads_high.clone())
            .attribute("count_include_pad", self.count_include_pad)
            .emit()
    }

    /// A window over rows alone, for tests.
    #[cfg(test)]
    pub fn rows(window: i64, stride: i64, dilation: i64, pad: i64) -> Shape {
        Shape {
            kind: Kind::Plain,
            groups: 1,
            window: vec![window],
            strides: vec![stride],
            dilations: vec![dilation],
            pads_low: vec![pad],
            pads_high: vec![pad],
            function: String::new(),
            count_include_pad: false,
            zeros: [0; 2],
        }
    }
}
