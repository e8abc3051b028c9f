//! What a calibration runs: windows of a text for a language model, or recorded inputs.
//!
//! ```text
//! text.txt                    windows of 256 tokens, from the beginning
//! samples/input_0.npy ..      one run, inputs in graph order; folders below it are further runs
//! ```

use super::statistics::Sample;
use crate::cases;
use crate::execute::bind;
use crate::npy;
use crate::signature::Signature;
use crate::text_parity::subject::reference_inputs;
use crate::text_parity::windows::Windows;
use crate::tokens::TokenCodec;
use std::path::{Path, PathBuf};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;

fn problem(what: impl Into<String>, help: &str) -> Diagnostics {
    vec![Diagnostic::error(Location::Unknown, what).with_help(help)]
}

/// Windows of `window` tokens from the beginning of a text, of at most `limit` tokens together.
///
/// # Errors
/// A model that takes no text, a text that is too short, a tokenizer with more tokens than the model.
pub fn from_text(
    signature: &Signature,
    codec: &TokenCodec,
    text: &str,
    window: usize,
    limit: Option<usize>,
) -> Result<Vec<Sample>, Diagnostics> {
    let ids = codec.encode(text).map_err(|problem| vec![problem])?;
    let windows = Windows::new(ids, window, limit).map_err(|problem| vec![problem])?;
    (0..windows.count())
        .map(|index| {
            let (inputs, bindings) = reference_inputs(signature, windows.get(index).0)
                .map_err(|what| problem(what, "give recorded inputs with --samples"))?;
            Ok(Sample { inputs, bindings })
        })
        .collect()
}

/// Recorded inputs: folders with `input_K.npy` in graph order (and folders of that kind in them), or .npy files for a model with one input.
///
/// # Errors
/// Everything that cannot be read or does not fit the model.
pub fn from_files(signature: &Signature, paths: &[PathBuf]) -> Result<Vec<Sample>, Diagnostics> {
    let mut samples = Vec::new();
    let mut problems = Diagnostics::new();
    for path in paths {
        match runs(signature, path) {
            Ok(runs) => {
                for inputs in runs {
                    match bind(&signature.inputs, &inputs) {
                        Ok(bindings) => samples.push(Sample { inputs, bindings }),
                        Err(mut faults) => problems.append(&mut faults),
                    }
                }
            }
            Err(mut faults) => problems.append(&mut faults),
        }
    }
    match (problems.is_empty(), samples.is_empty()) {
        (false, _) => Err(problems),
        (_, true) => Err(problem("there are no samples", "give folders with input_0.npy .., or .npy files")),
        _ => Ok(samples),
    }
}

fn runs(signature: &Signature, path: &Path) -> Result<Vec<Vec<Tensor>>, Diagnostics> {
    if !path.is_dir() {
        let tensor = npy::read(path).map_err(|what| problem(what, "give a .npy file of NumPy's format"))?;
        if signature.inputs.len() != 1 {
            let what = format!("the model has {} inputs, a .npy file is one", signature.inputs.len());
            return Err(problem(what, "give folders with input_0.npy, input_1.npy .. in graph order"));
        }
        return Ok(vec![vec![tensor.tensor]]);
    }
    let mut folders = vec![path.to_path_buf()];
    let below = std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    folders.extend(below.filter(|path| path.is_dir()));
    folders.sort();
    folders.retain(|folder| folder.join("input_0.npy").is_file());
    if folders.is_empty() {
        let what = format!("folder '{}' holds no input_0.npy", path.display());
        return Err(problem(what, "a sample is a folder with input_0.npy, input_1.npy .. in graph order"));
    }
    folders.iter().map(|folder| Ok(cases::read(folder)?.inputs)).collect()
}
