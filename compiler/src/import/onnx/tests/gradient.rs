//! Every rule of differentiation against central differences, by the evaluator in f64.

use super::build::*;
use crate::import::onnx::differentiate::RULES;
use crate::import::onnx::schema::{AttributeProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
use std::collections::BTreeSet;
use tilewright_ir::element::Element;
use tilewright_ir::evaluate;
use tilewright_ir::tensor::Tensor;

const DOUBLE: i32 = 11;
const TRAINING: &str = "ai.onnx.preview.training";

/// Nodes that make `y` of `a`, `b` .., and where these are drawn from.
struct Case {
    nodes: Vec<NodeProto>,
    dims: &'static [&'static [i64]],
    range: (f64, f64),
}

fn case(nodes: Vec<NodeProto>, dims: &'static [&'static [i64]]) -> Case {
    Case { nodes, dims, range: (-1.5, 1.5) }
}

fn one(op: &str, attributes: Vec<AttributeProto>) -> Case {
    case(vec![node(op, &["a"], &["y"], attributes)], &[&[2, 3]])
}

fn within(low: f64, high: f64, case: Case) -> Case {
    Case { range: (low, high), ..case }
}

fn two(op: &str, dims: &'static [&'static [i64]]) -> Case {
    case(vec![node(op, &["a", "b"], &["y"], vec![])], dims)
}

fn with(op: &str, extra: &[&str], attributes: Vec<AttributeProto>) -> Case {
    let inputs = [&["a"], extra].concat();
    case(vec![node(op, &inputs, &["y"], attributes)], &[&[2, 3]])
}

fn gradient(y: &str, xs: &[&str], inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let mut node = node("Gradient", inputs, outputs, vec![texts("xs", xs), text("y", y)]);
    node.domain = Some(TRAINING.into());
    node
}

fn cases() -> Vec<Case> {
    const MIXED: &[&[i64]] = &[&[2, 3], &[3]];
    let mut cases: Vec<Case> =
        ["Neg", "Abs", "Exp", "Tanh", "Sigmoid", "Erf", "Relu", "Sign", "Floor", "Swish", "Mish"]
            .map(|op| one(op, vec![]))
            .into();
    for op in
        ["Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Softplus", "Softsign", "LeakyRelu", "Elu"]
    {
        cases.push(one(op, vec![]));
    }
    for op in ["Log", "Sqrt", "Reciprocal"] {
        cases.push(within(0.3, 2.0, one(op, vec![])));
    }
    for op in ["Asin", "Acos", "Atanh"] {
        cases.push(within(-0.8, 0.8, one(op, vec![])));
    }
    cases.push(within(1.2, 2.0, one("Acosh", vec![])));
    cases.push(one("Gelu", vec![]));
    cases.push(one("Gelu", vec![text("approximate", "tanh")]));
    cases.push(one("HardSigmoid", vec![]));
    cases.push(with("Clip", &["low", "high"], vec![]));
    cases.extend(["Add", "Sub", "Mul", "Max", "Min"].map(|op| two(op, MIXED)));
    cases.extend(["Div", "Pow"].map(|op| within(0.4, 1.6, two(op, MIXED))));
    cases.push(two("MatMul", &[&[2, 3], &[3, 4]]));
    cases.push(two("MatMul", &[&[2, 2, 3], &[3, 2]]));
    cases.push(case(vec![node("Where", &["truth", "a", "b"], &["y"], vec![])], MIXED));
    cases.push(case(vec![node("Concat", &["a", "b"], &["y"], vec![int("axis", 0)])], &[&[2, 3], &[1, 3]]));
    let to_half =
        [node("Cast", &["a"], &["n"], vec![int("to", 1)]), node("Cast", &["n"], &["y"], vec![int("to", 11)])];
    cases.push(case(to_half.into(), &[&[2, 3]]));
    cases.push(with("Reshape", &["shape"], vec![]));
    cases.push(with("Transpose", &[], vec![]));
    cases.push(with("Expand", &["large"], vec![]));
    cases.push(with("Slice", &["one", "three", "one"], vec![]));
    cases.push(with("Pad", &["border"], vec![]));
    cases.push(with("Gather", &["picks"], vec![int("axis", 1)]));
    cases.extend(
        ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"]
            .map(|op| with(op, &["one"], vec![int("keepdims", 0)])),
    );
    cases.push(with("CumSum", &["first"], vec![int("exclusive", 1)]));
    cases.push(one("Softmax", vec![int("axis", 0)]));
    cases.push(one("LogSoftmax", vec![]));
    // The gradient of a gradient, which holds what no operator alone makes.
    let twice = vec![node("Asin", &["a"], &["s"], vec![]), gradient("s", &["a"], &["a"], &["y"])];
    cases.push(within(-0.8, 0.8, case(twice, &[&[2, 3]])));
    cases
}

fn stored() -> Vec<TensorProto> {
    let mut first = ints("first", &[0]);
    first.dims.clear();
    let truth = TensorProto {
        name: Some("truth".into()),
        dims: vec![2, 3],
        data_type: Some(BOOL),
        raw_data: Some(vec![1, 0, 1, 0, 0, 1].into()),
        ..TensorProto::default()
    };
    let double = |name: &str, value: f64| TensorProto {
        name: Some(name.into()),
        data_type: Some(DOUBLE),
        raw_data: Some(value.to_le_bytes().to_vec().into()),
        ..TensorProto::default()
    };
    vec![
        ints("shape", &[3, 2]),
        ints("large", &[2, 2, 3]),
        ints("one", &[1]),
        ints("three", &[3]),
        ints("border", &[1, 0, 0, 2]),
        ints("picks", &[2, 0, 2, -1]),
        first,
        truth,
        double("low", -0.7),
        double("high", 0.6),
    ]
}

