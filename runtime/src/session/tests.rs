//! Whole small programs: loops over tiles, state between runs, missing waits, faults with their place.

use super::*;
use crate::commands::*;
use crate::stream::{ProgramBuilder, StateBinding};
use crate::view::{Expression, Extent};

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// y [n, 4] = relu(x [n, 4]) + bias [4] in tiles of two rows through SRAM, n at most 7; two transfers in, one out.
pub(crate) fn tiled_program(forget_wait: bool) -> Program {
    let mut builder = ProgramBuilder::new("tiled", 0);
    let n = builder.bound_register("n", 1, 7);
    let i = builder.scratch_register(7);
    let (n, counter) = (Expression::register(n), Expression::register(i));
    let whole = |base: i64| {
        View::contiguous(Space::Io, Element::F32, base, [Extent::bounded(7, n.clone()), 4.into()])
    };
    builder.input("x", whole(0));
    builder.output("y", whole(128));
    builder.space_bytes(Space::Io, 256);
    builder.space_bytes(Space::Sram, 128);
    builder.space_bytes(Space::Constant, 16);
    let rows = Extent::bounded(2, n.minus(&counter));
    let mut tile = |space, base: Expression, strides: [i64; 2]| {
        let dims = vec![rows.clone(), Extent::fixed(4)];
        builder.view(View { space, element: Element::F32, base_bytes: base, dims, strides: strides.to_vec() })
    };
    let x = tile(Space::Io, counter.times(16), [4, 1]);
    let y = tile(Space::Io, counter.times(16).plus_constant(128), [4, 1]);
    let on_chip = tile(Space::Sram, 0.into(), [4, 1]);
    let result = tile(Space::Sram, 64.into(), [4, 1]);
    let bias = tile(Space::Sram, 32.into(), [0, 1]);
    let bias_from = builder.view(View::contiguous(Space::Constant, Element::F32, 0, [4u32]));
    let bias_to = builder.view(View::contiguous(Space::Sram, Element::F32, 32, [4u32]));
    let end = builder.expression(n);
    builder.location("bias");
    let engine = Engine::Dma0;
    builder.push(Command::Transfer { engine, token: 0, destination: bias_to, source: bias_from });
    builder.push(Command::Wait { token: 0 });
    builder.push(Command::LoopBegin { register: i, end, step: 2 });
    builder.location("relu");
    builder.push(Command::Transfer { engine, token: 1, destination: on_chip, source: x });
    if !forget_wait {
        builder.push(Command::Wait { token: 1 });
    }
    let function = UnaryFunction::Relu;
    let engine = Engine::Vector;
    builder.push(Command::Unary {
        engine,
        function,
        destination: on_chip,
        x: on_chip,
        alpha: 0.0,
        beta: 0.0,
    });
    let function = BinaryFunction::Add;
    builder.push(Command::Binary { engine, function, destination: result, a: on_chip, b: bias });
    builder.push(Command::Transfer { engine: Engine::Dma1, token: 2, destination: y, source: result });
    builder.push(Command::Wait { token: 2 });
    builder.push(Command::LoopEnd {});
    builder.finish()
}

#[test]
fn a_tiled_loop_follows_its_register() {
    for mode in [TransferMode::Immediate, TransferMode::AtWait] {
        let options = Options { transfer_mode: mode, ..Options::default() };
        let constants = floats(&[10.0, 20.0, 30.0, 40.0]);
        let mut session =
            Session::from_programs(vec![tiled_program(false)], constants, options).expect("checks");
        for rows in [7usize, 1, 4] {
            session.select(0);
            let x: Vec<f32> = (0..rows * 4).map(|index| index as f32 - 5.0).collect();
            session.set_input("x", &[rows, 4], &floats(&x)).expect("the register follows the shape");
            session.run().expect("runs");
            let y = session.output("y").expect("exists");
            assert_eq!(y.shape, [rows, 4]);
            let expected: Vec<f32> =
                x.iter().enumerate().map(|(at, x)| x.max(0.0) + (at % 4 + 1) as f32 * 10.0).collect();
            assert_eq!(y.to_f32(), expected);
        }
    }
}

