//! Programs as text. Generated from the table: field names and values of every command, views written out in place.
//!
//! Offsets and bytes are switches, so that snapshots can leave them out. This file must not know what a command does.
//!
//! ```text
//! program decode  chunk 1
//! register past_seq 0..8191
//! input input_ids io[0x0] i64<1x1:1,1>
//! loop_begin register=r1 end=64 step=32
//!   matmul matrix destination=acc[0x0] f32<1x32:32,1> a=sram[0x0] .. accumulate=false   ; /layers.0/q_proj/MatMul
//! loop_end
//! end
//! ```

use crate::command_table::for_each_command;
use crate::commands::*;
use crate::encode::{Field, encode_command};
use crate::stream::Program;
use crate::view::{Expression, Extent, Space, View};
use std::fmt::Write;

/// Switches of the disassembler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Print each command's offset in the encoded stream.
    pub offsets: bool,
    /// Print each command's bytes.
    pub hexdump: bool,
    /// Leave out source locations.
    pub without_locations: bool,
}

/// Resolves ids for the field printers.
pub(crate) struct Printer<'a> {
    program: Option<&'a Program>,
}

impl Printer<'_> {
    /// A register's name, or its number.
    pub(crate) fn register(&self, register: Register) -> String {
        let name = self
            .program
            .and_then(|program| program.registers.get(usize::from(register.0)))
            .map(|info| &info.name);
        match name {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("r{}", register.0),
        }
    }

    /// A view written out, or its id when it does not exist.
    pub(crate) fn view(&self, id: ViewId) -> String {
        match self.program.and_then(|program| program.views.get(id.0 as usize)) {
            Some(view) => self.view_text(view),
            None => format!("view#{}", id.0),
        }
    }

    /// An expression written out, or its id when it does not exist.
    pub(crate) fn expression(&self, id: ExpressionId) -> String {
        match self.program.and_then(|program| program.expressions.get(id.0 as usize)) {
            Some(expression) => self.expression_text(expression, false),
            None => format!("expression#{}", id.0),
        }
    }

    fn expression_text(&self, expression: &Expression, hexadecimal: bool) -> String {
        let number = |value: i64| match (hexadecimal, value < 0) {
            (false, _) => value.to_string(),
            (true, false) => format!("{value:#x}"),
            (true, true) => format!("-{:#x}", value.unsigned_abs()),
        };
        let mut text = String::new();
        if expression.constant_part() != 0 || expression.terms().is_empty() {
            text.push_str(&number(expression.constant_part()));
        }
        for &(register, coefficient) in expression.terms() {
            let (sign, size) =
                if coefficient < 0 { ("-", coefficient.saturating_neg()) } else { ("+", coefficient) };
            match (text.is_empty(), sign) {
                (true, "-") => text.push('-'),
                (true, _) => {}
                (false, _) => {
                    let _ = write!(text, " {sign} ");
                }
            }
            if size != 1 {
                let _ = write!(text, "{}*", number(size));
            }
            text.push_str(&self.register(register));
        }
        text
    }

    fn extent_text(&self, extent: &Extent) -> String {
        match &extent.bound {
            None => extent.cap.to_string(),
            Some(bound) => format!("min({}, {})", extent.cap, self.expression_text(bound, false)),
        }
    }

    /// `sram[0x400 + 0x80*r1] f32<32x64:64,1>`; a scalar is `f32<>`.
    fn view_text(&self, view: &View) -> String {
        let base = self.expression_text(&view.base_bytes, true);
        let mut text = format!("{}[{base}] {}<", view.space, view.element);
        let dims: Vec<String> = view.dims.iter().map(|dim| self.extent_text(dim)).collect();
        text.push_str(&dims.join("x"));
        if !dims.is_empty() {
            let strides: Vec<String> = view.strides.iter().map(i64::to_string).collect();
            let _ = write!(text, ":{}", strides.join(","));
        }
        text.push('>');
        text
    }
}

macro_rules! define_disassembler {
    ($( $(#[$doc:meta])* $opcode:literal $kind:ident $name:ident = $variant:ident {
        $( $(#[$field_doc:meta])* $([$access:ident])? $field:ident: $type:ty, )*
    }, )*) => {
        fn print_command(command: &Command, printer: &Printer<'_>, text: &mut String) {
            text.push_str(command.name());
            match command {
                $( Command::$variant { $( $field, )* } => {
                    $( print_field(stringify!($field), $field, printer, text); )*
                } )*
                Command::Target { opcode, payload } => {
                    let _ = write!(text, " opcode={opcode:#04x} payload=");
                    payload.iter().for_each(|byte| { let _ = write!(text, "{byte:02x}"); });
                }
            }
        }
    };
}

for_each_command!(define_disassembler);

/// ` name=value`; an engine needs no name.
fn print_field(name: &str, field: &impl Field, printer: &Printer<'_>, text: &mut String) {
    text.push(' ');
    if field.engine().is_none() {
        text.push_str(name);
        text.push('=');
    }
    field.print(printer, text);
}

impl std::fmt::Display for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        print_command(self, &Printer { program: None }, &mut text);
        formatter.write_str(&text)
    }
}

/// The text of one view of a program.
pub fn view_to_text(program: &Program, view: &View) -> String {
    Printer { program: Some(program) }.view_text(view)
}