const NAMES: [&str; 2] = ["a", "b"];

/// The nodes, a weighing of their result, and the gradients of that.
fn model_of(case: &Case, weighed: bool) -> ModelProto {
    let names = &NAMES[..case.dims.len()];
    let mut nodes = case.nodes.clone();
    let mut outputs = vec!["y"];
    if weighed {
        // A weight that differs from element to element: a sum alone would hide much.
        nodes.push(node("Sin", &["y"], &["weight"], vec![]));
        nodes.push(node("Mul", &["weight", "y"], &["z"], vec![]));
        let made: &[&str] = &["da", "db"];
        nodes.push(gradient("z", names, names, &made[..names.len()]));
        outputs = ["z"].into_iter().chain(made[..names.len()].iter().copied()).collect();
    }
    let dims = |dims: &[i64]| dims.iter().map(ToString::to_string).collect::<Vec<_>>();
    let inputs = names.iter().zip(case.dims).map(|(name, shape)| {
        let dims = dims(shape);
        value(name, DOUBLE, &dims.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let mut model = model(nodes, inputs.collect(), &outputs, stored());
    model.opset_import = vec![
        OperatorSetIdProto { domain: None, version: Some(24) },
        OperatorSetIdProto { domain: Some(TRAINING.into()), version: Some(1) },
    ];
    model
}

fn drawn(case: &Case) -> Vec<Tensor> {
    let (low, high) = case.range;
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        low + (high - low) * ((state >> 40) as f64 / (1u64 << 24) as f64)
    };
    let tensor = |dims: &&[i64]| {
        let shape: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
        let count = shape.iter().product();
        Tensor::from_floats(Element::F64, &shape, (0..count).map(|_| next()).collect())
    };
    case.dims.iter().map(tensor).collect()
}

#[test]
fn gradients_are_those_of_central_differences() {
    for case in cases() {
        let name = case.nodes[0].op_type.clone().unwrap_or_default();
        let imported = import(&model_of(&case, true)).unwrap_or_else(|all| panic!("{name}: {}", all[0]));
        let run = |inputs: &[Tensor]| {
            evaluate::run(&imported.module, "main", inputs).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let inputs = drawn(&case);
        let found = run(&inputs);
        // Numbers that go through f32 on the way need a larger step.
        let (step, tolerance) = if name == "Cast" { (1e-2, 1e-3) } else { (1e-6, 1e-6) };
        for (at, input) in inputs.iter().enumerate() {
            assert_eq!(found[1 + at].shape, input.shape, "{name}");
            for index in 0..input.len() {
                let moved = |by: f64| {
                    let mut values = input.floats();
                    values[index] += by;
                    let mut inputs = inputs.clone();
                    inputs[at] = Tensor::from_floats(Element::F64, &input.shape, values);
                    run(&inputs)[0].floats().iter().sum::<f64>()
                };
                let expected = (moved(step) - moved(-step)) / (2.0 * step);
                let found = found[1 + at].float(index);
                let near = (found - expected).abs() <= tolerance * (1.0 + expected.abs());
                assert!(near, "{name}, input {at}, element {index}: {found}, expected {expected}");
            }
        }
    }
}

#[test]
fn every_rule_has_a_case() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        seen.extend(op_names(&import(&model_of(&case, false)).unwrap()));
    }
    let missing: Vec<&str> =
        RULES.iter().map(|row| row.0.short_name()).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no case makes {missing:?}");
}

#[test]
fn a_gradient_is_taken_where_its_inputs_say() {
    // y = a * b with c in place of a: dy/da = b, and what is made of c is looked behind no further.
    let nodes = vec![
        node("Mul", &["a", "b"], &["p"], vec![]),
        node("Mul", &["p", "a"], &["y"], vec![]),
        gradient("y", &["a"], &["c"], &["d"]),
    ];
    let inputs = ["a", "b", "c"].map(|name| value(name, FLOAT, &["1"])).into();
    let mut model = model(nodes, inputs, &["d"], vec![]);
    model.opset_import.push(OperatorSetIdProto { domain: Some(TRAINING.into()), version: Some(1) });
    let imported = import(&model).unwrap();
    let number = |value: f64| Tensor::from_floats(Element::F32, &[1usize], vec![value]);
    let found = evaluate::run(&imported.module, "main", &[number(2.0), number(3.0), number(5.0)]).unwrap();
    assert_eq!(found[0].floats(), [30.0]);
}

#[test]
fn what_has_no_rule_is_named() {
    let nodes = vec![node("TopK", &["a", "k"], &["y", "i"], vec![]), gradient("y", &["a"], &["a"], &["d"])];
    let mut model = model(nodes, vec![value("a", FLOAT, &["4"])], &["d"], vec![ints("k", &[2])]);
    model.opset_import.push(OperatorSetIdProto { domain: Some(TRAINING.into()), version: Some(1) });
    let report = report(&model);
    assert!(report.contains("'core.top_k' cannot be differentiated"), "{report}");
    assert!(report.contains("Gradient_d"), "{report}");
}
