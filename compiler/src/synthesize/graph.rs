//! The ONNX graph of a decoder, as ONNX Runtime's model builder writes it: `SimplifiedLayerNormalization`, `GroupQueryAttention`
//! with rotary tables and past and present, a gated feed-forward part. Weights keep the names of the Hugging Face checkpoint and lie
//! `[in, out]`; a tied last layer multiplies by the transposed embedding.

use super::values::{Storage, Values};
use super::{Shape, Weight};
use crate::import::onnx::schema::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use tensor_shape_proto::{Dimension, dimension};

/// Opset of the graph.
const OPSET: i64 = 21;
const INT32: i32 = 6;
const INT64: i32 = 7;
/// Epsilon of the norms.
const EPSILON: f32 = 1e-5;
/// The token that ends a text; ids are all there is, so the last one.
const fn end_token(shape: &Shape) -> usize {
    shape.vocabulary - 1
}

enum Value {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
}

struct Maker {
    graph: GraphProto,
    weights: Vec<Weight>,
}

impl Maker {
    fn weight(&mut self, name: &str, dims: &[usize], values: Values) -> String {
        self.weights.push(Weight { name: name.to_string(), dims: dims.to_vec(), values });
        name.to_string()
    }

    /// A projection `[from, to]` that keeps the size of what passes through.
    fn project(&mut self, x: &str, path: &str, [from, to]: [usize; 2]) -> String {
        let weight = self.weight(&format!("{path}.weight"), &[from, to], keeps_size(from));
        self.node("", "MatMul", path, &[x, &weight], 1, &[])[0].clone()
    }

