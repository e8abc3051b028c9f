//! Models of a given shape with seeded random weights, as ONNX folders of any size: for benches, memory measurements and tests.
//!
//! A folder holds `model.onnx`, `model.onnx.data`, `config.json` and `generation_config.json`; there is no tokenizer (give token ids).
//! Weights are written one after the other in blocks, so memory does not grow with the model. It must not know the compiler.
//!
//! ```text
//! write(&Shape::preset("llama-1b"), &Options::default(), "out")  ->  out/model.onnx (40 kB), out/model.onnx.data (2.5 GB), ...
//! ```

pub mod convolutions;
mod graph;
mod values;

use crate::import::onnx::schema::{StringStringEntryProto, TensorProto};
use prost::Message;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
pub use values::Storage;
use values::Values;

/// File of the weights, beside `model.onnx`.
const DATA_FILE: &str = "model.onnx.data";
/// Weights begin at multiples of this, as ONNX asks of external data that is to be mapped.
const ALIGNMENT_BYTES: u64 = 4096;

/// Sizes of a decoder with RMS norms, grouped-query attention, rotary positions and a gated feed-forward part.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub groups: usize,
    /// Width of the feed-forward part.
    pub inner: usize,
    /// Tokens known.
    pub vocabulary: usize,
    /// Positions in the rotary tables: the longest context.
    pub positions: usize,
    /// Base of the rotary frequencies.
    pub theta: f64,
    /// Whether the last layer's weight is the embedding's.
    pub is_tied: bool,
}

/// Name, what it is shaped after, and the shape. Published configurations; the context is held to what a device would keep.
const PRESETS: &[(&str, &str, Shape)] = &[
    ("tiny", "a toy for tests", shape([2, 64, 4, 2, 128, 256, 128], 1e4, true)),
    ("llama-135m", "SmolLM-135M", shape([30, 576, 9, 3, 1536, 49_152, 2048], 1e4, true)),
    ("llama-1b", "Llama-3.2-1B", shape([16, 2048, 32, 8, 8192, 128_256, 8192], 5e5, true)),
    ("llama-7b", "Llama-2-7B", shape([32, 4096, 32, 32, 11_008, 32_000, 4096], 1e4, false)),
];

const fn shape(sizes: [usize; 7], theta: f64, is_tied: bool) -> Shape {
    let [layers, hidden, heads, groups, inner, vocabulary, positions] = sizes;
    Shape { layers, hidden, heads, groups, inner, vocabulary, positions, theta, is_tied }
}

impl Shape {
    /// A shape by name.
    pub fn preset(name: &str) -> Option<Shape> {
        PRESETS.iter().find(|preset| preset.0 == name).map(|preset| preset.2.clone())
    }

    /// The names, and what each is shaped after.
    pub fn presets() -> impl Iterator<Item = (&'static str, &'static str)> {
        PRESETS.iter().map(|preset| (preset.0, preset.1))
    }

    fn head(&self) -> usize {
        self.hidden / self.heads
    }

    fn check(&self) -> Result<(), Diagnostic> {
        let fault = |what: String| {
            Err(Diagnostic::error(Location::Unknown, what)
                .with_help("choose other sizes, or take the preset's"))
        };
        let sizes =
            [self.layers, self.hidden, self.heads, self.groups, self.inner, self.vocabulary, self.positions];
        if sizes.contains(&0) {
            return fault("a size is 0".into());
        }
        if !self.hidden.is_multiple_of(2 * self.heads) || !self.heads.is_multiple_of(self.groups) {
            let Shape { hidden, heads, groups, .. } = self;
            return fault(format!(
                "{hidden} is not {heads} heads of even width, or {heads} heads are not shared evenly by {groups} groups"
            ));
        }
        Ok(())
    }
}

/// How to fill a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Start of the random numbers.
    pub seed: u64,
    /// Type of weights, activations and cache.
    pub storage: Storage,
}

/// A weight of the model: its name, dimensions and numbers.
struct Weight {
    name: String,
    dims: Vec<usize>,
    values: Values,
}

