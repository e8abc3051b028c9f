//! Runs a program in the interpreter on tensors.

use tilewright_ir::dim::Bindings;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;
use tilewright_runtime::disassemble::disassemble;
use tilewright_runtime::interpreter::TransferMode;
use tilewright_runtime::session::{Options, Session};
use tilewright_runtime::stream::Program;
use tilewright_targets::emit::constants::ConstantPool;

/// A session over one program. Transfers move their bytes as late as they may, so that a missing wait shows.
pub(crate) fn session(program: &Program, constants: &ConstantPool, what: &str) -> Session {
    let image = constants.image().unwrap_or_else(|error| panic!("{what}: {error}"));
    let options = Options { transfer_mode: TransferMode::AtWait, ..Options::default() };
    let session = Session::from_programs(vec![program.clone()], image, options);
    session.unwrap_or_else(|error| panic!("{what}: {error}\n{}", disassemble(program, Default::default())))
}

/// Binds registers and sets inputs by position.
pub(crate) fn feed(
    session: &mut Session,
    program: &Program,
    inputs: &[Tensor],
    bindings: &Bindings,
    what: &str,
) {
    for register in program.registers.iter().filter(|register| register.is_bound) {
        if let Some(value) = bindings.get(register.name.as_str()) {
            session.bind(&register.name, *value).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
    for (binding, input) in program.inputs.iter().zip(inputs) {
        let set = session.set_input(&binding.name, &input.shape, &input.to_bytes());
        set.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// Runs a program; its outputs in order, as the element types of the expected ones.
pub(crate) fn run(
    program: &Program,
    constants: &ConstantPool,
    inputs: &[Tensor],
    bindings: &Bindings,
    expected: &[Tensor],
    what: &str,
) -> Vec<Tensor> {
    let mut session = session(program, constants, what);
    feed(&mut session, program, inputs, bindings, what);
    session
        .run()
        .unwrap_or_else(|error| panic!("{what}: {error}\n{}", disassemble(program, Default::default())));
    let outputs = program.outputs.iter().zip(expected);
    outputs.map(|(binding, expected)| output(&mut session, &binding.name, expected, what)).collect()
}

/// One output, in the element type of the expected one.
pub(crate) fn output(session: &mut Session, name: &str, expected: &Tensor, what: &str) -> Tensor {
    let found = session.output(name).unwrap_or_else(|error| panic!("{what}: {error}"));
    let shape: Vec<i64> = found.shape.iter().map(|dim| *dim as i64).collect();
    let ty = TensorType::of(expected.element, &shape);
    Tensor::from_bytes(&ty, &found.bytes).unwrap_or_else(|error| panic!("{what}: {error}"))
}
