//! Quantisation plans: which weight gets which format, and the quantised weights themselves in a file beside, which a compilation maps.
//!
//! Weights are bound by name, shape and content: a plan of another model is refused, weight by weight.
//!
//! ```text
//! story.plan.json     {"version": 2, "data": "story.plan.weights", "weights": [{"name": "val_100", "format": "int4_g32", ..}]}
//! story.plan.weights  storage, scale and zero point of each, every part at a multiple of 64 bytes
//! ```

use super::{Prepared, Row};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use tilewright_ir::attribute::Elements;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::quantizer::Quantized;
use tilewright_ir::weight_format::{ActivationFormat, WeightFormat};
use tilewright_passes::quantize_weights::apply::Stored;
use tilewright_passes::quantize_weights::decide::Decision;

/// The version that is written and read.
const VERSION: u32 = 2;
/// Parts begin at multiples of this.
const ALIGNMENT_BYTES: u64 = 64;

/// Where a part lies in the data file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    offset: u64,
    bytes: u64,
}

/// A quantised weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Weight {
    name: String,
    /// blake3 of the float weight, in hexadecimal.
    source: String,
    shape: Vec<i64>,
    format: String,
    method: String,
    sqnr_db: Option<f64>,
    output_error: f64,
    storage: Part,
    scale: Part,
    zero_point: Part,
    /// f32 per input channel; empty for none.
    input_divisors: Part,
    input_largest: Option<f32>,
}

/// The text of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Text {
    version: u32,
    data: PathBuf,
    int8_activations: bool,
    weights: Vec<Weight>,
}

/// A plan on its way to a file. Nothing is left when it is dropped before [`Writer::finish`].
pub struct Writer {
    path: PathBuf,
    data_path: PathBuf,
    data: tempfile::NamedTempFile,
    end: u64,
    weights: BTreeMap<usize, ([Part; 4], Option<f32>)>,
}

fn fault(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(Location::Unknown, format!("cannot write '{}': {error}", path.display()))
        .with_help("check that the folder exists, is writable and has room")
}

impl Writer {
    /// A plan that will be at `path`, its weights beside it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(path: &Path) -> Result<Writer, Diagnostic> {
        let data_path = path.with_extension("weights");
        if data_path == path {
            let what = format!("a plan cannot be called '{}'", path.display());
            return Err(Diagnostic::error(Location::Unknown, what)
                .with_help("its weights get that name: call the plan such as model.plan.json"));
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let data = tempfile::NamedTempFile::new_in(folder).map_err(|error| fault(path, &error))?;
        Ok(Writer { path: path.to_path_buf(), data_path, data, end: 0, weights: BTreeMap::new() })
    }

    /// Adds a weight.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, prepared: &Prepared) -> Result<(), Diagnostic> {
        let Quantized { storage, scale, zero_point } = &prepared.quantized;
        let divisors: Vec<u8> = prepared.input_divisors.iter().flat_map(|one| one.to_le_bytes()).collect();
        let mut parts = [Part::default(); 4];
        for (part, bytes) in parts.iter_mut().zip([storage, scale, zero_point, &divisors]) {
            let offset = self.end.next_multiple_of(ALIGNMENT_BYTES);
            let padding = vec![0u8; (offset - self.end) as usize];
            let written = self.data.write_all(&padding).and_then(|()| self.data.write_all(bytes));
            written.map_err(|error| fault(&self.data_path, &error))?;
            *part = Part { offset, bytes: bytes.len() as u64 };
            self.end = offset + bytes.len() as u64;
        }
        self.weights.insert(prepared.decision, (parts, prepared.input_largest));
        Ok(())
    }

    /// Writes the text and puts both files in place.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(
        mut self,
        module: &Module,
        decisions: &[Decision],
        rows: &[Row],
        activations: ActivationFormat,
    ) -> Result<(), Diagnostic> {
        let weights = self.weights.iter().map(|(at, (parts, input_largest))| {
            let (elements, row) = (decisions[*at].weight.elements(module), &rows[*at]);
            Weight {
                name: row.name.clone(),
                source: source_hash(elements),
                shape: elements.ty().known_shape().unwrap_or_default(),
                format: row.format.clone(),
                method: row.method.clone(),
                sqnr_db: row.sqnr_db,
                output_error: row.output_error,
                storage: parts[0],
                scale: parts[1],
                zero_point: parts[2],
                input_divisors: parts[3],
                input_largest: *input_largest,
            }
        });
        let text = Text {
            version: VERSION,
            data: self.data_path.file_name().map(PathBuf::from).unwrap_or_default(),
            int8_activations: activations == ActivationFormat::Int8,
            weights: weights.collect(),
        };
        let json = serde_json::to_string_pretty(&text).map_err(|error| fault(&self.path, &error.into()))?;
        self.data.flush().map_err(|error| fault(&self.data_path, &error))?;
        self.data.persist(&self.data_path).map_err(|error| fault(&self.data_path, &error.error))?;
        crate::output::write(&self.path, (json + "\n").as_bytes())
    }
}

