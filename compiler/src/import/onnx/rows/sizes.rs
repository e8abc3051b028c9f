//! Constants, shapes and ramps: the operators that shape computations begin with.

use super::super::context::NodeContext;
use super::super::dims;
use super::super::fault::{Fault, Outcome};
use super::super::operand::{Operand, Origin};
use super::super::symbolic::{ELEMENTS_MAX, Symbolic};
use super::super::table::{Row, since, standard};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("Constant", constant).refuses("sparse tensors"),
    since(9, "ConstantOfShape", constant_of_shape),
    since(9, "EyeLike", eye_like),
    since(11, "Range", range).refuses("limits of floats that depend on data"),
    standard("Shape", shape).shape_of_strings(),
    standard("Size", size).shape_of_strings(),
];

fn constant(node: &mut NodeContext) -> Made {
    let dense = |tensor: Tensor| Ok(vec![Operand::constant(tensor.to_elements())]);
    if let Some(value) = node.constant_attribute("value")? {
        return Ok(vec![value]);
    }
    if node.has("value_string") {
        return Ok(vec![strings(&[], &[node.text("value_string", "")?])?]);
    }
    if let Some(texts) = node.texts_attribute("value_strings")? {
        return Ok(vec![strings(&[texts.len()], &texts)?]);
    }
    if node.has("value_int") {
        return dense(Tensor::from_ints(Element::I64, &[], vec![node.int("value_int", 0)?]));
    }
    if let Some(values) = node.ints_attribute("value_ints")? {
        return dense(Tensor::from_ints(Element::I64, &[values.len() as i64], values.to_vec()));
    }
    if node.has("value_float") {
        return dense(Tensor::splat(Element::F32, &[], node.float("value_float", 0.0)?));
    }
    if let Some(values) = node.floats_attribute("value_floats")? {
        let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        return dense(Tensor::from_floats(Element::F32, &[values.len()], values));
    }
    if node.has("sparse_value") {
        return Err(Fault::unsupported("attribute 'sparse_value' is not supported", "give a dense tensor"));
    }
    Err(Fault::model("attribute 'value' is missing"))
}

/// Strings of a shape as a constant.
fn strings(shape: &[usize], texts: &[String]) -> Outcome<Operand> {
    let codes = crate::strings::encode(shape, texts)?;
    Ok(Operand::strings(Operand::constant(codes.to_elements())))
}

/// A dimension list as a shape.
pub(super) fn as_shape(symbolic: &Symbolic) -> Outcome<Vec<Dim>> {
    if symbolic.shape.len() > 1 {
        return Err(Fault::model(format!("a shape must be a vector, found {:?}", symbolic.shape)));
    }
    if let Some(dim) = symbolic.values.iter().find(|dim| dim.known().is_some_and(|value| value < 0)) {
        return Err(Fault::model(format!("a shape holds {dim}")));
    }
    Ok(symbolic.values.clone())
}

/// Number of elements of a shape, if it is known and small.
fn small_count(shape: &[Dim]) -> Option<(Vec<usize>, usize)> {
    let known: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect();
    let known = known?;
    let count = known.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
    (count <= ELEMENTS_MAX).then_some((known, count))
}

fn constant_of_shape(node: &mut NodeContext) -> Made {
    let shape = as_shape(&node.dims(0)?)?;
    let value = node.tensor_attribute("value")?;
    let value = match &value {
        Some(elements) => Tensor::from_elements(elements)?,
        None => Tensor::splat(Element::F32, &[], 0.0),
    };
    if value.len() != 1 {
        return Err(Fault::model(format!("attribute 'value' must hold one element, found {}", value.len())));
    }
    if let Some((known, _)) = small_count(&shape) {
        let filled = value.pick(&known, |_| 0);
        return Ok(vec![Operand::constant(filled.to_elements())]);
    }
    let scalar = value.pick(&[], |_| 0);
    let scalar = node.tensor(&scalar)?;
    let y = node.broadcast(scalar, &shape)?;
    node.one(y)
}

fn eye_like(node: &mut NodeContext) -> Made {
    let x = node.input(0)?;
    let element = node.element_attribute("dtype", x.element())?;
    let offset = node.int("k", 0)?;
    let shape = x.shape().clone();
    if shape.len() != 2 {
        return Err(Fault::model(format!("input 0 must be a matrix, found {}", x.ty())));
    }
    let (rows, columns) = (node.iota(Element::I64, &shape, 0)?, node.iota(Element::I64, &shape, 1)?);
    let offset = node.ints(Element::I64, &[], &[offset])?;
    let diagonal = node.add(rows, offset)?;
    let is_one = node.compare("eq", diagonal, columns)?;
    let y = node.cast(is_one, element)?;
    node.one(y)
}

fn shape(node: &mut NodeContext) -> Made {
    let shape = node.input(0)?.shape().clone();
    let rank = shape.len() as i64;
    let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
    let start = place(node.int("start", 0)?);
    let end = place(node.int("end", rank)?);
    let dims: Vec<Dim> = shape.get(start..end.max(start)).unwrap_or_default().to_vec();
    let result = Symbolic::vector(dims).ok_or_else(|| Fault::model("the shape has too many dimensions"))?;
    Ok(vec![Operand::symbolic(result)])
}

