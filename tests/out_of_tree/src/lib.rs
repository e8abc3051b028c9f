//! A user's NPU, out of tree: one op, one rewrite rule, one pass and one target, registered through the public API.

use tilewright::session::Session;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::module::{Module, OpId};
use tilewright_ir::op_def::{Evaluate, Infer, OpDef, Traits, TypeRule, value};
use tilewright_ir::registry::Dialect;
use tilewright_passes::machine::Machine;
use tilewright_passes::pass::{Pass, PassContext, PassDef};
use tilewright_targets::lowering::{Lowering, LoweringContext, Subject, engine};
use tilewright_targets::target::{Figures, Target};

/// The dialect: one op.
pub static DIALECT: Dialect = Dialect { name: "acme", doc: "Ops of ACME's NPU.", ops: &[&SQUARED_RELU] };

/// y = max(x, 0)^2
pub static SQUARED_RELU: OpDef = OpDef {
    name: "acme.squared_relu",
    doc: "result = max(x, 0)^2, element by element. So et al. 2021, arXiv:2109.08668.",
    operands: &[value("x", TypeRule::FloatTensor)],
    results: &[value("result", TypeRule::FloatTensor)],
    axes: ".. -> ..",
    traits: Traits::PURE.with(Traits::ELEMENTWISE),
    infer: Infer::LikeOperand(0),
    evaluate: Evaluate::With(|call| Ok(vec![call.operand(0).map(|x| x.max(0.0) * x.max(0.0))])),
    ..OpDef::DEFAULT
};

/// The pass: what ACME's compiler checks before lowering.
pub static CHECK: PassDef = PassDef {
    name: "acme-check",
    doc: "Warns of each rectifier that is not squared: ACME's NPU runs those at half speed.",
    options: &[],
    make: |_| Ok(Box::new(Check)),
};

struct Check;

impl Pass for Check {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        for op in module.all_ops() {
            if module.op(op).def == &core::RELU {
                let location = module.op(op).location.clone();
                context.warn(location, "a rectifier runs at half speed", "square it, as Primer does");
            }
        }
        Ok(())
    }
}

/// The target: a machine and a table. What it has no row for runs on the host.
pub static TARGET: Target = Target {
    name: "acme-npu",
    doc: "An example of a target in a crate of its own: squares and adds on its vector unit.",
    machine: Figures::Made(|| Machine {
        name: "acme-npu".into(),
        sram_bytes: 64 << 10,
        ..Machine::reference()
    }),
    copy_engine: engine::HOST,
    evidence: &[],
    lowerings: &[Lowering { subject: Subject::Op(&SQUARED_RELU), place: |_| Ok(()), lower: squared_relu }],
};

/// Loads the tensor into SRAM, squares it there, stores it.
fn squared_relu(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let y = context.destination(context.result(op, 0))?;
    let on_chip = context.buffer("sram", x.element, &x.dims)?;
    context.transfer(engine::DMA0, &on_chip, &x)?;
    let relu = context.command(&tile::UNARY, engine::VECTOR).view(&on_chip).view(&on_chip);
    relu.attribute("function", "relu").emit()?;
    let square = context.command(&tile::BINARY, engine::VECTOR).view(&on_chip).view(&on_chip).view(&on_chip);
    square.attribute("function", "mul").emit()?;
    context.transfer(engine::DMA1, &y, &on_chip)
}

/// The compiler with ACME's parts: `acme::session().run_cli()` is the whole tool.
pub fn session() -> Session {
    Session::new()
        .with_dialect(&DIALECT)
        .with_passes(&[&CHECK])
        .with_target(&TARGET)
        .with_rules("acme.rules", include_str!("acme.rules"))
}
