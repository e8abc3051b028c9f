//! Every core op on the host: its program in the interpreter against the reference evaluator, on seeded inputs, with symbolic
//! dimensions at several values.
//!
//! A row reads: op, operand types (`""` leaves an optional operand out; ` in A..B` bounds its values), attributes, result types where
//! they are not inferred. Symbols `s` and `p` run over 1..=3 and 0..=5.

mod common;

use common::{Row, check_row, check_rows};

const fn row<'a>(
    op: &'a str,
    operands: &'a [&'a str],
    attributes: &'a str,
    results: &'a [&'a str],
) -> Row<'a> {
    Row { op, operands, attributes, results }
}

const F: &str = "tensor<2x3x4xf32>";
const H: &str = "tensor<2x3x4xf16>";
const I: &str = "tensor<2x3x4xi64>";
const S: &str = "tensor<2x?x4xf32, [\"s\"]>";

#[test]
fn unary() {
    for op in ["neg", "abs", "exp", "tanh", "sigmoid", "erf", "relu", "silu", "sign", "is_nan"] {
        for ty in [F, H, S] {
            check_row(&Row { op: &format!("core.{op}"), operands: &[ty], attributes: "{}", results: &[] });
        }
    }
    let rows = [
        row("core.log", &["tensor<7xf32> in 0.1..9"], "{}", &[]),
        row("core.sqrt", &["tensor<7xf32> in 0..9"], "{}", &[]),
        row("core.rsqrt", &["tensor<7xf32> in 0.1..9"], "{}", &[]),
        row("core.reciprocal", &["tensor<7xf32> in 0.5..9"], "{}", &[]),
        row("core.neg", &[I], "{}", &[]),
        row("core.abs", &["tensor<5xi8>"], "{}", &[]),
        row("core.relu", &["tensor<5xi32>"], "{}", &[]),
        row("core.sign", &[I], "{}", &[]),
        row("core.not", &["tensor<9xi1>"], "{}", &[]),
        row("core.bitwise_not", &["tensor<9xui8>"], "{}", &[]),
        row("core.gelu", &[F], "{approximate = \"none\"}", &[]),
        row("core.gelu", &[H], "{approximate = \"tanh\"}", &[]),
        row("core.round", &[F], "{mode = \"half_even\"}", &[]),
        row("core.round", &[F], "{mode = \"floor\"}", &[]),
        row("core.round", &[F], "{mode = \"ceil\"}", &[]),
        row("core.round", &[F], "{mode = \"trunc\"}", &[]),
        row("core.leaky_relu", &[F], "{alpha = 0.1}", &[]),
        row("core.elu", &[F], "{alpha = 1.5}", &[]),
        row("core.hard_sigmoid", &[F], "{alpha = 0.2, beta = 0.5}", &[]),
        row("core.clamp", &[F], "{min = -0.5, max = 1.0}", &[]),
        row("core.clamp", &[F], "{min = 0.25}", &[]),
        row("core.clamp", &[I], "{max = 2.0}", &[]),
    ];
    check_rows(&rows);
    for function in
        ["sin", "cos", "tan", "atan", "sinh", "cosh", "asinh", "softplus", "softsign", "mish", "expm1"]
    {
        let attributes = &format!("{{function = \"{function}\"}}");
        check_row(&Row { op: "core.math", operands: &[F], attributes, results: &[] });
    }
    for function in ["asin", "acos", "atanh", "log1p"] {
        let attributes = &format!("{{function = \"{function}\"}}");
        check_row(&Row {
            op: "core.math",
            operands: &["tensor<6xf32> in -0.9..0.9"],
            attributes,
            results: &[],
        });
    }
    check_row(&row("core.math", &["tensor<6xf32> in 1.1..4"], "{function = \"acosh\"}", &[]));
}

