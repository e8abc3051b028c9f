//! The optimiser on whole graphs: what a synthetic decoder becomes, that depth costs nothing, that bombs end in a warning.

use std::collections::BTreeMap;
use tilewright_ir::diagnostic::Severity;
use tilewright_ir::module::Module;
use tilewright_ir::registry::Registry;
use tilewright_passes::form_kernels::kernel_count;
use tilewright_passes::pass::{PassContext, Passes, RuleText};
use tilewright_passes::pipeline::PassManager;
use tilewright_passes::synthetic::{LlamaShape, llama};

fn run(module: &mut Module, pipeline: &str, context: &mut PassContext) {
    let manager = PassManager::parse(pipeline, &Passes::default()).unwrap_or_else(|fault| panic!("{fault}"));
    if let Err(failure) = manager.run(module, context, &mut []) {
        panic!("{}: {:?}", failure.pass, failure.diagnostics);
    }
}

fn counts(module: &Module) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for op in module.all_ops() {
        *counts.entry(module.op(op).def.name).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_decoder_layer_becomes_fused_ops() {
    let mut module = llama(&LlamaShape { layers: 3, ..LlamaShape::default() });
    let mut context = PassContext::new(Registry::builtin());
    run(&mut module, "canonicalize,cse,optimize,canonicalize,cse,dce", &mut context);
    for report in &context.reports {
        println!("{report}");
    }
    let counts = counts(&module);
    println!("{counts:?}");
    for (name, per_layer) in [
        ("core.rms_norm", 2),
        ("core.linear", 7),
        ("core.rope", 2),
        ("core.attention", 1),
        ("core.glu", 1),
        ("core.add", 2),
        ("core.softmax", 0),
        ("core.matmul", 0),
    ] {
        assert_eq!(counts.get(name).copied().unwrap_or(0), 3 * per_layer, "{name}");
    }
    run(&mut module, "form-kernels", &mut context);
    let function = module.function("main").expect("a function");
    let kernels = kernel_count(&module, function);
    println!("{kernels} kernels");
    assert!(kernels <= 8 * 3, "{kernels} kernels in 3 layers");
}

#[test]
fn equal_layers_are_optimised_once() {
    let mut module = llama(&LlamaShape { layers: 40, ..LlamaShape::default() });
    let mut context = PassContext::new(Registry::builtin());
    run(&mut module, "canonicalize,cse,optimize", &mut context);
    assert!(context.reports.len() <= 4, "{} unique blocks", context.reports.len());
    assert!(context.reports.iter().any(|report| report.instances >= 38), "no block repeats");
}

#[test]
fn depth_costs_little_and_the_gap_is_small() {
    for layers in [16, 160] {
        let mut module = llama(&LlamaShape { layers, ..LlamaShape::default() });
        let mut context = PassContext::new(Registry::builtin());
        run(&mut module, "canonicalize,cse", &mut context);
        let start = std::time::Instant::now();
        run(&mut module, "optimize{exact=200000}", &mut context);
        println!("{layers} layers: {:?}", start.elapsed());
        for report in &context.reports {
            let (_, proved) = report.exact.expect("the exact mode ran");
            assert!(proved, "{report}");
            assert!(report.gap_millionths().expect("a gap") <= 10_000, "{report}");
        }
    }
}

#[test]
fn threads_do_not_show() {
    let text = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut module = llama(&LlamaShape { layers: 5, ..LlamaShape::default() });
            let mut context = PassContext::new(Registry::builtin());
            for (_, pipeline) in tilewright_passes::PIPELINES {
                run(&mut module, pipeline, &mut context);
            }
            tilewright_ir::print::print(&module, &tilewright_ir::print::PrintOptions::default())
        })
    };
    assert_eq!(text(1), text(2));
}

const BOMB: &str = "
rule bomb expanding {
  (core.mul ?x ?c)
    => (core.mul (core.mul ?x (number scalar(?c) * 2.0 : tensor(element(?x), [])))
                 (number 0.5 : tensor(element(?x), [])))
}
";

#[test]
fn a_growth_bomb_ends_in_a_warning() {
    let mut module = llama(&LlamaShape { layers: 2, ..LlamaShape::default() });
    let mut context = PassContext::new(Registry::builtin());
    context.rules.push(RuleText { name: "bomb.rules".into(), text: BOMB.into() });
    run(&mut module, "canonicalize,cse,optimize{nodes=1000}", &mut context);
    let warning = context.diagnostics.iter().find(|one| one.severity == Severity::Warning);
    let warning = warning.unwrap_or_else(|| panic!("no warning: {:?}", context.reports));
    assert!(warning.what.contains("grew most"), "{warning}");
    for report in &context.reports {
        assert!(report.nodes <= 1200, "{} nodes in a budget of 1000", report.nodes);
    }
}

#[test]
fn bad_rules_are_refused_with_their_place() {
    let cases = [
        (
            "rule a { (core.add ?x ?y) => (core.add ?y ?x) }",
            "bad.rules:1:30: this rule only reorders operands",
        ),
        (
            "rule a { (core.add (core.add ?x ?y) ?z) => (core.add ?x (core.add ?y ?z)) }",
            "1:44: this rule only reorders",
        ),
        ("rule a { (core.ad ?x ?y) => ?x }", "1:11: no op is called 'core.ad'; did you mean 'core.add'?"),
        ("rule a { (core.add ?x ?y) => ?z }", "1:30: '?z' is not bound by the left side"),
        ("rule a { (core.add ?x) => ?x }", "1:10: 'core.add' takes 2 operands (a, b), found 1"),
        ("rule a { (core.softmax ?x) => ?x }", "has attribute 'axis', which the rule does not mention"),
        ("rule a { (core.softmax ?x {axes=1}) => ?x }", "has no attribute 'axes'; did you mean 'axis'?"),
        ("rule a { (core.neg ?x) => (core.neg (core.neg ?x)) }", "mark the rule 'expanding'"),
        (
            "rule a { (core.neg ?x) => ?x where rang(?x) == 1 }",
            "1:36: no function is called 'rang'; did you mean 'rank'?",
        ),
    ];
    for (text, expected) in cases {
        let extra = [RuleText { name: "bad.rules".into(), text: text.into() }];
        let fault = tilewright_passes::rules::load(&Registry::builtin(), &extra).expect_err(text);
        let shown = format!("{}:{}", place(&fault.location), fault.what);
        assert!(shown.replace(": ", ":").contains(&expected.replace(": ", ":")), "{text}\n{shown}");
    }
}

fn place(location: &tilewright_ir::location::Location) -> String {
    match location {
        tilewright_ir::location::Location::File(name, line, column) => format!("{name}:{line}:{column}"),
        other => other.to_string(),
    }
}
