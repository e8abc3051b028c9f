//! tilewright's passes: from imported `core` IR to optimised ops in kernels.
//!
//! The map: [`pass`] and [`pipeline`] run passes; [`machine`] is the machine as plain data; [`legality`] says which ops a level may
//! hold. One file per plain pass: [`canonicalize`], [`cse`], [`dce`], [`bind_symbols`], [`absorb_masks`],
//! [`quantize_weights`], [`fold_channel_factors`], [`quantize_activations`], [`quantize_kv_cache`], [`demote_floats`],
//! [`integer_convolutions`], [`form_kernels`].
//! [`optimize`] is equality saturation: [`egraph`] holds the graph, [`rules`] the rule language, `rewrites/` the rules.
//!
//! It must not know: files, ONNX, targets. It asks a [`machine::Machine`].
//!
//! ```text
//! builtin.module(canonicalize,cse,optimize,canonicalize,cse,form-kernels)
//! ```

pub mod absorb_masks;
pub mod bind_symbols;
pub mod canonicalize;
pub mod cse;
pub mod dce;
pub mod demote_floats;
pub mod egraph;
pub mod fold_channel_factors;
pub mod form_kernels;
pub mod integer_convolutions;
pub mod legality;
pub mod machine;
pub mod optimize;
pub mod pass;
pub mod pipeline;
pub mod quantize_activations;
pub mod quantize_kv_cache;
pub mod quantize_weights;
pub mod rules;
pub mod synthetic;

use pass::PassDef;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::module::Module;

/// All in-tree passes.
pub static BUILTIN: &[&PassDef] = &[
    &canonicalize::DEF,
    &cse::DEF,
    &dce::DEF,
    &bind_symbols::DEF,
    &bind_symbols::INFER,
    &optimize::OUTLINE,
    &optimize::DEF,
    &absorb_masks::DEF,
    &quantize_kv_cache::DEF,
    &quantize_weights::DEF,
    &fold_channel_factors::DEF,
    &quantize_activations::DEF,
    &integer_convolutions::DEF,
    &demote_floats::DEF,
    &form_kernels::DEF,
    &legality::DEF,
];

/// The levels of core IR after import, by name, with the passes that lead to each from the one before.
pub const PIPELINES: [(&str, &str); 3] = [
    ("core", "canonicalize,cse,dce"),
    ("optimized", "integer-convolutions,optimize,absorb-masks,canonicalize,cse,dce"),
    ("kernels", "demote-floats,cse,form-kernels"),
];

/// Checks the signature of every op of a module: the default after each pass.
///
/// # Errors
/// All problems, each at its op.
pub fn verify(module: &Module) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::new();
    for op in module.all_ops() {
        if let Err(faults) = module.with_signature(op, tilewright_ir::verify::verify_signature) {
            let operation = module.op(op);
            problems.extend(faults.into_iter().map(|fault| {
                Diagnostic::error(operation.location.clone(), format!("'{}': {fault}", operation.def.name))
            }));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}
