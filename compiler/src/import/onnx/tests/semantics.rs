//! What the import makes of shapes, states, functions and subgraphs.

use super::build::*;
use crate::import::onnx::import_bytes;
use crate::import::onnx::schema::tensor_shape_proto::dimension;
use crate::import::onnx::schema::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, OperatorSetIdProto, type_proto,
};
use crate::import::{Imported, Options};
use crate::metrics::compare;
use prost::Message;
use std::path::Path;
use tilewright_ir::element::Element;
use tilewright_ir::evaluate;
use tilewright_ir::tensor::Tensor;

fn run(imported: &Imported, inputs: &[Tensor]) -> Vec<Tensor> {
    evaluate::run(&imported.module, "main", inputs).unwrap()
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_floats(Element::F32, &[values.len()], values.to_vec())
}

#[test]
fn shape_computations_leave_nothing_behind() {
    let nodes = vec![
        node("Shape", &["x"], &["s"], vec![]),
        node("Gather", &["s", "zero"], &["batch"], vec![]),
        node("Concat", &["batch", "rest"], &["shape"], vec![int("axis", 0)]),
        node("Reshape", &["x", "shape"], &["y"], vec![]),
    ];
    let stored = vec![ints("zero", &[0]), ints("rest", &[-1, 4])];
    let imported = import(&model(nodes, vec![value("x", FLOAT, &["b", "s", "8"])], &["y"], stored)).unwrap();
    assert_eq!(op_names(&imported), ["reshape", "return"]);
    assert_eq!(imported.outputs[0].ty.to_string(), "tensor<?x?x4xf32, [\"b\", \"2*s\"]>");
}

#[test]
fn a_dimension_used_as_data_becomes_an_op() {
    let nodes = vec![
        node("Shape", &["x"], &["s"], vec![]),
        node("Cast", &["s"], &["f"], vec![int("to", 1)]),
        node("Add", &["f", "f"], &["y"], vec![]),
    ];
    let imported = import(&model(nodes, vec![value("x", FLOAT, &["n", "3"])], &["y"], vec![])).unwrap();
    assert!(op_names(&imported).contains(&"size"));
    let y = run(&imported, &[Tensor::splat(Element::F32, &[5, 3], 0.0)]);
    assert_eq!(y[0].floats(), [10.0, 6.0]);
}

#[test]
fn symbols_that_must_be_equal_become_one() {
    let inputs =
        vec![value("past", FLOAT, &["p"]), value("new", FLOAT, &["s"]), value("mask", FLOAT, &["total"])];
    let nodes = vec![
        node("Concat", &["past", "new"], &["all"], vec![int("axis", 0)]),
        node("Add", &["all", "mask"], &["y"], vec![]),
    ];
    let imported = import(&model(nodes, inputs, &["y"], vec![])).unwrap();
    assert_eq!(imported.assumptions.len(), 1);
    assert_eq!(&*imported.assumptions[0].symbol, "total");
    assert_eq!(imported.assumptions[0].equals.to_string(), "p + s");
    assert_eq!(imported.inputs[2].ty.to_string(), "tensor<?xf32, [\"p + s\"]>");
}

#[test]
fn bound_dimensions_are_numbers_and_unknown_ones_a_warning() {
    let model = model(
        vec![node("Relu", &["x"], &["y"], vec![])],
        vec![value("x", FLOAT, &["b", "s + 1"])],
        &["y"],
        vec![],
    );
    let bindings = [("s".into(), 31), ("t".into(), 1)].into_iter().collect();
    let options = Options { bindings, ..Options::default() };
    let imported = import_bytes(model.encode_to_vec().into(), &options).unwrap();
    assert_eq!(imported.outputs[0].ty.to_string(), "tensor<?x32xf32, [\"b\"]>");
    assert!(imported.diagnostics[0].to_string().contains("no dimension 't'"), "{:?}", imported.diagnostics);
}

