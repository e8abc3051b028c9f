//! Small programs whose cycles can be counted by hand.

use super::*;
use crate::commands::{Register, UnaryFunction};
use crate::element::Element;
use crate::stream::ProgramBuilder;
use crate::view::{Expression, Extent, View};

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
    assert_eq!((timing.cycles, timing.transfer_stall_cycles), (116, 116));
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
    assert_eq!(timing.operand_stall_cycles, 5);
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
