//! How the families' tests call an op: inference, verification and evaluation together, the result types checked.

use crate::attribute::{Attribute, Attributes};
use crate::dim::Bindings;
use crate::element::Element;
use crate::op_def::{Evaluate, Invocation, OpDef, Signature};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

/// An f32 tensor.
pub(super) fn f32s(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_floats(Element::F32, shape, values.to_vec())
}

/// An i64 tensor.
pub(super) fn i64s(shape: &[i64], values: &[i64]) -> Tensor {
    Tensor::from_ints(Element::I64, shape, values.to_vec())
}

/// A ramp 0, 1, 2 ... in f32.
pub(super) fn ramp(shape: &[usize]) -> Tensor {
    f32s(shape, &(0..shape.iter().product()).map(|value: usize| value as f64).collect::<Vec<_>>())
}

/// A type from `f32: 1, past + seq, 64`.
pub(super) fn ty(text: &str) -> Type {
    let (element, dims) = text.split_once(':').unwrap();
    let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    Type::Tensor(TensorType::new(Element::from_text(element).unwrap(), dims.map(|dim| dim.parse().unwrap())))
}

/// One use of an op.
pub(super) struct Call {
    def: &'static OpDef,
    attributes: Attributes,
    results: Vec<Type>,
}

/// Begins a use of an op.
pub(super) fn call(def: &'static OpDef) -> Call {
    Call { def, attributes: Attributes::new(), results: Vec::new() }
}

impl Call {
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Attribute>) -> Call {
        self.attributes.insert(name.into(), value.into());
        self
    }

    pub(super) fn to(mut self, text: &str) -> Call {
        self.results.push(ty(text));
        self
    }

    /// Result types on operand types, checked by the op's own rules.
    pub(super) fn types(&self, operands: &[Type]) -> Result<Vec<Type>, String> {
        let signature =
            |results| Signature { def: self.def, operands, attributes: &self.attributes, results };
        let results = crate::builder::infer(&signature(&self.results))?;
        if let Some(verify) = self.def.verify {
            verify(&signature(&results))?;
        }
        Ok(results)
    }

    /// As [`Call::types`], from and to text.
    pub(super) fn infer(&self, operands: &[&str]) -> Result<String, String> {
        let operands: Vec<Type> = operands.iter().map(|text| ty(text)).collect();
        let texts = self.types(&operands)?.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(texts.join(" "))
    }

    /// Evaluates on operands by definition slot, `None` where an optional one is left out.
    pub(super) fn try_on(mut self, operands: &[Option<&Tensor>]) -> Result<Vec<Tensor>, String> {
        if self.def.needs_segments() {
            let sizes = operands.iter().map(|operand| i32::from(operand.is_some()));
            self = self.with("operandSegmentSizes", Attribute::Segments(sizes.collect()));
        }
        let values: Vec<&Tensor> = operands.iter().copied().flatten().collect();
        let types: Vec<Type> = values.iter().map(|value| Type::Tensor(value.ty())).collect();
        let results = self.types(&types)?;
        let signature =
            Signature { def: self.def, operands: &types, attributes: &self.attributes, results: &results };
        let Evaluate::With(evaluate) = self.def.evaluate else {
            return Err("has regions or no meaning".into());
        };
        let found = evaluate(&Invocation { signature, values: &values, bindings: &Bindings::new() })?;
        let found_types: Vec<Type> = found.iter().map(|value| Type::Tensor(value.ty())).collect();
        assert_eq!(found_types, results, "{}: evaluated types are the inferred ones", self.def.name);
        for value in &found {
            assert_eq!(value.len(), value.shape.iter().product::<usize>(), "{}", self.def.name);
        }
        Ok(found)
    }

    /// The first result on operands that are all given.
    pub(super) fn on(self, operands: &[&Tensor]) -> Tensor {
        let mut slots: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
        if self.def.needs_segments() {
            slots.resize(self.def.operands.len(), None);
        }
        self.try_on(&slots).unwrap().remove(0)
    }
}

/// Checks values to six digits; NaN equals NaN.
pub(super) fn assert_near(found: &Tensor, expected: &[f64]) {
    let near = |(a, b): (&f64, &f64)| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * b.abs().max(1.0)
    };
    let found = found.floats();
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(near),
        "expected {expected:?}, found {found:?}"
    );
}
