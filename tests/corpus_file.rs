//! One corpus file: its header, what is done with it, and the text that the snapshot holds.
//!
//! Every file is parsed, printed, parsed and printed again, and verified. With a pipeline it is evaluated before and after on seeded
//! inputs; with a target it is compiled, disassembled, checked, executed and compared.
//!
//! ```text
//! // What: the gain folds into the matmul that follows, once.
//! // pipeline: canonicalize,cse
//! // target: npu-gen3
//! // symbols: past=5<=16 seq=3
//! // sram: 262144
//! // optimize: size
//! // tolerance: 1e-5
//! // results: 1
//! ```

use crate::second_count;
use std::collections::BTreeMap;
use std::fmt::Write;
use tilewright::loaded::Loaded;
use tilewright::metrics::compare;
use tilewright::session::Session;
use tilewright::signature::Signature;
use tilewright_ir::diagnostic::{Diagnostic, Severity};
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::module::{Module, OpId};
use tilewright_ir::op_def::Evaluate;
use tilewright_ir::parse::{ParseOptions, Resources, parse};
use tilewright_ir::print::{PrintOptions, print};
use tilewright_ir::sample::Sampler;
use tilewright_ir::tensor::Tensor;
use tilewright_passes::machine::Machine;
use tilewright_passes::pipeline::PassManager;
use tilewright_runtime::disassemble::disassemble;
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::stream::Program;
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::figures;
use tilewright_targets::lower::{Objective, Options, compile_function};
use tilewright_targets::memory_plan::Proof;

/// Seed of all inputs and weights of the corpus.
const SEED: u64 = 0x7411_e817;

/// What a file's first comment lines ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Passes to run.
    pub pipeline: Option<String>,
    /// Target to compile for.
    pub target: Option<String>,
    /// Value and largest value of symbols.
    pub symbols: BTreeMap<String, (i64, i64)>,
    /// SRAM in place of the target's own.
    pub sram_bytes: Option<u64>,
    /// Whether for the least SRAM.
    pub for_size: bool,
    /// Results, from the first on, that the pipeline must keep; all unless said. A pass that changes what states are keeps the others'
    /// meaning, not their types.
    pub results: Option<usize>,
    /// Relative tolerance of parity; 1e-5 unless said.
    pub tolerance: f64,
}

/// Reads the header.
///
/// # Panics
/// On a header line that cannot be read: a fault of the corpus.
pub fn header(text: &str) -> Header {
    let mut header = Header { tolerance: 1e-5, ..Header::default() };
    for line in text.lines().take_while(|line| line.starts_with("//")) {
        let Some((key, value)) = line.trim_start_matches('/').trim().split_once(": ") else { continue };
        let value = value.trim();
        match key {
            "pipeline" => header.pipeline = Some(value.to_string()),
            "target" => header.target = Some(value.to_string()),
            "sram" => header.sram_bytes = Some(value.parse().expect("sram: a number of bytes")),
            "optimize" => header.for_size = value == "size",
            "results" => header.results = Some(value.parse().expect("results: a number")),
            "tolerance" => header.tolerance = value.parse().expect("tolerance: a number"),
            "symbols" => {
                for word in value.split_whitespace() {
                    let (name, value) =
                        word.split_once('=').expect("symbols: name=value or name=value<=maximum");
                    let (value, maximum) = value.split_once("<=").unwrap_or((value, value));
                    let number = |text: &str| text.parse().expect("symbols: numbers");
                    header.symbols.insert(name.to_string(), (number(value), number(maximum)));
                }
            }
            _ => {}
        }
    }
    header
}

