//! `tilewright plan-memory`: offsets for buffers of a CSV file, or a check of those that are in it.

use super::parse_bytes;
use crate::exit::Failure;
use crate::memory_csv::{MemoryCsv, parse};
use crate::{memory_picture, output};
use serde_json::json;
use std::path::PathBuf;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_targets::check_offsets::{Violation, check};
use tilewright_targets::memory_plan::{FUEL_DEFAULT, Options, Plan, Proof, plan};

/// Arguments.
#[derive(clap::Args)]
#[command(
    after_help = "The file has the columns of google/minimalloc: id,lower,upper,size and optionally alignment, gaps, offset;\n\
    'upper' does not belong to the life, a last moment that does is called 'end'. A gap is LOWER-UPPER or LOWER-UPPER@LOW:HIGH.\n\n\
    Examples:\n  tilewright plan-memory buffers.csv --capacity 1MiB -o planned.csv\n  \
    tilewright plan-memory buffers.csv --svg plan.svg > planned.csv\n  \
    tilewright plan-memory buffers.csv --json\n  \
    tilewright plan-memory planned.csv --check --capacity 1MiB"
)]
pub(crate) struct Arguments {
    /// Buffers with lifetimes and sizes; '-' is standard input
    #[arg(value_name = "BUFFERS.csv")]
    input: PathBuf,
    /// The file with offsets ('-' is standard output)
    #[arg(short, long, value_name = "OUT.csv", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Bytes there are (1MiB, 256KiB or a number): a plan within them is good enough, no such plan is an error. Without it the peak is
    /// made as low as it can be
    #[arg(long, value_name = "BYTES")]
    capacity: Option<String>,
    /// Steps of search at most; the same fuel gives the same plan
    #[arg(long, default_value_t = FUEL_DEFAULT, value_name = "STEPS", conflicts_with = "check")]
    fuel: u64,
    /// Check the offsets in the file instead of making some
    #[arg(long)]
    check: bool,
    /// Print figures and offsets as JSON
    #[arg(long)]
    json: bool,
    /// Draw bytes over time
    #[arg(long, value_name = "OUT.svg", conflicts_with = "check")]
    svg: Option<PathBuf>,
}

/// Plans or checks.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let capacity_bytes = arguments.capacity.as_deref().map(parse_bytes).transpose()?;
    let text = output::read_text(&arguments.input)?;
    let name = arguments.input.display().to_string();
    let sources = [(name.as_str(), text.as_str())];
    let shown = |problems: Vec<Diagnostic>| {
        crate::render::print_all(&problems, &sources);
        Failure::Shown(problems)
    };
    let csv = parse(&name, &text).map_err(shown)?;
    crate::render::print_all(&csv.warnings, &sources);
    if arguments.check {
        return check_file(arguments, &csv, capacity_bytes, &name).map_err(shown);
    }
    let bar = super::compile::spinner("planning");
    let plan = plan(&csv.problem, &Options { capacity_bytes, fuel: arguments.fuel });
    bar.finish_and_clear();
    let violations = check(csv.problem.buffers(), &plan.offsets, Some(plan.peak_bytes));
    if !violations.is_empty() {
        let help = "this is a fault of the planner; please report it with the file";
        return Err(shown(located(&violations, &csv, &name, help)));
    }
    if let Some(capacity) = capacity_bytes.filter(|capacity| plan.peak_bytes > *capacity) {
        return Err(too_small(&plan, capacity));
    }
    if let Some(path) = &arguments.svg {
        let picture = memory_picture::svg(&csv.ids, csv.problem.buffers(), &plan, capacity_bytes);
        output::write(path, picture.as_bytes())?;
    }
    let wanted = arguments.output.clone().or_else(|| (!arguments.json).then(|| PathBuf::from("-")));
    if let Some(path) = wanted {
        output::write(&path, csv.with_offsets(&plan.offsets).as_bytes())?;
    }
    if arguments.json {
        say!("{:#}", report(&csv, &plan, capacity_bytes));
    }
    eprintln!("{}", summary(&plan));
    Ok(())
}

