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
use tilewright_runtime::checker::Limits;
use tilewright_runtime::element::Element;
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::session::{self, Session};
use tilewright_runtime::timing::{Request, estimate};
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::lower::{Compiled, Options, compile_function};
use tilewright_targets::npu_gen3::NPU_GEN3;
use tilewright_targets::npu_gen3::check::check as check_stream;

/// How a case is run.
struct Case<'a> {
    what: &'a str,
    /// SRAM sizes to compile for.
    sram_bytes: &'a [u64],
    /// Values of the symbols.
    bindings: &'a [&'a [(&'a str, i64)]],
    /// Largest value of each symbol.
    maxima: &'a [(&'a str, i64)],
    /// Largest error relative to 1 + the largest |expected|.
    tolerance: f64,
}

const TINY: &[u64] = &[6 << 10, 24 << 10, 1 << 20];
const STATIC: &[&[(&str, i64)]] = &[&[]];

fn plain(what: &str) -> Case<'_> {
    Case { what, sram_bytes: TINY, bindings: STATIC, maxima: &[], tolerance: 1e-5 }
}

fn compile(module: &Module, case: &Case, sram_bytes: u64) -> (Compiled, ConstantPool) {
    let machine = Machine { sram_bytes, ..NPU_GEN3.machine() };
    let symbols: BTreeMap<String, (i64, i64)> =
        case.maxima.iter().map(|(name, maximum)| (name.to_string(), (0, *maximum))).collect();
    let options = Options { symbols, ..Options::named("main") };
    let mut constants = ConstantPool::new();
    let compiled = compile_function(module, "main", &NPU_GEN3, &machine, &options, &mut constants);
    let compiled = compiled.unwrap_or_else(|errors| panic!("{} at {sram_bytes}: {}", case.what, errors[0]));
    for row in &compiled.placement.rows {
        assert_eq!(row.target, "npu-gen3", "{}: {} runs on the host: {}", case.what, row.op, row.reason);
    }
    let violations = check_stream(&compiled.program, &machine);
    assert!(violations.is_empty(), "{}: {}", case.what, violations[0]);
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
    let limits = Limits { engines_stay_on_chip: true, ..Limits::default() };
    let options = session::Options { transfer_mode: mode, limits, ..session::Options::default() };
    let program = compiled.program.clone();
    let names = |bindings: &[tilewright_runtime::stream::Binding]| {
        bindings.iter().map(|binding| binding.name.clone()).collect::<Vec<_>>()
    };
    let (input_names, output_names) = (names(&program.inputs), names(&program.outputs));
    let mut session = Session::from_programs(vec![program], image, options)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    for (name, value) in bindings {
        let _ = session.bind(name, *value);
    }
    for (name, input) in input_names.iter().zip(inputs) {
        let elements = input.to_elements();
        session
            .set_input(name, &input.shape, elements.bytes())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
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
        // Sums cancel: an element is as exact as the largest of its tensor.
        let largest =
            (0..expected.len()).map(|index| expected.float(index).abs()).filter(|value| value.is_finite());
        let limit = tolerance * (1.0 + largest.fold(0.0, f64::max));
        let floats = found.to_f32();
        let integers = if is_float { vec![] } else { found.to_i64() };
        for index in 0..expected.len() {
            if is_float {
                let (a, b) = (f64::from(floats[index]), expected.float(index));
                let same = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= limit;
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

#[test]
fn ops_along_axes_in_tiles() {
    for axis in [0, 1, 2] {
        let attributes = format!("{{axis = {axis} : i64}}");
        check_op("core.softmax", &["tensor<5x9x40xf32>"], &attributes, &[], 1e-5);
        check_op("core.log_softmax", &["tensor<5x9x40xf32>"], &attributes, &[], 1e-5);
        let cumulative = format!("{{axis = {axis} : i64, function = \"sum\", reverse = true}}");
        check_op("core.cumulative", &["tensor<5x9x40xf32>"], &cumulative, &[], 1e-5);
        let keep = format!("{{axes = array<i64: {axis}>, keep_dims = true}}");
        let drop = format!("{{axes = array<i64: {axis}>, keep_dims = false}}");
        for attributes in [keep, drop] {
            check_op("core.reduce_sum", &["tensor<5x9x40xf32>"], &attributes, &[], 1e-5);
            check_op("core.reduce_max", &["tensor<5x9x40xf32>"], &attributes, &[], 1e-5);
            check_op("core.reduce_mean", &["tensor<5x9x40xf16>"], &attributes, &[], 4e-3);
        }
    }
    check_op(
        "core.reduce_sum",
        &["tensor<5x9x40xi32>"],
        "{axes = array<i64: 0, 2>, keep_dims = false}",
        &[],
        0.0,
    );
    check_op(
        "core.arg_reduce",
        &["tensor<5x9x40xf32>"],
        "{axis = 1 : i64, function = \"max\", keep_dims = false, select_last = false}",
        &[],
        0.0,
    );
    check_op("core.rms_norm", &["tensor<17x96xf32>", "tensor<96xf32>"], "{epsilon = 1.0e-5}", &[], 1e-5);
    check_op(
        "core.layer_norm",
        &["tensor<3x17x96xf32>", "tensor<96xf32>", "tensor<96xf32>"],
        "{epsilon = 1.0e-5}",
        &[],
        1e-5,
    );
    for table in ["tensor<11x16xf32>", "tensor<11x8xf32>"] {
        for interleaved in [false, true] {
            let attributes = format!("{{interleaved = {interleaved}}}");
            check_op("core.rope", &["tensor<2x4x11x16xf32>", table, table], &attributes, &[], 1e-5);
        }
    }
}

#[test]
fn quantisation_in_tiles() {
    let x = "tensor<64x48xf32> in -3..3";
    check_op("core.quantize", &[x, "tensor<f32> in 0.01..0.1"], "{}", &["tensor<64x48xi8>"], 0.0);
    check_op(
        "core.quantize",
        &[x, "tensor<48xf32> in 0.01..0.1", "tensor<48xui8> in 0..9"],
        "{axis = 1 : i64}",
        &["tensor<64x48xui8>"],
        0.0,
    );
    check_op(
        "core.dequantize",
        &["tensor<64x48xi4>", "tensor<4x48xf32>", "tensor<4x48xi4>"],
        "{axis = 0 : i64, block = 16 : i64}",
        &[],
        1e-5,
    );
    check_op("core.dequantize", &["tensor<64x48xi8>", "tensor<64xf32>"], "{axis = 0 : i64}", &[], 1e-5);
}

#[test]
fn products_in_tiles() {
    check_op("core.matmul", &["tensor<7x40xf32>", "tensor<40x50xf32>"], "{}", &[], 1e-5);
    check_op("core.matmul", &["tensor<1x40xf32>", "tensor<40x1xf32>"], "{}", &[], 1e-5);
    check_op("core.matmul", &["tensor<2x3x17x40xf32>", "tensor<2x3x40x33xf32>"], "{}", &[], 1e-5);
    check_op("core.matmul", &["tensor<2x3x17x40xf32>", "tensor<3x40x33xf32>"], "{}", &[], 1e-5);
    check_op("core.matmul", &["tensor<5x17x40xf16>", "tensor<40x33xf16>"], "{}", &[], 4e-3);
    // Sums of 700 products of size 1 round at 1e-5.
    check_op("core.matmul", &["tensor<3x700xf32>", "tensor<700x90xf32>"], "{}", &[], 1e-5);
    check_op("core.matmul_integer", &["tensor<9x70xui8>", "tensor<70x40xi8>"], "{}", &[], 0.0);
    check_op(
        "core.matmul_integer",
        &["tensor<2x9x70xui8>", "tensor<70x40xi8>", "tensor<ui8>", "tensor<40xi8>"],
        "{}",
        &[],
        0.0,
    );
    check_op(
        "core.matmul_integer",
        &["tensor<2x9x70xui8>", "tensor<2x70x40xi8>", "tensor<ui8>", "tensor<40xi8>"],
        "{}",
        &[],
        0.0,
    );
    let linear = |operands: &[&str], attributes: &str, tolerance: f64| {
        check_op("core.linear", operands, attributes, &[], tolerance);
    };
    let plain = "{activation = \"none\", transpose_weight = false}";
    let silu = "{activation = \"silu\", transpose_weight = true}";
    linear(&["tensor<2x9x70xf32>", "tensor<70x40xf32>"], plain, 1e-5);
    linear(&["tensor<2x9x70xf32>", "tensor<40x70xf32>", "tensor<40xf32>"], silu, 1e-5);
    linear(&["tensor<19x70xf16>", "tensor<40x70xf16>", "tensor<40xf16>"], silu, 4e-3);
    linear(&["tensor<1x2000xf32>", "tensor<2000x50xf32>"], plain, 1e-5);
    let blocked = "{activation = \"none\", axis = 0 : i64, block = 32 : i64, transpose_weight = false}";
    linear(&["tensor<5x256xf32>", "tensor<256x48xi4>", "", "tensor<8x48xf32>"], blocked, 1e-5);
    linear(
        &["tensor<5x256xf32>", "tensor<256x48xui8>", "", "tensor<8x48xf32>", "tensor<8x48xui8>"],
        blocked,
        1e-5,
    );
    let blocked = "{activation = \"none\", axis = 1 : i64, block = 16 : i64, transpose_weight = true}";
    linear(
        &[
            "tensor<5x2048xf32>",
            "tensor<48x2048xui4>",
            "tensor<48xf32>",
            "tensor<48x128xf32>",
            "tensor<48x128xui4>",
        ],
        blocked,
        1e-5,
    );
    let channel = "{activation = \"none\", axis = 1 : i64, transpose_weight = false}";
    linear(&["tensor<5x256xf32>", "tensor<256x48xi8>", "", "tensor<48xf32>"], channel, 1e-5);
    linear(&["tensor<5x256xf32>", "tensor<256x48xi8>", "", "tensor<f32>"], channel, 1e-5);
}

#[test]
fn attention_in_tiles() {
    let attend = |operands: &[&str], attributes: &str, tolerance: f64| {
        check_op("core.attention", operands, attributes, &[], tolerance);
    };
    let kv = "tensor<2x2x70x16xf32>";
    attend(&["tensor<2x4x5x16xf32>", kv, kv], "{scale = 0.25}", 1e-5);
    attend(&["tensor<2x4x5x16xf32>", kv, kv], "{causal = true, scale = 0.25}", 1e-5);
    attend(&["tensor<2x4x1x16xf32>", kv, kv], "{causal = true, scale = 0.25, window = 9 : i64}", 1e-5);
    attend(&["tensor<2x4x1x16xf32>", kv, kv, "tensor<2x1x1x70xf32>"], "{scale = 0.25, softcap = 5.0}", 1e-5);
    attend(&["tensor<2x4x70x16xf32>", kv, kv, "tensor<70x70xi1>"], "{scale = 0.25}", 1e-5);
    attend(
        &["tensor<2x4x33x16xf32>", kv, kv, "tensor<2x4x33x70xf32>", "tensor<4xf32>"],
        "{causal = true, scale = 0.25}",
        1e-5,
    );
    let kv = "tensor<1x1x40x8xf16>";
    attend(&["tensor<1x3x40x8xf16>", kv, kv], "{causal = true, scale = 0.3}", 4e-3);
}

/// A function body as text, kernels formed.
fn kernels(arguments: &str, body: &str, results: &str) -> Module {
    let names: Vec<&str> =
        arguments.split('%').skip(1).map(|part| part.split(':').next().unwrap_or("").trim()).collect();
    let mut types = Vec::new();
    let mut returned = String::new();
    for part in results.split(" ; ") {
        let (name, ty) = part.split_once(" : ").expect("name : type");
        returned.push_str(if types.is_empty() { "" } else { ", " });
        returned.push_str(name);
        types.push(ty);
    }
    let inputs: Vec<&str> =
        arguments.split(" ; ").map(|part| part.split_once(": ").expect("name: type").1).collect();
    assert_eq!(names.len(), inputs.len());
    let text = format!(
        "\"builtin.module\"() ({{\n\"func.func\"() <{{function_type = ({}) -> ({}), sym_name = \"main\"}}> ({{\n^bb0({}):\n{body}\n\
         \"func.return\"({returned}) : ({}) -> ()\n}}) : () -> ()\n}}) : () -> ()\n",
        inputs.join(", "),
        types.join(", "),
        arguments.replace(" ; ", ", "),
        types.join(", "),
    );
    let mut module = module_of(&text);
    let main = module.function("main").expect("main");
    tilewright_passes::form_kernels::form_kernels(&mut module, main);
    module
}

const FEED_FORWARD: &str = r#"
  %n = "core.rms_norm"(%x, %g) <{epsilon = 1.0e-5}> : (tensor<1x?x64xf32, ["s"]>, tensor<64xf32>) -> tensor<1x?x64xf32, ["s"]>
  %gate = "core.linear"(%n, %wg) <{activation = "silu", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<1x?x64xf32, ["s"]>, tensor<64x96xf32>) -> tensor<1x?x96xf32, ["s"]>
  %up = "core.linear"(%n, %wu) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<1x?x64xf32, ["s"]>, tensor<64x96xf32>) -> tensor<1x?x96xf32, ["s"]>
  %h = "core.mul"(%gate, %up) : (tensor<1x?x96xf32, ["s"]>, tensor<1x?x96xf32, ["s"]>) -> tensor<1x?x96xf32, ["s"]>
  %down = "core.linear"(%h, %wd) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = true}> : (tensor<1x?x96xf32, ["s"]>, tensor<64x96xf32>) -> tensor<1x?x64xf32, ["s"]>
  %y = "core.add"(%down, %x) : (tensor<1x?x64xf32, ["s"]>, tensor<1x?x64xf32, ["s"]>) -> tensor<1x?x64xf32, ["s"]>
"#;

#[test]
fn rows_kernels_fuse_norm_products_and_epilogue() {
    let arguments = "%x: tensor<1x?x64xf32, [\"s\"]> ; %g: tensor<64xf32> ; %wg: tensor<64x96xf32> ; %wu: tensor<64x96xf32> ; %wd: tensor<64x96xf32>";
    let module = kernels(arguments, FEED_FORWARD, "%y : tensor<1x?x64xf32, [\"s\"]>");
    let case = Case {
        sram_bytes: &[12 << 10, 48 << 10, 256 << 10, 1 << 20],
        bindings: &[&[("s", 1)], &[("s", 2)], &[("s", 37)], &[("s", 64)], &[("s", 0)]],
        maxima: &[("s", 64)],
        ..plain("feed-forward")
    };
    check(&module, &[], &case);
}

#[test]
fn softmax_after_a_product_needs_rows_whole() {
    let body = r#"
  %l = "core.linear"(%x, %w) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<3x7x40xf32>, tensor<40x50xf32>) -> tensor<3x7x50xf32>
  %p = "core.softmax"(%l) <{axis = -1 : i64}> : (tensor<3x7x50xf32>) -> tensor<3x7x50xf32>
  %m = "core.mul"(%p, %c) : (tensor<3x7x50xf32>, tensor<f32>) -> tensor<3x7x50xf32>
"#;
    let arguments = "%x: tensor<3x7x40xf32> ; %w: tensor<40x50xf32> ; %c: tensor<f32>";
    let module = kernels(arguments, body, "%m : tensor<3x7x50xf32> ; %l : tensor<3x7x50xf32>");
    check(&module, &[], &Case { sram_bytes: &[12 << 10, 1 << 20], ..plain("softmax head") });
}

#[test]
fn elementwise_kernels_keep_what_is_between_in_sram() {
    let body = r#"
  %a = "core.add"(%x, %b) : (tensor<2x?x70xf32, ["s"]>, tensor<70xf32>) -> tensor<2x?x70xf32, ["s"]>
  %t = "core.tanh"(%a) : (tensor<2x?x70xf32, ["s"]>) -> tensor<2x?x70xf32, ["s"]>
  %y = "core.mul"(%t, %a) : (tensor<2x?x70xf32, ["s"]>, tensor<2x?x70xf32, ["s"]>) -> tensor<2x?x70xf32, ["s"]>
"#;
    let arguments = "%x: tensor<2x?x70xf32, [\"s\"]> ; %b: tensor<70xf32>";
    let results = "%y : tensor<2x?x70xf32, [\"s\"]> ; %t : tensor<2x?x70xf32, [\"s\"]>";
    let module = kernels(arguments, body, results);
    let case = Case {
        bindings: &[&[("s", 1)], &[("s", 3)], &[("s", 40)]],
        maxima: &[("s", 40)],
        ..plain("elementwise kernel")
    };
    check(&module, &[], &case);
}

#[test]
fn attention_at_run_time_lengths() {
    let q = "tensor<1x4x?x16xf32, [\"s\"]>";
    let k = "tensor<1x2x?x16xf32, [\"p + s\"]>";
    let row = Row {
        op: "core.attention",
        operands: &[q, k, k],
        attributes: "{causal = true, scale = 0.25}",
        results: &[],
    };
    let case = Case {
        bindings: &[
            &[("s", 1), ("p", 0)],
            &[("s", 1), ("p", 33)],
            &[("s", 7), ("p", 0)],
            &[("s", 9), ("p", 60)],
        ],
        maxima: &[("s", 9), ("p", 60)],
        ..plain("attention of a context")
    };
    check(&row_module(&row), &[], &case);
}

#[test]
fn attention_rotates_its_queries_on_their_way() {
    let body = r#"
  %q = "core.rope"(%x, %c, %s) <{interleaved = false}> : (tensor<1x4x9x8xf32>, tensor<9x4xf32>, tensor<9x4xf32>) -> tensor<1x4x9x8xf32>
  %y = "core.attention"(%q, %k, %k) <{causal = true, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, scale = 0.3}> : (tensor<1x4x9x8xf32>, tensor<1x2x20x8xf32>, tensor<1x2x20x8xf32>) -> tensor<1x4x9x8xf32>
"#;
    let arguments =
        "%x: tensor<1x4x9x8xf32> ; %c: tensor<9x4xf32> ; %s: tensor<9x4xf32> ; %k: tensor<1x2x20x8xf32>";
    let case = plain("rotated queries");
    let module = kernels(arguments, body, "%y : tensor<1x4x9x8xf32>");
    check(&module, &[], &case);
    let rows = compile(&module, &case, 1 << 20).0.placement.rows;
    assert!(rows.iter().map(|row| &row.op[..]).eq(["kernel attention"]), "{rows:?}");
    // Rotated queries that leave are an op's result of their own.
    let module = kernels(arguments, body, "%y : tensor<1x4x9x8xf32> ; %q : tensor<1x4x9x8xf32>");
    check(&module, &[], &case);
    assert_eq!(compile(&module, &case, 1 << 20).0.placement.rows.len(), 2);
}

/// Little SRAM holds a part of the left side; the rest passes by, from a copy where it was made in the kernel. No size changes a bit.
#[test]
fn a_part_of_the_left_side_stays() {
    let quantized = r#"
  %q = "core.quantize"(%x, %s) <{axis = 1 : i64, block = 1024 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<48x1024xf32>, tensor<48x1xf32>) -> tensor<48x1024xi8>
  %y = "core.linear"(%q, %w, %t) <{activation = "none", axis = 0 : i64, block = 64 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>, transpose_weight = false}> : (tensor<48x1024xi8>, tensor<1024x512xi4>, tensor<16x512xf16>) -> tensor<48x512xf32>
"#;
    let made =
        "%x: tensor<48x1024xf32> ; %s: tensor<48x1xf32> ; %w: tensor<1024x512xi4> ; %t: tensor<16x512xf16>";
    let plain_rows = r#"
  %y = "core.linear"(%x, %w) <{activation = "none", operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>, transpose_weight = false}> : (tensor<48x1024xf32>, tensor<1024x256xf32>) -> tensor<48x256xf32>
"#;
    let given = "%x: tensor<48x1024xf32> ; %w: tensor<1024x256xf32>";
    let parts = [(made, quantized, "512"), (given, plain_rows, "256")];
    for (arguments, body, columns) in parts {
        let module = kernels(arguments, body, &format!("%y : tensor<48x{columns}xf32>"));
        let sizes = &[44 << 10, 64 << 10, 96 << 10, 160 << 10, 1 << 20];
        let case = Case { sram_bytes: sizes, tolerance: 1e-4, ..plain("a part of the left side") };
        let bounds = [None, Some((0.01, 0.02)), None, None];
        check(&module, &bounds[..arguments.split(" ; ").count()], &case);
        let bindings = Bindings::new();
        let inputs = inputs(&module, &bounds[..arguments.split(" ; ").count()], &bindings, 1);
        let mut found = sizes.iter().map(|bytes| {
            let (compiled, constants) = compile(&module, &case, *bytes);
            run(&compiled, &constants, &inputs, &bindings, TransferMode::AtWait, case.what)
        });
        let first = found.next().expect("a size");
        assert!(found.all(|other| other[0].bytes == first[0].bytes), "{columns} columns");
        let copied = |bytes: &u64| {
            let dram_bytes = compile(&module, &case, *bytes).0.memory.bytes.get("dram").copied();
            dram_bytes.is_some_and(|bytes| bytes < 48 * 1024)
        };
        assert!(arguments == given || sizes.iter().any(copied), "no size has a part");
    }
}

#[test]
fn movement_by_dma() {
    let x = "tensor<2x5x40xf32>";
    check_op("core.concat", &[x, "tensor<2x3x40xf32>"], "{axis = 1 : i64}", &[], 0.0);
    for mode in ["constant", "edge", "reflect", "wrap"] {
        let attributes = format!("{{high = [0, 2, 1], low = [0, 1, 3], mode = \"{mode}\"}}");
        check_op("core.pad", &[x], &attributes, &["tensor<2x8x44xf32>"], 0.0);
    }
    check_op("core.gather", &["tensor<50x40xf16>", "tensor<3x4xi64> in 0..50"], "{axis = 0 : i64}", &[], 0.0);
    check_op("core.gather", &["tensor<4x50xi8>", "tensor<3xi32> in -50..50"], "{axis = 1 : i64}", &[], 0.0);
    check_op("core.iota", &[], "{axis = 1 : i64}", &["tensor<3x9000xi64>"], 0.0);
    check_op("core.transpose", &[x], "{permutation = array<i64: 2, 0, 1>}", &[], 0.0);
    check_op("core.reshape", &[x], "{}", &["tensor<10x40xf32>"], 0.0);
}

#[test]
fn windows_in_tiles() {
    let conv = |operands: &[&str], attributes: &str, tolerance: f64| {
        check_op("core.convolution", operands, attributes, &[], tolerance);
    };
    let pads = "{pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>}";
    conv(&["tensor<2x3x12x10xf32>", "tensor<20x3x3x3xf32>", "tensor<20xf32>"], pads, 1e-5);
    conv(
        &["tensor<1x5x13x11xf32>", "tensor<6x5x3x3xf32>"],
        "{dilations = array<i64: 2, 1>, pads_high = array<i64: 2, 0>, pads_low = array<i64: 2, 1>, strides = array<i64: 2, 3>}",
        1e-5,
    );
    conv(
        &["tensor<1x12x9x9xf32>", "tensor<12x1x3x3xf32>", "tensor<12xf32>"],
        "{groups = 12 : i64, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>}",
        1e-5,
    );
    conv(&["tensor<1x12x9x9xf32>", "tensor<6x4x1x1xf32>"], "{groups = 3 : i64}", 1e-5);
    conv(
        &["tensor<1x80x60xf16>", "tensor<24x80x3xf16>", "tensor<24xf16>"],
        "{pads_high = array<i64: 1>, pads_low = array<i64: 1>, strides = array<i64: 2>}",
        4e-3,
    );
    for (operands, attributes) in [
        (
            ["tensor<1x5x13x11xi8>", "tensor<40x5x3x3xi8>", "tensor<40xi32>"],
            "{pads_low = array<i64: 1, 2>, x_zero = -3 : i64}",
        ),
        (
            ["tensor<2x24x9x7xui8>", "tensor<24x1x3x3xi8>", ""],
            "{groups = 24 : i64, strides = array<i64: 2, 1>, x_zero = 7 : i64}",
        ),
        (
            ["tensor<1x80x60xi8>", "tensor<24x80x3xui8>", ""],
            "{pads_high = array<i64: 2>, w_zero = 100 : i64}",
        ),
    ] {
        check_op("core.convolution_integer", &operands, attributes, &[], 0.0);
    }
    check_op(
        "core.quantize",
        &["tensor<2x20x9x9xi32> in -900..900", "tensor<20xf32> in 1..9", "tensor<20xi8> in -9..9"],
        "{axis = 1 : i64}",
        &["tensor<2x20x9x9xi8>"],
        0.0,
    );
    let causal = Row {
        op: "core.convolution",
        operands: &["tensor<1x6x?xf32, [\"s\"]>", "tensor<6x1x3xf32>"],
        attributes: "{groups = 6 : i64, pads_low = array<i64: 2>}",
        results: &[],
    };
    let lengths: &[&[(&str, i64)]] = &[&[("s", 1)], &[("s", 2)], &[("s", 30)]];
    check(
        &row_module(&causal),
        &[],
        &Case { bindings: lengths, maxima: &[("s", 30)], ..plain("causal convolution") },
    );
    let turn = |operands: &[&str], attributes: &str| {
        check_op("core.conv_transpose", operands, attributes, &[], 1e-5);
    };
    turn(&["tensor<1x5x6x7xf32>", "tensor<5x9x3x3xf32>", "tensor<9xf32>"], "{strides = array<i64: 2, 2>}");
    turn(
        &["tensor<2x6x9x4xf32>", "tensor<6x4x2x3xf32>"],
        "{groups = 2 : i64, output_pads = array<i64: 1, 0>, pads_high = array<i64: 0, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 3, 1>}",
    );
    let pool = |attributes: &str| check_op("core.pool", &["tensor<2x7x13x12xf32>"], attributes, &[], 1e-5);
    pool(
        "{function = \"max\", kernel = array<i64: 3, 3>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>}",
    );
    pool("{function = \"average\", kernel = array<i64: 2, 3>, pads_low = array<i64: 1, 1>}");
    pool(
        "{count_include_pad = true, function = \"average\", kernel = array<i64: 3, 3>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>}",
    );
    let body = r#"
  %c = "core.convolution"(%x, %w, %b) <{operandSegmentSizes = array<i32: 1, 1, 1>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>}> : (tensor<1x8x9x9xf32>, tensor<8x8x3x3xf32>, tensor<8xf32>) -> tensor<1x8x9x9xf32>
  %r = "core.relu"(%c) : (tensor<1x8x9x9xf32>) -> tensor<1x8x9x9xf32>
  %y = "core.add"(%r, %x) : (tensor<1x8x9x9xf32>, tensor<1x8x9x9xf32>) -> tensor<1x8x9x9xf32>
"#;
    let arguments = "%x: tensor<1x8x9x9xf32> ; %w: tensor<8x8x3x3xf32> ; %b: tensor<8xf32>";
    check(&kernels(arguments, body, "%y : tensor<1x8x9x9xf32>"), &[], &plain("residual block"));
}

#[test]
fn per_element_gathers_by_dma() {
    check_op(
        "core.gather_elements",
        &["tensor<9x7xf32>", "tensor<4x7xi64> in 0..9"],
        "{axis = 0 : i64}",
        &[],
        0.0,
    );
    check_op("core.gather_nd", &["tensor<9x7x3xf32>", "tensor<4x2xi64> in 0..7"], "{}", &[], 0.0);
}

#[test]
fn decode_moves_weights_once_and_overlaps_computing() {
    let row = Row {
        op: "core.linear",
        operands: &["tensor<1x1024xf16>", "tensor<1024x4096xf16>"],
        attributes: "{activation = \"silu\", transpose_weight = false}",
        results: &[],
    };
    for sram_bytes in [256 << 10, 512 << 10, 1 << 20, 4 << 20] {
        let (compiled, _) = compile(&row_module(&row), &plain("decode"), sram_bytes);
        let figures = tilewright_targets::figures::of(&NPU_GEN3.machine());
        let timing = estimate(&compiled.program, &figures, &Request::default()).expect("a time");
        let least = 1024 * 4096 * 2 + 1024 * 2 + 4096 * 2;
        assert!(timing.total.dram_bytes * 100 <= least * 101, "{} of {least} bytes", timing.total.dram_bytes);
        let bound = least / 32;
        // The first tile cannot overlap, and each transfer has its latency.
        assert!(timing.cycles * 2 <= bound * 3, "{sram_bytes}: {} cycles, at least {bound}", timing.cycles);
    }
}
