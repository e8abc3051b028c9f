//! What a tensor holds at an index, as an expression of that index: through iotas, comparisons, selections and data movement, down
//! to elements of tensors that are not looked into. Proves facts about masks without running them.
//!
//! ```text
//! compare le (iota_t, iota_s + size) at [b, h, s, t]   =>   t <= s + past
//! ```

use std::collections::BTreeMap;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::Shape;

/// An integer that is affine in index variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affine {
    /// Coefficients of the variables, none zero.
    pub terms: BTreeMap<usize, Dim>,
    /// The rest.
    pub constant: Dim,
}

impl Affine {
    /// One variable.
    pub fn variable(index: usize) -> Affine {
        Affine { terms: BTreeMap::from([(index, Dim::Known(1))]), constant: Dim::Known(0) }
    }

    /// A number.
    pub fn constant(constant: Dim) -> Affine {
        Affine { terms: BTreeMap::new(), constant }
    }

    /// `self + factor * other`.
    pub fn plus(&self, other: &Affine, factor: i64) -> Affine {
        let other = other.times(&Dim::Known(factor));
        let mut terms = self.terms.clone();
        for (variable, coefficient) in &other.terms {
            let sum = terms.get(variable).map_or(coefficient.clone(), |known| known + coefficient);
            terms.insert(*variable, sum);
        }
        terms.retain(|_, coefficient| *coefficient != Dim::Known(0));
        Affine { terms, constant: &self.constant + &other.constant }
    }

    /// `factor * self`.
    pub fn times(&self, factor: &Dim) -> Affine {
        let terms = self.terms.iter().map(|(variable, coefficient)| (*variable, coefficient * factor));
        let terms = terms.filter(|row| row.1 != Dim::Known(0)).collect();
        Affine { terms, constant: &self.constant * factor }
    }

    /// The number, if no variable is in it.
    pub fn known(&self) -> Option<&Dim> {
        self.terms.is_empty().then_some(&self.constant)
    }
}

/// One element of a tensor, as an expression of its index.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// An integer.
    Integer(Affine),
    /// A constant number; truth values are 0 and 1.
    Number(f64),
    /// Element of a tensor that is not looked into.
    Load(ValueId, Vec<Affine>),
    /// `x != 0` of a number.
    Truth(Box<Expression>),
    /// A comparison: predicate and sides.
    Compare(String, Box<Expression>, Box<Expression>),
    /// Both hold.
    And(Box<Expression>, Box<Expression>),
    /// One holds.
    Or(Box<Expression>, Box<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// Condition, then, else.
    Select(Box<Expression>, Box<Expression>, Box<Expression>),
    /// Sum.
    Add(Box<Expression>, Box<Expression>),
    /// Difference.
    Sub(Box<Expression>, Box<Expression>),
    /// Product.
    Mul(Box<Expression>, Box<Expression>),
}

/// Where elements are read: the module, and how many values each index variable has.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The module.
    pub module: &'a Module,
    /// Extents of the variables, by number.
    pub extents: &'a [Dim],
}

/// Deepest chain of ops that is followed.
const DEPTH_MAX: usize = 64;

/// The element of `value` at `index`.
pub fn element(reader: Reader, value: ValueId, index: &[Affine], depth: usize) -> Expression {
    let load = || Expression::Load(value, index.to_vec());
    if depth > DEPTH_MAX {
        return load();
    }
    let Some(op) = reader.module.producer(value) else { return load() };
    through(reader, op, index, depth + 1).unwrap_or_else(load)
}

