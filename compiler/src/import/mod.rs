//! Models from files to `core` IR.
//!
//! ```text
//! let imported = import::onnx::import(Path::new("models/story-3m"), &Options::default())?;
//! imported.module        // @main in core IR, weights by reference
//! imported.assumptions   // total_seq = past_seq + seq
//! ```

pub mod onnx;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dim::{Bindings, Dim};
use tilewright_ir::module::Module;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

/// What becomes of activations where a node permits int8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Activations {
    /// They keep their type: the most exact.
    #[default]
    Exact,
    /// Rounded to int8 in blocks at MatMulNBits with accuracy_level 4, as ONNX Runtime's CPU kernels do.
    Int8,
    /// Also at products of 4-bit weights that ONNX Runtime fuses into MatMulNBits.
    Int8Fused,
}

/// What the user may say about an import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Values of named dimensions (`--bind NAME=VALUE`), in elements.
    pub bindings: BTreeMap<Arc<str>, i64>,
    /// The folder of external data; the model's own when left out.
    pub external_data: Option<PathBuf>,
    /// Values of inputs that are known before the model runs (`--freeze NAME=VALUE`): each becomes a constant and is no input any more.
    pub frozen: BTreeMap<Arc<str>, Tensor>,
    /// Shapes of inputs to which the model gives none (`--input-shape NAME=2x3`).
    pub shapes: BTreeMap<Arc<str>, Vec<i64>>,
    /// Inputs with a default in the model that stay inputs. The others take their default: exporters of old list every weight.
    pub keep_default_inputs: BTreeSet<String>,
    /// Round activations to int8 in blocks where a node permits it (MatMulNBits with `accuracy_level` 4), as ONNX Runtime's CPU kernels do.
    /// Left out, activations keep their type, which is more exact but differs from what ONNX Runtime records.
    pub int8_activations: bool,
    /// Do so as well where ONNX Runtime fuses DequantizeLinear of a 4-bit weight with MatMul. It depends on its optimisation level whether a
    /// recording was made so.
    pub int8_activations_fused: bool,
    /// Take a symbolic batch of cached attention for one sequence, all of whose cache is valid: faster, and for callers that import again
    /// where a run has more ([`Imported::batches`]).
    pub one_sequence: bool,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name in the model.
    pub name: Arc<str>,
    /// Its type.
    pub ty: TensorType,
    /// For a state: the output that carries its next value, or the input that it came from.
    pub state: Option<Arc<str>>,
    /// Whether it is strings, as code points ([`crate::strings`]).
    pub is_strings: bool,
}

/// A dimension that a model does not say, but takes, to be equal to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumption {
    /// The symbol that was replaced.
    pub symbol: Arc<str>,
    /// What stands in its place.
    pub equals: Dim,
}

impl Imported {
    /// Adds the values of symbols that the model takes to be equal to others that are bound.
    pub fn bind_assumptions(&self, bindings: &mut Bindings) {
        for assumption in &self.assumptions {
            if let Some(value) = assumption.equals.evaluate(bindings) {
                bindings.entry(assumption.symbol.clone()).or_insert(value);
            }
        }
    }
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// `core` IR with one function, `@main`.
    pub module: Module,
    /// Warnings and notes.
    pub diagnostics: Diagnostics,
    /// Dimensions taken to be equal, sorted by symbol.
    pub assumptions: Vec<Assumption>,
    /// Inputs in the order of the function's arguments.
    pub inputs: Vec<Port>,
    /// Outputs in the order of the function's results.
    pub outputs: Vec<Port>,
    /// Symbols of batches that were taken for one sequence ([`Options::one_sequence`]). Bound to more, import again with them bound.
    pub batches: BTreeSet<Arc<str>>,
    /// The opset version of the standard domain that the model imports; 0 if none.
    pub opset: i64,
    /// The version of the format.
    pub ir_version: i64,
    /// The exporter's name and version.
    pub producer: String,
}