#[test]
fn binary() {
    for op in ["add", "sub", "mul", "max", "min"] {
        let op = &format!("core.{op}");
        for operands in [
            &[F, F],
            &[F, "tensor<4xf32>"],
            &["tensor<3x1xf32>", F],
            &[S, "tensor<2x1x4xf32>"],
            &[I, I],
            &[H, H],
        ] {
            check_row(&Row { op, operands, attributes: "{}", results: &[] });
        }
    }
    let rows = [
        row("core.div", &[F, "tensor<4xf32> in 0.5..2"], "{}", &[]),
        row("core.div", &[I, I], "{}", &[]),
        row("core.pow", &["tensor<5xf32> in 0.1..3", "tensor<5xf32>"], "{}", &[]),
        row("core.pow", &["tensor<5xi64>", "tensor<5xi64> in 0..4"], "{}", &[]),
        row("core.remainder", &[I, I], "{mode = \"floor\"}", &[]),
        row("core.remainder", &[F, "tensor<4xf32> in 0.5..2"], "{mode = \"trunc\"}", &[]),
        row("core.compare", &[F, F], "{predicate = \"lt\"}", &[]),
        row("core.compare", &[I, "tensor<3x1xi64>"], "{predicate = \"ge\"}", &[]),
        row("core.compare", &["tensor<4xi1>", "tensor<4xi1>"], "{predicate = \"eq\"}", &[]),
        row("core.logical", &["tensor<4xi1>", "tensor<3x1xi1>"], "{function = \"xor\"}", &[]),
        row("core.bitwise", &["tensor<9xi32>", "tensor<9xi32>"], "{function = \"and\"}", &[]),
        row("core.bitwise", &["tensor<9xui32>", "tensor<9xui32> in 0..8"], "{function = \"shl\"}", &[]),
        row("core.bitwise", &["tensor<9xi32>", "tensor<9xi32> in 0..40"], "{function = \"shr\"}", &[]),
        row("core.select", &["tensor<3x4xi1>", F, "tensor<1x1x1xf32>"], "{}", &[]),
        row("core.select", &["tensor<?x1xi1, [\"s\"]>", S, "tensor<f32>"], "{}", &[]),
    ];
    check_rows(&rows);
}

#[test]
fn casts() {
    let elements = ["f32", "f16", "bf16", "f64", "i64", "i32", "i8", "ui8", "i1", "i4"];
    for from in elements {
        for to in elements {
            let operand = &format!("tensor<3x2x{from}> in -3..7");
            let result = &format!("tensor<3x2x{to}>");
            check_row(&Row { op: "core.cast", operands: &[operand], attributes: "{}", results: &[result] });
        }
    }
    let rows = [
        row("core.cast", &["tensor<9xf32> in -300..300"], "{}", &["tensor<9xi8>"]),
        row("core.cast", &["tensor<9xi32> in -300..300"], "{}", &["tensor<9xui8>"]),
        row("core.cast", &["tensor<9xf32> in -600..600"], "{}", &["tensor<9xf8E4M3FN>"]),
        row("core.cast", &["tensor<9xf32> in -600..600"], "{saturate = false}", &["tensor<9xf8E5M2>"]),
        row("core.bitcast", &["tensor<9xf32>"], "{}", &["tensor<9xi32>"]),
        row("core.bitcast", &["tensor<9xi8>"], "{}", &["tensor<9xui8>"]),
    ];
    check_rows(&rows);
}