fn through(reader: Reader, op: OpId, index: &[Affine], depth: usize) -> Option<Expression> {
    let module = reader.module;
    let operation = module.op(op);
    let def = operation.def;
    if def == &core::CONSTANT {
        return constant(module, op, index);
    }
    if def == &core::SIZE {
        let dim = operation.attributes.get("value")?.as_dim()?;
        return Some(Expression::Integer(Affine::constant(dim)));
    }
    if def == &core::IOTA {
        let axis = operation.attributes.get("axis")?.as_int()? as usize;
        return index.get(axis).cloned().map(Expression::Integer);
    }
    if let Some(moved) = movement(reader, op, index, depth) {
        return Some(moved);
    }
    let shape = &module.tensor(module.result(op))?.shape;
    let operand = |at: usize| -> Option<Box<Expression>> {
        let value = *operation.operands.get(at)?;
        let inner = broadcast_index(&module.tensor(value)?.shape, shape.len(), index);
        Some(Box::new(element(reader, value, &inner, depth)))
    };
    let text = |name: &str| {
        operation.attributes.get(name).and_then(Attribute::as_str).unwrap_or_default().to_string()
    };
    Some(match def.short_name() {
        "cast" => cast(module, op, *operand(0)?)?,
        "compare" => Expression::Compare(text("predicate"), operand(0)?, operand(1)?),
        "not" => Expression::Not(operand(0)?),
        "select" => Expression::Select(operand(0)?, operand(1)?, operand(2)?),
        "logical" if text("function") == "and" => Expression::And(operand(0)?, operand(1)?),
        "logical" if text("function") == "or" => Expression::Or(operand(0)?, operand(1)?),
        "add" => match (*operand(0)?, *operand(1)?) {
            (Expression::Integer(a), Expression::Integer(b)) => Expression::Integer(a.plus(&b, 1)),
            (a, b) => Expression::Add(Box::new(a), Box::new(b)),
        },
        "sub" => match (*operand(0)?, *operand(1)?) {
            (Expression::Integer(a), Expression::Integer(b)) => Expression::Integer(a.plus(&b, -1)),
            (a, b) => Expression::Sub(Box::new(a), Box::new(b)),
        },
        "neg" => match *operand(0)? {
            Expression::Integer(a) => Expression::Integer(Affine::constant(Dim::Known(0)).plus(&a, -1)),
            _ => return None,
        },
        "mul" => match (*operand(0)?, *operand(1)?) {
            (Expression::Integer(a), Expression::Integer(b)) if b.known().is_some() => {
                Expression::Integer(a.times(&b.constant))
            }
            (Expression::Integer(a), Expression::Integer(b)) if a.known().is_some() => {
                Expression::Integer(b.times(&a.constant))
            }
            (a, b) => Expression::Mul(Box::new(a), Box::new(b)),
        },
        _ => return None,
    })
}

fn constant(module: &Module, op: OpId, index: &[Affine]) -> Option<Expression> {
    let elements = module.op(op).attributes.get("value")?.as_elements()?;
    let count: i64 = elements.ty().known_shape()?.iter().product();
    if !(1..=4096).contains(&count) {
        return None;
    }
    let tensor = Tensor::from_elements(elements).ok()?;
    let at = if (1..tensor.len()).all(|at| tensor.float(at).to_bits() == tensor.float(0).to_bits()) {
        0
    } else {
        let mut at = 0;
        for (axis, position) in index.iter().enumerate() {
            at = at * *tensor.shape.get(axis)? + usize::try_from(position.known()?.known()?).ok()?;
        }
        at
    };
    (at < tensor.len()).then_some(())?;
    if tensor.element.is_integer() {
        return Some(Expression::Integer(Affine::constant(Dim::Known(tensor.int(at)))));
    }
    Some(Expression::Number(tensor.float(at)))
}

fn cast(module: &Module, op: OpId, inner: Expression) -> Option<Expression> {
    let from = module.tensor(module.op(op).operands[0])?.element;
    let to = module.tensor(module.result(op))?.element;
    Some(match (&inner, to) {
        (Expression::Integer(affine), to) if to.is_float() => match affine.known().and_then(Dim::known) {
            Some(value) => Expression::Number(value as f64),
            None => inner,
        },
        (_, Element::Bool) if from != Element::Bool => Expression::Truth(Box::new(inner)),
        _ => inner,
    })
}

/// The index of an operand that broadcasts to a result of `rank` axes.
fn broadcast_index(shape: &Shape, rank: usize, index: &[Affine]) -> Vec<Affine> {
    let skip = rank - shape.len();
    let at = |(axis, dim): (usize, &Dim)| {
        if *dim == Dim::Known(1) { Affine::constant(Dim::Known(0)) } else { index[axis + skip].clone() }
    };
    shape.iter().enumerate().map(at).collect()
}

fn movement(reader: Reader, op: OpId, index: &[Affine], depth: usize) -> Option<Expression> {
    let module = reader.module;
    let operation = module.op(op);
    let x = *operation.operands.first()?;
    let from = &module.tensor(x)?.shape;
    let to = &module.tensor(module.result(op))?.shape;
    let inner: Vec<Affine> = match operation.def.short_name() {
        "reshape" => reshape_index(from, to, index).or_else(|| flat_index(reader, from, to, index))?,
        "broadcast" => broadcast_index(from, to.len(), index),
        "transpose" => {
            let permutation = operation.attributes.get("permutation")?.as_ints()?;
            let mut inner = index.to_vec();
            for (at, axis) in permutation.iter().enumerate() {
                inner[*axis as usize] = index[at].clone();
            }
            inner
        }
        "slice" => {
            let starts = operation.attributes.get("starts")?.as_dims()?;
            let steps = operation.attributes.get("steps")?.as_ints()?;
            let rows = starts.iter().zip(steps).zip(index);
            rows.map(|((start, step), at)| Affine::constant(start.clone()).plus(at, *step)).collect()
        }
        "concat" => return concat(reader, op, index, depth),
        "gather" => return gather(reader, op, index, depth),
        "gather_nd" => return gather_nd(reader, op, index, depth),
        _ => return None,
    };
    Some(element(reader, x, &inner, depth))
}