fn summary(plan: &Plan) -> String {
    let known = match plan.proof {
        Proof::AtLowerBound => "as much as is alive at once".to_string(),
        Proof::Optimal => {
            format!("the least there can be ({} are alive at once)", plan.live_bytes_max)
        }
        Proof::WithinCapacity => {
            format!("within the capacity; no plan is below {} bytes", plan.lower_bound_bytes)
        }
        Proof::Impossible | Proof::OutOfFuel => {
            format!(
                "the best found in {} steps; no plan is below {} bytes",
                plan.steps, plan.lower_bound_bytes
            )
        }
    };
    format!("{} buffers in {} bytes: {known} ({} steps)", plan.offsets.len(), plan.peak_bytes, plan.steps)
}

fn too_small(plan: &Plan, capacity: u64) -> Failure {
    let found = format!("the best plan found takes {} bytes, the capacity is {capacity}", plan.peak_bytes);
    match plan.proof {
        Proof::Impossible if plan.live_bytes_max > capacity => Failure::user(
            format!(
                "no plan fits: {} bytes are alive at one moment, the capacity is {capacity}",
                plan.live_bytes_max
            ),
            "give more capacity, or shorten lives",
        ),
        Proof::Impossible => Failure::user(
            format!("no plan fits: the search is complete; {found}"),
            "give more capacity, or shorten lives",
        ),
        _ => Failure::user(
            format!("no plan was found in {} steps; {found}", plan.steps),
            "more --fuel may find one; nothing is proved",
        ),
    }
}

fn report(csv: &MemoryCsv, plan: &Plan, capacity_bytes: Option<u64>) -> serde_json::Value {
    let offsets: Vec<_> =
        csv.ids.iter().zip(&plan.offsets).map(|(id, offset)| json!({"id": id, "offset": offset})).collect();
    json!({
        "buffers": plan.offsets.len(), "peak_bytes": plan.peak_bytes, "live_bytes_max": plan.live_bytes_max,
        "lower_bound_bytes": plan.lower_bound_bytes, "capacity_bytes": capacity_bytes, "proof": plan.proof.name(),
        "steps": plan.steps, "offsets": offsets,
    })
}

/// Checks the file's own offsets.
fn check_file(
    arguments: &Arguments,
    csv: &MemoryCsv,
    capacity_bytes: Option<u64>,
    name: &str,
) -> Result<(), Vec<Diagnostic>> {
    let Some(offsets) = &csv.offsets else {
        let location = Location::File(name.into(), 1, 1);
        let what = "there is no column 'offset' to check";
        return Err(vec![Diagnostic::error(location, what).with_help("leave --check out to make offsets")]);
    };
    let violations = check(csv.problem.buffers(), offsets, capacity_bytes);
    if !violations.is_empty() {
        return Err(located(
            &violations,
            csv,
            name,
            "two buffers may share bytes only while one of them is not alive",
        ));
    }
    let ends = csv.problem.buffers().iter().zip(offsets).filter(|(buffer, _)| !buffer.is_empty());
    let peak = ends.map(|(buffer, offset)| offset + buffer.bytes).max().unwrap_or(0);
    if arguments.json {
        say!(
            "{:#}",
            json!({"buffers": offsets.len(), "peak_bytes": peak, "capacity_bytes": capacity_bytes, "valid": true})
        );
    } else {
        say!("{name}: {} buffers in {peak} bytes, none meets another", offsets.len());
    }
    Ok(())
}

/// Violations at their lines, with names in place of numbers.
fn located(violations: &[Violation], csv: &MemoryCsv, name: &str, help: &str) -> Vec<Diagnostic> {
    violations
        .iter()
        .map(|violation| {
            let line = csv.lines.get(violation.buffer).copied().unwrap_or(1);
            let id = csv.ids.get(violation.buffer).map_or("", String::as_str);
            let other = match violation.other {
                Some(other) => format!(" ('{}' of line {})", csv.ids[other], csv.lines[other]),
                None => String::new(),
            };
            let what = format!("buffer '{id}': {}{other}", violation.what);
            Diagnostic::error(Location::File(name.into(), line, 1), what).with_help(help)
        })
        .collect()
}
