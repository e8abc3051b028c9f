//! Masks: what is proved becomes attributes and computes the same; what is not proved stays.

use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::{builtin, core};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::evaluate;
use tilewright_ir::location::Location;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::registry::Registry;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{TensorType, Type};
use tilewright_passes::pass::{PassContext, Passes};
use tilewright_passes::pipeline::PassManager;

const PAST: usize = 3;
const SEQ: usize = 2;

/// How the mask of a test attention is built.
#[derive(Clone, Copy)]
struct Shape {
    /// `key <= query + offset + past`.
    offset: i64,
    /// `key > query + past - window`, when not negative.
    window: i64,
    /// Positions from an input instead of an iota.
    positions: bool,
}

fn types() -> Vec<Type> {
    let (past, seq, one) = (Dim::symbol("past"), Dim::symbol("seq"), Dim::Known(1));
    let total = &past + &seq;
    let f32 = |dims: &[Dim]| Type::Tensor(TensorType::new(Element::F32, dims.iter().cloned()));
    let i64 = |dims: &[Dim]| Type::Tensor(TensorType::new(Element::I64, dims.iter().cloned()));
    vec![
        f32(&[one.clone(), Dim::Known(2), seq.clone(), Dim::Known(4)]),
        f32(&[one.clone(), one.clone(), total.clone(), Dim::Known(4)]),
        i64(&[one, total]),
        i64(&[seq]),
    ]
}

fn build(shape: Shape) -> Module {
    let mut module = Module::new();
    let body = module.body();
    let attributes = Attributes::from([("sym_name".into(), "main".into())]);
    let function = module.create_op(&builtin::FUNCTION, &[], attributes, &[], Location::Unknown);
    let region = module.add_region(function);
    let block = module.add_block(region, &types());
    module.append(body, function);
    let arguments = module.block(block).arguments.clone();
    let (past, seq) = (Dim::symbol("past"), Dim::symbol("seq"));
    let total = &past + &seq;
    let one = Dim::Known(1);
    let mut b = Builder::at_end(&mut module, block);
    let ramp = |b: &mut Builder, length: &Dim, dims: [Dim; 2]| -> ValueId {
        let iota =
            b.op(&core::IOTA).attribute("axis", 0i64).result(TensorType::new(Element::I64, [length.clone()]));
        let iota = iota.value().unwrap();
        b.op(&core::RESHAPE).operand(iota).result(TensorType::new(Element::I64, dims)).value().unwrap()
    };
    let keys = ramp(&mut b, &total, [one.clone(), total.clone()]);
    let queries = if shape.positions {
        let wide = TensorType::new(Element::I64, [seq.clone(), one.clone()]);
        b.op(&core::RESHAPE).operand(arguments[3]).result(wide).value().unwrap()
    } else {
        ramp(&mut b, &seq, [seq.clone(), one.clone()])
    };
    let limit = &past + &Dim::Known(shape.offset);
    let size = |b: &mut Builder, dim: &Dim| {
        b.op(&core::SIZE).attribute("value", Attribute::dim(dim)).value().unwrap()
    };
    let shift = size(&mut b, &limit);
    let last = b.op(&core::ADD).operands(&[queries, shift]).value().unwrap();
    let mut keep = b.op(&core::COMPARE).operands(&[keys, last]).attribute("predicate", "le").value().unwrap();
    if shape.window >= 0 {
        let shift = size(&mut b, &(&past - &Dim::Known(shape.window)));
        let first = b.op(&core::ADD).operands(&[queries, shift]).value().unwrap();
        let near =
            b.op(&core::COMPARE).operands(&[keys, first]).attribute("predicate", "gt").value().unwrap();
        keep = b.op(&core::LOGICAL).operands(&[keep, near]).attribute("function", "and").value().unwrap();
    }
    let seen = TensorType::new(Element::Bool, [one.clone(), total.clone()]);
    let seen = b.op(&core::CAST).operand(arguments[2]).result(seen).value().unwrap();
    let apart = TensorType::new(Element::Bool, [one.clone(), one.clone(), one, total]);
    let seen = b.op(&core::RESHAPE).operand(seen).result(apart).value().unwrap();
    let keep = b.op(&core::LOGICAL).operands(&[keep, seen]).attribute("function", "and").value().unwrap();
    let zero = b.constant(&Tensor::splat(Element::F32, &[], 0.0));
    let hidden = b.constant(&Tensor::splat(Element::F32, &[], f64::from(f32::MIN)));
    let mask = b.op(&core::SELECT).operands(&[keep, zero, hidden]).value().unwrap();
    let (q, k) = (arguments[0], arguments[1]);
    let y = b.op(&core::ATTENTION).operands(&[q, k, k, mask]).maybe(None).attribute("scale", 0.5);
    let y = y.value().unwrap();
    b.op(&builtin::RETURN).operand(y).build().unwrap();
    let ty = Type::Function(types(), vec![module.ty(y).clone()]);
    module.op_mut(function).attributes.insert("function_type".into(), ty.into());
    module
}

