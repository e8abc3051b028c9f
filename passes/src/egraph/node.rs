//! E-nodes: an interned head (op, attributes, result types) and children.
//!
//! Result types are part of the head, so a class's type never has to be computed twice, and congruence never joins two types.
//! A left-out optional operand is the `none` leaf; a value from outside the slice is an input leaf; the results of an op with
//! several results are `project` nodes above it. Knows no op by name.
//!
//! ```text
//! (core.linear input0 input1 none none none)      (project 1 (core.top_k input0))
//! ```

use egg::{Id, Language};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::op_def::OpDef;
use tilewright_ir::types::Type;

/// What a node is, without its children.
#[derive(Clone, Debug)]
pub enum Kind {
    /// An op.
    Op(&'static OpDef),
    /// Input `.0` of the slice.
    Input(usize),
    /// A left-out optional operand.
    Absent,
    /// Result `.0` of the op below.
    Project(usize),
}

/// Kind, attributes and result types: all of a node but its children.
#[derive(Clone, Debug)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Attributes, `operandSegmentSizes` left out (children of absent operands are `none`).
    pub attributes: Arc<Attributes>,
    /// Result types; one for all but ops with several results.
    pub results: Arc<[Type]>,
}

/// The number of a [`Head`] in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadId(pub u32);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    code: u64,
    attributes: Arc<Attributes>,
    results: Arc<[Type]>,
}

/// All heads of one e-graph, numbered in order of appearance.
#[derive(Default)]
pub struct Heads {
    rows: Vec<Head>,
    by_key: HashMap<Key, HeadId>,
}

/// A number that tells kinds apart: the op's address is turned into its order of appearance by [`Heads`].
fn code(kind: &Kind) -> u64 {
    match kind {
        Kind::Op(def) => std::ptr::from_ref::<OpDef>(def) as u64,
        Kind::Absent => 1,
        Kind::Input(index) => 2 + ((*index as u64) << 8),
        Kind::Project(index) => 3 + ((*index as u64) << 8),
    }
}

impl Heads {
    /// The number of a head, new or known.
    pub fn intern(&mut self, head: Head) -> HeadId {
        // Only looked up, never iterated: hash order and addresses do not reach the result.
        let key = Key {
            code: code(&head.kind),
            attributes: head.attributes.clone(),
            results: head.results.clone(),
        };
        let next = HeadId(self.rows.len() as u32);
        let id = *self.by_key.entry(key).or_insert(next);
        if id == next {
            self.rows.push(head);
        }
        id
    }

    /// A head by number.
    pub fn get(&self, id: HeadId) -> &Head {
        &self.rows[id.0 as usize]
    }

    /// The op of a head, if it is one.
    pub fn op(&self, id: HeadId) -> Option<&'static OpDef> {
        match self.get(id).kind {
            Kind::Op(def) => Some(def),
            _ => None,
        }
    }
}

/// Kind of a node without attributes, and its number of children: the index that searches start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// An op by the address of its definition.
    Op(usize, usize),
    /// An input leaf.
    Input,
    /// The `none` leaf.
    Absent,
    /// A projection.
    Project,
}

impl Shape {
    /// The index of an op with that many children.
    pub fn of(def: &'static OpDef, children: usize) -> Shape {
        Shape::Op(std::ptr::from_ref::<OpDef>(def) as usize, children)
    }
}

/// One node of an e-graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ENode {
    /// Its head.
    pub head: HeadId,
    shape: ShapeCode,
    /// Children: one class per operand slot, or per operand of a variadic op.
    pub children: SmallVec<[Id; 4]>,
}

/// [`Shape`] in a form that orders; only equality of it means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum ShapeCode {
    Op(usize),
    Input,
    Absent,
    Project,
}

impl ENode {
    /// A node of a head.
    pub fn new(heads: &Heads, head: HeadId, children: SmallVec<[Id; 4]>) -> ENode {
        let shape = match heads.get(head).kind {
            Kind::Op(def) => ShapeCode::Op(std::ptr::from_ref::<OpDef>(def) as usize),
            Kind::Input(_) => ShapeCode::Input,
            Kind::Absent => ShapeCode::Absent,
            Kind::Project(_) => ShapeCode::Project,
        };
        ENode { head, shape, children }
    }

    /// An order by structure alone: head number, then children. Used for ties.
    pub fn order(&self) -> (u32, &[Id]) {
        (self.head.0, &self.children)
    }
}

impl Language for ENode {
    type Discriminant = Shape;

    fn discriminant(&self) -> Shape {
        match self.shape {
            ShapeCode::Op(address) => Shape::Op(address, self.children.len()),
            ShapeCode::Input => Shape::Input,
            ShapeCode::Absent => Shape::Absent,
            ShapeCode::Project => Shape::Project,
        }
    }

    fn matches(&self, other: &ENode) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}
