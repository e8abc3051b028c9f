//! Small integer tensors whose values are dimension expressions: what shape computations work on.
//!
//! Knows nothing of nodes. An operation answers `None` where it cannot be decided; the value is then computed as data.
//!
//! ```text
//! Concat(Shape(x)[0:1], [-1], [64]) = [batch, -1, 64]
//! ```

use super::dims;
use tilewright_ir::dim::{Dim, Function};
use tilewright_ir::element::{Element, Family};
use tilewright_ir::tensor::{broadcast_index, broadcast_shapes, coordinates, strides_of};

/// The most elements that a symbolic tensor may have.
pub(crate) const ELEMENTS_MAX: usize = 256;

/// A small integer or truth tensor of dimension expressions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Symbolic {
    /// Element type: an integer type or bool.
    pub(crate) element: Element,
    /// Dimensions.
    pub(crate) shape: Vec<usize>,
    /// Values in row-major order.
    pub(crate) values: Vec<Dim>,
}

/// An elementwise function of two symbolic tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    /// Quotient truncated towards zero, as ONNX divides integers.
    Div,
    /// Remainder with the sign of the divisor.
    Mod,
    Max,
    Min,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
}

impl Binary {
    fn gives_bool(self) -> bool {
        use Binary::*;
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual | And | Or | Xor)
    }

    fn apply(self, a: &Dim, b: &Dim) -> Option<Dim> {
        let truth = |value: Option<bool>| value.map(|value| Dim::Known(i64::from(value)));
        match self {
            Binary::Add => dims::add(a, b),
            Binary::Sub => dims::subtract(a, b),
            Binary::Mul => dims::multiply(a, b),
            Binary::Div => divide(a, b),
            Binary::Mod => dims::call(Function::Mod, a, b),
            Binary::Max => dims::larger(a, b),
            Binary::Min => dims::smaller(a, b),
            Binary::Equal => truth(dims::is_equal(a, b)),
            Binary::Less => truth(dims::is_less(a, b)),
            Binary::Greater => truth(dims::is_less(b, a)),
            Binary::LessOrEqual => truth(dims::is_less(b, a).map(|value| !value)),
            Binary::GreaterOrEqual => truth(dims::is_less(a, b).map(|value| !value)),
            Binary::And => truth(Some(a.known()? != 0 && b.known()? != 0)),
            Binary::Or => truth(Some(a.known()? != 0 || b.known()? != 0)),
            Binary::Xor => truth(Some((a.known()? != 0) != (b.known()? != 0))),
        }
    }
}

/// `a / b` truncated towards zero: the floor where both are at least 0.
fn divide(a: &Dim, b: &Dim) -> Option<Dim> {
    if let (Some(a), Some(b)) = (a.known(), b.known()) {
        return a.checked_div(b).map(Dim::Known);
    }
    let is_positive = |dim: &Dim| dims::bounds(dim, 0).0.is_some_and(|lower| lower >= 0);
    if is_positive(a) && is_positive(b) {
        return dims::call(Function::FloorDiv, a, b);
    }
    a.divide_exactly(b)
}

impl Symbolic {
    /// A tensor of integers; `None` when too large.
    pub(crate) fn new(element: Element, shape: &[usize], values: Vec<Dim>) -> Option<Symbolic> {
        let fits = values.len() <= ELEMENTS_MAX && values.len() == shape.iter().product::<usize>();
        let usable = matches!(element.family(), Family::Signed | Family::Unsigned | Family::Bool);
        (fits && usable).then(|| Symbolic { element, shape: shape.to_vec(), values })
    }

    /// One `i64`.
    pub(crate) fn scalar(value: Dim) -> Symbolic {
        Symbolic { element: Element::I64, shape: Vec::new(), values: vec![value] }
    }

    /// A vector of `i64`; `None` when too large.
    pub(crate) fn vector(values: Vec<Dim>) -> Option<Symbolic> {
        Symbolic::new(Element::I64, &[values.len()], values)
    }

    /// All values as numbers, if they are.
    pub(crate) fn known(&self) -> Option<Vec<i64>> {
        self.values.iter().map(Dim::known).collect()
    }

