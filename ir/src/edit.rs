//! Changes to a module beyond one op: copies, moves, inlining, removal of what is not used.
//!
//! Every function keeps parents and use lists true. Copies go through a [`ValueMap`]: an operand that the map does not hold
//! stays as it is within one module, and is an error between two.
//!
//! ```text
//! let copy = edit::clone_op(&mut module, op, &mut ValueMap::new());
//! let results = edit::inline_block(&mut module, body, call, &operands);
//! ```

use crate::attribute::Attributes;
use crate::location::Location;
use crate::module::{BlockId, Module, OpId, Operation, RegionId, ValueId};
use crate::op_def::Traits;
use crate::types::Type;
use std::collections::BTreeMap;

/// What a copy uses in place of a value of the original.
pub type ValueMap = BTreeMap<ValueId, ValueId>;

/// A copy in progress: from a module into itself or into another one.
struct Copier<'a> {
    /// `None` when source and destination are one module.
    from: Option<&'a Module>,
    into: &'a mut Module,
    blocks: BTreeMap<BlockId, BlockId>,
    /// Ops made so far and the operands of their originals, set when all values exist.
    made: Vec<(OpId, OpId)>,
}

impl Copier<'_> {
    fn source(&self) -> &Module {
        self.from.unwrap_or(self.into)
    }

    fn types(&self, values: &[ValueId]) -> Vec<Type> {
        values.iter().map(|value| self.source().ty(*value).clone()).collect()
    }

    fn names(&mut self, values: &[ValueId], copies: &[ValueId], map: &mut ValueMap) {
        for (value, copy) in values.iter().zip(copies) {
            let name = self.source().value(*value).name.clone();
            self.into.value_mut(*copy).name = name;
            map.insert(*value, *copy);
        }
    }

    fn op(&mut self, op: OpId, map: &mut ValueMap) -> OpId {
        let Operation { def, results, attributes, regions, location, .. } = self.source().op(op).clone();
        let types = self.types(&results);
        let copy = self.into.create_op(def, &[], attributes, &types, location);
        let copies = self.into.op(copy).results.clone();
        self.names(&results, &copies, map);
        self.made.push((copy, op));
        for region in regions {
            let region_copy = self.into.add_region(copy);
            self.region(region, region_copy, map);
        }
        copy
    }

    fn region(&mut self, region: RegionId, copy: RegionId, map: &mut ValueMap) {
        let blocks = self.source().region(region).blocks.clone();
        for block in &blocks {
            let arguments = self.source().block(*block).arguments.clone();
            let types = self.types(&arguments);
            let block_copy = self.into.add_block(copy, &types);
            let copies = self.into.block(block_copy).arguments.clone();
            self.names(&arguments, &copies, map);
            self.blocks.insert(*block, block_copy);
        }
        for block in &blocks {
            for op in self.source().block(*block).ops.clone() {
                let inner = self.op(op, map);
                self.into.append(self.blocks[block], inner);
            }
        }
    }

    /// Sets operands and successors; gives the first value of another module that the map does not hold.
    fn connect(self, map: &ValueMap) -> Result<(), ValueId> {
        let within = self.from.is_none();
        for (copy, original) in &self.made {
            let Operation { operands, successors, .. } = self.source().op(*original).clone();
            let mapped = |value: &ValueId| match map.get(value) {
                Some(copy) => Ok(*copy),
                None if within => Ok(*value),
                None => Err(*value),
            };
            let operands: Vec<ValueId> = operands.iter().map(mapped).collect::<Result<_, _>>()?;
            let successors = successors.iter().filter_map(|block| match self.blocks.get(block) {
                Some(copy) => Some(*copy),
                None => within.then_some(*block),
            });
            let successors = successors.collect();
            self.into.set_operands(*copy, &operands);
            self.into.op_mut(*copy).successors = successors;
        }
        Ok(())
    }
}

/// Copies an op with its regions. The copy is in no block; the map gains its results.
pub fn clone_op(module: &mut Module, op: OpId, map: &mut ValueMap) -> OpId {
    let mut copier = Copier { from: None, into: module, blocks: BTreeMap::new(), made: Vec::new() };
    let copy = copier.op(op, map);
    let connected = copier.connect(map);
    assert!(connected.is_ok(), "within one module every operand is known");
    copy
}

/// Copies all blocks of a region to the end of another, which may belong to any op of the module.
pub fn clone_region(module: &mut Module, region: RegionId, into: RegionId, map: &mut ValueMap) {
    let mut copier = Copier { from: None, into: module, blocks: BTreeMap::new(), made: Vec::new() };
    copier.region(region, into, map);
    let connected = copier.connect(map);
    assert!(connected.is_ok(), "within one module every operand is known");
}

/// Copies the ops of a block to the end of another; its arguments stand for what the map says.
pub fn clone_block_into(module: &mut Module, block: BlockId, into: BlockId, map: &mut ValueMap) {
    for op in module.block(block).ops.clone() {
        let copy = clone_op(module, op, map);
        module.append(into, copy);
    }
}

