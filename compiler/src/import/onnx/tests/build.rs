//! Small ONNX models made in tests.

use crate::import::onnx::import_bytes;
use crate::import::onnx::schema::tensor_shape_proto::{Dimension, dimension};
use crate::import::onnx::schema::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use crate::import::{Imported, Options};
use prost::Message;
use tilewright_ir::diagnostic::Diagnostics;

/// ONNX's numbers of element types.
pub(super) const FLOAT: i32 = 1;
pub(super) const INT64: i32 = 7;
pub(super) const STRING: i32 = 8;
pub(super) const BOOL: i32 = 9;

/// A typed name; dimensions are numbers or expressions.
pub(super) fn value(name: &str, element: i32, dims: &[&str]) -> ValueInfoProto {
    let dimension = |dim: &&str| {
        let value = match dim.parse() {
            Ok(number) => dimension::Value::DimValue(number),
            Err(_) => dimension::Value::DimParam(dim.to_string()),
        };
        Dimension { value: Some(value), denotation: None }
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(element), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None }),
        ..ValueInfoProto::default()
    }
}

/// A node named after its operator and first output.
pub(super) fn node(
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    NodeProto {
        op_type: Some(op.into()),
        name: Some(format!("{op}_{}", outputs.first().unwrap_or(&""))),
        input: list(inputs),
        output: list(outputs),
        attribute: attributes,
        ..NodeProto::default()
    }
}

/// An integer attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(2), i: Some(value), ..AttributeProto::default() }
}

/// A list of texts as an attribute.
pub(super) fn texts(name: &str, values: &[&str]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(8),
        strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
        ..AttributeProto::default()
    }
}

/// A text attribute.
pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(3),
        s: Some(value.as_bytes().to_vec()),
        ..AttributeProto::default()
    }
}

/// A subgraph attribute.
pub(super) fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(5), g: Some(graph), ..AttributeProto::default() }
}

/// A stored vector of integers.
pub(super) fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(INT64),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A stored tensor of strings.
pub(super) fn words(name: &str, dims: &[i64], values: &[&str]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(STRING),
        string_data: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
        ..TensorProto::default()
    }
}

/// A stored tensor of floats.
pub(super) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(FLOAT),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..TensorProto::default()
    }
}

/// A model of opset 18 and IR version 10.
pub(super) fn model(
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: &[&str],
    stored: Vec<TensorProto>,
) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![
            OperatorSetIdProto { domain: None, version: Some(18) },
            OperatorSetIdProto { domain: Some("com.microsoft".into()), version: Some(1) },
        ],
        graph: Some(GraphProto {
            name: Some("test".into()),
            node: nodes,
            input: inputs,
            output: outputs.iter().map(|name| value(name, FLOAT, &[])).collect(),
            initializer: stored,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// Imports a model without options.
pub(super) fn import(model: &ModelProto) -> Result<Imported, Diagnostics> {
    import_bytes(model.encode_to_vec().into(), &Options::default())
}

/// The report of a model that must fail, as text.
pub(super) fn report(model: &ModelProto) -> String {
    let diagnostics = import(model).expect_err("the model is faulty");
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The names of all ops below `@main`, in order.
pub(super) fn op_names(imported: &Imported) -> Vec<&'static str> {
    let module = &imported.module;
    module.all_ops().into_iter().skip(2).map(|op| module.op(op).def.short_name()).collect()
}
