//! Small programs whose cycles can be counted by hand.

use super::*;
use crate::commands::{Command, Register, UnaryFunction, ViewId};
use crate::element::Element;
use crate::stream::ProgramBuilder;
use crate::view::{Expression, Extent, Space, View};

fn figures() -> MachineFigures {
    MachineFigures {
        clock_hz: 1e9,
        issue_cycles: 0,
        queue_commands: 4,
        matrix: vec![MatrixRate { a: Element::F32, b: Element::F32, block: [4, 4, 4], pj_per_mac: 1.0 }],
        matrix_latency_cycles: 10,
        vector: VectorRates { lanes: 8, transcendental_cycles: 4, pj_per_lane: 0.5 },
        vector_latency_cycles: 5,
        dma_bytes_per_cycle: 16.0,
        dram_bytes_per_cycle: 16.0,
        dma_latency_cycles: 100,
        dram_burst_bytes: 64,
        sram_bytes_per_cycle: 1024,
        sram_banks: 8,
        host_bytes_per_cycle: 8.0,
        host_lanes_per_cycle: 4.0,
        host_latency_cycles: 50,
        dram_pj_per_byte: 20.0,
        sram_pj_per_byte: 1.0,
        host_pj_per_lane: 10.0,
        idle_watts: 0.0,
    }
}

fn run(builder: ProgramBuilder, registers: &[(&str, i64)]) -> Timing {
    let request = Request { registers, with_events: true, ..Request::default() };
    estimate(&builder.finish(), &figures(), &request).expect("well formed")
}

/// A tile of `count` f32 in a space.
fn tile(builder: &mut ProgramBuilder, space: Space, base: impl Into<Expression>, count: u32) -> ViewId {
    builder.view(View::contiguous(space, Element::F32, base, [count]))
}

#[test]
fn a_transfer_is_latency_plus_bytes() {
    let mut builder = ProgramBuilder::new("transfer", 0);
    let (source, destination) =
        (tile(&mut builder, Space::Dram, 0, 64), tile(&mut builder, Space::Sram, 0, 64));
    builder.push(Command::Transfer { engine: Engine::Dma0, token: 0, destination, source });
    builder.push(Command::Wait { token: 0 });
    let timing = run(builder, &[]);
    assert_eq!(timing.cycles, 116);
    let stalls = timing.total.stalls;
    assert_eq!((stalls[Stall::DramLatency as usize], stalls[Stall::DramBandwidth as usize]), (100, 16));
    assert_eq!((timing.total.dram_bytes, timing.total.sram_bytes), (256, 256));
    assert_eq!(timing.total.energy_pj, 256.0 * 20.0 + 256.0);
}

#[test]
fn transposed_tiles_are_contiguous_all_the_same() {
    let mut builder = ProgramBuilder::new("transposed", 0);
    let mut turned = |space| {
        let view = View::contiguous(space, Element::F32, 0, [16u32, 32]);
        builder.view(view.transposed(&[1, 0]))
    };
    let (source, destination) = (turned(Space::Dram), turned(Space::Sram));
    builder.push(Command::Transfer { engine: Engine::Dma0, token: 0, destination, source });
    assert_eq!(run(builder, &[]).total.dram_bytes, 16 * 32 * 4);
}

#[test]
fn two_queues_share_dram_and_overlap_latency() {
    let mut builder = ProgramBuilder::new("two", 0);
    for (token, engine) in [(0, Engine::Dma0), (1, Engine::Dma1)] {
        let source = tile(&mut builder, Space::Dram, 0, 64);
        let destination = tile(&mut builder, Space::Sram, i64::from(token) * 256, 64);
        builder.push(Command::Transfer { engine, token, destination, source });
    }
    builder.push(Command::Wait { token: 0 });
    builder.push(Command::Wait { token: 1 });
    // 16 cycles of bytes each, one after the other, behind one latency.
    assert_eq!(run(builder, &[]).cycles, 132);
}

#[test]
fn engines_wait_for_operands_only() {
    let mut builder = ProgramBuilder::new("engines", 0);
    let matrix = |builder: &mut ProgramBuilder, base: i64| {
        builder.view(View::contiguous(Space::Sram, Element::F32, base, [8u32, 8]))
    };
    let (a, b, c) = (matrix(&mut builder, 0), matrix(&mut builder, 256), matrix(&mut builder, 512));
    let other = matrix(&mut builder, 1024);
    let (engine, function) = (Engine::Vector, UnaryFunction::Relu);
    let relu = |x| Command::Unary { engine, function, destination: x, x, alpha: 0.0, beta: 0.0 };
    let (scale, zero_point) = (None, None);
    let engine = Engine::Matrix;
    builder.push(Command::Matmul {
        engine,
        destination: c,
        a,
        b,
        scale,
        zero_point,
        codebook: None,
        indices: None,
        block: 0,
        accumulate: false,
    });
    builder.push(relu(other));
    builder.push(relu(c));
    let timing = run(builder, &[]);
    // 8 blocks + 10; the first relu (64 / 8 + 5 = 13) overlaps, the second begins at 18.
    assert_eq!(timing.cycles, 18 + 13);
    assert_eq!(timing.total.operand_cycles, 5);
    assert_eq!(timing.total.stalls[Stall::Drain as usize], 31);
    // What the second relu puts off; the first is hidden behind the product.
    assert_eq!(timing.commands.iter().map(|one| one.elapsed_cycles).collect::<Vec<_>>(), [18, 0, 13, 0]);
    assert_eq!((timing.total.macs, timing.total.lanes), (512, 128));
    assert_eq!(timing.events.len(), 3);
}