#[test]
fn states_are_tied_by_name() {
    let inputs = vec![value("past_key_values.0.key", FLOAT, &["p"]), value("x", FLOAT, &["s"])];
    let nodes =
        vec![node("Concat", &["past_key_values.0.key", "x"], &["present.0.key"], vec![int("axis", 0)])];
    let imported = import(&model(nodes, inputs, &["present.0.key"], vec![])).unwrap();
    assert_eq!(imported.inputs[0].state.as_deref(), Some("present.0.key"));
    assert_eq!(imported.outputs[0].state.as_deref(), Some("past_key_values.0.key"));
    assert_eq!(imported.inputs[1].state, None);
}

#[test]
fn functions_take_attributes_defaults_and_leave_out_inputs() {
    let reference = |name: &str, to: &str, kind: i32| AttributeProto {
        name: Some(name.into()),
        r#type: Some(kind),
        ref_attr_name: Some(to.into()),
        ..AttributeProto::default()
    };
    let factor = AttributeProto {
        name: Some("factor".into()),
        r#type: Some(1),
        f: Some(3.0),
        ..AttributeProto::default()
    };
    let scaled = FunctionProto {
        name: Some("Scaled".into()),
        domain: Some("own".into()),
        input: vec!["a".into(), "low".into()],
        output: vec!["c".into()],
        attribute_proto: vec![factor.clone()],
        node: vec![
            node("Constant", &[], &["k"], vec![reference("value_float", "factor", 1)]),
            node("Mul", &["a", "k"], &["m"], vec![]),
            node("Clip", &["m", "low"], &["c"], vec![]),
        ],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(13) }],
        ..FunctionProto::default()
    };
    let call = |output: &str, attributes: Vec<AttributeProto>| {
        let mut call = node("Scaled", &["x"], &[output], attributes);
        call.domain = Some("own".into());
        call
    };
    let mut model = model(
        vec![call("y", vec![]), call("z", vec![AttributeProto { f: Some(-1.0), ..factor }])],
        vec![value("x", FLOAT, &["2"])],
        &["y", "z"],
        vec![],
    );
    model.functions.push(scaled.clone());
    let outputs = run(&import(&model).unwrap(), &[vector(&[1.0, -2.0])]);
    assert_eq!((outputs[0].floats(), outputs[1].floats()), (vec![3.0, -6.0], vec![-1.0, 2.0]));
    // A function that calls itself has no end.
    let mut endless = scaled;
    endless.node = vec![call("c", vec![])];
    endless.node[0].input = vec!["a".into()];
    model.functions = vec![endless];
    assert!(report(&model).contains("function 'Scaled' calls itself"));
}

#[test]
fn a_loop_of_data_dependent_length_has_a_symbol_of_its_own() {
    let body = GraphProto {
        name: Some("body".into()),
        input: vec![value("i", INT64, &[]), value("go", BOOL, &[]), value("v", FLOAT, &["2"])],
        output: vec![value("go", BOOL, &[]), value("next", FLOAT, &["2"]), value("seen", FLOAT, &["2"])],
        node: vec![
            node("Add", &["v", "x"], &["next"], vec![]),
            node("Identity", &["next"], &["seen"], vec![]),
        ],
        ..GraphProto::default()
    };
    let nodes = vec![node("Loop", &["n", "", "x"], &["last", "all"], vec![graph("body", body)])];
    let inputs = vec![value("n", INT64, &[]), value("x", FLOAT, &["2"])];
    let imported = import(&model(nodes, inputs, &["last", "all"], vec![])).unwrap();
    assert_eq!(imported.outputs[1].ty.to_string(), "tensor<?x2xf32, [\"all_0\"]>");
    for rounds in [0, 3] {
        let n = Tensor::from_ints(Element::I64, &[], vec![rounds]);
        let outputs = run(&imported, &[n, vector(&[1.0, 2.0])]);
        assert_eq!(outputs[0].floats(), [(rounds + 1) as f64, (2 * (rounds + 1)) as f64]);
        assert_eq!(outputs[1].shape, [rounds as usize, 2]);
    }
}

