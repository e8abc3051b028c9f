//! A program: tables of registers, views, expressions and bindings, and the commands that name them; and its bytes.
//!
//! One artifact holds a program per chunk length; all of them share constants and state. [`ProgramBuilder`] makes one,
//! [`Program::encode`] and [`Program::decode`] bring it to bytes and back. Decoding is total: any bytes give a program or an
//! error, never a panic. Whether a decoded program makes sense is for [`crate::checker`] to say.
//!
//! ```
//! use tilewright_runtime::{commands::*, element::Element, stream::ProgramBuilder, view::{Space, View}};
//! let mut builder = ProgramBuilder::new("double", 0);
//! let x = View::contiguous(Space::Io, Element::F32, 0, [4u32]);
//! let y = View::contiguous(Space::Io, Element::F32, 64, [4u32]);
//! builder.input("x", x.clone());
//! builder.output("y", y.clone());
//! builder.space_bytes(Space::Io, 128);
//! let (x, y) = (builder.view(x), builder.view(y));
//! builder.push(Command::Binary { engine: Engine::Host, function: BinaryFunction::Add, destination: y, a: x, b: x });
//! let program = builder.finish();
//! assert_eq!(program.commands.len(), 2); // `end` is added
//! ```

use crate::commands::*;
use crate::decode::{Reader, read_command, read_expression, read_view};
use crate::element::Element;
use crate::encode::{encode_command, encode_expression, encode_view};
use crate::view::{Expression, Space, View};
use std::collections::BTreeMap;

/// Version of the encoded program; a reader refuses others.
pub const STREAM_VERSION: u16 = 4;
const STREAM_MAGIC: [u8; 4] = *b"TWP1";

/// What a register is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterInfo {
    /// Name of a bound register (the symbolic dimension); may be empty for scratch.
    pub name: String,
    /// Smallest value it takes.
    pub minimum: i64,
    /// Largest value it takes (for a context length: the window).
    pub maximum: i64,
    /// Set by the caller before a run, and constant during it; else written by the program.
    pub is_bound: bool,
}

/// A named tensor at the program's border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name in the source model.
    pub name: String,
    /// Where it lies. Extents may follow registers; strides are laid out by the caps.
    pub view: View,
}

/// A tensor that persists between runs: fed as `input` by the source model, handed back as `output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateBinding {
    /// What a run starts from, for example `past_key_values.0.key`.
    pub input: Binding,
    /// What a run leaves, for example `present.0.key`; begins at the same address.
    pub output: Binding,
    /// The dimension that grows with the context; none when the state has one size and is replaced as a whole.
    pub growing_axis: Option<u8>,
    /// Set for the parts of a cache that is quantised in blocks of tokens: back to where it can return.
    pub recent: Option<Recent>,
}

/// The full-precision end of a cache whose tokens are quantised in blocks once they are old enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recent {
    /// Tokens that the ring of full-precision entries holds; a multiple of `block`.
    pub ring: u32,
    /// Tokens per block.
    pub block: u32,
    /// A block is quantised when so many tokens follow it; a multiple of `block`.
    pub keep: u32,
}

impl Recent {
    /// Blocks that are quantised once there are `tokens` tokens.
    pub fn settled_blocks(&self, tokens: u64) -> u64 {
        tokens.saturating_sub(u64::from(self.keep)) / u64::from(self.block.max(1))
    }

    /// Whether all tokens that `tokens` tokens leave unquantised are still in a ring that has seen `written`.
    pub fn reaches(&self, written: u64, tokens: u64) -> bool {
        written <= self.settled_blocks(tokens) * u64::from(self.block) + u64::from(self.ring)
    }
}

/// Commands from `first_command` up to the next symbol come from `location`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Index of the first command.
    pub first_command: u32,
    /// Name in the source model.
    pub location: String,
}