#[test]
fn movement() {
    let rows = [
        row("core.reshape", &[F], "{}", &["tensor<6x4xf32>"]),
        row("core.reshape", &[S], "{}", &["tensor<2x?x2x2xf32, [\"s\"]>"]),
        row("core.reshape", &[S], "{}", &["tensor<?x4xf32, [\"2*s\"]>"]),
        row("core.reshape", &["tensor<?x4xf32, [\"2*s\"]>"], "{}", &[S]),
        row("core.reshape", &["tensor<f32>"], "{}", &["tensor<1x1xf32>"]),
        row("core.transpose", &[F], "{permutation = array<i64: 2, 0, 1>}", &[]),
        row("core.transpose", &[S], "{permutation = array<i64: 1, 2, 0>}", &[]),
        row("core.broadcast", &["tensor<3x1xf32>"], "{}", &[F]),
        row("core.slice", &[F], "{starts = [0, 2, 1], steps = array<i64: 1, -1, 2>}", &["tensor<2x3x2xf32>"]),
        row(
            "core.slice",
            &["tensor<2x?xf32, [\"p + s\"]>"],
            "{starts = [1, \"p\"], steps = array<i64: 1, 1>}",
            &["tensor<1x?xf32, [\"s\"]>"],
        ),
        row("core.concat", &[F, "tensor<2x1x4xf32>"], "{axis = 1 : i64}", &[]),
        row(
            "core.concat",
            &["tensor<2x?xi64, [\"p\"]>", "tensor<2x?xi64, [\"s\"]>"],
            "{axis = -1 : i64}",
            &[],
        ),
        row("core.size", &[], "{value = \"2*p + s\"}", &["tensor<i64>"]),
        row("core.iota", &[], "{axis = 1 : i64}", &["tensor<2x5xi64>"]),
        row("core.iota", &[], "{axis = 0 : i64}", &["tensor<?x2xf32, [\"p\"]>"]),
    ];
    check_rows(&rows);
}

#[test]
fn padding() {
    let rows = [
        row("core.pad", &[F, ""], "{high = [1, 0, 2], low = [0, 1, 0]}", &[]),
        row(
            "core.pad",
            &[F, "tensor<f32>"],
            "{high = [1, -1, 2], low = [0, 1, -1], mode = \"constant\"}",
            &[],
        ),
        row("core.pad", &[F, ""], "{high = [1, 2, 3], low = [2, 0, 1], mode = \"edge\"}", &[]),
        row("core.pad", &[F, ""], "{high = [1, 2, 3], low = [1, 1, 2], mode = \"reflect\"}", &[]),
        row("core.pad", &[F, ""], "{high = [0, 2, 5], low = [1, 0, 3], mode = \"wrap\"}", &[]),
        row("core.pad", &["tensor<3xi64>", ""], "{high = [7], low = [5], mode = \"reflect\"}", &[]),
        row("core.pad", &[S, ""], "{high = [0, \"p\", 0], low = [0, 0, 1], mode = \"constant\"}", &[]),
        row("core.pad", &[S, ""], "{high = [0, \"p\", 0], low = [0, 0, 1], mode = \"edge\"}", &[]),
    ];
    check_rows(&rows);
}

#[test]
fn indexing() {
    let rows = [
        row("core.gather", &["tensor<5x4xf32>", "tensor<2x3xi64> in -5..5"], "{axis = 0 : i64}", &[]),
        row("core.gather", &["tensor<2x5x3xf32>", "tensor<i64> in 0..5"], "{axis = 1 : i64}", &[]),
        row("core.gather", &["tensor<6x2xi8>", "tensor<1x?xi32, [\"s\"]> in 0..6"], "{axis = 0 : i64}", &[]),
        row("core.gather", &["tensor<5x4xf32>", "tensor<3xui8> in 0..5"], "{axis = 0 : i64}", &[]),
        row(
            "core.gather_elements",
            &["tensor<3x4xf32>", "tensor<2x4xi64> in -3..3"],
            "{axis = 0 : i64}",
            &[],
        ),
        row("core.gather_nd", &["tensor<3x4x2xf32>", "tensor<5x2xi64> in 0..3"], "{}", &[]),
        row(
            "core.gather_nd",
            &["tensor<3x4x2xf32>", "tensor<3x2x1xi64> in 0..4"],
            "{batch_dims = 1 : i64}",
            &[],
        ),
        row(
            "core.scatter_elements",
            &["tensor<3x4xf32>", "tensor<2x4xi64> in 0..3", "tensor<2x4xf32>"],
            "{axis = 0 : i64, reduction = \"add\"}",
            &[],
        ),
        row(
            "core.scatter_elements",
            &["tensor<3x4xi64>", "tensor<3x2xi64> in 0..4", "tensor<3x2xi64>"],
            "{axis = 1 : i64}",
            &[],
        ),
        row(
            "core.scatter_nd",
            &["tensor<4x3xf32>", "tensor<2x1xi64> in 0..4", "tensor<2x3xf32>"],
            "{reduction = \"max\"}",
            &[],
        ),
        row("core.top_k", &["tensor<3x7xf32>"], "{axis = -1 : i64, k = 3 : i64, largest = true}", &[]),
        row("core.top_k", &["tensor<7x2xi32>"], "{axis = 0 : i64, k = 2 : i64, largest = false}", &[]),
        row("core.arg_reduce", &[F], "{axis = 1 : i64, function = \"max\", keep_dims = true}", &[]),
        row(
            "core.arg_reduce",
            &[I],
            "{axis = -1 : i64, function = \"min\", keep_dims = false, select_last = true}",
            &[],
        ),
    ];
    check_rows(&rows);
}