fn list(problems: &[Diagnostic]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Runs a file; gives the text for its snapshot. Diagnostics are part of it.
///
/// # Panics
/// When a property that holds for every file does not: the round trip, parity, the checker.
pub fn run(session: &Session, name: &str, text: &str) -> String {
    let header = header(text);
    let options = ParseOptions { file: name, stand_in_seed: Some(SEED), ..ParseOptions::default() };
    let mut module = match parse(text, &session.registry, &options) {
        Ok(module) => module,
        Err(problems) => return format!("does not parse:\n{}", list(&problems)),
    };
    round_trip(session, name, &module);
    let problems = tilewright_ir::verify::verify(&module);
    if !problems.is_empty() {
        return format!("does not verify:\n{}", list(&problems));
    }
    let mut before = outputs(&module, &header);
    let mut out = String::new();
    if let Some(pipeline) = &header.pipeline {
        let manager = match PassManager::parse(pipeline, &session.passes) {
            Ok(manager) => manager,
            Err(problem) => return format!("bad pipeline:\n{problem}\n"),
        };
        let mut context = session.pass_context(&[]).expect("no rule files");
        if let Some(target) = &header.target {
            context.machine =
                session.target(target).unwrap_or_else(|problem| panic!("{name}: {problem}")).machine();
        }
        match manager.run(&mut module, &mut context, &mut []) {
            Ok(()) => {}
            Err(failure) => {
                return format!("pass '{}' failed:\n{}", failure.pass, list(&failure.diagnostics));
            }
        }
        out += &list(&context.diagnostics);
        round_trip(session, name, &module);
        let after = outputs(&module, &header);
        let first = |all: &Outputs| match header.results {
            Some(count) => all.iter().map(|(name, results)| (name.clone(), first(results, count))).collect(),
            None => all.clone(),
        };
        same(name, "the pipeline changed the result", &first(&before), &first(&after), header.tolerance);
        if header.results.is_some() {
            before = after;
        }
    }
    out += &print(&module, &PrintOptions::default());
    if let Some(target) = &header.target {
        let _ = write!(out, "\n{}", on_target(session, name, &module, target, &header, &before));
    }
    out
}

fn first(results: &Result<Vec<Tensor>, String>, count: usize) -> Result<Vec<Tensor>, String> {
    results.clone().map(|results| results.into_iter().take(count).collect())
}

/// Prints, parses and prints again; the two texts must be one, and so must what a second parse makes of the first.
fn round_trip(session: &Session, name: &str, module: &Module) {
    let once = print(module, &PrintOptions::default());
    let resources = Resources::of(module);
    let options = ParseOptions { file: name, resources: Some(&resources), ..ParseOptions::default() };
    let again = parse(&once, &session.registry, &options).unwrap_or_else(|problems| {
        panic!("{name}: what was printed does not parse:\n{}\n{once}", list(&problems))
    });
    let twice = print(&again, &PrintOptions::default());
    assert!(once == twice, "{name}: printing is no fixpoint\n--- first\n{once}\n--- second\n{twice}");
}

fn bindings(header: &Header) -> Bindings {
    header.symbols.iter().map(|(name, value)| (name.as_str().into(), value.0)).collect()
}

/// Seeded inputs of a function; `None` when it takes or holds what cannot be evaluated.
fn inputs(module: &Module, function: OpId, header: &Header) -> Option<Vec<Tensor>> {
    let bindings = bindings(header);
    let arguments = module.block(module.entry(function, 0)).arguments.clone();
    arguments
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let ty = module.tensor(*value)?;
            Sampler::new(SEED + index as u64).tensor(ty, &bindings).ok()
        })
        .collect()
}

fn can_evaluate(module: &Module, function: OpId) -> bool {
    let mut all = true;
    module.walk(function, &mut |op| {
        let def = module.op(op).def;
        let frame = op == function || def.is(tilewright_ir::op_def::Traits::TERMINATOR);
        all &= frame || !matches!(def.evaluate, Evaluate::None);
    });
    all
}

/// Results of every function on seeded inputs, by name.
fn outputs(module: &Module, header: &Header) -> BTreeMap<String, Result<Vec<Tensor>, String>> {
    let mut results = BTreeMap::new();
    for function in module.functions() {
        let name = module.symbol_name(function).unwrap_or_default().to_string();
        if let Some(inputs) = inputs(module, function, header).filter(|_| can_evaluate(module, function)) {
            let values = evaluate::run_with(module, &name, &inputs, &bindings(header));
            results.insert(name, values.map_err(|error| error.to_string()));
        }
    }
    results
}

type Outputs = BTreeMap<String, Result<Vec<Tensor>, String>>;

fn same(name: &str, what: &str, before: &Outputs, after: &Outputs, tolerance: f64) {
    for (function, expected) in before {
        let Some(found) = after.get(function) else { continue };
        match (expected, found) {
            (Ok(expected), Ok(found)) => close(name, what, expected, found, tolerance),
            (Err(_), _) => {}
            (Ok(_), Err(problem)) => panic!("{name}: {what}: @{function} fails now: {problem}"),
        }
    }
}

