//! `tilewright run`: a model or an artifact on inputs from .npy files.

use super::CompileArguments;
use super::load::LoadArguments;
use crate::exit::Failure;
use crate::loaded::Loaded;
use crate::model::Source;
use crate::npy;
use crate::session::Session;
use crate::signature::{Port, Signature};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright_ir::tensor::Tensor;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright run model.npu --input x=@x.npy --output-dir results\n  \
    tilewright run model.onnx --input input_ids=@ids.npy --input attention_mask=@mask.npy\n  \
    tilewright run bert.onnx --input ids=1,2,3 --target npu-gen3\n\n\
    Symbolic dimensions are bound from the inputs' shapes. A state that is not given begins empty or zero.")]
pub(crate) struct Arguments {
    /// An .onnx file, a folder with one, or an .npu artifact
    #[arg(value_name = "MODEL|OUT.npu")]
    model: PathBuf,
    /// An input: NAME=@FILE.npy, or NAME=1,2,3 for one row of integers; may be given again
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    /// Write each output as NAME.npy into this folder instead of printing it
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Run on the reference evaluator instead of a target
    #[arg(long)]
    reference: bool,
    #[command(flatten)]
    how: LoadArguments,
    #[command(flatten)]
    what: CompileArguments,
}

/// Reads `NAME=@file.npy` and `NAME=1,2,3`.
pub(crate) fn read_inputs(words: &[String]) -> Result<BTreeMap<String, Tensor>, Failure> {
    let mut inputs = BTreeMap::new();
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Failure::Usage(format!(
                "cannot read '{word}': expected NAME=@FILE.npy or NAME=1,2,3"
            )));
        };
        let tensor = match value.strip_prefix('@') {
            Some(path) => npy::read(Path::new(path))
                .map_err(|what| Failure::user(what, "write the file with numpy.save"))?,
            None => {
                let numbers: Result<Vec<i64>, _> = value.split(',').map(|one| one.trim().parse()).collect();
                let numbers = numbers.map_err(|_| {
                    Failure::Usage(format!(
                        "cannot read '{value}': expected integers such as 1,2,3 or @FILE.npy"
                    ))
                })?;
                Tensor::from_ints(tilewright_ir::element::Element::I64, &[1, numbers.len() as i64], numbers)
            }
        };
        if inputs.insert(name.to_string(), tensor).is_some() {
            return Err(Failure::Usage(format!("input '{name}' is given twice")));
        }
    }
    Ok(inputs)
}

/// Puts inputs in graph order.
fn ordered(ports: &[Port], mut inputs: BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, Failure> {
    let names: Vec<&str> = ports.iter().map(|port| &*port.name).collect();
    let missing: Vec<&str> = names.iter().copied().filter(|name| !inputs.contains_key(*name)).collect();
    let unknown: Vec<&String> = inputs.keys().filter(|name| !names.contains(&name.as_str())).collect();
    if !missing.is_empty() || !unknown.is_empty() {
        let types: Vec<String> = ports.iter().map(|port| format!("{}: {}", port.name, port.ty)).collect();
        return Err(Failure::user(
            format!("inputs do not fit: missing {missing:?}, unknown {unknown:?}"),
            format!("the model takes\n    {}", types.join("\n    ")),
        ));
    }
    Ok(names.iter().filter_map(|name| inputs.remove(*name)).collect())
}

/// Runs once and shows or writes the outputs.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let inputs = read_inputs(&arguments.inputs)?;
    let source = Source::open(&arguments.model)?;
    let outputs: Vec<(String, Tensor)> = match &source {
        Source::Artifact(path) => Loaded::open_with(path, &arguments.how.opening())?.run_named(&inputs)?,
        _ => {
            let options = arguments.what.options()?;
            let imported = session.import_with(&source, &options.import_options())?;
            let function = imported.module.functions().first().copied();
            let signature = function.map(|op| Signature::of(&imported.module, op)).unwrap_or_default();
            let inputs = ordered(&signature.inputs, inputs)?;
            let on = if arguments.reference {
                crate::execute::On::Reference(&options)
            } else {
                crate::execute::On::Target(&options)
            };
            let values = crate::execute::execute(session, &source, &inputs, &on)?;
            signature.outputs.iter().map(|port| port.name.to_string()).zip(values).collect()
        }
    };
    for (name, tensor) in &outputs {
        match &arguments.output_dir {
            Some(folder) => {
                crate::output::make_folder(folder)?;
                // Names of the model may hold slashes; a file name must not.
                let file = format!("{}.npy", name.replace(['/', '\\', ':'], "_"));
                crate::output::write(&folder.join(file), &npy::encode(tensor))?;
            }
            None => print_tensor(name, tensor),
        }
    }
    Ok(())
}

fn print_tensor(name: &str, tensor: &Tensor) {
    let shown = tensor.len().min(8);
    let values: Vec<String> = (0..shown)
        .map(|index| {
            if tensor.element.is_float() {
                format!("{:.6}", tensor.float(index))
            } else {
                tensor.int(index).to_string()
            }
        })
        .collect();
    let more = if tensor.len() > shown { ", .." } else { "" };
    say!("{name}: {} [{}{more}]", tensor.ty(), values.join(", "));
}