    /// An elementwise function with numpy broadcasting.
    pub(crate) fn binary(function: Binary, a: &Symbolic, b: &Symbolic) -> Option<Symbolic> {
        let shape = broadcast_shapes(&a.shape, &b.shape).ok()?;
        let count: usize = shape.iter().product();
        if count > ELEMENTS_MAX {
            return None;
        }
        let (left, right) = (broadcast_index(&a.shape, &shape), broadcast_index(&b.shape, &shape));
        let values: Option<Vec<Dim>> =
            (0..count).map(|at| function.apply(&a.values[left(at)], &b.values[right(at)])).collect();
        let element = if function.gives_bool() { Element::Bool } else { a.element };
        Symbolic::new(element, &shape, values?)?.in_range()
    }

    /// The same when all known values fit the element type; otherwise arithmetic would wrap and is left to the data path.
    fn in_range(self) -> Option<Symbolic> {
        let (low, high) = self.element.integer_range()?;
        let fits = self.values.iter().filter_map(Dim::known).all(|value| (low..=high).contains(&value));
        fits.then_some(self)
    }

    /// `condition ? a : b` with numpy broadcasting.
    pub(crate) fn select(condition: &Symbolic, a: &Symbolic, b: &Symbolic) -> Option<Symbolic> {
        let shape = broadcast_shapes(&broadcast_shapes(&condition.shape, &a.shape).ok()?, &b.shape).ok()?;
        let count: usize = shape.iter().product();
        if count > ELEMENTS_MAX {
            return None;
        }
        let index = |of: &Symbolic| broadcast_index(&of.shape, &shape);
        let (choose, left, right) = (index(condition), index(a), index(b));
        let values: Option<Vec<Dim>> = (0..count)
            .map(|at| {
                let (x, y) = (&a.values[left(at)], &b.values[right(at)]);
                match condition.values[choose(at)].known() {
                    Some(0) => Some(y.clone()),
                    Some(_) => Some(x.clone()),
                    // Both sides alike: the condition does not matter.
                    None => (x == y).then(|| x.clone()),
                }
            })
            .collect();
        Symbolic::new(a.element, &shape, values?)
    }

    /// Each value mapped.
    pub(crate) fn map(&self, element: Element, f: impl Fn(&Dim) -> Option<Dim>) -> Option<Symbolic> {
        let values: Option<Vec<Dim>> = self.values.iter().map(f).collect();
        Symbolic::new(element, &self.shape, values?)?.in_range()
    }

    /// As another integer type or bool; `None` for floats and where a known value would wrap.
    pub(crate) fn cast(&self, element: Element) -> Option<Symbolic> {
        if element == Element::Bool && self.element != Element::Bool {
            return self.map(element, |dim| {
                dims::is_equal(dim, &Dim::Known(0)).map(|is_zero| Dim::Known(i64::from(!is_zero)))
            });
        }
        self.map(element, |dim| Some(dim.clone()))
    }

    /// Elements picked by position: element `i` of the result is element `source(i)`.
    pub(crate) fn pick(&self, shape: &[usize], source: impl Fn(usize) -> usize) -> Option<Symbolic> {
        let count = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
        if count > ELEMENTS_MAX {
            return None;
        }
        let values: Option<Vec<Dim>> = (0..count).map(|at| self.values.get(source(at)).cloned()).collect();
        Symbolic::new(self.element, shape, values?)
    }

    /// The same values under another shape.
    pub(crate) fn reshape(&self, shape: &[usize]) -> Option<Symbolic> {
        Symbolic::new(self.element, shape, self.values.clone())
    }

    /// `numpy.take` along an axis with known indices.
    pub(crate) fn gather(&self, indices: &Symbolic, axis: usize) -> Option<Symbolic> {
        let wanted = indices.known()?;
        let size = *self.shape.get(axis)? as i64;
        let at: Option<Vec<usize>> = wanted
            .iter()
            .map(|index| {
                let index = if *index < 0 { index + size } else { *index };
                (0..size).contains(&index).then_some(index as usize)
            })
            .collect();
        let at = at?;
        let mut shape = self.shape[..axis].to_vec();
        shape.extend(&indices.shape);
        shape.extend(&self.shape[axis + 1..]);
        let inner: usize = self.shape[axis + 1..].iter().product();
        let per_outer = at.len() * inner;
        self.pick(&shape, |index| {
            let (outer, rest) = (index / per_outer.max(1), index % per_outer.max(1));
            (outer * size as usize + at[rest / inner.max(1)]) * inner + rest % inner.max(1)
        })
    }

