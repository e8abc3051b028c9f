//! A loaded artifact that can be run: memory, register values, tensors in and out by name, and state between runs.
//!
//! Programs are checked when the session is made. All programs of an artifact share the memory: a prompt is run in chunks by one
//! program and continued token by token by another, on the same state. This file must not know what programs compute.
//!
//! ```no_run
//! use tilewright_runtime::{artifact::{Artifact, Verify}, session::{Options, Session}};
//! let artifact = std::sync::Arc::new(Artifact::open("model.npu", Verify::All)?);
//! let mut session = Session::new(artifact, Options::default())?;
//! session.bind("past_seq", 0)?;
//! session.set_input("input_ids", &[1, 1], &42i64.to_le_bytes())?;
//! session.run()?;
//! let logits = session.output("logits")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod state;

pub use state::SnapshotError;

use crate::artifact::Artifact;
use crate::checker::{CheckError, Limits, check};
use crate::control::{DEPTH_MAX, jump_table};
use crate::element::Element;
use crate::extension::Extension;
use crate::interpreter::{Interpreter, Pending, TransferMode, Visits};
use crate::kernels::pool::Pool;
use crate::kernels::{Fault, index};
use crate::memory::{Destination, Memory, Source, Window, Workspace};
use crate::stream::{Binding, Program, StateBinding};
use crate::view::{Space, View};
use std::sync::Arc;

/// How a session runs.
#[derive(Clone)]
pub struct Options {
    /// When transfers move their bytes.
    pub transfer_mode: TransferMode,
    /// Most work of one run: commands plus elements of their largest operands.
    pub work_max: u64,
    /// Limits of the checker.
    pub limits: Limits,
    /// Executes a target's own commands.
    pub extension: Option<Arc<dyn Extension>>,
    /// Threads that kernels use; 0 for as many as the process may use cores. Results do not depend on it.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            transfer_mode: TransferMode::Immediate,
            work_max: u64::MAX,
            limits: Limits::default(),
            extension: None,
            threads: 1,
        }
    }
}

/// Why a session cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The checker refused a program.
    #[error("program {program:?} is refused: {}", .findings.first().map(ToString::to_string).unwrap_or_default())]
    Check {
        /// its name
        program: String,
        /// all findings
        findings: Vec<CheckError>,
    },
    /// The artifact holds no program.
    #[error("the artifact holds no program")]
    Empty,
    /// The artifact was compiled without weights and is not bound to any.
    #[error("the artifact holds no weights: bind it to the file they were written to{}", .file.as_ref().map(|file| format!(", '{file}'")).unwrap_or_default())]
    Unbound {
        /// that file, by the name it had
        file: Option<String>,
    },
    /// Two programs disagree about the state they share.
    #[error("programs {first:?} and {second:?} disagree about state {state:?}")]
    StateMismatch {
        /// one
        first: String,
        /// other
        second: String,
        /// which state
        state: String,
    },
    /// No memory.
    #[error(transparent)]
    Memory(Fault),
    /// A name that does not exist.
    #[error("there is no {kind} named {name:?}; there are: {available}")]
    Unknown {
        /// program, register, input or output
        kind: &'static str,
        /// the name
        name: String,
        /// what there is
        available: String,
    },
    /// A register value out of range.
    #[error("{name} = {value} is outside {minimum}..={maximum}")]
    Range {
        /// which register
        name: String,
        /// the value
        value: i64,
        /// smallest
        minimum: i64,
        /// largest
        maximum: i64,
    },
    /// A tensor of the wrong shape.
    #[error("{name:?} must have shape {expected:?} here, found {found:?}")]
    Shape {
        /// which tensor
        name: String,
        /// what the program takes
        expected: Vec<usize>,
        /// what was given
        found: Vec<usize>,
    },
    /// A tensor with the wrong number of bytes.
    #[error("{name:?} of shape {shape:?} {element} has {expected} bytes, {found} were given")]
    Bytes {
        /// which tensor
        name: String,
        /// its shape
        shape: Vec<usize>,
        /// its element
        element: Element,
        /// what the shape needs
        expected: u64,
        /// what was given
        found: usize,
    },
    /// A quantised cache holds other tokens than the run begins after, and cannot return there.
    #[error(
        "the run begins after {past} tokens, the cache holds {held} and cannot return there: trim it, or start over"
    )]
    Past {
        /// tokens that the run begins after
        past: u64,
        /// tokens in the cache
        held: u64,
    },
    /// A command failed.
    #[error(transparent)]
    Run(Box<RunFailure>),
}