impl Weight {
    fn count(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Writes the folder; makes it when it is missing. The same arguments give the same bytes at any thread count. Gives the bytes of all
/// weights.
///
/// # Errors
/// When the sizes do not fit together, or a file cannot be written; a file under its final name is always whole.
pub fn write(shape: &Shape, options: &Options, folder: &Path) -> Result<u64, Diagnostic> {
    shape.check()?;
    crate::output::make_folder(folder)?;
    let (mut graph, weights) = graph::decoder(shape, options.storage);
    let fault = |error: std::io::Error| {
        let what = format!("cannot write '{}': {error}", folder.join(DATA_FILE).display());
        Diagnostic::error(Location::Unknown, what).with_help("check that there is room")
    };
    let temporary = crate::output::temporary_in(folder).map_err(fault)?;
    let total =
        write_weights(temporary.as_file(), &weights, options, &mut graph.initializer).map_err(fault)?;
    temporary.persist(folder.join(DATA_FILE)).map_err(|error| fault(error.error))?;
    for (name, text) in graph::configurations(shape, options.storage) {
        crate::output::write(&folder.join(name), text.as_bytes())?;
    }
    crate::output::write(&folder.join("model.onnx"), &graph::model(graph).encode_to_vec())?;
    Ok(total)
}

fn write_weights(
    file: &File,
    weights: &[Weight],
    options: &Options,
    initializers: &mut Vec<TensorProto>,
) -> std::io::Result<u64> {
    let mut file = BufWriter::with_capacity(1 << 16, file);
    let mut position = 0u64;
    for weight in weights {
        let start = position.next_multiple_of(ALIGNMENT_BYTES);
        file.write_all(&vec![0; (start - position) as usize])?;
        let bytes = (weight.count() * options.storage.bytes()) as u64;
        values::write(weight, options, &mut file)?;
        position = start + bytes;
        let entry =
            |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        initializers.push(TensorProto {
            name: Some(weight.name.clone()),
            dims: weight.dims.iter().map(|dim| *dim as i64).collect(),
            data_type: Some(options.storage.onnx_type()),
            data_location: Some(1),
            external_data: vec![
                entry("location", DATA_FILE.into()),
                entry("offset", start.to_string()),
                entry("length", bytes.to_string()),
            ],
            ..TensorProto::default()
        });
    }
    file.flush()?;
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_hash(storage: Storage, threads: usize) -> (blake3::Hash, u64) {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { layers: 1, vocabulary: 40_000, ..Shape::preset("tiny").unwrap() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = Options { seed: 7, storage };
        let bytes = pool.install(|| write(&shape, &options, folder.path())).unwrap();
        let mut hasher = blake3::Hasher::new();
        for name in ["model.onnx", DATA_FILE, "config.json", "generation_config.json"] {
            hasher.update(&std::fs::read(folder.path().join(name)).unwrap());
        }
        (hasher.finalize(), bytes)
    }

    #[test]
    fn threads_leave_no_trace_in_the_bytes() {
        for storage in [Storage::F32, Storage::F16, Storage::BF16] {
            assert_eq!(folder_hash(storage, 1), folder_hash(storage, 3), "{storage:?}");
        }
    }

    #[test]
    fn presets_have_the_sizes_of_their_models() {
        // Parameters as published, rotary tables not counted: 134.5 M, 1.236 G, 6.738 G.
        for (name, expected) in
            [("llama-135m", 134_515_008), ("llama-1b", 1_235_814_400), ("llama-7b", 6_738_415_616)]
        {
            let shape = Shape::preset(name).unwrap();
            let (_, weights) = graph::decoder(&shape, Storage::F16);
            let count: usize =
                weights.iter().filter(|weight| !weight.name.ends_with("_cache")).map(Weight::count).sum();
            assert_eq!(count, expected, "{name}");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in [
            Shape { heads: 3, ..Shape::preset("tiny").unwrap() },
            Shape { layers: 0, ..Shape::preset("tiny").unwrap() },
        ] {
            assert!(write(&wrong, &Options::default(), folder.path()).is_err());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
