//! Walks several strided windows in step: the longest possible rows, then an odometer over what is left.

use crate::view::RANK_MAX;

/// Calls `body(row length, offsets, row strides)` for every row of `dims`, in row-major order. Neighbouring dimensions that
/// are contiguous in all windows are joined, so that rows are long. Offsets and strides are in elements.
pub fn for_each_row<const N: usize, E>(
    dims: &[usize],
    strides: [&[i64]; N],
    mut body: impl FnMut(usize, [i64; N], [i64; N]) -> Result<(), E>,
) -> Result<(), E> {
    if dims.contains(&0) {
        return Ok(());
    }
    let mut joined = [1usize; RANK_MAX];
    let mut steps = [[0i64; N]; RANK_MAX];
    let mut rank = 0usize;
    for axis in 0..dims.len().min(RANK_MAX) {
        if dims[axis] == 1 {
            continue;
        }
        let step: [i64; N] = std::array::from_fn(|view| strides[view][axis]);
        let fits = |view: usize| steps[rank - 1][view] == step[view].saturating_mul(dims[axis] as i64);
        if rank > 0 && (0..N).all(fits) {
            joined[rank - 1] *= dims[axis];
            steps[rank - 1] = step;
        } else {
            joined[rank] = dims[axis];
            steps[rank] = step;
            rank += 1;
        }
    }
    if rank == 0 {
        return body(1, [0; N], [0; N]);
    }
    let inner = rank - 1;
    for_each_index(&joined[..inner], &steps[..inner], |offsets| body(joined[inner], offsets, steps[inner]))
}

/// Calls `body(offsets)` for every index of `dims` in row-major order; `steps[axis][view]` in elements.
pub fn for_each_index<const N: usize, E>(
    dims: &[usize],
    steps: &[[i64; N]],
    mut body: impl FnMut([i64; N]) -> Result<(), E>,
) -> Result<(), E> {
    if dims.contains(&0) {
        return Ok(());
    }
    let mut index = [0usize; RANK_MAX];
    let mut offsets = [0i64; N];
    loop {
        body(offsets)?;
        let mut axis = dims.len();
        loop {
            if axis == 0 {
                return Ok(());
            }
            axis -= 1;
            index[axis] += 1;
            for view in 0..N {
                offsets[view] += steps[axis][view];
            }
            if index[axis] < dims[axis] {
                break;
            }
            for view in 0..N {
                offsets[view] -= steps[axis][view] * dims[axis] as i64;
            }
            index[axis] = 0;
        }
    }
}

/// Steps of several windows per axis, as [`for_each_index`] takes them.
pub fn steps_of<const N: usize>(strides: [&[i64]; N]) -> ([[i64; N]; RANK_MAX], usize) {
    let rank = strides.iter().map(|list| list.len()).min().unwrap_or(0).min(RANK_MAX);
    let mut steps = [[0; N]; RANK_MAX];
    for (axis, step) in steps.iter_mut().enumerate().take(rank) {
        *step = std::array::from_fn(|view| strides[view][axis]);
    }
    (steps, rank)
}

/// Extents and steps of all axes but one, and the steps along that one: for work along an axis.
pub struct Lines<const N: usize> {
    dims: [usize; RANK_MAX],
    steps: [[i64; N]; RANK_MAX],
    rank: usize,
    /// Steps along the axis.
    pub along: [i64; N],
}

impl<const N: usize> Lines<N> {
    /// Lines along `axis` of windows with these strides. All windows have the rank of `dims`, and `axis` is less than it.
    pub fn new(dims: &[usize], strides: [&[i64]; N], axis: usize) -> Lines<N> {
        let (all, rank) = steps_of(strides);
        let mut lines = Lines { dims: [1; RANK_MAX], steps: [[0; N]; RANK_MAX], rank: 0, along: all[axis] };
        for other in (0..rank.min(dims.len())).filter(|&other| other != axis) {
            lines.dims[lines.rank] = dims[other];
            lines.steps[lines.rank] = all[other];
            lines.rank += 1;
        }
        lines
    }

    /// Calls `body` with the offsets of every line's first element.
    pub fn for_each<E>(&self, body: impl FnMut([i64; N]) -> Result<(), E>) -> Result<(), E> {
        for_each_index(&self.dims[..self.rank], &self.steps[..self.rank], body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_what_is_contiguous_in_all_windows() {
        let mut rows = Vec::new();
        let walk = |length, offsets, steps| {
            rows.push((length, offsets, steps));
            Ok::<(), ()>(())
        };
        for_each_row(&[2, 3, 4], [&[12, 4, 1], &[24, 4, 1]], walk).expect("no error");
        assert_eq!(rows, [(12, [0, 0], [1, 1]), (12, [12, 24], [1, 1])]);
    }

    #[test]
    fn visits_every_index_once_in_order() {
        let mut seen = Vec::new();
        for_each_index(&[2, 3], &[[10], [-1]], |[offset]| {
            seen.push(offset);
            Ok::<(), ()>(())
        })
        .expect("no error");
        assert_eq!(seen, [0, -1, -2, 10, 9, 8]);
        for_each_index::<1, ()>(&[2, 0], &[[10], [-1]], |_| Err(())).expect("nothing to visit");
    }

    #[test]
    fn scalars_are_one_row() {
        let mut count = 0;
        for_each_row::<1, ()>(&[], [&[]], |length, _, _| {
            count += length;
            Ok(())
        })
        .expect("no error");
        assert_eq!(count, 1);
    }
}
