//! What is known of each class: types, constness, the value of small constants. Two classes of different types never merge:
//! the attempt is refused and recorded with the rule's name.
//!
//! ```text
//! class 7: tensor<1x4x64xf32>, constant, value = 2.0
//! ```

use super::node::{ENode, Head, HeadId, Heads, Kind};
use egg::{Analysis, DidMerge, EGraph, Id};
use smallvec::SmallVec;
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder;
use tilewright_ir::op_def::{Arity, OpDef, Signature, Traits};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{TensorType, Type};

/// The e-graph of one slice.
pub type Graph = EGraph<ENode, Facts>;

/// What is known of a class.
#[derive(Clone, Debug)]
pub struct Data {
    /// Result types of its nodes.
    pub types: Arc<[Type]>,
    /// True if it follows from constants alone.
    pub constant: bool,
    /// The value of a small constant.
    pub value: Option<Arc<Tensor>>,
}

impl Data {
    /// The tensor type of a class with one result.
    pub fn tensor(&self) -> Option<&TensorType> {
        self.types.first().and_then(Type::as_tensor)
    }
}

/// A refused merge: the rule wanted to equate two types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The rule.
    pub rule: String,
    /// Type of its left side.
    pub left: String,
    /// Type of its right side.
    pub right: String,
}

/// State shared by all classes.
#[derive(Default)]
pub struct Facts {
    /// The heads.
    pub heads: Heads,
    /// Which inputs are constants (weights).
    pub constant_inputs: Vec<bool>,
    /// Refused merges.
    pub conflicts: Vec<Conflict>,
}

impl Analysis<ENode> for Facts {
    type Data = Data;

    fn make(graph: &mut Graph, node: &ENode, _id: Id) -> Data {
        let head = graph.analysis.heads.get(node.head).clone();
        let value = match head.kind {
            Kind::Op(def) if def.is(Traits::CONSTANT) => small_value(&head.attributes),
            _ => None,
        };
        let constant = match head.kind {
            Kind::Input(index) => graph.analysis.constant_inputs.get(index).copied().unwrap_or(false),
            Kind::Absent => true,
            Kind::Op(def) => {
                def.is(Traits::PURE) && node.children.iter().all(|child| graph[*child].data.constant)
            }
            Kind::Project(_) => graph[node.children[0]].data.constant,
        };
        // `size` is known only at run time although it has no operands.
        let is_size = |def: &OpDef| def.operands.is_empty() && value.is_none() && !def.is(Traits::CONSTANT);
        let constant = constant && !matches!(head.kind, Kind::Op(def) if is_size(def));
        Data { types: head.results, constant, value }
    }

    fn merge(&mut self, to: &mut Data, from: Data) -> DidMerge {
        assert_eq!(to.types, from.types, "classes of different types were merged");
        let mut did = DidMerge(false, false);
        if to.constant != from.constant {
            did = did | DidMerge(!to.constant, to.constant);
            to.constant = true;
        }
        if to.value.is_none() && from.value.is_some() {
            to.value = from.value;
            did = did | DidMerge(true, false);
        } else if to.value.is_some() && from.value.is_none() {
            did = did | DidMerge(false, true);
        }
        did
    }
}

/// Largest constant whose value rules may look at, in elements.
const VALUE_ELEMENTS_MAX: usize = 65536;

fn small_value(attributes: &Attributes) -> Option<Arc<Tensor>> {
    let elements = attributes.get("value")?.as_elements()?;
    let count: i64 = elements.ty().known_shape()?.iter().product();
    if count as usize > VALUE_ELEMENTS_MAX {
        return None;
    }
    Tensor::from_elements(elements).ok().map(Arc::new)
}

/// Whether an op's children are one per operand slot (with `none` for absent ones) rather than a plain list.
pub fn is_slotted(def: &OpDef) -> bool {
    def.operands.iter().all(|operand| operand.arity != Arity::Variadic)
}

/// Adds an op node after inferring and checking its types. `wanted` are explicit result types; may be empty.
///
/// # Errors
/// What is wrong with operands, attributes or types.
pub fn add_op(
    graph: &mut Graph,
    def: &'static OpDef,
    attributes: Attributes,
    children: SmallVec<[Id; 4]>,
    wanted: &[Type],
) -> Result<Id, String> {
    let mut full = attributes.clone();
    let mut operands: SmallVec<[Type; 4]> = SmallVec::new();
    let mut segments = Vec::new();
    for child in &children {
        let types = &graph[*child].data.types;
        segments.push(types.len() as i32);
        operands.extend(types.iter().cloned());
    }
    if def.needs_segments() {
        full.insert("operandSegmentSizes".into(), Attribute::Segments(segments.clone().into()));
    }
    if is_slotted(def) {
        for (slot, operand) in def.operands.iter().enumerate() {
            if operand.arity == Arity::One && segments.get(slot) != Some(&1) {
                return Err(format!("'{}' needs operand '{}'", def.name, operand.name));
            }
        }
    }
    let signature = Signature { def, operands: &operands, attributes: &full, results: wanted };
    let results = builder::infer(&signature)?;
    if !wanted.is_empty() && wanted != results {
        return Err(format!("'{}' gives {}, expected {}", def.name, list(&results), list(wanted)));
    }
    let signature = Signature { results: &results, ..signature };
    tilewright_ir::verify::verify_signature(&signature).map_err(|problems| problems.join("; "))?;
    if let Some(verify) = def.verify {
        verify(&signature)?;
    }
    Ok(add_node(graph, Kind::Op(def), attributes, children, results.into()))
}

/// Adds a node whose types are known.
pub fn add_node(
    graph: &mut Graph,
    kind: Kind,
    attributes: Attributes,
    children: SmallVec<[Id; 4]>,
    results: Arc<[Type]>,
) -> Id {
    let head = graph.analysis.heads.intern(Head { kind, attributes: Arc::new(attributes), results });
    let node = ENode::new(&graph.analysis.heads, head, children);
    graph.add(node)
}

/// Merges two classes, or records and refuses.
pub fn union(graph: &mut Graph, left: Id, right: Id, rule: &str) -> bool {
    let (a, b) = (graph[left].data.types.clone(), graph[right].data.types.clone());
    if a != b {
        graph.analysis.conflicts.push(Conflict { rule: rule.into(), left: list(&a), right: list(&b) });
        return false;
    }
    graph.union(left, right)
}

/// The op head of a node.
pub fn head(graph: &Graph, id: HeadId) -> &Head {
    graph.analysis.heads.get(id)
}

fn list(types: &[Type]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    types.join(", ")
}
