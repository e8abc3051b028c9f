//! Gives symbolic dimensions their values, and infers result types again.
//!
//! ```text
//! bind-symbols{seq=32}:   tensor<1x?x64xf32, ["seq"]>   =>   tensor<1x32x64xf32>
//! ```

use crate::pass::{OptionDef, Pass, PassContext, PassDef};
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::builder;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::builtin;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::Signature;
use tilewright_ir::types::Type;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "bind-symbols",
    doc: "Replaces symbols by expressions in every type and attribute: bind-symbols{set=seq:32,past_seq:0}.",
    options: &[OptionDef { name: "set", default: "", doc: "NAME:VALUE pairs, separated by commas" }],
    make: |options| {
        let mut with = BTreeMap::new();
        for pair in options.list("set") {
            let (name, value) =
                pair.split_once(':').ok_or_else(|| format!("expected NAME:VALUE, found '{pair}'"))?;
            let value: Dim =
                value.parse().map_err(|error: tilewright_ir::dim::DimError| error.to_string())?;
            with.insert(Arc::from(name), value);
        }
        Ok(Box::new(Bind { with }))
    },
};

/// The pass that infers types.
pub static INFER: PassDef = PassDef {
    name: "infer-shapes",
    doc: "Infers result types from operands, where an op's definition says how, and updates the function's type.",
    options: &[],
    make: |_| Ok(Box::new(InferShapes)),
};

struct Bind {
    with: BTreeMap<Arc<str>, Dim>,
}

struct InferShapes;

impl Pass for Bind {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        let root = module.root();
        tilewright_ir::symbols::substitute(module, root, &self.with);
        Ok(())
    }
}

impl Pass for InferShapes {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        let mut problems = Diagnostics::new();
        for op in module.all_ops() {
            if let Err(what) = infer(module, op) {
                let operation = module.op(op);
                let what = format!("'{}': {what}", operation.def.name);
                problems.push(Diagnostic::error(operation.location.clone(), what));
            }
        }
        for function in module.functions() {
            update_function_type(module, function);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

fn infer(module: &mut Module, op: OpId) -> Result<(), String> {
    let operation = module.op(op);
    if operation.results.is_empty() || !operation.regions.is_empty() {
        return Ok(());
    }
    let types = module.with_signature(op, |signature| builder::infer(&Signature { ..*signature }))?;
    for (value, ty) in module.op(op).results.clone().into_iter().zip(types) {
        module.value_mut(value).ty = ty;
    }
    Ok(())
}

/// Writes the function's type from its block's arguments and what it returns.
pub(crate) fn update_function_type(module: &mut Module, function: OpId) {
    let block: BlockId = module.entry(function, 0);
    let types =
        |module: &Module, values: &[ValueId]| values.iter().map(|value| module.ty(*value).clone()).collect();
    let inputs = types(module, &module.block(block).arguments);
    let results = match module.terminator(block) {
        Some(last) if module.op(last).def == &builtin::RETURN => types(module, &module.op(last).operands),
        _ => return,
    };
    let ty = Attribute::Type(Type::Function(inputs, results));
    module.op_mut(function).attributes.insert("function_type".into(), ty);
}