#[test]
fn reductions() {
    for op in ["sum", "mean", "max", "min", "prod"] {
        let op = &format!("core.reduce_{op}");
        for ty in [F, S, I, H] {
            let operands = &[ty];
            for attributes in [
                "{axes = array<i64: 1>, keep_dims = true}",
                "{axes = array<i64: 2, 0>, keep_dims = false}",
                "{axes = array<i64: 0, 1, 2>, keep_dims = false}",
                "{axes = array<i64>, keep_dims = true}",
            ] {
                check_row(&Row { op, operands, attributes, results: &[] });
            }
        }
    }
    let rows = [
        row("core.cumulative", &[F], "{axis = 1 : i64, function = \"sum\"}", &[]),
        row(
            "core.cumulative",
            &[I],
            "{axis = 2 : i64, exclusive = true, function = \"prod\", reverse = true}",
            &[],
        ),
        row("core.softmax", &[F], "{axis = 1 : i64}", &[]),
        row("core.softmax", &[S], "{axis = 1 : i64}", &[]),
        row("core.softmax", &[H], "{axis = -1 : i64}", &[]),
        row("core.log_softmax", &[F], "{axis = 0 : i64}", &[]),
        row("core.rms_norm", &[S, "tensor<4xf32>"], "{epsilon = 1.0e-05}", &[]),
        row("core.rms_norm", &[H, "tensor<4xf16>"], "{epsilon = 1.0e-05}", &[]),
        row("core.layer_norm", &[F, "tensor<4xf32>", "tensor<4xf32>"], "{epsilon = 1.0e-05}", &[]),
        row("core.layer_norm", &[F, "tensor<4xf32>", ""], "{epsilon = 1.0e-05}", &[]),
    ];
    check_rows(&rows);
}

#[test]
fn products() {
    let rows = [
        row("core.matmul", &["tensor<3x4xf32>", "tensor<4x5xf32>"], "{}", &[]),
        row("core.matmul", &["tensor<2x3x4xf32>", "tensor<4x5xf32>"], "{}", &[]),
        row("core.matmul", &["tensor<2x1x3x4xf32>", "tensor<5x4x2xf32>"], "{}", &[]),
        row("core.matmul", &["tensor<2x?x4xf32, [\"s\"]>", "tensor<2x4x?xf32, [\"p + s\"]>"], "{}", &[]),
        row("core.matmul", &["tensor<2x?xf32, [\"p\"]>", "tensor<?x3xf32, [\"p\"]>"], "{}", &[]),
        row("core.matmul", &["tensor<3x4xf16>", "tensor<4x5xf16>"], "{}", &[]),
        row("core.matmul", &["tensor<3x4xi32>", "tensor<4x5xi32>"], "{}", &[]),
        row("core.matmul_integer", &["tensor<3x4xui8>", "tensor<4x5xi8>", "", ""], "{}", &[]),
        row(
            "core.matmul_integer",
            &["tensor<2x3x4xui8>", "tensor<4x5xi8>", "tensor<ui8>", "tensor<5xi8>"],
            "{}",
            &[],
        ),
        row(
            "core.matmul_integer",
            &["tensor<3x4xi8>", "tensor<4x5xui8>", "tensor<3xi8>", "tensor<1xui8>"],
            "{}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<2x?x4xf32, [\"s\"]>", "tensor<4x3xf32>", "tensor<3xf32>", "", ""],
            "{activation = \"silu\", transpose_weight = false}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<4xf32>", "tensor<3x4xf32>", "", "", ""],
            "{activation = \"none\", transpose_weight = true}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<2x4xf16>", "tensor<4x3xf16>", "tensor<3xf16>", "", ""],
            "{activation = \"gelu\", transpose_weight = false}",
            &[],
        ),
        row("core.glu", &[F, F], "{activation = \"silu\"}", &[]),
        row("core.glu", &[H, H], "{activation = \"gelu_tanh\"}", &[]),
        row("core.glu", &[S, S], "{activation = \"none\"}", &[]),
    ];
    check_rows(&rows);
}