/// A command that failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{program}, command {command}{}: {fault}\n  {text}", .location.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
pub struct RunFailure {
    /// Name of the program.
    pub program: String,
    /// Index of the command.
    pub command: usize,
    /// Its text.
    pub text: String,
    /// Its source in the model.
    pub location: Option<String>,
    /// Why.
    pub fault: Fault,
}

/// A dense tensor, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// What is in it.
    pub element: Element,
    /// Extents.
    pub shape: Vec<usize>,
    /// Its bytes, little-endian.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// The values as f32 (any element).
    pub fn to_f32(&self) -> Vec<f32> {
        self.lanes()
    }

    /// The values as i64 (any element; floats are truncated).
    pub fn to_i64(&self) -> Vec<i64> {
        self.lanes()
    }

    /// A tensor of integers, converted to the element as a cast does.
    pub fn from_i64(element: Element, shape: &[usize], values: &[i64]) -> Tensor {
        let mut bytes = vec![0; element.packed_bytes(values.len() as u64).unwrap_or(0) as usize];
        if let Ok(mut destination) = Destination::packed(element, &[values.len()], &mut bytes) {
            crate::kernels::lanes::store(&mut destination, 0, 1, values);
        }
        Tensor { element, shape: shape.to_vec(), bytes }
    }

    fn lanes<L: crate::kernels::lanes::Lane>(&self) -> Vec<L> {
        let mut lanes = vec![L::default(); self.shape.iter().product()];
        if let Ok(source) = Source::packed(self.element, &self.shape, &self.bytes) {
            crate::kernels::lanes::load(&source, 0, 1, &mut lanes);
        }
        lanes
    }
}

enum Constants {
    Artifact(Arc<Artifact>),
    Owned(Vec<u8>),
}

impl Constants {
    fn bytes(&self) -> &[u8] {
        match self {
            Constants::Artifact(artifact) => artifact.constants(),
            Constants::Owned(bytes) => bytes,
        }
    }
}

/// A checked, loaded artifact.
pub struct Session {
    programs: Vec<Program>,
    jumps: Vec<Vec<u32>>,
    constants: Constants,
    memory: Memory,
    workspace: Workspace,
    active: usize,
    registers: Vec<i64>,
    is_set: Vec<bool>,
    loops: Vec<i64>,
    pending: Vec<Pending>,
    held: state::Held,
    options: Options,
}

impl Session {
    /// Checks and loads all programs of an artifact. Weights stay in the file.
    ///
    /// # Errors
    /// When the checker refuses a program, or there is no memory.
    pub fn new(artifact: Arc<Artifact>, options: Options) -> Result<Session, SessionError> {
        if artifact.needs_weights() {
            return Err(SessionError::Unbound { file: artifact.weights_file().map(str::to_owned) });
        }
        let programs = artifact.programs.clone();
        Session::load(programs, Constants::Artifact(artifact), options)
    }

    /// Checks and loads programs over constants held in memory.
    ///
    /// # Errors
    /// When the checker refuses a program, or there is no memory.
    pub fn from_programs(
        programs: Vec<Program>,
        constants: Vec<u8>,
        options: Options,
    ) -> Result<Session, SessionError> {
        Session::load(programs, Constants::Owned(constants), options)
    }

