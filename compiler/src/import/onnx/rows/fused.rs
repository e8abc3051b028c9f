//! Operators of com.microsoft that fuse standard ones: products and convolutions with an activation, additions with one, other layouts.
//!
//! Source: ONNX Runtime's docs/ContribOperators.md.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft};
use super::convolution::{convolve, kernel_of, pooled, window};
use super::linear::gemm_value;
use super::normalization::softmax_from;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    microsoft("BiasAdd", |node| sum_of(node, &[0, 1, 2])),
    microsoft("BiasDropout", bias_dropout).refuses("training"),
    microsoft("BiasSoftmax", bias_softmax),
    microsoft("BiasSplitGelu", bias_split_gelu),
    microsoft("CDist", distances).refuses("metrics other than euclidean and sqeuclidean"),
    microsoft("FusedConv", |node| fused_conv(node, false)),
    microsoft("FusedGemm", fused_gemm),
    microsoft("FusedMatMul", fused_matmul),
    microsoft("FusedMatMulActivation", fused_matmul_activation),
    microsoft("GemmFastGelu", gemm_fast_gelu),
    microsoft("NhwcConv", |node| fused_conv(node, true)),
    microsoft("NhwcFusedConv", |node| fused_conv(node, true)),
    microsoft("NhwcMaxPool", nhwc_max_pool),
    microsoft("ScaledSiLU", scaled_silu),
    microsoft("TransposeMatMul", fused_matmul),
];

// ---- products --------------------------------------------------------------------------------------------------------

fn fused_matmul(node: &mut NodeContext) -> Made {
    let y = product(node)?;
    node.one(y)
}

fn fused_matmul_activation(node: &mut NodeContext) -> Made {
    let y = product(node)?;
    let y = activation_of(node, y)?;
    node.one(y)
}

/// alpha * A B with either transposed, in its last two dimensions or in its batches.
fn product(node: &mut NodeContext) -> Outcome<ValueId> {
    let mut sides = [node.value(0)?, node.value(1)?];
    for (side, name) in sides.iter_mut().zip(["A", "B"]) {
        let rank = node.rank(*side);
        if node.flag(&format!("transBatch{name}"), false)? {
            if rank < 2 {
                return Err(Fault::model(format!("a matrix is needed, found {}", node.ty(*side))));
            }
            // The first dimension goes behind the batches.
            let order: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
            *side = node.transpose(*side, &order)?;
        }
        // The transpose of a vector is itself.
        if node.flag(&format!("trans{name}"), false)? && rank > 1 {
            *side = node.transpose_last(*side)?;
        }
    }
    let y = node.matmul(sides[0], sides[1])?;
    let alpha = node.float("alpha", 1.0)?;
    node.scale(y, alpha)
}

fn fused_gemm(node: &mut NodeContext) -> Made {
    let y = gemm_value(node)?;
    let y = activation_of(node, y)?;
    node.one(y)
}

fn gemm_fast_gelu(node: &mut NodeContext) -> Made {
    let (x, weight) = (node.value(0)?, node.value(1)?);
    let mut y = node.matmul(x, weight)?;
    if let Some(bias) = node.optional_value(2)? {
        y = node.add(y, bias)?;
    }
    let y = node.make(&core::GELU, |op| op.operand(y).attribute("approximate", "tanh"))?;
    node.one(y)
}

/// Distances between the rows of two matrices: Euclidean ones or their squares.
fn distances(node: &mut NodeContext) -> Made {
    let (a, b) = (node.value(0)?, node.value(1)?);
    let (left, right) = (node.shape(a), node.shape(b));
    let ([m, k], [n, other]) = (left.as_slice(), right.as_slice()) else {
        return Err(Fault::model(format!(
            "two matrices are needed, found {} and {}",
            node.ty(a),
            node.ty(b)
        )));
    };
    node.equate("the rows differ in length", k, other)?;
    let one = Dim::Known(1);
    let a = node.reshape(a, &[m.clone(), one.clone(), k.clone()])?;
    let b = node.reshape(b, &[one, n.clone(), k.clone()])?;
    let apart = node.sub(a, b)?;
    let squares = node.mul(apart, apart)?;
    let sum = node.reduce(&core::REDUCE_SUM, squares, &[2], false)?;
    let y = match node.text("metric", "sqeuclidean")?.as_str() {
        "sqeuclidean" => sum,
        "euclidean" => node.unary(&core::SQRT, sum)?,
        other => {
            return Err(Fault::unsupported(
                format!("attribute 'metric' = '{other}' is not supported"),
                "euclidean and sqeuclidean are",
            ));
        }
    };
    node.one(y)
}

// ---- activations -----------------------------------------------------------------------------------------------------

/// The activation that `activation`, `activation_alpha` and `activation_beta` name.
fn activation_of(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let mut numbers = [None, None];
    for (number, name) in numbers.iter_mut().zip(["activation_alpha", "activation_beta"]) {
        if node.has(name) {
            *number = Some(node.float(name, 0.0)?);
        }
    }
    activated(node, x, numbers)
}

