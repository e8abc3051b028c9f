//! `tilewright run`: a model or an artifact on inputs from .npy files.

use super::CompileArguments;
use super::load::LoadArguments;
use crate::exit::Failure;
use crate::loaded::Loaded;
use crate::model::Source;
use crate::npy;
use crate::session::Session;
use crate::signature::{Port, Signature};
use crate::strings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tilewright_ir::tensor::Tensor;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright run model.npu --input x=@x.npy --output-dir results\n  \
    tilewright run model.onnx --input input_ids=@ids.npy --input attention_mask=@mask.npy\n  \
    tilewright run bert.onnx --input ids=1,2,3 --target npu-gen3\n  \
    tilewright run words.onnx --input x=Monday,Tuesday\n\n\
    Symbolic dimensions are bound from the inputs' shapes. A state that is not given begins empty or zero.")]
pub(crate) struct Arguments {
    /// An .onnx file, a folder with one, an .npu artifact, or a folder that `deploy` made
    #[arg(value_name = "MODEL|OUT.npu")]
    model: PathBuf,
    /// An input: NAME=@FILE.npy, or NAME=1,2,3 for one row of integers, or NAME=be,or for strings; may be given again
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

/// A value as it was given.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    /// A file.
    File(npy::Array),
    /// `1,2,3` or `be,or,not`.
    Words(String),
}

impl Given {
    /// The value for an input of numbers or of strings of this rank.
    fn value(&self, name: &str, is_strings: bool, rank: usize) -> Result<Tensor, Failure> {
        match self {
            Given::File(array) if array.is_strings == is_strings => Ok(array.tensor.clone()),
            Given::File(array) => {
                let [takes, found] = if is_strings { ["strings", "numbers"] } else { ["numbers", "strings"] };
                Err(Failure::user(
                    format!("input '{name}' takes {takes}, the file holds {found} ({})", array.tensor.ty()),
                    "numpy.array(['be', 'or']) is strings, numpy.array([1, 2]) is numbers",
                ))
            }
            Given::Words(text) if is_strings => words_of(text, rank),
            Given::Words(text) => numbers_of(text),
        }
    }

    /// The value where nothing says what it is for: words that are no numbers are strings.
    pub(crate) fn either(&self) -> Result<Tensor, Failure> {
        match self {
            Given::File(array) => Ok(array.tensor.clone()),
            Given::Words(text) => numbers_of(text).or_else(|_| words_of(text, 2)),
        }
    }
}

fn numbers_of(text: &str) -> Result<Tensor, Failure> {
    let numbers: Result<Vec<i64>, _> = text.split(',').map(|one| one.trim().parse()).collect();
    let numbers = numbers.map_err(|_| {
        Failure::Usage(format!("cannot read '{text}': expected integers such as 1,2,3 or @FILE.npy"))
    })?;
    Ok(Tensor::from_ints(tilewright_ir::element::Element::I64, &[1, numbers.len() as i64], numbers))
}

/// Strings as a vector, or as one row of a matrix.
fn words_of(text: &str, rank: usize) -> Result<Tensor, Failure> {
    let words: Vec<&str> = text.split(',').collect();
    let shape = if rank == 1 { vec![words.len()] } else { vec![1, words.len()] };
    strings::encode(&shape, &words).map_err(|what| Failure::user(what, "give strings without U+0000"))
}

/// Reads `NAME=@file.npy`, `NAME=1,2,3` and `NAME=be,or,not`.
pub(crate) fn read_inputs(words: &[String]) -> Result<BTreeMap<String, Given>, Failure> {
    let mut inputs = BTreeMap::new();
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Failure::Usage(format!(
                "cannot read '{word}': expected NAME=@FILE.npy or NAME=1,2,3"
            )));
        };
        let given = match value.strip_prefix('@') {
            Some(path) => npy::read(Path::new(path))
                .map(Given::File)
                .map_err(|what| Failure::user(what, "write the file with numpy.save"))?,
            None => Given::Words(value.to_string()),
        };
        if inputs.insert(name.to_string(), given).is_some() {
            return Err(Failure::Usage(format!("input '{name}' is given twice")));
        }
    }
    Ok(inputs)
}

