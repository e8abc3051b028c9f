//! Softmax and the normalisations over the last axis. Computed in f64 and rounded once.
//!
//! ```text
//! %y = "core.rms_norm"(%x, %gain) <{epsilon = 1.000000e-05 : f64}> : (tensor<1x?x64xf32, ["seq"]>, tensor<64xf32>) -> tensor<1x?x64xf32, ["seq"]>
//! ```

use super::reduce::verify_axis;
use super::support::{expect_element, expect_shape};
use crate::op_def::{AttributeRule, Infer, OpDef, Signature, Traits, TypeRule, attribute, optional, value};

macro_rules! softmax {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $doc:literal;)*) => {
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
            ..OpDef::DEFAULT
        };)*
    };
}

softmax! {
    /// Exponentials that sum to one.
    SOFTMAX = "core.softmax",
        "result = e^(x - m) / sum of e^(x - m) along `axis`, m the largest there; NaN where all are minus infinity. ONNX Softmax \
         since opset 13.";
    /// Logarithm of softmax.
    LOG_SOFTMAX = "core.log_softmax",
        "result = x - m - ln(sum of e^(x - m)) along `axis`, m the largest there. ONNX LogSoftmax since opset 13.";
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
