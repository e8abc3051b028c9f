//! The reference evaluator: runs a function of core IR on tensors by each op's own definition. The oracle for everything.
//!
//! Knows no op by name but functions and returns: an op's `evaluate` says what it does. Values are dropped after their last use.
//!
//! ```text
//! let outputs = evaluate::run(&module, "main", &inputs)?;
//! ```

use crate::attribute::{Attribute, Elements};
use crate::dim::{Bindings, Dim};
use crate::module::{BlockId, Module, OpId, ValueId};
use crate::op_def::{Evaluate, Invocation, Signature, Traits};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// Why an evaluation stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{op} at {location}: {what}")]
pub struct EvaluateError {
    /// The op's name.
    pub op: String,
    /// Its location.
    pub location: String,
    /// What is wrong, with both values.
    pub what: String,
}

/// What has a value so far.
struct Environment {
    values: BTreeMap<ValueId, Rc<Tensor>>,
    /// Values of the symbols. Those that only a run can tell (how many elements an op found) are bound by each result anew.
    bindings: Bindings,
    /// Symbols whose value the inputs said.
    given: BTreeSet<Arc<str>>,
}

/// Called with each op, and the values of its operands, before it is evaluated; also for ops in regions. What an observer keeps it keeps
/// itself (behind a `RefCell`).
pub type Observer<'a> = dyn Fn(OpId, &[Rc<Tensor>]) + 'a;

/// What an op with regions sees: its signature, operand values, and a way to run its regions.
pub struct RegionCall<'a> {
    /// The module that holds the op.
    pub module: &'a Module,
    /// The op.
    pub op: OpId,
    /// Values of its operands.
    pub operands: Vec<Rc<Tensor>>,
    observer: &'a Observer<'a>,
    environment: &'a mut Environment,
}

impl Environment {
    /// Binds the symbols of a value's type that the inputs did not say.
    fn bind(&mut self, ty: &Type, value: &Tensor) {
        let Some(tensor) = ty.as_tensor() else { return };
        for (dim, found) in tensor.shape.iter().zip(&value.shape) {
            if let Some(name) = dim.as_symbol()
                && !self.given.contains(name)
            {
                self.bindings.insert(name.clone(), *found as i64);
            }
        }
    }
}

impl RegionCall<'_> {
    /// Runs a region on values for its arguments; gives the terminator's operands. Outer values are visible.
    pub fn run(&mut self, region: usize, arguments: Vec<Rc<Tensor>>) -> Result<Vec<Rc<Tensor>>, String> {
        let block = self.module.entry(self.op, region);
        let frame = Frame { module: self.module, observer: self.observer };
        run_block(&frame, block, arguments, self.environment).map_err(|error| error.to_string())
    }

    /// Values of the symbols.
    pub fn bindings(&self) -> &Bindings {
        &self.environment.bindings
    }

    /// Values of operand definition `slot`.
    pub fn slot(&self, slot: usize) -> &[Rc<Tensor>] {
        let operation = self.module.op(self.op);
        let range =
            crate::op_def::slot_range(operation.def, operation.operands.len(), &operation.attributes, slot);
        &self.operands[range]
    }
}

/// Binds the symbols in `ty` to the dimensions of a value, or says which differ.
pub fn bind_shape(ty: &Type, value: &Tensor, bindings: &mut Bindings) -> Result<(), String> {
    let Some(tensor) = ty.as_tensor() else { return Err(format!("expected {ty}, found a tensor")) };
    if tensor.element != value.element {
        return Err(format!("element types differ: expected {}, found {}", tensor.element, value.element));
    }
    if tensor.rank() != value.rank() {
        return Err(format!("ranks differ: expected {}, found {}", tensor.rank(), value.rank()));
    }
    for (axis, (dim, found)) in tensor.shape.iter().zip(&value.shape).enumerate() {
        let found = *found as i64;
        match (dim.evaluate(bindings), dim.as_symbol()) {
            (Some(expected), _) if expected == found => {}
            (Some(expected), _) => {
                return Err(format!(
                    "dimension {axis} ('{dim}') differs: expected {expected}, found {found}"
                ));
            }
            (None, Some(name)) => {
                bindings.insert(name.clone(), found);
            }
            // `past + seq` with one symbol still open: solved when the rest is known.
            (None, None) => solve(dim, found, bindings)
                .ok_or_else(|| format!("dimension {axis} ('{dim}') cannot be solved for {found}"))?,
        }
    }
    Ok(())
}

fn solve(dim: &Dim, found: i64, bindings: &mut Bindings) -> Option<()> {
    let (constant, linear) = dim.affine()?;
    let mut rest = found - constant;
    let mut open = None;
    for (name, coefficient) in linear {
        match bindings.get(&name) {
            Some(value) => rest -= coefficient * value,
            None if open.is_none() => open = Some((name, coefficient)),
            None => return None,
        }
    }
    let (name, coefficient) = open?;
    (rest % coefficient == 0).then(|| {
        bindings.insert(name, rest / coefficient);
    })
}