/// A program, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Name, unique in an artifact.
    pub name: String,
    /// Tokens per run (the bucket); 0 when the program is not about tokens.
    pub chunk_length: u32,
    /// Registers by number.
    pub registers: Vec<RegisterInfo>,
    /// Bytes of each space, by [`Space`] tag. For `Constant` the least the constants must have.
    pub space_bytes: [u64; Space::COUNT],
    /// Views by id.
    pub views: Vec<View>,
    /// Expressions by id.
    pub expressions: Vec<Expression>,
    /// The commands; the last is `end`.
    pub commands: Vec<Command>,
    /// What the caller gives.
    pub inputs: Vec<Binding>,
    /// What the caller gets.
    pub outputs: Vec<Binding>,
    /// What persists.
    pub states: Vec<StateBinding>,
    /// Source locations, ascending by command; travels in a section of its own.
    pub symbols: Vec<Symbol>,
}

/// Why bytes are not a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The first bytes are not a program's.
    #[error("not a program: the magic bytes are missing")]
    Magic,
    /// Made by another version.
    #[error("program format version {found}, this runtime reads {STREAM_VERSION}")]
    Version {
        /// version in the bytes
        found: u16,
    },
    /// Truncated, or a value outside its set.
    #[error("malformed {what} at byte {position}")]
    Malformed {
        /// which table
        what: &'static str,
        /// where
        position: usize,
    },
}

impl Program {
    /// The source location of a command.
    pub fn location(&self, command: usize) -> Option<&str> {
        let after = self.symbols.partition_point(|symbol| symbol.first_command as usize <= command);
        let location = &self.symbols[after.checked_sub(1)?].location;
        (!location.is_empty()).then_some(location)
    }

    /// The register bound under this name.
    pub fn register(&self, name: &str) -> Option<Register> {
        let found = self.registers.iter().position(|register| register.is_bound && register.name == name)?;
        Some(Register(found as u16))
    }

