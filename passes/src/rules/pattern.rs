//! Patterns and right sides of rules, and the search for patterns in an e-graph.
//!
//! ```text
//! (core.add (core.matmul ?x ?w) ?b)      (core.transpose ?x {permutation=?p})      (core.reshape ?x : ?t)
//! ```

use super::expression::{Environment, Expression};
use super::value::Value;
use crate::egraph::analysis::{Data, Graph};
use crate::egraph::node::{ENode, Kind, Shape};
use egg::{Id, Language};
use std::sync::Arc;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::op_def::{AttributeRule, OpDef};
use tilewright_ir::types::Type;

/// What an attribute must be for a pattern to match.
#[derive(Clone, Debug)]
pub enum AttributePattern {
    /// Anything.
    Any,
    /// Binds a variable, or equals what it is bound to.
    Variable(usize),
    /// Equals a literal.
    Equal(Value),
}

/// A left side.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Any class (also an absent operand), bound to a variable.
    Variable(usize),
    /// A left-out operand.
    Absent,
    /// An op.
    Node(Box<NodePattern>),
}

/// An op in a left side.
#[derive(Clone, Debug)]
pub struct NodePattern {
    /// The op.
    pub def: &'static OpDef,
    /// The result meant, of an op with several.
    pub project: Option<usize>,
    /// Operands.
    pub children: Vec<Pattern>,
    /// `~`: the two operands may stand in either order.
    pub either_order: bool,
    /// Attributes, all of the definition: those a rule does not mention must be left out.
    pub attributes: Vec<(&'static str, Option<AttributePattern>)>,
    /// Variable for the result type.
    pub ty: Option<usize>,
}

/// A right side.
#[derive(Clone, Debug)]
pub enum Template {
    /// What a variable matched.
    Variable(usize),
    /// A left-out operand.
    Absent,
    /// A new scalar or splat constant: number and tensor type.
    Constant(Box<(Expression, Expression)>),
    /// An op.
    Node(Box<NodeTemplate>),
}

/// An op in a right side.
#[derive(Clone, Debug)]
pub struct NodeTemplate {
    /// The op.
    pub def: &'static OpDef,
    /// The result meant, of an op with several.
    pub project: Option<usize>,
    /// Operands.
    pub children: Vec<Template>,
    /// Attributes to compute.
    pub attributes: Vec<(&'static str, AttributeRule, Expression)>,
    /// The result type, where it is not inferred.
    pub ty: Option<Expression>,
}

/// What a variable is bound to.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// A class.
    Class(Id),
    /// An attribute; `None` when left out.
    Attribute(Option<Attribute>),
    /// A type.
    Type(Type),
}

/// One match of a left side.
#[derive(Clone, Debug)]
pub struct Match {
    /// Bindings by variable.
    pub bound: Vec<Option<Bound>>,
    /// The nodes that the pattern's ops matched.
    pub nodes: Vec<ENode>,
}

/// Finds all matches of a pattern whose root is an op, at most `limit`. Roots in class order.
pub fn search(graph: &Graph, pattern: &NodePattern, variables: usize, limit: usize) -> Vec<(Id, Match)> {
    let mut out = Vec::new();
    let shape = match pattern.project {
        Some(_) => Shape::Project,
        None => Shape::of(pattern.def, pattern.children.len()),
    };
    let Some(classes) = graph.classes_for_op(&shape) else { return out };
    let mut classes: Vec<Id> = classes.collect();
    classes.sort();
    for class in classes {
        let empty = Match { bound: vec![None; variables], nodes: Vec::new() };
        for found in match_node(graph, pattern, class, vec![empty]) {
            if out.len() >= limit {
                return out;
            }
            out.push((class, found));
        }
    }
    out
}

fn match_class(graph: &Graph, pattern: &Pattern, class: Id, partial: Vec<Match>) -> Vec<Match> {
    match pattern {
        Pattern::Variable(index) => bind_all(partial, *index, &Bound::Class(graph.find(class))),
        Pattern::Absent if graph[class].data.types.is_empty() => partial,
        Pattern::Absent => Vec::new(),
        Pattern::Node(node) => match_node(graph, node, class, partial),
    }
}

fn bind_all(partial: Vec<Match>, index: usize, bound: &Bound) -> Vec<Match> {
    partial.into_iter().filter_map(|found| bind(found, index, bound)).collect()
}

fn bind(mut found: Match, index: usize, bound: &Bound) -> Option<Match> {
    match &found.bound[index] {
        None => found.bound[index] = Some(bound.clone()),
        Some(known) if known == bound => {}
        Some(_) => return None,
    }
    Some(found)
}

/// Most ways in which one pattern may match at one class: a guard against exponential products.
const WAYS_MAX: usize = 64;

fn match_node(graph: &Graph, pattern: &NodePattern, class: Id, partial: Vec<Match>) -> Vec<Match> {
    let mut out = Vec::new();
    for node in &graph[class].nodes {
        let Some((node, results)) = resolve(graph, pattern, node) else { continue };
        let mut found: Vec<Match> = partial.clone();
        for (name, attribute) in &pattern.attributes {
            let given = graph.analysis.heads.get(node.head).attributes.get(*name);
            found.retain_mut(|found| match_attribute(found, attribute.as_ref(), given));
        }
        if let Some(index) = pattern.ty {
            found = bind_all(found, index, &Bound::Type(results));
        }
        let swapped = if pattern.either_order {
            match_children(graph, pattern.children.iter().rev(), node, found.clone())
        } else {
            Vec::new()
        };
        let mut found = match_children(graph, pattern.children.iter(), node, found);
        found.extend(swapped);
        for mut found in found {
            found.nodes.push(node.clone());
            out.push(found);
        }
        if out.len() > WAYS_MAX {
            out.truncate(WAYS_MAX);
            break;
        }
    }
    out
}

fn match_children<'a>(
    graph: &Graph,
    patterns: impl Iterator<Item = &'a Pattern>,
    node: &ENode,
    mut found: Vec<Match>,
) -> Vec<Match> {
    for (child, below) in patterns.zip(&node.children) {
        if found.is_empty() {
            break;
        }
        found = match_class(graph, child, *below, found);
    }
    found
}

