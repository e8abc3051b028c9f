//! Makes core ops for rows: the one place of the importer that knows how core ops take their operands and attributes.
//!
//! Before an op is made, dimensions that it needs to be equal are made equal (see `dims`).
//!
//! ```text
//! emit.matmul(x, w)?  ->  "core.matmul"(%x, %w) : (tensor<1x?x64xf32, ["seq"]>, tensor<64x64xf32>) -> tensor<1x?x64xf32, ["seq"]>
//! ```

use super::dims::{self, Equate, Symbols};
use super::fault::{Fault, Outcome};
use super::operand::{Operand, Origin};
use super::symbolic::Symbolic;
use std::sync::Arc;
use tilewright_ir::attribute::{Attributes, Elements, Resource};
use tilewright_ir::builder::{Builder, OpBuilder};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, normalize_axis};
use tilewright_ir::shape::text;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{Shape, TensorType, Type};

/// What helps where strings are not taken.
pub(crate) const WAY_WITHOUT_STRINGS: &str =
    "turn them into numbers before (LabelEncoder, Equal), or keep text out of the model";

/// Where ops are made.
pub(crate) struct Emitter {
    /// The module.
    pub(crate) module: Module,
    /// Blocks around the insertion point, outermost first; ops are appended to the last.
    pub(crate) blocks: Vec<BlockId>,
    /// The location that new ops get.
    pub(crate) location: Location,
    /// The symbols of the model.
    pub(crate) symbols: Symbols,
}

impl Emitter {
    /// The block that ops are appended to.
    pub(crate) fn block(&self) -> BlockId {
        *self.blocks.last().expect("there is always a block to append to")
    }

    /// Makes an op.
    pub(crate) fn op(
        &mut self,
        def: &'static OpDef,
        fill: impl for<'a, 'b> FnOnce(OpBuilder<'a, 'b>) -> OpBuilder<'a, 'b>,
    ) -> Outcome<OpId> {
        let block = self.block();
        let location = self.location.clone();
        let mut builder = Builder { module: &mut self.module, block, position: None, location };
        Ok(fill_op(&mut builder, def, fill)?)
    }

    /// Makes an op and gives its first result.
    pub(crate) fn make(
        &mut self,
        def: &'static OpDef,
        fill: impl for<'a, 'b> FnOnce(OpBuilder<'a, 'b>) -> OpBuilder<'a, 'b>,
    ) -> Outcome<ValueId> {
        let op = self.op(def, fill)?;
        Ok(self.module.result(op))
    }

    /// The tensor type of a value made here.
    pub(crate) fn ty(&self, value: ValueId) -> &TensorType {
        self.module.tensor(value).expect("the importer makes tensors only")
    }

    /// The shape of a value.
    pub(crate) fn shape(&self, value: ValueId) -> Shape {
        self.ty(value).shape.clone()
    }

    /// One dimension of a value, which may have fewer.
    pub(crate) fn dim(&self, value: ValueId, axis: usize) -> Outcome<Dim> {
        let ty = self.ty(value);
        let dim = ty.shape.get(axis).cloned();
        dim.ok_or_else(|| Fault::model(format!("rank {} or more is needed, found {ty}", axis + 1)))
    }

    /// The element type of a value.
    pub(crate) fn element(&self, value: ValueId) -> Element {
        self.ty(value).element
    }

    /// The rank of a value.
    pub(crate) fn rank(&self, value: ValueId) -> usize {
        self.ty(value).rank()
    }

    /// A value as an operand of later nodes.
    pub(crate) fn operand(&self, value: ValueId) -> Operand {
        Operand::value(value, self.ty(value).clone())
    }

    /// The data of an operand: constants and dimension expressions become ops at their first use.
    pub(crate) fn data(&mut self, operand: &Operand) -> Outcome<ValueId> {
        if let Origin::Value(value) = operand.origin() {
            return Ok(*value);
        }
        if let Some(value) = operand.placed_in(&self.blocks) {
            return Ok(value);
        }
        let value = match operand.origin() {
            Origin::Value(value) => *value,
            Origin::Constant(elements) => {
                let elements = elements.clone();
                self.make(&core::CONSTANT, |op| op.attribute("value", elements))?
            }
            Origin::Symbolic(symbolic) => self.sizes(&symbolic.clone())?,
            Origin::Strings(_) => {
                return Err(Fault::unsupported("numbers are needed, found strings", WAY_WITHOUT_STRINGS));
            }
            Origin::List(_) | Origin::Empty => {
                return Err(Fault::model("a tensor is needed, found a sequence or an empty optional"));
            }
        };
        operand.place(self.block(), value);
        Ok(value)
    }

