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

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, call, f32s};
    use super::*;

    #[test]
    fn softmax_sums_to_one_along_its_axis() {
        let x = f32s(&[2, 2], &[0.0, 1000.0, 0.0, 1000.0]);
        assert_near(&call(&SOFTMAX).with("axis", 1i64).on(&[&x]), &[0.0, 1.0, 0.0, 1.0]);
        assert_near(&call(&SOFTMAX).with("axis", 0i64).on(&[&x]), &[0.5, 0.5, 0.5, 0.5]);
        assert_near(&call(&LOG_SOFTMAX).with("axis", -1i64).on(&[&x]), &[-1000.0, 0.0, -1000.0, 0.0]);
        let masked = f32s(&[2], &[f64::NEG_INFINITY, f64::NEG_INFINITY]);
        assert_near(&call(&SOFTMAX).with("axis", 0i64).on(&[&masked]), &[f64::NAN, f64::NAN]);
    }

    #[test]
    fn norms_have_hand_computed_values() {
        let (x, gain) = (f32s(&[1, 2], &[3.0, 4.0]), f32s(&[2], &[1.0, 2.0]));
        // sqrt((9 + 16) / 2) = 3.535534
        assert_near(&call(&RMS_NORM).with("epsilon", 0.0).on(&[&x, &gain]), &[0.848_528_1, 2.262_741_7]);
        let bias = f32s(&[2], &[10.0, 10.0]);
        let found = call(&LAYER_NORM).with("epsilon", 0.75).on(&[&x, &gain, &bias]);
        // mean 3.5, variance 0.25, sqrt(0.25 + 0.75) = 1
        assert_near(&found, &[9.5, 11.0]);
        let error = call(&RMS_NORM).with("epsilon", 0.0).infer(&["f32: 4, 8", "f32: 9"]).unwrap_err();
        assert_eq!(error, "operand 'gain' must have shape [8], found [9]");
    }
}