/// The op node that a node of a class stands for under the pattern, and the type of the result meant.
fn resolve<'a>(graph: &'a Graph, pattern: &NodePattern, node: &'a ENode) -> Option<(&'a ENode, Type)> {
    let head = graph.analysis.heads.get(node.head);
    let op = match (pattern.project, &head.kind) {
        (Some(wanted), Kind::Project(index)) if wanted == *index => {
            let class = graph.find(node.children[0]);
            let is_op = |below: &&ENode| graph.analysis.heads.op(below.head) == Some(pattern.def);
            graph[class].nodes.iter().find(is_op)?
        }
        (None, Kind::Op(def)) if *def == pattern.def => node,
        _ => return None,
    };
    (op.children().len() == pattern.children.len()).then(|| (op, head.results[0].clone()))
}

fn match_attribute(found: &mut Match, pattern: Option<&AttributePattern>, given: Option<&Attribute>) -> bool {
    match pattern {
        None => given.is_none(),
        Some(AttributePattern::Any) => true,
        Some(AttributePattern::Equal(value)) => Value::from_attribute(given).same(value),
        Some(AttributePattern::Variable(index)) => {
            let bound = Bound::Attribute(given.cloned());
            match &found.bound[*index] {
                None => {
                    found.bound[*index] = Some(bound);
                    true
                }
                Some(known) => *known == bound,
            }
        }
    }
}

/// A match as the environment of guards and right sides.
pub struct Matched<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The match.
    pub found: &'a Match,
}

impl Environment for Matched<'_> {
    fn variable(&self, index: usize) -> Result<Value, String> {
        match self.found.bound.get(index).and_then(Option::as_ref) {
            None => Err("a variable is not bound".into()),
            Some(Bound::Class(class)) => Ok(Value::Class(self.data(*class))),
            Some(Bound::Attribute(attribute)) => Ok(Value::from_attribute(attribute.as_ref())),
            Some(Bound::Type(ty)) => Ok(Value::Type(ty.clone())),
        }
    }
}

impl Matched<'_> {
    fn data(&self, class: Id) -> Data {
        let data = &self.graph[class].data;
        Data { types: data.types.clone(), constant: data.constant, value: data.value.clone() }
    }
}

/// A rule, loaded and checked.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// True if it changes numerics and needs a grant.
    pub approximate: bool,
    /// True if its right side may be larger than its left side.
    pub expanding: bool,
    /// Left side.
    pub left: NodePattern,
    /// Right side.
    pub right: Template,
    /// Guards, all of which must hold.
    pub guards: Vec<Guard>,
    /// Names of variables, by number.
    pub variables: Vec<String>,
    /// How to make random instances.
    pub test: super::sample::TestClause,
    /// File and line of its name.
    pub place: String,
}

/// One guard.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The condition.
    pub condition: Expression,
    /// Its text.
    pub text: String,
    /// `prefer`: chooses where the rule is worth while; the rule is true without it.
    pub is_preference: bool,
}