    fn load(programs: Vec<Program>, constants: Constants, options: Options) -> Result<Session, SessionError> {
        let mut space_bytes = [0u64; Space::COUNT];
        let mut jumps = Vec::new();
        let mut room = 0;
        let mut transfers = 0;
        for program in &programs {
            let refused = |findings| SessionError::Check { program: program.name.clone(), findings };
            let constant_bytes = constants.bytes().len() as u64;
            check(program, constant_bytes, &options.limits, options.extension.as_deref()).map_err(refused)?;
            jumps.push(jump_table(&program.commands).unwrap_or_default());
            for (total, &bytes) in space_bytes.iter_mut().zip(&program.space_bytes) {
                *total = (*total).max(bytes);
            }
            room = room.max(room_bytes(program));
            transfers = transfers.max(program.commands.len());
        }
        let Some(first) = programs.first() else { return Err(SessionError::Empty) };
        for other in &programs[1..] {
            same_states(first, other)?;
        }
        let pool = if options.threads == 0 { Pool::of_machine() } else { Pool::new(options.threads) };
        let mut workspace = Workspace::with_pool(Arc::new(pool));
        workspace.reserve(room).map_err(SessionError::Memory)?;
        let mut session = Session {
            memory: Memory::new(&space_bytes).map_err(SessionError::Memory)?,
            workspace,
            active: 0,
            registers: Vec::new(),
            is_set: Vec::new(),
            loops: Vec::with_capacity(DEPTH_MAX),
            pending: Vec::with_capacity(transfers),
            held: state::Held::default(),
            programs,
            jumps,
            constants,
            options,
        };
        session.select(0);
        Ok(session)
    }

    /// Threads that kernels use.
    pub fn threads(&self) -> usize {
        self.workspace.pool().threads()
    }

    /// The programs, in artifact order.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The program that runs next.
    pub fn program(&self) -> &Program {
        &self.programs[self.active]
    }

