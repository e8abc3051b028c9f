//! Puts groups of ops into kernels: operands as arguments, constants copied inside, results yielded, everything in an order that works.
//!
//! ```text
//! {rms_norm, linear}   =>   %y = "core.kernel"(%x, %g, %w) ({ %n = rms_norm; %y = linear; yield %y })
//! ```

use super::Kind;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::core;
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::Traits;
use tilewright_ir::types::Type;

/// Replaces groups by kernels and puts the block in an order in which every value is made before it is used.
pub(super) fn rebuild(module: &mut Module, block: BlockId, groups: Vec<(Kind, Vec<OpId>)>) {
    let old = module.block(block).ops.clone();
    let mut unit_of: BTreeMap<OpId, usize> = BTreeMap::new();
    // Units keep the place of their first op.
    let mut units: Vec<Vec<OpId>> = Vec::new();
    let mut kinds: Vec<Option<Kind>> = Vec::new();
    let group_of: BTreeMap<OpId, usize> =
        groups.iter().enumerate().flat_map(|(at, group)| group.1.iter().map(move |op| (*op, at))).collect();
    for op in &old {
        if unit_of.contains_key(op) {
            continue;
        }
        let (members, kind) = match group_of.get(op) {
            Some(group) => (groups[*group].1.clone(), Some(groups[*group].0)),
            None => (vec![*op], None),
        };
        members.iter().for_each(|member| {
            unit_of.insert(*member, units.len());
        });
        units.push(members);
        kinds.push(kind);
    }
    let order = sorted(module, &units, &unit_of);
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut ops = Vec::new();
    for unit in order {
        match kinds[unit] {
            None => ops.push(units[unit][0]),
            Some(kind) => ops.push(make_kernel(module, kind, &units[unit], &mut names)),
        }
    }
    module.set_block_ops(block, ops);
}

/// Units so that each comes after what it reads, otherwise in their old order. Terminators stay last.
fn sorted(module: &Module, units: &[Vec<OpId>], unit_of: &BTreeMap<OpId, usize>) -> Vec<usize> {
    let mut needs: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); units.len()];
    let mut feeds: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); units.len()];
    for (unit, members) in units.iter().enumerate() {
        for member in members {
            let mut inner = Vec::new();
            module.walk(*member, &mut |op| inner.push(op));
            for op in inner {
                for value in &module.op(op).operands {
                    let from = module.producer(*value).and_then(|op| unit_of.get(&op).copied());
                    if let Some(from) = from.filter(|from| *from != unit) {
                        needs[unit].insert(from);
                        feeds[from].insert(unit);
                    }
                }
            }
        }
    }
    let is_last = |unit: usize| module.op(units[unit][0]).def.is(Traits::TERMINATOR);
    let mut ready: BTreeSet<(bool, usize)> =
        (0..units.len()).filter(|unit| needs[*unit].is_empty()).map(|unit| (is_last(unit), unit)).collect();
    let mut order = Vec::with_capacity(units.len());
    while let Some((_, unit)) = ready.pop_first() {
        order.push(unit);
        for next in &feeds[unit] {
            needs[*next].remove(&unit);
            if needs[*next].is_empty() {
                ready.insert((is_last(*next), *next));
            }
        }
    }
    assert_eq!(order.len(), units.len(), "kernels depend on each other in a circle");
    order
}

fn make_kernel(
    module: &mut Module,
    kind: Kind,
    members: &[OpId],
    names: &mut BTreeMap<String, usize>,
) -> OpId {
    let inside: BTreeSet<OpId> = members.iter().copied().collect();
    let mut operands: Vec<ValueId> = Vec::new();
    let mut constants: Vec<OpId> = Vec::new();
    for member in members {
        for value in &module.op(*member).operands {
            match module.producer(*value) {
                Some(op) if inside.contains(&op) => {}
                Some(op) if module.op(op).def.is(Traits::CONSTANT) => {
                    if !constants.contains(&op) {
                        constants.push(op);
                    }
                }
                _ if operands.contains(value) => {}
                _ => operands.push(*value),
            }
        }
    }
    let escapes =
        |module: &Module, value: ValueId| module.value(value).users.iter().any(|user| !inside.contains(user));
    let outputs: Vec<ValueId> = members
        .iter()
        .flat_map(|op| module.op(*op).results.to_vec())
        .filter(|value| escapes(module, *value))
        .collect();
    let types: Vec<Type> = outputs.iter().map(|value| module.ty(*value).clone()).collect();
    let location = Location::fuse(None, members.iter().map(|op| module.op(*op).location.clone()));
    let stem = kind.text();
    let number = names.entry(stem.to_string()).or_insert(0);
    let name = if *number == 0 { stem.to_string() } else { format!("{stem}_{number}") };
    *number += 1;
    let mut attributes = Attributes::new();
    attributes.insert("kind".into(), Attribute::str(stem));
    attributes.insert("name".into(), Attribute::str(&name));
    let kernel = module.create_op(&core::KERNEL, &operands, attributes, &types, location);
    let region = module.add_region(kernel);
    let argument_types: Vec<Type> = operands.iter().map(|value| module.ty(*value).clone()).collect();
    let body = module.add_block(region, &argument_types);
    let mut inner: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for (value, argument) in operands.iter().zip(module.block(body).arguments.clone()) {
        module.value_mut(argument).name = module.value(*value).name.clone();
        inner.insert(*value, argument);
    }
    for constant in constants {
        let operation = module.op(constant).clone();
        let (outer, ty) = (operation.results[0], module.ty(operation.results[0]).clone());
        let copy = module.create_op(operation.def, &[], operation.attributes, &[ty], operation.location);
        module.append(body, copy);
        let result = module.result(copy);
        module.value_mut(result).name = module.value(outer).name.clone();
        inner.insert(outer, result);
    }
    for member in members {
        module.detach(*member);
        module.append(body, *member);
        for index in 0..module.op(*member).operands.len() {
            let value = module.op(*member).operands[index];
            if let Some(mapped) = inner.get(&value) {
                module.set_operand(*member, index, *mapped);
            }
        }
    }
    // Users outside read the kernel's results; the yield keeps reading the inner values.
    for (at, value) in outputs.iter().enumerate() {
        let result = module.op(kernel).results[at];
        module.value_mut(result).name = module.value(*value).name.clone();
        let users = module.value(*value).users.clone();
        for user in users {
            for index in 0..module.op(user).operands.len() {
                if !inside.contains(&user) && module.op(user).operands[index] == *value {
                    module.set_operand(user, index, result);
                }
            }
        }
    }
    let end = module.create_op(&core::YIELD, &outputs, Attributes::new(), &[], Location::Unknown);
    module.append(body, end);
    kernel
}
