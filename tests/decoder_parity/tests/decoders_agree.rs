//! prost and rust-protobuf read the same models: made ones that use every field the importer looks at, and the committed exports.

use prost::Message;
use std::path::{Path, PathBuf};
use tilewright_decoder_parity::schema::{self as onnx, attribute_proto::AttributeType, type_proto};
use tilewright_decoder_parity::{with_prost, with_rust_protobuf};

/// A small deterministic source of variety (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn name(&mut self) -> String {
        ["", "x", "/model/layers.0/MatMul_output_0", "größe", "a b", "past + seq"][self.roll(6) as usize]
            .to_string()
    }

    fn names(&mut self) -> Vec<String> {
        (0..self.roll(4)).map(|_| self.name()).collect()
    }

    fn float(&mut self) -> f32 {
        [0.0, -0.0, 1.5, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0][self.roll(6) as usize]
    }

    fn int(&mut self) -> i64 {
        [0, 1, -1, i64::MAX, i64::MIN, 1 << 33][self.roll(6) as usize]
    }

    fn floats(&mut self) -> Vec<f32> {
        (0..self.roll(5)).map(|_| self.float()).collect()
    }

    fn ints(&mut self) -> Vec<i64> {
        (0..self.roll(5)).map(|_| self.int()).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.roll(40)).map(|_| self.roll(256) as u8).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.roll(2) == 1).then(|| make(self))
    }

    fn property(&mut self) -> onnx::StringStringEntryProto {
        onnx::StringStringEntryProto { key: Some("location".into()), value: Some(self.name()) }
    }

    fn tensor(&mut self) -> onnx::TensorProto {
        onnx::TensorProto {
            dims: self.ints(),
            data_type: Some(self.roll(29) as i32),
            float_data: self.floats(),
            int32_data: self.ints().into_iter().map(|value| value as i32).collect(),
            int64_data: self.ints(),
            uint64_data: self.ints().into_iter().map(|value| value as u64).collect(),
            double_data: self.floats().into_iter().map(f64::from).collect(),
            string_data: vec![self.bytes()],
            name: self.maybe(Self::name),
            raw_data: self.maybe(|dice| dice.bytes().into()),
            external_data: (0..self.roll(3)).map(|_| self.property()).collect(),
            data_location: self.maybe(|dice| dice.roll(2) as i32),
            ..Default::default()
        }
    }

    fn sparse(&mut self) -> onnx::SparseTensorProto {
        onnx::SparseTensorProto {
            values: self.maybe(Self::tensor),
            indices: self.maybe(Self::tensor),
            dims: self.ints(),
        }
    }

    fn of_type(&mut self, depth: u32) -> onnx::TypeProto {
        use onnx::tensor_shape_proto::{Dimension, dimension};
        let nested = |dice: &mut Self| Some(Box::new(dice.of_type(depth - 1)));
        let value = match self.roll(if depth > 0 { 4 } else { 2 }) {
            0 => None,
            1 => Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(self.roll(29) as i32),
                shape: self.maybe(|dice| onnx::TensorShapeProto {
                    dim: (0..dice.roll(4))
                        .map(|_| Dimension {
                            denotation: None,
                            value: match dice.roll(3) {
                                0 => None,
                                1 => Some(dimension::Value::DimValue(dice.int())),
                                _ => Some(dimension::Value::DimParam(dice.name())),
                            },
                        })
                        .collect(),
                }),
            })),
            2 => Some(type_proto::Value::SequenceType(Box::new(type_proto::Sequence {
                elem_type: nested(self),
            }))),
            _ => Some(type_proto::Value::OptionalType(Box::new(type_proto::Optional {
                elem_type: nested(self),
            }))),
        };
        onnx::TypeProto { denotation: self.maybe(Self::name), value }
    }

    fn attribute(&mut self, depth: u32) -> onnx::AttributeProto {
        use AttributeType as Kind;
        let mut made = onnx::AttributeProto { name: Some(self.name()), ..Default::default() };
        let kinds = if depth > 0 { 15 } else { 10 };
        let kind = match self.roll(kinds) {
            0 => (made.f = Some(self.float()), Kind::Float).1,
            1 => (made.i = Some(self.int()), Kind::Int).1,
            2 => (made.s = Some(self.bytes()), Kind::String).1,
            3 => (made.t = Some(self.tensor()), Kind::Tensor).1,
            4 => (made.floats = self.floats(), Kind::Floats).1,
            5 => (made.ints = self.ints(), Kind::Ints).1,
            6 => (made.strings = vec![self.bytes(), Vec::new()], Kind::Strings).1,
            7 => (made.tensors = vec![self.tensor(), self.tensor()], Kind::Tensors).1,
            8 => (made.tp = Some(self.of_type(2)), Kind::TypeProto).1,
            9 => (made.ref_attr_name = Some(self.name()), Kind::Int).1,
            10 => (made.type_protos = vec![self.of_type(1)], Kind::TypeProtos).1,
            11 => (made.sparse_tensor = Some(self.sparse()), Kind::SparseTensor).1,
            12 => (made.sparse_tensors = vec![self.sparse()], Kind::SparseTensors).1,
            13 => (made.graphs = vec![self.graph(depth - 1)], Kind::Graphs).1,
            _ => (made.g = Some(self.graph(depth - 1)), Kind::Graph).1,
        };
        made.r#type = Some(kind as i32);
        made
    }

    fn node(&mut self, depth: u32) -> onnx::NodeProto {
        onnx::NodeProto {
            input: self.names(),
            output: self.names(),
            name: self.maybe(Self::name),
            op_type: Some("MatMul".into()),
            domain: self.maybe(Self::name),
            attribute: (0..self.roll(4)).map(|_| self.attribute(depth)).collect(),
            ..Default::default()
        }
    }

    fn value(&mut self) -> onnx::ValueInfoProto {
        onnx::ValueInfoProto {
            name: Some(self.name()),
            r#type: self.maybe(|dice| dice.of_type(2)),
            ..Default::default()
        }
    }

    fn graph(&mut self, depth: u32) -> onnx::GraphProto {
        onnx::GraphProto {
            node: (0..self.roll(4)).map(|_| self.node(depth)).collect(),
            name: self.maybe(Self::name),
            initializer: (0..self.roll(3)).map(|_| self.tensor()).collect(),
            sparse_initializer: (0..self.roll(2)).map(|_| self.sparse()).collect(),
            input: (0..self.roll(3)).map(|_| self.value()).collect(),
            output: (0..self.roll(3)).map(|_| self.value()).collect(),
            value_info: (0..self.roll(3)).map(|_| self.value()).collect(),
            ..Default::default()
        }
    }

    fn opsets(&mut self) -> Vec<onnx::OperatorSetIdProto> {
        let domains = self.names().into_iter();
        domains.map(|domain| onnx::OperatorSetIdProto { domain: Some(domain), version: Some(18) }).collect()
    }

    fn model(&mut self) -> onnx::ModelProto {
        onnx::ModelProto {
            ir_version: Some(self.roll(15) as i64),
            opset_import: self.opsets(),
            producer_name: self.maybe(Self::name),
            graph: self.maybe(|dice| dice.graph(2)),
            metadata_props: vec![self.property()],
            functions: (0..self.roll(3))
                .map(|_| onnx::FunctionProto {
                    name: Some(self.name()),
                    domain: self.maybe(Self::name),
                    input: self.names(),
                    output: self.names(),
                    attribute: self.names(),
                    attribute_proto: vec![self.attribute(0)],
                    node: vec![self.node(1)],
                    opset_import: self.opsets(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }
}

fn agree(what: &str, file: &[u8]) -> String {
    let ours = with_prost(file).unwrap_or_else(|error| panic!("{what}: prost: {error}"));
    let theirs = with_rust_protobuf(file).unwrap_or_else(|error| panic!("{what}: rust-protobuf: {error}"));
    for (number, (one, other)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(one, other, "{what}: line {} of the description differs", number + 1);
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: one description is longer");
    ours
}

#[test]
fn on_made_models() {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut seen = String::new();
    for case in 0..500 {
        seen += &agree(&format!("case {case}"), &dice.model().encode_to_vec());
    }
    for word in ["sparse", "sequence", "optional", "function", "graph", "type 14", "7fc00000", "location 1"] {
        assert!(seen.contains(word), "no case has {word:?}: the cases no longer cover what they should");
    }
}

/// rust-protobuf reads some cut messages to their end; prost refuses them. What prost reads, both must read alike.
#[test]
fn on_a_cut_file_prost_refuses_or_both_agree() {
    let mut dice = Dice(99);
    let models = std::iter::repeat_with(|| dice.model().encode_to_vec());
    let file = models.take(100).find(|file| file.len() > 2000).expect("a model that is large enough to cut");
    let mut refused = 0;
    for length in 0..file.len() {
        match with_prost(&file[..length]) {
            Ok(ours) => assert_eq!(Ok(ours), with_rust_protobuf(&file[..length]), "cut to {length} bytes"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > file.len() / 2, "only {refused} of {} cuts are refused", file.len());
}

#[test]
fn on_the_committed_exports() {
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models"), &mut files);
    assert!(files.len() >= 10, "only {} files under tests/models", files.len());
    for path in files {
        let file = std::fs::read(&path).expect("a readable model");
        let text = agree(&path.display().to_string(), &file);
        assert!(text.contains("node"), "{}: no node", path.display());
    }
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "onnx") {
            files.push(path);
        }
    }
}
