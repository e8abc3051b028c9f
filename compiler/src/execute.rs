//! Runs a model once on given inputs: on the reference evaluator, or compiled for a target and run by the interpreter.

use crate::driver::CompileOptions;
use crate::model::Source;
use crate::session::Session;
use crate::signature::{Port, Signature};
use crate::strings;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::Type;

/// Where to run.
pub enum On<'a> {
    /// The reference evaluator, on core IR as imported by these options.
    Reference(&'a CompileOptions),
    /// A target, by these options; symbols are bound from the inputs' shapes.
    Target(&'a CompileOptions),
}

/// Runs a model on inputs in graph order; gives its outputs in graph order.
///
/// # Errors
/// All problems of the stage that failed.
pub fn execute(
    session: &Session,
    source: &Source,
    inputs: &[Tensor],
    on: &On,
) -> Result<Vec<Tensor>, Diagnostics> {
    let (On::Reference(options) | On::Target(options)) = on;
    let mut imported = session.import_with(source, &options.import_options())?;
    let function = imported
        .module
        .functions()
        .first()
        .copied()
        .ok_or_else(|| vec![Diagnostic::error(Location::Unknown, "the model holds no graph")])?;
    let signature = Signature::of(&imported.module, function);
    let inputs = &strings::fitted(&signature.inputs, inputs)?;
    let mut bindings = bind(&signature.inputs, inputs)?;
    imported.bind_assumptions(&mut bindings);
    match on {
        On::Reference(_) => {
            // A batch of several sequences was taken for one: with the number known, their lengths count.
            let several =
                bindings.iter().filter(|(name, value)| **value > 1 && imported.batches.contains(*name));
            let several: Vec<(String, i64)> =
                several.map(|(name, value)| (name.to_string(), *value)).collect();
            if !several.is_empty() {
                let mut options = (*options).clone();
                options.bindings.extend(several);
                imported = session.import_with(source, &options.import_options())?;
            }
            let name = imported.module.symbol_name(function).unwrap_or("main");
            evaluate::run_with(&imported.module, name, inputs, &bindings)
                .map(|results| strings::shortened(&signature.outputs, results))
                .map_err(|error| vec![Diagnostic::error(Location::name(&error.location), error.to_string())])
        }
        On::Target(options) => {
            let mut options = (*options).clone();
            options.bindings.extend(bindings.iter().map(|(name, value)| (name.to_string(), *value)));
            let compilation = session.compile(source, &options)?;
            let mut loaded = crate::loaded::Loaded::from_compilation(&compilation)?;
            loaded.run_once(&signature, inputs)
        }
    }
}

/// Values of the symbols of `ports`, from the shapes of the values given for them.
///
/// # Errors
/// Every input whose shape or element type does not fit.
pub fn bind(ports: &[Port], inputs: &[Tensor]) -> Result<Bindings, Diagnostics> {
    if ports.len() != inputs.len() {
        let names: Vec<&str> = ports.iter().map(|port| &*port.name).collect();
        return Err(vec![
            Diagnostic::error(
                Location::Unknown,
                format!("the model takes {} inputs, {} were given", ports.len(), inputs.len()),
            )
            .with_help(format!("its inputs are: {}", names.join(", "))),
        ]);
    }
    let mut bindings = Bindings::new();
    let mut problems = Diagnostics::new();
    let mut left: Vec<usize> = (0..ports.len()).collect();
    // Plain symbols first, so that sums such as past + seq can be solved in any order of inputs.
    for round in 0..2 {
        let mut later = Vec::new();
        for index in left {
            let port = &ports[index];
            let mut attempt = bindings.clone();
            match evaluate::bind_shape(&Type::Tensor(port.ty.clone()), &inputs[index], &mut attempt) {
                Ok(()) => bindings = attempt,
                Err(_) if round == 0 => later.push(index),
                Err(what) => problems.push(
                    Diagnostic::error(Location::name(&port.name), format!("input '{}': {what}", port.name))
                        .with_help(format!("it is {}", port.type_text())),
                ),
            }
        }
        left = later;
    }
    if problems.is_empty() { Ok(bindings) } else { Err(problems) }
}
