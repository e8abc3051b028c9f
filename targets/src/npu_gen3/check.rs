//! The machine's rules on a finished command stream, whoever made it: an independent check that shares no code with the lowerings.
//!
//! The runtime's checker proves that views stay in their spaces and that transfers are waited for; here are the rules of `ISA.md`
//! that only this machine has. It must not know the IR.
//!
//! ```text
//! binary vector destination=dram[0x0] ..   =>   rule 1: command 3, vector engine touches dram
//! ```

use std::fmt;
use tilewright_passes::machine::Machine;
use tilewright_runtime::commands::{Command, Engine, Kind};
use tilewright_runtime::element::{Class, Element};
use tilewright_runtime::stream::Program;
use tilewright_runtime::view::{Space, View};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the rule in `ISA.md`.
    pub rule: u8,
    /// Index of the command; none when it is about the whole program.
    pub command: Option<usize>,
    /// What is wrong, with both values.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Some(command) => write!(f, "rule {}: command {command}: {}", self.rule, self.what),
            None => write!(f, "rule {}: {}", self.rule, self.what),
        }
    }
}

/// Every violation, in order of the commands.
pub fn check(program: &Program, machine: &Machine) -> Vec<Violation> {
    let mut found = Vec::new();
    for (space, available) in
        [(Space::Sram, machine.sram_bytes), (Space::Accumulator, machine.accumulator_bytes)]
    {
        let used = program.space_bytes[space as usize];
        if used > available {
            let what = format!("{space} takes {used} bytes, the machine has {available}");
            found.push(Violation { rule: 3, command: None, what });
        }
    }
    for (index, command) in program.commands.iter().enumerate() {
        let Some(engine) = command.engine() else { continue };
        let mut add = |rule: u8, what: String| found.push(Violation { rule, command: Some(index), what });
        match engine {
            Engine::Host => {}
            Engine::Dma0 | Engine::Dma1 => {
                if command.kind() != Kind::Movement || writes_numbers(command) {
                    add(2, format!("{} on {engine}: a DMA engine moves bytes only", command.name()));
                }
            }
            Engine::Matrix | Engine::Vector => {
                command.for_each_view(|field, _, id| {
                    if let Some(view) = program.views.get(id.0 as usize)
                        && !view.space.is_on_chip()
                    {
                        add(1, format!("{} on {engine} touches {} ({field})", command.name(), view.space));
                    }
                });
                if let Some(what) = wrong_elements(program, command, engine) {
                    add(4, what);
                }
            }
        }
    }
    found
}

/// Movement that makes values: not a DMA engine's.
fn writes_numbers(command: &Command) -> bool {
    matches!(
        command,
        Command::Fill { .. }
            | Command::Iota { .. }
            | Command::ScatterElements { .. }
            | Command::ScatterNd { .. }
    )
}

/// Element types that the engine does not multiply or compute on.
fn wrong_elements(program: &Program, command: &Command, engine: Engine) -> Option<String> {
    let element = |view: &View| view.element;
    let mut elements = Vec::new();
    command.for_each_view(|field, _, id| {
        elements.extend(program.views.get(id.0 as usize).map(|view| (field, element(view))));
    });
    let of = |field: &str| elements.iter().find(|entry| entry.0 == field).map(|entry| entry.1);
    let multiplied = match command {
        Command::Matmul { .. } | Command::MatmulInteger { .. } => of("a").zip(of("b")),
        Command::Convolution { .. } | Command::ConvTranspose { .. } => of("x").zip(of("w")),
        Command::Attention { .. } => of("q").zip(of("k")),
        _ => None,
    };
    if let Some((a, b)) = multiplied {
        let is_integer = |element: Element| matches!(element.class(), Class::Signed | Class::Unsigned);
        let integers = is_integer(a) && is_integer(b) && a.bits() <= 8 && b.bits() <= 8;
        let is_attention = matches!(command, Command::Attention { .. });
        let floats = matches!(a, Element::F32 | Element::F16 | Element::BF16)
            && (a == b || b.bits() <= 8 || b == Element::F32 || is_attention && b == Element::F16);
        let fits = match command {
            Command::MatmulInteger { .. } => integers,
            Command::Convolution { .. } => floats || integers,
            Command::Matmul { scale: Some(_), .. } => floats || integers,
            _ => floats,
        };
        return (!fits).then(|| format!("the matrix engine does not multiply {} by {}", a.name(), b.name()));
    }
    let narrow = elements.iter().find(|(_, element)| element.bits() < 8);
    match (engine, narrow) {
        // Packed elements are unpacked by conversions alone.
        (Engine::Vector, Some((field, element))) if !converts(command) => {
            Some(format!("{} on the vector engine computes on {} ({field})", command.name(), element.name()))
        }
        _ => None,
    }
}

