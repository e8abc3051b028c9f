//! Single `matmul` and `matmul_integer`, batched: leading dimensions become batch axes of a cluster, merged where strides allow it.
//! A right operand of rank 2 makes all leading dimensions rows.
//!
//! ```text
//! %s = "core.matmul"(%q, %kt) : (tensor<1x4x8x16xf32>, tensor<1x4x16x?xf32>) -> tensor<1x4x8x?xf32>
//! ```

use super::cluster::{Cluster, Dim2, Home};
use super::product::Product;
use super::rows;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject};
use crate::view::View;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::OpId;

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[
    Lowering { subject: Subject::Op(&core::MATMUL), place, lower },
    Lowering { subject: Subject::Op(&core::MATMUL_INTEGER), place, lower },
];

fn place(context: &PlaceContext) -> Result<(), String> {
    rows::place(context)
}

fn lower(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let weight = context.source.operand_at(op, 1).ok_or("a product without a right operand")?;
    if context.ty(weight)?.rank() == 2 {
        return rows::lower(context, op);
    }
    let w = context.operand(op, 1)?;
    let x = context.operand(op, 0)?;
    let result = context.destination(context.result(op, 0))?;
    let rank = result.rank();
    let batch = result.dims[..rank - 2].to_vec();
    let under = |view: &View, matrix: &[Dim]| view.broadcast_to(&[&batch[..], matrix].concat());
    let x = under(&x, &x.dims[x.rank() - 2..]);
    let w = under(&w, &w.dims[w.rank() - 2..]);
    let mut views = vec![x, w, result];
    if context.op(op).def == &core::MATMUL_INTEGER {
        for (slot, of) in [(2, 0), (3, 1)] {
            if let Some(zero) = context.optional(op, slot)? {
                // One per row of the left side, per column of the right side, or one for all.
                let zero = if slot == 2 && zero.rank() == 1 { zero.with_axis(1) } else { zero };
                views.push(zero.broadcast_to(&views[of].dims.clone()));
            } else {
                views.push(View { strides: vec![0; rank], ..views[of].clone() });
            }
        }
    }
    let has_zero = [2, 3].map(|slot| context.source.operand_at(op, slot).is_some());
    let batch = merge_batch(&mut views, rank - 2);
    if batch.contains(&Dim::Known(0)) {
        return Ok(());
    }
    let mut views = views.into_iter();
    let (Some(x), Some(w), Some(result)) = (views.next(), views.next(), views.next()) else {
        return Err("a product has three views".into());
    };
    let zeros = [views.next(), views.next()];
    let is_integer = zeros[0].is_some();
    let [x_zero, w_zero] = zeros;
    let m = batch.len();
    let shape = Dim2 { rows: result.dims[m].clone(), columns: result.dims[m + 1].clone() };
    let product = Product {
        x,
        w,
        scale: None,
        zero_point: None,
        codebook: None,
        indices: None,
        block: 0,
        integer_zeros: is_integer.then(|| [x_zero.filter(|_| has_zero[0]), w_zero.filter(|_| has_zero[1])]),
        bias: None,
        activation: None,
        result: 0,
    };
    let cluster = Cluster {
        x_is_resident: false,
        keeps_x: None,
        kept: None,
        batch,
        m: shape,
        products: vec![product],
        values: vec![Home::Output(result)],
        epilogue: vec![],
    };
    cluster.run(context)
}

/// Merges the leading `count` dimensions of all views where each walks through them alike, and drops those of 1; gives what is left.
fn merge_batch(views: &mut [View], count: usize) -> Vec<Dim> {
    let mut count = count;
    for axis in (0..count).rev() {
        if views.iter().all(|view| view.dims[axis] == Dim::Known(1)) {
            views.iter_mut().for_each(|view| *view = view.without_axis(axis));
            count -= 1;
        }
    }
    for outer in (0..count.saturating_sub(1)).rev() {
        let Some(length) = views[0].dims[outer + 1].known() else { continue };
        if views.iter().all(|view| view.strides[outer] == view.strides[outer + 1] * length) {
            for view in views.iter_mut() {
                view.dims[outer] = &view.dims[outer] * &Dim::Known(length);
                view.strides[outer] = view.strides[outer + 1];
                *view = view.without_axis(outer + 1);
            }
            count -= 1;
        }
    }
    views[0].dims[..count].to_vec()
}