    /// Dimension expressions as data.
    fn sizes(&mut self, symbolic: &Symbolic) -> Outcome<ValueId> {
        let mut parts = Vec::new();
        for dim in &symbolic.values {
            let value = self.size(dim)?;
            let value = self.cast(value, symbolic.element)?;
            parts.push(if symbolic.shape.is_empty() {
                value
            } else {
                self.reshape(value, &[Dim::Known(1)])?
            });
        }
        let joined = match parts.as_slice() {
            [single] => *single,
            _ => self.concat(&parts, 0)?,
        };
        let shape: Vec<Dim> = symbolic.shape.iter().map(|dim| Dim::Known(*dim as i64)).collect();
        self.reshape(joined, &shape)
    }

    /// One dimension expression as an `i64` scalar.
    pub(crate) fn size(&mut self, dim: &Dim) -> Outcome<ValueId> {
        if let Some(value) = dim.known() {
            return self.ints(Element::I64, &[], &[value]);
        }
        self.make(&core::SIZE, |op| op.attribute("value", tilewright_ir::attribute::Attribute::dim(dim)))
    }

    /// A constant of numbers.
    pub(crate) fn ints(&mut self, element: Element, shape: &[i64], values: &[i64]) -> Outcome<ValueId> {
        self.tensor(&Tensor::from_ints(element, shape, values.to_vec()))
    }

    /// A scalar constant.
    pub(crate) fn scalar(&mut self, element: Element, value: f64) -> Outcome<ValueId> {
        self.tensor(&Tensor::splat(element, &[], value))
    }

    /// A scalar constant of a value's element type.
    pub(crate) fn scalar_like(&mut self, like: ValueId, value: f64) -> Outcome<ValueId> {
        self.scalar(self.element(like), value)
    }

    /// A constant from a tensor.
    pub(crate) fn tensor(&mut self, tensor: &Tensor) -> Outcome<ValueId> {
        let elements = if tensor.len() > super::weights::DENSE_MAX {
            let name = self.location.to_string();
            let name = name.trim_matches('"');
            Elements::Resource(Arc::new(Resource::new(name, tensor.ty(), tensor.to_bytes().into())))
        } else {
            tensor.to_elements()
        };
        self.make(&core::CONSTANT, |op| op.attribute("value", elements))
    }

    /// Makes two dimensions equal, or says that they are not.
    pub(crate) fn equate(&self, what: &str, a: &Dim, b: &Dim) -> Outcome<()> {
        match self.symbols.equate(a, b) {
            Equate::Equal => Ok(()),
            Equate::Replace(name, dim) => Err(Fault::Unify(name, dim)),
            Equate::Differ => Err(Fault::model(format!("{what}: {a} and {b}"))),
        }
    }

    /// Makes two shapes broadcastable and gives the result.
    pub(crate) fn broadcast_shape(&self, a: &[Dim], b: &[Dim]) -> Outcome<Shape> {
        let rank = a.len().max(b.len());
        let one = Dim::Known(1);
        let at = |shape: &[Dim], axis: usize| {
            (axis + shape.len()).checked_sub(rank).map_or(one.clone(), |index| shape[index].clone())
        };
        let mut shape = Shape::new();
        for axis in 0..rank {
            let (left, right) = (at(a, axis), at(b, axis));
            if left != one && right != one {
                let what = || format!("shapes {} and {} do not broadcast", text(a), text(b));
                if left != right {
                    self.equate(&what(), &left, &right)?;
                }
            }
            shape.push(if left == one { right } else { left });
        }
        Ok(shape)
    }

    /// An op with one operand and no attributes.
    pub(crate) fn unary(&mut self, def: &'static OpDef, x: ValueId) -> Outcome<ValueId> {
        self.make(def, |op| op.operand(x))
    }

    /// An elementwise op of two broadcast operands with attributes.
    pub(crate) fn binary_with(
        &mut self,
        def: &'static OpDef,
        a: ValueId,
        b: ValueId,
        attributes: Attributes,
    ) -> Outcome<ValueId> {
        self.broadcast_shape(&self.ty(a).shape, &self.ty(b).shape)?;
        self.make(def, |op| op.operands(&[a, b]).attributes(attributes))
    }

    /// An elementwise op of two broadcast operands.
    pub(crate) fn binary(&mut self, def: &'static OpDef, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        self.binary_with(def, a, b, Attributes::new())
    }

    /// `a + b`.
    pub(crate) fn add(&mut self, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        self.binary(&core::ADD, a, b)
    }

