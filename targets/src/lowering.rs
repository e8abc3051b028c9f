//! The lowering table's rows, and what a row works with: operand views in, tile ops out.
//!
//! A row is asked first whether it takes an op ([`Lowering::place`], whose error is the reason in the placement table), then to write
//! tile ops for it. An operand is a [`View`] of where its elements lie; a result is either written to
//! [`LoweringContext::destination`] or declared to be a view of something that is already there ([`LoweringContext::define`]).
//!
//! ```text
//! fn lower_relu(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
//!     let x = context.operand(op, 0)?;
//!     let y = context.destination(context.result(op, 0))?;
//!     context.command(&tile::UNARY, "host").view(&y).view(&x).attribute("function", "relu").emit()
//! }
//! ```

use crate::fields::Fields;
use crate::lower::Compressed;
use crate::placement::Placement;
use crate::range::Ranges;
use crate::target::Target;
use crate::view::{View, row_major};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use tilewright_ir::attribute::{Attribute, Attributes, Elements};
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, OpId, Operation, ValueId};
use tilewright_ir::op_def::OpDef;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{TensorType, Type, ViewType};
use tilewright_passes::machine::Machine;

/// Engines by name, as `tile` ops and commands call them.
pub mod engine {
    /// The host processor; reaches every space.
    pub const HOST: &str = "host";
    /// First DMA engine.
    pub const DMA0: &str = "dma0";
    /// Second DMA engine.
    pub const DMA1: &str = "dma1";
    /// The matrix engine; on-chip views only.
    pub const MATRIX: &str = "matrix";
    /// The vector engine; on-chip views only.
    pub const VECTOR: &str = "vector";
}

/// Memory spaces by name.
pub mod space {
    /// Activations in DRAM.
    pub const DRAM: &str = "dram";
    /// On-chip scratch memory.
    pub const SRAM: &str = "sram";
    /// The matrix engine's accumulators.
    pub const ACCUMULATOR: &str = "acc";
}

/// What a row lowers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A core op.
    Op(&'static OpDef),
    /// A `core.kernel` of this kind, as a whole.
    Kernel(&'static str),
}

/// What is known when a row is asked whether it takes an op.
pub struct PlaceContext<'a> {
    /// The core module.
    pub module: &'a Module,
    /// The op, or the kernel.
    pub op: OpId,
    /// Ranges of the symbols in its types.
    pub ranges: &'a Ranges,
    /// The machine that is compiled for.
    pub machine: &'a Machine,
}

impl<'a> PlaceContext<'a> {
    /// The op.
    pub fn operation(&self) -> &'a Operation {
        self.module.op(self.op)
    }

    /// The tensor type of operand definition `slot`, if given.
    pub fn operand(&self, slot: usize) -> Option<&'a TensorType> {
        self.module.tensor(self.module.operand_at(self.op, slot)?)
    }

    /// The tensor type of a result.
    pub fn result(&self, index: usize) -> Option<&'a TensorType> {
        self.module.tensor(*self.operation().results.get(index)?)
    }
}

/// One row: a way to run an op (or a kernel) on the target.
#[derive(Clone, Copy)]
pub struct Lowering {
    /// What it lowers.
    pub subject: Subject,
    /// Whether it takes this op; else the reason, for the placement table.
    pub place: fn(&PlaceContext) -> Result<(), String>,
    /// Writes the tile ops. An error sends the op on to the next row, at last to the host, with this reason in the placement table.
    pub lower: fn(&mut LoweringContext, OpId) -> Result<(), String>,
}