#[test]
fn unsorted_nodes_and_initializers_as_outputs_are_fine() {
    let nodes = vec![node("Relu", &["a"], &["y"], vec![]), node("Add", &["x", "w"], &["a"], vec![])];
    let stored = vec![floats("w", &[2], &[1.0, -5.0])];
    let imported = import(&model(nodes, vec![value("x", FLOAT, &["2"])], &["y", "w"], stored)).unwrap();
    let outputs = run(&imported, &[vector(&[1.0, 2.0])]);
    assert_eq!((outputs[0].floats(), outputs[1].floats()), (vec![2.0, 0.0], vec![1.0, -5.0]));
}

#[test]
fn an_input_with_a_default_stays_one_on_request() {
    let inputs = vec![value("x", FLOAT, &["2"]), value("w", FLOAT, &["2"])];
    let model = model(
        vec![node("Add", &["x", "w"], &["y"], vec![])],
        inputs,
        &["y"],
        vec![floats("w", &[2], &[1.0, 2.0])],
    );
    assert_eq!(import(&model).unwrap().inputs.len(), 1);
    let options = Options { keep_default_inputs: ["w".to_string()].into(), ..Options::default() };
    assert_eq!(import_bytes(model.encode_to_vec().into(), &options).unwrap().inputs.len(), 2);
}

#[test]
fn weights_are_not_copied() {
    let weight = floats("w", &[64, 64], &vec![0.5; 4096]);
    let model = model(
        vec![node("MatMul", &["x", "w"], &["y"], vec![])],
        vec![value("x", FLOAT, &["1", "64"])],
        &["y"],
        vec![weight],
    );
    let bytes = bytes::Bytes::from(model.encode_to_vec());
    let imported = import_bytes(bytes.clone(), &Options::default()).unwrap();
    let module = &imported.module;
    let constant =
        module.all_ops().into_iter().find(|op| module.op(*op).def.short_name() == "constant").unwrap();
    let elements = module.op(constant).attributes["value"].as_elements().unwrap().bytes().clone();
    assert!(bytes.as_ptr_range().contains(&elements.as_ptr()));
}

#[test]
fn the_story_model_imports_without_shape_computations() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/story-3m");
    let imported = crate::import::onnx::import(&folder, &Options::default()).unwrap();
    let assumptions: Vec<String> =
        imported.assumptions.iter().map(|found| format!("{} = {}", found.symbol, found.equals)).collect();
    assert_eq!(assumptions, ["total_seq = past_seq + seq"]);
    assert_eq!(imported.inputs.iter().filter(|input| input.state.is_some()).count(), 12);
    let names = op_names(&imported);
    let count = |name: &str| names.iter().filter(|other| **other == name).count();
    // Seven products of weights and two of attention for each of six layers, and the logits.
    assert_eq!(count("matmul"), 6 * 9 + 1);
    // The one size that is data: the position of the first new token, for the mask.
    assert_eq!(count("size"), 1);
}

#[test]
fn sequences_of_a_symbolic_batch_have_lengths_of_their_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/models/contrib/group_query_attention_ragged_step_rotary");
    let case = crate::cases::read(&folder).unwrap();
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    for input in &mut model.graph.as_mut().unwrap().input {
        let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_mut().unwrap().value.as_mut()
        else {
            panic!("tensors only")
        };
        let batch = dimension::Value::DimParam("batch".into());
        tensor.shape.as_mut().unwrap().dim[0].value = Some(batch);
    }
    let imported = import(&model).unwrap();
    let batch = case.inputs[0].shape[0] as i64;
    assert!(batch > 1, "the case must have several sequences");
    let bindings = [("batch".into(), batch)].into_iter().collect();
    let found = evaluate::run_with(&imported.module, "main", &case.inputs, &bindings).unwrap();
    for (found, expected) in found.iter().zip(&case.outputs) {
        assert_eq!(compare(found, expected, 1e-3, 1e-4).unwrap().mismatches, 0);
    }
}