    /// `a - b`.
    pub(crate) fn sub(&mut self, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        self.binary(&core::SUB, a, b)
    }

    /// `a * b`.
    pub(crate) fn mul(&mut self, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        self.binary(&core::MUL, a, b)
    }

    /// `a * value`.
    pub(crate) fn scale(&mut self, a: ValueId, value: f64) -> Outcome<ValueId> {
        if value == 1.0 {
            return Ok(a);
        }
        let factor = self.scalar(self.element(a), value)?;
        self.mul(a, factor)
    }

    /// A comparison.
    pub(crate) fn compare(&mut self, predicate: &'static str, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        let attributes = Attributes::from([("predicate".into(), predicate.into())]);
        self.binary_with(&core::COMPARE, a, b, attributes)
    }

    /// `and`, `or` or `xor` of truth values.
    pub(crate) fn logical(&mut self, function: &'static str, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        let attributes = Attributes::from([("function".into(), function.into())]);
        self.binary_with(&core::LOGICAL, a, b, attributes)
    }

    /// `condition ? a : b`.
    pub(crate) fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        let sides = self.broadcast_shape(&self.ty(a).shape, &self.ty(b).shape)?;
        self.broadcast_shape(&self.ty(condition).shape, &sides)?;
        self.make(&core::SELECT, |op| op.operands(&[condition, a, b]))
    }

    /// Another element type, by value.
    pub(crate) fn cast(&mut self, x: ValueId, element: Element) -> Outcome<ValueId> {
        if self.element(x) == element {
            return Ok(x);
        }
        let ty = self.ty(x).with_element(element);
        self.make(&core::CAST, |op| op.operand(x).result(ty))
    }

    /// The element type of another value.
    pub(crate) fn cast_like(&mut self, x: ValueId, like: ValueId) -> Outcome<ValueId> {
        self.cast(x, self.element(like))
    }

    /// The same elements under another shape; element counts are made equal.
    pub(crate) fn reshape(&mut self, x: ValueId, shape: &[Dim]) -> Outcome<ValueId> {
        let from = self.ty(x).clone();
        if from.shape.as_slice() == shape {
            return Ok(x);
        }
        let too_large =
            || Fault::model(format!("shapes {} and {} are too large", text(&from.shape), text(shape)));
        let before = dims::product(&from.shape).ok_or_else(too_large)?;
        let after = dims::product(shape).ok_or_else(too_large)?;
        let what = format!("cannot reshape {} to {}: element counts differ", text(&from.shape), text(shape));
        // Two expressions that only look different (a quotient times its divisor) are left to the run.
        if before != after && !(is_opaque(&before) || is_opaque(&after)) {
            self.equate(&what, &before, &after)?;
        }
        let ty = TensorType::new(from.element, shape.iter().cloned());
        self.make(&core::RESHAPE, |op| op.operand(x).result(ty))
    }

    /// Reorders dimensions.
    pub(crate) fn transpose(&mut self, x: ValueId, permutation: &[usize]) -> Outcome<ValueId> {
        if permutation.iter().enumerate().all(|(at, axis)| at == *axis) && permutation.len() == self.rank(x) {
            return Ok(x);
        }
        let permutation: Vec<i64> = permutation.iter().map(|axis| *axis as i64).collect();
        self.make(&core::TRANSPOSE, |op| op.operand(x).attribute("permutation", permutation))
    }

    /// Swaps the last two dimensions.
    pub(crate) fn transpose_last(&mut self, x: ValueId) -> Outcome<ValueId> {
        let rank = self.rank(x);
        if rank < 2 {
            return Err(Fault::model(format!("a matrix is needed, found {}", self.ty(x))));
        }
        let mut permutation: Vec<usize> = (0..rank).collect();
        permutation.swap(rank - 1, rank - 2);
        self.transpose(x, &permutation)
    }

    /// Repeats to a shape, dimensions aligned at the end.
    pub(crate) fn broadcast(&mut self, x: ValueId, shape: &[Dim]) -> Outcome<ValueId> {
        if self.ty(x).shape.as_slice() == shape {
            return Ok(x);
        }
        let ty = TensorType::new(self.element(x), shape.iter().cloned());
        self.make(&core::BROADCAST, |op| op.operand(x).result(ty))
    }

    /// A part of one axis, from `start`, `length` elements.
    pub(crate) fn slice_axis(
        &mut self,
        x: ValueId,
        axis: usize,
        start: &Dim,
        length: &Dim,
    ) -> Outcome<ValueId> {
        let mut ty = self.ty(x).clone();
        if *start == Dim::Known(0) && self.dim(x, axis)? == *length {
            return Ok(x);
        }
        self.dim(x, axis)?;
        let mut starts = vec![Dim::Known(0); ty.rank()];
        starts[axis] = start.clone();
        ty.shape[axis] = length.clone();
        self.slice(x, starts, vec![1; ty.rank()], ty.shape)
    }

    /// A regular part: starts counted from 0, steps, and the result's shape.
    pub(crate) fn slice(
        &mut self,
        x: ValueId,
        starts: Vec<Dim>,
        steps: Vec<i64>,
        shape: Shape,
    ) -> Outcome<ValueId> {
        let ty = TensorType { element: self.element(x), shape };
        self.make(&core::SLICE, |op| {
            op.operand(x).attribute("starts", starts).attribute("steps", steps).result(ty)
        })
    }

    /// Joins along an axis; the other dimensions are made equal.
    pub(crate) fn concat(&mut self, parts: &[ValueId], axis: usize) -> Outcome<ValueId> {
        let Some((first, rest)) = parts.split_first() else {
            return Err(Fault::model("nothing to concatenate"));
        };
        if rest.is_empty() {
            return Ok(*first);
        }
        let expected = self.ty(*first).clone();
        for part in rest {
            let found = self.ty(*part);
            if found.rank() != expected.rank() || found.element != expected.element {
                return Err(Fault::model(format!("cannot concatenate {expected} and {found}")));
            }
            for other in (0..expected.rank()).filter(|other| *other != axis) {
                let what =
                    format!("cannot concatenate {expected} and {found} on axis {axis}: dimension {other}");
                self.equate(&what, &expected.shape[other], &found.shape[other])?;
            }
        }
        self.make(&core::CONCAT, |op| op.operands(parts).attribute("axis", axis))
    }

    /// The elements of an axis at indices.
    pub(crate) fn gather(&mut self, x: ValueId, indices: ValueId, axis: usize) -> Outcome<ValueId> {
        self.make(&core::GATHER, |op| op.operands(&[x, indices]).attribute("axis", axis))
    }

    /// Values 0, 1, .. along an axis of a shape.
    pub(crate) fn iota(&mut self, element: Element, shape: &[Dim], axis: usize) -> Outcome<ValueId> {
        let ty = TensorType::new(element, shape.iter().cloned());
        self.make(&core::IOTA, |op| op.attribute("axis", axis).result(ty))
    }

    /// A reduction over axes.
    pub(crate) fn reduce(
        &mut self,
        def: &'static OpDef,
        x: ValueId,
        axes: &[usize],
        keep_dims: bool,
    ) -> Outcome<ValueId> {
        let axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        self.make(def, |op| op.operand(x).attribute("axes", axes).attribute("keep_dims", keep_dims))
    }

    /// An op over one axis with the attribute `axis`.
    pub(crate) fn along(&mut self, def: &'static OpDef, x: ValueId, axis: usize) -> Outcome<ValueId> {
        self.make(def, |op| op.operand(x).attribute("axis", axis))
    }

    /// Matrix product with numpy's batch rules, vectors included; inner dimensions are made equal.
    pub(crate) fn matmul(&mut self, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        self.matmul_dims(a, b)?;
        let one = Dim::Known(1);
        let (left, right) = (self.shape(a), self.shape(b));
        let row = if left.len() == 1 { self.reshape(a, &[one.clone(), left[0].clone()])? } else { a };
        let column = if right.len() == 1 { self.reshape(b, &[right[0].clone(), one])? } else { b };
        let y = self.make(&core::MATMUL, |op| op.operands(&[row, column]))?;
        if left.len() > 1 && right.len() > 1 {
            return Ok(y);
        }
        // The axis that a vector lent is taken away again.
        let mut shape = self.shape(y).to_vec();
        if right.len() == 1 {
            shape.pop();
        }
        if left.len() == 1 {
            shape.remove(shape.len() - if right.len() == 1 { 1 } else { 2 });
        }
        self.reshape(y, &shape)
    }

    /// Makes the dimensions of a matrix product fit.
    pub(crate) fn matmul_dims(&mut self, a: ValueId, b: ValueId) -> Outcome<()> {
        let (left, right) = (self.ty(a), self.ty(b));
        let (Some(inner), true) = (left.shape.last(), right.rank() > 0) else {
            return Err(Fault::model(format!("cannot multiply {left} and {right}")));
        };
        let other = &right.shape[right.rank().saturating_sub(2)];
        self.equate(&format!("cannot multiply {left} and {right}: inner dimensions differ"), inner, other)?;
        let batch = |ty: &TensorType| ty.shape[..ty.rank().saturating_sub(2)].to_vec();
        self.broadcast_shape(&batch(left), &batch(right)).map(|_| ())
    }

    /// Real values of quantised storage.
    pub(crate) fn dequantize(
        &mut self,
        q: ValueId,
        with: &Quantization,
        element: Element,
    ) -> Outcome<ValueId> {
        let ty = self.ty(q).with_element(element);
        self.make(&core::DEQUANTIZE, |op| with.fill(op.operand(q)).result(ty))
    }

    /// Quantised storage of real values.
    pub(crate) fn quantize(&mut self, x: ValueId, with: &Quantization, element: Element) -> Outcome<ValueId> {
        let ty = self.ty(x).with_element(element);
        self.make(&core::QUANTIZE, |op| with.fill(op.operand(x)).result(ty))
    }

    /// `core.yield` at the end of the current block.
    pub(crate) fn finish_block(&mut self, def: &'static OpDef, values: &[ValueId]) -> Outcome<()> {
        self.op(def, |op| op.operands(values)).map(|_| ())
    }

    /// Begins an op with regions, outside any block; its results have placeholder types until [`Emitter::end_region_op`].
    pub(crate) fn begin_region_op(
        &mut self,
        def: &'static OpDef,
        operands: &[ValueId],
        attributes: Attributes,
        result_count: usize,
    ) -> OpId {
        let results = vec![Type::tensor(Element::F32, &[]); result_count];
        let op = self.module.create_op(def, operands, attributes, &results, self.location.clone());
        for _ in 0..def.regions {
            self.module.add_region(op);
        }
        op
    }

    /// Opens the block of a region of an op begun here; gives its arguments.
    pub(crate) fn open_region(&mut self, op: OpId, region: usize, arguments: &[TensorType]) -> Vec<ValueId> {
        let region = self.module.op(op).regions[region];
        let types: Vec<Type> = arguments.iter().cloned().map(Type::Tensor).collect();
        let block = self.module.add_block(region, &types);
        self.blocks.push(block);
        self.module.block(block).arguments.clone()
    }

    /// Closes the block opened last with `core.yield`.
    pub(crate) fn close_region(&mut self, values: &[ValueId]) -> Outcome<()> {
        let done = self.finish_block(&core::YIELD, values);
        self.blocks.pop();
        done
    }

    /// Puts a finished op with regions in the current block; gives its results.
    pub(crate) fn end_region_op(&mut self, op: OpId, results: &[TensorType]) -> Vec<ValueId> {
        let values = self.module.op(op).results.to_vec();
        for (value, ty) in values.iter().zip(results) {
            self.module.value_mut(*value).ty = Type::Tensor(ty.clone());
        }
        let block = self.block();
        self.module.append(block, op);
        values
    }
}