    fn constant(&mut self, name: &str, dims: &[i64], values: &[i64]) -> String {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_string()),
            dims: dims.to_vec(),
            data_type: Some(INT64),
            int64_data: values.to_vec(),
            ..TensorProto::default()
        });
        name.to_string()
    }

    /// A node named by its layer path; its results are named after it.
    fn node(
        &mut self,
        domain: &str,
        op: &str,
        path: &str,
        inputs: &[&str],
        results: usize,
        attributes: &[(&str, Value)],
    ) -> Vec<String> {
        let name = format!("/{}/{op}", path.replace('.', "/").replace("layers/", "layers."));
        let outputs: Vec<String> = (0..results).map(|index| format!("{name}/output_{index}")).collect();
        self.push(domain, op, &name, inputs, &outputs, attributes);
        outputs
    }

    fn push(
        &mut self,
        domain: &str,
        op: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[String],
        attributes: &[(&str, Value)],
    ) {
        let attribute = attributes.iter().map(|(name, value)| {
            let mut proto = AttributeProto { name: Some((*name).to_string()), ..AttributeProto::default() };
            match value {
                Value::Int(value) => (proto.i, proto.r#type) = (Some(*value), Some(2)),
                Value::Ints(values) => (proto.ints, proto.r#type) = (values.clone(), Some(7)),
                Value::Float(value) => (proto.f, proto.r#type) = (Some(*value), Some(1)),
            }
            proto
        });
        self.graph.node.push(NodeProto {
            name: Some(name.to_string()),
            domain: Some(domain.to_string()),
            op_type: Some(op.to_string()),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: outputs.to_vec(),
            attribute: attribute.collect(),
            ..NodeProto::default()
        });
    }

    fn norm(&mut self, x: &str, path: &str, hidden: usize) -> String {
        let gain = self.weight(&format!("{path}.weight"), &[hidden], Values::Ones);
        let attributes =
            [("epsilon", Value::Float(EPSILON)), ("axis", Value::Int(-1)), ("stash_type", Value::Int(1))];
        self.node("", "SimplifiedLayerNormalization", path, &[x, &gain], 1, &attributes)[0].clone()
    }

    /// Length of each sequence less one, and the longest length, as i32: what `GroupQueryAttention` wants of the mask.
    fn lengths(&mut self) -> [String; 2] {
        let path = "model.attn_mask_reformat";
        let one = self.constant("one", &[1], &[1]);
        let axis = self.constant("one_scalar", &[], &[1]);
        let sum =
            self.node("", "ReduceSum", path, &["attention_mask", &one], 1, &[("keepdims", Value::Int(0))]);
        let less = self.node("", "Sub", path, &[&sum[0], &one], 1, &[]);
        let to = [("to", Value::Int(i64::from(INT32)))];
        let last = self.node("", "Cast", &format!("{path}.Sub"), &[&less[0]], 1, &to);
        let shape = self.node("", "Shape", path, &["attention_mask"], 1, &[]);
        let total = self.node("", "Gather", path, &[&shape[0], &axis], 1, &[("axis", Value::Int(0))]);
        let total = self.node("", "Cast", &format!("{path}.Gather"), &[&total[0]], 1, &to);
        [last[0].clone(), total[0].clone()]
    }

    fn attention(&mut self, x: &str, layer: usize, shape: &Shape, lengths: &[String; 2]) -> String {
        let path = format!("model.layers.{layer}.self_attn");
        let (hidden, narrow) = (shape.hidden, shape.groups * shape.head());
        let q = self.project(x, &format!("{path}.q_proj"), [hidden, hidden]);
        let k = self.project(x, &format!("{path}.k_proj"), [hidden, narrow]);
        let v = self.project(x, &format!("{path}.v_proj"), [hidden, narrow]);
        let name = format!("/model/layers.{layer}/self_attn/GroupQueryAttention");
        let past = ["key", "value"].map(|part| format!("past_key_values.{layer}.{part}"));
        let outputs =
            [format!("{name}/output_0"), format!("present.{layer}.key"), format!("present.{layer}.value")];
        let inputs =
            [&*q, &*k, &*v, &*past[0], &*past[1], &*lengths[0], &*lengths[1], "cos_cache", "sin_cache"];
        let attributes = [
            ("num_heads", Value::Int(shape.heads as i64)),
            ("kv_num_heads", Value::Int(shape.groups as i64)),
            ("scale", Value::Float((1.0 / (shape.head() as f64).sqrt()) as f32)),
            ("do_rotary", Value::Int(1)),
            ("rotary_interleaved", Value::Int(0)),
        ];
        self.push("com.microsoft", "GroupQueryAttention", &name, &inputs, &outputs, &attributes);
        self.project(&outputs[0], &format!("{path}.o_proj"), [hidden, hidden])
    }

    fn feed_forward(&mut self, x: &str, layer: usize, shape: &Shape) -> String {
        let path = format!("model.layers.{layer}.mlp");
        let gate = self.project(x, &format!("{path}.gate_proj"), [shape.hidden, shape.inner]);
        let up = self.project(x, &format!("{path}.up_proj"), [shape.hidden, shape.inner]);
        let act = format!("{path}.act_fn");
        let sigmoid = self.node("", "Sigmoid", &act, &[&gate], 1, &[]);
        let silu = self.node("", "Mul", &act, &[&gate, &sigmoid[0]], 1, &[]);
        let product = self.node("", "Mul", &path, &[&silu[0], &up], 1, &[]);
        self.project(&product[0], &format!("{path}.down_proj"), [shape.inner, shape.hidden])
    }
}

fn keeps_size(inputs: usize) -> Values {
    Values::Random((1.0 / (inputs as f64).sqrt()) as f32)
}

/// The graph, its weights not yet among the initializers, and the weights in the order of use.
pub(super) fn decoder(shape: &Shape, storage: Storage) -> (GraphProto, Vec<Weight>) {
    let mut maker = Maker { graph: border(shape, storage), weights: Vec::new() };
    let half = shape.head() / 2;
    let embedding = maker.weight(
        "model.embed_tokens.weight",
        &[shape.vocabulary, shape.hidden],
        keeps_size(shape.hidden),
    );
    maker.weight("cos_cache", &[shape.positions, half], Values::Cosines(shape.theta));
    maker.weight("sin_cache", &[shape.positions, half], Values::Sines(shape.theta));
    let lengths = maker.lengths();
    let mut x = maker.node("", "Gather", "model.embed_tokens", &[&embedding, "input_ids"], 1, &[])[0].clone();
    for layer in 0..shape.layers {
        let path = format!("model.layers.{layer}");
        let normed = maker.norm(&x, &format!("{path}.input_layernorm"), shape.hidden);
        let mixed = maker.attention(&normed, layer, shape, &lengths);
        x = maker.node("", "Add", &format!("{path}.self_attn.residual"), &[&x, &mixed], 1, &[])[0].clone();
        let normed = maker.norm(&x, &format!("{path}.post_attention_layernorm"), shape.hidden);
        let fed = maker.feed_forward(&normed, layer, shape);
        x = maker.node("", "Add", &format!("{path}.mlp.residual"), &[&x, &fed], 1, &[])[0].clone();
    }
    let normed = maker.norm(&x, "model.norm", shape.hidden);
    let last = if shape.is_tied {
        let turn = [("perm", Value::Ints(vec![1, 0]))];
        maker.node("", "Transpose", "lm_head", &[&embedding], 1, &turn)[0].clone()
    } else {
        maker.weight("lm_head.weight", &[shape.hidden, shape.vocabulary], keeps_size(shape.hidden))
    };
    maker.push("", "MatMul", "/lm_head/MatMul", &[&normed, &last], &["logits".into()], &[]);
    (maker.graph, maker.weights)
}

/// A graph with its inputs and outputs alone.
fn border(shape: &Shape, storage: Storage) -> GraphProto {
    let known = |size: usize| dimension::Value::DimValue(size as i64);
    let named = |name: &str| dimension::Value::DimParam(name.to_string());
    let port = |name: &str, element: i32, dims: Vec<dimension::Value>| {
        let dim = dims.into_iter().map(|value| Dimension { value: Some(value), ..Dimension::default() });
        let tensor = type_proto::Tensor {
            elem_type: Some(element),
            shape: Some(TensorShapeProto { dim: dim.collect() }),
        };
        let value = Some(type_proto::Value::TensorType(tensor));
        let r#type = Some(TypeProto { value, ..TypeProto::default() });
        ValueInfoProto { name: Some(name.to_string()), r#type, ..ValueInfoProto::default() }
    };
    let element = storage.onnx_type();
    let (batch, length) = ("batch_size", "sequence_length");
    let mut graph = GraphProto { name: Some("main_graph".into()), ..GraphProto::default() };
    graph.input.push(port("input_ids", INT64, vec![named(batch), named(length)]));
    graph.input.push(port("attention_mask", INT64, vec![named(batch), named("total_sequence_length")]));
    graph.output.push(port("logits", element, vec![named(batch), named(length), known(shape.vocabulary)]));
    for layer in 0..shape.layers {
        for part in ["key", "value"] {
            let cache =
                |length: &str| vec![named(batch), known(shape.groups), named(length), known(shape.head())];
            let past = format!("past_key_values.{layer}.{part}");
            graph.input.push(port(&past, element, cache("past_sequence_length")));
            graph.output.push(port(
                &format!("present.{layer}.{part}"),
                element,
                cache("total_sequence_length"),
            ));
        }
    }
    graph
}

/// The model around a graph.
pub(super) fn model(graph: GraphProto) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_string()),
        version: Some(version),
    };
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset("", OPSET), opset("com.microsoft", 1)],
        producer_name: Some("tilewright synthesize".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// Name and text of the files that stand beside a model.
pub(super) fn configurations(shape: &Shape, storage: Storage) -> [(&'static str, String); 2] {
    let end = end_token(shape);
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups,
        "head_dim": shape.head(),
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.theta,
        "tie_word_embeddings": shape.is_tied,
        "bos_token_id": 0,
        "eos_token_id": end,
        "dtype": storage.name(),
    });
    let generation = serde_json::json!({
        "bos_token_id": 0, "eos_token_id": [end], "do_sample": false, "max_new_tokens": 128,
    });
    [("config.json", format!("{config:#}\n")), ("generation_config.json", format!("{generation:#}\n"))]
}
