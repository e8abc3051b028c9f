//! The arena that holds a program: ops, values, blocks and regions behind typed indices.
//!
//! An op belongs to a block, a block to a region, a region to an op; the outermost op is `builtin.module`. Values are the
//! results of ops and the arguments of blocks; each knows its users. Knows no op by name.
//!
//! ```text
//! "builtin.module"() ({
//!   "func.func"() <{function_type = (tensor<4xf32>) -> tensor<4xf32>, sym_name = "main"}> ({
//!   ^bb0(%x: tensor<4xf32>):
//!     "func.return"(%x) : (tensor<4xf32>) -> ()
//!   }) : () -> ()
//! }) : () -> ()
//! ```

use crate::attribute::{Attribute, Attributes};
use crate::location::Location;
use crate::op_def::{OpDef, Signature, slot_range};
use crate::types::{TensorType, Type};
use smallvec::SmallVec;
use std::sync::Arc;

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u32);
        impl $name {
            /// Its number in the arena.
            pub fn index(self) -> usize { self.0 as usize }
        })*
    };
}
index! {
    /// An op of a module.
    OpId;
    /// A value of a module.
    ValueId;
    /// A block of a module.
    BlockId;
    /// A region of a module.
    RegionId;
}

/// An op.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its definition.
    pub def: &'static OpDef,
    /// Operands given, in order.
    pub operands: SmallVec<[ValueId; 4]>,
    /// Results, in order.
    pub results: SmallVec<[ValueId; 2]>,
    /// Attributes.
    pub attributes: Attributes,
    /// Regions.
    pub regions: SmallVec<[RegionId; 1]>,
    /// Successor blocks with the values passed to them.
    pub successors: SmallVec<[BlockId; 0]>,
    /// Where it came from.
    pub location: Location,
    /// The block that holds it; `None` for the module op and for ops taken out.
    pub parent: Option<BlockId>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Result number of an op.
    Result(OpId, usize),
    /// Argument number of a block.
    Argument(BlockId, usize),
}

/// A value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type.
    pub ty: Type,
    /// Where it comes from.
    pub source: Source,
    /// The name it had in its source text or model, without `%`.
    pub name: Option<Arc<str>>,
    /// Ops that use it, once per use, in no particular order.
    pub users: SmallVec<[OpId; 2]>,
}

/// A block: arguments and ops in order.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Arguments.
    pub arguments: Vec<ValueId>,
    /// Ops in order.
    pub ops: Vec<OpId>,
    /// The region that holds it.
    pub parent: Option<RegionId>,
}

/// A region: blocks in order.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Blocks in order.
    pub blocks: Vec<BlockId>,
    /// The op that holds it.
    pub parent: Option<OpId>,
}

/// A program.
#[derive(Clone, Debug)]
pub struct Module {
    ops: Vec<Operation>,
    values: Vec<Value>,
    blocks: Vec<Block>,
    regions: Vec<Region>,
    root: OpId,
}

impl Default for Module {
    fn default() -> Module {
        Module::new()
    }
}

impl Module {
    /// An empty `builtin.module` with one block.
    pub fn new() -> Module {
        let mut module = Module {
            ops: Vec::new(),
            values: Vec::new(),
            blocks: Vec::new(),
            regions: Vec::new(),
            root: OpId(0),
        };
        let root = module.create_op(
            &crate::dialects::builtin::MODULE,
            &[],
            Attributes::new(),
            &[],
            Location::Unknown,
        );
        let region = module.add_region(root);
        module.add_block(region, &[]);
        module
    }

    /// The module op.
    pub fn root(&self) -> OpId {
        self.root
    }

    /// The block of the module op.
    pub fn body(&self) -> BlockId {
        self.regions[self.ops[self.root.index()].regions[0].index()].blocks[0]
    }

    /// An op.
    pub fn op(&self, op: OpId) -> &Operation {
        &self.ops[op.index()]
    }