fn converts(command: &Command) -> bool {
    matches!(
        command,
        Command::Convert { .. }
            | Command::Quantize { .. }
            | Command::QuantizeGroups { .. }
            | Command::Dequantize { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_runtime::commands::UnaryFunction;
    use tilewright_runtime::stream::ProgramBuilder;

    fn view(space: Space, element: Element) -> View {
        View::contiguous(space, element, 0, [4u32])
    }

    fn rules(make: impl FnOnce(&mut ProgramBuilder)) -> Vec<u8> {
        let mut builder = ProgramBuilder::new("test", 0);
        make(&mut builder);
        check(&builder.finish(), &super::super::machine::machine()).iter().map(|found| found.rule).collect()
    }

    fn unary(builder: &mut ProgramBuilder, engine: Engine, space: Space) {
        let x = builder.view(view(space, Element::F32));
        let function = UnaryFunction::Silu;
        builder.push(Command::Unary { engine, function, destination: x, x, alpha: 0.0, beta: 0.0 });
    }

    #[test]
    fn engines_stay_on_chip() {
        assert_eq!(rules(|builder| unary(builder, Engine::Vector, Space::Sram)), []);
        assert_eq!(rules(|builder| unary(builder, Engine::Host, Space::Dram)), []);
        assert_eq!(rules(|builder| unary(builder, Engine::Vector, Space::Dram)), [1, 1]);
    }

    #[test]
    fn dma_engines_do_not_compute() {
        let fill = |engine| {
            rules(|builder| {
                let destination = builder.view(view(Space::Dram, Element::F32));
                builder.push(Command::Fill { engine, destination, value: 0.0 });
            })
        };
        assert_eq!(fill(Engine::Dma0), [2]);
        assert_eq!(fill(Engine::Host), []);
    }

    #[test]
    fn on_chip_memory_has_an_end() {
        assert_eq!(rules(|builder| builder.space_bytes(Space::Sram, (1 << 20) + 1)), [3]);
        assert_eq!(rules(|builder| builder.space_bytes(Space::Accumulator, 64 << 10)), []);
    }

    #[test]
    fn the_matrix_engine_has_its_types() {
        let multiply = |a: Element, b: Element| {
            rules(|builder| {
                let matrix = |element| View::contiguous(Space::Sram, element, 0, [4u32, 4]);
                let destination = builder.view(matrix(Element::F32));
                let (a, b) = (builder.view(matrix(a)), builder.view(matrix(b)));
                builder.push(Command::Matmul {
                    engine: Engine::Matrix,
                    destination,
                    a,
                    b,
                    scale: None,
                    zero_point: None,
                    codebook: None,
                    indices: None,
                    block: 0,
                    accumulate: false,
                });
            })
        };
        assert_eq!(multiply(Element::F16, Element::I4), []);
        assert_eq!(multiply(Element::F64, Element::F64), [4]);
        assert_eq!(multiply(Element::F32, Element::I64), [4]);
    }
}
