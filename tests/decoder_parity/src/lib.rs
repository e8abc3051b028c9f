//! Two descriptions of an ONNX file in one vocabulary: by the product's reader (prost, [`with_prost`]) and by an independent one
//! (rust-protobuf through onnx-protobuf, [`with_rust_protobuf`]). Equal text means that both read the same model.
//!
//! ```text
//! model ir 10 producer "pytorch"
//!   opset "" 18
//!   graph "main_graph"
//!     node "MatMul_3" "" MatMul ["x", "w"] -> ["y"]
//!       alpha = float 3f800000
//! ```
//!
//! Absent and zero are one here, since the second decoder's schema is proto3.

use std::fmt::{Display, Write};

mod by_prost;
mod by_rust_protobuf;
#[path = "../../../compiler/src/import/onnx/schema.rs"]
pub mod schema;

pub use by_prost::describe as with_prost;
pub use by_rust_protobuf::describe as with_rust_protobuf;

/// Lines of text with indentation.
#[derive(Default)]
struct Lines {
    text: String,
    depth: usize,
}

impl Lines {
    fn line(&mut self, line: impl Display) {
        writeln!(self.text, "{:width$}{line}", "", width = 2 * self.depth).expect("a String takes all");
    }

    fn nested(&mut self, line: impl Display, inside: impl FnOnce(&mut Self)) {
        self.line(line);
        self.depth += 1;
        inside(self);
        self.depth -= 1;
    }
}

/// Floats by their bits, so that NaN and -0 count.
fn bits(values: &[f32]) -> String {
    values.iter().map(|value| format!("{:08x} ", value.to_bits())).collect()
}

/// Doubles by their bits.
fn double_bits(values: &[f64]) -> String {
    values.iter().map(|value| format!("{:016x} ", value.to_bits())).collect()
}
