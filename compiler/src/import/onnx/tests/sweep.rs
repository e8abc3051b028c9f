//! Every operator of the table fed with what it does not expect: an import is a result or a report, never a panic, and what is taken
//! can be evaluated or says why not.
//!
//! Two sources. For every row, nodes drawn at random: counts, ranks, types and values of inputs, and attributes by the names that the
//! row itself has asked for. For every recorded case of the repository, one thing changed at a time. Both are the same on every run.

use super::build::{FLOAT, INT64, STRING, model, node, value};
use crate::import::Options;
use crate::import::onnx::context::asked;
use crate::import::onnx::import_bytes;
use crate::import::onnx::schema::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, type_proto,
};
use crate::import::onnx::table::{Row, all};
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tilewright_ir::evaluate;
use tilewright_ir::module::Module;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

/// Nodes per row.
const ROUNDS: u64 = 400;
/// Modules with a larger tensor are not evaluated.
const ELEMENTS_MAX: i64 = 1 << 16;
/// ONNX's numbers of the element types that nodes are fed with: f32, u8, i8, u16, i16, i32, i64, string, bool, f16, f64, bf16, u4,
/// i4.
const TYPES: &[i32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 21, 22];
/// Values for anything that counts or indexes.
const NUMBERS: &[i64] = &[0, 1, 2, 3, 4, 7, -1, -2, -5, 1000, -1000, i64::MAX, i64::MIN, 1 << 31];

struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Imports a model and evaluates what came of it. A report must not be empty.
fn survive(model: &ModelProto) -> bool {
    match import_bytes(model.encode_to_vec().into(), &Options::default()) {
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "a refusal says why");
            false
        }
        Ok(imported) => {
            let inputs: Option<Vec<Tensor>> = imported.inputs.iter().map(|port| zeros(&port.ty)).collect();
            if let (Some(inputs), true) = (inputs, is_small(&imported.module)) {
                let _ = evaluate::run(&imported.module, "main", &inputs);
            }
            true
        }
    }
}

/// Small numbers of a type; symbols stand for 2.
fn zeros(ty: &TensorType) -> Option<Tensor> {
    let dims: Option<Vec<i64>> = ty.shape.iter().map(|dim| dim.known().or(Some(2))).collect();
    let dims = dims?;
    let count = dims.iter().try_fold(1i64, |product, dim| product.checked_mul(*dim))?;
    (0..=ELEMENTS_MAX).contains(&count).then(|| Tensor::from_ints(ty.element, &dims, vec![1; count as usize]))
}

fn is_small(module: &Module) -> bool {
    module.all_ops().into_iter().flat_map(|op| module.op(op).results.to_vec()).all(|result| {
        module.tensor(result).is_none_or(|ty| {
            let sizes = ty.shape.iter().map(|dim| dim.known().unwrap_or(2));
            sizes.fold(1i64, i64::saturating_mul) <= ELEMENTS_MAX
        })
    })
}