fn inputs() -> Vec<Tensor> {
    let ramp = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        Tensor::from_floats(
            Element::F32,
            shape,
            (0..count).map(|at| ((at * 7) % 11) as f64 / 5.0 - 1.0).collect(),
        )
    };
    let total = (PAST + SEQ) as i64;
    vec![
        ramp(&[1, 2, SEQ, 4]),
        ramp(&[1, 1, PAST + SEQ, 4]),
        Tensor::from_ints(Element::I64, &[1, total], vec![0, 1, 1, 1, 1]),
        Tensor::from_ints(Element::I64, &[SEQ as i64], vec![0, 1]),
    ]
}

fn absorbed(shape: Shape) -> (Module, OpId) {
    let mut module = build(shape);
    let before = evaluate::run(&module, "main", &inputs()).unwrap();
    let mut context = PassContext::new(Registry::builtin());
    let manager = PassManager::parse("absorb-masks,canonicalize,dce", &Passes::default()).unwrap();
    manager.run(&mut module, &mut context, &mut []).unwrap();
    let after = evaluate::run(&module, "main", &inputs()).unwrap();
    for (a, b) in before[0].floats().iter().zip(after[0].floats()) {
        assert!((a - b).abs() < 1e-6, "{a} before, {b} after");
    }
    let op = module.all_ops().into_iter().find(|op| module.op(*op).def == &core::ATTENTION).unwrap();
    (module, op)
}

fn attribute(module: &Module, op: OpId, name: &str) -> Option<Attribute> {
    module.op(op).attributes.get(name).cloned()
}

const CAUSAL: Shape = Shape { offset: 0, window: -1, positions: false };

#[test]
fn a_causal_mask_with_padding_is_taken_in() {
    let (module, op) = absorbed(CAUSAL);
    assert_eq!(attribute(&module, op, "causal"), Some(Attribute::Bool(true)));
    let mask = module.operand_at(op, 3).expect("a padding mask stays");
    assert_eq!(module.ty(mask).to_string(), "tensor<1x1x1x?xi1, [\"past + seq\"]>");
    assert!(
        module.all_ops().iter().all(|op| module.op(*op).def != &core::IOTA),
        "the wide mask is still built"
    );
}

#[test]
fn a_window_is_taken_in() {
    let (module, op) = absorbed(Shape { window: 2, ..CAUSAL });
    assert_eq!(attribute(&module, op, "causal"), Some(Attribute::Bool(true)));
    assert_eq!(attribute(&module, op, "window"), Some(Attribute::Int(2)));
}

#[test]
fn what_is_not_proved_stays() {
    for shape in
        [Shape { offset: -1, ..CAUSAL }, Shape { offset: 1, ..CAUSAL }, Shape { positions: true, ..CAUSAL }]
    {
        let (module, op) = absorbed(shape);
        assert_eq!(attribute(&module, op, "causal"), None);
        let mask = module.operand_at(op, 3).expect("the mask stays");
        assert_eq!(module.tensor(mask).unwrap().element, Element::F32);
    }
}
