//! ONNX models to `core` IR.
//!
//! The map: `file` and `weights` bring bytes, `schema` is the format, `table` and `rows` say what each operator becomes, `context`
//! is what a row sees, `emit` makes the ops, `differentiate` their gradients, `dims` and `symbolic` compute shapes, `importer` walks
//! graphs, `signature` makes `@main`.
//! An equality of two dimensions that comes to light on the way (a broadcast of `total_seq` with `past_seq + seq`) starts the import
//! again with the symbol replaced: importing is cheap, since no weight is touched.

mod automaton;
mod context;
mod differentiate;
mod dims;
mod emit;
mod fault;
pub(crate) mod file;
mod fold;
mod functions;
mod importer;
mod inputs;
mod label;
mod letter_case;
mod operand;
mod order;
mod rows;
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "written by a generator")]
pub(crate) mod schema;
mod signature;
pub mod support;
mod symbolic;
mod table;
#[cfg(test)]
mod tests;
mod weights;

pub use table::{OPSET_MAX, OPSET_MIN, Operator, operators};

use self::dims::Symbols;
use self::emit::Emitter;
use self::fault::Fault;
use self::file::{ExternalData, Source};
use self::importer::{FunctionKey, Importer, domain_of, opsets};
use self::schema::{FunctionProto, ModelProto};
use super::{Assumption, Imported, Options};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics, Severity};
use tilewright_ir::dim::Dim;
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;

/// The oldest and the newest IR version of the format that are taken.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;
/// The most equalities of dimensions that one model may need.
const EQUALITIES_MAX: usize = 64;

/// Imports a model from a file, a folder with one, or `-` for stdin.
///
/// # Errors
/// All that is wrong with the model, at least one error.
pub fn import(path: &Path, options: &Options) -> Result<Imported, Diagnostics> {
    let source = file::open(path)
        .map_err(|(what, help)| vec![Diagnostic::error(Location::Unknown, what).with_help(help)])?;
    import_source(source, options)
}

/// Imports a model from bytes. External data is looked for in the folder that the options name.
///
/// # Errors
/// As [`import`].
pub fn import_bytes(bytes: Bytes, options: &Options) -> Result<Imported, Diagnostics> {
    import_source(Source { bytes, folder: None }, options)
}

fn import_source(source: Source, options: &Options) -> Result<Imported, Diagnostics> {
    let error = |what: String, help: &str| vec![Diagnostic::error(Location::Unknown, what).with_help(help)];
    let size = source.bytes.len();
    let model = ModelProto::decode(source.bytes).map_err(|cause| {
        error(
            format!("not a readable ONNX model ({size} bytes): {cause}"),
            "is the file complete, and is it ONNX?",
        )
    })?;
    check_versions(&model)?;
    let Some(graph) = &model.graph else {
        return Err(error("the model has no graph".into(), "is the file complete, and is it ONNX?"));
    };
    let functions = functions_of(&model)?;
    let mut external = ExternalData::new(options.external_data.clone().or(source.folder));
    let bound = options.bindings.iter().map(|(name, value)| (name.clone(), Dim::Known(*value)));
    let mut substitution: BTreeMap<Arc<str>, Dim> = bound.collect();
    for _ in 0..EQUALITIES_MAX {
        let emit = Emitter {
            module: Module::new(),
            blocks: Vec::new(),
            location: Location::Unknown,
            symbols: Symbols::new(substitution),
        };
        let mut importer =
            Importer::new(emit, &mut external, functions.clone(), opsets(&model.opset_import), options);
        match signature::import_main(&mut importer, graph) {
            Ok((inputs, outputs)) => return finish(importer, inputs, outputs, &model, options),
            Err(Fault::Unify(name, dim)) => {
                importer.emit.symbols.replace(name, dim);
                substitution = importer.emit.symbols.substitution;
            }
            Err(fault) => {
                importer.diagnostics.extend(fault.diagnostic(Location::Unknown, ""));
                return Err(importer.diagnostics);
            }
        }
    }
    Err(error(
        format!("more than {EQUALITIES_MAX} pairs of dimensions must be equal"),
        "bind them with --bind NAME=VALUE",
    ))
}

