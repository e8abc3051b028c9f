//! What values are called in text: their own name if they have one, else the op's, made unique within a function.
//!
//! Names that values carry are given out first, so that an op without one never takes the name of another. A number is kept
//! when the source had it; it is never made up.
//!
//! ```text
//! %x   %matmul   %matmul_1   %top_k:2 (used as %top_k#1)
//! ```

use crate::module::{Module, OpId, Source, ValueId};
use crate::op_def::Traits;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

/// Names of all values below a scope, up to the next scopes.
#[derive(Clone, Debug, Default)]
pub struct ValueNames {
    names: HashMap<ValueId, (Arc<str>, Option<usize>)>,
}

impl ValueNames {
    /// Names the values below `scope`.
    pub fn of(module: &Module, scope: OpId) -> ValueNames {
        let mut packs = Vec::new();
        collect(module, scope, &mut packs);
        let mut names: Vec<Option<Arc<str>>> = vec![None; packs.len()];
        let mut taken: HashSet<Arc<str>> = HashSet::new();
        for (pack, name) in packs.iter().zip(&mut names) {
            let wanted = module.value(pack[0]).name.as_deref().and_then(sanitize);
            if let Some(wanted) = wanted.map(Arc::<str>::from)
                && taken.insert(wanted.clone())
            {
                *name = Some(wanted);
            }
        }
        let mut counters: HashMap<String, usize> = HashMap::new();
        let mut result = ValueNames::default();
        for (pack, name) in packs.iter().zip(names) {
            let name = name.unwrap_or_else(|| {
                let base = base_name(module, pack[0]);
                let counter = counters.entry(base.clone()).or_insert(0);
                loop {
                    let candidate: Arc<str> =
                        if *counter == 0 { base.as_str().into() } else { format!("{base}_{counter}").into() };
                    *counter += 1;
                    if taken.insert(candidate.clone()) {
                        return candidate;
                    }
                }
            });
            for (index, value) in pack.iter().enumerate() {
                let index = (pack.len() > 1).then_some(index);
                result.names.insert(*value, (name.clone(), index));
            }
        }
        result
    }

    /// Writes a use of a value, without `%`.
    pub fn write(&self, out: &mut String, value: ValueId) {
        let written = match self.names.get(&value) {
            Some((name, None)) => write!(out, "{name}"),
            Some((name, Some(index))) => write!(out, "{name}#{index}"),
            // Not below the scope: a fault that the verifier reports, shown so that it does not read back.
            None => write!(out, "<outside {}>", value.index()),
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }

    /// A use of a value, without `%`.
    pub fn text(&self, value: ValueId) -> String {
        let mut out = String::new();
        self.write(&mut out, value);
        out
    }

    pub(super) fn write_pack(&self, out: &mut String, value: ValueId) {
        if let Some((name, _)) = self.names.get(&value) {
            out.push_str(name);
        }
    }

    /// The packs that results were named in: first value and size.
    pub(super) fn groups(&self, results: &[ValueId]) -> Vec<(ValueId, usize)> {
        let mut groups: Vec<(ValueId, usize)> = Vec::new();
        for value in results {
            let continues = self.names.get(value).is_some_and(|name| name.1.is_some_and(|index| index > 0));
            match groups.last_mut() {
                Some((_, count)) if continues => *count += 1,
                _ => groups.push((*value, 1)),
            }
        }
        groups
    }
}

/// Whether names begin anew below an op: functions and the module. Other isolated ops (kernels) see no outer values either, but
/// another reader of MLIR does not know that of an op it has not registered, and refuses a name that is defined twice.
pub(super) fn is_scope(module: &Module, op: OpId) -> bool {
    let def = module.op(op).def;
    def.is(Traits::ISOLATED.with(Traits::SYMBOL)) || op == module.root()
}

/// Splits the values below an op into packs. A result that has a name begins a pack of its own, one without joins the pack
/// before it.
fn collect(module: &Module, scope: OpId, packs: &mut Vec<Vec<ValueId>>) {
    for region in &module.op(scope).regions {
        for block in &module.region(*region).blocks {
            packs.extend(module.block(*block).arguments.iter().map(|value| vec![*value]));
            for op in &module.block(*block).ops {
                let mut first = true;
                for value in &module.op(*op).results {
                    match packs.last_mut() {
                        Some(pack) if !first && module.value(*value).name.is_none() => pack.push(*value),
                        _ => packs.push(vec![*value]),
                    }
                    first = false;
                }
                if !is_scope(module, *op) {
                    collect(module, *op, packs);
                }
            }
        }
    }
}

fn base_name(module: &Module, value: ValueId) -> String {
    let own = module.value(value).name.as_deref().and_then(sanitize);
    // A number cannot take a suffix.
    if let Some(own) = own.filter(|name| !name.starts_with(|c: char| c.is_ascii_digit())) {
        return own;
    }
    match module.value(value).source {
        Source::Result(op, _) => {
            module.op(op).def.short_name().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        }
        Source::Argument(..) => "arg".into(),
    }
}

/// A name as MLIR's `suffix-id`: digits alone, or a letter or one of `$._-` followed by those and digits.
fn sanitize(name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let mut text: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "$._-".contains(c) { c } else { '_' }).collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) && !text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.insert(0, '_');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use crate::parse::{ParseOptions, parse};
    use crate::print::{PrintOptions, print};
    use crate::registry::Registry;

    #[test]
    fn kernels_share_the_names_of_their_function() {
        let kernel = |operand: &str, result: &str| {
            format!(
                "{result} = \"core.kernel\"({operand}) <{{kind = \"relu\", name = \"k\"}}> ({{\n^bb0(%a: tensor<2xf32>):\n\
                 %r = \"core.relu\"(%a) : (tensor<2xf32>) -> tensor<2xf32>\n\
                 \"core.yield\"(%r) : (tensor<2xf32>) -> ()\n}}) : (tensor<2xf32>) -> tensor<2xf32>\n"
            )
        };
        let text = format!(
            "\"func.func\"() <{{function_type = (tensor<2xf32>) -> tensor<2xf32>, sym_name = \"main\"}}> ({{\n\
             ^bb0(%x: tensor<2xf32>):\n{}{}\"func.return\"(%z) : (tensor<2xf32>) -> ()\n}}) : () -> ()",
            kernel("%x", "%y"),
            kernel("%y", "%z")
        );
        let read = |text: &str| parse(text, &Registry::builtin(), &ParseOptions::default()).expect("reads");
        let printed = print(&read(&text), &PrintOptions::default());
        // MLIR does not know that an op it has not registered is isolated: a second `%r` would be a redefinition.
        assert_eq!(printed.matches("%r = ").count(), 1, "{printed}");
        assert_eq!(print(&read(&printed), &PrintOptions::default()), printed);
    }
}
