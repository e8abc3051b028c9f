//! Which states of a function are key/value caches that attention alone reads.
//!
//! Knows no format. A state that is not a concat along tokens (a convolution's window) is no cache and is passed over in silence; one
//! that is, but is read by something else, is refused with the reason.
//!
//! ```text
//! (%past: tw.state = "present.0.key") .. %present.0.key = concat(%past, %new) .. attention(%q, %present.0.key, ..) .. return
//! ```

use std::collections::BTreeSet;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::{builtin, core};
use tilewright_ir::module::{BlockId, Module, OpId, Source, ValueId};
use tilewright_ir::op_def::normalize_axis;

/// What attention uses a cache for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    Value,
}

/// A cache of `[batch, heads, tokens, width]`.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    pub(super) block: BlockId,
    /// Number of the argument.
    pub(super) index: usize,
    pub(super) argument: ValueId,
    pub(super) name: String,
    pub(super) output_name: String,
    pub(super) concat: OpId,
    pub(super) new: ValueId,
    pub(super) present: ValueId,
    /// Tokens that one run adds.
    pub(super) count: i64,
    pub(super) width: i64,
    pub(super) role: Role,
    pub(super) attentions: Vec<OpId>,
}

/// The caches, and states that look like one with the reason why they are not taken.
#[derive(Default)]
pub(super) struct Found {
    pub(super) caches: Vec<Cache>,
    pub(super) refused: Vec<(String, String)>,
}

fn text<'a>(module: &'a Module, function: OpId, list: &str, index: usize, name: &str) -> Option<&'a str> {
    let Some(Attribute::Array(items)) = module.op(function).attributes.get(list) else { return None };
    match items.get(index)? {
        Attribute::Dict(entries) => entries.get(name).and_then(Attribute::as_str),
        _ => None,
    }
}

pub(super) fn find(module: &Module, function: OpId) -> Found {
    let mut found = Found::default();
    let block = module.entry(function, 0);
    for index in 0..module.block(block).arguments.len() {
        let name = text(module, function, "arg_attrs", index, "tw.name").unwrap_or_default().to_string();
        match cache(module, function, block, index) {
            Some(Ok(cache)) => found.caches.push(cache),
            Some(Err(reason)) => found.refused.push((name, reason)),
            None => {}
        }
    }
    // Both operands of an attention are kept in one way or none is; what one refusal takes away may take others.
    loop {
        let taken: BTreeSet<ValueId> = found.caches.iter().map(|cache| cache.present).collect();
        let pairs = |op: &OpId| {
            [1, 2]
                .iter()
                .all(|slot| module.operand_at(*op, *slot).is_some_and(|value| taken.contains(&value)))
        };
        let (kept, alone): (Vec<Cache>, Vec<Cache>) =
            found.caches.into_iter().partition(|cache| cache.attentions.iter().all(pairs));
        found.caches = kept;
        if alone.is_empty() {
            return found;
        }
        let reason = "the other operand of its attention is not kept in a cache";
        found.refused.extend(alone.into_iter().map(|cache| (cache.name, reason.to_string())));
    }
}

/// The cache of an argument; none when it is no state that grows by a concat.
fn cache(module: &Module, function: OpId, block: BlockId, index: usize) -> Option<Result<Cache, String>> {
    let argument = module.block(block).arguments[index];
    let ty = module.tensor(argument)?;
    let output_name = state_output(module, function, index)?;
    let concat = match module.value(argument).users.as_slice() {
        [user] if module.op(*user).def == &core::CONCAT => *user,
        _ => return None,
    };
    let (present, operands) = (module.result(concat), &module.op(concat).operands);
    if operands.first() != Some(&argument) || !ty.element.is_float() {
        return None;
    }
    let axis = module.op(concat).attributes.get("axis").and_then(Attribute::as_int)?;
    let is_returned = module.value(present).users.iter().any(|user| module.op(*user).def == &builtin::RETURN);
    if !is_returned || matches!(module.value(present).source, Source::Argument(..)) {
        return None;
    }
    let name = text(module, function, "arg_attrs", index, "tw.name").unwrap_or_default().to_string();
    let make = || {
        if ty.rank() != 4 || normalize_axis(axis, 4) != Some(2) || operands.len() != 2 {
            return Err("it is not [batch, heads, tokens, width], growing along the tokens".to_string());
        }
        let new = module.tensor(operands[1]).ok_or("its new tokens are no tensor")?;
        let count = new.shape[2].known().ok_or("the number of new tokens is not known")?;
        let width = ty.shape[3].known().ok_or("its width is not known")?;
        if width % 2 != 0 {
            return Err(format!("rows of {width} elements are not whole bytes in 4 bits"));
        }
        let (role, attentions) = readers(module, present)?;
        Ok(Cache {
            block,
            index,
            argument,
            name: name.clone(),
            output_name: output_name.clone(),
            concat,
            new: operands[1],
            present,
            count,
            width,
            role,
            attentions,
        })
    };
    Some(make())
}

/// The name of the result that an argument is tied to.
fn state_output(module: &Module, function: OpId, index: usize) -> Option<String> {
    if let Some(name) = text(module, function, "arg_attrs", index, "tw.state") {
        return Some(name.to_string());
    }
    let own = text(module, function, "arg_attrs", index, "tw.name")?;
    let Some(Attribute::Array(results)) = module.op(function).attributes.get("res_attrs") else {
        return None;
    };
    let tied = |output: &usize| text(module, function, "res_attrs", *output, "tw.state") == Some(own);
    let output = (0..results.len()).find(tied)?;
    text(module, function, "res_attrs", output, "tw.name").map(String::from)
}

/// What reads a cache: attention as keys or as values, and the return.
fn readers(module: &Module, present: ValueId) -> Result<(Role, Vec<OpId>), String> {
    let mut attentions = Vec::new();
    let mut role = None;
    for user in &module.value(present).users {
        let operation = module.op(*user);
        if operation.def == &builtin::RETURN {
            continue;
        }
        if operation.def != &core::ATTENTION {
            return Err(format!("'{}' reads it", operation.def.name));
        }
        let slots: Vec<usize> =
            (0..5).filter(|slot| module.operand_at(*user, *slot) == Some(present)).collect();
        let now = match slots[..] {
            [1] => Role::Key,
            [2] => Role::Value,
            _ => return Err("attention reads it as keys and values at once".into()),
        };
        if role.is_some_and(|role| role != now) {
            return Err("one attention reads it as keys, another as values".into());
        }
        role = Some(now);
        if operation.attributes.get("window").and_then(Attribute::as_int) == Some(0) {
            return Err("its attention has a window of no keys".into());
        }
        attentions.push(*user);
    }
    Ok((role.ok_or("nothing reads it")?, attentions))
}