/// Runs a function by name on inputs in argument order. Symbols are bound from the shapes of the inputs.
///
/// # Errors
/// When there is no such function, an input does not fit, or an op fails; the message names the op and its location.
pub fn run(module: &Module, function: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvaluateError> {
    run_with(module, function, inputs, &Bindings::new())
}

/// As [`run`], with symbols bound beforehand.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    module: &Module,
    function: &str,
    inputs: &[Tensor],
    bindings: &Bindings,
) -> Result<Vec<Tensor>, EvaluateError> {
    run_observed(module, function, inputs, bindings, &|_, _| {})
}

/// As [`run_with`], showing every op with its operands' values to an observer: how calibration collects what activations are like.
///
/// # Errors
/// As [`run`].
pub fn run_observed(
    module: &Module,
    function: &str,
    inputs: &[Tensor],
    bindings: &Bindings,
    observer: &Observer,
) -> Result<Vec<Tensor>, EvaluateError> {
    let fail =
        |what: String| EvaluateError { op: "func.func".into(), location: format!("@{function}"), what };
    let op = module.function(function).ok_or_else(|| fail("no such function".into()))?;
    let block = module.entry(op, 0);
    let arguments = module.block(block).arguments.clone();
    if arguments.len() != inputs.len() {
        return Err(fail(format!("expected {} inputs, found {}", arguments.len(), inputs.len())));
    }
    let mut bindings = bindings.clone();
    let mut left: Vec<usize> = (0..inputs.len()).collect();
    // Plain symbols first, so that sums can be solved in any input order.
    for round in 0..2 {
        let mut later = Vec::new();
        for index in left {
            match bind_shape(module.ty(arguments[index]), &inputs[index], &mut bindings) {
                Ok(()) => {}
                Err(_) if round == 0 => later.push(index),
                Err(what) => {
                    let name = module.value(arguments[index]).name.clone().unwrap_or_default();
                    return Err(fail(format!("input {index} '{name}': {what}")));
                }
            }
        }
        left = later;
    }
    let inputs = inputs.iter().cloned().map(Rc::new).collect();
    let given = bindings.keys().cloned().collect();
    let mut environment = Environment { values: BTreeMap::new(), bindings, given };
    let frame = Frame { module, observer };
    let outputs = run_block(&frame, block, inputs, &mut environment)?;
    Ok(outputs.into_iter().map(Rc::unwrap_or_clone).collect())
}

/// Runs a function without arguments on packed elements; gives the bytes of its results. Ops that have a meaning on packed elements
/// use it: a weight that stays mapped is then read once and never widened as a whole.
///
/// # Errors
/// As [`run`].
pub fn run_packed(module: &Module, function: &str) -> Result<Vec<Bytes>, EvaluateError> {
    let fail =
        |what: String| EvaluateError { op: "func.func".into(), location: format!("@{function}"), what };
    let op = module.function(function).ok_or_else(|| fail("no such function".into()))?;
    let block = module.entry(op, 0);
    if !module.block(block).arguments.is_empty() {
        return Err(fail("expected a function without arguments".into()));
    }
    let mut values: BTreeMap<ValueId, Elements> = BTreeMap::new();
    for op in &module.block(block).ops {
        let operation = module.op(*op);
        let operands: Option<Vec<&Elements>> =
            operation.operands.iter().map(|value| values.get(value)).collect();
        let operands = operands.ok_or_else(|| error_at(module, *op, "an operand has no value".into()))?;
        if operation.def.is(Traits::TERMINATOR) {
            return Ok(operands.into_iter().map(|elements| elements.bytes().clone()).collect());
        }
        let results = run_op_packed(module, *op, &operands).map_err(|what| error_at(module, *op, what))?;
        values.extend(operation.results.iter().copied().zip(results));
    }
    Ok(Vec::new())
}

fn run_op_packed(module: &Module, op: OpId, operands: &[&Elements]) -> Result<Vec<Elements>, String> {
    let operation = module.op(op);
    if operation.def.is(Traits::CONSTANT)
        && let Some(elements) = operation.attributes.get("value").and_then(Attribute::as_elements)
    {
        return Ok(vec![elements.clone()]);
    }
    if let Some(evaluate) = operation.def.evaluate_packed {
        let bytes = module.with_signature(op, |signature| evaluate(signature, operands))?;
        let with_type = |(value, bytes): (&ValueId, Bytes)| {
            let ty = module.tensor(*value).ok_or("a result is no tensor")?;
            Ok(Elements::Dense(ty.clone(), bytes))
        };
        return operation.results.iter().zip(bytes).map(with_type).collect();
    }
    let tensors: Vec<Tensor> =
        operands.iter().map(|elements| Tensor::from_elements(elements)).collect::<Result<_, _>>()?;
    let values: Vec<&Tensor> = tensors.iter().collect();
    let found = module.with_signature(op, |signature| invoke(signature, &values, &Bindings::new()))?;
    Ok(found.iter().map(Tensor::to_elements).collect())
}

/// What stays the same over a run.
struct Frame<'a> {
    module: &'a Module,
    observer: &'a Observer<'a>,
}

