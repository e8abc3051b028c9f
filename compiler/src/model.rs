//! What the user calls MODEL: an ONNX file, a folder with one, an artifact, a deployment, or standard input; and the files beside it.

use std::path::{Path, PathBuf};
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_runtime::artifact::MAGIC;
use tilewright_runtime::deployment::INDEX_FILE;

/// Files beside a model that travel inside the artifact, so that one file is enough to write text.
pub const COMPANIONS: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "genai_config.json",
    "config.json",
    "chat_template.jinja",
];

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An ONNX file.
    Onnx(PathBuf),
    /// A compiled artifact.
    Artifact(PathBuf),
    /// A folder with artifacts for several NPUs, and their index.
    Deployment(PathBuf),
    /// ONNX bytes on standard input.
    StandardInput,
}

impl Source {
    /// Finds out what a path is. A folder is searched for a deployment's index, then for `model.onnx`, else for a single
    /// `.onnx` file.
    ///
    /// # Errors
    /// Says what was looked for and what is there.
    pub fn open(path: &Path) -> Result<Source, Diagnostic> {
        if path == Path::new("-") {
            return Ok(Source::StandardInput);
        }
        if path.is_dir() {
            return folder(path);
        }
        let mut magic = [0u8; 8];
        let read = std::fs::File::open(path).and_then(|mut file| {
            use std::io::Read;
            let count = file.read(&mut magic)?;
            Ok(count)
        });
        match read {
            Ok(count) if count == MAGIC.len() && magic == MAGIC => Ok(Source::Artifact(path.to_path_buf())),
            Ok(_) => Ok(Source::Onnx(path.to_path_buf())),
            Err(error) => Err(Diagnostic::error(
                Location::Unknown,
                format!("cannot read model '{}': {error}", path.display()),
            )
            .with_help("give an .onnx file, a folder that holds one, an .npu artifact, or '-'")),
        }
    }

    /// The folder the model lies in; `None` for standard input.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Source::Onnx(path) | Source::Artifact(path) => path.parent(),
            Source::Deployment(folder) => Some(folder),
            Source::StandardInput => None,
        }
    }

    /// The files beside an ONNX model that are there, with their bytes.
    ///
    /// # Errors
    /// When one is there but cannot be read.
    pub fn companions(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Diagnostic> {
        let Source::Onnx(path) = self else { return Ok(Vec::new()) };
        let folder = path.parent().unwrap_or(Path::new("."));
        COMPANIONS
            .iter()
            .filter(|name| folder.join(name).is_file())
            .map(|name| crate::output::read(&folder.join(name)).map(|bytes| (*name, bytes)))
            .collect()
    }
}

fn folder(path: &Path) -> Result<Source, Diagnostic> {
    if path.join(INDEX_FILE).is_file() {
        return Ok(Source::Deployment(path.to_path_buf()));
    }
    let model = path.join("model.onnx");
    if model.is_file() {
        return Ok(Source::Onnx(model));
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    found.sort();
    match found.as_slice() {
        [single] => Ok(Source::Onnx(single.clone())),
        [] => Err(Diagnostic::error(
            Location::Unknown,
            format!("folder '{}' holds no .onnx file", path.display()),
        )
        .with_help("give the model's file, or a folder with model.onnx")),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Diagnostic::error(
                Location::Unknown,
                format!(
                    "folder '{}' holds {} .onnx files: {}",
                    path.display(),
                    several.len(),
                    names.join(", ")
                ),
            )
            .with_help("name the one you mean"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_needs_one_model() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Source::open(folder.path()).unwrap_err().what.contains("no .onnx"));
        std::fs::write(folder.path().join("a.onnx"), b"").unwrap();
        assert_eq!(Source::open(folder.path()).unwrap(), Source::Onnx(folder.path().join("a.onnx")));
        std::fs::write(folder.path().join("b.onnx"), b"").unwrap();
        assert!(Source::open(folder.path()).unwrap_err().what.contains("2 .onnx files"));
        std::fs::write(folder.path().join("model.onnx"), b"").unwrap();
        assert_eq!(Source::open(folder.path()).unwrap(), Source::Onnx(folder.path().join("model.onnx")));
        assert!(Source::open(&folder.path().join("none")).is_err());
    }
}
