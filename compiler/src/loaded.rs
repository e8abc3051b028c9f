//! A compiled model ready to run: the runtime's session, fed and read with the compiler's tensors.
//!
//! The bridge between the two worlds' element types and tensors; it knows no ONNX and no IR but types and values.

use crate::driver::Compilation;
use crate::signature::Signature;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;
use tilewright_runtime::artifact::{Artifact, Verify};
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::session::{Options, Session, SessionError};
use tilewright_runtime::stream::Program;
use tilewright_targets::emit::runtime_element;

/// A loaded model.
pub struct Loaded {
    /// The runtime's session.
    pub session: Session,
    /// The artifact, when it came from a file.
    pub artifact: Option<Arc<Artifact>>,
}

fn fault(error: &SessionError) -> Diagnostics {
    vec![Diagnostic::error(Location::Unknown, error.to_string())]
}

impl Loaded {
    /// Maps an artifact file, compares all its hashes and checks its programs.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn open(path: &Path) -> Result<Loaded, Diagnostics> {
        let artifact = Artifact::open(path, Verify::All).map_err(|error| {
            vec![
                Diagnostic::error(
                    Location::Unknown,
                    format!("cannot use artifact '{}': {error}", path.display()),
                )
                .with_help("make it again with `tilewright compile MODEL -o OUT.npu`"),
            ]
        })?;
        let artifact = Arc::new(artifact);
        let session = Session::new(artifact.clone(), Options::default()).map_err(|error| fault(&error))?;
        Ok(Loaded { session, artifact: Some(artifact) })
    }

    /// Takes a compilation's programs, its weights in memory.
    ///
    /// # Errors
    /// When a weight cannot be made, or the checker refuses a program (our own fault, told as a diagnostic).
    pub fn from_compilation(compilation: &Compilation) -> Result<Loaded, Diagnostics> {
        let programs = compilation.programs.iter().filter_map(|report| report.program.clone()).collect();
        let constants = compilation.constants.image().map_err(|what| {
            vec![Diagnostic::error(Location::Unknown, format!("cannot make weights: {what}"))]
        })?;
        Loaded::from_programs(programs, constants, TransferMode::Immediate)
    }

    /// Takes programs over constants in memory.
    ///
    /// # Errors
    /// When the checker refuses a program.
    pub fn from_programs(
        programs: Vec<Program>,
        constants: Vec<u8>,
        transfer_mode: TransferMode,
    ) -> Result<Loaded, Diagnostics> {
        let options = Options { transfer_mode, ..Options::default() };
        let session = Session::from_programs(programs, constants, options).map_err(|error| fault(&error))?;
        Ok(Loaded { session, artifact: None })
    }

    /// Feeds an input.
    ///
    /// # Errors
    /// When name, shape or element type do not fit.
    pub fn set(&mut self, name: &str, tensor: &Tensor) -> Result<(), Diagnostics> {
        self.session.set_input(name, &tensor.shape, &tensor.to_bytes()).map_err(|error| fault(&error))
    }

    /// Reads an output.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&mut self, name: &str) -> Result<Tensor, Diagnostics> {
        let found = self.session.output(name).map_err(|error| fault(&error))?;
        let element = Element::ALL.iter().copied().find(|one| runtime_element(*one) == Some(found.element));
        let problem = |what: String| vec![Diagnostic::error(Location::Unknown, what)];
        let element =
            element.ok_or_else(|| problem(format!("output '{name}' has an unknown element type")))?;
        let shape: Vec<i64> = found.shape.iter().map(|dim| *dim as i64).collect();
        Tensor::from_bytes(&TensorType::of(element, &shape), &found.bytes).map_err(problem)
    }

    /// Runs the first program once on inputs in graph order; gives outputs in graph order.
    ///
    /// # Errors
    /// When an input does not fit or the run fails.
    pub fn run_once(&mut self, signature: &Signature, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
        for (port, tensor) in signature.inputs.iter().zip(inputs) {
            if self.session.has_input(&port.name) {
                self.set(&port.name, tensor)?;
            }
        }
        self.session.run().map_err(|error| fault(&error))?;
        signature.outputs.iter().map(|port| self.get(&port.name)).collect()
    }

    /// Runs the first program once on inputs by name; gives outputs and states by name.
    ///
    /// # Errors
    /// Inputs that are missing or unknown, and what [`Loaded::run_once`] says.
    pub fn run_named(
        &mut self,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, Tensor)>, Diagnostics> {
        let program = self.session.program();
        let missing: Vec<String> = program
            .inputs
            .iter()
            .filter(|binding| !inputs.contains_key(&binding.name))
            .map(|binding| binding.name.clone())
            .collect();
        let outputs: Vec<String> = program
            .outputs
            .iter()
            .map(|binding| binding.name.clone())
            .chain(program.states.iter().map(|state| state.output.name.clone()))
            .collect();
        if !missing.is_empty() {
            let what = format!("inputs are missing: {}", missing.join(", "));
            let help = "give each with --input NAME=@FILE.npy; `tilewright inspect` shows their types";
            return Err(vec![Diagnostic::error(Location::Unknown, what).with_help(help)]);
        }
        for (name, tensor) in inputs {
            self.set(name, tensor)?;
        }
        self.session.run().map_err(|error| fault(&error))?;
        outputs.into_iter().map(|name| self.get(&name).map(|tensor| (name, tensor))).collect()
    }
}