/// numpy.unique has one NaN of a flat array, behind all else, and every row with a NaN.
#[test]
fn nan_is_told_apart_as_in_numpy() {
    let nan = f64::NAN;
    let outputs = ["y", "first", "place", "count"];
    let unique = |dims: &[usize], values: &[f64], attributes: Vec<AttributeProto>| {
        let sizes: Vec<String> = dims.iter().map(ToString::to_string).collect();
        let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
        let nodes = vec![node("Unique", &["x"], &outputs, attributes)];
        let imported = import(&model(nodes, vec![value("x", FLOAT, &sizes)], &outputs, vec![])).unwrap();
        let found = run(&imported, &[Tensor::from_floats(Element::F32, dims, values.to_vec())]);
        let shown = format!("{:?}", found[0].floats());
        (shown, [1, 2, 3].map(|at| found[at].ints()))
    };
    let flat = [2.0, nan, 1.0, nan, 2.0];
    let expected = ("[1.0, 2.0, NaN]".to_string(), [vec![2, 0, 1], vec![1, 2, 0, 2, 1], vec![1, 2, 2]]);
    assert_eq!(unique(&[5], &flat, vec![]), expected);
    let expected = ("[2.0, NaN, 1.0]".to_string(), [vec![0, 1, 2], vec![0, 1, 2, 1, 0], vec![2, 2, 1]]);
    assert_eq!(unique(&[5], &flat, vec![int("sorted", 0)]), expected);
    let rows = [nan, 1.0, nan, 1.0, 0.0, nan, 0.0, nan, 2.0, 1.0];
    let expected = (
        "[0.0, NaN, 0.0, NaN, 2.0, 1.0, NaN, 1.0, NaN, 1.0]".to_string(),
        [vec![2, 3, 4, 0, 1], vec![3, 4, 0, 1, 2], vec![1; 5]],
    );
    assert_eq!(unique(&[5, 2], &rows, vec![int("axis", 0)]), expected);
    // Told apart by sorting.
    let many: Vec<f64> = (0..5000).map(|at| if at % 3 == 0 { nan } else { f64::from(at % 2) }).collect();
    let (shown, [first, _, count]) = unique(&[5000], &many, vec![]);
    assert_eq!((shown.as_str(), first, count), ("[0.0, 1.0, NaN]", vec![2, 1, 0], vec![1666, 1667, 1667]));
    let (shown, [first, place, count]) = unique(&[5000], &[nan; 5000], vec![int("axis", 0)]);
    assert_eq!((first, count, shown.matches("NaN").count()), ((0..5000).collect(), vec![1; 5000], 5000));
    assert_eq!(place, (0..5000).collect::<Vec<i64>>());
}

