//! The inputs of a graph as arguments of `@main`: tensors, the items of sequences, and constants for those whose value is known.
//!
//! Strings are code points along one more axis, whose length is a symbol (`x_characters`).
//! How long a sequence is and whether an optional has a value must be said (`--bind x_length=2`, `--bind x_present=1`).
//!
//! ```text
//! x: seq(tensor(float)), --bind x_length=2  ->  %x.0, %x.1
//! ```

use super::fault::Fault;
use super::importer::{Binding, Importer};
use super::operand::Operand;
use super::schema::tensor_shape_proto::dimension;
use super::schema::{GraphProto, TypeProto, type_proto};
use super::weights::{RANK_MAX, STRING, element_of};
use crate::import::Port;
use crate::strings;
use std::collections::BTreeSet;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::types::{TensorType, Type};

/// The longest sequence that an input may be.
const ITEMS_MAX: i64 = 1 << 16;

/// Defines the inputs and initializers of the graph; gives the arguments of `@main`.
pub(crate) fn import_inputs(importer: &mut Importer, graph: &GraphProto) -> Result<Vec<Port>, Fault> {
    let options = importer.options;
    let stored: BTreeSet<&str> =
        graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let mut inputs = Vec::new();
    for input in &graph.input {
        let name = input.name.as_deref().unwrap_or_default();
        if stored.contains(name) && !options.keep_default_inputs.contains(name) {
            continue;
        }
        let ty = input.r#type.as_ref().ok_or_else(|| Fault::model("has no type"));
        let made = ty.and_then(|ty| argument(importer, name, ty, false, &mut inputs));
        let binding = match made {
            Ok(operand) => Binding::Known(operand),
            Err(fault) => {
                let node = format!("input '{name}'");
                importer.diagnostics.extend(fault.diagnostic(Location::name(name), &node));
                Binding::Failed
            }
        };
        importer.define(name, binding, &format!("input '{name}'"));
    }
    importer.define_initializers(graph, &|name| options.keep_default_inputs.contains(name));
    Ok(inputs)
}

/// The value of an input, or of an item of one: arguments are added for its tensors.
fn argument(
    importer: &mut Importer,
    name: &str,
    ty: &TypeProto,
    is_item: bool,
    inputs: &mut Vec<Port>,
) -> Result<Operand, Fault> {
    let missing = || Fault::model("has no type");
    match ty.value.as_ref().ok_or_else(missing)? {
        type_proto::Value::TensorType(tensor) => {
            let is_strings = tensor.elem_type == Some(STRING);
            let ty = tensor_type(importer, name, tensor, is_item)?;
            let wrapped = |operand| if is_strings { Operand::strings(operand) } else { operand };
            if importer.options.frozen.contains_key(name) {
                return frozen(importer, name, &ty, is_strings).map(wrapped);
            }
            let block = importer.emit.block();
            let value = importer.emit.module.add_argument(block, Type::Tensor(ty.clone()));
            importer.emit.module.value_mut(value).name = Some(name.into());
            inputs.push(Port { name: name.into(), ty: ty.clone(), state: None, is_strings });
            Ok(wrapped(Operand::value(value, ty)))
        }
        type_proto::Value::SequenceType(sequence) => {
            let item = sequence.elem_type.as_deref().ok_or_else(missing)?;
            let length =
                said(importer, &format!("{name}_length"), "is a sequence whose length must be known")?;
            let items = (0..length.min(ITEMS_MAX))
                .map(|at| argument(importer, &format!("{name}.{at}"), item, true, inputs));
            Ok(Operand::list(items.collect::<Result<_, _>>()?))
        }
        type_proto::Value::OptionalType(optional) => {
            let value = optional.elem_type.as_deref().ok_or_else(missing)?;
            let what = "is an optional of which it must be known whether it has a value";
            if said(importer, &format!("{name}_present"), what)? == 0 {
                return Ok(Operand::empty());
            }
            argument(importer, name, value, is_item, inputs)
        }
        _ => Err(Fault::unsupported(
            "is neither a tensor nor a sequence",
            "only these are supported as inputs",
        )),
    }
}

/// A number that the user must give.
fn said(importer: &mut Importer, name: &str, what: &str) -> Result<i64, Fault> {
    // Declared, so that a binding of it is known to have a meaning.
    importer.emit.symbols.read(name);
    let given = importer.options.bindings.get(name).copied();
    given.ok_or_else(|| Fault::unsupported(what, format!("say it with --bind {name}=NUMBER")))
}

/// The constant that the user says an input is.
fn frozen(importer: &Importer, name: &str, ty: &TensorType, is_strings: bool) -> Result<Operand, Fault> {
    let mut value = importer.options.frozen[name].clone();
    if is_strings {
        strings::check(&value)?;
    }
    // Numbers on the command line are one row of i64; they stand for any integer type, and for a vector or a scalar.
    if value.element == Element::I64 && !ty.element.is_float() && !is_strings {
        value = value.cast(ty.element);
    }
    while value.rank() > ty.rank() && value.shape[0] == 1 {
        value.shape.remove(0);
    }
    let found = value.ty();
    let fits = |(dim, found): (&Dim, &Dim)| dim.known().is_none_or(|dim| Some(dim) == found.known());
    if ty.element == found.element && ty.rank() == found.rank() && ty.shape.iter().zip(&found.shape).all(fits)
    {
        return Ok(Operand::constant(value.to_elements()));
    }
    Err(Fault::Model(
        format!("is {ty}, but the value given for it is {found}"),
        "give --freeze a value of its type".into(),
    ))
}

/// The type of an input, or of an item of one.
fn tensor_type(
    importer: &mut Importer,
    name: &str,
    tensor: &type_proto::Tensor,
    is_item: bool,
) -> Result<TensorType, Fault> {
    let is_strings = tensor.elem_type == Some(STRING);
    let element = if is_strings { Ok(Element::I32) } else { element_of(tensor.elem_type.unwrap_or(0)) };
    let element =
        element.map_err(|what| Fault::unsupported(what, "export with another type for this input"))?;
    // Code points lie along one more axis.
    let length = |importer: &mut Importer| {
        is_strings.then(|| importer.emit.symbols.open(&format!("{name}_characters")))
    };
    let Some(shape) = &tensor.shape else {
        return match importer.options.shapes.get(name) {
            Some(shape) => {
                let dims = shape.iter().map(|dim| Dim::Known(*dim));
                Ok(TensorType::new(element, dims.chain(length(importer))))
            }
            None => Err(Fault::unsupported(
                format!("'{name}' has no shape"),
                format!("give it with --input-shape {name}=SIZExSIZE, or export with the rank of this input"),
            )),
        };
    };
    if shape.dim.len() > RANK_MAX {
        return Err(Fault::model(format!(
            "has {} dimensions, at most {RANK_MAX} are supported",
            shape.dim.len()
        )));
    }
    let mut dims = Vec::new();
    for (axis, dim) in shape.dim.iter().enumerate() {
        dims.push(match &dim.value {
            Some(dimension::Value::DimValue(value)) if *value >= 0 => Dim::Known(*value),
            // Items of a sequence differ in dimensions of one name.
            Some(dimension::Value::DimParam(text)) if !text.is_empty() && !is_item => {
                importer.emit.symbols.read(text)
            }
            Some(dimension::Value::DimValue(value)) if *value < -1 => {
                return Err(Fault::model(format!("has dimension {value}")));
            }
            _ => importer.emit.symbols.open(&format!("{name}_{axis}")),
        });
    }
    dims.extend(length(importer));
    Ok(TensorType::new(element, dims))
}
