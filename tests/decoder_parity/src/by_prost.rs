//! The description by prost, with the schema that the product compiles.

use crate::schema::{self as onnx, tensor_shape_proto::dimension, type_proto};
use crate::{Lines, bits, double_bits};
use prost::Message;

/// Describes a file, or says why it cannot be decoded.
pub fn describe(file: &[u8]) -> Result<String, String> {
    let model = onnx::ModelProto::decode(file).map_err(|error| error.to_string())?;
    let mut lines = Lines::default();
    let head = format!("model ir {} producer {:?}", model.ir_version(), model.producer_name());
    lines.nested(head, |lines| {
        model.opset_import.iter().for_each(|one| opset(lines, one));
        model.metadata_props.iter().for_each(|one| property(lines, one));
        model.graph.iter().for_each(|one| graph(lines, one));
        for function in &model.functions {
            let head = format!("function {:?} {:?}", function.domain(), function.name());
            lines.nested(head, |lines| {
                lines.line(format!("{:?} -> {:?}", function.input, function.output));
                lines.line(format!("attributes {:?}", function.attribute));
                function.opset_import.iter().for_each(|one| opset(lines, one));
                function.attribute_proto.iter().for_each(|one| attribute(lines, one));
                function.node.iter().for_each(|one| node(lines, one));
            });
        }
    });
    Ok(lines.text)
}

fn opset(lines: &mut Lines, opset: &onnx::OperatorSetIdProto) {
    lines.line(format!("opset {:?} {}", opset.domain(), opset.version()));
}

fn property(lines: &mut Lines, property: &onnx::StringStringEntryProto) {
    lines.line(format!("property {:?} = {:?}", property.key(), property.value()));
}

fn graph(lines: &mut Lines, graph: &onnx::GraphProto) {
    lines.nested(format!("graph {:?}", graph.name()), |lines| {
        graph.input.iter().for_each(|one| value(lines, "input", one));
        graph.output.iter().for_each(|one| value(lines, "output", one));
        graph.value_info.iter().for_each(|one| value(lines, "value", one));
        graph.initializer.iter().for_each(|one| tensor(lines, one));
        graph.sparse_initializer.iter().for_each(|one| sparse(lines, one));
        graph.node.iter().for_each(|one| node(lines, one));
    });
}

fn node(lines: &mut Lines, node: &onnx::NodeProto) {
    let head = format!("node {:?} {:?} {}", node.name(), node.domain(), node.op_type());
    lines.nested(format!("{head} {:?} -> {:?}", node.input, node.output), |lines| {
        node.attribute.iter().for_each(|one| attribute(lines, one));
    });
}

fn attribute(lines: &mut Lines, attribute: &onnx::AttributeProto) {
    let kind = attribute.r#type.unwrap_or_default();
    let head = format!("{} = type {kind} ref {:?}", attribute.name(), attribute.ref_attr_name());
    lines.nested(head, |lines| {
        lines.line(format!("f {} i {} s {:?}", bits(&[attribute.f()]), attribute.i(), attribute.s()));
        lines.line(format!("floats {}", bits(&attribute.floats)));
        lines.line(format!("ints {:?}", attribute.ints));
        lines.line(format!("strings {:?}", attribute.strings));
        attribute.t.iter().chain(&attribute.tensors).for_each(|one| tensor(lines, one));
        attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).for_each(|one| sparse(lines, one));
        attribute.g.iter().chain(&attribute.graphs).for_each(|one| graph(lines, one));
        attribute.tp.iter().chain(&attribute.type_protos).for_each(|one| of_type(lines, one));
    });
}

fn tensor(lines: &mut Lines, tensor: &onnx::TensorProto) {
    let head = format!("tensor {:?} type {} {:?}", tensor.name(), tensor.data_type(), tensor.dims);
    lines.nested(head, |lines| {
        lines.line(format!("location {}", tensor.data_location.unwrap_or_default()));
        lines.line(format!("raw {:02x?}", tensor.raw_data()));
        lines.line(format!("floats {}", bits(&tensor.float_data)));
        lines.line(format!("doubles {}", double_bits(&tensor.double_data)));
        lines.line(format!("ints {:?} {:?}", tensor.int32_data, tensor.int64_data));
        lines.line(format!("unsigned {:?} strings {:?}", tensor.uint64_data, tensor.string_data));
        tensor.external_data.iter().for_each(|one| property(lines, one));
    });
}

fn sparse(lines: &mut Lines, sparse: &onnx::SparseTensorProto) {
    lines.nested(format!("sparse {:?}", sparse.dims), |lines| {
        sparse.values.iter().chain(&sparse.indices).for_each(|one| tensor(lines, one));
    });
}

fn value(lines: &mut Lines, role: &str, value: &onnx::ValueInfoProto) {
    lines.nested(format!("{role} {:?}", value.name()), |lines| {
        value.r#type.iter().for_each(|one| of_type(lines, one));
    });
}

fn of_type(lines: &mut Lines, of: &onnx::TypeProto) {
    let denotation = of.denotation();
    match &of.value {
        Some(type_proto::Value::TensorType(of)) => {
            let dims = of.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect::<Vec<_>>());
            lines.line(format!("tensor type {} {dims:?} {denotation:?}", of.elem_type()));
        }
        Some(type_proto::Value::SequenceType(of)) => {
            lines.nested("sequence", |lines| of.elem_type.iter().for_each(|one| of_type(lines, one)));
        }
        Some(type_proto::Value::OptionalType(of)) => {
            lines.nested("optional", |lines| of.elem_type.iter().for_each(|one| of_type(lines, one)));
        }
        Some(_) => lines.line("another type"),
        None => lines.line("no type"),
    }
}

fn dim(dim: &onnx::tensor_shape_proto::Dimension) -> String {
    match &dim.value {
        Some(dimension::Value::DimValue(size)) => size.to_string(),
        Some(dimension::Value::DimParam(name)) => format!("{name:?}"),
        None => "?".to_string(),
    }
}