/// A function on its way from core to tile IR.
pub struct LoweringContext<'a> {
    /// The core module.
    pub source: &'a Module,
    /// The tile module so far.
    pub tile: Module,
    /// Ranges of registers and of the loop variables in scope.
    pub ranges: Ranges,
    /// The machine that is compiled for.
    pub machine: Machine,
    /// SRAM that a kernel's plan may use, where it is less than the machine's.
    pub sram_limit_bytes: Option<u64>,
    /// Whether kernels of a chain may run together, stripe by stripe.
    pub is_cascading: bool,
    /// Who copies between places in memory when an op only moves elements.
    pub copy_engine: &'static str,
    /// The block that tile ops are appended to.
    pub(crate) block: BlockId,
    /// Declarations (constants, arguments, registers) go to the start of this block.
    pub(crate) top: BlockId,
    pub(crate) declarations: usize,
    pub(crate) location: Location,
    pub(crate) views: BTreeMap<ValueId, View>,
    pub(crate) reserved: BTreeMap<ValueId, View>,
    pub(crate) constants: BTreeMap<Elements, View>,
    /// Core values that are constant expressions.
    pub(crate) folded: BTreeSet<ValueId>,
    /// Weights that products read in parts.
    pub(crate) compressed: BTreeMap<ValueId, Compressed>,
    /// Symbols that count the iterations of a loop.
    pub(crate) counted: BTreeSet<std::sync::Arc<str>>,
    /// Numbers that are not affine, with the registers that hold them.
    pub(crate) derived: BTreeMap<Dim, Dim>,
    pub(crate) constant_functions: BTreeMap<OpId, String>,
    /// Arguments of kernels that stand for constants.
    pub(crate) constant_arguments: BTreeMap<ValueId, ValueId>,
    pub(crate) target: Option<&'static Target>,
    pub(crate) problems: Diagnostics,
    pub(crate) placement: Placement,
    /// The tile ops that each row of the placement table made.
    pub(crate) spans: Vec<Range<usize>>,
    loops: usize,
}

impl<'a> LoweringContext<'a> {
    /// Begins in an empty block of `tile`.
    pub fn new(source: &'a Module, tile: Module, top: BlockId, ranges: Ranges) -> LoweringContext<'a> {
        LoweringContext {
            source,
            tile,
            ranges,
            machine: Machine::reference(),
            sram_limit_bytes: None,
            is_cascading: true,
            copy_engine: engine::HOST,
            block: top,
            top,
            declarations: 0,
            location: Location::Unknown,
            views: BTreeMap::new(),
            reserved: BTreeMap::new(),
            constants: BTreeMap::new(),
            folded: BTreeSet::new(),
            compressed: BTreeMap::new(),
            counted: BTreeSet::new(),
            derived: BTreeMap::new(),
            constant_functions: BTreeMap::new(),
            constant_arguments: BTreeMap::new(),
            target: None,
            problems: Diagnostics::new(),
            placement: Placement::default(),
            spans: Vec::new(),
            loops: 0,
        }
    }

    // ---- the core op --------------------------------------------------------------------------------------------------

    /// A core op.
    pub fn op(&self, op: OpId) -> &'a Operation {
        self.source.op(op)
    }

