//! A compiled model ready to run: the runtime's session, fed and read with the compiler's tensors.
//!
//! The bridge between the two worlds' element types and tensors; it knows no ONNX and no IR but types and values.

use crate::driver::Compilation;
use crate::signature::Signature;
use crate::strings;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;
use tilewright_runtime::artifact::Artifact;
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::opening::{OpenError, Opening, lock, open_artifact};
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

/// As the compiler tells it.
pub fn told(error: OpenError) -> Diagnostic {
    Diagnostic::error(Location::Unknown, error.what).with_help(error.help)
}

fn fault(error: &SessionError) -> Diagnostics {
    vec![Diagnostic::error(Location::Unknown, error.to_string())]
}

impl Loaded {
    /// Maps an artifact file, with the weights it names if it has none of its own, and checks its programs. The weights' bytes are not
    /// read: it takes as long as the programs are, not the weights.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn open(path: &Path) -> Result<Loaded, Diagnostics> {
        Loaded::open_with(path, &Opening::default())
    }

    /// Opens an artifact file as asked for and checks its programs.
    ///
    /// # Errors
    /// Says what is wrong with the file, or with its weights.
    pub fn open_with(path: &Path, opening: &Opening) -> Result<Loaded, Diagnostics> {
        let artifact = Arc::new(open_artifact(path, opening).map_err(|problem| vec![told(problem)])?);
        let options = Options { threads: opening.threads, ..Options::default() };
        let session = Session::new(artifact.clone(), options).map_err(|error| fault(&error))?;
        lock(&artifact).map_err(|problem| vec![told(problem)])?;
        let mut loaded = Loaded { session, artifact: Some(artifact) };
        if opening.prewarm {
            loaded.prewarm();
        }
        Ok(loaded)
    }

    /// Runs the shortest program once on what memory holds at the start, and forgets what it did.
    fn prewarm(&mut self) {
        let programs = self.session.programs().iter().enumerate();
        let shortest = programs.min_by_key(|(_, program)| program.chunk_length).map(|(index, _)| index);
        self.session.select(shortest.unwrap_or(0));
        // A model may refuse zeros; its pages have been touched all the same.
        let _ = self.session.run();
        self.session.reset_state();
        self.session.select(0);
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

    /// Feeds an input of strings, filled up to the code points that the program has room for.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn set_strings(&mut self, name: &str, tensor: &Tensor) -> Result<(), Diagnostics> {
        let bindings = &self.session.program().inputs;
        let view = bindings.iter().find(|binding| binding.name == name).map(|binding| &binding.view);
        let room = view.and_then(|view| view.dims.last()).filter(|dim| dim.bound.is_none());
        let Some(room) = room else { return self.set(name, tensor) };
        let fitted = strings::fit(tensor, room.cap as usize);
        let fitted = fitted.map_err(|what| vec![strings::does_not_fit(name, &what)])?;
        self.set(name, &fitted)
    }

    /// The inputs and outputs of the artifact that are strings, by name.
    pub fn strings(&self) -> Vec<String> {
        self.artifact.as_ref().map(|artifact| strings::names(&artifact.metadata)).unwrap_or_default()
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
                if port.is_strings {
                    self.set_strings(&port.name, tensor)?
                } else {
                    self.set(&port.name, tensor)?
                }
            }
        }
        self.session.run().map_err(|error| fault(&error))?;
        let results: Result<Vec<Tensor>, Diagnostics> =
            signature.outputs.iter().map(|port| self.get(&port.name)).collect();
        Ok(strings::shortened(&signature.outputs, results?))
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
        let strings = self.strings();
        for (name, tensor) in inputs {
            if strings.contains(name) { self.set_strings(name, tensor)? } else { self.set(name, tensor)? }
        }
        self.session.run().map_err(|error| fault(&error))?;
        let result = |name: String| {
            let tensor = self.get(&name)?;
            let tensor = if strings.contains(&name) { strings::shortest(&tensor) } else { tensor };
            Ok((name, tensor))
        };
        outputs.into_iter().map(result).collect()
    }
}
