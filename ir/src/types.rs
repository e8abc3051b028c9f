//! Types of values, and their MLIR text.
//!
//! A symbolic dimension prints as `?`; the expressions of all `?` follow in order as the tensor's encoding.
//!
//! ```text
//! tensor<1x?x64xf32, ["past_seq + seq"]>   memref<4x64xf32, "sram">   memref<4x?xf32, {dims = ["seq"], space = "sram"}>   !tile.token
//! ```

use crate::attribute::escape;
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

fn write_dim(f: &mut fmt::Formatter<'_>, dim: &Dim) -> fmt::Result {
    match dim {
        Dim::Known(value) => write!(f, "{value}x"),
        Dim::Symbolic(_) => f.write_str("?x"),
    }
}

/// The expressions of all `?`, quoted and in order.
fn symbols(shape: &Shape) -> String {
    let quoted = |dim: &Dim| format!("\"{}\"", escape(&dim.to_string()));
    let symbols: Vec<String> = shape.iter().filter(|dim| dim.known().is_none()).map(quoted).collect();
    symbols.join(", ")
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        for dim in &self.shape {
            write_dim(f, dim)?;
        }
        let symbols = symbols(&self.shape);
        if symbols.is_empty() {
            write!(f, "{}>", self.element)
        } else {
            write!(f, "{}, [{symbols}]>", self.element)
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, types: &[Type]) -> fmt::Result {
    f.write_str("(")?;
    for (at, item) in types.iter().enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
    }
    f.write_str(")")
}

/// MLIR's memref takes a string or a dictionary as its memory space, and builtin elements only: an element type of our own
/// prints as the integer of its width, and its name goes to the dictionary.
fn write_view(f: &mut fmt::Formatter<'_>, view: &ViewType) -> fmt::Result {
    let own_element = view.element.text().starts_with('!');
    f.write_str("memref<")?;
    for dim in &view.shape {
        write_dim(f, dim)?;
    }
    match view.element.bits() {
        bits if own_element => write!(f, "i{bits}")?,
        _ => write!(f, "{}", view.element)?,
    }
    let space = escape(&view.space);
    let symbols = symbols(&view.shape);
    if symbols.is_empty() && !own_element {
        return write!(f, ", \"{space}\">");
    }
    f.write_str(", {")?;
    if !symbols.is_empty() {
        write!(f, "dims = [{symbols}], ")?;
    }
    if own_element {
        write!(f, "element = {}, ", view.element)?;
    }
    write!(f, "space = \"{space}\"}}>")
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(tensor) => tensor.fmt(f),
            Type::View(view) => write_view(f, view),
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
