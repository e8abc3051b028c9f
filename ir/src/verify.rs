//! What makes a module well formed. All problems are found, not the first alone.
//!
//! Of each op ([`verify_signature`]): counts of operands (with `operandSegmentSizes`) and results; that required attributes are
//! there, of their kind, and no others but discardable ones; type rules; that constants have the bytes of their type; that
//! results have the inferred types; the op's own rule.
//!
//! Of the module ([`verify`]):
//! - structure: number of regions, blocks end with a terminator (unless their op has none) and have none before the end,
//!   parents of ops, blocks and regions are where they are listed, successors are blocks of the same region;
//! - values: sources and use lists are true, every use is dominated by its definition, isolated ops see nothing from outside;
//! - regions: the op's own rule on what its blocks take and give;
//! - functions: `function_type` equals the entry's arguments and every return, `arg_attrs` and `res_attrs` have an entry each;
//! - names: symbols are unique in their block, dimension expressions read back from their own text.
//!
//! ```text
//! error: 'core.add': result 0 differs in type: expected tensor<4xf32>, found tensor<5xf32>
//! ```

mod dominance;
mod function;
mod signature;

pub use signature::{attribute_fits, type_fits, verify_signature};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::dialects::builtin;
use crate::dim::Dim;
use crate::module::{BlockId, Module, OpId, RegionId, Source, ValueId};
use crate::op_def::Traits;
use crate::types::Type;
use dominance::Order;
use std::collections::{BTreeMap, BTreeSet};

/// Checks a whole module. Empty when it is well formed.
pub fn verify(module: &Module) -> Diagnostics {
    let mut verifier = Verifier::new(module);
    verifier.op(module.root());
    // Dominance and use lists are told only of a sound structure, where they can be.
    if verifier.found.is_empty() {
        verifier.values();
    }
    verifier.found
}

/// As [`verify`], as a result.
///
/// # Errors
/// All problems.
pub fn check(module: &Module) -> Result<(), Diagnostics> {
    let found = verify(module);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

struct Verifier<'a> {
    module: &'a Module,
    found: Diagnostics,
    /// Ops met so far: one that is listed twice is told once.
    seen: Vec<bool>,
    dims: BTreeSet<Dim>,
}

