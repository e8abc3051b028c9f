//! Shared parts: makes a core function from a row, compiles it for a target, runs the program, compares with the evaluator.

#![allow(dead_code, reason = "not every test file uses every part")]

pub(crate) mod run;

use run::run;
use std::collections::BTreeMap;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::builtin;
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::parse::{ParseOptions, parse, parse_attribute, parse_type};
use tilewright_ir::print::{PrintOptions, print};
use tilewright_ir::registry::Registry;
use tilewright_ir::sample::Sampler;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{TensorType, Type};
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::lower::{Compiled, Options, compile_function};
use tilewright_targets::target::{HOST, Target};

/// One op to be tried.
pub(crate) struct Row<'a> {
    /// Its name.
    pub(crate) op: &'a str,
    /// Operand types, `""` for one left out, ` in A..B` to bound the values.
    pub(crate) operands: &'a [&'a str],
    /// Attributes as a dictionary.
    pub(crate) attributes: &'a str,
    /// Result types, where they are not inferred.
    pub(crate) results: &'a [&'a str],
}

fn split_bounds(text: &str) -> (&str, Option<(f64, f64)>) {
    match text.split_once(" in ") {
        None => (text, None),
        Some((ty, bounds)) => {
            let (low, high) = bounds.split_once("..").expect("A..B");
            (ty, Some((low.parse().expect("a number"), high.parse().expect("a number"))))
        }
    }
}

/// Makes the function of a row: arguments are the operands, results the op's.
pub(crate) fn row_module(row: &Row) -> Module {
    let def = Registry::builtin().find(row.op).unwrap_or_else(|| panic!("no op {}", row.op));
    let ty = |text: &str| parse_type(split_bounds(text).0).unwrap_or_else(|error| panic!("{text}: {error}"));
    let types: Vec<Option<Type>> =
        row.operands.iter().map(|text| (!text.is_empty()).then(|| ty(text))).collect();
    let mut module = Module::new();
    let body = module.body();
    let function = module.create_op(&builtin::FUNCTION, &[], Attributes::new(), &[], Location::Unknown);
    module.append(body, function);
    let region = module.add_region(function);
    let arguments: Vec<Type> = types.iter().flatten().cloned().collect();
    let block = module.add_block(region, &arguments);
    let mut values = module.block(block).arguments.clone().into_iter();
    let Ok(Attribute::Dict(attributes)) = parse_attribute(row.attributes) else {
        panic!("{}", row.attributes)
    };
    let mut builder = Builder::at_end(&mut module, block);
    builder.location = Location::name(&format!("/test/{}", def.short_name()));
    let mut op = builder.op(def).attributes((*attributes).clone());
    let variadic = def.operands.iter().any(|operand| operand.arity == tilewright_ir::op_def::Arity::Variadic);
    if variadic {
        op = op.operands(&values.collect::<Vec<_>>());
    } else {
        for ty in &types {
            op = op.maybe(ty.as_ref().and_then(|_| values.next()));
        }
    }
    for result in row.results {
        op = op.result(ty(result));
    }
    let op = op.build().unwrap_or_else(|error| panic!("{} {:?}: {error}", row.op, row.operands));
    let results = module.op(op).results.to_vec();
    let types = results.iter().map(|value| module.ty(*value).clone()).collect();
    let end = module.create_op(&builtin::RETURN, &results, Attributes::new(), &[], Location::Unknown);
    module.append(block, end);
    let entries = &mut module.op_mut(function).attributes;
    entries.insert("function_type".into(), Attribute::Type(Type::Function(arguments, types)));
    entries.insert("sym_name".into(), Attribute::str("main"));
    module
}

/// Checks all rows, and tells of all that fail.
pub(crate) fn check_rows(rows: &[Row]) {
    let failed = |row: &&Row| std::panic::catch_unwind(|| check_row(row)).is_err();
    let failures: Vec<&str> = rows.iter().filter(failed).map(|row| row.op).collect();
    assert!(failures.is_empty(), "failed: {failures:?}; the messages are above");
}

/// Compiles and runs a row at several values of its symbols.
pub(crate) fn check_row(row: &Row) {
    let module = row_module(row);
    let bounds: Vec<Option<(f64, f64)>> =
        row.operands.iter().filter(|text| !text.is_empty()).map(|text| split_bounds(text).1).collect();
    check_module(&module, &bounds, &format!("{} {:?} {}", row.op, row.operands, row.attributes));
}

/// Reads a module from text.
pub(crate) fn module_of(text: &str) -> Module {
    let module = parse(text, &Registry::builtin(), &ParseOptions::default());
    let module = module.unwrap_or_else(|errors| panic!("{}", errors[0]));
    let problems = tilewright_ir::verify::verify(&module);
    assert!(problems.is_empty(), "{}", problems[0]);
    module
}

