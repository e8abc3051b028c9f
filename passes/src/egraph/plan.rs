//! The optimised form of a slice, free of any module: ops over numbered inputs, each with its source ops and rules. One plan serves
//! all equal slices.
//!
//! ```text
//! op0 = core.rms_norm(input0, input1)   from [0, 1, 2, 5]   by rms_norm_mul
//! ```

use super::analysis::{Facts, Graph, add_node};
use super::budget::{Budget, Stop};
use super::cost::CostModel;
use super::explain::{BlockReport, Origin};
use super::extract::{Choice, Problem};
use super::node::{ENode, Kind};
use super::saturate::{add_absent, saturate};
use super::slice::{Binding, Ref, Slice, with_segments};
use super::{exact, slice};
use crate::rules::pattern::Rule;
use egg::Id;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::location::Location;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits};
use tilewright_ir::types::Type;

/// One op of a plan.
#[derive(Clone, Debug)]
pub struct PlanOp {
    /// Its definition.
    pub def: &'static OpDef,
    /// Attributes, complete.
    pub attributes: Attributes,
    /// Operands that are given, in order.
    pub operands: SmallVec<[Ref; 4]>,
    /// Result types.
    pub results: SmallVec<[Type; 1]>,
    /// Where it comes from.
    pub origin: Origin,
}

/// The new ops of a slice.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Ops in order.
    pub ops: Vec<PlanOp>,
    /// What the slice's outputs are now.
    pub outputs: Vec<Ref>,
    /// What was done.
    pub report: BlockReport,
}

/// How to optimise.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanOptions {
    /// Prove the extraction's gap, with this much fuel.
    pub exact_fuel: Option<u64>,
    /// Node limit instead of the default.
    pub nodes_max: Option<usize>,
}

/// Optimises a slice.
pub fn plan(slice: &Slice, rules: &[&Rule], model: &dyn CostModel, options: PlanOptions) -> Plan {
    let constant_inputs = slice.inputs.iter().map(|input| input.constant).collect();
    let mut graph = Graph::new(Facts { constant_inputs, ..Facts::default() });
    let (roots, origins) = build(&mut graph, slice);
    graph.rebuild();
    let before = Problem::new(&graph, &roots, model);
    let cost_before = before.extract(0).map_or(0, |found| found.1);
    let mut budget = Budget::for_ops(slice.ops.len());
    budget.nodes_max = options.nodes_max.unwrap_or(budget.nodes_max);
    let saturated = saturate(&mut graph, rules, origins, budget);
    let problem = Problem::new(&graph, &roots, model);
    // After an overrun the graph may be large: the tree start is good enough, the search is for saturated graphs.
    let fuel = if saturated.stop == Stop::Saturated { 20_000_000 } else { 0 };
    let (mut choice, cost) = problem.extract(fuel).expect("the slice itself is a choice");
    let mut proved = None;
    if let Some(fuel) = options.exact_fuel {
        let found = exact::search(&problem, (choice, cost), fuel);
        proved = Some((found.cost, found.proved));
        choice = found.choice;
    }
    let report = BlockReport {
        name: String::new(),
        instances: 1,
        ops: (slice.ops.len(), 0),
        cost: (cost_before, cost),
        nodes: graph.total_size(),
        iterations: saturated.iterations,
        stop: saturated.stop,
        rules: saturated.rules,
        exact: proved,
        conflicts: graph
            .analysis
            .conflicts
            .iter()
            .map(|one| format!("{}: {} and {}", one.rule, one.left, one.right))
            .collect(),
    };
    let roots: Vec<Id> = roots.iter().map(|root| graph.find(*root)).collect();
    emit(&graph, &problem, &choice, &saturated.origins, &roots, report)
}

/// The plan that makes exactly the given classes of a graph built from `slice`, with no rules applied.
pub fn only(graph: &mut Graph, slice: &Slice, roots: &[Id], model: &dyn CostModel) -> Plan {
    graph.rebuild();
    let problem = Problem::new(graph, roots, model);
    let (choice, cost) = problem.extract(0).expect("a class that was just made can be made");
    let report = BlockReport {
        name: String::new(),
        instances: 1,
        ops: (slice.ops.len(), 0),
        cost: (cost, cost),
        nodes: graph.total_size(),
        iterations: 0,
        stop: Stop::Saturated,
        rules: BTreeMap::new(),
        exact: None,
        conflicts: Vec::new(),
    };
    emit(graph, &problem, &choice, &BTreeMap::new(), roots, report)
}