fn source_hash(elements: &Elements) -> String {
    let hash = match elements {
        Elements::Resource(resource) => resource.hash(),
        Elements::Dense(_, bytes) => *blake3::hash(bytes).as_bytes(),
    };
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A plan that was read, its weights mapped.
#[derive(Clone, Debug)]
pub struct Plan {
    path: PathBuf,
    text: Text,
    data: Bytes,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Plan) -> bool {
        self.path == other.path && self.text == other.text
    }
}
impl Eq for Plan {}

impl Plan {
    /// Reads a plan and maps its weights.
    ///
    /// # Errors
    /// What cannot be read, is of another version, or points outside the data.
    pub fn open(path: &Path) -> Result<Plan, Diagnostic> {
        let problem = |what: String| {
            Diagnostic::error(Location::Unknown, format!("plan '{}': {what}", path.display()))
                .with_help("make it again with `tilewright quantize MODEL --calibrate TEXT -o PLAN`")
        };
        let text: Text = serde_json::from_str(&crate::output::read_text(path)?)
            .map_err(|error| problem(format!("cannot be read: {error}")))?;
        if text.version != VERSION {
            return Err(problem(format!("expected version {VERSION}, found {}", text.version)));
        }
        let data_path = path.parent().unwrap_or(Path::new("")).join(&text.data);
        let data = crate::import::onnx::file::map(&data_path)
            .map_err(|error| problem(format!("cannot map its weights '{}': {error}", data_path.display())))?;
        for weight in &text.weights {
            if weight.format.parse::<WeightFormat>().is_err() {
                return Err(problem(format!(
                    "weight '{}' has the unknown format '{}'",
                    weight.name, weight.format
                )));
            }
            for part in [weight.storage, weight.scale, weight.zero_point, weight.input_divisors] {
                let end = part.offset.checked_add(part.bytes);
                if end.is_none_or(|end| end > data.len() as u64) {
                    let what =
                        format!("weight '{}' lies beyond the {} bytes of data", weight.name, data.len());
                    return Err(problem(what));
                }
            }
        }
        Ok(Plan { path: path.to_path_buf(), text, data })
    }

    /// How products take activations.
    pub fn activations(&self) -> ActivationFormat {
        if self.text.int8_activations { ActivationFormat::Int8 } else { ActivationFormat::Float }
    }

    /// `PATTERN=FORMAT` for every weight: those that the plan does not name stay as they are.
    pub fn overrides(&self) -> Vec<String> {
        let named = self.text.weights.iter().map(|weight| format!("{}={}", weight.name, weight.format));
        std::iter::once("*=float".to_string()).chain(named).collect()
    }

    /// The quantised weights by name.
    ///
    /// # Errors
    /// Every weight of the plan that the module has not, or has otherwise.
    pub fn stored(&self, module: &Module) -> Result<BTreeMap<String, Stored>, Diagnostics> {
        let mut sources: BTreeMap<&str, &Elements> = BTreeMap::new();
        for op in module.all_ops() {
            if let Some(elements @ Elements::Resource(resource)) =
                module.op(op).attributes.get("value").and_then(|value| value.as_elements())
            {
                sources.insert(&resource.name, elements);
            }
        }
        let mut problems = Diagnostics::new();
        let mut stored = BTreeMap::new();
        for weight in &self.text.weights {
            let why = match sources.get(weight.name.as_str()) {
                None => Some("the model has no such weight".to_string()),
                Some(elements) if elements.ty().known_shape().as_ref() != Some(&weight.shape) => {
                    Some(format!("expected shape {:?}, found {}", weight.shape, elements.ty()))
                }
                Some(elements) => {
                    let found = source_hash(elements);
                    (found != weight.source).then(|| {
                        format!("expected content {}.., found {}..", prefix(&weight.source), prefix(&found))
                    })
                }
            };
            if let Some(why) = why {
                let what = format!("plan '{}', weight '{}': {why}", self.path.display(), weight.name);
                problems.push(Diagnostic::error(Location::Unknown, what).with_help(
                    "a plan belongs to the model it was made from: make it again with `tilewright quantize`",
                ));
                continue;
            }
            let part =
                |part: Part| self.data.slice(part.offset as usize..(part.offset + part.bytes) as usize);
            stored.insert(
                weight.name.clone(),
                Stored {
                    storage: part(weight.storage),
                    scale: part(weight.scale),
                    zero_point: part(weight.zero_point),
                    input_divisors: floats(&part(weight.input_divisors)),
                    input_largest: weight.input_largest,
                },
            );
        }
        if problems.is_empty() { Ok(stored) } else { Err(problems) }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn prefix(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
