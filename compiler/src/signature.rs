//! A model's border: its inputs and outputs by name, and which of them are two ends of one state.
//!
//! Read from the `tw.name`, `tw.state` and `tw.strings` entries of a function's `arg_attrs` and `res_attrs`.

use crate::strings;
use std::sync::Arc;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::module::{Module, OpId};
use tilewright_ir::types::TensorType;

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the source model.
    pub name: Arc<str>,
    /// Its type.
    pub ty: TensorType,
    /// The other end, when it is a state.
    pub state: Option<Arc<str>>,
    /// Whether it is strings, as code points ([`crate::strings`]).
    pub is_strings: bool,
}

impl Port {
    /// Its type as users know it: `tensor<?x3xf32, ["n"]>`, or `strings [n], up to 16 characters`.
    pub fn type_text(&self) -> String {
        match self.ty.shape.split_last() {
            Some((length, dims)) if self.is_strings => {
                let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
                format!("strings [{}], up to {length} characters", dims.join(", "))
            }
            _ => self.ty.to_string(),
        }
    }
}

/// A model's border.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Inputs in graph order.
    pub inputs: Vec<Port>,
    /// Outputs in graph order.
    pub outputs: Vec<Port>,
}

impl Signature {
    /// Reads a function's border. Ports without a name are called `input_K` and `output_K`.
    pub fn of(module: &Module, function: OpId) -> Signature {
        let block = module.entry(function, 0);
        let arguments = &module.block(block).arguments;
        let results = module.terminator(block).map(|op| module.op(op).operands.to_vec()).unwrap_or_default();
        let ports = |values: &[tilewright_ir::module::ValueId], list: &str, stem: &str| {
            let rows = match module.op(function).attributes.get(list) {
                Some(Attribute::Array(rows)) => rows.to_vec(),
                _ => Vec::new(),
            };
            let text = |index: usize, key: &str| match rows.get(index) {
                Some(Attribute::Dict(row)) => row.get(key).and_then(Attribute::as_str).map(Arc::from),
                _ => None,
            };
            let flag = |index: usize| match rows.get(index) {
                Some(Attribute::Dict(row)) => row.contains_key(strings::ATTRIBUTE),
                _ => false,
            };
            values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| {
                    let ty = module.tensor(*value)?.clone();
                    let name = text(index, "tw.name").unwrap_or_else(|| format!("{stem}_{index}").into());
                    Some(Port { name, ty, state: text(index, "tw.state"), is_strings: flag(index) })
                })
                .collect()
        };
        Signature {
            inputs: ports(arguments, "arg_attrs", "input"),
            outputs: ports(&results, "res_attrs", "output"),
        }
    }

    /// The inputs that are states.
    pub fn states(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().filter(|port| port.state.is_some())
    }
}