#[test]
fn sparse_products_multiply_half_as_much() {
    let product = |is_sparse: bool| {
        let mut builder = ProgramBuilder::new("sparse", 0);
        let mut matrix = |element: Element, base: i64, rows: u32| {
            builder.view(View::contiguous(Space::Sram, element, base, [rows, 8u32]))
        };
        let (a, destination) = (matrix(Element::F32, 0, 8), matrix(Element::F32, 512, 8));
        let b = matrix(Element::F32, 256, if is_sparse { 4 } else { 8 });
        let indices = is_sparse.then(|| matrix(Element::U2, 1024, 4));
        builder.push(Command::Matmul {
            engine: Engine::Matrix,
            destination,
            a,
            b,
            scale: None,
            zero_point: None,
            codebook: None,
            indices,
            block: 0,
            accumulate: false,
        });
        let timing = run(builder, &[]);
        (timing.total.macs, timing.cycles, timing.total.sram_bytes)
    };
    // Half the blocks of 4 x 4 x 4; half of b and 8 bytes of places.
    assert_eq!(product(false), (512, 8 + 10, 3 * 256));
    assert_eq!(product(true), (256, 4 + 10, 2 * 256 + 128 + 8));
}

#[test]
fn packed_products_multiply_as_much_as_plain_ones() {
    let mut builder = ProgramBuilder::new("packed", 0);
    let mut view = |element: Element, base: i64, dims: &[u32]| {
        builder.view(View::contiguous(Space::Sram, element, base, dims.iter().copied()))
    };
    // 20 columns in 2 panels of 16, 12 rows in 2 steps of 8.
    let (a, destination) = (view(Element::F32, 0, &[3, 12]), view(Element::F32, 512, &[3, 20]));
    let (b, scale) = (view(Element::I4, 1024, &[2, 2, 2, 16, 4]), view(Element::F16, 2048, &[2, 1, 16]));
    builder.push(Command::Matmul {
        engine: Engine::Matrix,
        destination,
        a,
        b,
        scale: Some(scale),
        zero_point: None,
        codebook: None,
        indices: None,
        block: 0,
        accumulate: false,
    });
    let timing = run(builder, &[]);
    assert_eq!(timing.total.macs, 3 * 20 * 12);
    assert_eq!(timing.total.sram_bytes, 3 * 12 * 4 + 3 * 20 * 4 + 2 * 2 * 2 * 16 * 4 / 2 + 2 * 16 * 2);
}

#[test]
fn a_full_queue_stops_the_sequencer() {
    let mut builder = ProgramBuilder::new("queue", 0);
    let x = tile(&mut builder, Space::Sram, 0, 8);
    let (engine, function) = (Engine::Vector, UnaryFunction::Relu);
    for _ in 0..6 {
        builder.push(Command::Unary { engine, function, destination: x, x, alpha: 0.0, beta: 0.0 });
    }
    let source = tile(&mut builder, Space::Dram, 0, 16);
    let destination = tile(&mut builder, Space::Sram, 64, 16);
    builder.push(Command::Transfer { engine: Engine::Dma0, token: 0, destination, source });
    // Six cycles each; the sixth can be issued when the second has finished, then the transfer (104 cycles).
    assert_eq!(run(builder, &[]).cycles, 12 + 104);
}