/// One tree that asks whether the only feature is at most 0; its two leaves have scores for these classes.
fn stump(leaves: [&[(i64, f32)]; 2], more: Vec<AttributeProto>) -> ModelProto {
    let list = |name: &str, values: &[i64]| AttributeProto {
        name: Some(name.into()),
        r#type: Some(7),
        ints: values.to_vec(),
        ..AttributeProto::default()
    };
    let reals = |name: &str, values: &[f32]| AttributeProto {
        name: Some(name.into()),
        r#type: Some(6),
        floats: values.to_vec(),
        ..AttributeProto::default()
    };
    let votes: Vec<(i64, i64, f32)> = (1..)
        .zip(leaves)
        .flat_map(|(leaf, votes)| votes.iter().map(move |vote| (leaf, vote.0, vote.1)))
        .collect();
    let mut attributes = vec![
        list("nodes_treeids", &[0; 3]),
        list("nodes_nodeids", &[0, 1, 2]),
        list("nodes_featureids", &[0; 3]),
        list("nodes_truenodeids", &[1, 0, 0]),
        list("nodes_falsenodeids", &[2, 0, 0]),
        reals("nodes_values", &[0.0; 3]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        list("class_treeids", &vec![0; votes.len()]),
        list("class_nodeids", &votes.iter().map(|vote| vote.0).collect::<Vec<_>>()),
        list("class_ids", &votes.iter().map(|vote| vote.1).collect::<Vec<_>>()),
        reals("class_weights", &votes.iter().map(|vote| vote.2).collect::<Vec<_>>()),
        list("classlabels_int64s", &[7, 9]),
    ];
    attributes.extend(more);
    let mut tree = node("TreeEnsembleClassifier", &["x"], &["y", "s"], attributes);
    tree.domain = Some("ai.onnx.ml".into());
    let mut model = model(vec![tree], vec![value("x", FLOAT, &["n", "1"])], &["y", "s"], vec![]);
    model.opset_import.push(OperatorSetIdProto { domain: Some("ai.onnx.ml".into()), version: Some(3) });
    model
}

#[test]
fn the_label_of_a_forest_is_the_top_one() {
    let x = Tensor::from_floats(Element::F32, &[2, 1], vec![-1.0, 1.0]);
    let labels = |leaves: [&[(i64, f32)]; 2]| {
        let found = run(&import(&stump(leaves, vec![])).unwrap(), std::slice::from_ref(&x));
        (found[0].ints(), found[1].floats().iter().map(|score| (score * 10.0).round()).collect::<Vec<_>>())
    };
    assert_eq!(
        labels([&[(0, 0.7), (1, 0.3)], &[(0, 0.2), (1, 0.8)]]),
        (vec![7, 9], vec![7.0, 3.0, 2.0, 8.0])
    );
    // Only the second label has scores: shares above one half, else above 0 (as ONNX Runtime).
    assert_eq!(labels([&[(1, 0.3)], &[(1, 0.8)]]), (vec![7, 9], vec![0.0, 3.0, 0.0, 8.0]));
    assert_eq!(labels([&[(1, -0.3)], &[(1, 0.2)]]), (vec![7, 9], vec![0.0, -3.0, 0.0, 2.0]));
    let bases = AttributeProto {
        name: Some("base_values".into()),
        r#type: Some(6),
        floats: vec![0.5, 0.25],
        ..AttributeProto::default()
    };
    let said = report(&stump([&[(0, 0.3)], &[(0, 0.8)]], vec![bases]));
    assert!(said.contains("two values for one score"), "{said}");
}

#[test]
fn many_elements_are_told_apart_by_sorting() {
    for sorted in [1, 0] {
        let outputs = ["y", "first", "place", "count"];
        let nodes = vec![node("Unique", &["x"], &outputs, vec![int("sorted", sorted)])];
        let imported = import(&model(nodes, vec![value("x", INT64, &["5000"])], &outputs, vec![])).unwrap();
        let values: Vec<i64> = (0..5000).map(|at| (at * at * 7 + 3) % 611 - 300).collect();
        let found = run(&imported, &[Tensor::from_ints(Element::I64, &[5000], values.clone())]);
        let mut different: Vec<i64> = Vec::new();
        for value in &values {
            if !different.contains(value) {
                different.push(*value);
            }
        }
        if sorted == 1 {
            different.sort_unstable();
        }
        let place = |value: &i64| different.iter().position(|other| other == value).unwrap() as i64;
        assert_eq!(found[0].ints(), different);
        let first = |value: &i64| values.iter().position(|other| other == value).unwrap() as i64;
        assert_eq!(found[1].ints(), different.iter().map(first).collect::<Vec<_>>());
        assert_eq!(found[2].ints(), values.iter().map(place).collect::<Vec<_>>());
        let count = |value: &i64| values.iter().filter(|other| *other == value).count() as i64;
        assert_eq!(found[3].ints(), different.iter().map(count).collect::<Vec<_>>());
    }
}
