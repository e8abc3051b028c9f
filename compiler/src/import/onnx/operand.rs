//! A value of the model during import: data made by an op, a stored constant, a small integer tensor of dimension expressions, or a
//! sequence, which is a list of values whose length is known. An optional without a value is one of its own, and so are strings, which
//! are the code points that `crate::strings` describes.
//!
//! Constants and dimension expressions become ops only when something uses them as data, so that computations on shapes leave
//! nothing behind.
//!
//! ```text
//! Shape(x) -> Symbolic [batch, seq]; used by Reshape alone: no op. Used by Add: "core.size" and "core.concat".
//! ```

use super::symbolic::{ELEMENTS_MAX, Symbolic};
use std::cell::RefCell;
use std::rc::Rc;
use tilewright_ir::attribute::{Elements, Resource};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{BlockId, ValueId};
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{Shape, TensorType};

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Data.
    Value(ValueId),
    /// Stored elements.
    Constant(Elements),
    /// Dimension expressions.
    Symbolic(Symbolic),
    /// Strings: their code points.
    Strings(Operand),
    /// A sequence.
    List(Vec<Operand>),
    /// An optional without a value.
    Empty,
}

/// A value of the model during import. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Operand(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    ty: TensorType,
    origin: Origin,
    // Blocks in which a constant or expression was made into an op, with its value.
    placed: RefCell<Vec<(BlockId, ValueId)>>,
}

impl Operand {
    fn new(ty: TensorType, origin: Origin) -> Operand {
        Operand(Rc::new(Inner { ty, origin, placed: RefCell::new(Vec::new()) }))
    }

    /// Data of a type.
    pub(crate) fn value(value: ValueId, ty: TensorType) -> Operand {
        Operand::new(ty, Origin::Value(value))
    }

    /// Stored elements.
    pub(crate) fn constant(elements: Elements) -> Operand {
        Operand::new(elements.ty().clone(), Origin::Constant(elements))
    }

    /// Strings, of code points `[.., length]`. Rows that do not ask for strings never see them.
    pub(crate) fn strings(codes: Operand) -> Operand {
        Operand::new(codes.ty().clone(), Origin::Strings(codes))
    }

    /// The code points of strings.
    pub(crate) fn as_strings(&self) -> Option<&Operand> {
        match &self.0.origin {
            Origin::Strings(codes) => Some(codes),
            _ => None,
        }
    }

    /// A sequence. It has no tensor type: rows that do not ask for sequences never see it.
    pub(crate) fn list(items: Vec<Operand>) -> Operand {
        Operand::new(TensorType::of(Element::Bool, &[]), Origin::List(items))
    }

    /// An optional without a value.
    pub(crate) fn empty() -> Operand {
        Operand::new(TensorType::of(Element::Bool, &[]), Origin::Empty)
    }

    /// The items of a sequence.
    pub(crate) fn as_list(&self) -> Option<&[Operand]> {
        match &self.0.origin {
            Origin::List(items) => Some(items),
            _ => None,
        }
    }

    /// False for strings, sequences and empty optionals.
    pub(crate) fn is_tensor(&self) -> bool {
        !matches!(self.0.origin, Origin::Strings(_) | Origin::List(_) | Origin::Empty)
    }

    /// True for an optional without a value.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.0.origin, Origin::Empty)
    }

    /// Dimension expressions; all known ones become a stored constant.
    pub(crate) fn symbolic(symbolic: Symbolic) -> Operand {
        let dims: Vec<i64> = symbolic.shape.iter().map(|dim| *dim as i64).collect();
        match symbolic.known() {
            Some(values) => Operand::constant(Elements::from_ints(symbolic.element, &dims, &values)),
            None => Operand::new(TensorType::of(symbolic.element, &dims), Origin::Symbolic(symbolic)),
        }
    }

    /// Its type.
    pub(crate) fn ty(&self) -> &TensorType {
        &self.0.ty
    }

    /// Its dimensions.
    pub(crate) fn shape(&self) -> &Shape {
        &self.0.ty.shape
    }

    /// Its rank.
    pub(crate) fn rank(&self) -> usize {
        self.0.ty.rank()
    }

    /// Its element type.
    pub(crate) fn element(&self) -> Element {
        self.0.ty.element
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The op's value made for it earlier in one of these blocks.
    pub(crate) fn placed_in(&self, blocks: &[BlockId]) -> Option<ValueId> {
        self.0.placed.borrow().iter().find(|row| blocks.contains(&row.0)).map(|row| row.1)
    }

    /// Remembers the op's value made for it.
    pub(crate) fn place(&self, block: BlockId, value: ValueId) {
        self.0.placed.borrow_mut().push((block, value));
    }

    /// The stored elements, if it is a constant.
    pub(crate) fn elements(&self) -> Option<&Elements> {
        match &self.0.origin {
            Origin::Constant(elements) => Some(elements),
            _ => None,
        }
    }

    /// Its values as dimension expressions: symbolic ones, or a small integer constant.
    pub(crate) fn as_symbolic(&self) -> Option<Symbolic> {
        match &self.0.origin {
            Origin::Symbolic(symbolic) => Some(symbolic.clone()),
            Origin::Constant(elements) => {
                let ty = elements.ty();
                let count = ty.element_count().known()?;
                if ty.element.is_float() || count > ELEMENTS_MAX as i64 {
                    return None;
                }
                let tensor = Tensor::from_elements(elements).ok()?;
                let values = tensor.ints().into_iter().map(Dim::Known).collect();
                Symbolic::new(ty.element, &tensor.shape, values)
            }
            Origin::Value(_) | Origin::Strings(_) | Origin::List(_) | Origin::Empty => None,
        }
    }

    /// The same stored bytes read as another type, which must take as many bytes.
    pub(crate) fn reinterpret(&self, ty: TensorType) -> Option<Operand> {
        let elements = self.elements()?;
        let count = usize::try_from(ty.element_count().known()?).ok()?;
        if count > usize::MAX >> 8 || ty.element.bytes_of(count) != elements.bytes().len() {
            return None;
        }
        Some(Operand::constant(match elements {
            Elements::Dense(_, bytes) => Elements::Dense(ty, bytes.clone()),
            Elements::Resource(resource) => Elements::Resource(std::sync::Arc::new(Resource::new(
                &resource.name,
                ty,
                resource.bytes.clone(),
            ))),
        }))
    }
}