#[test]
fn a_missing_wait_is_found_and_shows() {
    let program = tiled_program(true);
    let findings = check(&program, 16, &Limits::default(), None).expect_err("a hazard");
    assert!(findings[0].message.contains("while transfer 1"), "{findings:?}");
    assert_eq!(findings[0].location.as_deref(), Some("relu"));
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let constants = vec![0; 16];
    let mut session =
        Session::from_programs(vec![tiled_program(false)], constants, Options::default()).expect("checks");
    let message = |result: Result<(), SessionError>| result.expect_err("does not fit").to_string();
    assert_eq!(message(session.set_input("x", &[8, 4], &[0; 128])), "n = 8 is outside 1..=7");
    assert!(
        message(session.set_input("z", &[1], &[])).contains("there is no input named \"z\"; there are: x")
    );
    session.bind("n", 3).expect("in range");
    assert!(message(session.set_input("x", &[2, 4], &[0; 32])).contains("must have shape [3, 4]"));
    assert!(message(session.set_input("x", &[3, 4], &[0; 47])).contains("has 48 bytes, 47 were given"));
    assert!(message(session.bind("m", 3)).contains("there are: n"));
}

/// present [4] grows by one per run: present[past] = x; y = sum of present.
fn growing_program() -> Program {
    let mut builder = ProgramBuilder::new("grow", 1);
    let past = Expression::register(builder.bound_register("past", 0, 3));
    let state = |extent: Expression| {
        let dims = vec![Extent::bounded(4, extent)];
        View { space: Space::State, element: Element::F32, base_bytes: 0.into(), dims, strides: vec![1] }
    };
    let x = View::contiguous(Space::Io, Element::F32, 0, [1u32]);
    let y = View::contiguous(Space::Io, Element::F32, 64, [1u32]);
    let (input, output) = (state(past.clone()), state(past.plus_constant(1)));
    builder.input("x", x.clone());
    builder.output("y", y.clone());
    builder.space_bytes(Space::Io, 128);
    builder.space_bytes(Space::State, 16);
    let slot = View { base_bytes: past.times(4), dims: vec![Extent::fixed(1)], ..input.clone() };
    let (slot, x, y) = (builder.view(slot), builder.view(x), builder.view(y));
    let all = builder.view(output.clone());
    let bind = |name: &str, view| Binding { name: name.to_owned(), view };
    let state = StateBinding {
        input: bind("past.0", input),
        output: bind("present.0", output),
        growing_axis: Some(0),
        recent: None,
    };
    builder.state(state);
    let engine = Engine::Host;
    builder.push(Command::Transfer { engine, token: 0, destination: slot, source: x });
    builder.push(Command::Reduce {
        engine,
        function: ReduceFunction::Sum,
        destination: y,
        x: all,
        accumulate: false,
    });
    builder.finish()
}

#[test]
fn state_persists_and_can_be_fed() {
    let mut session =
        Session::from_programs(vec![growing_program()], vec![], Options::default()).expect("checks");
    for (past, expected) in [(0, 1.0f32), (1, 3.0), (2, 6.0)] {
        session.select(0);
        session.bind("past", past).expect("in range");
        session.set_input("x", &[1], &floats(&[past as f32 + 1.0])).expect("fits");
        session.run().expect("runs");
        assert_eq!(session.output("y").expect("exists").to_f32(), [expected]);
    }
    assert_eq!(session.output("present.0").expect("exists").to_f32(), [1.0, 2.0, 3.0]);
    session.select(0);
    session.set_input("past.0", &[2], &floats(&[50.0, 60.0])).expect("binds past to 2");
    session.set_input("x", &[1], &floats(&[5.0])).expect("fits");
    session.run().expect("runs");
    assert_eq!(session.output("y").expect("exists").to_f32(), [115.0]);
    assert!(session.can_trim_state());
}

