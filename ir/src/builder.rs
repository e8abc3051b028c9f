//! Makes ops at the end of a block: infers result types, fills `operandSegmentSizes`, checks the signature.
//!
//! ```text
//! let y = builder.op(&core::ADD).operands(&[a, b]).build()?;
//! ```

use crate::attribute::{Attribute, Attributes};
use crate::location::Location;
use crate::module::{BlockId, Module, OpId, ValueId};
use crate::op_def::{Arity, Infer, OpDef, Signature};
use crate::types::Type;
use std::borrow::Cow;

/// An insertion point.
pub struct Builder<'a> {
    /// The module being built.
    pub module: &'a mut Module,
    /// The block that ops are appended to.
    pub block: BlockId,
    /// The position in the block, or the end.
    pub position: Option<usize>,
    /// The location that new ops get.
    pub location: Location,
}

impl<'a> Builder<'a> {
    /// Appends to a block.
    pub fn at_end(module: &'a mut Module, block: BlockId) -> Builder<'a> {
        Builder { module, block, position: None, location: Location::Unknown }
    }

    /// Inserts before an op, which must be in a block; new ops get its location.
    pub fn before(module: &'a mut Module, op: OpId) -> Builder<'a> {
        let (block, position) = module.position(op).expect("the op is in a block");
        let location = module.op(op).location.clone();
        Builder { module, block, position: Some(position), location }
    }

    /// Begins an op.
    pub fn op<'b>(&'b mut self, def: &'static OpDef) -> OpBuilder<'a, 'b> {
        OpBuilder {
            builder: self,
            def,
            operands: Vec::new(),
            segments: Vec::new(),
            attributes: Attributes::new(),
            results: Vec::new(),
        }
    }

    /// A small constant kept in place.
    pub fn constant(&mut self, value: &crate::tensor::Tensor) -> ValueId {
        let elements = value.to_elements();
        let ty = Type::Tensor(elements.ty().clone());
        self.op(&crate::dialects::core::CONSTANT)
            .attribute("value", elements)
            .result(ty)
            .value()
            .expect("a constant is always well formed")
    }
}

/// An op being made.
pub struct OpBuilder<'a, 'b> {
    builder: &'b mut Builder<'a>,
    def: &'static OpDef,
    operands: Vec<ValueId>,
    segments: Vec<i32>,
    attributes: Attributes,
    results: Vec<Type>,
}

impl OpBuilder<'_, '_> {
    /// Adds one operand (the next operand definition).
    pub fn operand(self, value: ValueId) -> Self {
        self.operands(&[value])
    }

    /// Adds the next operand definitions, one value each.
    pub fn operands(mut self, values: &[ValueId]) -> Self {
        let variadic =
            self.def.operands.get(self.segments.len()).is_some_and(|def| def.arity == Arity::Variadic);
        self.operands.extend_from_slice(values);
        if variadic {
            self.segments.push(values.len() as i32);
        } else {
            self.segments.extend(values.iter().map(|_| 1));
        }
        self
    }

    /// Adds the next operand definition, which may be left out.
    pub fn maybe(mut self, value: Option<ValueId>) -> Self {
        self.operands.extend(value);
        self.segments.push(i32::from(value.is_some()));
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Attribute>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Adds several attributes.
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// States the next result type, where it is not inferred.
    pub fn result(mut self, ty: impl Into<Type>) -> Self {
        self.results.push(ty.into());
        self
    }

    /// Makes the op with its empty regions (no blocks).
    ///
    /// # Errors
    /// What is wrong with operands or attributes, naming both values.
    pub fn build(mut self) -> Result<OpId, String> {
        if self.def.needs_segments() && !self.attributes.contains_key("operandSegmentSizes") {
            self.segments.resize(self.def.operands.len(), 0);
            self.attributes.insert("operandSegmentSizes".into(), Attribute::Segments(self.segments.into()));
        }
        let module = &mut *self.builder.module;
        let operands: Vec<Type> = self.operands.iter().map(|value| module.ty(*value).clone()).collect();
        let signature = Signature {
            def: self.def,
            operands: &operands,
            attributes: &self.attributes,
            results: &self.results,
        };
        let results = infer(&signature)?;
        let signature = Signature { results: &results, ..signature };
        crate::verify::verify_signature(&signature).map_err(|problems| problems.join("; "))?;
        let op = module.create_op(
            self.def,
            &self.operands,
            self.attributes,
            &results,
            self.builder.location.clone(),
        );
        for _ in 0..self.def.regions {
            module.add_region(op);
        }
        match &mut self.builder.position {
            Some(at) => {
                module.insert(self.builder.block, *at, op);
                *at += 1;
            }
            None => module.append(self.builder.block, op),
        }
        Ok(op)
    }

    /// Makes the op and gives its first result.
    ///
    /// # Errors
    /// As [`OpBuilder::build`].
    pub fn value(self) -> Result<ValueId, String> {
        let name = self.def.name;
        // The module is behind the builder, which `build` consumes; the first result follows from the op.
        let OpBuilder { builder, def, operands, segments, attributes, results } = self;
        let op =
            OpBuilder { builder: &mut *builder, def, operands, segments, attributes, results }.build()?;
        builder.module.op(op).results.first().copied().ok_or_else(|| format!("'{name}' has no result"))
    }
}

/// The result types that a definition infers from a signature; explicit ones are given back as they are.
///
/// # Errors
/// What is wrong, naming both values.
pub fn infer(signature: &Signature) -> Result<Vec<Type>, String> {
    match signature.def.infer {
        Infer::Explicit => Ok(signature.results.to_vec()),
        Infer::LikeOperand(slot) => {
            let ty = signature.operands.get(signature.slot(slot)).and_then(<[Type]>::first);
            let ty = ty.ok_or_else(|| format!("'{}' needs operand {slot}", signature.def.name))?;
            Ok(vec![ty.clone(); signature.def.results.len()])
        }
        Infer::Broadcast => crate::shape::broadcast_operands(signature).map(|ty| vec![ty]),
        Infer::With(f) => f(signature),
    }
}
