//! Which core values are constants at compile time without being `core.constant`, and how they get into the artifact.
//!
//! A pure op whose operands are all constant is evaluated when the artifact is written, unless its result is much larger than
//! what it is made from (a broadcast, weights dequantised from 4 bits), which would only cost memory.
//!
//! ```text
//! %w = "tile.constant"() {function = @constant_0} : () -> memref<64x64xf32, "const">
//! ```

use crate::emit::constants::copy_op;
use crate::lowering::LoweringContext;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::{builtin, core, tile};
use tilewright_ir::dim::Dim;
use tilewright_ir::module::{Module, OpId, Operation, ValueId};
use tilewright_ir::op_def::{AttributeRule, Evaluate, OpDef, Traits};
use tilewright_ir::types::{TensorType, Type};

/// A folded result may be this many times as large as its operands.
const GROWTH_MAX: usize = 2;
/// Below this size growth does not matter.
const SMALL_BYTES: usize = 64 << 10;

/// Ops that become views of their operand: cheaper than another copy of a weight in the artifact.
static RENAMINGS: &[&OpDef] =
    &[&core::RESHAPE, &core::TRANSPOSE, &core::BROADCAST, &core::SLICE, &core::BITCAST];

/// The values below `function` that fold.
pub(super) fn foldable(module: &Module, function: OpId) -> BTreeSet<ValueId> {
    let mut folded = BTreeSet::new();
    module.walk(function, &mut |op| {
        let operation = module.op(op);
        let is_pure = operation.def.is(Traits::PURE) && matches!(operation.def.evaluate, Evaluate::With(_));
        if !is_pure
            || operation.def.is(Traits::CONSTANT)
            || !operation.regions.is_empty()
            || operation.results.is_empty()
        {
            return;
        }
        let is_constant = |value: &ValueId| {
            folded.contains(value)
                || module.producer(*value).is_some_and(|op| module.op(op).def.is(Traits::CONSTANT))
        };
        if !operation.operands.iter().all(is_constant) || follows_symbol(operation) {
            return;
        }
        let from: Option<usize> = operation.operands.iter().map(|value| bytes(module, *value)).sum();
        let to: Option<usize> = operation.results.iter().map(|value| bytes(module, *value)).sum();
        // Below a value that folds, a renaming folds too: the view would be of bytes that do not exist.
        let renames_constant = RENAMINGS.contains(&operation.def)
            && !operation.operands.iter().any(|value| folded.contains(value));
        // What is stored in few bits stays so, small or not.
        let (small, growth) =
            if operation.def == &core::DEQUANTIZE { (0, 1) } else { (SMALL_BYTES, GROWTH_MAX) };
        let fits = matches!((from, to), (Some(from), Some(to)) if to <= small || to <= from * growth);
        if fits && !renames_constant {
            folded.extend(operation.results.iter().copied());
        }
    });
    folded
}

/// Whether a value is known when the artifact is written.
pub(super) fn is_constant(module: &Module, folded: &BTreeSet<ValueId>, value: ValueId) -> bool {
    folded.contains(&value) || module.producer(value).is_some_and(|op| module.op(op).def.is(Traits::CONSTANT))
}

/// Arguments of kernels below `function` that stand for constants, with these.
pub(super) fn arguments(
    module: &Module,
    function: OpId,
    folded: &BTreeSet<ValueId>,
) -> BTreeMap<ValueId, ValueId> {
    let mut found = BTreeMap::new();
    module.walk(function, &mut |op| {
        if module.op(op).def != &core::KERNEL {
            return;
        }
        let arguments = &module.block(module.entry(op, 0)).arguments;
        for (operand, argument) in module.op(op).operands.iter().zip(arguments) {
            let outer = found.get(operand).copied().unwrap_or(*operand);
            if is_constant(module, folded, outer) {
                found.insert(*argument, outer);
            }
        }
    });
    found
}

/// True if an attribute holds a dimension that is not a number: a size as data, a slice that starts at a register.
fn follows_symbol(operation: &Operation) -> bool {
    operation.def.attributes.iter().any(|attribute| {
        let value = operation.attributes.get(attribute.name);
        let dims = match attribute.rule {
            AttributeRule::Dim => value.and_then(Attribute::as_dim).map(|dim| vec![dim]),
            AttributeRule::Dims => value.and_then(Attribute::as_dims),
            _ => None,
        };
        dims.into_iter().flatten().any(|dim| dim.known().is_none())
    })
}

fn bytes(module: &Module, value: ValueId) -> Option<usize> {
    let ty: &TensorType = module.tensor(value)?;
    Some(ty.element.bytes_of(ty.known_shape()?.iter().product::<i64>() as usize))
}

