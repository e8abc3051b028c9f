//! A Llama-shaped graph of any depth, decomposed as exporters write it, with weights by reference: for benches and tests.
//!
//! ```text
//! let module = synthetic::llama(&LlamaShape { layers: 16, ..LlamaShape::default() });
//! ```

use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Attributes, Elements, Resource};
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::{builtin, core};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::module::{Module, ValueId};
use tilewright_ir::op_def::OpDef;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{TensorType, Type};

/// Sizes of the model.
#[derive(Clone, Debug)]
pub struct LlamaShape {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub groups: i64,
    /// Width of the feed-forward part.
    pub inner: i64,
}

impl Default for LlamaShape {
    /// The shape of a 1B model.
    fn default() -> LlamaShape {
        LlamaShape { layers: 16, hidden: 2048, heads: 32, groups: 8, inner: 8192 }
    }
}

struct Maker<'a> {
    builder: Builder<'a>,
    shape: LlamaShape,
    /// Bytes that all weights share: never touched, so never in memory.
    zeros: Resource,
}

fn symbol(name: &str) -> Dim {
    Dim::symbol(name)
}

impl Maker<'_> {
    fn ty(&self, value: ValueId) -> TensorType {
        self.builder.module.tensor(value).expect("a tensor").clone()
    }

    fn op(&mut self, def: &'static OpDef, operands: &[ValueId]) -> ValueId {
        self.builder.op(def).operands(operands).value().expect("the synthetic graph is well formed")
    }

    fn typed(&mut self, def: &'static OpDef, x: ValueId, element: Element, dims: &[Dim]) -> ValueId {
        let ty = TensorType::new(element, dims.iter().cloned());
        self.builder.op(def).operand(x).result(ty).value().expect("the synthetic graph is well formed")
    }

    fn reshape(&mut self, x: ValueId, dims: &[Dim]) -> ValueId {
        self.typed(&core::RESHAPE, x, Element::F32, dims)
    }

    fn transpose(&mut self, x: ValueId, permutation: &[i64]) -> ValueId {
        let op = self.builder.op(&core::TRANSPOSE).operand(x).attribute("permutation", permutation);
        op.value().expect("the synthetic graph is well formed")
    }

    fn scalar(&mut self, value: f64) -> ValueId {
        self.builder.constant(&Tensor::splat(Element::F32, &[], value))
    }

    /// A weight: only its name and type count here.
    fn weight(&mut self, name: String, dims: &[i64]) -> ValueId {
        let ty = TensorType::of(Element::F32, dims);
        let length = dims.iter().product::<i64>() as usize * 4;
        let resource = Resource::new(&name, ty.clone(), self.zeros.bytes.slice(0..length));
        let elements = Elements::Resource(Arc::new(resource));
        let op = self.builder.op(&core::CONSTANT).attribute("value", elements).result(ty);
        op.value().expect("the synthetic graph is well formed")
    }

    fn norm(&mut self, x: ValueId, name: String) -> ValueId {
        let square = self.op(&core::MUL, &[x, x]);
        let axes: &[i64] = &[2];
        let mean = self.builder.op(&core::REDUCE_MEAN).operand(square).attribute("axes", axes);
        let mean = mean.attribute("keep_dims", true).value().expect("the synthetic graph is well formed");
        let epsilon = self.scalar(1e-5);
        let sum = self.op(&core::ADD, &[mean, epsilon]);
        let root = self.op(&core::SQRT, &[sum]);
        let inverse = self.op(&core::RECIPROCAL, &[root]);
        let scaled = self.op(&core::MUL, &[x, inverse]);
        let gain = self.weight(name, &[self.shape.hidden]);
        self.op(&core::MUL, &[gain, scaled])
    }

    fn project(&mut self, x: ValueId, name: String, from: i64, to: i64) -> ValueId {
        let weight = self.weight(name, &[from, to]);
        self.op(&core::MATMUL, &[x, weight])
    }

    fn heads(&mut self, x: ValueId, count: i64) -> ValueId {
        let head = self.shape.hidden / self.shape.heads;
        let split = self.reshape(x, &[Dim::Known(1), symbol("seq"), Dim::Known(count), Dim::Known(head)]);
        self.transpose(split, &[0, 2, 1, 3])
    }

    fn half(&mut self, x: ValueId, start: i64, length: i64) -> ValueId {
        let mut ty = self.ty(x);
        ty.shape[3] = Dim::Known(length);
        let mut starts = vec![Dim::Known(0); 4];
        starts[3] = Dim::Known(start);
        let steps: &[i64] = &[1, 1, 1, 1];
        let op = self.builder.op(&core::SLICE).operand(x).attribute("starts", Attribute::dims(&starts));
        op.attribute("steps", steps).result(ty).value().expect("the synthetic graph is well formed")
    }

    fn rotate(&mut self, x: ValueId, cos: ValueId, sin: ValueId) -> ValueId {
        let half = self.shape.hidden / self.shape.heads / 2;
        let (low, high) = (self.half(x, 0, half), self.half(x, half, half));
        let negated = self.op(&core::NEG, &[high]);
        let op = self.builder.op(&core::CONCAT).operands(&[negated, low]).attribute("axis", 3i64);
        let turned = op.value().expect("the synthetic graph is well formed");
        let (a, b) = (self.op(&core::MUL, &[x, cos]), self.op(&core::MUL, &[turned, sin]));
        self.op(&core::ADD, &[a, b])
    }

    fn cached(&mut self, past: ValueId, new: ValueId) -> ValueId {
        let op = self.builder.op(&core::CONCAT).operands(&[past, new]).attribute("axis", 2i64);
        op.value().expect("the synthetic graph is well formed")
    }

    fn repeat(&mut self, x: ValueId) -> ValueId {
        let (groups, heads) = (self.shape.groups, self.shape.heads);
        let ty = self.ty(x);
        let (keys, head) = (ty.shape[2].clone(), ty.shape[3].clone());
        let one = Dim::Known(1);
        let each = Dim::Known(heads / groups);
        let group = Dim::Known(groups);
        let apart = self.reshape(x, &[one.clone(), group.clone(), one.clone(), keys.clone(), head.clone()]);
        let wide = self.typed(
            &core::BROADCAST,
            apart,
            Element::F32,
            &[one.clone(), group, each, keys.clone(), head.clone()],
        );
        self.reshape(wide, &[one, Dim::Known(heads), keys, head])
    }

    fn attention(
        &mut self,
        x: ValueId,
        layer: usize,
        tables: &Tables,
        past: (ValueId, ValueId),
    ) -> (ValueId, ValueId, ValueId) {
        let shape = self.shape.clone();
        let head = shape.hidden / shape.heads;
        let name = |part: &str| format!("layers.{layer}.attention.{part}");
        let q = self.project(x, name("q"), shape.hidden, shape.hidden);
        let k = self.project(x, name("k"), shape.hidden, shape.groups * head);
        let v = self.project(x, name("v"), shape.hidden, shape.groups * head);
        let (q, k, v) =
            (self.heads(q, shape.heads), self.heads(k, shape.groups), self.heads(v, shape.groups));
        let (q, k) = (self.rotate(q, tables.cos, tables.sin), self.rotate(k, tables.cos, tables.sin));
        let (k, v) = (self.cached(past.0, k), self.cached(past.1, v));
        let (wide_k, wide_v) = (self.repeat(k), self.repeat(v));
        let turned = self.transpose(wide_k, &[0, 1, 3, 2]);
        let scores = self.op(&core::MATMUL, &[q, turned]);
        let scale = self.scalar(1.0 / (head as f64).sqrt());
        let scaled = self.op(&core::MUL, &[scores, scale]);
        let masked = self.op(&core::ADD, &[scaled, tables.mask]);
        let weights = self.builder.op(&core::SOFTMAX).operand(masked).attribute("axis", 3i64);
        let weights = weights.value().expect("the synthetic graph is well formed");
        let mixed = self.op(&core::MATMUL, &[weights, wide_v]);
        let back = self.transpose(mixed, &[0, 2, 1, 3]);
        let flat = self.reshape(back, &[Dim::Known(1), symbol("seq"), Dim::Known(shape.hidden)]);
        (self.project(flat, name("o"), shape.hidden, shape.hidden), k, v)
    }

    fn feed_forward(&mut self, x: ValueId, layer: usize) -> ValueId {
        let shape = self.shape.clone();
        let name = |part: &str| format!("layers.{layer}.mlp.{part}");
        let gate = self.project(x, name("gate"), shape.hidden, shape.inner);
        let up = self.project(x, name("up"), shape.hidden, shape.inner);
        let sigmoid = self.op(&core::SIGMOID, &[gate]);
        let silu = self.op(&core::MUL, &[gate, sigmoid]);
        let product = self.op(&core::MUL, &[silu, up]);
        self.project(product, name("down"), shape.inner, shape.hidden)
    }
}