/// The activation named by the attribute `activation`, with its one or two numbers where they are given.
fn activated(node: &mut NodeContext, x: ValueId, numbers: [Option<f64>; 2]) -> Outcome<ValueId> {
    let name = node.text("activation", "")?;
    let number = |at: usize, default: f64| numbers[at].unwrap_or(default);
    match name.as_str() {
        "" => Ok(x),
        "Relu" => node.unary(&core::RELU, x),
        "Sigmoid" => node.unary(&core::SIGMOID, x),
        "Tanh" => node.unary(&core::TANH, x),
        "LeakyRelu" => node.make(&core::LEAKY_RELU, |op| op.operand(x).attribute("alpha", number(0, 0.01))),
        "Elu" => node.make(&core::ELU, |op| op.operand(x).attribute("alpha", number(0, 1.0))),
        "HardSigmoid" => node.make(&core::HARD_SIGMOID, |op| {
            op.operand(x).attribute("alpha", number(0, 0.2)).attribute("beta", number(1, 0.5))
        }),
        "Clip" => node.make(&core::CLAMP, |op| {
            op.operand(x)
                .attribute("min", number(0, f64::from(f32::MIN)))
                .attribute("max", number(1, f64::from(f32::MAX)))
        }),
        "Softplus" => node.make(&core::MATH, |op| op.operand(x).attribute("function", "softplus")),
        other => Err(Fault::unsupported(
            format!("activation '{other}' is not supported"),
            "Relu, Sigmoid, Tanh, LeakyRelu, Elu, HardSigmoid, Clip and Softplus are",
        )),
    }
}

fn sum_of(node: &mut NodeContext, inputs: &[usize]) -> Made {
    let mut sum = node.value(inputs[0])?;
    for input in &inputs[1..] {
        if let Some(next) = node.optional_value(*input)? {
            sum = node.add(sum, next)?;
        }
    }
    node.one(sum)
}

/// Inference only: nothing is dropped.
fn bias_dropout(node: &mut NodeContext) -> Made {
    if node.optional(4).is_some() && node.known_tensor(4)?.ints().first().is_some_and(|value| *value != 0) {
        return Err(Fault::unsupported("training mode is not supported", "export the model for inference"));
    }
    sum_of(node, &[0, 1, 2])
}

fn bias_softmax(node: &mut NodeContext) -> Made {
    let (x, bias) = (node.value(0)?, node.value(1)?);
    let axis = node.axis("axis", 1, node.rank(x))?;
    let sum = node.add(x, bias)?;
    node.equate("the bias is larger than the data", &node.dim(sum, 0)?, &node.dim(x, 0)?)?;
    let y = softmax_from(node, &core::SOFTMAX, sum, axis)?;
    node.one(y)
}

/// The left half times the GELU of the right half of x + bias.
fn bias_split_gelu(node: &mut NodeContext) -> Made {
    let (x, bias) = (node.value(0)?, node.value(1)?);
    let x = node.add(x, bias)?;
    let axis = node.rank(x).checked_sub(1).ok_or_else(|| Fault::model("input 0 has no dimensions"))?;
    let width = node.dim(x, axis)?;
    let half = width.divide_exactly(&Dim::Known(2));
    let half = half.ok_or_else(|| Fault::model(format!("{width} does not split into 2 halves")))?;
    let left = node.slice_axis(x, axis, &Dim::Known(0), &half)?;
    let right = node.slice_axis(x, axis, &half, &half)?;
    let gate = node.make(&core::GELU, |op| op.operand(right).attribute("approximate", "none"))?;
    let y = node.mul(left, gate)?;
    node.one(y)
}

/// silu(alpha * x) * scale.
fn scaled_silu(node: &mut NodeContext) -> Made {
    let (x, alpha) = (node.value(0)?, node.float("alpha", 1.0)?);
    let scaled = node.scale(x, alpha)?;
    let mut y = node.unary(&core::SILU, scaled)?;
    if let Some(factor) = node.optional_value(1)? {
        let factor = node.cast_like(factor, y)?;
        y = node.mul(y, factor)?;
    }
    node.one(y)
}

// ---- convolutions ----------------------------------------------------------------------------------------------------

/// `[n, spatial.., c]` as `[n, c, spatial..]`.
pub(super) fn channels_first(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let rank = node.rank(x);
    if rank < 3 {
        return Err(Fault::model(format!("rank 3 or more is needed, found {}", node.ty(x))));
    }
    let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    node.transpose(x, &order)
}

/// `[n, c, spatial..]` as `[n, spatial.., c]`.
pub(super) fn channels_last(node: &mut NodeContext, x: ValueId) -> Outcome<ValueId> {
    let rank = node.rank(x);
    if rank < 3 {
        return Err(Fault::model(format!("rank 3 or more is needed, found {}", node.ty(x))));
    }
    let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    node.transpose(x, &order)
}

/// activation(conv(x, w) + b + z); data and weight may have their channels last.
fn fused_conv(node: &mut NodeContext, is_last: bool) -> Made {
    let (mut x, mut weight) = (node.value(0)?, node.value(1)?);
    if is_last {
        (x, weight) = (channels_first(node, x)?, channels_first(node, weight)?);
    }
    let bias = node.optional_value(2)?;
    let kernel = kernel_of(node, weight)?;
    let spatial: Vec<Dim> = node.shape(x).iter().skip(2).cloned().collect();
    let window = window(node, &spatial, &kernel)?;
    let groups = node.int("group", 1)?;
    let mut y = convolve(node, x, weight, bias, &window, groups)?;
    if is_last {
        y = channels_last(node, y)?;
    }
    if let Some(other) = node.optional_value(3)? {
        y = node.add(y, other)?;
    }
    let given = node.floats_attribute("activation_params")?.unwrap_or_default();
    let numbers = [0, 1].map(|at| given.get(at).copied().map(f64::from));
    let y = activated(node, y, numbers)?;
    node.one(y)
}

fn nhwc_max_pool(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let element = node.element(x);
    let x = channels_first(node, x)?;
    let x = node.cast(x, Element::F32)?;
    let y = pooled(node, x, "max")?;
    let y = node.cast(y, element)?;
    let y = channels_last(node, y)?;
    node.one(y)
}