    /// The attributes of a core op.
    pub fn fields(&self, op: OpId) -> Fields<'a> {
        Fields(&self.source.op(op).attributes)
    }

    /// A result of a core op.
    pub fn result(&self, op: OpId, index: usize) -> ValueId {
        self.source.op(op).results[index]
    }

    /// The tensor type of a core value.
    pub fn ty(&self, value: ValueId) -> Result<&'a TensorType, String> {
        self.source.tensor(value).ok_or_else(|| format!("expected a tensor, found {}", self.source.ty(value)))
    }

    /// Where the elements of operand definition `slot` lie.
    pub fn operand(&mut self, op: OpId, slot: usize) -> Result<View, String> {
        let value = self.source.operand_at(op, slot);
        let value =
            value.ok_or_else(|| format!("operand {slot} of '{}' is missing", self.op(op).def.name))?;
        self.view(value)
    }

    /// As [`LoweringContext::operand`], for one that may be left out.
    pub fn optional(&mut self, op: OpId, slot: usize) -> Result<Option<View>, String> {
        self.source.operand_at(op, slot).map(|value| self.view(value)).transpose()
    }

    /// Where the elements of a core value lie.
    pub fn view(&mut self, value: ValueId) -> Result<View, String> {
        if let Some(view) = self.views.get(&value) {
            return Ok(view.clone());
        }
        if let Some(elements) = self.elements(value) {
            let view = self.constant_elements(elements)?;
            self.views.insert(value, view.clone());
            return Ok(view);
        }
        if self.folded.contains(&value) {
            let view = self.constant_expression(value)?;
            self.views.insert(value, view.clone());
            return Ok(view);
        }
        Err("an operand was not lowered before its use".into())
    }

    /// The constant elements of a core value made by `core.constant`.
    pub fn elements(&self, value: ValueId) -> Option<&'a Elements> {
        let op = self.source.producer(value)?;
        let operation = self.source.op(op);
        if !operation.def.is(tilewright_ir::op_def::Traits::CONSTANT) {
            return None;
        }
        operation.attributes.get("value").and_then(Attribute::as_elements)
    }

    /// Where the result is to be written: an output, a state, or a new DRAM buffer.
    pub fn destination(&mut self, value: ValueId) -> Result<View, String> {
        let view = match self.reserved.get(&value) {
            Some(view) => view.clone(),
            None => {
                let view = self.result_buffer(value)?;
                self.tile.value_mut(view.buffer).name = self.source.value(value).name.clone();
                view
            }
        };
        self.views.insert(value, view.clone());
        Ok(view)
    }

    /// A new buffer for a result. What is only transposed and then reshaped lies in the transposed order, so that neither copies.
    fn result_buffer(&mut self, value: ValueId) -> Result<View, String> {
        let ty = self.ty(value)?;
        let only_user = |value: ValueId, def: &'static OpDef| match self.source.value(value).users[..] {
            [user] if self.source.op(user).def == def => Some(user),
            _ => None,
        };
        let turned = only_user(value, &core::TRANSPOSE)
            .filter(|transpose| only_user(self.source.result(*transpose), &core::RESHAPE).is_some());
        let order = turned.map(|transpose| self.fields(transpose).ints("permutation").to_vec());
        let Some(order) = order.filter(|order| order.len() == ty.rank()) else {
            return self.buffer(space::DRAM, ty.element, &ty.shape);
        };
        let order: Vec<usize> = order.into_iter().map(|axis| axis as usize).collect();
        let dims: Vec<Dim> = order.iter().map(|axis| ty.shape[*axis].clone()).collect();
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, from)| back[*from] = to);
        Ok(self.buffer(space::DRAM, ty.element, &dims)?.permute(&back))
    }

    /// Says where a result lies already. A result that has to be in a given place (an output) is copied there.
    pub fn define(&mut self, value: ValueId, view: View) -> Result<(), String> {
        match self.reserved.get(&value).cloned() {
            Some(place) if place != view => {
                self.transfer(self.copy_engine, &place, &view)?;
                self.views.insert(value, place);
            }
            _ => {
                self.views.insert(value, view);
            }
        }
        Ok(())
    }

    /// True if [`LoweringContext::destination`] is a given place rather than a new buffer.
    pub fn is_reserved(&self, value: ValueId) -> bool {
        self.reserved.contains_key(&value)
    }

    // ---- memory -------------------------------------------------------------------------------------------------------

    /// Largest value of an expression over the symbols in scope.
    pub fn maximum(&self, dim: &Dim) -> Result<i64, String> {
        let maximum = self.ranges.maximum(dim);
        maximum.ok_or_else(|| {
            format!("dimension '{dim}' has no known maximum: bind its symbols or declare their ranges")
        })
    }

    /// A new buffer of these dimensions, laid out row-major by their maxima. It lives in the current block.
    pub fn buffer(&mut self, space: &str, element: Element, dims: &[Dim]) -> Result<View, String> {
        let capacity = dims.iter().map(|dim| self.maximum(dim)).collect::<Result<Vec<i64>, String>>()?;
        self.buffer_with_capacity(space, element, dims, &capacity)
    }

    /// A new buffer laid out by `capacity`, which the dimensions never exceed.
    pub fn buffer_with_capacity(
        &mut self,
        space: &str,
        element: Element,
        dims: &[Dim],
        capacity: &[i64],
    ) -> Result<View, String> {
        let ty = ViewType { element, shape: dims.iter().cloned().collect(), space: space.to_string() };
        let mut builder = Builder::at_end(&mut self.tile, self.block);
        builder.location = self.location.clone();
        let buffer = builder
            .op(&tile::BUFFER)
            .attribute("capacity", Attribute::ints(capacity))
            .result(Type::View(ty))
            .value()?;
        Ok(View { buffer, element, offset: Dim::Known(0), dims: dims.to_vec(), strides: row_major(capacity) })
    }

    /// Constant elements; equal ones are declared once.
    pub fn constant_elements(&mut self, elements: &Elements) -> Result<View, String> {
        if let Some(view) = self.constants.get(elements) {
            return Ok(view.clone());
        }
        let ty = elements.ty();
        let attributes = Attributes::from([("value".into(), elements.clone().into())]);
        let view = self.declare(&tile::CONSTANT, attributes, ty.element, &ty.shape, "const")?;
        if let Elements::Resource(resource) = elements {
            self.tile.value_mut(view.buffer).name = Some(resource.name.clone());
        }
        self.constants.insert(elements.clone(), view.clone());
        Ok(view)
    }

    /// A constant of one element.
    pub fn scalar(&mut self, element: Element, value: f64) -> Result<View, String> {
        self.constant_elements(&Tensor::splat(element, &[], value).to_elements())
    }

    /// Declares a register; its name becomes a symbol of expressions.
    pub(crate) fn declare_register(
        &mut self,
        name: &str,
        minimum: i64,
        maximum: i64,
        role: &str,
    ) -> Result<(), String> {
        self.ranges.insert(name, minimum, maximum);
        let mut builder = Builder::at_end(&mut self.tile, self.top);
        builder.position = Some(self.declarations);
        self.declarations += 1;
        let op = builder.op(&tile::REGISTER).attribute("name", name).attribute("minimum", minimum);
        op.attribute("maximum", maximum).attribute("role", role).build().map(|_| ())
    }

    /// Makes a declaration at the start of the function. Its layout is row-major by `capacity`, or by its known dimensions.
    pub(crate) fn declare(
        &mut self,
        def: &'static OpDef,
        attributes: Attributes,
        element: Element,
        dims: &[Dim],
        space: &str,
    ) -> Result<View, String> {
        let ty = ViewType { element, shape: dims.iter().cloned().collect(), space: space.to_string() };
        let capacity = match attributes.get("capacity").and_then(Attribute::as_ints) {
            Some(capacity) => capacity.to_vec(),
            None => dims.iter().map(|dim| self.maximum(dim)).collect::<Result<_, String>>()?,
        };
        let mut builder = Builder::at_end(&mut self.tile, self.top);
        builder.position = Some(self.declarations);
        let buffer = builder.op(def).attributes(attributes).result(Type::View(ty)).value()?;
        self.declarations += 1;
        Ok(View {
            buffer,
            element,
            offset: Dim::Known(0),
            dims: dims.to_vec(),
            strides: row_major(&capacity),
        })
    }

    // ---- tile ops -----------------------------------------------------------------------------------------------------

    /// Begins a tile op that becomes one command.
    pub fn command<'c>(&'c mut self, def: &'static OpDef, engine: &'static str) -> CommandBuilder<'c, 'a> {
        let attributes = Attributes::from([(Cow::Borrowed("engine"), Attribute::str(engine))]);
        CommandBuilder { context: self, def, views: Vec::new(), attributes }
    }

    /// Copies, and waits for it when a DMA engine does it.
    pub fn transfer(
        &mut self,
        engine: &'static str,
        destination: &View,
        source: &View,
    ) -> Result<(), String> {
        let token = self.start_transfer(engine, destination, source)?;
        if engine == engine::HOST { Ok(()) } else { self.wait(token) }
    }

    /// Starts a copy; gives the token to wait for.
    pub fn start_transfer(
        &mut self,
        engine: &'static str,
        destination: &View,
        source: &View,
    ) -> Result<ValueId, String> {
        let op = self.command(&tile::TRANSFER, engine).view(destination).view(source).build()?;
        Ok(self.tile.result(op))
    }

    /// Starts a copy under a name, for a wait in a later iteration.
    pub fn start_named_transfer(
        &mut self,
        engine: &'static str,
        name: &str,
        destination: &View,
        source: &View,
    ) -> Result<(), String> {
        self.command(&tile::TRANSFER, engine).view(destination).view(source).attribute("name", name).emit()
    }

    /// Waits for a transfer.
    pub fn wait(&mut self, token: ValueId) -> Result<(), String> {
        self.builder().op(&tile::WAIT).operand(token).build().map(|_| ())
    }

    /// Waits for the last transfer started under a name.
    pub fn wait_named(&mut self, name: &str) -> Result<(), String> {
        self.builder().op(&tile::WAIT).maybe(None).attribute("name", name).build().map(|_| ())
    }

    /// Runs `body` with a loop variable that takes 0, step, 2 step, .. below `limit`.
    pub fn for_loop(
        &mut self,
        limit: &Dim,
        step: i64,
        body: impl FnOnce(&mut Self, &Dim) -> Result<(), String>,
    ) -> Result<(), String> {
        let name = self.new_symbol("i");
        let maximum = self.maximum(limit)?;
        let last = (maximum - 1).max(0) / step * step;
        self.ranges.insert(&name, 0, last);
        let op = self
            .builder()
            .op(&tile::FOR)
            .attribute("variable", name.as_str())
            .attribute("limit", Attribute::dim(limit))
            .attribute("step", step)
            .build()?;
        self.in_region(op, 0, |context| body(context, &Dim::symbol(&name)))
    }

    /// A symbol name that nothing else in this function has.
    pub fn new_symbol(&mut self, prefix: &str) -> String {
        loop {
            let name = format!("{prefix}{}", self.loops);
            self.loops += 1;
            if self.ranges.get(&name).is_none() {
                return name;
            }
        }
    }

    /// Appends to a new block of a region while `body` runs.
    pub fn in_region(
        &mut self,
        op: OpId,
        region: usize,
        body: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let region = self.tile.op(op).regions[region];
        let inner = self.tile.add_block(region, &[]);
        let outer = std::mem::replace(&mut self.block, inner);
        let result = body(self);
        self.block = outer;
        result
    }

    /// A builder at the end of the current block, with the core op's location.
    pub fn builder(&mut self) -> Builder<'_> {
        let location = self.location.clone();
        let mut builder = Builder::at_end(&mut self.tile, self.block);
        builder.location = location;
        builder
    }

    /// The tile value of a view: the buffer itself, or a `tile.view` of it.
    pub fn value(&mut self, view: &View) -> Result<ValueId, String> {
        let Type::View(buffer) = self.tile.ty(view.buffer).clone() else {
            return Err("a view must lie in a memref".into());
        };
        let whole = view.offset == Dim::Known(0)
            && view.element == buffer.element
            && view.dims.as_slice() == buffer.shape.as_slice()
            && view.strides == self.layout(view.buffer);
        if whole {
            return Ok(view.buffer);
        }
        let ty = ViewType {
            element: view.element,
            shape: view.dims.iter().cloned().collect(),
            space: buffer.space,
        };
        self.builder()
            .op(&tile::VIEW)
            .operand(view.buffer)
            .attribute("offset", Attribute::dim(&view.offset))
            .attribute("dims", Attribute::dims(&view.dims))
            .attribute("strides", Attribute::ints(&view.strides))
            .result(Type::View(ty))
            .value()
    }

    fn layout(&self, buffer: ValueId) -> Vec<i64> {
        let capacity = self.tile.producer(buffer).and_then(|op| self.tile.op(op).attributes.get("capacity"));
        match capacity.and_then(Attribute::as_ints) {
            Some(capacity) => row_major(capacity),
            None => match self.tile.ty(buffer) {
                Type::View(view) => {
                    row_major(&view.shape.iter().map(|dim| dim.known().unwrap_or(0)).collect::<Vec<_>>())
                }
                _ => Vec::new(),
            },
        }
    }
}