fn fill_op(
    builder: &mut Builder<'_>,
    def: &'static OpDef,
    fill: impl for<'a, 'b> FnOnce(OpBuilder<'a, 'b>) -> OpBuilder<'a, 'b>,
) -> Result<OpId, String> {
    fill(builder.op(def)).build()
}

/// True if an expression holds a quotient, remainder, minimum or maximum.
fn is_opaque(dim: &Dim) -> bool {
    dim.terms().keys().flatten().any(|atom| matches!(atom, tilewright_ir::dim::Atom::Call(..)))
}

/// Scale, zero point and layout of a quantised tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantization {
    /// Scale.
    pub(crate) scale: ValueId,
    /// Zero point.
    pub(crate) zero_point: Option<ValueId>,
    /// The axis of per-axis or blocked parameters.
    pub(crate) axis: Option<usize>,
    /// Elements per block; 0 without blocks.
    pub(crate) block: i64,
}

impl Quantization {
    /// One scale for the whole tensor.
    pub(crate) fn per_tensor(scale: ValueId, zero_point: Option<ValueId>) -> Quantization {
        Quantization { scale, zero_point, axis: None, block: 0 }
    }

    fn fill<'a, 'b>(&self, op: OpBuilder<'a, 'b>) -> OpBuilder<'a, 'b> {
        let mut op = op.operand(self.scale).maybe(self.zero_point);
        if let Some(axis) = self.axis {
            op = op.attribute("axis", axis);
        }
        if self.block > 0 {
            op = op.attribute("block", self.block);
        }
        op
    }
}

/// An axis counted from 0, or a fault that names it.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    normalize_axis(axis, rank)
        .ok_or_else(|| Fault::model(format!("axis {axis} is out of range for rank {rank}")))
}