fn finish(
    importer: Importer,
    inputs: Vec<super::Port>,
    outputs: Vec<super::Port>,
    model: &ModelProto,
    options: &Options,
) -> Result<Imported, Diagnostics> {
    let mut diagnostics = importer.diagnostics;
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(diagnostics);
    }
    let symbols = importer.emit.symbols;
    for name in options.bindings.keys().filter(|name| !symbols.declared().contains(name)) {
        let known: Vec<&str> = symbols.declared().iter().map(|name| &**name).collect();
        let what = format!("there is no dimension '{name}' to bind");
        let help = format!("the model's dimensions are: {}", known.join(", "));
        diagnostics.push(Diagnostic::warning(Location::Unknown, what).with_help(help));
    }
    let assumptions = symbols
        .substitution
        .iter()
        .filter(|(name, _)| !options.bindings.contains_key(*name))
        .map(|(name, dim)| Assumption { symbol: name.clone(), equals: dim.clone() })
        .collect();
    Ok(Imported {
        module: importer.emit.module,
        diagnostics,
        assumptions,
        inputs,
        outputs,
        batches: importer.batches,
        opset: opsets(&model.opset_import).get("").copied().unwrap_or(0),
        ir_version: model.ir_version.unwrap_or(0),
        producer: format!(
            "{} {}",
            model.producer_name.as_deref().unwrap_or_default(),
            model.producer_version.as_deref().unwrap_or_default()
        )
        .trim()
        .to_string(),
    })
}

fn check_versions(model: &ModelProto) -> Result<(), Diagnostics> {
    let mut diagnostics = Vec::new();
    let mut refuse = |what: String, help: &str| {
        diagnostics.push(Diagnostic::unsupported(Location::Unknown, what).with_help(help));
    };
    let (ir_min, ir_max) = (IR_VERSIONS.start(), IR_VERSIONS.end());
    match model.ir_version {
        Some(version) if IR_VERSIONS.contains(&version) => {}
        Some(version) => refuse(
            format!("IR version {version} is not supported; {ir_min} to {ir_max} are"),
            "export with another version of the onnx package",
        ),
        None => refuse("the model has no IR version".into(), "is the file complete, and is it ONNX?"),
    }
    let imports = opsets(&model.opset_import);
    match imports.get("") {
        Some(version) if (OPSET_MIN..=OPSET_MAX).contains(version) => {}
        Some(version) => refuse(
            format!("opset {version} is not supported; {OPSET_MIN} to {OPSET_MAX} are"),
            "convert the model: onnx.version_converter.convert_version(model, 18)",
        ),
        // A model may use other domains alone.
        None if !imports.is_empty() => {}
        None => refuse("the model imports no opset".into(), "is the file complete, and is it ONNX?"),
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
}

fn functions_of(model: &ModelProto) -> Result<BTreeMap<FunctionKey, &FunctionProto>, Diagnostics> {
    let mut functions = BTreeMap::new();
    for function in &model.functions {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let domain = domain_of(function.domain.as_deref()).to_string();
        let name = part(&function.name);
        let key = (domain, name.clone(), part(&function.overload));
        if functions.insert(key, function).is_some() {
            let what = format!("function '{name}' is defined twice");
            return Err(vec![Diagnostic::error(Location::name(&name), what)]);
        }
    }
    Ok(functions)
}

/// The names of a model's inputs in graph order, those that have a stored default left out.
///
/// # Errors
/// When the file cannot be read as a model.
pub fn input_names(path: &Path) -> Result<Vec<String>, Diagnostics> {
    let fault = |what: String| vec![Diagnostic::error(Location::Unknown, what)];
    let source = file::open(path).map_err(|(what, _)| fault(what))?;
    let model = ModelProto::decode(source.bytes).map_err(|cause| fault(cause.to_string()))?;
    let Some(graph) = model.graph else { return Ok(Vec::new()) };
    let stored: Vec<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let names = graph.input.iter().filter_map(|input| input.name.clone());
    Ok(names.filter(|name| !stored.contains(&name.as_str())).collect())
}
