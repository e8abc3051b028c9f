//! The function `@main`: its arguments from the graph's inputs, its results from the graph's outputs, and which of them are states.
//!
//! ```text
//! %past_key_values.0.key: tensor<1x2x?x16xf32, ["past_seq"]> {tw.name = "past_key_values.0.key", tw.state = "present.0.key"}
//! ```

use super::fault::Fault;
use super::importer::Importer;
use super::inputs::import_inputs;
use super::rows::Form;
use super::schema::GraphProto;
use crate::import::Port;
use crate::strings;
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::diagnostic::{Diagnostic, Severity};
use tilewright_ir::dialects::builtin;
use tilewright_ir::location::Location;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::types::{TensorType, Type};

/// The function that a graph becomes.
const MAIN: &str = "main";

/// Leading words of a state's input name; the output is named `present` in their place.
const PAST: &[&str] = &["past_key_values.", "past_key_values_", "past.", "past_"];

/// The output that carries the new value of a state, by the input's name.
fn present_of(input: &str) -> Option<String> {
    let rest = PAST.iter().find_map(|past| input.strip_prefix(past).map(|rest| (past, rest)));
    rest.map(|(past, rest)| format!("present{}{rest}", if past.ends_with('_') { '_' } else { '.' }))
}

/// True if a value of type `to` can be the next value of a state of type `from`: all but one dimension stay.
fn is_next(from: &TensorType, to: &TensorType) -> bool {
    let changed = from.shape.iter().zip(&to.shape).filter(|(a, b)| a != b).count();
    from.element == to.element && from.rank() == to.rank() && changed <= 1
}

/// Imports the graph into `@main`. Gives the inputs and outputs; what is wrong is in the importer's diagnostics.
pub(crate) fn import_main(
    importer: &mut Importer,
    graph: &GraphProto,
) -> Result<(Vec<Port>, Vec<Port>), Fault> {
    let function = begin(importer);
    let inputs = import_inputs(importer, graph)?;
    assume_mask_covers_cache(&inputs)?;
    if let Err(fault) = importer.import_nodes(&graph.node) {
        if let Fault::Unify(..) = fault {
            return Err(fault);
        }
        importer.diagnostics.extend(fault.diagnostic(Location::Unknown, ""));
        return Ok((inputs, Vec::new()));
    }
    importer.emit.location = Location::Unknown;
    let (outputs, values) = import_outputs(importer, graph)?;
    if importer.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Ok((inputs, outputs));
    }
    finish(importer, function, inputs, outputs, &values)
}

fn begin(importer: &mut Importer) -> OpId {
    let module = &mut importer.emit.module;
    let function = module.create_op(&builtin::FUNCTION, &[], Attributes::new(), &[], Location::Unknown);
    let region = module.add_region(function);
    let block = module.add_block(region, &[]);
    module.append(module.body(), function);
    importer.emit.blocks = vec![block];
    function
}

/// Language models take a mask over past and new tokens whose length is a symbol of its own in many exports. Taking it for the
/// sum that it is lets one symbol bind all.
fn assume_mask_covers_cache(inputs: &[Port]) -> Result<(), Fault> {
    let find = |name: &str| inputs.iter().find(|port| &*port.name == name).map(|port| &port.ty.shape);
    let mask = find("attention_mask").filter(|shape| shape.len() == 2);
    let ids = find("input_ids").or(find("inputs_embeds")).filter(|shape| shape.len() >= 2);
    let cache = inputs
        .iter()
        .find(|port| present_of(&port.name).is_some() && port.ty.rank() == 4)
        .map(|port| &port.ty.shape[2]);
    if let (Some(mask), Some(ids), Some(cache)) = (mask, ids, cache)
        && let Some(total) = mask[1].as_symbol()
        && mask[1] != ids[1]
        && mask[1] != *cache
    {
        return Err(Fault::Unify(total.clone(), cache + &ids[1]));
    }
    Ok(())
}

fn import_outputs(importer: &mut Importer, graph: &GraphProto) -> Result<(Vec<Port>, Vec<ValueId>), Fault> {
    let (mut outputs, mut values) = (Vec::new(), Vec::new());
    for output in &graph.output {
        let name: Arc<str> = output.name.as_deref().unwrap_or_default().into();
        let made = importer.resolve(&name).and_then(|operand| {
            let operand = operand.ok_or_else(|| Fault::model("has no value"))?;
            // A sequence is an output for each item, an empty optional is none.
            Form::parts(&operand)
                .iter()
                .map(|part| importer.emit.data(part))
                .collect::<Result<Vec<_>, _>>()
                .map(|made| (operand, made))
        });
        match made {
            Ok((operand, made)) => {
                let is_one = operand.is_tensor() || operand.as_strings().is_some();
                let strings = Form::of(&operand).strings();
                for (at, (value, is_strings)) in made.into_iter().zip(strings).enumerate() {
                    let name = if is_one { name.clone() } else { format!("{name}.{at}").into() };
                    outputs.push(Port { name, ty: importer.emit.ty(value).clone(), state: None, is_strings });
                    values.push(value);
                }
            }
            Err(fault @ Fault::Unify(..)) => return Err(fault),
            Err(fault) => {
                let what = format!("output '{name}'");
                importer.diagnostics.extend(fault.diagnostic(Location::name(&name), &what));
            }
        }
    }
    if graph.output.is_empty() {
        importer.diagnostics.push(Diagnostic::error(Location::Unknown, "the graph has no outputs"));
    }
    Ok((outputs, values))
}

fn finish(
    importer: &mut Importer,
    function: OpId,
    mut inputs: Vec<Port>,
    mut outputs: Vec<Port>,
    values: &[ValueId],
) -> Result<(Vec<Port>, Vec<Port>), Fault> {
    for input in &mut inputs {
        let Some(present) = present_of(&input.name) else { continue };
        let output = outputs.iter_mut().find(|output| *output.name == present && output.state.is_none());
        if let Some(output) = output.filter(|output| is_next(&input.ty, &output.ty)) {
            input.state = Some(output.name.clone());
            output.state = Some(input.name.clone());
        }
    }
    importer.emit.finish_block(&builtin::RETURN, values)?;
    let types = |ports: &[Port]| ports.iter().map(|port| Type::Tensor(port.ty.clone())).collect::<Vec<_>>();
    let attributes = Attributes::from([
        ("sym_name".into(), MAIN.into()),
        ("function_type".into(), Attribute::Type(Type::Function(types(&inputs), types(&outputs)))),
        ("arg_attrs".into(), names_of(&inputs)),
        ("res_attrs".into(), names_of(&outputs)),
    ]);
    importer.emit.module.op_mut(function).attributes = attributes;
    Ok((inputs, outputs))
}

fn names_of(ports: &[Port]) -> Attribute {
    let entry = |port: &Port| {
        let mut attributes = Attributes::from([("tw.name".into(), Attribute::str(&port.name))]);
        if let Some(state) = &port.state {
            attributes.insert("tw.state".into(), Attribute::str(state));
        }
        if port.is_strings {
            attributes.insert(strings::ATTRIBUTE.into(), true.into());
        }
        Attribute::Dict(Arc::new(attributes))
    };
    Attribute::Array(ports.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_paired_by_name() {
        for (input, output) in [
            ("past_key_values.0.key", Some("present.0.key")),
            ("past.3.conv", Some("present.3.conv")),
            ("past_key_self_0", Some("present_key_self_0")),
            ("position_ids", None),
        ] {
            assert_eq!(present_of(input).as_deref(), output);
        }
    }
}
