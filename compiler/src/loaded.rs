//! A compiled model ready to run: the runtime's session, fed and read with the compiler's tensors.
//!
//! The bridge between the two worlds' element types and tensors; it knows no ONNX and no IR but types and values.

use crate::driver::Compilation;
use crate::signature::Signature;
use crate::strings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;
use tilewright_runtime::artifact::trust::{SecurityLevel, TrustedKey};
use tilewright_runtime::artifact::{Artifact, Load, LoadOptions, Verify};
use tilewright_runtime::deployment::{Deployment, INDEX_FILE};
use tilewright_runtime::hardware::System;
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::protect;
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

/// How an artifact is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// How its bytes are brought in, and those of its weights.
    pub load: LoadOptions,
    /// Whether weights are compared with their hashes.
    pub verify: Verify,
    /// The file of weights of an artifact that has none; `None` takes the one it names, from its own folder.
    pub weights: Option<PathBuf>,
    /// Run once before anything is asked.
    pub prewarm: bool,
    /// Only what one of these keys has signed is opened, with all hashes compared; where there are none, nothing that asks for it.
    pub trusted: Vec<TrustedKey>,
    /// The artifact must have this [`Artifact::identity`].
    pub identity: Option<[u8; 32]>,
    /// Threads that kernels use; 0 for as many as the process may use cores.
    pub threads: usize,
}

impl Default for Opening {
    fn default() -> Opening {
        let load = LoadOptions::default();
        let (weights, trusted, identity, threads) = Default::default();
        Opening { load, verify: Verify::ExceptConstants, weights, prewarm: false, trusted, identity, threads }
    }
}

/// Opens an artifact file, and binds it to its weights when it has none of its own. One that asks for security level high, and one of which
/// a signature is asked, is verified with all its hashes; the former in memory of its own, which nobody can change after that.
///
/// # Errors
/// Says which of the two files is wrong, and what is; that it is not trusted, and why.
pub fn open_artifact(path: &Path, opening: &Opening) -> Result<Artifact, Diagnostic> {
    let open = |opening: &Opening| {
        Artifact::open_with(path, opening.verify, &opening.load).map_err(|error| {
            let what = format!("cannot use artifact '{}': {error}", path.display());
            problem(what, "make it again with `tilewright compile MODEL -o OUT.npu`")
        })
    };
    let artifact = open(opening)?;
    let level = artifact.security_level().map_err(|error| distrust(path, &error.to_string()))?;
    if level == SecurityLevel::Standard && opening.trusted.is_empty() {
        check_identity(path, &artifact, opening)?;
        return bind(path, artifact, opening);
    }
    let mut opening = Opening { verify: Verify::All, ..opening.clone() };
    if level == SecurityLevel::High {
        opening.load = LoadOptions { load: Load::Read, prefault: false };
        let failed = |error| distrust(path, &format!("core dumps cannot be forbidden: {error}"));
        protect::no_core_dumps().map_err(failed)?;
    }
    drop(artifact);
    let artifact = open(&opening)?;
    if artifact.security_level().ok() != Some(level) {
        return Err(distrust(path, "it changes while it is opened"));
    }
    check_identity(path, &artifact, &opening)?;
    if opening.trusted.is_empty() {
        return Err(distrust(path, "it asks for security level high, and no key is trusted"));
    }
    artifact.verify_signature(path, &opening.trusted).map_err(|error| distrust(path, &error.to_string()))?;
    bind(path, artifact, &opening)
}

fn bind(path: &Path, artifact: Artifact, opening: &Opening) -> Result<Artifact, Diagnostic> {
    if !artifact.needs_weights() {
        return match &opening.weights {
            None => Ok(artifact),
            Some(weights) => Err(problem(
                format!("'{}' has its own weights; '{}' is not needed", path.display(), weights.display()),
                "leave --weights out, or compile the artifact with --strip-weights",
            )),
        };
    }
    let beside = path.parent().unwrap_or(Path::new("")).join(artifact.weights_file().unwrap_or_default());
    let weights = opening.weights.as_ref().unwrap_or(&beside);
    // What the file of weights says of itself is not looked at: each tensor is compared with the hash that the artifact has of it.
    let opened = Artifact::open_with(weights, Verify::ExceptConstants, &opening.load);
    let bound = opened.and_then(|weights| artifact.bind(Arc::new(weights)));
    let proved = bound.and_then(|artifact| match opening.verify {
        Verify::All => artifact.verify_weights().map(|()| artifact),
        Verify::ExceptConstants => Ok(artifact),
    });
    proved.map_err(|error| {
        problem(
            format!("cannot bind '{}' to weights '{}': {error}", path.display(), weights.display()),
            "give the file that `compile --strip-weights` wrote or added to, with --weights FILE",
        )
    })
}

fn check_identity(path: &Path, artifact: &Artifact, opening: &Opening) -> Result<(), Diagnostic> {
    match opening.identity {
        Some(identity) if identity != artifact.identity() => {
            Err(distrust(path, "it is not the one that the deployment's index names"))
        }
        _ => Ok(()),
    }
}

fn problem(what: String, help: &str) -> Diagnostic {
    Diagnostic::error(Location::Unknown, what).with_help(help)
}

fn distrust(path: &Path, why: &str) -> Diagnostic {
    let help = "give --public-key KEY.pub of the key that `tilewright deploy` or `tilewright sign` was given";
    problem(format!("'{}' is not trusted: {why}", path.display()), help)
}

fn fault(error: &SessionError) -> Diagnostics {
    vec![Diagnostic::error(Location::Unknown, error.to_string())]
}

/// Locks what a model is kept in, where it asks for that.
fn lock(artifact: &Artifact) -> Result<(), Diagnostic> {
    if artifact.security_level().ok() != Some(SecurityLevel::High) {
        return Ok(());
    }
    protect::lock_memory().map_err(|error| {
        problem(
            format!("security level high: memory cannot be locked: {error}"),
            "raise the limit of locked memory (`ulimit -l unlimited`, or LimitMEMLOCK= of its service)",
        )
    })
}

/// The artifact of a deployment that was chosen.
pub struct Chosen {
    /// Its file.
    pub artifact: PathBuf,
    /// Its identity, as the index has it.
    pub identity: [u8; 32],
    /// Why it was chosen and others were not, a line each.
    pub reasons: Vec<String>,
}

/// Chooses of a deployment's folder the artifact for a system.
///
/// # Errors
/// When the index is damaged or not trusted, or has nothing for hardware that is assumed.
pub fn choose(folder: &Path, opening: &Opening, system: &System) -> Result<Chosen, Diagnostic> {
    let path = folder.join(INDEX_FILE);
    let opening = Opening { weights: None, identity: None, ..opening.clone() };
    let index = open_artifact(&path, &opening)?;
    let deployment = Deployment::of(&index).map_err(|error| {
        problem(format!("'{}': {error}", path.display()), "make it again with `tilewright deploy`")
    })?;
    let choice = deployment.choose(system).map_err(|why| {
        problem(format!("'{}': {why}", folder.display()), "leave --assume-hardware out to have it detected")
    })?;
    let target = &deployment.targets[choice.target];
    Ok(Chosen { artifact: folder.join(&target.artifact), identity: target.identity, reasons: choice.reasons })
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
        let artifact = Arc::new(open_artifact(path, opening).map_err(|problem| vec![problem])?);
        let options = Options { threads: opening.threads, ..Options::default() };
        let session = Session::new(artifact.clone(), options).map_err(|error| fault(&error))?;
        lock(&artifact).map_err(|problem| vec![problem])?;
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
