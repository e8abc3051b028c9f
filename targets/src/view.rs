//! Views while lowering: strided windows on a buffer of the tile module, sliced, permuted, split and broadcast without a copy.
//!
//! Offsets and dimensions are expressions, strides are numbers (buffers are laid out by capacity). It must not know commands.
//!
//! ```text
//! let keys = view.slice(2, &Dim::symbol("i0"), &tile, 1).permute(&[0, 1, 3, 2]);
//! ```

use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

/// A strided window on a buffer, constant or argument.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    /// The result of `tile.buffer`, `tile.constant` or `tile.argument`.
    pub buffer: ValueId,
    /// What is in it.
    pub element: Element,
    /// Place of element (0, 0, ..), in elements from the buffer's start.
    pub offset: Dim,
    /// Lengths, outermost first.
    pub dims: Vec<Dim>,
    /// Distances, in elements.
    pub strides: Vec<i64>,
}

impl View {
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Product of the dimensions.
    pub fn element_count(&self) -> Dim {
        self.dims.iter().fold(Dim::Known(1), |product, dim| &product * dim)
    }

    /// Elements `start, start + step, ..` along an axis, `length` of them; `step` may be negative.
    pub fn slice(&self, axis: usize, start: &Dim, length: &Dim, step: i64) -> View {
        let mut view = self.clone();
        view.offset = &view.offset + &(start * &Dim::Known(self.strides[axis]));
        view.dims[axis] = length.clone();
        view.strides[axis] *= step;
        view
    }

    /// One index of an axis, which goes away.
    pub fn at(&self, axis: usize, index: &Dim) -> View {
        self.slice(axis, index, &Dim::Known(1), 1).without_axis(axis)
    }

    /// Backwards along an axis.
    pub fn reversed(&self, axis: usize) -> View {
        self.slice(axis, &(&self.dims[axis] - &Dim::Known(1)), &self.dims[axis], -1)
    }

    /// New dimension `i` is old dimension `permutation[i]`.
    pub fn permute(&self, permutation: &[usize]) -> View {
        let mut view = self.clone();
        view.dims = permutation.iter().map(|axis| self.dims[*axis].clone()).collect();
        view.strides = permutation.iter().map(|axis| self.strides[*axis]).collect();
        view
    }

    /// The same elements with `axis` moved to the end.
    pub fn axis_last(&self, axis: usize) -> View {
        self.permute(&last_order(self.rank(), axis))
    }

    /// numpy broadcasting to `dims`: new leading dimensions and dimensions of 1 get stride 0.
    pub fn broadcast_to(&self, dims: &[Dim]) -> View {
        let lead = dims.len() - self.rank();
        let mut view = self.clone();
        view.strides = (0..dims.len())
            .map(|axis| match axis.checked_sub(lead) {
                Some(from) if self.dims[from] == dims[axis] => self.strides[from],
                _ => 0,
            })
            .collect();
        view.dims = dims.to_vec();
        view
    }

    /// With a dimension of 1 before `axis`.
    pub fn with_axis(&self, axis: usize) -> View {
        self.with_repeated_axis(axis, &Dim::Known(1))
    }

    /// With a dimension before `axis` along which the same elements repeat.
    pub fn with_repeated_axis(&self, axis: usize, length: &Dim) -> View {
        let mut view = self.clone();
        view.dims.insert(axis, length.clone());
        view.strides.insert(axis, 0);
        view
    }

    /// Without a dimension, at its index 0.
    pub fn without_axis(&self, axis: usize) -> View {
        let mut view = self.clone();
        view.dims.remove(axis);
        view.strides.remove(axis);
        view
    }

    /// The same bits read as another element of the same width.
    pub fn with_element(&self, element: Element) -> View {
        View { element, ..self.clone() }
    }

    /// Axis `axis` cut in blocks: `dims[axis] / inner` by `inner`; `inner` must divide it.
    pub fn split(&self, axis: usize, inner: i64) -> Option<View> {
        let outer = self.dims[axis].divide_exactly(&Dim::Known(inner))?;
        let mut view = self.clone();
        view.dims[axis] = outer;
        view.strides[axis] = self.strides[axis] * inner;
        view.dims.insert(axis + 1, Dim::Known(inner));
        view.strides.insert(axis + 1, self.strides[axis]);
        Some(view)
    }

    /// The same elements in row-major order under other dimensions, without a copy; `None` when strides do not allow it.
    pub fn reshape(&self, dims: &[Dim]) -> Option<View> {
        let strides = reshape_strides(&self.dims, &self.strides, dims)?;
        Some(View { dims: dims.to_vec(), strides, ..self.clone() })
    }

