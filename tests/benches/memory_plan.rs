//! What the memory planner costs and reaches on MiniMalloc's problems: `cargo bench -p tilewright-tests --bench memory_plan`.
//!
//! First each within its capacity; the yardstick is MiniMalloc itself, 54.3 s of CPU for all eleven problems on two cores of a server
//! (g++ -O2), of which these six took 36.2 s. Then as low as it gets with little fuel, against the most bytes alive at once.

use std::time::Instant;
use tilewright::memory_csv::parse;
use tilewright_targets::check_offsets::check;
use tilewright_targets::memory_plan::{FUEL_DEFAULT, Options, plan};

const CAPACITY_BYTES: u64 = 1 << 20;
/// Problem, and MiniMalloc's seconds of CPU.
const PROBLEMS: [(&str, f64); 6] = [("A", 8.8), ("B", 6.7), ("D", 6.4), ("F", 9.1), ("H", 2.7), ("J", 2.5)];
/// Steps with which the hardest problem takes less than two seconds.
const FUEL_LOW: u64 = 40_000;

fn main() {
    for (what, capacity_bytes, fuel) in
        [("within 1 MiB", Some(CAPACITY_BYTES), FUEL_DEFAULT), ("as low as possible", None, FUEL_LOW)]
    {
        println!("{what}, at most {fuel} steps");
        println!(
            "{:>10}{:>9}{:>12}{:>14}{:>17}{:>10}{:>10}",
            "problem", "buffers", "peak/bound", "steps", "proof", "ms", "of aim"
        );
        let (mut seconds, mut aims, mut logarithms) = (0.0, 0.0, 0.0);
        for (name, minimalloc_seconds) in PROBLEMS {
            let path = harness::recorded::tests_folder().join(format!("minimalloc/{name}.1048576.csv"));
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let csv = parse(name, &text).unwrap_or_else(|problems| panic!("{}", problems[0]));
            let start = Instant::now();
            let plan = plan(&csv.problem, &Options { capacity_bytes, fuel });
            let took = start.elapsed().as_secs_f64();
            let violations = check(csv.problem.buffers(), &plan.offsets, capacity_bytes);
            assert!(violations.is_empty(), "{name}: {}", violations[0]);
            let ratio = plan.peak_bytes as f64 / plan.live_bytes_max as f64;
            let aim = if capacity_bytes.is_some() { minimalloc_seconds / 3.0 } else { 2.0 };
            println!(
                "{name:>10}{:>9}{ratio:>12.4}{:>14}{:>17}{:>10.1}{:>10.3}",
                csv.ids.len(),
                plan.steps,
                plan.proof.name(),
                took * 1e3,
                took / aim
            );
            (seconds, aims, logarithms) = (seconds + took, aims + aim, logarithms + ratio.ln());
        }
        let mean = (logarithms / PROBLEMS.len() as f64).exp();
        println!(
            "total {seconds:.2} s, aim {aims:.1} s; peak/bound {mean:.4} in the geometric mean, aim 1.05\n"
        );
    }
}
