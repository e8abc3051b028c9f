//! Findings for each kind of fault, and random programs: what the checker accepts runs without a fault of bounds, and what it
//! would refuse is an error, not a panic, when run all the same.

use super::*;
use crate::arbitrary::{ByteSource, arbitrary_command};
use crate::commands::{BinaryFunction, ExpressionId, Opcode, UnaryFunction};
use crate::element::Element;
use crate::interpreter::{Interpreter, TransferMode, Visits};
use crate::kernels::Fault;
use crate::memory::{Memory, Workspace};
use crate::random::Random;
use crate::stream::{ProgramBuilder, RegisterInfo};
use crate::view::Extent;

fn first_finding(builder: ProgramBuilder) -> String {
    match check(&builder.finish(), 64, &Limits::default(), None) {
        Ok(()) => "accepted".to_owned(),
        Err(findings) => findings[0].to_string(),
    }
}

fn builder() -> ProgramBuilder {
    let mut builder = ProgramBuilder::new("test", 0);
    for space in [Space::Io, Space::Dram, Space::Sram] {
        builder.space_bytes(space, 64);
    }
    builder
}

fn tile(builder: &mut ProgramBuilder, space: Space, element: Element, count: u32) -> ViewId {
    builder.view(View::contiguous(space, element, 0, [count]))
}

fn relu(engine: Engine, destination: ViewId, x: ViewId) -> Command {
    Command::Unary { engine, function: UnaryFunction::Relu, destination, x, alpha: 0.0, beta: 0.0 }
}

#[test]
fn each_fault_is_named() {
    let with = |space, element, count, make: &dyn Fn(ViewId) -> Command| {
        let mut builder = builder();
        let view = tile(&mut builder, space, element, count);
        builder.push(make(view));
        first_finding(builder)
    };
    let on = |engine| move |view| relu(engine, view, view);
    assert_eq!(with(Space::Sram, Element::F32, 16, &on(Engine::Vector)), "accepted");
    assert!(
        with(Space::Sram, Element::F32, 17, &on(Engine::Vector))
            .contains("may touch bytes 0..68 of sram, which has 64")
    );
    assert!(with(Space::Dram, Element::F32, 16, &on(Engine::Vector)).contains("cannot reach dram"));
    assert!(
        with(Space::Dram, Element::F32, 16, &on(Engine::Matrix)).contains("does not run on engine matrix")
    );
    assert!(
        with(Space::Constant, Element::F32, 16, &on(Engine::Host))
            .contains("the constants cannot be written")
    );
    assert!(
        with(Space::Sram, Element::F32, 4, &|_| relu(Engine::Host, ViewId(7), ViewId(0))).contains("view id")
    );
    assert!(
        with(Space::Sram, Element::F32, 1, &|condition| Command::IfBegin { condition })
            .contains("not closed")
    );
    assert!(
        with(Space::Sram, Element::F32, 4, &|_| Command::Wait { token: 9 })
            .contains("token 9, which no transfer has")
    );
    let target = |_| Command::Target { opcode: 0x81, payload: Box::default() };
    assert!(with(Space::Sram, Element::F32, 4, &target).contains("needs a target's extension"));
    let add = |view| Command::Binary {
        engine: Engine::Host,
        function: BinaryFunction::Less,
        destination: view,
        a: view,
        b: view,
    };
    assert!(with(Space::Sram, Element::F32, 4, &add).contains("a comparison makes bool"));
}

#[test]
fn registers_have_values_only_where_they_do() {
    let mut builder = builder();
    let counter = builder.scratch_register(10);
    let view = View::contiguous(Space::Sram, Element::U8, Expression::register(counter), [1u32]);
    let view = builder.view(view);
    let end = builder.expression(8);
    builder.push(Command::LoopBegin { register: counter, end, step: 1 });
    builder.push(relu(Engine::Vector, view, view));
    builder.push(Command::LoopEnd {});
    assert_eq!(first_finding(builder.clone()), "accepted");
    builder.push(relu(Engine::Vector, view, view));
    assert!(first_finding(builder).contains("register r0 has no value here"));
}

#[test]
fn nested_use_of_one_counter_is_refused() {
    let mut builder = builder();
    let register = builder.scratch_register(10);
    let end: ExpressionId = builder.expression(8);
    for _ in 0..2 {
        builder.push(Command::LoopBegin { register, end, step: 1 });
    }
    for _ in 0..2 {
        builder.push(Command::LoopEnd {});
    }
    assert!(first_finding(builder).contains("counts a loop that is open"));
}

#[test]
fn transfers_meet_themselves_around_a_loop() {
    let mut builder = builder();
    let register = builder.scratch_register(10);
    let end = builder.expression(8);
    let (source, destination) =
        (tile(&mut builder, Space::Dram, Element::F32, 4), tile(&mut builder, Space::Sram, Element::F32, 4));
    builder.push(Command::LoopBegin { register, end, step: 1 });
    builder.push(relu(Engine::Vector, destination, destination));
    builder.push(Command::Transfer { engine: Engine::Dma0, token: 3, destination, source });
    builder.push(Command::LoopEnd {});
    let finding = first_finding(builder);
    assert!(finding.starts_with("command 1: writes on-chip bytes 0..16 while transfer 3"), "{finding}");
}

