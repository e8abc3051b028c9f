//! How a right operand lies in panels, and which layouts the fast kernels know.
//!
//! ```
//! use tilewright_runtime::{element::Element, kernels::packed::Layout};
//! let layout = Layout::of(Element::I4).expect("known");
//! // A line of 64 bytes: rows 0..4 of 16 columns in low nibbles, rows 4..8 in high ones.
//! assert_eq!((layout.dims(40, 20), layout.strides(20)), ([3, 3, 2, 16, 4], [384, 128, 1, 8, 2]));
//! ```

use crate::element::Element;

/// Columns of a panel: one 512-bit register of 32-bit sums, one tile of AMX.
pub const PANEL_COLUMNS: usize = 16;

/// A layout `[n1, k1, h, n0, r]`: element `[j, i, p, c, q]` is row `(i * h + p) * r + q` and column `j * n0 + c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Columns of a panel.
    pub columns: usize,
    /// Groups of rows that lie inside one another (the halves of a byte), 1 for none.
    pub groups: usize,
    /// Rows that lie side by side.
    pub rows: usize,
    /// Distances of `groups`, `columns` and `rows` in elements.
    pub steps: [usize; 3],
}

impl Layout {
    /// The layout that the fast kernels expect for an element type; none where no kernel is faster than the portable one.
    pub fn of(element: Element) -> Option<Layout> {
        let columns = PANEL_COLUMNS;
        let plain = |rows| Some(Layout { columns, groups: 1, rows, steps: [rows * columns, rows, 1] });
        match element {
            Element::I8 | Element::U8 => plain(4),
            Element::I4 | Element::U4 | Element::NF4 => {
                Some(Layout { columns, groups: 2, rows: 4, steps: [1, 8, 2] })
            }
            Element::BF16 | Element::F16 => plain(2),
            Element::F32 => plain(1),
            _ => None,
        }
    }

    /// Rows of k in one step along `k1`.
    pub fn depth(&self) -> usize {
        self.groups * self.rows
    }

    /// Extents for n columns and k rows.
    pub fn dims(&self, n: usize, k: usize) -> [usize; 5] {
        [n.div_ceil(self.columns), k.div_ceil(self.depth()), self.groups, self.columns, self.rows]
    }

    /// Strides in elements for k rows, panel after panel without gaps.
    pub fn strides(&self, k: usize) -> [usize; 5] {
        let step = self.depth() * self.columns;
        let [groups, columns, rows] = self.steps;
        [k.div_ceil(self.depth()) * step, step, groups, columns, rows]
    }
}
