//! What compiling costs, as a table with ratios to the aims: `cargo bench -p tilewright-tests`.
//!
//! Weights are by reference: files of this size are never read, only named.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tilewright::driver::CompileOptions;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::Module;
use tilewright_ir::symbols::{Substitution, substitute};
use tilewright_passes::pass::{PassContext, Passes};
use tilewright_passes::pipeline::PassManager;
use tilewright_passes::synthetic::{LlamaShape, llama};
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::lower::{Options, compile_function};

fn run(module: &mut Module, context: &mut PassContext, pipeline: &str) -> Duration {
    let manager = PassManager::parse(pipeline, &Passes::default()).unwrap_or_else(|fault| panic!("{fault}"));
    let start = Instant::now();
    if let Err(failure) = manager.run(module, context, &mut []) {
        panic!("{}: {:?}", failure.pass, failure.diagnostics);
    }
    start.elapsed()
}

fn row(what: &str, found: f64, aim: f64, unit: &str) {
    println!("{what:<58} {found:>10.2} {unit:<4} aim {aim:>8.2}   ratio {:>6.2}", found / aim);
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The largest memory this process has held, in MB; where the system tells.
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kilobytes| kilobytes / 1024.0)
}

/// The 1B shape, one token after up to 2048 others, from the graph to commands; weights are neither read nor written.
fn whole_compile(session: &Session) {
    let start = Instant::now();
    let mut module = llama(&LlamaShape::default());
    let root = module.root();
    substitute(&mut module, root, &Substitution::from([("seq".into(), Dim::Known(1))]));
    let mut context = PassContext::new(session.registry.clone());
    let target = session.target("npu-gen3").unwrap_or_else(|problem| panic!("{problem}"));
    context.machine = target.machine();
    let pipeline = "canonicalize,cse,dce,optimize,canonicalize,cse,dce,form-kernels";
    run(&mut module, &mut context, pipeline);
    let symbols = BTreeMap::from([("past".to_string(), (0, 2047))]);
    let options = Options { symbols, ..Options::named("main") };
    let mut constants = ConstantPool::new();
    let compiled = compile_function(&module, "main", target, &context.machine, &options, &mut constants)
        .unwrap_or_else(|problems| panic!("{}", problems[0]));
    row("whole compile, 16 layers of the 1B shape, no weights", start.elapsed().as_secs_f64(), 2.0, "s");
    if let Some(peak) = peak_megabytes() {
        row("peak memory of all above", peak, 300.0, "MB");
    }
    println!("{:<58} {:>10}", "commands", compiled.program.commands.len());
}

fn optimiser(session: &Session) {
    let mut times = Vec::new();
    for layers in [16, 160] {
        let mut module = llama(&LlamaShape { layers, ..LlamaShape::default() });
        let mut context = PassContext::new(session.registry.clone());
        let clean = run(&mut module, &mut context, "canonicalize,cse,dce");
        let took = run(&mut module, &mut context, "optimize");
        println!(
            "{:<58} {:>10.2} ms",
            format!("canonicalize, cse, dce; {layers} layers"),
            milliseconds(clean)
        );
        row(&format!("optimize, {layers} layers"), milliseconds(took), 50.0, "ms");
        times.push(milliseconds(took));
    }
    println!("{:<58} {:>10.2}", "optimize, 160 layers to 16", times[1] / times[0]);
}

fn extraction_gap(session: &Session) {
    let mut module = llama(&LlamaShape::default());
    let mut context = PassContext::new(session.registry.clone());
    run(&mut module, &mut context, "canonicalize,cse,optimize{exact=200000}");
    for report in &context.reports {
        let percent = report.gap_millionths().map_or(f64::NAN, |gap| gap as f64 / 1e4);
        let proved = if report.exact.is_some_and(|(_, proved)| proved) { "" } else { " (not proved)" };
        row(
            &format!("extraction gap of {}, {} times{proved}", report.name, report.instances),
            percent,
            1.0,
            "%",
        );
    }
}

fn story(session: &Session) {
    let model = harness::recorded::tests_folder().join("models/story-3m/model.onnx");
    let options = CompileOptions { target: "npu-gen3".into(), ..CompileOptions::default() };
    let compilation =
        session.compile(&Source::Onnx(model), &options).unwrap_or_else(|problems| panic!("{}", problems[0]));
    for (phase, took) in &compilation.phases {
        println!("{:<58} {:>10.2} ms", format!("story-3m: {phase}"), milliseconds(*took));
    }
}

fn main() {
    let session = Session::new();
    optimiser(&session);
    whole_compile(&session);
    extraction_gap(&session);
    story(&session);
}