/// The ranges of the test's symbols.
pub(crate) fn symbol_options() -> Options {
    let symbols = BTreeMap::from([("s".to_string(), (1, 3)), ("p".to_string(), (0, 5))]);
    Options { symbols, ..Options::named("main") }
}

/// Compiles `main` for a target; the text of every level must read back.
pub(crate) fn compile(
    module: &Module,
    target: &'static Target,
    options: &Options,
    what: &str,
) -> (Compiled, ConstantPool) {
    let mut constants = ConstantPool::new();
    let machine = target.machine();
    let compiled = compile_function(module, "main", target, &machine, options, &mut constants)
        .unwrap_or_else(|errors| panic!("{what}: {}", errors[0]));
    for level in [&compiled.tile, &compiled.placed] {
        let problems = tilewright_ir::verify::verify(level);
        let text = print(level, &PrintOptions::default());
        assert!(problems.is_empty(), "{what}: {}\n{text}", problems[0]);
        let again = parse(&text, &Registry::builtin(), &ParseOptions::default());
        let again = again.unwrap_or_else(|errors| panic!("{what}: {}\n{text}", errors[0]));
        assert_eq!(print(&again, &PrintOptions::default()), text, "{what}: printing again differs");
    }
    (compiled, constants)
}

/// Runs `main` on the host at several values of the symbols and compares with the evaluator.
pub(crate) fn check_module(module: &Module, bounds: &[Option<(f64, f64)>], what: &str) {
    let (compiled, constants) = compile(module, &HOST, &symbol_options(), what);
    let text = print(module, &PrintOptions::default());
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let mut cases = vec![Bindings::new()];
    for (name, values) in [("s", [1, 2, 3]), ("p", [0, 2, 5])] {
        if words.contains(&name) {
            let with = |case: &Bindings, value: i64| {
                let mut case = case.clone();
                case.insert(name.into(), value);
                case
            };
            cases = cases.iter().flat_map(|case| values.map(|value| with(case, value))).collect();
        }
    }
    for (seed, bindings) in cases.iter().enumerate() {
        let inputs = inputs(module, bounds, bindings, seed as u64);
        let what = format!("{what} at {bindings:?}");
        let expected = evaluate::run_with(module, "main", &inputs, bindings);
        let expected = expected.unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = run(&compiled.program, &constants, &inputs, bindings, &expected, &what);
        for (found, expected) in found.iter().zip(&expected) {
            compare(found, expected, &what);
        }
    }
}

/// Seeded inputs for `main`.
pub(crate) fn inputs(
    module: &Module,
    bounds: &[Option<(f64, f64)>],
    bindings: &Bindings,
    seed: u64,
) -> Vec<Tensor> {
    let function = module.function("main").expect("main");
    let arguments = module.block(module.entry(function, 0)).arguments.clone();
    let mut sampler = Sampler::new(seed);
    let bound = |at: usize| bounds.get(at).copied().flatten();
    let one = |(at, argument)| {
        let ty = module.tensor(argument).expect("a tensor");
        input(&mut sampler, ty, bound(at), bindings)
    };
    arguments.into_iter().enumerate().map(one).collect()
}

fn input(sampler: &mut Sampler, ty: &TensorType, bounds: Option<(f64, f64)>, bindings: &Bindings) -> Tensor {
    let Some((low, high)) = bounds else { return sampler.tensor(ty, bindings).expect("bound") };
    let shape: Vec<usize> =
        ty.shape.iter().map(|dim| dim.evaluate(bindings).expect("bound") as usize).collect();
    let mut value = || {
        let value = low + (high - low) * sampler.unit();
        if ty.element.is_float() { value } else { value.floor() }
    };
    let values = (0..shape.iter().product()).map(|_| value()).collect();
    Tensor::from_floats(ty.element, &shape, values)
}

/// Integers equal; floats within the rounding of their type and of f32 sums.
pub(crate) fn compare(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!((found.element, &found.shape), (expected.element, &expected.shape), "{what}");
    let tolerance = match expected.element.bits() {
        _ if !expected.element.is_float() => 0.0,
        8 => 0.13,
        16 => 4e-3,
        _ => 2e-5,
    };
    for index in 0..expected.len() {
        let (a, b) = (found.float(index), expected.float(index));
        let same = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + b.abs());
        assert!(
            same,
            "{what}: element {index}: found {a}, expected {b}\nfound {found:?}\nexpected {expected:?}"
        );
    }
}
