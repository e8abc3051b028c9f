//! Applies rules until nothing is new or fuel ends. Deterministic: rules in order of loading, classes in order of number.
//!
//! Each iteration finds all matches first and then applies them. A right side whose types do not check, or differ from the left
//! side's, is refused. Per rule there is a cap on matches, overall one on nodes; meeting one ends the saturation.
//!
//! ```text
//! iteration 3: fuse_linear applied 4, nodes 4
//! ```

use super::analysis::{Graph, add_node, add_op, union};
use super::budget::{Budget, RuleCount, Stop};
use super::explain::Origin;
use super::node::{ENode, Kind};
use crate::rules::expression::Environment;
use crate::rules::pattern::{Bound, Match, Matched, NodeTemplate, Rule, Template, search};
use egg::Id;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::Type;

/// A saturated graph.
pub struct Saturated {
    /// Where nodes come from: those of the slice and those that rules added.
    pub origins: BTreeMap<ENode, Origin>,
    /// Why it ended.
    pub stop: Stop,
    /// Iterations run.
    pub iterations: usize,
    /// What each rule did.
    pub rules: BTreeMap<Arc<str>, RuleCount>,
}

/// Saturates a graph. `origins` holds the nodes of the slice.
pub fn saturate(
    graph: &mut Graph,
    rules: &[&Rule],
    mut origins: BTreeMap<ENode, Origin>,
    budget: Budget,
) -> Saturated {
    let mut counts: BTreeMap<Arc<str>, RuleCount> = BTreeMap::new();
    let mut iteration = 0;
    let stop = loop {
        if iteration == budget.iterations_max {
            break Stop::Exhausted(format!("{iteration} iterations reached"));
        }
        iteration += 1;
        let mut matches = Vec::new();
        let mut full = None;
        for rule in rules {
            let found = search(graph, &rule.left, rule.variables.len(), budget.matches_max);
            if found.len() >= budget.matches_max {
                full = Some(format!("rule '{}' met its {} matches", rule.name, budget.matches_max));
            }
            let fits = |row: &(Id, Match)| {
                rule.guards.iter().all(|guard| guard.condition.holds(&Matched { graph, found: &row.1 }))
            };
            matches.extend(found.into_iter().filter(fits).map(|(class, found)| (*rule, class, found)));
        }
        let mut changed = false;
        let mut overrun = None;
        for (rule, class, found) in matches {
            let before = graph.total_size();
            let joined = apply(graph, rule, class, &found, &mut origins);
            let count = counts.entry(rule.name.clone()).or_default();
            count.nodes += graph.total_size() - before;
            match joined {
                Ok(true) => {
                    changed = true;
                    count.applied += 1;
                }
                Ok(false) => {}
                Err(_) => count.refused += 1,
            }
            if graph.total_size() > budget.nodes_max {
                overrun = Some(format!("{} nodes reached", budget.nodes_max));
                break;
            }
        }
        graph.rebuild();
        origins = canonical(graph, origins);
        match overrun.or(full) {
            Some(why) => break Stop::Exhausted(why),
            None if !changed => break Stop::Saturated,
            None => {}
        }
    };
    counts.retain(|_, count| count.applied > 0 || count.nodes > 0);
    Saturated { origins, stop, iterations: iteration, rules: counts }
}

/// Nodes with canonical children; where two become one, the origin with fewer rules stays.
fn canonical(graph: &Graph, origins: BTreeMap<ENode, Origin>) -> BTreeMap<ENode, Origin> {
    let mut out: BTreeMap<ENode, Origin> = BTreeMap::new();
    for (mut node, origin) in origins {
        for child in &mut node.children {
            *child = graph.find(*child);
        }
        match out.get(&node) {
            Some(known) if known.rules.len() <= origin.rules.len() => {}
            _ => {
                out.insert(node, origin);
            }
        }
    }
    out
}

/// Adds the right side and merges it with the class matched. True if that changed something.
fn apply(
    graph: &mut Graph,
    rule: &Rule,
    class: Id,
    found: &Match,
    origins: &mut BTreeMap<ENode, Origin>,
) -> Result<bool, String> {
    let mut origin = Origin::default();
    for node in &found.nodes {
        if let Some(known) = origins.get(node) {
            origin.join(known);
        }
    }
    if !origin.rules.contains(&rule.name) {
        origin.rules.push(rule.name.clone());
    }
    let class = graph.find(class);
    let wanted: Vec<Type> = graph[class].data.types.to_vec();
    let mut building = Building { found, origin: &origin, origins };
    let made = building.template(graph, &rule.right, &wanted)?;
    if graph.find(made) == class {
        return Ok(false);
    }
    Ok(union(graph, class, made, &rule.name))
}