fn attribute(name: &str, kind: i32, draw: &mut Draw) -> AttributeProto {
    let mut made =
        AttributeProto { name: Some(name.into()), r#type: Some(kind), ..AttributeProto::default() };
    let words = ["", "bogus", "SAME_UPPER", "constant", "none", "silu", "add", "bilinear", "swiglu"];
    let count = draw.below(5);
    match kind {
        1 => made.f = Some(draw.of(&[0.0, 1.0, -1.0, 0.5, f32::NAN, f32::INFINITY, f32::MAX])),
        2 => made.i = Some(draw.of(NUMBERS)),
        3 => made.s = Some(draw.of(&words).into()),
        6 => made.floats = (0..count).map(|_| draw.of(&[0.0, 1.0, -2.0, f32::NAN])).collect(),
        7 => made.ints = (0..count).map(|_| draw.of(NUMBERS)).collect(),
        8 => made.strings = (0..count).map(|_| draw.of(&words).into()).collect(),
        4 => made.t = Some(stored("", draw)),
        5 => made.g = Some(GraphProto::default()),
        _ => {}
    }
    made
}

/// A constant with small values.
fn stored(name: &str, draw: &mut Draw) -> TensorProto {
    let dims: Vec<i64> = (0..draw.below(3)).map(|_| draw.of(&[0, 1, 1, 2, 3])).collect();
    let count = dims.iter().product::<i64>() as usize;
    let mut tensor = TensorProto { name: Some(name.into()), dims, ..TensorProto::default() };
    if draw.one_in(3) {
        tensor.data_type = Some(FLOAT);
        tensor.float_data = (0..count).map(|_| draw.of(&[0.0, 1.0, -2.0, 3.5, f32::NAN])).collect();
    } else if draw.one_in(6) {
        tensor.data_type = Some(STRING);
        tensor.string_data = (0..count).map(|_| draw.of(&["", "a", "be", "日本"]).into()).collect();
    } else {
        tensor.data_type = Some(INT64);
        tensor.int64_data = (0..count).map(|_| draw.of(NUMBERS)).collect();
    }
    tensor
}

/// A model of one node of a row.
fn random_model(row: &Row, attributes: &BTreeSet<(String, i32)>, draw: &mut Draw) -> ModelProto {
    let (mut names, mut inputs, mut constants) = (Vec::new(), Vec::new(), Vec::new());
    let rank = draw.below(6);
    let common: Vec<&str> =
        (0..rank).map(|_| draw.of(&["1", "2", "2", "3", "4", "4", "8", "0", "n"])).collect();
    let element = draw.of(TYPES);
    let most = if draw.one_in(4) { 15 } else { 6 };
    for at in 0..draw.below(most) {
        let name = format!("x{at}");
        names.push(match draw.below(8) {
            0 => String::new(),
            1 | 2 if at > 0 => {
                constants.push(stored(&name, draw));
                name
            }
            _ => {
                let mut dims = common.clone();
                if draw.one_in(4) {
                    let rank = draw.below(dims.len() + 1);
                    dims.truncate(rank);
                }
                let own = if draw.one_in(4) { draw.of(TYPES) } else { element };
                inputs.push(value(&name, own, &dims));
                name
            }
        });
    }
    let outputs: Vec<String> = (0..1 + draw.below(3)).map(|at| format!("y{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut made = Vec::new();
    for (name, kind) in attributes {
        if !draw.one_in(3) {
            let kind = if draw.one_in(8) || *kind == 0 { draw.of(&[1, 2, 3, 4, 5, 6, 7, 8]) } else { *kind };
            made.push(attribute(name, kind, draw));
        }
    }
    let mut one = node(row.op, &names, &outputs, made);
    one.domain = Some(row.domain.into());
    let mut model = model(vec![one], inputs, &outputs, constants);
    let (first, last) = (*row.versions.start(), (*row.versions.end()).min(28));
    let version = first + draw.below((last - first + 1).max(1) as usize) as i64;
    model.opset_import[0].version = Some(if row.domain.is_empty() { version.max(7) } else { 21 });
    if !row.domain.is_empty() {
        model.opset_import[1].domain = Some(row.domain.into());
    }
    model
}

#[test]
fn nothing_that_an_operator_is_fed_with_makes_it_panic() {
    let mut taken = 0;
    let mut panics = Vec::new();
    for (index, row) in all().enumerate() {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(index as u64));
        let mut attributes = BTreeSet::new();
        for round in 0..ROUNDS {
            let model = random_model(row, &attributes, &mut draw);
            asked::start();
            match catch_unwind(AssertUnwindSafe(|| survive(&model))) {
                Ok(done) => taken += usize::from(done),
                Err(_) => {
                    panics.push(format!("{} {} in round {round}: {:?}", row.domain, row.op, model.graph));
                    break;
                }
            }
            attributes.extend(asked::names());
        }
    }
    assert!(panics.is_empty(), "{} operators panic:\n{}", panics.len(), panics.join("\n"));
    let all = all().count() * ROUNDS as usize;
    assert!(taken > all / 100, "{taken} of {all} are taken: the draws are too wild");
}

/// The changes of one model: one input left out, or of another type or shape; one attribute missing, or of another value or type.
fn changes(model: &ModelProto) -> Vec<ModelProto> {
    let mut all = Vec::new();
    let graph = model.graph.clone().unwrap_or_default();
    let mut add = |change: &dyn Fn(&mut GraphProto)| {
        let mut changed = model.clone();
        if let Some(graph) = &mut changed.graph {
            change(graph);
        }
        all.push(changed);
    };
    let one: NodeProto = graph.node.first().cloned().unwrap_or_default();
    for at in 0..one.input.len() {
        add(&|graph| graph.node[0].input[at].clear());
        add(&|graph| graph.node[0].input.truncate(at));
    }
    for at in 0..graph.input.len() {
        for element in TYPES {
            add(&|graph| on_tensor(graph, at, &|tensor| tensor.elem_type = Some(*element)));
        }
        add(&|graph| on_dims(graph, at, &|dims| dims.clear()));
        add(&|graph| on_dims(graph, at, &|dims| dims.truncate(1)));
        add(&|graph| on_dims(graph, at, &|dims| drop(dims.pop())));
        add(&|graph| on_dims(graph, at, &|dims| dims.extend(dims.first().cloned())));
        for axis in 0..5 {
            for size in [0, 1, 5] {
                let number = super::build::value("", FLOAT, &[&size.to_string()]);
                let Some(type_proto::Value::TensorType(number)) = number.r#type.and_then(|ty| ty.value)
                else {
                    continue;
                };
                let dim = number.shape.unwrap_or_default().dim[0].clone();
                add(&|graph| {
                    on_dims(graph, at, &|dims| {
                        if let Some(own) = dims.get_mut(axis) {
                            *own = dim.clone();
                        }
                    });
                });
            }
        }
    }
    for at in 0..graph.initializer.len() {
        for element in TYPES {
            add(&|graph| graph.initializer[at].data_type = Some(*element));
        }
        add(&|graph| graph.initializer[at].dims.clear());
        add(&|graph| graph.initializer[at].dims.insert(0, 1));
        add(&|graph| graph.initializer[at].dims.reverse());
        add(&|graph| {
            graph.initializer[at].dims = vec![0];
            graph.initializer[at].raw_data = Some(Vec::new().into());
        });
    }
    for at in 0..one.attribute.len() {
        add(&|graph| drop(graph.node[0].attribute.remove(at)));
        for number in NUMBERS {
            add(&|graph| graph.node[0].attribute[at].i = Some(*number));
            add(&|graph| graph.node[0].attribute[at].ints.push(*number));
            add(&|graph| {
                if let Some(first) = graph.node[0].attribute[at].ints.first_mut() {
                    *first = *number;
                }
            });
        }
        add(&|graph| graph.node[0].attribute[at].s = Some("bogus".into()));
        add(&|graph| graph.node[0].attribute[at].ints.clear());
        for kind in 1..9 {
            add(&|graph| graph.node[0].attribute[at].r#type = Some(kind));
        }
    }
    all
}

fn on_tensor(graph: &mut GraphProto, at: usize, change: &dyn Fn(&mut type_proto::Tensor)) {
    let ty = graph.input[at].r#type.as_mut().and_then(|ty| ty.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = ty {
        change(tensor);
    }
}

fn on_dims(
    graph: &mut GraphProto,
    at: usize,
    change: &dyn Fn(&mut Vec<crate::import::onnx::schema::tensor_shape_proto::Dimension>),
) {
    on_tensor(graph, at, &|tensor| {
        if let Some(shape) = &mut tensor.shape {
            change(&mut shape.dim);
        }
    });
}

#[test]
fn recorded_operators_with_one_thing_wrong_never_panic() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/contrib");
    let mut files: Vec<_> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path().join("model.onnx")).collect();
    files.sort();
    let (mut taken, mut count) = (0, 0);
    let mut panics = Vec::new();
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        for (index, changed) in changes(&model).iter().enumerate() {
            count += 1;
            match catch_unwind(AssertUnwindSafe(|| survive(changed))) {
                Ok(done) => taken += usize::from(done),
                Err(_) => {
                    panics.push(format!("{} with change {index}", file.display()));
                    break;
                }
            }
        }
    }
    assert!(panics.is_empty(), "{} cases panic:\n{}", panics.len(), panics.join("\n"));
    assert!(taken > count / 20 && taken < count, "{taken} of {count} are taken");
}