/// Puts inputs in graph order.
fn ordered(ports: &[Port], inputs: &BTreeMap<String, Given>) -> Result<Vec<Tensor>, Failure> {
    let names: Vec<&str> = ports.iter().map(|port| &*port.name).collect();
    let missing: Vec<&str> = names.iter().copied().filter(|name| !inputs.contains_key(*name)).collect();
    let unknown: Vec<&String> = inputs.keys().filter(|name| !names.contains(&name.as_str())).collect();
    if !missing.is_empty() || !unknown.is_empty() {
        let types: Vec<String> =
            ports.iter().map(|port| format!("{}: {}", port.name, port.type_text())).collect();
        return Err(Failure::user(
            format!("inputs do not fit: missing {missing:?}, unknown {unknown:?}"),
            format!("the model takes\n    {}", types.join("\n    ")),
        ));
    }
    let rank = |port: &Port| port.ty.rank() - usize::from(port.is_strings);
    let given = |port: &Port| inputs[&*port.name].value(&port.name, port.is_strings, rank(port));
    ports.iter().map(given).collect()
}

/// Runs once and shows or writes the outputs.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let inputs = read_inputs(&arguments.inputs)?;
    let (source, mut opening) = arguments.how.source(&arguments.model)?;
    opening.threads = arguments.what.threads.unwrap_or(0);
    let outputs: Vec<(String, Tensor, bool)> = match &source {
        Source::Artifact(path) => {
            let mut loaded = Loaded::open_with(path, &opening)?;
            let strings = loaded.strings();
            let inputs = typed(&loaded, &strings, &inputs)?;
            let marked = |(name, tensor)| {
                let is_strings = strings.contains(&name);
                (name, tensor, is_strings)
            };
            loaded.run_named(&inputs)?.into_iter().map(marked).collect()
        }
        _ => {
            let options = arguments.what.options()?;
            let imported = session.import_with(&source, &options.import_options())?;
            let function = imported.module.functions().first().copied();
            let signature = function.map(|op| Signature::of(&imported.module, op)).unwrap_or_default();
            let inputs = ordered(&signature.inputs, &inputs)?;
            let on = if arguments.reference {
                crate::execute::On::Reference(&options)
            } else {
                crate::execute::On::Target(&options)
            };
            let values = crate::execute::execute(session, &source, &inputs, &on)?;
            let ports = signature.outputs.iter().zip(values);
            ports.map(|(port, value)| (port.name.to_string(), value, port.is_strings)).collect()
        }
    };
    for (name, tensor, is_strings) in &outputs {
        match &arguments.output_dir {
            Some(folder) => {
                crate::output::make_folder(folder)?;
                // Names of the model may hold slashes; a file name must not.
                let file = format!("{}.npy", name.replace(['/', '\\', ':'], "_"));
                let bytes = if *is_strings { npy::encode_strings(tensor) } else { npy::encode(tensor) };
                crate::output::write(&folder.join(file), &bytes)?;
            }
            None if *is_strings => print_strings(name, tensor),
            None => print_tensor(name, tensor),
        }
    }
    Ok(())
}

/// The inputs of an artifact by name; names that it does not have are left to the run to report.
fn typed(
    loaded: &Loaded,
    strings: &[String],
    inputs: &BTreeMap<String, Given>,
) -> Result<BTreeMap<String, Tensor>, Failure> {
    let bindings = &loaded.session.program().inputs;
    let value = |(name, given): (&String, &Given)| {
        let rank = bindings.iter().find(|binding| binding.name == *name).map_or(1, |one| one.view.dims.len());
        Ok((name.clone(), given.value(name, strings.contains(name), rank.saturating_sub(1))?))
    };
    inputs.iter().map(value).collect()
}

/// The most values that are printed of one output.
const SHOWN_MAX: usize = 8;

fn print_strings(name: &str, codes: &Tensor) {
    let texts = strings::decode(codes);
    let more = if texts.len() > SHOWN_MAX { ", .." } else { "" };
    let shown: Vec<String> = texts.iter().take(SHOWN_MAX).map(|text| format!("{text:?}")).collect();
    let dims = codes.shape.iter().take(codes.rank() - 1).map(|dim| format!("{dim}x"));
    say!("{name}: tensor<{}string> [{}{more}]", dims.collect::<String>(), shown.join(", "));
}

fn print_tensor(name: &str, tensor: &Tensor) {
    let shown = tensor.len().min(SHOWN_MAX);
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