#[test]
fn faults_name_the_command() {
    let mut builder = ProgramBuilder::new("look up", 0);
    let table = View::contiguous(Space::Constant, Element::F32, 0, [2u32, 2]);
    let (index, row) = (
        View::contiguous(Space::Io, Element::I64, 0, [1u32]),
        View::contiguous(Space::Io, Element::F32, 8, [1u32, 2]),
    );
    builder.input("index", index.clone());
    builder.output("row", row.clone());
    builder.space_bytes(Space::Io, 16);
    let (source, indices, destination) = (builder.view(table), builder.view(index), builder.view(row));
    builder.location("/embed/Gather");
    builder.push(Command::Gather { engine: Engine::Dma0, destination, source, indices, axis: 0 });
    let program = builder.finish();
    let mut session =
        Session::from_programs(vec![program], floats(&[1.0, 2.0, 3.0, 4.0]), Options::default())
            .expect("checks");
    session.set_input("index", &[1], &(-1i64).to_le_bytes()).expect("fits");
    session.run().expect("runs");
    assert_eq!(session.output("row").expect("exists").to_f32(), [3.0, 4.0]);
    session.set_input("index", &[1], &2i64.to_le_bytes()).expect("fits");
    let text = session.run().expect_err("out of range").to_string();
    assert!(text.contains("command 0 (/embed/Gather): index 2 is out of range for extent 2"), "{text}");
}

#[test]
fn conditions_and_breaks() {
    // x counts down from 5 to 0 by one per iteration; y is 7 if x began above 3, else 8.
    let mut builder = ProgramBuilder::new("control", 0);
    let i = builder.scratch_register(100);
    let scalar = |base: i64, element| View::contiguous(Space::Io, element, base, [0u32; 0]);
    let (x, y) = (scalar(0, Element::I64), scalar(8, Element::I64));
    builder.input("x", x.clone());
    builder.output("x'", x.clone());
    builder.output("y", y.clone());
    builder.space_bytes(Space::Io, 128);
    let flag = builder.view(scalar(64, Element::Bool));
    let (x, y) = (builder.view(x), builder.view(y));
    let (one, three) = (builder.view(scalar(16, Element::I64)), builder.view(scalar(24, Element::I64)));
    let engine = Engine::Host;
    let compare =
        |a, b| Command::Binary { engine, function: BinaryFunction::Greater, destination: flag, a, b };
    for (destination, value) in [(one, 1.0), (three, 3.0)] {
        builder.push(Command::Fill { engine, destination, value });
    }
    builder.push(compare(x, three));
    builder.push(Command::IfBegin { condition: flag });
    builder.push(Command::Fill { engine, destination: y, value: 7.0 });
    builder.push(Command::Else {});
    builder.push(Command::Fill { engine, destination: y, value: 8.0 });
    builder.push(Command::IfEnd {});
    let end = builder.expression(100);
    builder.push(Command::LoopBegin { register: i, end, step: 1 });
    builder.push(Command::Binary {
        engine,
        function: BinaryFunction::GreaterEqual,
        destination: flag,
        a: x,
        b: one,
    });
    builder.push(Command::BreakUnless { condition: flag });
    builder.push(Command::Binary {
        engine,
        function: BinaryFunction::Subtract,
        destination: x,
        a: x,
        b: one,
    });
    builder.push(Command::LoopEnd {});
    let mut session =
        Session::from_programs(vec![builder.finish()], vec![], Options::default()).expect("checks");
    for (start, expected) in [(5i64, 7), (2, 8)] {
        session.set_input("x", &[], &start.to_le_bytes()).expect("fits");
        session.run().expect("runs");
        assert_eq!(session.output("x'").expect("exists").to_i64(), [0]);
        assert_eq!(session.output("y").expect("exists").to_i64(), [expected]);
    }
}

/// One run of the growing program after `past` tokens; its sum.
fn grow(session: &mut Session, past: i64, x: f32) -> f32 {
    session.select(0);
    session.bind("past", past).expect("in range");
    session.set_input("x", &[1], &floats(&[x])).expect("fits");
    session.run().expect("runs");
    session.output("y").expect("exists").to_f32()[0]
}