/// Copies an op of one module into another. The copy is in no block.
///
/// # Errors
/// When an operand is defined outside the op and the map does not say what stands for it: names the op.
pub fn import_op(from: &Module, op: OpId, into: &mut Module, map: &mut ValueMap) -> Result<OpId, String> {
    let mut copier = Copier { from: Some(from), into: &mut *into, blocks: BTreeMap::new(), made: Vec::new() };
    let copy = copier.op(op, map);
    match copier.connect(map) {
        Ok(()) => Ok(copy),
        Err(value) => {
            into.erase(copy);
            let name = from.value(value).name.as_deref().unwrap_or("unnamed");
            Err(format!("'{}' uses the value '{name}' of another module", from.op(op).def.name))
        }
    }
}

/// Moves an op before another one.
pub fn move_before(module: &mut Module, op: OpId, before: OpId) {
    module.detach(op);
    let (block, position) = module.position(before).expect("the other op is in a block");
    module.insert(block, position, op);
}

/// Moves an op to the end of a block.
pub fn move_to_end(module: &mut Module, op: OpId, block: BlockId) {
    module.detach(op);
    module.append(block, op);
}

/// Moves the ops of a block before `before`, with `arguments` in place of its arguments. The terminator is erased; gives the
/// values it had. The block is empty afterwards, and its op can be erased.
pub fn inline_block(
    module: &mut Module,
    block: BlockId,
    before: OpId,
    arguments: &[ValueId],
) -> Vec<ValueId> {
    let formal = module.block(block).arguments.clone();
    assert_eq!(formal.len(), arguments.len(), "as many values as the block has arguments");
    for (argument, value) in formal.iter().zip(arguments) {
        module.replace_all_uses(*argument, *value);
    }
    let mut results = Vec::new();
    if let Some(last) = module.terminator(block) {
        results = module.op(last).operands.to_vec();
        module.erase(last);
    }
    let moved = module.block(block).ops.clone();
    module.set_block_ops(block, Vec::new());
    let (target, position) = module.position(before).expect("the other op is in a block");
    let mut ops = module.block(target).ops.clone();
    ops.splice(position..position, moved);
    module.set_block_ops(target, ops);
    results
}

/// Moves the ops of a block from `position` on to a new block right after it. Neither gets a terminator.
pub fn split_block(module: &mut Module, block: BlockId, position: usize) -> BlockId {
    let region = module.block(block).parent.expect("the block is in a region");
    let new = module.add_block(region, &[]);
    let mut first = module.block(block).ops.clone();
    let second = first.split_off(position.min(first.len()));
    module.set_block_ops(block, first);
    module.set_block_ops(new, second);
    let mut blocks = module.region(region).blocks.clone();
    blocks.retain(|other| *other != new);
    let at = blocks.iter().position(|other| *other == block).map_or(blocks.len(), |at| at + 1);
    blocks.insert(at, new);
    module.set_region_blocks(region, blocks);
    new
}

/// Makes every user of an op's results use other values, and erases the op.
pub fn replace_op(module: &mut Module, op: OpId, values: &[ValueId]) {
    let results = module.op(op).results.clone();
    assert_eq!(results.len(), values.len(), "as many values as the op has results");
    for (result, value) in results.iter().zip(values) {
        module.replace_all_uses(*result, *value);
    }
    module.erase(op);
}

/// True if an op has no effect but its results: it says so, or all ops of its regions do.
pub fn is_pure(module: &Module, op: OpId) -> bool {
    let operation = module.op(op);
    if operation.def.is(Traits::PURE) {
        return true;
    }
    let blocks = operation.regions.iter().flat_map(|region| &module.region(*region).blocks);
    let mut inner = blocks.flat_map(|block| &module.block(*block).ops).peekable();
    !operation.def.is(Traits::SYMBOL)
        && inner.peek().is_some()
        && inner.all(|op| module.op(*op).def.is(Traits::TERMINATOR) || is_pure(module, *op))
}

/// Erases all pure ops below `scope` whose results nobody uses; gives how many. Linear.
pub fn erase_dead(module: &mut Module, scope: OpId) -> usize {
    let mut erased = 0;
    for region in module.op(scope).regions.clone() {
        // Later blocks and ops first, so that a chain goes at once.
        for block in module.region(region).blocks.clone().into_iter().rev() {
            let mut kept = Vec::new();
            let ops = module.block(block).ops.clone();
            let before = ops.len();
            for op in ops.into_iter().rev() {
                let results = &module.op(op).results;
                let unused = results.iter().all(|value| module.value(*value).users.is_empty());
                if unused && !results.is_empty() && is_pure(module, op) {
                    module.drop_all_operands(op);
                } else {
                    erased += erase_dead(module, op);
                    kept.push(op);
                }
            }
            if kept.len() < before {
                erased += before - kept.len();
                kept.reverse();
                module.set_block_ops(block, kept);
            }
        }
    }
    erased
}