    /// Chooses the program that runs next. Register values are forgotten; memory is kept.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn select(&mut self, program: usize) {
        self.active = program;
        self.registers =
            self.programs[program].registers.iter().map(|register| register.minimum.max(0)).collect();
        for (value, info) in self.registers.iter_mut().zip(&self.programs[program].registers) {
            *value = (*value).clamp(info.minimum, info.maximum);
        }
        self.is_set = vec![false; self.registers.len()];
    }

    /// Chooses by name.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn select_named(&mut self, name: &str) -> Result<(), SessionError> {
        let found = self.programs.iter().position(|program| program.name == name);
        let names =
            || self.programs.iter().map(|program| program.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || SessionError::Unknown { kind: "program", name: name.to_owned(), available: names() };
        self.select(found.ok_or_else(unknown)?);
        Ok(())
    }

    /// Gives a register its value for the next run.
    ///
    /// # Errors
    /// When there is no such register, or the value is out of its range.
    pub fn bind(&mut self, name: &str, value: i64) -> Result<(), SessionError> {
        let program = &self.programs[self.active];
        let bound = || program.registers.iter().filter(|register| register.is_bound);
        let Some(register) = program.register(name) else {
            let available = bound().map(|register| register.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(SessionError::Unknown { kind: "register", name: name.to_owned(), available });
        };
        let info = &program.registers[usize::from(register.0)];
        let (minimum, maximum) = (info.minimum, info.maximum);
        if !(minimum..=maximum).contains(&value) {
            return Err(SessionError::Range { name: name.to_owned(), value, minimum, maximum });
        }
        self.registers[usize::from(register.0)] = value;
        self.is_set[usize::from(register.0)] = true;
        Ok(())
    }

    /// Whether a tensor of this name is fed to the program (as an input or a state).
    pub fn has_input(&self, name: &str) -> bool {
        self.fed(name).is_some()
    }

    fn fed(&self, name: &str) -> Option<&Binding> {
        let program = self.program();
        let states = program.states.iter().map(|state| &state.input);
        program.inputs.iter().chain(states).find(|binding| binding.name == name)
    }

    fn given(&self, name: &str) -> Option<&Binding> {
        let program = self.program();
        let states = program.states.iter().map(|state| &state.output);
        program.outputs.iter().chain(states).find(|binding| binding.name == name)
    }

    /// Writes an input, or a state, from dense bytes. Registers in its shape that have no value yet take it from `shape`.
    ///
    /// # Errors
    /// When name, shape or size do not fit.
    pub fn set_input(&mut self, name: &str, shape: &[usize], bytes: &[u8]) -> Result<(), SessionError> {
        let Some(view) = self.fed(name).map(|binding| binding.view.clone()) else {
            let program = self.program();
            let states = program.states.iter().map(|state| &state.input);
            let available = names(program.inputs.iter().chain(states));
            return Err(SessionError::Unknown { kind: "input", name: name.to_owned(), available });
        };
        self.bind_from_shape(&view, shape)?;
        let expected = view.shape(&self.registers);
        if expected != shape {
            return Err(SessionError::Shape { name: name.to_owned(), expected, found: shape.to_vec() });
        }
        let count = shape.iter().map(|&extent| extent as u64).product();
        let needed = view.element.packed_bytes(count).unwrap_or(u64::MAX);
        if needed != bytes.len() as u64 {
            let (name, shape, element) = (name.to_owned(), shape.to_vec(), view.element);
            return Err(SessionError::Bytes { name, shape, element, expected: needed, found: bytes.len() });
        }
        let source = Source::packed(view.element, shape, bytes).map_err(SessionError::Memory)?;
        let window = self.window(&view)?;
        let ([mut destination], []) =
            self.memory.borrow(self.constants.bytes(), [window], []).map_err(SessionError::Memory)?;
        index::copy(&mut destination, &source).map_err(SessionError::Memory)
    }

    /// Solves `constant + coefficient * register = extent` for registers that have no value yet.
    fn bind_from_shape(&mut self, view: &View, shape: &[usize]) -> Result<(), SessionError> {
        for (dim, &extent) in view.dims.iter().zip(shape) {
            let Some((bound, &[(register, coefficient)])) =
                dim.bound.as_ref().map(|bound| (bound, bound.terms()))
            else {
                continue;
            };
            let rest = extent as i64 - bound.constant_part();
            let place = usize::from(register.0);
            if !self.is_set[place] && self.program().registers[place].is_bound && rest % coefficient == 0 {
                let name = self.program().registers[place].name.clone();
                self.bind(&name, rest / coefficient)?;
            }
        }
        Ok(())
    }

    fn window(&self, view: &View) -> Result<Window, SessionError> {
        let size = self.memory.size(view.space, self.constants.bytes());
        Window::resolve(view, &self.registers, size).map_err(SessionError::Memory)
    }

    /// Runs the selected program to its end.
    ///
    /// # Errors
    /// The command that failed, and outputs and state are unspecified then; or a past that a quantised cache cannot begin at.
    pub fn run(&mut self) -> Result<(), SessionError> {
        let past = self.past();
        if let Some(past) = past {
            self.check_past(past)?;
        }
        self.interpret()?;
        if let Some(past) = past {
            self.ran(past);
        }
        Ok(())
    }

    fn interpret(&mut self) -> Result<(), SessionError> {
        let program = &self.programs[self.active];
        let mut interpreter = Interpreter {
            program,
            jumps: &self.jumps[self.active],
            constants: self.constants.bytes(),
            memory: &mut self.memory,
            workspace: &mut self.workspace,
            registers: &mut self.registers,
            loops: &mut self.loops,
            pending: &mut self.pending,
            mode: self.options.transfer_mode,
            extension: self.options.extension.as_deref(),
            work_left: self.options.work_max,
            visits: Visits::Times(1),
        };
        interpreter.run().map_err(|(command, fault)| {
            let failed = program.commands.get(command);
            SessionError::Run(Box::new(RunFailure {
                program: program.name.clone(),
                command,
                text: failed
                    .map(|failed| crate::disassemble::command_to_text(program, failed))
                    .unwrap_or_default(),
                location: program.location(command).map(str::to_owned),
                fault,
            }))
        })
    }

    /// An output, or a state after the run, as a dense tensor.
    ///
    /// # Errors
    /// When there is no such output.
    pub fn output(&mut self, name: &str) -> Result<Tensor, SessionError> {
        let view = self.given_view(name)?;
        self.read(&view)
    }

    /// The part of an output at these leading indices: `output_at("logits", &[0, row])` is one row of `[1, s, vocabulary]`.
    ///
    /// # Errors
    /// When there is no such output, or an index is out of range.
    pub fn output_at(&mut self, name: &str, indices: &[usize]) -> Result<Tensor, SessionError> {
        let mut view = self.given_view(name)?;
        let shape = view.shape(&self.registers);
        let bits = i64::from(view.element.bits());
        let is_inside =
            indices.len() <= shape.len() && indices.iter().zip(&shape).all(|(index, extent)| index < extent);
        if !is_inside || bits < 8 {
            return Err(SessionError::Shape {
                name: name.to_owned(),
                expected: shape,
                found: indices.to_vec(),
            });
        }
        let offset: i64 =
            indices.iter().zip(&view.strides).map(|(&index, &stride)| index as i64 * stride).sum();
        view.base_bytes = view.base_bytes.plus_constant(offset * bits / 8);
        view.dims.drain(..indices.len());
        view.strides.drain(..indices.len());
        self.read(&view)
    }

    fn given_view(&self, name: &str) -> Result<View, SessionError> {
        let program = self.program();
        let states = program.states.iter().map(|state| &state.output);
        let available = || names(program.outputs.iter().chain(states));
        let unknown =
            || SessionError::Unknown { kind: "output", name: name.to_owned(), available: available() };
        Ok(self.given(name).ok_or_else(unknown)?.view.clone())
    }

    fn read(&mut self, view: &View) -> Result<Tensor, SessionError> {
        let shape = view.shape(&self.registers);
        let count = shape.iter().map(|&extent| extent as u64).product();
        let mut bytes = vec![0; view.element.packed_bytes(count).unwrap_or(0) as usize];
        let window = self.window(view)?;
        let ([], [source]) =
            self.memory.borrow(self.constants.bytes(), [], [Some(window)]).map_err(SessionError::Memory)?;
        let mut destination =
            Destination::packed(view.element, &shape, &mut bytes).map_err(SessionError::Memory)?;
        if let Some(source) = source {
            index::copy(&mut destination, &source).map_err(SessionError::Memory)?;
        }
        Ok(Tensor { element: view.element, shape, bytes })
    }

    /// Element and shape that an input takes with the registers as they are; none when there is no such input.
    pub fn input_shape(&self, name: &str) -> Option<(Element, Vec<usize>)> {
        self.fed(name).map(|binding| (binding.view.element, binding.view.shape(&self.registers)))
    }
}

