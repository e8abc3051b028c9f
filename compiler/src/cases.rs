//! Recorded cases: a folder with `model.onnx`, `input_K.npy` and `output_K.npy` in graph order. A folder below it with inputs of
//! its own (other lengths of the same model) is a case too.

use crate::npy;
use std::path::{Path, PathBuf};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::tensor::Tensor;

/// One recorded case.
pub struct Case {
    /// Its folder, as given, with the sub-folder.
    pub name: String,
    /// The model.
    pub model: PathBuf,
    /// Values of the model's inputs, in graph order.
    pub inputs: Vec<Tensor>,
    /// Expected values of the model's outputs, in graph order; may be empty when nobody could make them.
    pub outputs: Vec<Tensor>,
    /// Which inputs, and which outputs, are strings (as code points).
    pub strings: [Vec<bool>; 2],
}

/// Finds the cases of a folder: its own, and those of its sub-folders that share its model. Values are not read yet.
///
/// # Errors
/// When the folder has no model.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let missing = |what: &str| {
        Diagnostic::error(Location::Unknown, format!("'{}' {what}", folder.display()))
            .with_help("a case is a folder with model.onnx, input_0.npy .. and output_0.npy ..")
    };
    if !folder.join("model.onnx").is_file() {
        return Err(missing("holds no model.onnx"));
    }
    let mut found = vec![folder.to_path_buf()];
    let entries = std::fs::read_dir(folder).map_err(|error| missing(&format!("cannot be read: {error}")))?;
    let mut below: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.is_dir() && path.join("input_0.npy").is_file() && !path.join("model.onnx").is_file()
        })
        .collect();
    below.sort();
    found.extend(below);
    Ok(found)
}

/// Reads a case that [`find`] named.
///
/// # Errors
/// All files that cannot be read, by name.
pub fn read(folder: &Path) -> Result<Case, Diagnostics> {
    let own = folder.join("model.onnx");
    let model = if own.is_file() {
        own
    } else {
        folder.parent().map(|parent| parent.join("model.onnx")).unwrap_or(own)
    };
    let mut problems = Diagnostics::new();
    let mut series = |stem: &str| {
        let mut tensors = Vec::new();
        loop {
            let path = folder.join(format!("{stem}_{}.npy", tensors.len()));
            if !path.is_file() {
                return tensors;
            }
            match npy::read(&path) {
                Ok(array) => tensors.push(array),
                Err(problem) => {
                    problems.push(Diagnostic::error(Location::Unknown, problem));
                    return tensors;
                }
            }
        }
    };
    let (inputs, outputs) = (series("input"), series("output"));
    if problems.is_empty() {
        let strings = [&inputs, &outputs].map(|arrays| arrays.iter().map(|one| one.is_strings).collect());
        let [inputs, outputs] =
            [inputs, outputs].map(|arrays| arrays.into_iter().map(|array| array.tensor).collect());
        Ok(Case { name: folder.display().to_string(), model, inputs, outputs, strings })
    } else {
        Err(problems)
    }
}
