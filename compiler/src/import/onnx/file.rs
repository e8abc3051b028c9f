//! Files of a model: the model itself and its external data, mapped into memory and shared, never copied.
//!
//! Knows nothing of what is inside. A location in a model may only name a file below the model's own folder.
//!
//! ```text
//! models/story-3m  ->  models/story-3m/model.onnx (mapped), models/story-3m/model.onnx.data (mapped when first named)
//! ```

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// A model's bytes and the folder that its external data lies in.
pub(crate) struct Source {
    /// The encoded model.
    pub(crate) bytes: Bytes,
    /// Where external data may be; `None` when the model did not come from a file.
    pub(crate) folder: Option<PathBuf>,
}

/// Opens a model: a file, a folder with `model.onnx` (or a single `.onnx` file), or `-` for stdin.
///
/// # Errors
/// What is wrong with the path, and the way out.
pub(crate) fn open(path: &Path) -> Result<Source, (String, String)> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| (format!("cannot read the model from stdin: {error}"), String::new()))?;
        return Ok(Source { bytes: bytes.into(), folder: None });
    }
    let file = if path.is_dir() { model_in(path)? } else { path.to_path_buf() };
    let bytes = map(&file).map_err(|error| {
        (
            format!("cannot read '{}': {error}", file.display()),
            "give an .onnx file or a folder with one".into(),
        )
    })?;
    let folder =
        file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    Ok(Source { bytes, folder: folder.map(Path::to_path_buf) })
}

fn model_in(folder: &Path) -> Result<PathBuf, (String, String)> {
    let usual = folder.join("model.onnx");
    if usual.is_file() {
        return Ok(usual);
    }
    let entries = std::fs::read_dir(folder)
        .map_err(|error| (format!("cannot read folder '{}': {error}", folder.display()), String::new()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    found.sort();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err((format!("no .onnx file in '{}'", folder.display()), "give the .onnx file itself".into())),
        count => {
            Err((format!("{count} .onnx files in '{}'", folder.display()), "name the one to take".into()))
        }
    }
}

/// Maps a file. An empty file gives no bytes.
pub(crate) fn map(path: &Path) -> std::io::Result<Bytes> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a file"));
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    #[allow(unsafe_code, reason = "a weight file of gigabytes must not be read into memory")]
    // SAFETY: the map is read-only and private to us. Another process that truncates the file while we read it can end this
    // process with SIGBUS, as with every tool that maps its input; no reference outlives the map, which `Bytes` owns.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

/// External data files by location, mapped when first named.
pub(crate) struct ExternalData {
    folder: Option<PathBuf>,
    files: BTreeMap<String, Result<Bytes, String>>,
}

impl ExternalData {
    /// Files below `folder`.
    pub(crate) fn new(folder: Option<PathBuf>) -> ExternalData {
        ExternalData { folder, files: BTreeMap::new() }
    }

    /// A range of a file.
    ///
    /// # Errors
    /// What is wrong, with the file, both sizes and the way out.
    pub(crate) fn slice(
        &mut self,
        location: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Bytes, String> {
        if !self.files.contains_key(location) {
            let file = self.load(location);
            self.files.insert(location.to_string(), file);
        }
        let file = self.files[location].as_ref().map_err(Clone::clone)?;
        let size = file.len() as u64;
        let end = match length {
            Some(length) => offset.checked_add(length),
            None => Some(size.max(offset)),
        };
        match end {
            Some(end) if end <= size => Ok(file.slice(offset as usize..end as usize)),
            _ => Err(format!(
                "external data '{location}' has {size} bytes; offset {offset} and length {} lie outside",
                length.map_or("(to the end)".into(), |length| length.to_string())
            )),
        }
    }

    fn load(&self, location: &str) -> Result<Bytes, String> {
        let path = Path::new(location);
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_plain || location.is_empty() {
            return Err(format!("external data location '{location}' leads out of the model's folder"));
        }
        let Some(folder) = &self.folder else {
            return Err(format!(
                "external data '{location}' is needed, but the model did not come from a folder"
            ));
        };
        let path = folder.join(path);
        let real = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
        let inside = real(&path)
            .and_then(|file| Ok(file.starts_with(real(folder)?)))
            .map_err(|error| format!("external data '{}': {error}", path.display()))?;
        if !inside {
            return Err(format!("external data location '{location}' leads out of the model's folder"));
        }
        map(&path).map_err(|error| format!("external data '{}': {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_data_stays_in_its_folder_and_its_size() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.bin"), [1u8, 2, 3, 4]).unwrap();
        let mut data = ExternalData::new(Some(folder.path().to_path_buf()));
        assert_eq!(data.slice("w.bin", 1, Some(2)).unwrap(), Bytes::from_static(&[2, 3]));
        assert_eq!(data.slice("./w.bin", 2, None).unwrap(), Bytes::from_static(&[3, 4]));
        for (location, offset, length, expected) in [
            ("w.bin", 2, Some(3), "outside"),
            ("w.bin", u64::MAX, Some(2), "outside"),
            ("../w.bin", 0, None, "leads out"),
            ("/etc/passwd", 0, None, "leads out"),
            ("none.bin", 0, None, "none.bin"),
        ] {
            let error = data.slice(location, offset, length).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_symbolic_link_does_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), [1u8]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("w.bin")).unwrap();
        let mut data = ExternalData::new(Some(folder.path().to_path_buf()));
        assert!(data.slice("w.bin", 0, None).unwrap_err().contains("leads out"));
    }

    #[test]
    fn a_folder_holds_one_model() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).err().unwrap().0.contains("no .onnx file"));
        std::fs::write(folder.path().join("a.onnx"), [8u8, 8]).unwrap();
        assert_eq!(open(folder.path()).ok().unwrap().bytes.len(), 2);
        std::fs::write(folder.path().join("b.onnx"), [8u8, 8]).unwrap();
        assert!(open(folder.path()).err().unwrap().0.contains("2 .onnx files"));
    }
}