/// A program of random views and random commands on them.
fn random_program(random: &mut Random) -> Program {
    let mut program = Program { space_bytes: [64, 4096, 4096, 4096, 4096, 4096], ..Program::default() };
    let is_bound = |index: u16| index < 2;
    program.registers = (0..8)
        .map(|index| {
            let maximum = random.below(6) as i64;
            RegisterInfo { name: format!("r{index}"), minimum: 0, maximum, is_bound: is_bound(index) }
        })
        .collect();
    let expression = |random: &mut Random| {
        let register = Register(random.below(3) as u16);
        let coefficient = if random.below(2) == 0 { 0 } else { random.below(9) as i64 - 4 };
        Expression::new(random.below(12) as i64, [(register, coefficient)])
    };
    program.expressions = (0..32).map(|_| expression(random)).collect();
    let mut few: Vec<Element> = (0..2).map(|_| Element::ALL[random.below(20) as usize]).collect();
    few.extend([few[0], Element::F32, [Element::I64, Element::I32, Element::Bool][random.below(3) as usize]]);
    // Few ranks and extents, so that operands often fit each other.
    let usual_rank = random.below(6) as usize;
    let extents: [u32; 3] = [1 + random.below(2) as u32, 1 + random.below(4) as u32, random.below(4) as u32];
    for _ in 0..32 {
        let rank = if random.below(3) == 0 {
            (usual_rank + random.below(3) as usize).saturating_sub(1)
        } else {
            usual_rank
        };
        let mut view = View {
            space: Space::ALL[if random.below(9) == 0 { 0 } else { 1 + random.below(5) as usize }],
            element: few[random.below(few.len() as u64) as usize],
            base_bytes: expression(random).times(random.below(8) as i64),
            dims: Vec::new(),
            strides: Vec::new(),
        };
        for _ in 0..rank {
            let cap = if random.below(16) == 0 {
                random.below(6) as u32
            } else {
                extents[(random.below(5) / 2) as usize]
            };
            view.dims.push(if random.below(8) == 0 {
                Extent::bounded(cap, expression(random))
            } else {
                Extent::fixed(cap)
            });
        }
        view.strides = crate::view::row_major_strides(&view.dims);
        if random.below(5) == 0 {
            view.strides.iter_mut().for_each(|stride| *stride = random.below(7) as i64 - 2);
        }
        program.views.push(view);
    }
    for _ in 0..1 + random.below(3) {
        let noise: Vec<u8> = (0..64).map(|_| random.next_u64() as u8).collect();
        program.commands.push(arbitrary_command(&mut ByteSource::new(&noise)));
    }
    program.commands.push(Command::End {});
    program
}

/// Runs without asking the checker.
fn run_unchecked(program: &Program, mode: TransferMode) -> Result<(), (usize, Fault)> {
    let mut memory = Memory::new(&program.space_bytes).expect("small");
    let mut registers: Vec<i64> = program.registers.iter().map(|register| register.maximum).collect();
    let jumps = jump_table(&program.commands).unwrap_or_default();
    Interpreter {
        program,
        jumps: &jumps,
        constants: &[3; 64],
        memory: &mut memory,
        workspace: &mut Workspace::default(),
        registers: &mut registers,
        loops: &mut Vec::new(),
        pending: &mut Vec::new(),
        mode,
        extension: None,
        work_left: 20_000,
        visits: Visits::Times(1),
    }
    .run()
}

#[test]
fn random_programs_never_panic_and_accepted_ones_stay_in_bounds() {
    // A longer run: TILEWRIGHT_FUZZ_ROUNDS=1000000 cargo test -p tilewright-runtime random_programs
    let rounds =
        std::env::var("TILEWRIGHT_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    let mut random = Random::new(rounds);
    let limits = Limits { engines_stay_on_chip: false, ..Limits::default() };
    let mut accepted = 0;
    let mut finished = BTreeSet::new();
    for round in 0..rounds {
        let program = random_program(&mut random);
        let mode = if round % 2 == 0 { TransferMode::Immediate } else { TransferMode::AtWait };
        let result = run_unchecked(&program, mode);
        if result.is_ok() {
            finished.extend(program.commands.iter().map(Command::name));
        }
        if check(&program, 64, &limits, None).is_ok() {
            accepted += 1;
            let is_bounds = matches!(
                result,
                Err((_, Fault::OutOfBounds { .. } | Fault::ConstantWrite | Fault::Malformed(_)))
            );
            assert!(!is_bounds, "accepted, but {result:?}: {program:#?}");
        }
    }
    assert!(accepted > rounds / 150, "only {accepted} accepted");
    let never: Vec<&str> =
        Opcode::ALL.iter().map(|opcode| opcode.name()).filter(|name| !finished.contains(name)).collect();
    assert!(never.is_empty(), "these ran in no random program: {never:?}");
}