/// A reshape that only adds and removes axes of length one.
fn reshape_index(from: &Shape, to: &Shape, index: &[Affine]) -> Option<Vec<Affine>> {
    let one = Dim::Known(1);
    let mut rest = to.iter().zip(index).filter(|row| *row.0 != one);
    let mut inner = Vec::new();
    for dim in from {
        if *dim == one {
            inner.push(Affine::constant(Dim::Known(0)));
        } else {
            let (other, at) = rest.next()?;
            (other == dim).then_some(())?;
            inner.push(at.clone());
        }
    }
    rest.next().is_none().then_some(inner)
}

/// Any reshape: the row-major place, taken apart again. Each axis must come out as one variable that fills it, or as zero.
fn flat_index(reader: Reader, from: &Shape, to: &Shape, index: &[Affine]) -> Option<Vec<Affine>> {
    let mut place = Affine::constant(Dim::Known(0));
    for (dim, at) in to.iter().zip(index) {
        place = place.times(dim).plus(at, 1);
    }
    (place.constant == Dim::Known(0)).then_some(())?;
    let mut inner = Vec::new();
    for axis in 0..from.len() {
        let stride = from[axis + 1..].iter().fold(Dim::Known(1), |product, dim| &product * dim);
        let found = place.terms.iter().find(|(_, coefficient)| **coefficient == stride).map(|row| *row.0);
        match found.filter(|_| from[axis] != Dim::Known(1)) {
            Some(variable) if reader.extents.get(variable) == Some(&from[axis]) => {
                place.terms.remove(&variable);
                inner.push(Affine::variable(variable));
            }
            Some(_) => return None,
            None => inner.push(Affine::constant(Dim::Known(0))),
        }
    }
    place.terms.is_empty().then_some(inner)
}

/// A concat read at a known place of its axis.
fn concat(reader: Reader, op: OpId, index: &[Affine], depth: usize) -> Option<Expression> {
    let module = reader.module;
    let operation = module.op(op);
    let axis = operation.attributes.get("axis")?.as_int()? as usize;
    let mut at = index.get(axis)?.known()?.known()?;
    for part in &operation.operands {
        let extent = module.tensor(*part)?.shape[axis].known()?;
        if at < extent {
            let mut inner = index.to_vec();
            inner[axis] = Affine::constant(Dim::Known(at));
            return Some(element(reader, *part, &inner, depth));
        }
        at -= extent;
    }
    None
}

fn gather(reader: Reader, op: OpId, index: &[Affine], depth: usize) -> Option<Expression> {
    let module = reader.module;
    let operation = module.op(op);
    let (x, indices) = (operation.operands[0], operation.operands[1]);
    let axis = operation.attributes.get("axis")?.as_int()? as usize;
    let width = module.tensor(indices)?.rank();
    let Expression::Integer(at) = element(reader, indices, &index[axis..axis + width], depth) else {
        return None;
    };
    let inner: Vec<Affine> =
        index[..axis].iter().cloned().chain([at]).chain(index[axis + width..].iter().cloned()).collect();
    Some(element(reader, x, &inner, depth))
}

fn gather_nd(reader: Reader, op: OpId, index: &[Affine], depth: usize) -> Option<Expression> {
    let module = reader.module;
    let operation = module.op(op);
    if operation.attributes.get("batch_dims").and_then(Attribute::as_int).unwrap_or(0) != 0 {
        return None;
    }
    let (x, indices) = (operation.operands[0], operation.operands[1]);
    let shape = &module.tensor(indices)?.shape;
    let leading = shape.len() - 1;
    let mut inner = Vec::new();
    for part in 0..shape[leading].known()? {
        let mut at = index[..leading].to_vec();
        at.push(Affine::constant(Dim::Known(part)));
        let Expression::Integer(found) = element(reader, indices, &at, depth) else { return None };
        inner.push(found);
    }
    inner.extend(index[leading..].iter().cloned());
    Some(element(reader, x, &inner, depth))
}