/// The text of one command with its views written out.
pub fn command_to_text(program: &Program, command: &Command) -> String {
    let mut text = String::new();
    print_command(command, &Printer { program: Some(program) }, &mut text);
    text
}

/// The text of a whole program: header tables, then one command a line.
pub fn disassemble(program: &Program, options: Options) -> String {
    let printer = Printer { program: Some(program) };
    let mut text = format!("program {}  chunk {}\n", program.name, program.chunk_length);
    for space in Space::ALL {
        if program.space_bytes[space as usize] != 0 {
            let _ = writeln!(text, "space {space} {} bytes", program.space_bytes[space as usize]);
        }
    }
    for (index, register) in program.registers.iter().enumerate() {
        let name = printer.register(Register(index as u16));
        let kind = if register.is_bound { "register" } else { "scratch register" };
        let _ = writeln!(text, "{kind} {name} {}..{}", register.minimum, register.maximum);
    }
    for binding in &program.inputs {
        let _ = writeln!(text, "input {} {}", binding.name, printer.view_text(&binding.view));
    }
    for binding in &program.outputs {
        let _ = writeln!(text, "output {} {}", binding.name, printer.view_text(&binding.view));
    }
    for state in &program.states {
        let (old, new) = (printer.view_text(&state.input.view), printer.view_text(&state.output.view));
        let _ = writeln!(text, "state {} {old} -> {} {new}", state.input.name, state.output.name);
    }
    let mut depth = 0usize;
    let mut offset_bytes = 0usize;
    for (index, command) in program.commands.iter().enumerate() {
        let mut bytes = Vec::new();
        encode_command(command, &mut bytes);
        if options.offsets {
            let _ = write!(text, "{offset_bytes:6x}: ");
        }
        if options.hexdump {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = write!(text, "{}  ", hex.join(" "));
        }
        offset_bytes += bytes.len();
        if matches!(command, Command::LoopEnd {} | Command::IfEnd {} | Command::Else {}) {
            depth = depth.saturating_sub(1);
        }
        text.push_str(&"  ".repeat(depth.min(64)));
        print_command(command, &printer, &mut text);
        if matches!(command, Command::LoopBegin { .. } | Command::IfBegin { .. } | Command::Else {}) {
            depth += 1;
        }
        match program.location(index) {
            Some(location) if !options.without_locations => {
                let _ = writeln!(text, "   ; {location}");
            }
            _ => text.push('\n'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;
    use crate::stream::ProgramBuilder;

    fn program() -> Program {
        let mut builder = ProgramBuilder::new("decode", 1);
        let past = builder.bound_register("past_seq", 0, 63);
        let counter = builder.scratch_register(64);
        let (past, i) = (Expression::register(past), Expression::register(counter));
        let x = View {
            space: Space::Sram,
            element: Element::F32,
            base_bytes: i.times(128).plus_constant(0x400),
            dims: vec![Extent::bounded(32, past.minus(&i).plus_constant(1)), 64.into()],
            strides: vec![64, 1],
        };
        builder.input("x", View::contiguous(Space::Io, Element::I64, 0, [0u32; 0]));
        builder.space_bytes(Space::Sram, 0x4000);
        let (x, end) = (builder.view(x), builder.expression(past.plus_constant(1)));
        builder.push(Command::LoopBegin { register: counter, end, step: 32 });
        builder.location("/model/norm");
        let (engine, kind) = (Engine::Vector, NormalizeKind::Rms);
        builder.push(Command::Normalize {
            engine,
            kind,
            destination: x,
            x,
            gain: None,
            bias: None,
            epsilon: 1e-5,
        });
        builder.location("");
        builder.push(Command::LoopEnd {});
        builder.push(Command::Target { opcode: 0x81, payload: vec![1, 0xab].into() });
        builder.finish()
    }

    #[test]
    fn programs_read_like_this() {
        let view = "sram[0x400 + 0x80*r1] f32<min(32, 1 + past_seq - r1)x64:64,1>";
        let expected = format!(
            "program decode  chunk 1\n\
             space sram 16384 bytes\n\
             register past_seq 0..63\n\
             scratch register r1 0..64\n\
             input x io[0x0] i64<>\n\
             loop_begin register=r1 end=1 + past_seq step=32\n  \
             normalize vector kind=rms destination={view} x={view} gain=none bias=none epsilon=1e-5   ; /model/norm\n\
             loop_end\n\
             target opcode=0x81 payload=01ab\n\
             end\n"
        );
        assert_eq!(disassemble(&program(), Options::default()), expected);
        let bare = disassemble(&program(), Options { offsets: true, hexdump: true, without_locations: true });
        assert!(
            bare.ends_with("    23: 81 02 00 01 ab  target opcode=0x81 payload=01ab\n    28: 00  end\n"),
            "{bare}"
        );
        assert!(!bare.contains("/model/norm"));
    }

    #[test]
    fn programs_survive_the_wire() {
        let mut program = program();
        let (bytes, symbols) = (program.encode(), program.encode_symbols());
        let mut back = Program::decode(&bytes).expect("what was encoded decodes");
        back.decode_symbols(&symbols).expect("what was encoded decodes");
        assert_eq!(back, program);
        for length in 0..bytes.len() {
            assert!(Program::decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        program.symbols.clear();
        assert_eq!(Program::decode(&bytes), Ok(program));
    }
}