fn run_block(
    frame: &Frame,
    block: BlockId,
    arguments: Vec<Rc<Tensor>>,
    environment: &mut Environment,
) -> Result<Vec<Rc<Tensor>>, EvaluateError> {
    let module = frame.module;
    let mut uses: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (value, tensor) in module.block(block).arguments.iter().zip(arguments) {
        environment.bind(module.ty(*value), &tensor);
        environment.values.insert(*value, tensor);
    }
    for op in &module.block(block).ops {
        let operation = module.op(*op);
        let lookup = |value: &ValueId| {
            environment
                .values
                .get(value)
                .cloned()
                .ok_or_else(|| error_at(module, *op, "an operand has no value".into()))
        };
        let operands: Vec<Rc<Tensor>> = operation.operands.iter().map(lookup).collect::<Result<_, _>>()?;
        if operation.def.is(Traits::TERMINATOR) {
            return Ok(operands);
        }
        (frame.observer)(*op, &operands);
        let results =
            run_op(frame, *op, operands, environment).map_err(|what| error_at(module, *op, what))?;
        for (value, tensor) in operation.results.iter().zip(results) {
            environment.bind(module.ty(*value), &tensor);
            check_result(module.ty(*value), &tensor, &environment.bindings)
                .map_err(|what| error_at(module, *op, what))?;
            uses.insert(*value, module.value(*value).users.len());
            environment.values.insert(*value, Rc::new(tensor));
        }
        // A value made in this block is dropped with its last use; users in nested regions keep it alive to the end.
        for value in &operation.operands {
            if let Some(count) = uses.get_mut(value) {
                *count -= 1;
                if *count == 0 {
                    environment.values.remove(value);
                }
            }
        }
    }
    Ok(Vec::new())
}

fn error_at(module: &Module, op: OpId, what: String) -> EvaluateError {
    let operation = module.op(op);
    EvaluateError { op: operation.def.name.into(), location: operation.location.to_string(), what }
}

fn check_result(ty: &Type, value: &Tensor, bindings: &Bindings) -> Result<(), String> {
    let Some(tensor) = ty.as_tensor() else { return Ok(()) };
    let same = tensor.element == value.element
        && tensor.rank() == value.rank()
        && tensor
            .shape
            .iter()
            .zip(&value.shape)
            .all(|(dim, found)| dim.evaluate(bindings).is_none_or(|expected| expected == *found as i64));
    if same { Ok(()) } else { Err(format!("result type differs: expected {ty}, found {}", value.ty())) }
}

/// The type with every dimension that has a value under the bindings known.
fn bound(ty: &Type, bindings: &Bindings) -> Type {
    let Some(tensor) = ty.as_tensor() else { return ty.clone() };
    let dim = |dim: &Dim| dim.evaluate(bindings).map_or_else(|| dim.clone(), Dim::Known);
    Type::Tensor(TensorType::new(tensor.element, tensor.shape.iter().map(dim)))
}

/// Evaluates an op without regions, whose signature the verifier has accepted. Where dimensions were symbolic the op is verified
/// once more on the types that the values have, so that its evaluation meets only what its own rules allow.
///
/// # Errors
/// What is wrong, with both values.
pub fn invoke(signature: &Signature, values: &[&Tensor], bindings: &Bindings) -> Result<Vec<Tensor>, String> {
    let Evaluate::With(evaluate) = signature.def.evaluate else {
        return Err("this op has no reference semantics without its regions".into());
    };
    let is_known =
        |ty: &Type| ty.as_tensor().is_none_or(|tensor| tensor.shape.iter().all(|dim| dim.known().is_some()));
    if signature.operands.iter().chain(signature.results).all(is_known) {
        return evaluate(&Invocation { signature: Signature { ..*signature }, values, bindings });
    }
    let operands: Vec<Type> = values.iter().map(|value| Type::Tensor(value.ty())).collect();
    let asked: Vec<Type> = signature.results.iter().map(|ty| bound(ty, bindings)).collect();
    let known = Signature { operands: &operands, results: &asked, ..*signature };
    let results = crate::builder::infer(&known)?;
    let known = Signature { results: &results, ..known };
    crate::verify::verify_signature(&known).map_err(|problems| problems.join("; "))?;
    evaluate(&Invocation { signature: known, values, bindings })
}

fn run_op(
    frame: &Frame,
    op: OpId,
    operands: Vec<Rc<Tensor>>,
    environment: &mut Environment,
) -> Result<Vec<Tensor>, String> {
    let &Frame { module, observer } = frame;
    let operation = module.op(op);
    match operation.def.evaluate {
        Evaluate::None => Err("this op has no reference semantics".into()),
        Evaluate::Region(f) => f(&mut RegionCall { module, op, operands, observer, environment }),
        Evaluate::With(_) => {
            let values: Vec<&Tensor> = operands.iter().map(Rc::as_ref).collect();
            let bindings = &environment.bindings;
            module.with_signature(op, |signature| invoke(signature, &values, bindings))
        }
    }
}
