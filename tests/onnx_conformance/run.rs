//! Runs one case in the reference evaluator or through a target's compiler and the interpreter.
//!
//! The runner does what a user does: it compiles, and where the compiler says that it must know the value of an input, it follows
//! the way out that the message names (`--freeze`).

use crate::cases::{Case, Set, Value};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tilewright::driver::{CompileOptions, ProgramReport};
use tilewright::execute::bind;
use tilewright::import::onnx::support::{self, Record};
use tilewright::loaded::Loaded;
use tilewright::metrics::compare;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright::signature::Signature;
use tilewright::strings;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dim::Bindings;
use tilewright_ir::element::Element;
use tilewright_ir::evaluate;
use tilewright_ir::tensor::Tensor;

/// The target that the second figure is of.
pub(crate) const TARGET: &str = "npu-gen3";

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Machine {
    /// The reference evaluator on imported IR.
    Evaluator,
    /// [`TARGET`] and the interpreter.
    Target,
}

impl Machine {
    /// Its name in the list of waivers.
    pub(crate) fn name(self) -> &'static str {
        if self == Machine::Evaluator { "evaluator" } else { TARGET }
    }
}

/// What became of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// Why it does not agree; `None` when it does.
    pub(crate) problem: Option<String>,
    /// Inputs whose values the compiler had to know.
    pub(crate) frozen: Vec<String>,
    /// Ops on the host, with the reason for each.
    pub(crate) on_host: Vec<(String, String)>,
    /// Engines that commands run on.
    pub(crate) engines: BTreeSet<String>,
    /// True if some op runs on the target itself.
    pub(crate) on_target: bool,
}

/// Runs all sets of a case. A panic is a problem as any other, and says so.
pub(crate) fn run(session: &Session, case: &Case, machine: Machine) -> Verdict {
    let mut verdict = Verdict::default();
    let bytes = case.bytes();
    for set in &case.sets {
        let attempt = AssertUnwindSafe(|| run_set(session, case, set, &bytes, machine, &mut verdict));
        let done = catch_unwind(attempt).unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            Err(format!("panic: {}", text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("unknown")))
        });
        if let Err(problem) = done {
            verdict.problem = Some(problem);
            break;
        }
    }
    verdict
}

fn tensors(values: &[crate::cases::Value], bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let lists: Result<Vec<Vec<Tensor>>, String> = values.iter().map(|value| value.tensors(bytes)).collect();
    Ok(lists?.concat())
}

fn run_set(
    session: &Session,
    case: &Case,
    set: &Set,
    bytes: &[u8],
    machine: Machine,
    verdict: &mut Verdict,
) -> Result<(), String> {
    let expected = tensors(&set.outputs, bytes)?;
    let found = execute(session, case, set, bytes, machine, verdict)?;
    if found.len() != expected.len() {
        return Err(format!("expected {} outputs, found {}", expected.len(), found.len()));
    }
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        // The official runner gives bf16 what its mantissa can tell apart.
        let rtol = if expected.element == Element::BF16 { case.rtol.max(1.0 / 64.0) } else { case.rtol };
        let is_text = matches!(set.outputs.get(index), Some(Value::Strings { .. }));
        let [rtol, atol] = if is_text { [0.0; 2] } else { [rtol, case.atol] };
        let distance =
            compare(found, expected, rtol, atol).map_err(|problem| format!("output {index}: {problem}"))?;
        if let Some(first) = distance.first_mismatch {
            return Err(format!(
                "output {index}: {} of {} elements differ, element {first}: expected {}, found {}",
                distance.mismatches,
                distance.elements,
                expected.float(first),
                found.float(first)
            ));
        }
    }
    Ok(())
}

fn execute(
    session: &Session,
    case: &Case,
    set: &Set,
    bytes: &[u8],
    machine: Machine,
    verdict: &mut Verdict,
) -> Result<Vec<Tensor>, String> {
    let source = Source::Onnx(case.model());
    let mut options = CompileOptions { target: TARGET.into(), ..CompileOptions::default() };
    let names = tilewright::import::onnx::input_names(&case.model()).map_err(|all| first_line(&all))?;
    let mut given = Vec::new();
    for (name, value) in names.iter().zip(&set.inputs) {
        given.push(Given { name, value, tensors: value.tensors(bytes)?.into_iter().map(Some).collect() });
    }
    let imported = loop {
        match session.import_with(&source, &options.import_options()) {
            Ok(imported) => break imported,
            Err(problems) if given.iter_mut().any(|input| input.answer(&problems, &mut options)) => {}
            Err(problems) => return Err(first_line(&problems)),
        }
    };
    verdict.frozen = options.frozen.keys().cloned().collect();
    let function = imported.module.functions()[0];
    let signature = Signature::of(&imported.module, function);
    let inputs: Vec<Tensor> = given.into_iter().flat_map(|input| input.tensors).flatten().collect();
    let mut bindings = bind(&signature.inputs, &inputs).map_err(|all| first_line(&all))?;
    imported.bind_assumptions(&mut bindings);
    match machine {
        Machine::Evaluator => evaluate::run_with(&imported.module, "main", &inputs, &bindings)
            .map(|results| strings::shortened(&signature.outputs, results))
            .map_err(|error| error.to_string()),
        Machine::Target => {
            on_target(session, &source, options, &bindings, &inputs, verdict).map_err(|all| first_line(&all))
        }
    }
}