fn size(node: &mut NodeContext) -> Made {
    let count = dims::product(node.input(0)?.shape());
    let count = count.ok_or_else(|| {
        Fault::unsupported("the element count is too long an expression", "bind dimensions")
    })?;
    Ok(vec![Operand::symbolic(Symbolic::scalar(count))])
}

/// start, start + delta, .. below limit.
fn range(node: &mut NodeContext) -> Made {
    let element = node.input(0)?.element();
    if element.is_float() {
        return float_range(node, element);
    }
    let scalar = |node: &mut NodeContext, at: usize| -> Outcome<Option<Dim>> {
        let operand = node.input(at)?;
        Ok(node.symbolic_of(&operand).and_then(|value| value.values.first().cloned()))
    };
    let (start, limit, delta) = (scalar(node, 0)?, scalar(node, 1)?, scalar(node, 2)?);
    if let (Some(start), Some(limit), Some(delta)) = (&start, &limit, &delta) {
        let step = delta
            .known()
            .filter(|step| *step != 0)
            .ok_or_else(|| Fault::model("the step must be a number but 0"))?;
        let length = range_length(start, limit, step);
        let length = length
            .ok_or_else(|| Fault::unsupported("the length is too long an expression", "bind dimensions"))?;
        if let Some(count) = length.known().filter(|count| *count <= ELEMENTS_MAX as i64) {
            let values: Option<Vec<Dim>> =
                (0..count).map(|at| dims::add(start, &Dim::Known(at.saturating_mul(step)))).collect();
            if let Some(result) = values.and_then(|values| Symbolic::new(element, &[count as usize], values))
            {
                return Ok(vec![Operand::symbolic(result)]);
            }
        }
        return ramp(node, element, length);
    }
    if let Some(given) = (0..3).find_map(|at| node.optional(at).filter(|operand| is_input(node, operand))) {
        let what = "the length of the range must be known, but follows from an input";
        return Err(Fault::unsupported(what, node.way_to_freeze(&given)));
    }
    // The length depends on data: a symbol of its own stands for it.
    let name = node.node.output.first().cloned().unwrap_or_default();
    let length = node.symbols.open(&name);
    ramp(node, element, length)
}

/// True if a value is an input of the model as it is.
fn is_input(node: &NodeContext, operand: &Operand) -> bool {
    let Origin::Value(value) = operand.origin() else { return false };
    matches!(node.module.value(*value).source, tilewright_ir::module::Source::Argument(..))
}

/// max(ceil((limit - start) / step), 0).
fn range_length(start: &Dim, limit: &Dim, step: i64) -> Option<Dim> {
    let span = if step > 0 { dims::subtract(limit, start)? } else { dims::subtract(start, limit)? };
    let step = step.checked_abs()?;
    let raised = dims::add(&span, &Dim::Known(step - 1))?;
    let steps = dims::call(tilewright_ir::dim::Function::FloorDiv, &raised, &Dim::Known(step))?;
    dims::larger(&steps, &Dim::Known(0))
}

fn ramp(node: &mut NodeContext, element: Element, length: Dim) -> Made {
    let mut y = node.iota(element, &[length], 0)?;
    let is = |node: &NodeContext, at: usize, value: i64| {
        node.optional(at).and_then(|operand| operand.as_symbolic()).and_then(|s| s.known())
            == Some(vec![value])
    };
    if !is(node, 2, 1) {
        let step = scalar_data(node, 2)?;
        y = node.mul(y, step)?;
    }
    if !is(node, 0, 0) {
        let start = scalar_data(node, 0)?;
        y = node.add(y, start)?;
    }
    node.one(y)
}

/// An input of one element as a scalar: some exporters give vectors of one.
fn scalar_data(node: &mut NodeContext, index: usize) -> Outcome<ValueId> {
    let value = node.value(index)?;
    node.reshape(value, &[])
}

fn float_range(node: &mut NodeContext, element: Element) -> Made {
    let mut parts = Vec::new();
    for at in 0..3 {
        let tensor = node.known_tensor(at)?;
        parts.push(
            tensor.floats().first().copied().ok_or_else(|| Fault::model(format!("input {at} is empty")))?,
        );
    }
    let length = ((parts[1] - parts[0]) / parts[2]).ceil().max(0.0);
    if !length.is_finite() || length > i64::from(i32::MAX) as f64 {
        return Err(Fault::model(format!("the range has {length} elements")));
    }
    let y = node.make(&core::IOTA, |op| {
        op.attribute("axis", 0usize).result(tilewright_ir::types::Type::tensor(element, &[length as i64]))
    })?;
    let y = node.scale(y, parts[2])?;
    let start = node.scalar(element, parts[0])?;
    let y = node.add(y, start)?;
    node.one(y)
}
