//! The loops of fast packed products: a block of `R` rows of a times `P` panels, over all of k.
//!
//! Sums stay in registers over a piece of k, totals over all of it. Every column's sums are made in the same order whatever `R` and
//! `P` are: results do not depend on how many rows there are, nor on who computes which panel.

#![allow(unsafe_code, reason = "reading operands through pointers that were checked when the job was made")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line reads through them; the contract is `Kernel`'s")]
// Arrays of vectors stay in registers only where plain loops over constant bounds are unrolled: no iterators over them.
#![allow(clippy::needless_range_loop, reason = "iterators over arrays of vectors keep them in memory")]

use super::isa::{Isa, Pairs};
use super::job::{Job, Panels, next_lines, old_totals, panels, scaled, scales, store_totals, zero_points};
use super::weights::{FloatWeights, IntegerWeights, PairWeights};

/// Integers by integers: exact sums over a piece, each times its scale, added in f32 (not fused).
///
/// # Safety
/// See [`super::job::Kernel`].
#[inline(always)]
pub(super) unsafe fn integers<S: Isa, W: IntegerWeights, const R: usize, const P: usize>(
    job: &Job,
    panel: Panels,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b = panels::<P>(job, panel);
    let mut a = job.a.add(block * job.words * R).cast::<i32>();
    let mut start = job.starts.add(block * job.pieces * R);
    let flip = S::splat(job.flip);
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut sums = [[flip; P]; R];
        for row in 0..R {
            sums[row] = [S::splat(*start.add(row)); P];
        }
        start = start.add(R);
        if let Some(zero) = &job.zero {
            for at in 0..P {
                let zeros = zero_points::<S>(job, zero, panel.at(at), of_block);
                for row in 0..R {
                    sums[row][at] = S::multiply_ints(sums[row][at], zeros);
                }
            }
        }
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line = next_lines::<S, R, P>(&mut b);
            if W::IS_NIBBLES {
                let mut weights = [[flip; 2]; P];
                for at in 0..P {
                    weights[at] = S::nibbles(line[at], flip);
                }
                for row in 0..R {
                    let (low, high) = (S::splat(*a.add(row)), S::splat(*a.add(R + row)));
                    for at in 0..P {
                        sums[row][at] = S::dot_nibbles(sums[row][at], weights[at][0], low);
                    }
                    for at in 0..P {
                        sums[row][at] = S::dot_nibbles(sums[row][at], weights[at][1], high);
                    }
                }
                a = a.add(2 * R);
            } else {
                let mut weights = line;
                for at in 0..P {
                    weights[at] = S::xor(line[at], flip);
                }
                for row in 0..R {
                    let a = S::splat(*a.add(row));
                    for at in 0..P {
                        sums[row][at] = S::dot_bytes(sums[row][at], weights[at], a);
                    }
                }
                a = a.add(R);
            }
        }
        if let Some(scale) = &job.scale {
            for at in 0..P {
                let scale = scales::<S>(scale, panel.at(at), of_block);
                for row in 0..R {
                    let scaled = S::multiply(S::to_floats(sums[row][at]), scale);
                    totals[row][at] = S::add(totals[row][at], scaled);
                }
            }
        }
    }
    store_totals::<S, R, P>(job, panel, block, &totals);
}

/// Floats by anything: fused multiply-adds over ascending k.
///
/// # Safety
/// See [`super::job::Kernel`].
#[inline(always)]
pub(super) unsafe fn floats<S: Isa, W: FloatWeights<S>, const R: usize, const P: usize>(
    job: &Job,
    panel: Panels,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b = panels::<P>(job, panel);
    let mut a = job.a.add(block * job.words * R).cast::<f32>();
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut zeros = [S::to_floats(S::splat(job.offset)); P];
        if W::HAS_ZEROS
            && let Some(zero) = &job.zero
        {
            for at in 0..P {
                zeros[at] = S::to_floats(zero_points::<S>(job, zero, panel.at(at), of_block));
            }
        }
        // Without scales there is one piece, which goes on where the destination was.
        let mut sums = if job.scale.is_none() { totals } else { [[S::splat_float(0.0); P]; R] };
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line = next_lines::<S, R, P>(&mut b);
            macro_rules! rows {
                ($($row:literal)*) => {$(
                    if $row < W::ROWS {
                        let mut weights = zeros;
                        for at in 0..P {
                            weights[at] = W::row::<$row>(job, line[at]);
                            if W::HAS_ZEROS {
                                weights[at] = S::subtract(weights[at], zeros[at]);
                            }
                        }
                        for row in 0..R {
                            let a = S::splat_float(*a.add($row * R + row));
                            for at in 0..P {
                                sums[row][at] = S::fused(a, weights[at], sums[row][at]);
                            }
                        }
                    }
                )*};
            }
            rows!(0 1 2 3 4 5 6 7);
            a = a.add(W::ROWS * R);
        }
        scaled::<S, R, P>(job, panel, of_block, &sums, &mut totals);
    }
    store_totals::<S, R, P>(job, panel, block, &totals);
}

/// bf16 by bf16 or small integers, two rows at a time.
///
/// # Safety
/// See [`super::job::Kernel`].
#[inline(always)]
pub(super) unsafe fn pairs<S: Pairs, W: PairWeights<S>, const R: usize, const P: usize>(
    job: &Job,
    panel: Panels,
    block: usize,
) {
    let mut totals = old_totals::<S, R, P>(job, panel, block);
    let mut b = panels::<P>(job, panel);
    let mut a = job.a.add(block * job.words * R).cast::<i32>();
    let mut left = job.lines;
    for piece in 0..job.pieces {
        let of_block = piece / job.pieces_of_block;
        let mut sums = if job.scale.is_none() { totals } else { [[S::splat_float(0.0); P]; R] };
        let lines = job.piece_lines.min(left);
        left -= lines;
        for _ in 0..lines {
            let line = next_lines::<S, R, P>(&mut b);
            macro_rules! rows {
                ($($pair:literal)*) => {$(
                    if $pair < W::PAIRS {
                        let mut weights = line;
                        for at in 0..P {
                            weights[at] = W::pair::<$pair>(job, line[at]);
                        }
                        for row in 0..R {
                            let a = S::splat(*a.add($pair * R + row));
                            for at in 0..P {
                                sums[row][at] = S::dot_pairs(sums[row][at], weights[at], a);
                            }
                        }
                    }
                )*};
            }
            rows!(0 1 2 3);
            a = a.add(W::PAIRS * R);
        }
        scaled::<S, R, P>(job, panel, of_block, &sums, &mut totals);
    }
    store_totals::<S, R, P>(job, panel, block, &totals);
}
