//! Prints MLIR's generic form.

use crate::element::Element;

/// A float as MLIR prints it.
pub fn float_text(value: f64, _element: Element) -> String {
    format!("{value:e}")
}