fn names<'a>(bindings: impl Iterator<Item = &'a Binding>) -> String {
    bindings.map(|binding| binding.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Programs that share state must lay it out alike.
fn same_states(first: &Program, other: &Program) -> Result<(), SessionError> {
    let place = |state: &StateBinding| {
        let view = &state.input.view;
        (
            view.space,
            view.element,
            view.base_bytes.clone(),
            view.strides.clone(),
            state.growing_axis,
            state.recent,
        )
    };
    for state in &first.states {
        let twin = other.states.iter().find(|twin| twin.input.name == state.input.name);
        if twin.is_none_or(|twin| place(twin) != place(state)) {
            return Err(SessionError::StateMismatch {
                first: first.name.clone(),
                second: other.name.clone(),
                state: state.input.name.clone(),
            });
        }
    }
    Ok(())
}

/// Room that the program's kernels ask for, so that runs need not allocate: four rows of the longest dimension in f64, the panels
/// of a matrix product, a tile of keys and values.
fn room_bytes(program: &Program) -> usize {
    const PANELS_BYTES: usize = (256 * 64 + 128 * 64) * 8 + 64;
    let longest =
        program.views.iter().flat_map(|view| &view.dims).map(|dim| dim.cap as usize).max().unwrap_or(0);
    // Hostile extents are not allocated ahead: a run asks for what it really uses.
    let row = longest.min(1 << 20);
    PANELS_BYTES.max(row * 4 * 8 + 128).max(64 * 2 * row.min(1 << 12) * 4)
}

#[cfg(test)]
pub(crate) mod tests;
