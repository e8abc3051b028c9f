//! Types of values, and their MLIR text.
//!
//! A symbolic dimension prints as `?`; the expressions of all `?` follow in order as the tensor's encoding.
//!
//! ```text
//! tensor<1x?x64xf32, ["past_seq + seq"]>   memref<4x64xf32, "sram">   !tile.token
//! ```

use crate::dim::Dim;
use crate::element::Element;
use smallvec::SmallVec;
use std::fmt;

/// Dimensions, outermost first. Empty for a scalar.
pub type Shape = SmallVec<[Dim; 4]>;

/// An immutable array of elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Element type.
    pub element: Element,
    /// Dimensions, in elements.
    pub shape: Shape,
}

/// A region of a memory space, read and written by tile ops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewType {
    /// Element type.
    pub element: Element,
    /// Dimensions, in elements.
    pub shape: Shape,
    /// Memory space by name: `const io state dram sram acc`.
    pub space: String,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// `tensor<..>`.
    Tensor(TensorType),
    /// `memref<.., "space">`.
    View(ViewType),
    /// `index`: an address or a trip count.
    Index,
    /// A bare element, such as `i1`.
    Scalar(Element),
    /// `(..) -> (..)`.
    Function(Vec<Type>, Vec<Type>),
    /// A type of another dialect, kept as its text without the `!`, such as `tile.token`.
    Opaque(String),
}

impl TensorType {
    /// A tensor type.
    pub fn new(element: Element, shape: impl IntoIterator<Item = Dim>) -> TensorType {
        TensorType { element, shape: shape.into_iter().collect() }
    }

    /// A tensor type of known dimensions.
    pub fn of(element: Element, shape: &[i64]) -> TensorType {
        TensorType::new(element, shape.iter().copied().map(Dim::Known))
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Product of the dimensions.
    pub fn element_count(&self) -> Dim {
        self.shape.iter().fold(Dim::Known(1), |product, dim| &product * dim)
    }

    /// All dimensions as numbers, if none is symbolic.
    pub fn known_shape(&self) -> Option<Vec<i64>> {
        self.shape.iter().map(Dim::known).collect()
    }

    /// The same shape with another element type.
    pub fn with_element(&self, element: Element) -> TensorType {
        TensorType { element, shape: self.shape.clone() }
    }
}

impl Type {
    /// A tensor type of known dimensions.
    pub fn tensor(element: Element, shape: &[i64]) -> Type {
        Type::Tensor(TensorType::of(element, shape))
    }

    /// The tensor type, if it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The view type, if it is one.
    pub fn as_view(&self) -> Option<&ViewType> {
        match self {
            Type::View(view) => Some(view),
            _ => None,
        }
    }
}

impl From<TensorType> for Type {
    fn from(tensor: TensorType) -> Type {
        Type::Tensor(tensor)
    }
}

fn write_shape(f: &mut fmt::Formatter<'_>, shape: &Shape, element: Element) -> fmt::Result {
    for dim in shape {
        match dim {
            Dim::Known(value) => write!(f, "{value}x")?,
            Dim::Symbolic(_) => f.write_str("?x")?,
        }
    }
    write!(f, "{element}")
}

fn write_symbols(f: &mut fmt::Formatter<'_>, shape: &Shape) -> fmt::Result {
    let symbols: Vec<String> =
        shape.iter().filter(|dim| dim.known().is_none()).map(|dim| format!("\"{dim}\"")).collect();
    if symbols.is_empty() { Ok(()) } else { write!(f, ", [{}]", symbols.join(", ")) }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        write_shape(f, &self.shape, self.element)?;
        write_symbols(f, &self.shape)?;
        f.write_str(">")
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, types: &[Type]) -> fmt::Result {
    f.write_str("(")?;
    for (at, item) in types.iter().enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
    }
    f.write_str(")")
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(tensor) => tensor.fmt(f),
            Type::View(view) => {
                f.write_str("memref<")?;
                write_shape(f, &view.shape, view.element)?;
                // A memref has one attribute slot: the space, followed by the expressions of its `?`.
                if view.shape.iter().all(|dim| dim.known().is_some()) {
                    write!(f, ", \"{}\">", view.space)
                } else {
                    write!(f, ", [\"{}\"", view.space)?;
                    for dim in view.shape.iter().filter(|dim| dim.known().is_none()) {
                        write!(f, ", \"{dim}\"")?;
                    }
                    f.write_str("]>")
                }
            }
            Type::Index => f.write_str("index"),
            Type::Scalar(element) => element.fmt(f),
            Type::Function(inputs, results) => {
                write_list(f, inputs)?;
                f.write_str(" -> ")?;
                match results.as_slice() {
                    [single] if !matches!(single, Type::Function(..)) => single.fmt(f),
                    _ => write_list(f, results),
                }
            }
            Type::Opaque(text) => write!(f, "!{text}"),
        }
    }
}