impl LoweringContext<'_> {
    /// Declares a constant expression for a folded value. The results of one op share a function.
    pub(crate) fn constant_expression(&mut self, value: ValueId) -> Result<View, String> {
        let producer = self.source.producer(value).ok_or("a folded value has no op")?;
        let results = self.source.op(producer).results.clone();
        let name = match self.constant_functions.get(&producer) {
            Some(name) => name.clone(),
            None => {
                let name = self.constant_function(&results, |_, given| Ok(given))?;
                self.constant_functions.insert(producer, name.clone());
                name
            }
        };
        let index = results.iter().position(|other| *other == value).unwrap_or(0);
        let result = (results.len() > 1).then_some(index);
        self.constant_result(&name, result, self.ty(value)?, value)
    }

    /// Declares result `result` (the only one, without a number) of a constant function, under the name of `value`.
    pub(crate) fn constant_result(
        &mut self,
        function: &str,
        result: Option<usize>,
        ty: &TensorType,
        value: ValueId,
    ) -> Result<View, String> {
        let mut attributes = Attributes::from([("function".into(), Attribute::Symbol(function.into()))]);
        if let Some(index) = result {
            attributes.insert("result".into(), index.into());
        }
        let dims: Vec<Dim> = ty.shape.to_vec();
        let view = self.declare(&tile::CONSTANT, attributes, ty.element, &dims, "const")?;
        self.tile.value_mut(view.buffer).name = self.source.value(value).name.clone();
        Ok(view)
    }

    /// Makes a function that gives values which are constant or fold, or what `finish` makes of them; gives its name.
    pub(crate) fn constant_function(
        &mut self,
        values: &[ValueId],
        finish: impl FnOnce(&mut Builder, Vec<ValueId>) -> Result<Vec<ValueId>, String>,
    ) -> Result<String, String> {
        // The first function is the one that reads them.
        let name = format!("constant_{}", self.tile.functions().len().saturating_sub(1));
        let attributes = Attributes::from([
            ("sym_name".into(), Attribute::str(&name)),
            ("sym_visibility".into(), Attribute::str("private")),
        ]);
        let function = self.tile.create_op(&builtin::FUNCTION, &[], attributes, &[], self.location.clone());
        let region = self.tile.add_region(function);
        let block = self.tile.add_block(region, &[]);
        let body = self.tile.body();
        self.tile.append(body, function);
        let mut copies = BTreeMap::new();
        for op in slice_of(self.source, values) {
            copy_op(self.source, op, &mut self.tile, block, &mut copies);
        }
        let given: Vec<ValueId> = values.iter().map(|value| copies[value]).collect();
        let mut builder = Builder::at_end(&mut self.tile, block);
        builder.location = self.location.clone();
        let results = finish(&mut builder, given)?;
        let types = results.iter().map(|result| self.tile.ty(*result).clone()).collect();
        let ty = Attribute::Type(Type::Function(Vec::new(), types));
        self.tile.op_mut(function).attributes.insert("function_type".into(), ty);
        let end = self.tile.create_op(&builtin::RETURN, &results, Attributes::new(), &[], Default::default());
        self.tile.append(block, end);
        Ok(name)
    }
}

/// Removes declarations of constants that nothing reads, such as of a weight that all products read in another form, and the functions
/// that would make them.
pub(super) fn remove_unread(tile: &mut Module, main: OpId) {
    let (mut unread, mut made) = (Vec::new(), BTreeSet::new());
    tile.walk(main, &mut |op| {
        let operation = tile.op(op);
        if operation.def == &tile::CONSTANT {
            if tile.value(operation.results[0]).users.is_empty() {
                unread.push(op);
            } else if let Some(Attribute::Symbol(function)) = operation.attributes.get("function") {
                made.insert(function.to_string());
            }
        }
    });
    unread.into_iter().for_each(|op| tile.erase(op));
    for function in tile.functions() {
        if function != main && !tile.symbol_name(function).is_some_and(|name| made.contains(name)) {
            tile.erase(function);
        }
    }
}

/// The ops that make some values, operands first.
fn slice_of(module: &Module, values: &[ValueId]) -> Vec<OpId> {
    let mut order = Vec::new();
    let mut stack: Vec<(ValueId, bool)> = values.iter().rev().map(|value| (*value, false)).collect();
    let mut done = BTreeSet::new();
    while let Some((value, operands_done)) = stack.pop() {
        let Some(op) = module.producer(value) else { continue };
        if operands_done {
            if done.insert(op) {
                order.push(op);
            }
        } else if !done.contains(&op) {
            stack.push((value, true));
            stack.extend(module.op(op).operands.iter().rev().map(|operand| (*operand, false)));
        }
    }
    order
}
