//! Equality saturation over a whole module: cut blocks into slices, optimise each unique slice once, put the result in the place of
//! every equal one. Also the pass that only reports the slices.
//!
//! ```text
//! 16 equal layers: 2 unique slices (attention, MLP) + prologue + head
//! ```

use crate::egraph::budget::Stop;
use crate::egraph::cost::{CostModel, MachineCost};
use crate::egraph::outline;
use crate::egraph::plan::{Plan, PlanOptions, instantiate, plan};
use crate::egraph::slice::{Binding, Slice, take};
use crate::pass::{OptionDef, Pass, PassContext, PassDef};
use crate::rules::pattern::Rule;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, OpId};

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "optimize",
    doc: "Equality saturation per unique block: fusion, layout, algebra, quantisation, by the machine's cost.",
    options: &[
        OptionDef {
            name: "exact",
            default: "0",
            doc: "fuel for the exact extraction, which reports the gap",
        },
        OptionDef { name: "nodes", default: "", doc: "most e-graph nodes per block" },
        OptionDef { name: "rules", default: "", doc: "only these rules, separated by commas" },
        OptionDef {
            name: "grant",
            default: "",
            doc: "approximate rules that may apply, separated by commas; '*' for all",
        },
    ],
    make: |options| {
        let exact: u64 = options.get("exact", 0)?;
        let nodes: usize = options.get("nodes", 0)?;
        let limits =
            PlanOptions { exact_fuel: (exact > 0).then_some(exact), nodes_max: (nodes > 0).then_some(nodes) };
        Ok(Box::new(Optimize { limits, only: options.list("rules"), granted: options.list("grant") }))
    },
};

/// The pass that shows how blocks repeat.
pub static OUTLINE: PassDef = PassDef {
    name: "outline-blocks",
    doc: "Reports the unique slices of each block and how often each occurs; changes nothing.",
    options: &[],
    make: |_| Ok(Box::new(Outline)),
};

struct Optimize {
    limits: PlanOptions,
    only: Vec<String>,
    granted: Vec<String>,
}

struct Outline;

/// Slices of one block and which unique slice each is.
struct Cut {
    block: BlockId,
    slices: Vec<(Vec<OpId>, Binding, usize)>,
}

/// Unique slices, with a name and a count, in order of appearance.
#[derive(Default)]
struct Unique {
    rows: Vec<(Slice, String, usize)>,
    by_slice: HashMap<Slice, usize>,
}

impl Unique {
    fn number(&mut self, slice: Slice, name: impl FnOnce() -> String) -> usize {
        // Only looked up, never iterated.
        if let Some(found) = self.by_slice.get(&slice) {
            self.rows[*found].2 += 1;
            return *found;
        }
        let number = self.rows.len();
        self.rows.push((slice.clone(), name(), 1));
        self.by_slice.insert(slice, number);
        number
    }
}

fn cut(module: &Module) -> (Vec<Cut>, Unique) {
    let mut unique = Unique::default();
    let mut cuts = Vec::new();
    for function in module.functions() {
        let name = module.symbol_name(function).unwrap_or("function").to_string();
        for block in blocks_below(module, function) {
            let mut slices = Vec::new();
            for ops in outline::slices(module, block) {
                let (slice, binding) = take(module, &ops);
                if slice.outputs.is_empty() {
                    continue;
                }
                let number = unique.number(slice, || format!("{name}.{}", slices.len()));
                slices.push((ops, binding, number));
            }
            cuts.push(Cut { block, slices });
        }
    }
    (cuts, unique)
}

fn blocks_below(module: &Module, op: OpId) -> Vec<BlockId> {
    let mut blocks = Vec::new();
    module.walk(op, &mut |inner| {
        for region in &module.op(inner).regions {
            blocks.extend(&module.region(*region).blocks);
        }
    });
    blocks
}

impl Pass for Outline {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        let (_, unique) = cut(module);
        for (slice, name, count) in &unique.rows {
            let what = format!(
                "block {name} x{count}: {} ops, {} inputs, {} outputs",
                slice.ops.len(),
                slice.inputs.len(),
                slice.outputs.len()
            );
            let mut note = Diagnostic::warning(Location::Unknown, what);
            note.severity = tilewright_ir::diagnostic::Severity::Note;
            context.diagnostics.push(note);
        }
        Ok(())
    }
}