    /// The program's bytes, without symbols.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(STREAM_MAGIC);
        bytes.extend(STREAM_VERSION.to_le_bytes());
        put_string(&self.name, &mut bytes);
        bytes.extend(self.chunk_length.to_le_bytes());
        self.space_bytes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        put_list(&self.registers, &mut bytes, |register, bytes| {
            put_string(&register.name, bytes);
            bytes.extend(register.minimum.to_le_bytes());
            bytes.extend(register.maximum.to_le_bytes());
            bytes.push(u8::from(register.is_bound));
        });
        put_list(&self.views, &mut bytes, encode_view);
        put_list(&self.expressions, &mut bytes, encode_expression);
        put_list(&self.inputs, &mut bytes, put_binding);
        put_list(&self.outputs, &mut bytes, put_binding);
        put_list(&self.states, &mut bytes, |state, bytes| {
            put_binding(&state.input, bytes);
            put_binding(&state.output, bytes);
            bytes.push(state.growing_axis.unwrap_or(u8::MAX));
            let recent = state.recent.unwrap_or(Recent { ring: 0, block: 0, keep: 0 });
            [recent.ring, recent.block, recent.keep]
                .iter()
                .for_each(|count| bytes.extend(count.to_le_bytes()));
        });
        put_list(&self.commands, &mut bytes, encode_command);
        bytes
    }

    /// Reads what [`Program::encode`] wrote.
    ///
    /// # Errors
    /// [`StreamError`] for anything else; bytes after the last command are an error too.
    pub fn decode(bytes: &[u8]) -> Result<Program, StreamError> {
        let mut reader = Reader::new(bytes);
        if reader.array() != Some(STREAM_MAGIC) {
            return Err(StreamError::Magic);
        }
        let reader = &mut reader;
        let version = named("version", reader, Reader::u16)?;
        if version != STREAM_VERSION {
            return Err(StreamError::Version { found: version });
        }
        let program = Program {
            name: named("name", reader, Reader::string)?,
            chunk_length: named("chunk length", reader, Reader::u32)?,
            space_bytes: named("space sizes", reader, |reader| {
                let mut sizes = [0; Space::COUNT];
                for size in &mut sizes {
                    *size = reader.u64()?;
                }
                Some(sizes)
            })?,
            registers: list("register table", reader, 21, |reader| {
                Some(RegisterInfo {
                    name: reader.string()?,
                    minimum: reader.i64()?,
                    maximum: reader.i64()?,
                    is_bound: reader.bool()?,
                })
            })?,
            views: list("view table", reader, 12, read_view)?,
            expressions: list("expression table", reader, 9, read_expression)?,
            inputs: list("input table", reader, 16, read_binding)?,
            outputs: list("output table", reader, 16, read_binding)?,
            states: list("state table", reader, 45, |reader| {
                let (input, output) = (read_binding(reader)?, read_binding(reader)?);
                let axis = reader.u8()?;
                let growing_axis = (axis != u8::MAX).then_some(axis);
                let (ring, block, keep) = (reader.u32()?, reader.u32()?, reader.u32()?);
                // Blocks that do not divide the rest could not be found again in the ring.
                let fits = |count: u32| block != 0 && count.is_multiple_of(block);
                let is_none = (ring, block, keep) == (0, 0, 0);
                let is_ring = ring != 0 && fits(ring) && fits(keep);
                if !is_none && !is_ring {
                    return None;
                }
                let recent = is_ring.then_some(Recent { ring, block, keep });
                Some(StateBinding { input, output, growing_axis, recent })
            })?,
            commands: list("commands", reader, 1, read_command)?,
            symbols: Vec::new(),
        };
        if reader.remaining() != 0 {
            return Err(StreamError::Malformed { what: "end of program", position: reader.position() });
        }
        Ok(program)
    }

    /// The bytes of the symbol section.
    pub fn encode_symbols(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_list(&self.symbols, &mut bytes, |symbol, bytes| {
            bytes.extend(symbol.first_command.to_le_bytes());
            put_string(&symbol.location, bytes);
        });
        bytes
    }

    /// Reads what [`Program::encode_symbols`] wrote into `self.symbols`.
    ///
    /// # Errors
    /// [`StreamError::Malformed`] for anything else, or when the symbols do not ascend.
    pub fn decode_symbols(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let mut reader = Reader::new(bytes);
        let symbols = list("symbol table", &mut reader, 8, |reader| {
            Some(Symbol { first_command: reader.u32()?, location: reader.string()? })
        })?;
        if reader.remaining() != 0 || !symbols.is_sorted_by_key(|symbol| symbol.first_command) {
            return Err(StreamError::Malformed { what: "symbol table", position: reader.position() });
        }
        self.symbols = symbols;
        Ok(())
    }
}

