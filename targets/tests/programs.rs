//! Whole functions on the host: control flow, kernels, states in place, constants, and what the tables say.

mod common;

use common::run::{feed, output, run, session};
use common::{check_module, compare, compile, inputs, module_of, symbol_options};
use std::collections::BTreeMap;
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::tensor::Tensor;
use tilewright_targets::lower::{Options, lower_function};
use tilewright_targets::target::HOST;

/// A function with one argument list and one body.
fn function(arguments: &str, types: &str, results: &str, body: &str) -> String {
    format!(
        "\"func.func\"() <{{function_type = ({types}) -> ({results}), sym_name = \"main\"}}> ({{\n^bb0({arguments}):\n{body}\n}}) : () -> ()"
    )
}

#[test]
fn a_condition_runs_one_side() {
    let text = function(
        "%c: tensor<i1>, %x: tensor<4xf32>",
        "tensor<i1>, tensor<4xf32>",
        "tensor<4xf32>, tensor<4xf32>",
        r#"
        %y:2 = "core.if"(%c) ({
          %a = "core.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
          "core.yield"(%a, %x) : (tensor<4xf32>, tensor<4xf32>) -> ()
        }, {
          %b = "core.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
          "core.yield"(%b, %b) : (tensor<4xf32>, tensor<4xf32>) -> ()
        }) : (tensor<i1>) -> (tensor<4xf32>, tensor<4xf32>)
        "func.return"(%y#0, %y#1) : (tensor<4xf32>, tensor<4xf32>) -> ()"#,
    );
    for low in [0.0, 1.0] {
        check_module(&module_of(&text), &[Some((low, low + 0.5)), None], "if");
    }
}

#[test]
fn a_loop_carries_swaps_and_stacks() {
    let text = function(
        "%n: tensor<i64>, %x: tensor<3xf32>, %y: tensor<3xf32>",
        "tensor<i64>, tensor<3xf32>, tensor<3xf32>",
        "tensor<3xf32>, tensor<3xf32>, tensor<4x3xf32>",
        r#"
        %r:3 = "core.loop"(%n, %x, %y) <{operandSegmentSizes = array<i32: 1, 0, 2>}> ({
        ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<3xf32>, %b: tensor<3xf32>):
          %f = "core.cast"(%i) : (tensor<i64>) -> tensor<f32>
          %s = "core.add"(%a, %f) : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
          "core.yield"(%go, %b, %s, %a) : (tensor<i1>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> ()
        }) : (tensor<i64>, tensor<3xf32>, tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>, tensor<4x3xf32>)
        "func.return"(%r#0, %r#1, %r#2) : (tensor<3xf32>, tensor<3xf32>, tensor<4x3xf32>) -> ()"#,
    );
    check_module(&module_of(&text), &[Some((4.0, 4.5)), None, None], "loop");
}

#[test]
fn a_loop_stops_at_its_condition() {
    let text = function(
        "%x: tensor<f32>, %limit: tensor<f32>",
        "tensor<f32>, tensor<f32>",
        "tensor<f32>, tensor<i64>",
        r#"
        %go = "core.compare"(%x, %limit) <{predicate = "lt"}> : (tensor<f32>, tensor<f32>) -> tensor<i1>
        %zero = "core.constant"() <{value = dense<0> : tensor<i64>}> : () -> tensor<i64>
        %r:2 = "core.loop"(%go, %x, %zero) <{operandSegmentSizes = array<i32: 0, 1, 2>}> ({
        ^bb0(%i: tensor<i64>, %c: tensor<i1>, %a: tensor<f32>, %n: tensor<i64>):
          %d = "core.add"(%a, %a) : (tensor<f32>, tensor<f32>) -> tensor<f32>
          %more = "core.compare"(%d, %limit) <{predicate = "lt"}> : (tensor<f32>, tensor<f32>) -> tensor<i1>
          "core.yield"(%more, %d, %i) : (tensor<i1>, tensor<f32>, tensor<i64>) -> ()
        }) : (tensor<i1>, tensor<f32>, tensor<i64>) -> (tensor<f32>, tensor<i64>)
        "func.return"(%r#0, %r#1) : (tensor<f32>, tensor<i64>) -> ()"#,
    );
    check_module(&module_of(&text), &[Some((1.0, 2.0)), Some((50.0, 60.0))], "while");
    check_module(&module_of(&text), &[Some((70.0, 80.0)), Some((50.0, 60.0))], "while, never");
}

#[test]
fn a_loop_that_stacks_as_often_as_it_runs_gives_its_length() {
    let text = function(
        "%n: tensor<i64>, %x: tensor<2xf32>",
        "tensor<i64>, tensor<2xf32>",
        "tensor<2xf32>, tensor<?x2xf32, [\"hist\"]>, tensor<?x2xf32, [\"hist\"]>",
        r#"
        %r:2 = "core.loop"(%n, %x) <{operandSegmentSizes = array<i32: 1, 0, 1>}> ({
        ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<2xf32>):
          %d = "core.add"(%a, %a) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
          %s = "core.reduce_max"(%d) <{axes = array<i64: 0>, keep_dims = false}> : (tensor<2xf32>) -> tensor<f32>
          %limit = "core.constant"() <{value = dense<100.0> : tensor<f32>}> : () -> tensor<f32>
          %more = "core.compare"(%s, %limit) <{predicate = "lt"}> : (tensor<f32>, tensor<f32>) -> tensor<i1>
          "core.yield"(%more, %d, %a) : (tensor<i1>, tensor<2xf32>, tensor<2xf32>) -> ()
        }) : (tensor<i64>, tensor<2xf32>) -> (tensor<2xf32>, tensor<?x2xf32, ["hist"]>)
        %h = "core.neg"(%r#1) : (tensor<?x2xf32, ["hist"]>) -> tensor<?x2xf32, ["hist"]>
        "func.return"(%r#0, %r#1, %h) : (tensor<2xf32>, tensor<?x2xf32, ["hist"]>, tensor<?x2xf32, ["hist"]>) -> ()"#,
    );
    let module = module_of(&text);
    for trips in [-1.0, 0.0, 1.0, 3.0, 9e9] {
        check_module(&module, &[Some((trips, trips)), Some((1.0, 2.0))], "stacking loop");
    }
}

#[test]
fn a_loop_that_stacks_more_than_fits_is_a_run_error() {
    let text = function(
        "%n: tensor<i64>, %x: tensor<2xf32>",
        "tensor<i64>, tensor<2xf32>",
        "tensor<2xf32>, tensor<?x2xf32, [\"hist\"]>",
        r#"
        %r:2 = "core.loop"(%n, %x) <{operandSegmentSizes = array<i32: 1, 0, 1>}> ({
        ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<2xf32>):
          "core.yield"(%go, %a, %a) : (tensor<i1>, tensor<2xf32>, tensor<2xf32>) -> ()
        }) : (tensor<i64>, tensor<2xf32>) -> (tensor<2xf32>, tensor<?x2xf32, ["hist"]>)
        "func.return"(%r#0, %r#1) : (tensor<2xf32>, tensor<?x2xf32, ["hist"]>) -> ()"#,
    );
    let module = module_of(&text);
    let mut options = symbol_options();
    options.symbols.insert("hist".to_string(), (0, 4));
    let (compiled, constants) = compile(&module, &HOST, &options, "full loop");
    for (trips, fits) in [(4, true), (5, false)] {
        let given = [
            Tensor::splat(tilewright_ir::element::Element::I64, &[], f64::from(trips)),
            Tensor::splat(tilewright_ir::element::Element::F32, &[2], 1.0),
        ];
        let mut session = session(&compiled.program, &constants, "full loop");
        feed(&mut session, &compiled.program, &given, &Bindings::new(), "full loop");
        assert_eq!(session.run().is_ok(), fits, "{trips} trips");
    }
}

#[test]
fn a_scan_runs_over_slices_of_any_length() {
    let text = function(
        "%h: tensor<2xf32>, %x: tensor<2x?xf32, [\"s\"]>, %y: tensor<?x2xf32, [\"s\"]>",
        "tensor<2xf32>, tensor<2x?xf32, [\"s\"]>, tensor<?x2xf32, [\"s\"]>",
        "tensor<2xf32>, tensor<?x2xf32, [\"s\"]>",
        r#"
        %r:2 = "core.scan"(%h, %x, %y) <{axes = array<i64: 1, 0>, carried_count = 1 : i64, reverse = array<i64: 1, 0>}> ({
        ^bb0(%c: tensor<2xf32>, %a: tensor<2xf32>, %b: tensor<2xf32>):
          %m = "core.mul"(%c, %a) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
          %n = "core.add"(%m, %b) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
          "core.yield"(%n, %m) : (tensor<2xf32>, tensor<2xf32>) -> ()
        }) : (tensor<2xf32>, tensor<2x?xf32, ["s"]>, tensor<?x2xf32, ["s"]>) -> (tensor<2xf32>, tensor<?x2xf32, ["s"]>)
        "func.return"(%r#0, %r#1) : (tensor<2xf32>, tensor<?x2xf32, ["s"]>) -> ()"#,
    );
    check_module(&module_of(&text), &[], "scan");
}

#[test]
fn kernels_fall_apart_and_renamings_cost_nothing() {
    let text = function(
        "%x: tensor<1x?x8xf32, [\"s\"]>",
        "tensor<1x?x8xf32, [\"s\"]>",
        "tensor<1x2x?x4xf32, [\"s\"]>",
        r#"
        %w = "core.constant"() <{value = dense<0.5> : tensor<8x8xf32>}> : () -> tensor<8x8xf32>
        %k = "core.kernel"(%x, %w) <{kind = "linear", name = "k0"}> ({
        ^bb0(%a: tensor<1x?x8xf32, ["s"]>, %b: tensor<8x8xf32>):
          %m = "core.matmul"(%a, %b) : (tensor<1x?x8xf32, ["s"]>, tensor<8x8xf32>) -> tensor<1x?x8xf32, ["s"]>
          %r = "core.silu"(%m) : (tensor<1x?x8xf32, ["s"]>) -> tensor<1x?x8xf32, ["s"]>
          "core.yield"(%r) : (tensor<1x?x8xf32, ["s"]>) -> ()
        }) : (tensor<1x?x8xf32, ["s"]>, tensor<8x8xf32>) -> tensor<1x?x8xf32, ["s"]>
        %h = "core.reshape"(%k) : (tensor<1x?x8xf32, ["s"]>) -> tensor<1x?x2x4xf32, ["s"]>
        %t = "core.transpose"(%h) <{permutation = array<i64: 0, 2, 1, 3>}> : (tensor<1x?x2x4xf32, ["s"]>) -> tensor<1x2x?x4xf32, ["s"]>
        %n = "core.neg"(%t) : (tensor<1x2x?x4xf32, ["s"]>) -> tensor<1x2x?x4xf32, ["s"]>
        "func.return"(%n) : (tensor<1x2x?x4xf32, ["s"]>) -> ()"#,
    );
    let module = module_of(&text);
    check_module(&module, &[], "kernel");
    let machine = HOST.machine();
    let (_, placement) = lower_function(&module, "main", &HOST, &machine, &symbol_options()).expect("lowers");
    let ops: Vec<&str> = placement.rows.iter().map(|row| row.op.as_str()).collect();
    assert_eq!(ops, ["core.matmul", "core.silu", "core.neg"]);
    assert_eq!(placement.rows[0].cost.macs, 3 * 8 * 8);
    assert!(placement.require_target("host").is_ok());
}

#[test]
fn constant_expressions_are_evaluated_once() {
    let text = function(
        "%x: tensor<2x3xf32>",
        "tensor<2x3xf32>",
        "tensor<2x4xf32>, tensor<2x3xf32>",
        r#"
        %q = "core.constant"() <{value = dense<[[1, 2, 3, 4], [5, 6, 7, 8], [-9, 1, 1, 2]]> : tensor<3x4xi8>}> : () -> tensor<3x4xi8>
        %s = "core.constant"() <{value = dense<0.5> : tensor<f32>}> : () -> tensor<f32>
        %w = "core.dequantize"(%q, %s) <{operandSegmentSizes = array<i32: 1, 1, 0>}> : (tensor<3x4xi8>, tensor<f32>) -> tensor<3x4xf32>
        %y = "core.matmul"(%x, %w) : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
        %b = "core.constant"() <{value = dense<2.0> : tensor<3x2xf32>}> : () -> tensor<3x2xf32>
        %t = "core.transpose"(%b) <{permutation = array<i64: 1, 0>}> : (tensor<3x2xf32>) -> tensor<2x3xf32>
        %z = "core.add"(%x, %t) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
        "func.return"(%y, %z) : (tensor<2x4xf32>, tensor<2x3xf32>) -> ()"#,
    );
    let module = module_of(&text);
    check_module(&module, &[], "constants");
    let (compiled, constants) = compile(&module, &HOST, &symbol_options(), "constants");
    // The weight stays in its 8 bits, beside its scale; the addend is stored turned. A dequantize, a matmul and an add.
    assert_eq!(constants.constants().len(), 3);
    assert_eq!(compiled.program.commands.len(), 4);
}

/// One decoding step: `present = concat(past, k)`, a window state of one size, and an output that reads both.
const DECODER: &str = r#"
"func.func"() <{
  arg_attrs = [{tw.name = "k"}, {tw.name = "past.0.key", tw.state = "present.0.key"}, {tw.name = "past.0.conv", tw.state = "present.0.conv"}],
  function_type = (tensor<1x2x?x4xf32, ["s"]>, tensor<1x2x?x4xf32, ["p"]>, tensor<1x3xf32>)
    -> (tensor<1x2x?xf32, ["s"]>, tensor<1x2x?x4xf32, ["p + s"]>, tensor<1x3xf32>),
  res_attrs = [{tw.name = "y"}, {tw.name = "present.0.key", tw.state = "past.0.key"}, {tw.name = "present.0.conv", tw.state = "past.0.conv"}],
  sym_name = "main"
}> ({
^bb0(%k: tensor<1x2x?x4xf32, ["s"]>, %past: tensor<1x2x?x4xf32, ["p"]>, %conv: tensor<1x3xf32>):
  %all = "core.concat"(%past, %k) <{axis = 2 : i64}> : (tensor<1x2x?x4xf32, ["p"]>, tensor<1x2x?x4xf32, ["s"]>) -> tensor<1x2x?x4xf32, ["p + s"]>
  %sum = "core.reduce_sum"(%all) <{axes = array<i64: 2, 3>, keep_dims = true}> : (tensor<1x2x?x4xf32, ["p + s"]>) -> tensor<1x2x1x1xf32>
  %row = "core.reduce_sum"(%k) <{axes = array<i64: 3>, keep_dims = true}> : (tensor<1x2x?x4xf32, ["s"]>) -> tensor<1x2x?x1xf32, ["s"]>
  %mix = "core.add"(%row, %sum) : (tensor<1x2x?x1xf32, ["s"]>, tensor<1x2x1x1xf32>) -> tensor<1x2x?x1xf32, ["s"]>
  %y = "core.reshape"(%mix) : (tensor<1x2x?x1xf32, ["s"]>) -> tensor<1x2x?xf32, ["s"]>
  %tail = "core.slice"(%conv) <{starts = [0, 1], steps = array<i64: 1, 1>}> : (tensor<1x3xf32>) -> tensor<1x2xf32>
  %one = "core.constant"() <{value = dense<1.0> : tensor<1x1xf32>}> : () -> tensor<1x1xf32>
  %next = "core.concat"(%tail, %one) <{axis = 1 : i64}> : (tensor<1x2xf32>, tensor<1x1xf32>) -> tensor<1x3xf32>
  "func.return"(%y, %all, %next) : (tensor<1x2x?xf32, ["s"]>, tensor<1x2x?x4xf32, ["p + s"]>, tensor<1x3xf32>) -> ()
}) : () -> ()
"#;

#[test]
fn states_without_a_window_are_inputs_and_outputs() {
    let module = module_of(DECODER);
    check_module(&module, &[], "states as inputs");
}

#[test]
fn states_stay_in_place_between_runs() {
    // Only the new part of the growing state is moved.
    decode_in_steps(DECODER, Some(2 * 2 * 3 * 4 * 4));
}

#[test]
fn states_stay_in_place_through_kernels() {
    let concat = r#"%all = "core.concat"(%past, %k) <{axis = 2 : i64}> : (tensor<1x2x?x4xf32, ["p"]>, tensor<1x2x?x4xf32, ["s"]>) -> tensor<1x2x?x4xf32, ["p + s"]>"#;
    let kernel = r#"%all = "core.kernel"(%k, %past) <{kind = "concat", name = "k0"}> ({
      ^bb0(%new: tensor<1x2x?x4xf32, ["s"]>, %old: tensor<1x2x?x4xf32, ["p"]>):
        %both = "core.concat"(%old, %new) <{axis = 2 : i64}> : (tensor<1x2x?x4xf32, ["p"]>, tensor<1x2x?x4xf32, ["s"]>) -> tensor<1x2x?x4xf32, ["p + s"]>
        "core.yield"(%both) : (tensor<1x2x?x4xf32, ["p + s"]>) -> ()
      }) : (tensor<1x2x?x4xf32, ["s"]>, tensor<1x2x?x4xf32, ["p"]>) -> tensor<1x2x?x4xf32, ["p + s"]>"#;
    let text = DECODER.replace(concat, kernel);
    assert_ne!(text, DECODER);
    decode_in_steps(&text, Some(2 * 2 * 3 * 4 * 4));
}

#[test]
fn states_that_grow_in_another_way_are_replaced() {
    let text = DECODER.replace("\"core.concat\"(%past, %k)", "\"core.concat\"(%k, %past)").replace(
        "(tensor<1x2x?x4xf32, [\"p\"]>, tensor<1x2x?x4xf32, [\"s\"]>) -> tensor<1x2x?x4xf32, [\"p + s\"]>",
        "(tensor<1x2x?x4xf32, [\"s\"]>, tensor<1x2x?x4xf32, [\"p\"]>) -> tensor<1x2x?x4xf32, [\"p + s\"]>",
    );
    assert_ne!(text, DECODER);
    decode_in_steps(&text, None);
}

/// Runs four steps on one session and compares all results of each.
fn decode_in_steps(text: &str, concat_bytes: Option<u64>) {
    let module = module_of(text);
    let mut options = symbol_options();
    options.symbols = BTreeMap::from([("s".to_string(), (1, 3)), ("p".to_string(), (0, 6))]);
    options.context_window = Some(9);
    let (compiled, constants) = compile(&module, &HOST, &options, "states");
    let program = &compiled.program;
    assert_eq!((program.inputs.len(), program.outputs.len(), program.states.len()), (1, 1, 2));
    assert_eq!((program.states[0].growing_axis, program.states[1].growing_axis), (Some(2), None));
    let moved = compiled.placement.rows.iter().find(|row| row.op == "core.concat").expect("a row");
    assert!(concat_bytes.is_none_or(|bytes| bytes == moved.cost.dram_bytes), "{}", moved.cost.dram_bytes);
    let mut session = session(program, &constants, "states");
    let mut past = Tensor::from_floats(tilewright_ir::element::Element::F32, &[1, 2, 0, 4], Vec::new());
    let mut conv = Tensor::splat(tilewright_ir::element::Element::F32, &[1, 3], 0.0);
    for (step, length) in [3i64, 1, 2, 1].into_iter().enumerate() {
        let bindings = Bindings::from([("s".into(), length), ("p".into(), past.shape[2] as i64)]);
        let k = inputs(&module, &[], &bindings, step as u64).swap_remove(0);
        let expected =
            evaluate::run_with(&module, "main", &[k.clone(), past, conv], &bindings).expect("evaluates");
        feed(&mut session, program, &[k], &bindings, "states");
        session.run().unwrap_or_else(|error| panic!("{error}"));
        for (name, expected) in ["y", "present.0.key", "present.0.conv"].iter().zip(&expected) {
            compare(&output(&mut session, name, expected, name), expected, &format!("{name}, step {step}"));
        }
        let mut expected = expected.into_iter().skip(1);
        (past, conv) = (expected.next().expect("a key"), expected.next().expect("a window"));
    }
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let module = module_of(DECODER);
    let (first, _) = compile(&module, &HOST, &symbol_options(), "once");
    let (second, _) = compile(&module, &HOST, &symbol_options(), "twice");
    assert_eq!(first.program.encode(), second.program.encode());
}

#[test]
fn an_open_symbol_and_a_repeated_result_are_handled() {
    let text = function(
        "%x: tensor<?xf32, [\"q\"]>",
        "tensor<?xf32, [\"q\"]>",
        "tensor<?xf32, [\"q\"]>, tensor<?xf32, [\"q\"]>, tensor<?xf32, [\"q\"]>",
        r#"
        %y = "core.neg"(%x) : (tensor<?xf32, ["q"]>) -> tensor<?xf32, ["q"]>
        "func.return"(%y, %x, %y) : (tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>, tensor<?xf32, ["q"]>) -> ()"#,
    );
    let module = module_of(&text);
    let machine = HOST.machine();
    let errors =
        lower_function(&module, "main", &HOST, &machine, &Options::named("main")).expect_err("q is open");
    assert!(errors[0].what.contains("'q'") && errors[0].help.contains("--bind q="), "{}", errors[0]);
    let options = Options { symbols: BTreeMap::from([("q".to_string(), (0, 4))]), ..Options::named("main") };
    let (compiled, constants) = compile(&module, &HOST, &options, "repeated");
    let bindings = Bindings::from([("q".into(), 3)]);
    let given = inputs(&module, &[], &bindings, 1);
    let expected = evaluate::run_with(&module, "main", &given, &bindings).expect("evaluates");
    let found = run(&compiled.program, &constants, &given, &bindings, &expected, "repeated");
    for (found, expected) in found.iter().zip(&expected) {
        compare(found, expected, "repeated");
    }
}
