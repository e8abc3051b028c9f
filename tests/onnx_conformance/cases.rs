//! The cases of the onnx package's backend tests, as `dump.py` writes them into the build folder.

use harness::python;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use tilewright::strings;
use tilewright_ir::element::Element;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

/// The version that the tests are written against: opset 28, IR version 14.
pub(crate) const ONNX: &str = "onnx==1.23.2";
/// Expected values of random operators are drawn from numpy's generator.
const NUMPY: &str = "numpy==2.4.6";

/// Data types that tensors of the cases may have here, by ONNX's names.
const TYPES: &[(&str, Element)] = &[
    ("FLOAT", Element::F32),
    ("DOUBLE", Element::F64),
    ("FLOAT16", Element::F16),
    ("BFLOAT16", Element::BF16),
    ("FLOAT8E4M3FN", Element::F8E4M3FN),
    ("FLOAT8E4M3FNUZ", Element::F8E4M3FNUZ),
    ("FLOAT8E5M2", Element::F8E5M2),
    ("FLOAT8E5M2FNUZ", Element::F8E5M2FNUZ),
    ("FLOAT8E8M0", Element::F8E8M0),
    ("FLOAT4E2M1", Element::F4E2M1),
    ("INT64", Element::I64),
    ("INT32", Element::I32),
    ("INT16", Element::I16),
    ("INT8", Element::I8),
    ("INT4", Element::I4),
    ("INT2", Element::I2),
    ("UINT64", Element::U64),
    ("UINT32", Element::U32),
    ("UINT16", Element::U16),
    ("UINT8", Element::U8),
    ("UINT4", Element::U4),
    ("UINT2", Element::U2),
    ("BOOL", Element::Bool),
];

#[derive(Deserialize)]
struct List {
    cases: Vec<Case>,
}

/// One case.
#[derive(Deserialize)]
pub(crate) struct Case {
    /// `node`, `light`, `simple`, `pytorch-converted` or `pytorch-operator`.
    pub(crate) suite: String,
    /// Its name within the suite.
    pub(crate) name: String,
    /// Relative tolerance.
    pub(crate) rtol: f64,
    /// Absolute tolerance.
    pub(crate) atol: f64,
    /// Inputs and the outputs expected for them.
    pub(crate) sets: Vec<Set>,
}

/// One set of inputs and outputs, in graph order.
#[derive(Deserialize)]
pub(crate) struct Set {
    /// Values of the inputs; trailing ones may be left out.
    pub(crate) inputs: Vec<Value>,
    /// Expected values.
    pub(crate) outputs: Vec<Value>,
}

/// A value as it is stored.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Value {
    /// Bytes of `values.bin`.
    Tensor { r#type: String, shape: Vec<i64>, offset: usize, length: usize },
    /// Strings.
    Strings { shape: Vec<usize>, texts: Vec<String> },
    /// A list of tensors.
    Sequence { items: Vec<Value> },
    /// An empty optional.
    None,
}

impl Case {
    /// `node/test_relu`.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }

    fn folder(&self) -> PathBuf {
        folder().join(&self.suite).join(&self.name)
    }

    /// The model.
    pub(crate) fn model(&self) -> PathBuf {
        self.folder().join("model.onnx")
    }

    /// The bytes that the values refer to.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.folder().join("values.bin")).expect("the case was dumped")
    }
}

impl Case {
    /// Element types of its inputs and outputs.
    pub(crate) fn elements(&self) -> Vec<String> {
        let values = self.sets.iter().flat_map(|set| set.inputs.iter().chain(&set.outputs));
        values.flat_map(Value::elements).collect()
    }
}

impl Value {
    fn elements(&self) -> Vec<String> {
        match self {
            Value::None => Vec::new(),
            Value::Strings { .. } => vec!["string".into()],
            Value::Sequence { items } => items.iter().flat_map(Value::elements).collect(),
            Value::Tensor { r#type, .. } => {
                let element = TYPES.iter().find(|row| row.0 == r#type);
                element.map(|row| row.1.to_string()).into_iter().collect()
            }
        }
    }

    /// The tensors of it, in order: one, those of a list, or none.
    pub(crate) fn tensors(&self, bytes: &[u8]) -> Result<Vec<Tensor>, String> {
        match self {
            Value::None => Ok(Vec::new()),
            Value::Strings { shape, texts } => Ok(vec![strings::encode(shape, texts)?]),
            Value::Sequence { items } => {
                let items: Result<Vec<Vec<Tensor>>, String> =
                    items.iter().map(|item| item.tensors(bytes)).collect();
                Ok(items?.into_iter().flatten().collect())
            }
            Value::Tensor { r#type, shape, offset, length } => {
                let element = TYPES.iter().find(|row| row.0 == r#type).map(|row| row.1);
                let element = element.ok_or_else(|| format!("the case has values of type {type}"))?;
                let ty = TensorType::of(element, shape);
                Ok(vec![Tensor::from_bytes(&ty, &bytes[*offset..offset + length])?])
            }
        }
    }
}

fn folder() -> PathBuf {
    python::build_folder().join("onnx-conformance")
}

/// All cases; dumps them first when that was not done yet.
///
/// # Panics
/// Without Python or the onnx package; the message has the line that installs it.
pub(crate) fn all() -> Vec<Case> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx_conformance/dump.py");
    let source = std::fs::read(&script).expect("the script is beside this file");
    let stamp = format!("{ONNX}-{}", &blake3::hash(&source).to_hex()[..8]);
    let dumped = python::once(&folder(), &stamp, |folder| {
        let environment = python::environment("onnx", &[NUMPY, ONNX])?;
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        python::run(Command::new(environment.join("bin/python")).arg(&script).arg(folder))
    });
    dumped.unwrap_or_else(|problem| panic!("ONNX's own tests come as a Python package: {problem}"));
    let text = std::fs::read_to_string(folder().join("cases.json")).expect("the script writes it");
    serde_json::from_str::<List>(&text).expect("the script writes what this reads").cases
}