fn put_string(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put_list<T>(items: &[T], bytes: &mut Vec<u8>, mut put: impl FnMut(&T, &mut Vec<u8>)) {
    bytes.extend((items.len() as u32).to_le_bytes());
    items.iter().for_each(|item| put(item, bytes));
}

fn put_binding(binding: &Binding, bytes: &mut Vec<u8>) {
    put_string(&binding.name, bytes);
    encode_view(&binding.view, bytes);
}

fn read_binding(reader: &mut Reader<'_>) -> Option<Binding> {
    Some(Binding { name: reader.string()?, view: read_view(reader)? })
}

fn named<'a, T>(
    what: &'static str,
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Result<T, StreamError> {
    read(reader).ok_or(StreamError::Malformed { what, position: reader.position() })
}

/// A u32 count and so many items of at least `item_bytes` each. Memory grows with what was read, not with the count.
fn list<'a, T>(
    what: &'static str,
    reader: &mut Reader<'a>,
    item_bytes: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Result<Vec<T>, StreamError> {
    named(what, reader, |reader| {
        let count = reader.count(item_bytes)?;
        (0..count).map(|_| read(reader)).collect()
    })
}

/// Makes a [`Program`]: equal views and expressions get one id, locations are recorded as they change.
#[derive(Clone, Debug, Default)]
pub struct ProgramBuilder {
    program: Program,
    views: BTreeMap<View, ViewId>,
    expressions: BTreeMap<Expression, ExpressionId>,
    tokens: u16,
}

impl ProgramBuilder {
    /// An empty program. `chunk_length` is the number of tokens per run, 0 when it is not about tokens.
    pub fn new(name: impl Into<String>, chunk_length: u32) -> ProgramBuilder {
        ProgramBuilder {
            program: Program { name: name.into(), chunk_length, ..Program::default() },
            ..ProgramBuilder::default()
        }
    }

    /// A register that the caller binds before a run, in `minimum..=maximum`. The same name gives the same register.
    pub fn bound_register(&mut self, name: &str, minimum: i64, maximum: i64) -> Register {
        if let Some(register) = self.program.register(name) {
            return register;
        }
        self.add_register(RegisterInfo { name: name.to_owned(), minimum, maximum, is_bound: true })
    }

    /// A register for loops and values read from memory, in `0..=maximum`.
    pub fn scratch_register(&mut self, maximum: i64) -> Register {
        self.add_register(RegisterInfo { name: String::new(), minimum: 0, maximum, is_bound: false })
    }

    fn add_register(&mut self, register: RegisterInfo) -> Register {
        let index = u16::try_from(self.program.registers.len()).expect("at most 65536 registers");
        self.program.registers.push(register);
        Register(index)
    }

    /// A token that no other transfer uses (they wrap after 65536, which waits in between make harmless).
    pub fn token(&mut self) -> u16 {
        self.tokens = self.tokens.wrapping_add(1);
        self.tokens.wrapping_sub(1)
    }

    /// The id of a view.
    pub fn view(&mut self, view: View) -> ViewId {
        let next = ViewId(self.program.views.len() as u32);
        let id = *self.views.entry(view.clone()).or_insert(next);
        if id == next {
            self.program.views.push(view);
        }
        id
    }

    /// The id of an expression.
    pub fn expression(&mut self, expression: impl Into<Expression>) -> ExpressionId {
        let expression = expression.into();
        let next = ExpressionId(self.program.expressions.len() as u32);
        let id = *self.expressions.entry(expression.clone()).or_insert(next);
        if id == next {
            self.program.expressions.push(expression);
        }
        id
    }

    /// Appends a command; returns its index.
    pub fn push(&mut self, command: Command) -> usize {
        self.program.commands.push(command);
        self.program.commands.len() - 1
    }

    /// Commands from here on come from this source location.
    pub fn location(&mut self, location: &str) {
        let first_command = self.program.commands.len() as u32;
        let symbols = &mut self.program.symbols;
        if symbols.last().is_some_and(|symbol| symbol.first_command == first_command) {
            symbols.pop();
        }
        if symbols.last().is_none_or(|symbol| symbol.location != location) {
            symbols.push(Symbol { first_command, location: location.to_owned() });
        }
    }

    /// Declares an input.
    pub fn input(&mut self, name: impl Into<String>, view: View) {
        self.program.inputs.push(Binding { name: name.into(), view });
    }

    /// Declares an output.
    pub fn output(&mut self, name: impl Into<String>, view: View) {
        self.program.outputs.push(Binding { name: name.into(), view });
    }

    /// Declares a state.
    pub fn state(&mut self, state: StateBinding) {
        self.program.states.push(state);
    }

    /// Declares the size of a space.
    pub fn space_bytes(&mut self, space: Space, bytes: u64) {
        self.program.space_bytes[space as usize] = bytes;
    }

    /// The view with this id, as given.
    pub fn view_of(&self, id: ViewId) -> &View {
        &self.program.views[id.0 as usize]
    }

    /// Number of commands so far.
    pub fn command_count(&self) -> usize {
        self.program.commands.len()
    }

    /// Adds `end` and hands out the program.
    pub fn finish(mut self) -> Program {
        if self.program.commands.last() != Some(&Command::End {}) {
            self.push(Command::End {});
        }
        self.program
    }
}

/// A constant as seen by `inspect`: name, place and type of one weight in the constants section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstantInfo {
    /// Name in the source model.
    pub name: String,
    /// What is in it.
    pub element: Element,
    /// Extents.
    pub shape: Vec<u64>,
    /// Where it begins in the constants.
    pub offset_bytes: u64,
    /// Its length.
    pub bytes: u64,
}
