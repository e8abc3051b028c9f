//! Runs samples through the reference evaluator and keeps second moments of the inputs of products.
//!
//! Samples run in parallel, each with sums of its own that are added in the order of the samples: the result does not depend on the number
//! of threads. Moments take `8 k^2` bytes per input and thread; when all together are more than allowed, inputs are taken in turns, each turn
//! running the samples again.

use super::products::Products;
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dim::Bindings;
use tilewright_ir::evaluate;
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::quantizer::Hessian;
use tilewright_ir::tensor::{Data, Tensor};

/// What moments may take together, in bytes, when nothing else is said.
pub const MOMENTS_BYTES_MAX: usize = 1 << 30;

/// One run of a model: values of its inputs in graph order, and of its symbols.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Inputs.
    pub inputs: Vec<Tensor>,
    /// Symbols.
    pub bindings: Bindings,
}

/// Inputs in groups whose moments fit the allowance together, each input at least alone.
fn turns(products: &Products, bytes_max: usize, threads: usize) -> Vec<Vec<usize>> {
    let mut turns: Vec<Vec<usize>> = Vec::new();
    let mut taken = 0;
    for (number, input) in products.inputs.iter().enumerate() {
        // The total, and one per sample that is on its way.
        let bytes = Hessian::bytes(input.size).saturating_mul(threads + 1);
        match turns.last_mut() {
            Some(turn) if taken + bytes <= bytes_max => turn.push(number),
            _ => {
                turns.push(vec![number]);
                taken = 0;
            }
        }
        taken += bytes;
    }
    turns
}

/// Hands the moments of every input to `each`, turn by turn; `progress` is called after each sample of each turn with the share done.
///
/// # Errors
/// What the evaluator says of a sample; what `each` says; activations that are not finite.
pub fn collect(
    module: &Module,
    products: &Products,
    samples: &[Sample],
    bytes_max: usize,
    progress: &(dyn Fn(f64) + Sync),
    mut each: impl FnMut(usize, Hessian) -> Result<(), Diagnostics>,
) -> Result<(), Diagnostics> {
    let threads = rayon::current_num_threads();
    let turns = turns(products, bytes_max, threads);
    let total = (turns.len() * samples.len()).max(1) as f64;
    for (turn, inputs) in turns.iter().enumerate() {
        let mut sums: BTreeMap<usize, Hessian> =
            inputs.iter().map(|input| (*input, Hessian::new(products.inputs[*input].size))).collect();
        for (batch, chunk) in samples.chunks(threads).enumerate() {
            let run: Vec<Result<BTreeMap<usize, Hessian>, Diagnostics>> =
                chunk.par_iter().map(|sample| observe(module, products, inputs, sample)).collect();
            for (at, moments) in run.into_iter().enumerate() {
                for (input, moments) in moments? {
                    if let Some(sum) = sums.get_mut(&input) {
                        sum.merge(&moments);
                    }
                }
                progress((turn * samples.len() + batch * threads + at + 1) as f64 / total);
            }
        }
        for (input, moments) in sums {
            each(input, moments)?;
        }
    }
    Ok(())
}

/// The moments of some inputs over one sample.
fn observe(
    module: &Module,
    products: &Products,
    inputs: &[usize],
    sample: &Sample,
) -> Result<BTreeMap<usize, Hessian>, Diagnostics> {
    let moments: RefCell<BTreeMap<usize, Hessian>> = RefCell::default();
    let fault = RefCell::new(None);
    let function = module.functions().first().and_then(|function| module.symbol_name(*function));
    let run = evaluate::run_observed(
        module,
        function.unwrap_or("main"),
        &sample.inputs,
        &sample.bindings,
        &|op, operands| {
            for input in products.observed.get(&op).into_iter().flatten().filter(|one| inputs.contains(one)) {
                let rows = floats(&operands[0]);
                if rows.iter().any(|value| !value.is_finite()) {
                    fault.borrow_mut().get_or_insert(op);
                    continue;
                }
                let size = products.inputs[*input].size;
                moments.borrow_mut().entry(*input).or_insert_with(|| Hessian::new(size)).add(&rows);
            }
        },
    );
    run.map_err(|error| vec![Diagnostic::error(Location::name(&error.location), error.to_string())])?;
    if let Some(op) = fault.into_inner() {
        let operation = module.op(op);
        let what = format!("'{}' gets activations that are not finite", operation.def.name);
        return Err(vec![
            Diagnostic::error(operation.location.clone(), what).with_help(
                "the model overflows on this text: give other samples, or a model in a wider type",
            ),
        ]);
    }
    Ok(moments.into_inner())
}

fn floats(tensor: &Tensor) -> std::borrow::Cow<'_, [f32]> {
    match &tensor.data {
        Data::F32(values) => values.into(),
        _ => tensor.floats().into_iter().map(|value| value as f32).collect::<Vec<_>>().into(),
    }
}