    /// True if elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = Dim::Known(1);
        for (dim, stride) in self.dims.iter().zip(&self.strides).rev() {
            if *dim != Dim::Known(1) && expected != Dim::Known(*stride) {
                return false;
            }
            expected = &expected * dim;
        }
        true
    }

    /// True if an element of memory occurs more than once (a broadcast): must not be written.
    pub fn repeats(&self) -> bool {
        self.dims.iter().zip(&self.strides).any(|(dim, stride)| *stride == 0 && *dim != Dim::Known(1))
    }
}

/// The order of axes that moves `axis` to the end.
pub fn last_order(rank: usize, axis: usize) -> Vec<usize> {
    (0..rank).filter(|other| *other != axis).chain([axis]).collect()
}

/// The order that undoes a permutation.
pub fn inverse_order(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    for (to, from) in permutation.iter().enumerate() {
        inverse[*from] = to;
    }
    inverse
}

/// Row-major strides of a layout, in elements.
pub fn row_major(capacity: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; capacity.len()];
    for axis in (1..capacity.len()).rev() {
        strides[axis - 1] = strides[axis] * capacity[axis].max(1);
    }
    strides
}

/// Strides of `new` dims over the memory of `old`: both lists are cut into groups of equal products; a group is first merged to one
/// dimension (its strides must nest), then split.
fn reshape_strides(old: &[Dim], strides: &[i64], new: &[Dim]) -> Option<Vec<i64>> {
    let one = Dim::Known(1);
    if old.contains(&Dim::Known(0)) {
        return new.contains(&Dim::Known(0)).then(|| vec![0; new.len()]);
    }
    let old: Vec<(&Dim, i64)> =
        old.iter().zip(strides.iter().copied()).filter(|(dim, _)| **dim != one).collect();
    let mut result = vec![0; new.len()];
    let new_axes: Vec<usize> = (0..new.len()).filter(|axis| new[*axis] != one).collect();
    let (mut from, mut to) = (0, 0);
    while from < old.len() && to < new_axes.len() {
        let (from_start, to_start) = (from, to);
        let (mut product, mut wanted) = (old[from].0.clone(), new[new_axes[to]].clone());
        (from, to) = (from + 1, to + 1);
        while product != wanted {
            // The side that divides the other grows; when neither is known to, both do.
            let grow_new = product.divide_exactly(&wanted).is_some();
            let grow_old = wanted.divide_exactly(&product).is_some() || !grow_new;
            if grow_new || to < new_axes.len() && !grow_old {
                wanted = &wanted * &new[*new_axes.get(to)?];
                to += 1;
            } else {
                product = &product * old.get(from)?.0;
                from += 1;
            }
        }
        let stride = merge(&old[from_start..from])?;
        split(stride, &new_axes[to_start..to], new, &mut result)?;
    }
    (from == old.len() && to == new_axes.len()).then_some(result)
}

/// The stride of the innermost dimension, if the group's dimensions nest without gaps.
fn merge(group: &[(&Dim, i64)]) -> Option<i64> {
    for pair in group.windows(2) {
        let (inner, inner_stride) = pair[1];
        if inner_stride.checked_mul(inner.known()?)? != pair[0].1 {
            return None;
        }
    }
    group.last().map(|last| last.1)
}

fn split(mut stride: i64, axes: &[usize], dims: &[Dim], result: &mut [i64]) -> Option<()> {
    for (at, axis) in axes.iter().enumerate().rev() {
        result[*axis] = stride;
        if at > 0 {
            stride = stride.checked_mul(dims[*axis].known()?)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(text: &[&str]) -> Vec<Dim> {
        text.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn reshaped(old: &[&str], strides: &[i64], new: &[&str]) -> Option<Vec<i64>> {
        reshape_strides(&dims(old), strides, &dims(new))
    }

    #[test]
    fn reshapes_without_a_copy_where_strides_nest() {
        assert_eq!(reshaped(&["4", "6"], &[6, 1], &["2", "2", "6"]), Some(vec![12, 6, 1]));
        assert_eq!(reshaped(&["s", "6"], &[6, 1], &["s", "2", "3"]), Some(vec![6, 3, 1]));
        assert_eq!(reshaped(&["s", "2", "3"], &[6, 3, 1], &["1", "6*s"]), Some(vec![0, 1]));
        assert_eq!(reshaped(&["4", "6"], &[1, 4], &["24"]), None);
        assert_eq!(reshaped(&["2", "s"], &[512, 1], &["2*s"]), None);
        assert_eq!(reshaped(&["s", "4"], &[4, 1], &["4*s"]), Some(vec![1]));
        assert_eq!(reshaped(&["3", "0"], &[9, 9], &["0", "5"]), Some(vec![0, 0]));
        assert_eq!(reshaped(&["1", "1"], &[0, 0], &[]), Some(vec![]));
        assert_eq!(reshaped(&["2", "3", "4"], &[12, 4, 1], &["3", "8"]), Some(vec![8, 1]));
        assert_eq!(reshaped(&["a", "b"], &[7, 1], &["b", "a"]), None);
    }
}
