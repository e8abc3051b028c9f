//! The contiguous runs of a window, whatever the order of its dimensions: what DRAM's bursts and SRAM's banks see of it.
//!
//! ```text
//! f32<16x32:1,16>  ->  one run of 512 elements        f32<4x8:100,1>  ->  four runs of 8, 100 elements apart
//! ```

use crate::memory::Window;
use crate::view::RANK_MAX;

/// Runs of elements.
pub(super) struct Runs {
    /// Elements of one run; repeats by a stride of 0 count once.
    pub(super) run: u64,
    outer: [(u64, u64); RANK_MAX],
    outer_rank: usize,
}

impl Runs {
    pub(super) fn of(window: &Window) -> Runs {
        let mut dims = [(0u64, 0u64); RANK_MAX];
        let mut rank = 0;
        let kept =
            window.dims().iter().zip(window.strides()).filter(|&(&dim, &stride)| dim > 1 && stride != 0);
        for (&dim, &stride) in kept {
            dims[rank] = (stride.unsigned_abs(), dim as u64);
            rank += 1;
        }
        dims[..rank].sort_unstable();
        let mut run = 1u64;
        let mut inner = 0;
        while inner < rank && dims[inner].0 == run {
            run = run.saturating_mul(dims[inner].1);
            inner += 1;
        }
        let mut runs = Runs { run, outer: [(0, 0); RANK_MAX], outer_rank: rank - inner };
        runs.outer[..rank - inner].copy_from_slice(&dims[inner..rank]);
        runs
    }

    /// Distance in elements and number, per dimension outside the run.
    pub(super) fn outer(&self) -> &[(u64, u64)] {
        &self.outer[..self.outer_rank]
    }

    /// Elements in all runs.
    pub(super) fn elements(&self) -> u64 {
        self.outer().iter().fold(self.run, |product, &(_, count)| product.saturating_mul(count))
    }

    /// Calls `visit` with the first element of each run, counted from the lowest.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u64)) {
        let outer = self.outer();
        let mut index = [0u64; RANK_MAX];
        let mut start = 0u64;
        loop {
            visit(start);
            let mut axis = 0;
            loop {
                let Some(&(stride, count)) = outer.get(axis) else { return };
                index[axis] += 1;
                start += stride;
                if index[axis] < count {
                    break;
                }
                start -= stride * count;
                index[axis] = 0;
                axis += 1;
            }
        }
    }
}
