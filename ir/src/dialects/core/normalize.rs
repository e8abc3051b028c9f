//! Softmax and the normalisations over the last axis. Computed in f64 and rounded once.
//!
//! ```text
//! %y = "core.rms_norm"(%x, %gain) <{epsilon = 1.000000e-05 : f64}> : (tensor<1x?x64xf32, ["seq"]>, tensor<64xf32>) -> tensor<1x?x64xf32, ["seq"]>
//! ```

use super::reduce::verify_axis;
use super::support::{around, expect_element, expect_shape, floats};
use crate::op_def::{
    AttributeRule, Evaluate, Infer, Invocation, OpDef, Signature, Traits, TypeRule, attribute, optional,
    value,
};
use crate::tensor::Tensor;

macro_rules! softmax {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $doc:literal, $evaluate:expr;)*) => {
        $($(#[$meta])*
        pub static $name: OpDef = OpDef {
            name: $text,
            doc: $doc,
            operands: &[value("x", TypeRule::FloatTensor)],
            results: &[value("result", TypeRule::FloatTensor)],
            attributes: &[attribute("axis", AttributeRule::Int)],
            axes: ".. -> ..; whole {axis}",
            traits: Traits::PURE,
            infer: Infer::LikeOperand(0),
            verify: Some(verify_axis),
            evaluate: Evaluate::With($evaluate),
            ..OpDef::DEFAULT
        };)*
    };
}

softmax! {
    /// Exponentials that sum to one.
    SOFTMAX = "core.softmax",
        "result = e^(x - m) / sum of e^(x - m) along `axis`, m the largest there; NaN where all are minus infinity. ONNX Softmax \
         since opset 13.", |call| evaluate_softmax(call, false);
    /// Logarithm of softmax.
    LOG_SOFTMAX = "core.log_softmax",
        "result = x - m - ln(sum of e^(x - m)) along `axis`, m the largest there. ONNX LogSoftmax since opset 13.", |call| evaluate_softmax(call, true);
}

/// Root mean square normalisation.
pub static RMS_NORM: OpDef = OpDef {
    name: "core.rms_norm",
    doc: "result = x / sqrt(mean(x^2) + `epsilon`) * gain over the last axis; x [.., d], gain [d] (Zhang and Sennrich 2019, \
          arXiv:1910.07467). ONNX RMSNormalization.",
    operands: &[value("x", TypeRule::FloatTensor), value("gain", TypeRule::FloatTensor)],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[attribute("epsilon", AttributeRule::Float)],
    axes: ".. d, d -> .. d; whole d",
    traits: Traits::PURE,
    infer: Infer::LikeOperand(0),
    verify: Some(verify_norm),
    evaluate: Evaluate::With(evaluate_rms_norm),
    ..OpDef::DEFAULT
};

/// Layer normalisation.
pub static LAYER_NORM: OpDef = OpDef {
    name: "core.layer_norm",
    doc: "result = (x - mean(x)) / sqrt(var(x) + `epsilon`) * gain + bias over the last axis; x [.., d], gain [d], bias [d] (Ba et \
          al. 2016, arXiv:1607.06450). ONNX LayerNormalization.",
    operands: &[
        value("x", TypeRule::FloatTensor),
        value("gain", TypeRule::FloatTensor),
        optional("bias", TypeRule::FloatTensor),
    ],
    results: &[value("result", TypeRule::FloatTensor)],
    attributes: &[attribute("epsilon", AttributeRule::Float)],
    axes: ".. d, d, d -> .. d; whole d",
    traits: Traits::PURE,
    infer: Infer::LikeOperand(0),
    verify: Some(verify_norm),
    evaluate: Evaluate::With(evaluate_layer_norm),
    ..OpDef::DEFAULT
};

fn verify_norm(signature: &Signature) -> Result<(), String> {
    let x = signature.require_tensor(0)?;
    let last = x.shape.last().ok_or("operand 'x' must have rank 1 or more")?;
    for slot in 1..signature.def.operands.len() {
        if let Some(ty) = signature.tensor(slot) {
            let name = signature.def.operands[slot].name;
            expect_element(name, x.element, ty)?;
            expect_shape(name, std::slice::from_ref(last), &ty.shape)?;
        }
    }
    Ok(())
}

fn evaluate_softmax(call: &Invocation, logarithm: bool) -> Result<Vec<Tensor>, String> {
    let x = call.operand(0);
    let axis = call.signature.axis("axis", -1, x.rank())?;
    let (outer, dim, inner) = around(&x.shape, axis);
    let mut values = floats(x);
    for (before, after) in (0..outer).flat_map(|before| (0..inner).map(move |after| (before, after))) {
        let place = |at: usize| (before * dim + at) * inner + after;
        let largest = (0..dim).map(|at| values[place(at)]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..dim).map(|at| (values[place(at)] - largest).exp()).sum();
        for at in 0..dim {
            let shifted = values[place(at)] - largest;
            values[place(at)] = if logarithm { shifted - sum.ln() } else { shifted.exp() / sum };
        }
    }
    Ok(vec![Tensor::from_floats(x.element, &x.shape, values)])
}

fn evaluate_rms_norm(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, gain) = (call.operand(0), floats(call.operand(1)));
    let epsilon = call.signature.float("epsilon", 0.0);
    let mut values = floats(x);
    for row in values.chunks_exact_mut(gain.len().max(1)) {
        let mean = row.iter().map(|value| value * value).sum::<f64>() / row.len() as f64;
        let factor = 1.0 / (mean + epsilon).sqrt();
        row.iter_mut().zip(&gain).for_each(|(value, gain)| *value *= factor * gain);
    }
    Ok(vec![Tensor::from_floats(x.element, &x.shape, values)])
}

fn evaluate_layer_norm(call: &Invocation) -> Result<Vec<Tensor>, String> {
    let (x, gain) = (call.operand(0), floats(call.operand(1)));
    let bias = call.get(2).map_or_else(|| vec![0.0; gain.len()], floats);
    let epsilon = call.signature.float("epsilon", 0.0);
    let mut values = floats(x);
    for row in values.chunks_exact_mut(gain.len().max(1)) {
        let count = row.len() as f64;
        let mean = row.iter().sum::<f64>() / count;
        let variance = row.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for (at, value) in row.iter_mut().enumerate() {
            *value = (*value - mean) * factor * gain[at] + bias[at];
        }
    }
    Ok(vec![Tensor::from_floats(x.element, &x.shape, values)])
}
