//! Faulty models: each a message that names the node, what was expected and found, and a way out.

use super::build::*;
use crate::import::onnx::import_bytes;
use crate::import::onnx::schema::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::import::{Options, onnx};
use prost::Message;

fn two_by_three() -> Vec<crate::import::onnx::schema::ValueInfoProto> {
    vec![value("x", FLOAT, &["2", "3"])]
}

#[test]
fn one_report_names_every_unsupported_node() {
    let mut strange = node("MatMull", &["a", "x"], &["b"], vec![]);
    strange.metadata_props = vec![StringStringEntryProto {
        key: Some("pkg.torch.onnx.name_scopes".into()),
        value: Some("['', 'model', 'model.layers.1', 'linear']".into()),
    }];
    let mut foreign = node("Secret", &["x"], &["c"], vec![]);
    foreign.domain = Some("com.example".into());
    let nodes = vec![
        node("Gelu", &["x"], &["a"], vec![]),
        strange,
        foreign,
        node("Relu", &["b"], &["y"], vec![]),
        node("Add", &["y", "c"], &["z"], vec![]),
    ];
    let model = model(nodes, two_by_three(), &["z"], vec![]);
    let diagnostics = import(&model).unwrap_err();
    assert_eq!(diagnostics.len(), 3, "nodes that only follow from a fault are not reported: {diagnostics:?}");
    let text = report(&model);
    for expected in [
        "Gelu (ai.onnx, opset 18): operator is not supported",
        "known since opset 20",
        "\"model.layers.1/MatMull_b\"",
        "did you mean 'MatMul'?",
        "Secret (com.example, no import)",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_named_with_the_node() {
    let inputs = vec![value("x", FLOAT, &["2", "3"]), value("w", FLOAT, &["4", "5"])];
    let text = report(&model(vec![node("MatMul", &["x", "w"], &["y"], vec![])], inputs, &["y"], vec![]));
    for expected in ["MatMul_y", "tensor<2x3xf32>", "tensor<4x5xf32>", "3 and 4"] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn graphs_that_are_none_are_refused() {
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to], vec![]);
    for (nodes, expected) in [
        (vec![relu("x", "a"), relu("x", "a")], "value 'a' is made twice: by Relu_a and by Relu_a"),
        (vec![relu("x", "x")], "cycle"),
        (vec![relu("b", "a"), relu("a", "b")], "cycle through 'Relu_"),
        (vec![relu("nowhere", "a")], "value 'nowhere' is not defined"),
        (vec![node("Concat", &["x"], &["a"], vec![int("axis", 7)])], "'axis' = 7 is out of range for rank 2"),
        (vec![node("Transpose", &["x"], &["a"], vec![int("perm", 0)])], "'perm' must be INTS, found INT"),
        (vec![node("Relu", &["x"], &["a", "b"], vec![])], "output 1 ('b') is not supported"),
        (vec![node("Add", &["x", ""], &["a"], vec![])], "input 1 is missing"),
    ] {
        let text = report(&model(nodes, two_by_three(), &["a"], vec![]));
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn versions_are_named() {
    let with = |ir: i64, opset: i64| ModelProto {
        ir_version: Some(ir),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        ..model(vec![node("Relu", &["x"], &["y"], vec![])], two_by_three(), &["y"], vec![])
    };
    assert!(report(&with(2, 6)).contains("IR version 2 is not supported; 3 to 14 are"));
    assert!(report(&with(2, 0)).contains("opset 0 is not supported; 1 to 28 are"));
    for opset in onnx::OPSET_MIN..=onnx::OPSET_MAX {
        assert!(import(&with(3, opset)).is_ok(), "{opset}");
    }
}

#[test]
fn missing_external_data_names_the_tensor() {
    let mut weight = floats("w", &[3], &[]);
    weight.raw_data = None;
    weight.data_location = Some(1);
    weight.external_data =
        vec![StringStringEntryProto { key: Some("location".into()), value: Some("weights.bin".into()) }];
    let faulty = model(vec![node("Add", &["x", "w"], &["y"], vec![])], two_by_three(), &["y"], vec![weight]);
    assert!(report(&faulty).contains("tensor 'w': external data 'weights.bin'"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weights.bin"), [0u8; 8]).unwrap();
    let options = Options { external_data: Some(folder.path().to_path_buf()), ..Options::default() };
    let short = import_bytes(faulty.encode_to_vec().into(), &options).unwrap_err();
    assert!(short[0].what.contains("has 8 bytes; offset 0 and length 12"), "{short:?}");
    std::fs::write(folder.path().join("weights.bin"), [0u8; 12]).unwrap();
    assert!(import_bytes(faulty.encode_to_vec().into(), &options).is_ok());
}

#[test]
fn no_model_at_all_is_said() {
    for bytes in [&b""[..], b"hello, this is text", &[0xff; 64]] {
        let diagnostics = import_bytes(bytes.to_vec().into(), &Options::default()).unwrap_err();
        assert!(!diagnostics.is_empty());
    }
}