/// An op like `op` with other operands and attributes, before it; result types, location and regions' absence as given.
pub fn replace_with(
    module: &mut Module,
    op: OpId,
    def: &'static crate::op_def::OpDef,
    operands: &[ValueId],
    attributes: Attributes,
) -> OpId {
    let types: Vec<Type> = module.op(op).results.iter().map(|value| module.ty(*value).clone()).collect();
    let location: Location = module.op(op).location.clone();
    let new = module.create_op(def, operands, attributes, &types, location);
    let (block, position) = module.position(op).expect("the op is in a block");
    module.insert(block, position, new);
    let results = module.op(new).results.to_vec();
    replace_op(module, op, &results);
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{ParseOptions, parse};
    use crate::registry::Registry;

    const TEXT: &str = r#"
"func.func"() <{function_type = (tensor<i1>, tensor<4xf32>) -> tensor<4xf32>, sym_name = "main"}> ({
^bb0(%c: tensor<i1>, %x: tensor<4xf32>):
  %dead = "core.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %dead_too = "core.exp"(%dead) : (tensor<4xf32>) -> tensor<4xf32>
  %y = "core.if"(%c) ({
    %a = "core.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
    "core.yield"(%a) : (tensor<4xf32>) -> ()
  }, {
    %b = "core.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
    %unused = "core.abs"(%x) : (tensor<4xf32>) -> tensor<4xf32>
    "core.yield"(%b) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>) -> tensor<4xf32>
  "func.return"(%y) : (tensor<4xf32>) -> ()
}) : () -> ()
"#;

    fn module() -> Module {
        parse(TEXT, &Registry::builtin(), &ParseOptions::default()).expect("the text is right")
    }

    fn names(module: &Module) -> Vec<&'static str> {
        module.all_ops().into_iter().map(|op| module.op(op).def.short_name()).collect()
    }

    fn find(module: &Module, name: &str) -> OpId {
        module.all_ops().into_iter().find(|op| module.op(*op).def.name == name).expect("the op is there")
    }

    #[test]
    fn dead_chains_go_also_in_regions() {
        let mut module = module();
        let root = module.root();
        assert_eq!(erase_dead(&mut module, root), 3);
        assert_eq!(names(&module), ["module", "func", "if", "neg", "yield", "exp", "yield", "return"]);
        assert_eq!(crate::verify::verify(&module), []);
        assert_eq!(erase_dead(&mut module, root), 0);
    }

    #[test]
    fn a_branch_is_inlined() {
        let mut module = module();
        let op = find(&module, "core.if");
        let block = module.entry(op, 1);
        let results = inline_block(&mut module, block, op, &[]);
        replace_op(&mut module, op, &results);
        assert_eq!(names(&module), ["module", "func", "neg", "exp", "exp", "abs", "return"]);
        assert_eq!(crate::verify::verify(&module), []);
    }

    #[test]
    fn a_copy_is_independent() {
        let mut module = module();
        let op = find(&module, "core.if");
        let mut map = ValueMap::new();
        let copy = clone_op(&mut module, op, &mut map);
        let block = module.op(op).parent.expect("the op is in a block");
        module.insert(block, 0, copy);
        assert_eq!(map[&module.result(op)], module.result(copy));
        assert_eq!(crate::verify::verify(&module), []);
        module.erase(copy);
        assert_eq!(crate::verify::verify(&module), []);
    }

    #[test]
    fn a_function_goes_to_another_module() {
        let from = module();
        let mut into = Module::new();
        let copy = import_op(&from, from.functions()[0], &mut into, &mut ValueMap::new()).expect("isolated");
        let body = into.body();
        into.append(body, copy);
        assert_eq!(crate::verify::verify(&into), []);
        assert_eq!(into.to_string(), from.to_string());

        let inner = import_op(&from, find(&from, "core.neg"), &mut into, &mut ValueMap::new());
        assert_eq!(inner, Err("'core.neg' uses the value 'x' of another module".to_string()));
    }

    #[test]
    fn a_block_splits_in_order() {
        let mut module = module();
        let function = module.functions()[0];
        let entry = module.entry(function, 0);
        let second = split_block(&mut module, entry, 2);
        assert_eq!((module.block(entry).ops.len(), module.block(second).ops.len()), (2, 2));
        assert_eq!(module.region(module.op(function).regions[0]).blocks, [entry, second]);
        let first = module.block(second).ops[0];
        move_to_end(&mut module, first, entry);
        let dead = find(&module, "core.neg");
        move_before(&mut module, first, dead);
        assert_eq!(module.block(entry).ops[0], first);
    }

    #[test]
    fn one_op_stands_for_another() {
        let mut module = module();
        let neg = find(&module, "core.neg");
        let operands = module.op(neg).operands.to_vec();
        let abs = Registry::builtin().find("core.abs").expect("a core op");
        replace_with(&mut module, neg, abs, &operands, Attributes::new());
        assert_eq!(crate::verify::verify(&module), []);
        assert_eq!(names(&module)[2..4], ["abs", "exp"]);
    }
}
