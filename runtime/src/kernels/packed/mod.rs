//! Products whose right operand was packed into panels of columns before, at compile time.
//!
//! The definition is in `command_table`; `scalar` computes it for every layout and element and is what faster paths are compared with.
//! Integers give the bits of the unpacked product. Floats are summed by fused multiply-add over ascending k, block by block.
//! It must not know who packed.
//!
//! | file | subject |
//! |---|---|
//! | `layout` | which layouts are fast |
//! | `scalar` | the portable path |
//! | `fast` | which products are fast, and how their work is cut for threads |
//! | `prepare`, `job` | a as kernels read it; a product as kernels see it |
//! | `kernels`, `weights` | the loops, once for all processors; what a line of weights is to them |
//! | `isa`, `avx2`, `avx512` | vectors over the columns of a panel |
//! | `amx`, `tiles` | loops over tiles; tiles of the processor, and a model of them for tests |
//! | `x86` | which kernel is compiled for which features, and chosen |

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod fast;
#[cfg(all(test, target_arch = "x86_64"))]
mod fast_tests;
#[cfg(target_arch = "x86_64")]
mod isa;
#[cfg(target_arch = "x86_64")]
mod job;
#[cfg(target_arch = "x86_64")]
mod kernels;
mod layout;
#[cfg(target_arch = "x86_64")]
mod prepare;
mod scalar;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod weights;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use layout::{Layout, PANEL_COLUMNS};

use super::cpu::{Features, features};
use super::lanes::{LaneKind, lane_kind};
use super::matmul::{Quantized, batches};
use super::{Fault, matmul_compressed, matmul_scaled, require, same};
use crate::memory::{Destination, Source, Workspace};
use scalar::{Floats, Integers, ScaledIntegers};

/// Dimensions that a packed operand has in addition.
pub const PACKED_DIMS: usize = 3;

/// Extents of one packed product.
pub(super) struct Problem {
    m: usize,
    n: usize,
    k: usize,
    /// Columns of a panel.
    columns: usize,
    /// Groups of rows inside one another, and rows side by side.
    groups: usize,
    rows: usize,
    /// Rows of k that share a scale; all of k when there is one.
    block: usize,
}

/// `destination [.., m, n] (+)= a [.., m, k] * b`, b `[.., n1, k1, h, n0, r]`, its scale and zero point `[.., n1, blocks, n0]`.
pub(super) fn matmul(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Quantized<'_, '_>,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    matmul_by(features(), destination, a, b, accumulate, workspace)
}

/// The same on a processor with these features, which it must have.
fn matmul_by(
    features: Features,
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Quantized<'_, '_>,
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let problem = check(destination, a, b)?;
    #[cfg(target_arch = "x86_64")]
    if let Some(plan) = fast::plan(features, destination.element(), a.element(), b, &problem) {
        return fast::product(destination, a, b, (&problem, &plan), accumulate, workspace);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = features;
    let elements = [destination.element(), a.element(), b.values.element()];
    if b.scale.is_some() && matmul_scaled::fits(elements[0], elements[1], b) {
        return scalar::product::<ScaledIntegers>(destination, a, b, &problem, accumulate, workspace);
    }
    match lane_kind(&elements) {
        LaneKind::F32 => scalar::product::<Floats<f32>>(destination, a, b, &problem, accumulate, workspace),
        LaneKind::F64 => scalar::product::<Floats<f64>>(destination, a, b, &problem, accumulate, workspace),
        LaneKind::I64 | LaneKind::I128 => {
            scalar::product::<Integers>(destination, a, b, &problem, accumulate, workspace)
        }
    }
}

fn check(destination: &Destination<'_>, a: &Source<'_>, b: &Quantized<'_, '_>) -> Result<Problem, Fault> {
    let rank = destination.rank();
    require(
        rank >= 2 && a.rank() == rank && b.values.rank() == rank + PACKED_DIMS,
        "matmul: a packed operand has three dimensions more than the others",
    )?;
    require(b.indices.is_none(), "matmul: a packed operand cannot be sparse")?;
    matmul_compressed::check(b)?;
    let batch = rank - 2;
    let (out, left, right) = (destination.dims(), a.dims(), b.values.dims());
    same("matmul: batch extents of destination and a differ", &out[..batch], &left[..batch])?;
    same("matmul: batch extents of destination and b differ", &out[..batch], &right[..batch])?;
    let (m, n, k) = (out[batch], out[batch + 1], left[batch + 1]);
    same("matmul: rows of destination and a differ", &[m], &[left[batch]])?;
    let [panels, steps, groups, columns, rows] = [0, 1, 2, 3, 4].map(|axis| right[batch + axis]);
    require(groups >= 1 && columns >= 1 && rows >= 1, "matmul: a packed operand has empty panels")?;
    same("matmul: panels do not cover the columns", &[n.div_ceil(columns)], &[panels])?;
    same("matmul: panels do not cover k", &[k.div_ceil(groups.saturating_mul(rows))], &[steps])?;
    let block = if b.block == 0 { k.max(1) } else { b.block };
    for factor in [b.scale, b.zero].into_iter().flatten() {
        require(factor.rank() == rank + 1, "matmul: a packed scale or zero point has another rank")?;
        let dims = factor.dims();
        same("matmul: batch extents of a scale or zero point differ", &dims[..batch], &right[..batch])?;
        let fits =
            dims[batch] == panels && dims[batch + 1] >= k.div_ceil(block) && dims[batch + 2] == columns;
        require(fits, "matmul: a scale or zero point does not cover its operand")?;
    }
    Ok(Problem { m, n, k, columns, groups, rows, block })
}