#[test]
fn quantization() {
    let rows = [
        row("core.quantize", &["tensor<3x4xf32>", "tensor<f32> in 0.1..0.2", ""], "{}", &["tensor<3x4xi8>"]),
        row(
            "core.quantize",
            &["tensor<3x4xf32>", "tensor<4xf32> in 0.1..0.2", "tensor<4xui8> in 3..9"],
            "{axis = 1 : i64}",
            &[],
        ),
        row(
            "core.quantize",
            &["tensor<6x4xf32>", "tensor<3x4xf32> in 0.1..0.2", ""],
            "{axis = 0 : i64, block = 2 : i64}",
            &["tensor<6x4xi4>"],
        ),
        row("core.dequantize", &["tensor<3x4xi8>", "tensor<f32>", "tensor<i8>"], "{}", &[]),
        row(
            "core.dequantize",
            &["tensor<3x4xui8>", "tensor<3xf32>", "tensor<3xui8>"],
            "{axis = 0 : i64}",
            &[],
        ),
        row(
            "core.dequantize",
            &["tensor<5x4xi4>", "tensor<3x4xf32>", ""],
            "{axis = 0 : i64, block = 2 : i64}",
            &[],
        ),
        row(
            "core.dequantize",
            &["tensor<2x8xui4>", "tensor<2x2xf16>", "tensor<2x2xui4>"],
            "{axis = 1 : i64, block = 4 : i64}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<2x8xf32>", "tensor<8x6xi8>", "tensor<6xf32>", "tensor<6xf32>", "tensor<6xi8>"],
            "{activation = \"relu\", axis = 1 : i64, transpose_weight = false}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<2x8xf32>", "tensor<6x8xui4>", "", "tensor<6x2xf32>", "tensor<6x2xui4>"],
            "{activation = \"none\", axis = 1 : i64, block = 4 : i64, transpose_weight = true}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<2x8xf32>", "tensor<8x6xi4>", "", "tensor<8x2xf32>", ""],
            "{activation = \"none\", axis = 1 : i64, block = 3 : i64, transpose_weight = false}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<2x8xf32>", "tensor<8x6xui8>", "", "tensor<2x6xf32>", "tensor<2x6xf32>"],
            "{activation = \"none\", axis = 0 : i64, block = 4 : i64, transpose_weight = false}",
            &[],
        ),
        row(
            "core.linear",
            &["tensor<2x8xf32>", "tensor<8x6xi8>", "", "tensor<8xf32>", ""],
            "{activation = \"none\", axis = 0 : i64, transpose_weight = false}",
            &[],
        ),
    ];
    check_rows(&rows);
}

const Q: &str = "tensor<1x4x?x8xf32, [\"s\"]>";
const K: &str = "tensor<1x2x?x8xf32, [\"p + s\"]>";
const V: &str = "tensor<1x2x?x6xf32, [\"p + s\"]>";