/// Adds a slice to a graph; gives the classes of its outputs and the origins of its nodes.
pub fn build(graph: &mut Graph, slice: &Slice) -> (Vec<Id>, BTreeMap<ENode, Origin>) {
    let mut origins = BTreeMap::new();
    let inputs: Vec<Id> = slice
        .inputs
        .iter()
        .enumerate()
        .map(|(at, input)| {
            add_node(graph, Kind::Input(at), Attributes::new(), SmallVec::new(), [input.ty.clone()].into())
        })
        .collect();
    let mut results: Vec<Vec<Id>> = Vec::new();
    for (position, op) in slice.ops.iter().enumerate() {
        let mut children: SmallVec<[Id; 4]> = SmallVec::new();
        for operand in &op.operands {
            children.push(match operand {
                None => add_absent(graph),
                Some(Ref::Input(at)) => inputs[*at],
                Some(Ref::Result(op, index)) => results[*op][*index],
            });
        }
        let types: Arc<[Type]> = op.results.to_vec().into();
        let id = add_node(graph, Kind::Op(op.def), op.attributes.clone(), children, types);
        let node = graph.id_to_node(id).clone();
        origins.entry(node).or_insert_with(|| Origin { sources: vec![position], rules: Vec::new() });
        results.push(if op.results.len() == 1 {
            vec![id]
        } else {
            let project = |(index, ty): (usize, &Type)| {
                add_node(
                    graph,
                    Kind::Project(index),
                    Attributes::new(),
                    SmallVec::from_slice(&[id]),
                    [ty.clone()].into(),
                )
            };
            op.results.iter().enumerate().map(project).collect()
        });
    }
    let roots = slice.outputs.iter().map(|output| match output {
        Ref::Input(at) => inputs[*at],
        Ref::Result(op, index) => results[*op][*index],
    });
    (roots.collect(), origins)
}

fn emit(
    graph: &Graph,
    problem: &Problem,
    choice: &Choice,
    origins: &BTreeMap<ENode, Origin>,
    roots: &[Id],
    mut report: BlockReport,
) -> Plan {
    let order = problem.order(choice).expect("a verified choice");
    let mut refs: Vec<Option<Ref>> = vec![None; problem.classes.len()];
    let mut ops: Vec<PlanOp> = Vec::new();
    for class in order {
        let alternative = problem.chosen(choice, class);
        let head = graph.analysis.heads.get(alternative.node.head);
        refs[class] = match head.kind {
            Kind::Absent => None,
            Kind::Input(at) => Some(Ref::Input(at)),
            Kind::Project(index) => match refs[alternative.children[0]] {
                Some(Ref::Result(op, _)) => Some(Ref::Result(op, index)),
                other => other,
            },
            Kind::Op(def) => {
                let given: Vec<Option<Ref>> = alternative.children.iter().map(|child| refs[*child]).collect();
                let attributes = with_segments(def, (*head.attributes).clone(), &given);
                ops.push(PlanOp {
                    def,
                    attributes,
                    operands: given.into_iter().flatten().collect(),
                    results: head.results.iter().cloned().collect(),
                    origin: origins.get(&alternative.node).cloned().unwrap_or_default(),
                });
                Some(Ref::Result(ops.len() - 1, 0))
            }
        };
    }
    let outputs =
        roots.iter().map(|root| refs[problem.numbers[root]].expect("an output is a value")).collect();
    report.ops.1 = ops.iter().filter(|op| !op.def.is(Traits::CONSTANT)).count();
    Plan { ops, outputs, report }
}

/// Makes the ops of a plan for one slice of a module, outside any block. Gives them in order, and the values that replace the
/// slice's outputs.
pub fn instantiate(module: &mut Module, plan: &Plan, binding: &Binding) -> (Vec<OpId>, Vec<ValueId>) {
    let mut made: Vec<OpId> = Vec::with_capacity(plan.ops.len());
    for op in &plan.ops {
        let operands: Vec<ValueId> =
            op.operands.iter().map(|operand| value(module, *operand, &made, binding)).collect();
        let locations = op.origin.sources.iter().map(|at| module.op(binding.ops[*at]).location.clone());
        let tag = op.origin.rules.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",");
        let location = Location::fuse((!tag.is_empty()).then_some(tag.as_str()), locations);
        made.push(module.create_op(op.def, &operands, op.attributes.clone(), &op.results, location));
    }
    let outputs = plan.outputs.iter().map(|output| value(module, *output, &made, binding)).collect();
    (made, outputs)
}

fn value(module: &Module, reference: Ref, made: &[OpId], binding: &slice::Binding) -> ValueId {
    match reference {
        Ref::Input(at) => binding.inputs[at],
        Ref::Result(op, index) => module.op(made[op]).results[index],
    }
}
