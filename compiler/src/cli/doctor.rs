//! `tilewright doctor`: what this machine has, and what it can do at most.

use crate::bench::report::limit_json;
use crate::exit::Failure;
use crate::machine_facts::Facts;
use serde_json::json;
use tilewright_runtime::kernels::limits::{Limit, memory_read, operations};
use tilewright_runtime::kernels::pool::Pool;

/// Bytes that reading memory goes through: more than caches of servers hold for one user.
const READ_BYTES: usize = 512 << 20;
/// Seconds that each multiplier runs, three times and once before.
const SECONDS: f64 = 0.05;
/// From the slowest to the fastest run: above it something else was at work.
const STEADY_RATIO: f64 = 1.25;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright doctor\n  tilewright doctor --threads 1 --json\n  \
    tilewright doctor --cpu-features avx2    # what is left without the others\n\n\
    Rates are medians of three runs. `tilewright bench` tells what models reach of them.")]
pub(crate) struct Arguments {
    /// Threads to measure with, as many as there are cores when left out
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures reading memory and all multipliers.
pub(crate) fn limits(pool: &Pool) -> Vec<Limit> {
    let mut limits = vec![memory_read(pool, READ_BYTES)];
    limits.extend(operations(pool, SECONDS));
    limits
}

/// Looks, measures and tells.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let pool = match arguments.threads {
        None | Some(0) => Pool::of_machine(),
        Some(threads) => Pool::new(threads),
    };
    let facts = Facts::read();
    let bar = super::compile::spinner("measuring");
    let limits = limits(&pool);
    bar.finish_and_clear();
    if arguments.json {
        let limits: Vec<_> = limits.iter().map(limit_json).collect();
        say!("{:#}", json!({ "machine": facts.to_json(), "threads": pool.threads(), "limits": limits }));
        return Ok(());
    }
    let mut table = super::table(&["machine", ""]);
    facts.rows().into_iter().for_each(|row| {
        table.add_row(row);
    });
    say!("{table}");
    let mut table = super::table(&["limit", "threads", "per second: median (min-max)"]);
    for limit in &limits {
        let unit = if limit.name == "memory_read" { "GB" } else { "Gop" };
        let [median, minimum, maximum] = [limit.median, limit.minimum, limit.maximum].map(|rate| rate / 1e9);
        let rate = format!("{median:.1} ({minimum:.1}-{maximum:.1}) {unit}");
        table.add_row([limit.name.to_string(), limit.threads.to_string(), rate]);
    }
    say!("{table}");
    if limits.iter().any(|limit| limit.maximum > STEADY_RATIO * limit.minimum) {
        say!("Rates differ from run to run: something else is at work on this machine.");
    }
    Ok(())
}