#[test]
fn engines_that_use_the_same_banks_share_them() {
    let run = |bytes_per_cycle: u64, columns: u32| {
        let mut builder = ProgramBuilder::new("banks", 0);
        let x = tile(&mut builder, Space::Sram, 0, 1024);
        let source = tile(&mut builder, Space::Dram, 0, 512);
        let column = View {
            strides: vec![i64::from(columns)],
            ..View::contiguous(Space::Sram, Element::F32, 8192, [512u32])
        };
        let destination = builder.view(column);
        let (engine, function) = (Engine::Vector, UnaryFunction::Relu);
        builder.push(Command::Transfer { engine: Engine::Dma0, token: 0, destination, source });
        builder.push(Command::Unary { engine, function, destination: x, x, alpha: 0.0, beta: 0.0 });
        builder.push(Command::Wait { token: 0 });
        let figures = MachineFigures { sram_bytes_per_cycle: bytes_per_cycle, ..figures() };
        estimate(&builder.finish(), &figures, &Request::default()).expect("well formed")
    };
    // The relu: 128 cycles + 5 from cycle 0, 8192 bytes in and out; the transfer: 128 cycles from cycle 100.
    assert_eq!(run(1024, 1).commands[1].bank_cycles, 0);
    // 64 bytes per cycle: the relu needs 2 x 64 beats of its 133 cycles, the transfer 32 of 128, of which 33 / 128 meanwhile.
    let shared = run(64, 1);
    assert_eq!(shared.commands[1].bank_cycles, 2 * 64 + (32 * 33_u64).div_ceil(128) - 133);
    // A column whose rows are 8 words apart lies in one bank: 512 beats for 128 cycles.
    let column = run(64, 16);
    assert_eq!(column.commands[0].bank_cycles, 512 - 128);
    assert_eq!(column.total.stalls[Stall::Banks as usize], 512 - 128);
}

#[test]
fn time_is_issue_and_stalls_and_is_shared_out_among_commands() {
    let mut builder = ProgramBuilder::new("all", 0);
    let x = tile(&mut builder, Space::Sram, 0, 64);
    let (source, y) = (tile(&mut builder, Space::Constant, 0, 64), tile(&mut builder, Space::Io, 0, 64));
    let relu = |engine, destination: ViewId, x: ViewId| {
        let function = UnaryFunction::Exp;
        Command::Unary { engine, function, destination, x, alpha: 0.0, beta: 0.0 }
    };
    for _ in 0..3 {
        builder.push(Command::Transfer { engine: Engine::Dma0, token: 0, destination: x, source });
        builder.push(Command::Wait { token: 0 });
        for _ in 0..6 {
            builder.push(relu(Engine::Vector, x, x));
        }
        builder.push(Command::Transfer { engine: Engine::Dma1, token: 1, destination: y, source: x });
        builder.push(Command::Wait { token: 1 });
        builder.push(relu(Engine::Host, y, y));
    }
    let figures = MachineFigures { issue_cycles: 3, ..figures() };
    let program = builder.finish();
    let timing = estimate(&program, &figures, &Request::default()).expect("well formed");
    assert_eq!(timing.issue_cycles, 3 * (3 * 11 + 1));
    assert_eq!(timing.issue_cycles + timing.total.stalls.iter().sum::<u64>(), timing.cycles);
    assert_eq!(timing.total.elapsed_cycles, timing.cycles);
    for cause in [Stall::DramLatency, Stall::DramBandwidth, Stall::Operand, Stall::Queue, Stall::Host] {
        assert!(timing.total.stalls[cause as usize] > 0, "{}", cause.name());
    }
    let bound = bound(&program, &figures, &Request::default()).expect("well formed");
    // 64 weights and 64 results, each once.
    assert_eq!((bound.compulsory_bytes, bound.dram_cycles, bound.mac_cycles), (512, 32, 0));
    assert!(timing.cycles >= bound.cycles());
}

#[test]
fn loops_follow_registers_and_short_rows_cost_bursts() {
    let mut builder = ProgramBuilder::new("loop", 0);
    let n = builder.bound_register("n", 0, 100);
    let i: Register = builder.scratch_register(100);
    let (n, counter) = (Expression::register(n), Expression::register(i));
    let end = builder.expression(n.clone());
    let column = |space, base: Expression, stride| View {
        space,
        element: Element::F32,
        base_bytes: base,
        dims: vec![Extent::bounded(32, n.minus(&counter))],
        strides: vec![stride],
    };
    let source = builder.view(column(Space::Dram, counter.times(400), 100));
    let destination = builder.view(column(Space::Sram, 0.into(), 1));
    builder.push(Command::LoopBegin { register: i, end, step: 32 });
    builder.push(Command::Transfer { engine: Engine::Dma0, token: 0, destination, source });
    builder.push(Command::Wait { token: 0 });
    builder.push(Command::LoopEnd {});
    let timing = run(builder.clone(), &[("n", 40)]);
    assert_eq!(timing.commands[1].executions, 2);
    assert_eq!(timing.total.dram_bytes, 40 * 64);
    assert_eq!(timing.cycles, (100 + 32 * 4) + (100 + 8 * 4));
    assert_eq!(run(builder.clone(), &[]).cycles, 0);
    let wrong =
        estimate(&builder.finish(), &figures(), &Request { registers: &[("n", 101)], ..Request::default() });
    assert_eq!(wrong, Err(TimingError::Register { name: "n".into(), value: 101 }));
}