impl Optimize {
    fn rules<'a>(&self, all: &'a [Rule], granted: &[String]) -> Result<Vec<&'a Rule>, Diagnostic> {
        for name in &self.only {
            if !all.iter().any(|rule| rule.name.as_ref() == name) {
                return Err(Diagnostic::error(Location::Unknown, format!("no rule is called '{name}'")));
            }
        }
        let wanted = |rule: &&Rule| {
            let named = self.only.is_empty() || self.only.iter().any(|name| *name == *rule.name);
            let allowed = !rule.approximate || granted.iter().any(|name| name == "*" || *name == *rule.name);
            named && allowed
        };
        Ok(all.iter().filter(wanted).collect())
    }
}

impl Pass for Optimize {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        let loaded = crate::rules::load(&context.registry, &context.rules).map_err(|one| vec![one])?;
        let granted = [&context.granted[..], &self.granted].concat();
        let rules = self.rules(&loaded, &granted).map_err(|one| vec![one])?;
        let model: Arc<dyn CostModel> =
            context.cost.clone().unwrap_or_else(|| Arc::new(MachineCost(context.machine.clone())));
        let (cuts, unique) = cut(module);
        let slices: Vec<&Slice> = unique.rows.iter().map(|row| &row.0).collect();
        // Results come back in order: the number of threads does not show.
        let plans: Vec<Plan> =
            slices.par_iter().map(|slice| plan(slice, &rules, model.as_ref(), self.limits)).collect();
        for cut in &cuts {
            rebuild(module, cut, &plans);
        }
        for ((_, name, count), plan) in unique.rows.iter().zip(plans) {
            let mut report = plan.report;
            report.name = name.clone();
            report.instances = *count;
            warn(context, &report);
            context.reports.push(report);
        }
        Ok(())
    }
}

fn warn(context: &mut PassContext, report: &crate::egraph::explain::BlockReport) {
    if let Stop::Exhausted(why) = &report.stop {
        let most = report.rules.iter().max_by_key(|(name, count)| (count.nodes, std::cmp::Reverse(*name)));
        let (name, nodes) = most.map_or(("none".into(), 0), |(name, count)| (name.to_string(), count.nodes));
        context.warn(
            Location::Unknown,
            format!("block {}: the optimiser stopped early: {why}; rule '{name}' grew most, by {nodes} nodes", report.name),
            "the result is correct but may be slower; give the rule a guard, or raise the limit with optimize{nodes=N}",
        );
    }
    for conflict in &report.conflicts {
        context.warn(
            Location::Unknown,
            format!("block {}: a rule equates two types and was refused: {conflict}", report.name),
            "both sides of a rule must have one type: add a guard",
        );
    }
}

/// Puts plans in the place of their slices. The new ops of a slice stand where its last op stood.
fn rebuild(module: &mut Module, cut: &Cut, plans: &[Plan]) {
    let mut after: BTreeMap<OpId, Vec<OpId>> = BTreeMap::new();
    let mut dropped: Vec<OpId> = Vec::new();
    let mut gone = vec![false; module.op_count()];
    for (ops, binding, number) in &cut.slices {
        let binding = current(module, binding, ops);
        let (made, outputs) = instantiate(module, &plans[*number], &binding);
        for (old, new) in binding.outputs.iter().zip(outputs) {
            module.replace_all_uses(*old, new);
        }
        if let Some(last) = ops.last() {
            after.insert(*last, made);
        }
        for op in ops {
            gone[op.index()] = true;
        }
        dropped.extend(ops);
    }
    let mut list = Vec::new();
    for op in &module.block(cut.block).ops {
        if !gone.get(op.index()).copied().unwrap_or(false) {
            list.push(*op);
        }
        list.extend(after.remove(op).unwrap_or_default());
    }
    module.set_block_ops(cut.block, list);
    for op in dropped.into_iter().rev() {
        module.erase(op);
    }
}

/// The binding with inputs as they are now: an earlier slice may have replaced them.
fn current(module: &Module, binding: &Binding, ops: &[OpId]) -> Binding {
    // Each input is found again at the first place where a slice op used it when the slice was taken.
    let (_, now) = take(module, ops);
    Binding { inputs: now.inputs, ops: binding.ops.clone(), outputs: binding.outputs.clone() }
}
