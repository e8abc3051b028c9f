//! The search against bounds, the same grid walked by hand, and limits it must keep.

use super::grid::Key;
use super::score::whole_bytes;
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

#[test]
fn what_sram_has_left_keeps_a_part() {
    let problem = matmul(128, 2048, 8192, 4, 4096);
    let keeps = Keeps { operand: 0, axis: 2, step_bytes: 128 * 2, is_written: true };
    let keeping = Problem { keeps: Some(keeps), ..problem.clone() };
    let written = 128 * 8192 * 2;
    let mut last = u64::MAX;
    for sram_bytes in [256 << 10, 512 << 10, 1 << 20, 2 << 20] {
        let limits = Limits { sram_bytes, ..LIMITS };
        let (plan, through_memory) = (search(&keeping, limits).unwrap(), search(&problem, limits).unwrap());
        assert!(plan.sram_bytes <= sram_bytes && plan.kept < 8192 && plan.kept % plan.tiles[2] == 0);
        assert!(plan.dram_bytes <= through_memory.dram_bytes + written, "{sram_bytes}: {plan:?}");
        assert!(plan.dram_bytes <= last, "{sram_bytes}: {plan:?}");
        last = plan.dram_bytes;
    }
    // At 2 MiB less than a tenth of x moves at all.
    assert!(last < 2048 * 8192 / 2 + 128 * 2048 * 2 + written, "{last}");
}

#[test]
fn the_best_of_the_grid_is_found() {
    // The same grids, walked without passing anything over, know no better plans.
    for (m, n, k, sram_bytes) in
        [(96, 640, 384, 96 << 10), (171, 512, 1024, 300 << 10), (7, 2048, 512, 64 << 10)]
    {
        let limits = Limits { sram_bytes, ..LIMITS };
        let problem = matmul(m, n, k, 8, 2048);
        let keeps = Keeps { operand: 0, axis: 2, step_bytes: m * 2, is_written: true };
        for problem in [Problem { keeps: Some(keeps), ..problem.clone() }, problem] {
            let found = search(&problem, limits).unwrap();
            let sizes: Vec<Vec<u64>> = problem.axes.iter().map(|axis| candidates(*axis)).collect();
            for (m, n, k) in all_sizes(&sizes) {
                let bytes = fitting_bytes(&problem, limits, &[m, n, k]);
                for order in problem.orders.iter().filter(|_| bytes.is_some()) {
                    let bytes = bytes.unwrap_or_default();
                    let plan = score(&Tiling::new(&problem, limits, &[m, n, k]), order, bytes).plan(
                        &[m, n, k],
                        order,
                        bytes,
                    );
                    assert!(Key::of(&found) <= Key::of(&plan), "{found:?} {plan:?}");
                }
            }
        }
    }
}

/// All sizes of three axes.
fn all_sizes(sizes: &[Vec<u64>]) -> Vec<(u64, u64, u64)> {
    let pairs = sizes[0].iter().flat_map(|m| sizes[1].iter().map(|n| (*m, *n)));
    pairs.flat_map(|(m, n)| sizes[2].iter().map(move |k| (m, n, *k))).collect()
}

/// SRAM of tiles that fit.
fn fitting_bytes(problem: &Problem, limits: Limits, tiles: &[u64]) -> Option<u64> {
    let bytes = sram_bytes(problem, tiles);
    let fits = bytes <= limits.sram_bytes && accumulator_bytes(problem, tiles) <= limits.accumulator_bytes;
    fits.then_some(bytes)
}