/// An input with its value: the tensors that it is made of and that are not frozen.
struct Given<'c> {
    name: &'c str,
    value: &'c Value,
    tensors: Vec<Option<Tensor>>,
}

impl Given<'_> {
    /// Gives what a message asks for about this input; false when none does.
    fn answer(&mut self, problems: &Diagnostics, options: &mut CompileOptions) -> bool {
        let asked = |word: String| problems.iter().any(|problem| problem.help.contains(&word));
        let (name, count) = (self.name, self.tensors.len());
        if asked(format!("--bind {name}_present=")) {
            let is_present = !matches!(self.value, Value::None);
            return options.bindings.insert(format!("{name}_present"), i64::from(is_present)).is_none();
        }
        if asked(format!("--bind {name}_length=")) {
            return options.bindings.insert(format!("{name}_length"), count as i64).is_none();
        }
        let is_sequence = matches!(self.value, Value::Sequence { .. });
        for (at, tensor) in self.tensors.iter_mut().enumerate() {
            let part = if is_sequence { format!("{name}.{at}") } else { name.to_string() };
            if asked(format!("--input-shape {part}="))
                && let Some(tensor) = tensor
            {
                // The axis of code points is no dimension of the model.
                let own = tensor.rank() - usize::from(matches!(self.value, Value::Strings { .. }));
                let shape = tensor.shape[..own].iter().map(|dim| *dim as i64).collect();
                return options.shapes.insert(part, shape).is_none();
            }
            if asked(format!("--freeze {part}="))
                && let Some(tensor) = tensor.take()
            {
                return options.frozen.insert(part, tensor).is_none();
            }
        }
        false
    }
}

fn on_target(
    session: &Session,
    source: &Source,
    mut options: CompileOptions,
    bindings: &Bindings,
    inputs: &[Tensor],
    verdict: &mut Verdict,
) -> Result<Vec<Tensor>, Diagnostics> {
    options.bindings.extend(bindings.iter().map(|(name, value)| (name.to_string(), *value)));
    let compilation = session.compile(source, &options)?;
    for report in &compilation.programs {
        for row in report.placement.fallbacks() {
            verdict.on_host.push((row.op.clone(), row.reason.clone()));
        }
        verdict.engines.extend(engines_of(report));
        verdict.on_target |= report.placement.rows.iter().any(|row| row.target == TARGET);
    }
    let signature = &compilation.signature;
    Loaded::from_compilation(&compilation)?.run_once(signature, inputs)
}

fn first_line(problems: &Diagnostics) -> String {
    problems.first().map(ToString::to_string).unwrap_or_default().replace('\n', "; ")
}

/// Engines that a program's commands run on; `dma` where all it does is to move elements.
pub(crate) fn engines_of(report: &ProgramReport) -> BTreeSet<String> {
    let commands = report.program.iter().flat_map(|program| &program.commands);
    let names =
        commands.filter_map(|command| command.engine()).map(|engine| format!("{engine:?}").to_lowercase());
    let mut engines: BTreeSet<String> =
        names.map(|name| if name.starts_with("dma") { "dma".to_string() } else { name }).collect();
    if engines.len() > 1 {
        engines.remove("dma");
    }
    engines
}

/// An op on the host and why, element types and shapes left out; nothing for empty tensors, and the op alone where no engine has it.
pub(crate) fn host_reason(op: &str, reason: &str) -> Option<String> {
    if reason == "it has no elements to compute" {
        return None;
    }
    if reason.ends_with(&format!("has no lowering for {op}")) {
        return Some(op.to_string());
    }
    let reason = match reason.find("tensor<").zip(reason.rfind('>')) {
        Some((start, end)) => format!("{}a tensor{}", &reason[..start], &reason[end + 1..]),
        None => reason.to_string(),
    };
    Some(format!("{op}: {reason}"))
}

/// Compares what a run has shown with the checked-in record, or writes it when blessing.
pub(crate) fn check_record(record: &Record) -> Vec<String> {
    if std::env::var_os("TILEWRIGHT_BLESS_WAIVERS").is_some() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../compiler");
        for (path, text) in [
            ("src/import/onnx/support.txt", record.text()),
            ("guide/onnx_operators.md", support::page(record)),
        ] {
            std::fs::write(folder.join(path), text).expect("the source folder is writable when blessing");
        }
        return Vec::new();
    }
    let known = Record::parse(support::RECORD);
    let mut problems = Vec::new();
    for (suite, counts) in &record.suites {
        if known.suites.get(suite) != Some(counts) {
            problems.push(format!("the recorded counts of {suite} are not {counts:?}"));
        }
    }
    for (key, shown) in &record.operators {
        if known.operators.get(key) != Some(shown) {
            problems.push(format!("the record of {} {} is old: {shown:?}", key.0, key.1));
        }
    }
    if !problems.is_empty() {
        problems.push("TILEWRIGHT_BLESS_WAIVERS=1 writes the record and its page anew".into());
    }
    problems
}