/// Compares with `tolerance` relative, and absolute against the largest magnitude of the output.
fn close(name: &str, what: &str, expected: &[Tensor], found: &[Tensor], tolerance: f64) {
    assert_eq!(expected.len(), found.len(), "{name}: {what}: number of results");
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        let scale = expected
            .floats()
            .into_iter()
            .filter(|value| value.is_finite())
            .fold(0.0, |a: f64, b| a.max(b.abs()));
        let distance = compare(found, expected, tolerance, tolerance * scale.max(1e-3))
            .unwrap_or_else(|problem| panic!("{name}: {what}: result {index}: {problem}"));
        assert!(
            distance.mismatches == 0,
            "{name}: {what}: result {index}: {} of {} elements differ, by at most {:e}, first at {:?}",
            distance.mismatches,
            distance.elements,
            distance.max_absolute_error,
            distance.first_mismatch
        );
    }
}

fn on_target(
    session: &Session,
    name: &str,
    module: &Module,
    target: &str,
    header: &Header,
    before: &Outputs,
) -> String {
    let target = session.target(target).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    let mut machine = target.machine();
    if let Some(bytes) = header.sram_bytes {
        machine.sram_bytes = bytes;
    }
    let function = *module.functions().first().unwrap_or_else(|| panic!("{name}: no function"));
    let function_name = module.symbol_name(function).unwrap_or_default().to_string();
    let symbols = header.symbols.iter().map(|(name, (_, maximum))| (name.clone(), (0, *maximum))).collect();
    let objective = if header.for_size { Objective::Size } else { Objective::Performance };
    let options = Options { symbols, objective, ..Options::named(&function_name) };
    let mut constants = ConstantPool::new();
    let compiled = match compile_function(module, &function_name, target, &machine, &options, &mut constants)
    {
        Ok(compiled) => compiled,
        Err(problems) => return format!("does not compile for {}:\n{}", target.name, list(&problems)),
    };
    for plan in &compiled.memory.plans {
        let is_best = matches!(plan.proof, Proof::AtLowerBound | Proof::Optimal);
        assert!(is_best, "{name}: nothing is known about the memory plan: {plan}");
    }
    figures_hold(session, name, &compiled.program, &machine, header);
    assert!(problems_of(&compiled.tile).is_empty(), "{name}: {}", list(&problems_of(&compiled.tile)));
    round_trip(session, name, &compiled.tile);
    round_trip(session, name, &compiled.placed);
    if let Some(inputs) = inputs(module, function, header)
        && let Some(Ok(expected)) = before.get(&function_name)
    {
        for deferred in [false, true] {
            let found = execute(&compiled.program, &constants, module, &inputs, header, deferred)
                .unwrap_or_else(|problem| panic!("{name}: running for {}: {problem}", target.name));
            let what = if deferred { "the stream with late transfers differs" } else { "the stream differs" };
            close(name, what, expected, &found, header.tolerance);
        }
    }
    format!(
        "{}\n{}",
        compiled.placement.text(),
        disassemble(
            &compiled.program,
            tilewright_runtime::disassemble::Options { without_locations: true, ..Default::default() }
        )
    )
}

/// The timing model's figures are those of a second count, and no machine is faster than its bounds.
fn figures_hold(session: &Session, name: &str, program: &Program, machine: &Machine, header: &Header) {
    let bound = program.registers.iter().filter(|register| register.is_bound);
    let values: Vec<(&str, i64)> = bound
        .map(|one| {
            let value = header.symbols.get(&one.name).map_or(one.maximum, |(value, _)| *value);
            (one.name.as_str(), value.clamp(one.minimum, one.maximum))
        })
        .collect();
    second_count::check(name, program, &figures::of(machine), &values);
    for target in session.targets.iter() {
        let what = format!("{name} on {}", target.name);
        second_count::check_bound(&what, program, &figures::of(&target.machine()), &values);
    }
}

/// Runs a program on inputs in argument order; transfers happen at once, or at the wait for them.
fn execute(
    program: &Program,
    constants: &ConstantPool,
    module: &Module,
    inputs: &[Tensor],
    header: &Header,
    deferred: bool,
) -> Result<Vec<Tensor>, String> {
    let mode = if deferred { TransferMode::AtWait } else { TransferMode::Immediate };
    let told = |problems: Vec<Diagnostic>| list(&problems);
    let image = constants.image()?;
    let mut loaded = Loaded::from_programs(vec![program.clone()], image, mode).map_err(told)?;
    for (name, (value, _)) in &header.symbols {
        if program.register(name).is_some() {
            loaded.session.bind(name, *value).map_err(|error| error.to_string())?;
        }
    }
    let signature = Signature::of(module, module.functions()[0]);
    loaded.run_once(&signature, inputs).map_err(told)
}

fn problems_of(module: &Module) -> Vec<Diagnostic> {
    let mut problems = tilewright_ir::verify::verify(module);
    problems.retain(|problem| problem.severity == Severity::Error);
    problems
}
