//! The search against bounds, the same grid walked by hand, and limits it must keep.

use super::*;

const LIMITS: Limits = Limits {
    sram_bytes: 1 << 20,
    accumulator_bytes: 64 << 10,
    dram_bytes_per_cycle: 32,
    transfer_cycles: 64,
    command_cycles: 16,
};

fn matmul(m: u64, n: u64, k: u64, weight_bits: u64, per_cycle: u64) -> Problem {
    Problem {
        axes: vec![Axis::new("m", m, 1), Axis::new("n", n, 16), Axis::new("k", k, 16)],
        operands: vec![
            Operand::new(Flow::Load, &[0, 2], 16),
            Operand::new(Flow::Load, &[1, 2], weight_bits),
            Operand::new(Flow::Accumulate, &[0, 1], 32),
            Operand::new(Flow::Store, &[0, 1], 16),
        ],
        work: vec![Work { axes: vec![0, 1, 2], factor: 1, per_cycle }],
        orders: vec![vec![0, 1, 2], vec![1, 0, 2]],
        fixed_sram_bytes: 0,
        keeps: None,
    }
}

#[test]
fn decode_moves_every_weight_once() {
    let problem = matmul(1, 8192, 2048, 4, 4096);
    for sram_bytes in [256 << 10, 512 << 10, 1 << 20, 4 << 20] {
        let plan = search(&problem, Limits { sram_bytes, ..LIMITS }).unwrap();
        assert_eq!(plan.dram_bytes, 2048 * 2 + 8192 * 2048 / 2 + 8192 * 2);
        assert!(plan.sram_bytes <= sram_bytes);
    }
}

#[test]
fn more_sram_is_never_worse() {
    let problem = matmul(512, 2048, 2048, 8, 2048);
    let (mut last, mut cycles) = (u64::MAX, u64::MAX);
    for sram_bytes in [128 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20] {
        let plan = search(&problem, Limits { sram_bytes, ..LIMITS }).unwrap();
        assert!(plan.cost <= last, "{sram_bytes}: {} > {last}", plan.cost);
        last = plan.cost;
        cycles = plan.cycles;
    }
    // At 4 MiB the matrix engine is busy nearly all the time.
    assert!(cycles < 512 * 2048 * 2048 / 2048 * 108 / 100, "{cycles}");
}

#[test]
fn the_best_of_the_grid_is_found() {
    // The same grid, walked by hand in another order, knows no better plan.
    let problem = matmul(96, 640, 384, 16, 1024);
    let limits = Limits { sram_bytes: 96 << 10, ..LIMITS };
    let found = search(&problem, limits).unwrap();
    for k in candidates(problem.axes[2]) {
        for n in candidates(problem.axes[1]) {
            for m in candidates(problem.axes[0]) {
                let bytes = sram_bytes(&problem, &[m, n, k]);
                for order in problem.orders.iter().filter(|_| bytes <= limits.sram_bytes) {
                    let plan =
                        score(&problem, limits, &[m, n, k], order, bytes).plan(&[m, n, k], order, bytes);
                    assert!(Key::of(&found) <= Key::of(&plan));
                }
            }
        }
    }
}

#[test]
fn windows_reload_their_halo() {
    let operand = Operand {
        flow: Flow::Load,
        spans: vec![Span { axis: 0, stride: 2, reach: 3 }],
        fixed: 8,
        bits: 32,
        burst: None,
        piece: None,
    };
    let problem = Problem {
        axes: vec![Axis::new("row", 10, 1)],
        operands: vec![operand],
        work: vec![],
        orders: vec![vec![0]],
        fixed_sram_bytes: 0,
        keeps: None,
    };
    assert_eq!(whole_bytes(&problem, &problem.operands[0], &[10]), 21 * 32);
    // Tiles of 4, 4 and 2 rows read 9, 9 and 5 rows.
    assert_eq!(whole_bytes(&problem, &problem.operands[0], &[4]), 23 * 32);
}

#[test]
fn a_tile_may_pass_sram_in_pieces() {
    let mut problem = matmul(128, 256, 64, 8, 2048);
    let whole = sram_bytes(&problem, &[128, 256, 64]);
    problem.operands[3].piece = Some((0, 16));
    // Two buffers of 16 rows in place of one of 128; as much moves as before.
    assert_eq!(whole - sram_bytes(&problem, &[128, 256, 64]), (128 - 2 * 16) * 256 * 2);
    assert_eq!(whole_bytes(&problem, &problem.operands[3], &[128, 256, 64]), 128 * 256 * 2);
}

#[test]
fn what_cannot_fit_says_how_much_is_missing() {
    let problem = Problem { fixed_sram_bytes: 5000, ..matmul(4, 64, 64, 8, 64) };
    let error = search(&problem, Limits { sram_bytes: 4096, ..LIMITS }).unwrap_err();
    assert_eq!(error.available_bytes, 4096);
    assert!(error.needed_bytes > 5000);
    assert!(search(&problem, Limits { sram_bytes: error.needed_bytes, ..LIMITS }).is_ok());
}

#[test]
fn candidates_end_at_the_granule() {
    assert_eq!(candidates(Axis::new("n", 1, 16)), [1]);
    assert_eq!(candidates(Axis::new("n", 48, 16)), [48, 32, 16]);
    assert!(candidates(Axis::new("n", 131_072, 16)).len() < 128);
}