impl<'a> Verifier<'a> {
    fn new(module: &'a Module) -> Verifier<'a> {
        Verifier { module, found: Vec::new(), seen: vec![false; module.op_count()], dims: BTreeSet::new() }
    }

    fn report(&mut self, op: OpId, what: impl std::fmt::Display) {
        let operation = self.module.op(op);
        self.found
            .push(Diagnostic::error(operation.location.clone(), format!("'{}': {what}", operation.def.name)));
    }

    fn op(&mut self, op: OpId) {
        if std::mem::replace(&mut self.seen[op.index()], true) {
            return self.report(op, "the op is listed in two places");
        }
        let module = self.module;
        let operation = module.op(op);
        if let Err(problems) = module.with_signature(op, verify_signature) {
            problems.into_iter().for_each(|problem| self.report(op, problem));
        }
        if operation.regions.len() != operation.def.regions {
            let (expected, found) = (operation.def.regions, operation.regions.len());
            self.report(op, format_args!("expected {expected} regions, found {found}"));
        }
        for (index, value) in operation.results.iter().enumerate() {
            self.value(op, *value, Source::Result(op, index));
        }
        let before = self.found.len();
        for region in &operation.regions {
            self.region(op, *region);
        }
        if let Some(verify_regions) = operation.def.verify_regions.filter(|_| self.found.len() == before)
            && operation.regions.len() == operation.def.regions
            && let Err(problem) = verify_regions(module, op)
        {
            self.report(op, problem);
        }
        self.symbols(op);
        if operation.def == &builtin::FUNCTION {
            let problems = function::problems(module, op);
            problems.into_iter().for_each(|(at, problem)| self.report(at, problem));
        }
    }

    fn value(&mut self, op: OpId, value: ValueId, source: Source) {
        if self.module.value(value).source != source {
            self.report(op, format_args!("value {} does not know that it comes from here", value.index()));
        }
        self.dims_of(op, self.module.ty(value));
    }

    /// Dimension expressions must read back, or the text of the module would not.
    fn dims_of(&mut self, op: OpId, ty: &Type) {
        let shape = match ty {
            Type::Tensor(tensor) => &tensor.shape,
            Type::View(view) => &view.shape,
            _ => return,
        };
        for dim in shape {
            let text = dim.to_string();
            match dim {
                Dim::Known(value) if *value < 0 => {
                    self.report(op, format_args!("a dimension is at least 0, found {value} in {ty}"));
                }
                Dim::Symbolic(_) if self.dims.insert(dim.clone()) && text.parse().as_ref() != Ok(dim) => {
                    self.report(op, format_args!("dimension '{text}' does not read back as it is written"));
                }
                _ => {}
            }
        }
    }

    fn region(&mut self, op: OpId, region: RegionId) {
        let module = self.module;
        let contents = module.region(region);
        if contents.parent != Some(op) {
            self.report(
                op,
                format_args!("region {} does not know that it belongs to the op", region.index()),
            );
        }
        if contents.blocks.is_empty() {
            self.report(op, "expected a block in every region, found none");
        }
        for block in &contents.blocks {
            if module.block(*block).parent != Some(region) {
                self.report(
                    op,
                    format_args!("block {} does not know that it belongs to the op", block.index()),
                );
            }
            for (index, value) in module.block(*block).arguments.iter().enumerate() {
                self.value(op, *value, Source::Argument(*block, index));
            }
            self.block(op, *block);
        }
    }

    fn block(&mut self, parent: OpId, block: BlockId) {
        let module = self.module;
        let contents = module.block(block);
        let ends_open = module.op(parent).def.is(Traits::NO_TERMINATOR);
        for (index, op) in contents.ops.iter().enumerate() {
            let operation = module.op(*op);
            if operation.parent != Some(block) {
                self.report(*op, "the op does not know the block that lists it");
            }
            let last = index + 1 == contents.ops.len();
            if operation.def.is(Traits::TERMINATOR) && !last {
                self.report(*op, "a terminator must be the last op of its block");
            }
            if last && !operation.def.is(Traits::TERMINATOR) && !ends_open {
                self.report(*op, "the last op of a block must be a terminator");
            }
            for successor in &operation.successors {
                if !last || module.block(*successor).parent != contents.parent {
                    self.report(*op, "a successor must be a block of the same region, named by the last op");
                }
            }
            self.op(*op);
        }
        if contents.ops.is_empty() && !ends_open {
            self.report(parent, "a block is empty: expected a terminator");
        }
    }

    /// Symbols are unique among the ops of one region.
    fn symbols(&mut self, op: OpId) {
        let module = self.module;
        for region in &module.op(op).regions {
            let mut names = BTreeSet::new();
            for inner in module.region(*region).blocks.iter().flat_map(|block| &module.block(*block).ops) {
                if module.op(*inner).def.is(Traits::SYMBOL)
                    && let Some(name) = module.symbol_name(*inner)
                    && !names.insert(name)
                {
                    self.report(*inner, format_args!("symbol '@{name}' is defined twice"));
                }
            }
        }
    }

    fn values(&mut self) {
        let module = self.module;
        let order = Order::of(module);
        let mut uses: BTreeMap<ValueId, Vec<OpId>> = BTreeMap::new();
        for op in module.all_ops() {
            for (index, value) in module.op(op).operands.iter().enumerate() {
                uses.entry(*value).or_default().push(op);
                if let Err(problem) = order.check_use(module, op, *value) {
                    self.report(op, format_args!("operand {index} (%{}) {problem}", name_of(module, *value)));
                }
            }
        }
        for op in module.all_ops() {
            let arguments = module.op(op).regions.iter().flat_map(|region| &module.region(*region).blocks);
            let arguments = arguments.flat_map(|block| &module.block(*block).arguments);
            for value in module.op(op).results.iter().chain(arguments) {
                let mut listed = module.value(*value).users.to_vec();
                listed.sort();
                let mut found = uses.remove(value).unwrap_or_default();
                found.sort();
                if listed != found {
                    let what =
                        format!("the use list of %{} has {} uses", name_of(module, *value), listed.len());
                    self.report(op, format_args!("{what}, found {}", found.len()));
                }
            }
        }
    }
}

/// What a value is called in messages.
fn name_of(module: &Module, value: ValueId) -> String {
    let value_data = module.value(value);
    match (&value_data.name, value_data.source) {
        (Some(name), _) => name.to_string(),
        (None, Source::Result(op, _)) => module.op(op).def.short_name().to_string(),
        (None, Source::Argument(_, index)) => format!("arg{index}"),
    }
}