#[test]
fn trimmed_tokens_were_never_seen() {
    let mut session =
        Session::from_programs(vec![growing_program()], vec![], Options::default()).expect("checks");
    for (past, x) in [(0, 1.0), (1, 2.0), (2, 40.0)] {
        grow(&mut session, past, x);
    }
    assert_eq!((session.held_tokens(), session.trim_state(2), session.held_tokens()), (3, 2, 2));
    assert_eq!(grow(&mut session, 2, 5.0), 8.0);
    assert_eq!(session.trim_state(9), 3, "no more than there are");
    assert_eq!(session.trim_state(0), 0);
    assert!(session.state().iter().all(|byte| *byte == 0));
}

#[test]
fn a_ring_says_how_far_back_it_reaches() {
    let recent = crate::stream::Recent { ring: 96, block: 32, keep: 32 };
    assert_eq!([0, 63, 64, 95, 96, 200].map(|tokens| recent.settled_blocks(tokens)), [0, 0, 1, 1, 2, 5]);
    // After 200 tokens the ring holds 104..200; 160 tokens leave 128.. unquantised, 135 leave 96..
    assert!(recent.reaches(200, 160) && !recent.reaches(200, 135));
    assert!(recent.reaches(96, 1) && !recent.reaches(97, 1));
}

#[test]
fn snapshots_restore_and_hostile_ones_are_errors() {
    let new = || Session::from_programs(vec![growing_program()], vec![], Options::default()).expect("checks");
    let mut session = new();
    for (past, x) in [(0, 1.0), (1, 2.0)] {
        grow(&mut session, past, x);
    }
    let bytes = session.snapshot(&[7, 8]).expect("two are held");
    assert!(session.snapshot(&[7, 8, 9]).is_err(), "three are not");
    let mut other = new();
    assert_eq!(other.restore(&bytes).expect("fits"), [7, 8]);
    assert_eq!(grow(&mut other, 2, 5.0), 8.0);
    // Every byte counts, and nothing is taken over from a bad file.
    let before = other.state().to_vec();
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 1;
        assert!(other.restore(&damaged).is_err(), "byte {index}");
        assert!(other.restore(&bytes[..index]).is_err(), "cut at {index}");
    }
    // A right hash over wrong contents: the count of tokens, of states, a name, a length.
    let end = bytes.len() - 32;
    for index in 8..end {
        let mut forged = bytes[..end].to_vec();
        forged[index] = forged[index].wrapping_add(1);
        let hash = blake3::hash(&forged);
        forged.extend(hash.as_bytes());
        let message = other.restore(&forged).err().map(|error| error.to_string());
        // Only tokens' ids, what was written before, and values may differ.
        let is_free = (48..64).contains(&index) || index >= end - 8;
        assert_eq!(message.is_none(), is_free, "byte {index}: {message:?}");
    }
    let mut third = new();
    third.restore(&bytes).expect("fits");
    assert_ne!(third.state(), before);
    let mut program = growing_program();
    program.name = "other".into();
    let mut stranger = Session::from_programs(vec![program], vec![], Options::default()).expect("checks");
    let message = stranger.restore(&bytes).expect_err("another artifact").to_string();
    assert_eq!(message, "the snapshot was made with another artifact");
    let folder = tempfile_folder();
    let file = folder.join("text.state");
    session.save_snapshot(&file, &[7, 8]).expect("writes");
    assert_eq!(new().load_snapshot(&file).expect("reads"), [7, 8]);
    assert_eq!(std::fs::read_dir(&folder).expect("lists").count(), 1, "nothing else is left");
    assert!(session.save_snapshot(&folder.join("missing").join("x"), &[]).is_err());
    std::fs::remove_dir_all(&folder).expect("removes");
}

fn tempfile_folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("tilewright-state-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("makes");
    folder
}