struct Tables {
    cos: ValueId,
    sin: ValueId,
    mask: ValueId,
}

/// A decoder: `(x, cos, sin, mask, past keys and values..) -> (y, present keys and values..)`.
pub fn llama(shape: &LlamaShape) -> Module {
    let mut module = Module::new();
    let body = module.body();
    let attributes = Attributes::from([("sym_name".into(), "main".into())]);
    let function = module.create_op(&builtin::FUNCTION, &[], attributes, &[], Location::Unknown);
    let region = module.add_region(function);
    let head = shape.hidden / shape.heads;
    let known = Dim::Known;
    let total = &symbol("past") + &symbol("seq");
    let of = |dims: &[Dim]| Type::Tensor(TensorType::new(Element::F32, dims.iter().cloned()));
    let mut types = vec![
        of(&[known(1), symbol("seq"), known(shape.hidden)]),
        of(&[known(1), known(1), symbol("seq"), known(head)]),
        of(&[known(1), known(1), symbol("seq"), known(head)]),
        of(&[known(1), known(1), symbol("seq"), total]),
    ];
    let past = of(&[known(1), known(shape.groups), symbol("past"), known(head)]);
    types.extend(std::iter::repeat_n(past, 2 * shape.layers));
    let block = module.add_block(region, &types);
    module.append(body, function);
    let arguments = module.block(block).arguments.clone();
    let tables = Tables { cos: arguments[1], sin: arguments[2], mask: arguments[3] };
    let largest = shape.hidden * shape.hidden.max(shape.inner);
    let zeros = Resource::new(
        "zeros",
        TensorType::of(Element::F32, &[largest]),
        vec![0; 4 * largest as usize].into(),
    );
    let mut maker = Maker { builder: Builder::at_end(&mut module, block), shape: shape.clone(), zeros };
    let mut x = arguments[0];
    let mut presents = Vec::new();
    for layer in 0..shape.layers {
        maker.builder.location = Location::name(&format!("/layers.{layer}"));
        let normed = maker.norm(x, format!("layers.{layer}.norm"));
        let (mixed, k, v) =
            maker.attention(normed, layer, &tables, (arguments[4 + 2 * layer], arguments[5 + 2 * layer]));
        presents.extend([k, v]);
        x = maker.op(&core::ADD, &[x, mixed]);
        let normed = maker.norm(x, format!("layers.{layer}.mlp_norm"));
        let fed = maker.feed_forward(normed, layer);
        x = maker.op(&core::ADD, &[x, fed]);
    }
    let mut outputs = vec![x];
    outputs.extend(presents);
    maker
        .builder
        .op(&builtin::RETURN)
        .operands(&outputs)
        .build()
        .expect("the synthetic graph is well formed");
    let results = outputs.iter().map(|value| module.ty(*value).clone()).collect();
    let ty = Type::Function(types, results);
    module.op_mut(function).attributes.insert("function_type".into(), ty.into());
    module
}