/// A tile op being made: views in the op's operand order, then the other fields.
pub struct CommandBuilder<'c, 'a> {
    context: &'c mut LoweringContext<'a>,
    def: &'static OpDef,
    views: Vec<Option<View>>,
    attributes: Attributes,
}

impl CommandBuilder<'_, '_> {
    /// The next operand.
    pub fn view(mut self, view: &View) -> Self {
        self.views.push(Some(view.clone()));
        self
    }

    /// The next operand, which may be left out.
    pub fn maybe(mut self, view: Option<&View>) -> Self {
        self.views.push(view.cloned());
        self
    }

    /// A field.
    pub fn attribute(mut self, name: &'static str, value: impl Into<Attribute>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// An expression field.
    pub fn dim(self, name: &'static str, value: &Dim) -> Self {
        self.attribute(name, Attribute::dim(value))
    }

    /// Makes the op.
    pub fn emit(self) -> Result<(), String> {
        self.build().map(|_| ())
    }

    /// Makes the op and gives it.
    pub fn build(self) -> Result<OpId, String> {
        let mut values = Vec::new();
        for view in &self.views {
            values.push(view.as_ref().map(|view| self.context.value(view)).transpose()?);
        }
        let mut builder = self.context.builder();
        let mut op = builder.op(self.def).attributes(self.attributes);
        for value in values {
            op = op.maybe(value);
        }
        if self.def == &tile::TRANSFER {
            op = op.result(Type::Opaque("tile.token".into()));
        }
        op.build()
    }
}
