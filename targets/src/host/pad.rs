//! Padding on the host: the inside is copied, then borders grow axis by axis from what is already there.

use super::HostRow;
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::OpId;

pub(super) static ROWS: &[HostRow] = &[HostRow::new(&core::PAD, pad)];

fn pad(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let fill = context.optional(op, 1)?;
    let fields = context.fields(op);
    let (mut low, mut high) = (fields.dims("low")?, fields.dims("high")?);
    let mode = fields.text("mode", "constant");
    let destination = context.destination(context.result(op, 0))?;
    // Negative counts cut; what is left is padded.
    let mut x = x;
    for axis in 0..x.rank() {
        let cut = |count: &Dim| {
            if count.known().is_some_and(|known| known < 0) { &Dim::Known(0) - count } else { Dim::Known(0) }
        };
        let (cut_low, cut_high) = (cut(&low[axis]), cut(&high[axis]));
        let length = &(&x.dims[axis] - &cut_low) - &cut_high;
        x = x.slice(axis, &cut_low, &length, 1);
        low[axis] = &low[axis] + &cut_low;
        high[axis] = &high[axis] + &cut_high;
    }
    if mode == "constant" {
        match &fill {
            Some(value) => {
                let value = value.reshape(&[]).ok_or("the padding value must be one element")?;
                context.host_copy(&destination, &value.broadcast_to(&destination.dims))?;
            }
            None => {
                let zero = context.scalar(destination.element, 0.0)?;
                context.host_copy(&destination, &zero.broadcast_to(&destination.dims))?;
            }
        }
    }
    let mut inside = destination.clone();
    for (axis, (low, dim)) in low.iter().zip(&x.dims).enumerate() {
        inside = inside.slice(axis, low, dim, 1);
    }
    context.host_copy(&inside, &x)?;
    if mode == "constant" {
        return Ok(());
    }
    // `grown` covers everything along the axes done, and the inside along the others.
    let mut grown = inside;
    for axis in 0..x.rank() {
        let border = Border { grown: &grown, axis, inner: &x.dims[axis], mode };
        let (low, high) = (&low[axis], &high[axis]);
        if *low != Dim::Known(0) {
            border.copy(context, &(&Dim::Known(0) - low), low)?;
        }
        if *high != Dim::Known(0) {
            border.copy(context, &x.dims[axis], high)?;
        }
        let length = &(&x.dims[axis] + low) + high;
        grown = grown.slice(axis, &(&Dim::Known(0) - low), &length, 1);
    }
    Ok(())
}

struct Border<'a> {
    grown: &'a View,
    axis: usize,
    inner: &'a Dim,
    mode: &'a str,
}

impl Border<'_> {
    /// Fills `count` places from `start` (counted from the inside's first element) along the axis.
    fn copy(&self, context: &mut LoweringContext, start: &Dim, count: &Dim) -> Result<(), String> {
        let is_low = *start != *self.inner;
        let zero = Dim::Known(0);
        let (one, two) = (Dim::Known(1), Dim::Known(2));
        let last = self.inner - &one;
        let mut source = match self.mode {
            "edge" => {
                let edge = self.grown.slice(self.axis, if is_low { &zero } else { &last }, &one, 1);
                let mut dims = edge.dims.clone();
                dims[self.axis] = count.clone();
                return context.host_copy(&self.place(start, count), &edge.broadcast_to(&dims));
            }
            // Places -count.. hold elements count, count - 1, .. 1; places n.. hold n - 2, n - 3, ..
            "reflect" => (if is_low { count.clone() } else { self.inner - &two }, -1),
            "wrap" => (if is_low { self.inner - count } else { zero.clone() }, 1),
            other => return Err(format!("unknown padding mode '{other}'")),
        };
        let room = if self.mode == "reflect" { &last } else { self.inner };
        if let (Some(count), Some(room)) = (count.known(), room.known())
            && count > room
        {
            return self.copy_one_by_one(context, start, count);
        }
        if source.0.known().is_some_and(|known| known < 0) {
            source.0 = zero;
        }
        let part = self.grown.slice(self.axis, &source.0, count, source.1);
        context.host_copy(&self.place(start, count), &part)
    }

    fn place(&self, start: &Dim, count: &Dim) -> View {
        self.grown.slice(self.axis, start, count, 1)
    }

    /// A border longer than the inside goes round several times.
    fn copy_one_by_one(&self, context: &mut LoweringContext, start: &Dim, count: i64) -> Result<(), String> {
        let (Some(start), Some(inner)) = (start.known(), self.inner.known()) else {
            return Err("a border longer than a dimension that follows a register is not supported".into());
        };
        if inner < 1 {
            return Err("an empty dimension has nothing to pad with".into());
        }
        for index in start..start + count {
            let from = match self.mode {
                "wrap" => index.rem_euclid(inner),
                _ => {
                    let period = (2 * (inner - 1)).max(1);
                    let at = index.rem_euclid(period);
                    if at < inner { at } else { period - at }
                }
            };
            let one = Dim::Known(1);
            let source = self.grown.slice(self.axis, &Dim::Known(from), &one, 1);
            context.host_copy(&self.place(&Dim::Known(index), &one), &source)?;
        }
        Ok(())
    }
}
