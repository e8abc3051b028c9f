//! Which inputs the products of a module's weights have, and which weights share one.
//!
//! Products that read one value share its statistics (query, key and value of a layer); a weight that several products use gets statistics
//! over all their inputs. A weight whose rows are only looked up has no input.
//!
//! ```text
//! %q = "core.matmul"(%x, %wq); %k = "core.matmul"(%x, %wk)     =>   one input %x, two weights
//! ```

use std::collections::BTreeMap;
use tilewright_ir::dialects::core;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_passes::quantize_weights::roles::Weight;

/// An input with statistics of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its channels, k.
    pub size: usize,
    /// The weights that it is multiplied by, by their place in the list.
    pub weights: Vec<usize>,
}

/// The inputs of products with weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Products {
    /// Inputs in order of first use.
    pub inputs: Vec<Input>,
    /// The inputs that the first operand of an op belongs to.
    pub observed: BTreeMap<OpId, Vec<usize>>,
}

impl Products {
    /// Of some weights of a module.
    pub fn of<'w>(module: &Module, weights: impl IntoIterator<Item = (usize, &'w Weight)>) -> Products {
        let mut products = Products::default();
        let mut by_values: BTreeMap<Vec<ValueId>, usize> = BTreeMap::new();
        for (index, weight) in weights {
            let mut used: Vec<(ValueId, OpId)> = Vec::new();
            let multiplies = weight.uses.iter().filter(|one| {
                let def = module.op(one.op).def;
                one.slot == 1 && (def == &core::MATMUL || def == &core::LINEAR)
            });
            for one in multiplies {
                let x = module.op(one.op).operands[0];
                if used.iter().all(|(value, _)| *value != x) {
                    used.push((x, one.op));
                }
            }
            if used.is_empty() {
                continue;
            }
            let (size, _) = weight.extents(module);
            let values: Vec<ValueId> = used.iter().map(|(value, _)| *value).collect();
            let number = *by_values.entry(values).or_insert_with(|| {
                products.inputs.push(Input { size, weights: Vec::new() });
                let number = products.inputs.len() - 1;
                for (_, op) in &used {
                    products.observed.entry(*op).or_default().push(number);
                }
                number
            });
            products.inputs[number].weights.push(index);
        }
        products
    }
}