    /// An op, to change attributes or location. Operands change through [`Module::set_operand`].
    pub fn op_mut(&mut self, op: OpId) -> &mut Operation {
        &mut self.ops[op.index()]
    }

    /// A value.
    pub fn value(&self, value: ValueId) -> &Value {
        &self.values[value.index()]
    }

    /// A value, to change its type or name.
    pub fn value_mut(&mut self, value: ValueId) -> &mut Value {
        &mut self.values[value.index()]
    }

    /// A block.
    pub fn block(&self, block: BlockId) -> &Block {
        &self.blocks[block.index()]
    }

    /// A region.
    pub fn region(&self, region: RegionId) -> &Region {
        &self.regions[region.index()]
    }

    /// How many values were ever made: an upper bound for side tables.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// How many ops were ever made: an upper bound for side tables.
    pub fn op_count(&self) -> usize {
        self.ops.len()
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &Type {
        &self.values[value.index()].ty
    }

    /// The tensor type of a value.
    pub fn tensor(&self, value: ValueId) -> Option<&TensorType> {
        self.ty(value).as_tensor()
    }

    /// The op that makes a value; `None` for block arguments.
    pub fn producer(&self, value: ValueId) -> Option<OpId> {
        match self.values[value.index()].source {
            Source::Result(op, _) => Some(op),
            Source::Argument(..) => None,
        }
    }

    /// The producer, if it is of this definition.
    pub fn producer_of(&self, value: ValueId, def: &OpDef) -> Option<OpId> {
        self.producer(value).filter(|op| self.op(*op).def == def)
    }

    /// The first result of an op.
    pub fn result(&self, op: OpId) -> ValueId {
        self.ops[op.index()].results[0]
    }

    /// The values of operand definition `slot`.
    pub fn operands_at(&self, op: OpId, slot: usize) -> &[ValueId] {
        let operation = &self.ops[op.index()];
        &operation.operands[slot_range(operation.def, operation.operands.len(), &operation.attributes, slot)]
    }

    /// The value of operand definition `slot`, if given.
    pub fn operand_at(&self, op: OpId, slot: usize) -> Option<ValueId> {
        self.operands_at(op, slot).first().copied()
    }

    /// Calls `f` with the signature of an op.
    pub fn with_signature<R>(&self, op: OpId, f: impl FnOnce(&Signature) -> R) -> R {
        let operation = self.op(op);
        let operands: SmallVec<[Type; 4]> =
            operation.operands.iter().map(|value| self.ty(*value).clone()).collect();
        let results: SmallVec<[Type; 2]> =
            operation.results.iter().map(|value| self.ty(*value).clone()).collect();
        f(&Signature {
            def: operation.def,
            operands: &operands,
            attributes: &operation.attributes,
            results: &results,
        })
    }

    /// Makes an op outside any block.
    pub fn create_op(
        &mut self,
        def: &'static OpDef,
        operands: &[ValueId],
        attributes: Attributes,
        results: &[Type],
        location: Location,
    ) -> OpId {
        let op = OpId(self.ops.len() as u32);
        let results = results
            .iter()
            .enumerate()
            .map(|(index, ty)| self.new_value(ty.clone(), Source::Result(op, index)))
            .collect();
        for operand in operands {
            self.values[operand.index()].users.push(op);
        }
        self.ops.push(Operation {
            def,
            operands: operands.into(),
            results,
            attributes,
            regions: SmallVec::new(),
            successors: SmallVec::new(),
            location,
            parent: None,
        });
        op
    }

    fn new_value(&mut self, ty: Type, source: Source) -> ValueId {
        let value = ValueId(self.values.len() as u32);
        self.values.push(Value { ty, source, name: None, users: SmallVec::new() });
        value
    }

    /// Adds a result to an op whose results are not all known when it is made.
    pub fn add_result(&mut self, op: OpId, ty: Type) -> ValueId {
        let index = self.ops[op.index()].results.len();
        let value = self.new_value(ty, Source::Result(op, index));
        self.ops[op.index()].results.push(value);
        value
    }

    /// Replaces the block list of a region. Blocks left out have no parent afterwards.
    pub fn set_region_blocks(&mut self, region: RegionId, blocks: Vec<BlockId>) {
        for block in std::mem::take(&mut self.regions[region.index()].blocks) {
            self.blocks[block.index()].parent = None;
        }
        for block in &blocks {
            self.blocks[block.index()].parent = Some(region);
        }
        self.regions[region.index()].blocks = blocks;
    }

    /// Adds an empty region to an op.
    pub fn add_region(&mut self, op: OpId) -> RegionId {
        let region = RegionId(self.regions.len() as u32);
        self.regions.push(Region { blocks: Vec::new(), parent: Some(op) });
        self.ops[op.index()].regions.push(region);
        region
    }

    /// Adds a block with arguments to a region.
    pub fn add_block(&mut self, region: RegionId, arguments: &[Type]) -> BlockId {
        let block = BlockId(self.blocks.len() as u32);
        self.blocks.push(Block { parent: Some(region), ..Block::default() });
        self.regions[region.index()].blocks.push(block);
        for ty in arguments {
            self.add_argument(block, ty.clone());
        }
        block
    }

    /// Adds an argument to a block.
    pub fn add_argument(&mut self, block: BlockId, ty: Type) -> ValueId {
        let index = self.blocks[block.index()].arguments.len();
        let value = self.new_value(ty, Source::Argument(block, index));
        self.blocks[block.index()].arguments.push(value);
        value
    }

    /// Removes an argument that has no users; later arguments move down.
    pub fn remove_argument(&mut self, block: BlockId, index: usize) {
        let value = self.blocks[block.index()].arguments.remove(index);
        assert!(self.values[value.index()].users.is_empty(), "a block argument in use cannot be removed");
        for at in index..self.blocks[block.index()].arguments.len() {
            let later = self.blocks[block.index()].arguments[at];
            self.values[later.index()].source = Source::Argument(block, at);
        }
    }

    /// Puts an op at the end of a block.
    pub fn append(&mut self, block: BlockId, op: OpId) {
        let end = self.blocks[block.index()].ops.len();
        self.insert(block, end, op);
    }

    /// Puts an op at a position of a block.
    pub fn insert(&mut self, block: BlockId, position: usize, op: OpId) {
        assert!(self.ops[op.index()].parent.is_none(), "an op can be in one block only");
        self.ops[op.index()].parent = Some(block);
        self.blocks[block.index()].ops.insert(position, op);
    }

    /// The position of an op in its block.
    pub fn position(&self, op: OpId) -> Option<(BlockId, usize)> {
        let block = self.ops[op.index()].parent?;
        let at = self.blocks[block.index()].ops.iter().position(|other| *other == op)?;
        Some((block, at))
    }

    /// Takes an op out of its block and keeps it.
    pub fn detach(&mut self, op: OpId) {
        if let Some((block, at)) = self.position(op) {
            self.blocks[block.index()].ops.remove(at);
            self.ops[op.index()].parent = None;
        }
    }

    /// Replaces the op list of a block, for passes that rebuild it. Ops left out must be erased by the caller.
    pub fn set_block_ops(&mut self, block: BlockId, ops: Vec<OpId>) {
        for op in std::mem::take(&mut self.blocks[block.index()].ops) {
            self.ops[op.index()].parent = None;
        }
        for op in &ops {
            self.ops[op.index()].parent = Some(block);
        }
        self.blocks[block.index()].ops = ops;
    }

    /// Changes one operand.
    pub fn set_operand(&mut self, op: OpId, index: usize, value: ValueId) {
        let old = std::mem::replace(&mut self.ops[op.index()].operands[index], value);
        self.drop_use(old, op);
        self.values[value.index()].users.push(op);
    }

    /// Replaces all operands. The caller keeps `operandSegmentSizes` true.
    pub fn set_operands(&mut self, op: OpId, operands: &[ValueId]) {
        for old in std::mem::take(&mut self.ops[op.index()].operands) {
            self.drop_use(old, op);
        }
        for value in operands {
            self.values[value.index()].users.push(op);
        }
        self.ops[op.index()].operands = operands.into();
    }

    fn drop_use(&mut self, value: ValueId, op: OpId) {
        let users = &mut self.values[value.index()].users;
        if let Some(at) = users.iter().position(|user| *user == op) {
            users.swap_remove(at);
        }
    }

    /// Makes every user of `old` use `new`.
    pub fn replace_all_uses(&mut self, old: ValueId, new: ValueId) {
        if old == new {
            return;
        }
        let users = std::mem::take(&mut self.values[old.index()].users);
        for op in &users {
            for operand in &mut self.ops[op.index()].operands {
                if *operand == old {
                    *operand = new;
                }
            }
        }
        self.values[new.index()].users.extend(users);
        if self.values[new.index()].name.is_none() {
            self.values[new.index()].name = self.values[old.index()].name.clone();
        }
    }

    /// Takes an op out for good, with all its regions. Its results must have no users.
    pub fn erase(&mut self, op: OpId) {
        for result in &self.ops[op.index()].results {
            assert!(
                self.values[result.index()].users.is_empty(),
                "an op whose results are used cannot be erased"
            );
        }
        self.detach(op);
        self.drop_all_operands(op);
    }

    pub(crate) fn drop_all_operands(&mut self, op: OpId) {
        self.set_operands(op, &[]);
        for region in self.ops[op.index()].regions.clone() {
            for block in self.regions[region.index()].blocks.clone() {
                for inner in self.blocks[block.index()].ops.clone() {
                    self.drop_all_operands(inner);
                }
            }
        }
    }

    /// The functions, in order.
    pub fn functions(&self) -> Vec<OpId> {
        let is_function = |op: &OpId| self.op(*op).def == &crate::dialects::builtin::FUNCTION;
        self.block(self.body()).ops.iter().copied().filter(is_function).collect()
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<OpId> {
        self.functions().into_iter().find(|op| self.symbol_name(*op) == Some(name))
    }

    /// The `sym_name` of an op.
    pub fn symbol_name(&self, op: OpId) -> Option<&str> {
        self.op(op).attributes.get("sym_name").and_then(Attribute::as_str)
    }

    /// The op that holds the block of an op; `None` for the module op and for ops taken out.
    pub fn parent_op(&self, op: OpId) -> Option<OpId> {
        self.regions[self.blocks[self.op(op).parent?.index()].parent?.index()].parent
    }

    /// The first block of an op's region.
    pub fn entry(&self, op: OpId, region: usize) -> BlockId {
        self.regions[self.ops[op.index()].regions[region].index()].blocks[0]
    }

    /// The last op of a block, if it is a terminator.
    pub fn terminator(&self, block: BlockId) -> Option<OpId> {
        let last = *self.block(block).ops.last()?;
        self.op(last).def.is(crate::op_def::Traits::TERMINATOR).then_some(last)
    }

    /// Calls `f` with every op below `op`, itself first, outer before inner, in order.
    pub fn walk(&self, op: OpId, f: &mut impl FnMut(OpId)) {
        f(op);
        for region in &self.op(op).regions {
            for block in &self.region(*region).blocks {
                for inner in &self.block(*block).ops {
                    self.walk(*inner, f);
                }
            }
        }
    }

    /// All ops below the module op, outer before inner.
    pub fn all_ops(&self) -> Vec<OpId> {
        let mut ops = Vec::new();
        self.walk(self.root, &mut |op| ops.push(op));
        ops
    }
}