    /// A slice with a start, a count and a step for every axis.
    pub(crate) fn slice(&self, starts: &[i64], counts: &[usize], steps: &[i64]) -> Option<Symbolic> {
        let strides = strides_of(&self.shape);
        self.pick(counts, |index| {
            let at = coordinates(index, counts);
            at.iter()
                .enumerate()
                .map(|(axis, at)| ((starts[axis] + *at as i64 * steps[axis]) as usize) * strides[axis])
                .sum()
        })
    }

    /// Joined along an axis.
    pub(crate) fn concat(parts: &[Symbolic], axis: usize) -> Option<Symbolic> {
        let first = parts.first()?;
        let inner: usize = first.shape.get(axis + 1..)?.iter().product();
        let outer: usize = first.shape[..axis].iter().product();
        let mut values = Vec::new();
        for row in 0..outer {
            for part in parts {
                let width = part.shape.get(axis)? * inner;
                values.extend(part.values.get(row * width..(row + 1) * width)?.iter().cloned());
            }
        }
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        Symbolic::new(first.element, &shape, values)
    }

    /// The transpose.
    pub(crate) fn transpose(&self, permutation: &[usize]) -> Option<Symbolic> {
        let shape: Vec<usize> = permutation.iter().map(|axis| self.shape[*axis]).collect();
        let strides = strides_of(&self.shape);
        self.pick(&shape, |index| {
            coordinates(index, &shape).iter().zip(permutation).map(|(at, axis)| at * strides[*axis]).sum()
        })
    }

    /// Broadcast to a known shape.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Option<Symbolic> {
        let count = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
        let fits = broadcast_shapes(&self.shape, shape).is_ok_and(|both| both == shape);
        if count > ELEMENTS_MAX || !fits {
            return None;
        }
        self.pick(shape, broadcast_index(&self.shape, shape))
    }

    /// All values folded into one scalar.
    pub(crate) fn fold(&self, start: Dim, function: Binary) -> Option<Dim> {
        self.values.iter().try_fold(start, |so_far, value| function.apply(&so_far, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(texts: &[&str]) -> Symbolic {
        Symbolic::vector(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn expand_soup_is_decided() {
        let shape = vector(&["batch", "0 - 1", "past + seq"]);
        let minus_one = Symbolic::scalar(Dim::Known(-1));
        let is_open = Symbolic::binary(Binary::Equal, &shape, &minus_one).unwrap();
        assert_eq!(is_open.known(), Some(vec![0, 1, 0]));
        let ones = vector(&["1", "1", "1"]);
        assert_eq!(Symbolic::select(&is_open, &ones, &shape).unwrap(), vector(&["batch", "1", "past + seq"]));
    }

    #[test]
    fn arithmetic_keeps_symbols_and_truncates() {
        let apply = |function, a: &str, b: &str| Symbolic::binary(function, &vector(&[a]), &vector(&[b]));
        assert_eq!(apply(Binary::Div, "0 - 7", "2").unwrap().known(), Some(vec![-3]));
        assert_eq!(apply(Binary::Div, "64*seq", "4").unwrap(), vector(&["16*seq"]));
        assert_eq!(apply(Binary::Div, "seq", "0"), None);
        assert_eq!(apply(Binary::Add, "seq", "past").unwrap(), vector(&["past + seq"]));
    }

    #[test]
    fn data_movement_follows_numpy() {
        let shape = vector(&["a", "b", "c", "d"]);
        let at = |values: &[i64]| Symbolic::vector(values.iter().map(|v| Dim::Known(*v)).collect()).unwrap();
        assert_eq!(shape.gather(&at(&[-1, 0]), 0).unwrap(), vector(&["d", "a"]));
        assert_eq!(shape.gather(&at(&[4]), 0), None);
        assert_eq!(shape.slice(&[3], &[2], &[-2]).unwrap(), vector(&["d", "b"]));
        let square = shape.reshape(&[2, 2]).unwrap();
        assert_eq!(square.transpose(&[1, 0]).unwrap().values, vector(&["a", "c", "b", "d"]).values);
        assert_eq!(Symbolic::concat(&[square.clone(), square], 1).unwrap().shape, [2, 4]);
        assert_eq!(shape.broadcast(&[3]), None);
    }
}