/// The right side of a rule for a match at `class`, added and not merged.
///
/// # Errors
/// Why it does not check.
pub fn right_side(graph: &mut Graph, rule: &Rule, class: Id, found: &Match) -> Result<Id, String> {
    let wanted: Vec<Type> = graph[class].data.types.to_vec();
    let mut origins = BTreeMap::new();
    let mut building = Building { found, origin: &Origin::default(), origins: &mut origins };
    building.template(graph, &rule.right, &wanted)
}

struct Building<'a> {
    found: &'a Match,
    origin: &'a Origin,
    origins: &'a mut BTreeMap<ENode, Origin>,
}

impl Building<'_> {
    fn evaluate(
        &self,
        graph: &Graph,
        expression: &crate::rules::expression::Expression,
    ) -> Result<crate::rules::value::Value, String> {
        let matched = Matched { graph, found: self.found };
        expression.evaluate(&matched as &dyn Environment)
    }

    /// `root` is the type of the left side, given to the outermost op alone.
    fn template(&mut self, graph: &mut Graph, template: &Template, root: &[Type]) -> Result<Id, String> {
        match template {
            Template::Variable(index) => match self.found.bound.get(*index).and_then(Option::as_ref) {
                Some(Bound::Class(class)) => Ok(graph.find(*class)),
                _ => Err("a variable of the right side stands for no value".into()),
            },
            Template::Absent => Ok(add_absent(graph)),
            Template::Constant(parts) => {
                let (number, ty) = parts.as_ref();
                let ty = self.evaluate(graph, ty)?.as_type()?;
                let number = self.evaluate(graph, number)?.as_float()?;
                constant(graph, &ty, number)
            }
            Template::Node(node) => self.node(graph, node, root),
        }
    }

    fn node(&mut self, graph: &mut Graph, node: &NodeTemplate, root: &[Type]) -> Result<Id, String> {
        let mut children: SmallVec<[Id; 4]> = SmallVec::new();
        for child in &node.children {
            children.push(self.template(graph, child, &[])?);
        }
        let mut attributes = Attributes::new();
        for (name, rule, expression) in &node.attributes {
            if let Some(attribute) = self.evaluate(graph, expression)?.to_attribute(*rule)? {
                attributes.insert((*name).into(), attribute);
            }
        }
        let wanted: Vec<Type> = match &node.ty {
            Some(ty) => vec![self.evaluate(graph, ty)?.as_type()?],
            // An op that infers its type shall do so: then a difference is found by the merge.
            None if matches!(node.def.infer, tilewright_ir::op_def::Infer::LikeOperand(_)) => Vec::new(),
            None if node.project.is_none() => root.to_vec(),
            None => Vec::new(),
        };
        let id = add_op(graph, node.def, attributes, children, &wanted)?;
        self.remember(graph, id);
        let Some(index) = node.project else { return Ok(id) };
        let ty = graph[id].data.types.get(index).cloned().ok_or("no such result")?;
        Ok(add_node(graph, Kind::Project(index), Attributes::new(), SmallVec::from_slice(&[id]), [ty].into()))
    }

    /// Remembers where the node just added comes from, unless it was known before.
    fn remember(&mut self, graph: &Graph, id: Id) {
        let mut node = graph.id_to_node(id).clone();
        for child in &mut node.children {
            *child = graph.find(*child);
        }
        self.origins.entry(node).or_insert_with(|| self.origin.clone());
    }
}

/// The `none` leaf.
pub fn add_absent(graph: &mut Graph) -> Id {
    add_node(graph, Kind::Absent, Attributes::new(), SmallVec::new(), Arc::from([]))
}

/// Largest constant that a rule may make, in elements: a gain of ones for any hidden size.
const CONSTANT_ELEMENTS_MAX: usize = 65536;

fn constant(graph: &mut Graph, ty: &Type, number: f64) -> Result<Id, String> {
    let tensor = ty.as_tensor().ok_or("a constant is a tensor")?;
    let shape = tensor.known_shape().ok_or("a constant has known dimensions")?;
    let shape: Vec<usize> = shape.iter().map(|dim| (*dim).max(0) as usize).collect();
    if shape.iter().product::<usize>() > CONSTANT_ELEMENTS_MAX {
        return Err("a constant of a rule has too many elements".into());
    }
    let value = Tensor::splat(tensor.element, &shape, number).to_elements();
    let attributes = Attributes::from([("value".into(), value.into())]);
    add_op(graph, &core::CONSTANT, attributes, SmallVec::new(), &[])
}