#[test]
fn attention() {
    let rows = [
        row(
            "core.rope",
            &[Q, "tensor<?x4xf32, [\"s\"]>", "tensor<?x4xf32, [\"s\"]>"],
            "{interleaved = false}",
            &[],
        ),
        row(
            "core.rope",
            &[Q, "tensor<?x8xf32, [\"s\"]>", "tensor<?x8xf32, [\"s\"]>"],
            "{interleaved = true}",
            &[],
        ),
        row("core.attention", &[Q, K, V, "", ""], "{scale = 0.35}", &[]),
        row("core.attention", &[Q, K, V, "", ""], "{causal = true, scale = 0.35}", &[]),
        row(
            "core.attention",
            &[Q, K, V, "", ""],
            "{causal = true, scale = 0.35, softcap = 5.0, window = 3 : i64}",
            &[],
        ),
        row("core.attention", &[Q, K, V, "", ""], "{scale = 0.35, window = 2 : i64}", &[]),
        row("core.attention", &[Q, K, V, "", ""], "{causal = true, scale = 0.35, window = 0 : i64}", &[]),
        row(
            "core.attention",
            &[Q, K, V, "tensor<1x1x?x?xi1, [\"s\", \"p + s\"]>", ""],
            "{scale = 0.35}",
            &[],
        ),
        row(
            "core.attention",
            &[Q, K, V, "tensor<4x?x?xf32, [\"s\", \"p + s\"]>", "tensor<4xf32>"],
            "{scale = 0.35}",
            &[],
        ),
        row(
            "core.attention",
            &[Q, K, V, "tensor<?x?xf32, [\"s\", \"p + s\"]>", ""],
            "{scale = 0.35, window = 2 : i64}",
            &[],
        ),
        row(
            "core.attention",
            &[Q, K, V, "tensor<?xi1, [\"p + s\"]>", ""],
            "{scale = 0.35, window = 3 : i64}",
            &[],
        ),
        row(
            "core.attention",
            &["tensor<2x4x3x8xf16>", "tensor<2x4x5x8xf16>", "tensor<2x4x5x8xf16>", "", ""],
            "{causal = true, scale = 0.35}",
            &[],
        ),
    ];
    check_rows(&rows);
}

#[test]
fn spatial() {
    let rows = [
        row("core.convolution", &["tensor<1x3x8x8xf32>", "tensor<4x3x3x3xf32>", ""], "{}", &[]),
        row(
            "core.convolution",
            &["tensor<2x4x9xf32>", "tensor<6x2x3xf32>", "tensor<6xf32>"],
            "{dilations = array<i64: 2>, groups = 2 : i64, pads_high = array<i64: 1>, pads_low = array<i64: 2>, strides = array<i64: 2>}",
            &[],
        ),
        row(
            "core.convolution",
            &["tensor<1x2x4x4x4xf16>", "tensor<2x2x2x2x2xf16>", "tensor<2xf16>"],
            "{pads_high = array<i64: 0, 0, 1>, pads_low = array<i64: -1, 0, 1>}",
            &[],
        ),
        row(
            "core.convolution_integer",
            &["tensor<1x4x6x5xui8>", "tensor<6x2x3x3xi8>", "tensor<6xi32>"],
            "{groups = 2 : i64, pads_low = array<i64: 1, 2>, w_zero = -2 : i64, x_zero = 9 : i64}",
            &[],
        ),
        row(
            "core.conv_transpose",
            &["tensor<1x4x3x3xf32>", "tensor<4x2x3x3xf32>", "tensor<4xf32>"],
            "{groups = 2 : i64, output_pads = array<i64: 1, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 0>, strides = \
             array<i64: 2, 2>}",
            &[],
        ),
        row(
            "core.pool",
            &["tensor<1x2x7x7xf32>"],
            "{function = \"max\", kernel = array<i64: 3, 3>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = \
             array<i64: 2, 2>}",
            &[],
        ),
        row(
            "core.pool",
            &["tensor<1x2x7xf32>"],
            "{count_include_pad = true, function = \"average\", kernel = array<i64: 3>, pads_high = array<i64: 1>, pads_low = array<i64: 1>}",
            &[],
        ),
        row(
            "core.pool",
            &["tensor<1x2x7xf32>"],
            "{function = \"average\", kernel = array<i64: 4>, pads_high = array<i64: 2>, pads_low = array<i64: 1>, strides = array<i64: 2>}",
            &[],
        ),
    ];
    check_rows(&rows);
}
