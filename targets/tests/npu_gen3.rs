//! npu-gen3: programs in the interpreter against the reference evaluator, with transfers at once and at their waits, on machines of
//! several SRAM sizes (also tiny ones, so that small tensors are cut into many tiles), at several values of the symbols.

mod common;

use common::{Row, inputs, module_of, row_module};
use std::collections::BTreeMap;
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::module::Module;
use tilewright_ir::tensor::Tensor;
use tilewright_passes::machine::Machine;
use tilewright_runtime::element::Element;
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::session::{self, Session};
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::lower::{Compiled, Options, compile_function};
use tilewright_targets::npu_gen3::NPU_GEN3;

/// How a case is run.
struct Case<'a> {
    what: &'a str,
    /// SRAM sizes to compile for.
    sram_bytes: &'a [u64],
    /// Values of the symbols.
    bindings: &'a [&'a [(&'a str, i64)]],
    /// Largest value of each symbol.
    maxima: &'a [(&'a str, i64)],
    /// Largest error relative to 1 + |expected|.
    tolerance: f64,
}

const TINY: &[u64] = &[6 << 10, 24 << 10, 1 << 20];
const STATIC: &[&[(&str, i64)]] = &[&[]];

fn plain(what: &str) -> Case<'_> {
    Case { what, sram_bytes: TINY, bindings: STATIC, maxima: &[], tolerance: 1e-5 }
}

fn compile(module: &Module, case: &Case, sram_bytes: u64) -> (Compiled, ConstantPool) {
    let machine = Machine { sram_bytes, ..(NPU_GEN3.machine)() };
    let symbols: BTreeMap<String, (i64, i64)> =
        case.maxima.iter().map(|(name, maximum)| (name.to_string(), (0, *maximum))).collect();
    let options = Options { symbols, ..Options::named("main") };
    let mut constants = ConstantPool::new();
    let compiled = compile_function(module, "main", &NPU_GEN3, &machine, &options, &mut constants);
    let compiled = compiled.unwrap_or_else(|errors| panic!("{} at {sram_bytes}: {}", case.what, errors[0]));
    for row in &compiled.placement.rows {
        assert_eq!(row.target, "npu-gen3", "{}: {} runs on the host: {}", case.what, row.op, row.reason);
    }
    (compiled, constants)
}

fn check(module: &Module, bounds: &[Option<(f64, f64)>], case: &Case) {
    for sram_bytes in case.sram_bytes {
        let (compiled, constants) = compile(module, case, *sram_bytes);
        for (seed, bindings) in case.bindings.iter().enumerate() {
            let bindings: Bindings = bindings.iter().map(|(name, value)| ((*name).into(), *value)).collect();
            let what = format!("{} with {sram_bytes} bytes of SRAM at {bindings:?}", case.what);
            let inputs = inputs(module, bounds, &bindings, seed as u64);
            let expected = evaluate::run_with(module, "main", &inputs, &bindings);
            let expected = expected.unwrap_or_else(|error| panic!("{what}: {error}"));
            for mode in [TransferMode::Immediate, TransferMode::AtWait] {
                let what = format!("{what}, {mode:?}");
                let found = run(&compiled, &constants, &inputs, &bindings, mode, &what);
                compare(&found, &expected, case.tolerance, &what);
            }
        }
    }
}

fn run(
    compiled: &Compiled,
    constants: &ConstantPool,
    inputs: &[Tensor],
    bindings: &Bindings,
    mode: TransferMode,
    what: &str,
) -> Vec<session::Tensor> {
    let image = constants.image().expect("constants");
    let options = session::Options { transfer_mode: mode, ..session::Options::default() };
    let program = compiled.program.clone();
    let names = |bindings: &[tilewright_runtime::stream::Binding]| {
        bindings.iter().map(|binding| binding.name.clone()).collect::<Vec<_>>()
    };
    let (input_names, output_names) = (names(&program.inputs), names(&program.outputs));
    let mut session =
        Session::from_programs(vec![program], image, options).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (name, value) in bindings {
        let _ = session.bind(name, *value);
    }
    for (name, input) in input_names.iter().zip(inputs) {
        let elements = input.to_elements();
        session.set_input(name, &input.shape, elements.bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    session.run().unwrap_or_else(|error| panic!("{what}: {error}"));
    let output = |name: &String| session.output(name).unwrap_or_else(|error| panic!("{what}: {error}"));
    output_names.iter().map(output).collect()
}

fn compare(found: &[session::Tensor], expected: &[Tensor], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: number of outputs");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.shape, expected.shape, "{what}");
        let is_float = expected.element.is_float();
        let floats = found.to_f32();
        let integers = if is_float { vec![] } else { found.to_i64() };
        for index in 0..expected.len() {
            if is_float {
                let (a, b) = (f64::from(floats[index]), expected.float(index));
                let same = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + b.abs());
                assert!(same, "{what}: element {index} of {:?}: found {a}, expected {b}", expected.shape);
            } else {
                assert_eq!(integers[index], expected.int(index), "{what}: element {index}");
            }
        }
        assert_ne!(found.element, Element::NF4);
    }
}

fn check_op(op: &str, operands: &[&str], attributes: &str, results: &[&str], tolerance: f64) {
    let row = Row { op, operands, attributes, results };
    let bounds: Vec<Option<(f64, f64)>> = operands
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| {
            let (low, high) = text.split_once(" in ")?.1.split_once("..")?;
            Some((low.parse().ok()?, high.parse().ok()?))
        })
        .collect();
    let what = format!("{op} {operands:?} {attributes}");
    check(&row_module(&row), &bounds, &Case { tolerance, ..plain(&what) });
}

#[test]
fn elementwise_ops_in_tiles() {
    check_op("core.silu", &["tensor<3x1000xf32>"], "{}", &[], 1e-5);
    check_op("core.add", &["tensor<3x5x70xf32>", "tensor<70xf32>"], "{}", &[], 1e-5);
    check_op("core.mul", &["tensor<3x5x70xf32>", "tensor<5x1xf32>"], "{}", &[], 1e-5);
    check_op("core.add", &["tensor<40x33xf16>", "tensor<40x33xf16>"], "{}", &[], 4e-3);
    check_op("core.add", &["tensor<f32>", "tensor<f32>"], "{}", &[], 1e-5);
    check_op("core.compare", &["tensor<40x50xi64>", "tensor<50xi64>"], "{predicate = \"le\"}", &[], 0.0);
    check_op("core.select", &["tensor<40x1xi1>", "tensor<40x50xf32>", "tensor<f32>"], "{}", &[], 1e-5);
    check_op("core.cast", &["tensor<40x50xf32> in -300..300"], "{}", &["tensor<40x50xi8>"], 0.0);
    check_op("core.glu", &["tensor<7x300xf32>", "tensor<7x300xf32>"], "{activation = \"silu\"}", &[], 1e-5);
    check_op("core.clamp", &["tensor<7x300xi32>"], "{min = 1.0, max = 5.0}", &[], 0.0);
}
