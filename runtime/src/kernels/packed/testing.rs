//! Right operands packed into panels of any layout, for tests: the packing is written from the definition, element by element.

use super::Layout;
use crate::element::Element;
use crate::kernels::lanes::store;
use crate::memory::{Destination, Source, Window};
use crate::view::{Space, View};

/// A tensor of its own bytes with any strides.
pub(crate) struct Strided {
    view: View,
    bytes: Vec<u8>,
}

impl Strided {
    /// Zeros.
    pub(crate) fn zeros(element: Element, dims: &[usize], strides: &[usize]) -> Strided {
        let extents = dims.iter().map(|&dim| u32::try_from(dim).expect("small"));
        let mut view = View::contiguous(Space::Dram, element, 0, extents);
        view.strides = strides.iter().map(|&stride| stride as i64).collect();
        let reach: usize = dims.iter().zip(strides).map(|(dim, stride)| (dim.max(&1) - 1) * stride).sum();
        let bytes = element.packed_bytes(reach as u64 + 1).expect("small");
        Strided { view, bytes: vec![0; bytes as usize] }
    }

    fn window(&self) -> Window {
        Window::resolve(&self.view, &[], self.bytes.len()).expect("in bounds")
    }

    pub(crate) fn source(&self) -> Source<'_> {
        let window = self.window();
        Source { bytes: &self.bytes[window.range()], window }
    }

    pub(crate) fn destination(&mut self) -> Destination<'_> {
        let window = self.window();
        Destination { bytes: &mut self.bytes[window.range()], window }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the element at an index.
    pub(crate) fn set(&mut self, index: &[usize], value: f64) {
        let offset = index.iter().zip(&self.view.strides).map(|(&at, stride)| at as i64 * stride).sum();
        store(&mut self.destination(), offset, 1, &[value]);
    }
}

/// `[batch, k, n]` numbers as panels `[batch, n1, k1, h, n0, r]`; what lies beyond k and n is filled with `filling`.
pub(crate) fn pack(
    element: Element,
    layout: &Layout,
    numbers: &[f64],
    [batch, k, n]: [usize; 3],
    filling: f64,
) -> Strided {
    let (dims, strides) = (layout.dims(n, k), layout.strides(k));
    let with_batch = |first: usize, rest: [usize; 5]| [&[first][..], &rest].concat();
    let mut packed =
        Strided::zeros(element, &with_batch(batch, dims), &with_batch(dims[0] * strides[0], strides));
    let [panels, steps, groups, columns, rows] = dims;
    for at in 0..batch {
        for (panel, step) in (0..panels * steps).map(|both| (both / steps, both % steps)) {
            for inner in 0..groups * columns * rows {
                let (group, column, side) = (inner / (columns * rows), inner / rows % columns, inner % rows);
                let (row, of) = ((step * groups + group) * rows + side, panel * columns + column);
                let is_inside = row < k && of < n;
                let value = if is_inside { numbers[(at * k + row) * n + of] } else { filling };
                packed.set(&[at, panel, step, group, column, side], value);
            }
        }
    }
    packed
}

/// `[batch, blocks, n]` factors as `[batch, n1, blocks, n0]`.
pub(crate) fn pack_factors(
    element: Element,
    columns: usize,
    numbers: &[f64],
    [batch, blocks, n]: [usize; 3],
) -> Strided {
    let panels = n.div_ceil(columns);
    let strides = [panels * blocks * columns, blocks * columns, columns, 1];
    let mut packed = Strided::zeros(element, &[batch, panels, blocks, columns], &strides);
    for (at, &number) in numbers.iter().enumerate() {
        let (place, block, column) = (at / (blocks * n), at / n % blocks, at % n);
        packed.set(&[place, column / columns, block, column % columns], number);
    }
    packed
}

/// A tensor of any strides with these numbers, row-major.
pub(crate) fn strided(element: Element, dims: &[usize], strides: &[usize], numbers: &[f64]) -> Strided {
    let mut tensor = Strided::zeros(element, dims, strides);
    let mut index = vec![0; dims.len()];
    for (at, &number) in numbers.iter().enumerate() {
        let mut rest = at;
        for (place, dim) in index.iter_mut().zip(dims).rev() {
            (*place, rest) = (rest % dim, rest / dim);
        }
        tensor.set(&index, number);
    }
    tensor
}
