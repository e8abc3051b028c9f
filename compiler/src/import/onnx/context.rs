//! What a row sees of its node: inputs, attributes with types and defaults, and the emitter to make ops with.
//!
//! Inputs may be left out in the middle; attributes of the wrong type are faults that name both types.

use super::emit::Emitter;
use super::fault::{Fault, Outcome};
use super::importer::Importer;
use super::operand::Operand;
use super::schema::{AttributeProto, GraphProto, NodeProto, TensorProto};
use super::symbolic::Symbolic;
use super::{fold, weights};
use std::ops::{Deref, DerefMut};
use tilewright_ir::attribute::Elements;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::normalize_axis;
use tilewright_ir::tensor::Tensor;

/// `AttributeProto.AttributeType` by number.
const ATTRIBUTE_TYPES: &[&str] = &[
    "UNDEFINED",
    "FLOAT",
    "INT",
    "STRING",
    "TENSOR",
    "GRAPH",
    "FLOATS",
    "INTS",
    "STRINGS",
    "TENSORS",
    "GRAPHS",
    "SPARSE_TENSOR",
    "SPARSE_TENSORS",
    "TYPE_PROTO",
    "TYPE_PROTOS",
];

/// A node being imported.
pub(crate) struct NodeContext<'i, 'm> {
    /// The import.
    pub(crate) importer: &'i mut Importer<'m>,
    /// The node as stored.
    pub(crate) node: &'i NodeProto,
    /// The opset version that its domain has.
    pub(crate) version: i64,
    /// Its inputs; `None` where left out.
    pub(crate) inputs: Vec<Option<Operand>>,
}

impl Deref for NodeContext<'_, '_> {
    type Target = Emitter;
    fn deref(&self) -> &Emitter {
        &self.importer.emit
    }
}

impl DerefMut for NodeContext<'_, '_> {
    fn deref_mut(&mut self) -> &mut Emitter {
        &mut self.importer.emit
    }
}

impl<'i> NodeContext<'i, '_> {
    /// Number of inputs given, holes included.
    pub(crate) fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// An input that may be left out.
    pub(crate) fn optional(&self, index: usize) -> Option<Operand> {
        self.inputs.get(index).cloned().flatten()
    }

    /// A required input.
    pub(crate) fn input(&self, index: usize) -> Outcome<Operand> {
        self.optional(index).ok_or_else(|| Fault::model(format!("input {index} is missing")))
    }

    /// The data of a required input.
    pub(crate) fn value(&mut self, index: usize) -> Outcome<ValueId> {
        let operand = self.input(index)?;
        self.data(&operand)
    }

    /// The code points of a required input of strings: `[.., length]`.
    pub(crate) fn strings(&mut self, index: usize) -> Outcome<ValueId> {
        let operand = self.input(index)?;
        match operand.as_strings() {
            Some(codes) => self.data(codes),
            None => Err(Fault::model(format!("input {index} must be strings, found {}", operand.ty()))),
        }
    }

    /// The data of an input that may be left out.
    pub(crate) fn optional_value(&mut self, index: usize) -> Outcome<Option<ValueId>> {
        self.optional(index).map(|operand| self.data(&operand)).transpose()
    }

    /// Number of outputs named, holes included.
    pub(crate) fn output_count(&self) -> usize {
        self.node.output.len()
    }

    /// True if something reads that output.
    pub(crate) fn wants(&self, output: usize) -> bool {
        self.node.output.get(output).is_some_and(|name| !name.is_empty())
    }

    /// The values of an input as dimension expressions.
    ///
    /// # Errors
    /// When they are not known at compile time.
    pub(crate) fn dims(&mut self, index: usize) -> Outcome<Symbolic> {
        let operand = self.input(index)?;
        self.symbolic_of(&operand).ok_or_else(|| {
            let what = format!("input {index} must follow from shapes and constants, but depends on data");
            Fault::unsupported(what, self.way_to_freeze(&operand))
        })
    }

    /// The values of an operand as dimension expressions, where they follow from shapes and constants.
    pub(crate) fn symbolic_of(&self, operand: &Operand) -> Option<Symbolic> {
        operand.as_symbolic().or_else(|| {
            let tensor = fold::constant(&self.importer.emit.module, operand)?;
            let values = tensor.ints().into_iter().map(Dim::Known).collect();
            if tensor.element.is_float() {
                None
            } else {
                Symbolic::new(tensor.element, &tensor.shape, values)
            }
        })
    }

    /// The dimension expressions of all inputs, if all have them.
    pub(crate) fn all_symbolic(&self) -> Option<Vec<Symbolic>> {
        let inputs: Option<Vec<Operand>> = self.inputs.iter().cloned().collect();
        let inputs = inputs?;
        inputs.iter().map(|operand| operand.as_symbolic()).collect()
    }

    /// The numbers of an input that must be known at compile time.
    pub(crate) fn known_ints(&mut self, index: usize) -> Outcome<Vec<i64>> {
        self.dims(index)?.known().ok_or_else(|| {
            Fault::unsupported(
                format!("input {index} must be known at compile time, but depends on symbolic dimensions"),
                "bind them with --bind NAME=VALUE",
            )
        })
    }

    /// How the user makes a value known that the compiler needs.
    pub(crate) fn way_to_freeze(&self, operand: &Operand) -> String {
        let names = fold::inputs_of(&self.importer.emit.module, operand);
        if names.is_empty() {
            return "export with this value fixed, or bind the dimensions it follows from".into();
        }
        let flags: Vec<String> = names.iter().map(|name| format!("--freeze {name}=VALUE")).collect();
        format!("give the values of the inputs that it follows from: {}", flags.join(" "))
    }

    /// The value of an input that must be a small constant.
    pub(crate) fn known_tensor(&mut self, index: usize) -> Outcome<Tensor> {
        let operand = self.input(index)?;
        fold::constant(&self.importer.emit.module, &operand).ok_or_else(|| {
            let what = format!("input {index} must be a constant, but depends on data");
            Fault::unsupported(what, self.way_to_freeze(&operand))
        })
    }

    /// An axis attribute or the like, counted from 0.
    pub(crate) fn axis(&mut self, name: &str, default: i64, rank: usize) -> Outcome<usize> {
        let axis = self.int(name, default)?;
        normalize_axis(axis, rank).ok_or_else(|| {
            Fault::model(format!("attribute '{name}' = {axis} is out of range for rank {rank}"))
        })
    }

    /// Axes from an attribute (old opsets) or an input (new ones); `None` when neither is given.
    pub(crate) fn axes(&mut self, input: usize, rank: usize) -> Outcome<Option<Vec<usize>>> {
        let axes = match self.ints_attribute("axes")? {
            Some(axes) => Some(axes.to_vec()),
            None => match self.optional(input) {
                Some(_) => Some(self.known_ints(input)?),
                None => None,
            },
        };
        axes.map(|axes| axes.into_iter().map(|axis| super::emit::axis_of(axis, rank)).collect()).transpose()
    }

    fn attribute(&self, name: &str, kind: i32) -> Outcome<Option<&'i AttributeProto>> {
        #[cfg(test)]
        asked::note(name, kind);
        let Some(attribute) =
            self.node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
        else {
            return Ok(None);
        };
        let found = attribute.r#type.unwrap_or(0);
        // Files of IR version 1 leave the type out.
        if found != kind && found != 0 {
            let text = |kind: i32| ATTRIBUTE_TYPES.get(kind as usize).copied().unwrap_or("unknown");
            return Err(Fault::model(format!(
                "attribute '{name}' must be {}, found {}",
                text(kind),
                text(found)
            )));
        }
        Ok(Some(attribute))
    }

    /// True if the attribute is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        #[cfg(test)]
        asked::note(name, 0);
        self.node.attribute.iter().any(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// An integer attribute, or the default.
    pub(crate) fn int(&self, name: &str, default: i64) -> Outcome<i64> {
        Ok(self.attribute(name, 2)?.and_then(|attribute| attribute.i).unwrap_or(default))
    }

    /// A required integer attribute.
    pub(crate) fn required_int(&self, name: &str) -> Outcome<i64> {
        let value = self.attribute(name, 2)?.and_then(|attribute| attribute.i);
        value.ok_or_else(|| Fault::model(format!("attribute '{name}' is missing")))
    }

    /// A truth attribute (an integer in ONNX), or the default.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Outcome<bool> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// A float attribute, or the default.
    pub(crate) fn float(&self, name: &str, default: f64) -> Outcome<f64> {
        Ok(self.attribute(name, 1)?.and_then(|attribute| attribute.f).map_or(default, f64::from))
    }

    /// A text attribute, or the default.
    pub(crate) fn text(&self, name: &str, default: &str) -> Outcome<String> {
        let value = self.attribute(name, 3)?.and_then(|attribute| attribute.s.as_deref());
        Ok(value.map_or(default.to_string(), |bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    /// A list of integers, if given.
    pub(crate) fn ints_attribute(&self, name: &str) -> Outcome<Option<&'i [i64]>> {
        Ok(self.attribute(name, 7)?.map(|attribute| attribute.ints.as_slice()))
    }

    /// A list of floats, if given.
    pub(crate) fn floats_attribute(&self, name: &str) -> Outcome<Option<&'i [f32]>> {
        Ok(self.attribute(name, 6)?.map(|attribute| attribute.floats.as_slice()))
    }

    /// A list of texts, if given.
    pub(crate) fn texts_attribute(&self, name: &str) -> Outcome<Option<Vec<String>>> {
        let Some(attribute) = self.attribute(name, 8)? else { return Ok(None) };
        let texts: Result<Vec<String>, _> =
            attribute.strings.iter().map(|text| String::from_utf8(text.clone())).collect();
        texts
            .map(Some)
            .map_err(|_| Fault::model(format!("attribute '{name}' holds a text that is not UTF-8")))
    }

    /// A tensor attribute, if given.
    pub(crate) fn tensor_attribute(&mut self, name: &str) -> Outcome<Option<Elements>> {
        let attribute = self.attribute(name, 4)?;
        let Some(tensor) = attribute.and_then(|attribute| attribute.t.as_ref()) else { return Ok(None) };
        self.stored(tensor).map(Some)
    }

    /// A tensor attribute as a value, which may be strings.
    pub(crate) fn constant_attribute(&mut self, name: &str) -> Outcome<Option<Operand>> {
        let attribute = self.attribute(name, 4)?;
        let Some(tensor) = attribute.and_then(|attribute| attribute.t.as_ref()) else { return Ok(None) };
        let made = weights::operand(tensor, self.importer.external);
        made.map(Some).map_err(|what| Fault::model(format!("tensor attribute: {what}")))
    }

    fn stored(&mut self, tensor: &TensorProto) -> Outcome<Elements> {
        weights::elements(tensor, self.importer.external)
            .map_err(|what| Fault::model(format!("tensor attribute: {what}")))
    }

    /// A subgraph attribute.
    pub(crate) fn graph(&self, name: &str) -> Outcome<&'i GraphProto> {
        let graph = self.attribute(name, 5)?.and_then(|attribute| attribute.g.as_ref());
        graph.ok_or_else(|| Fault::model(format!("subgraph '{name}' is missing")))
    }

    /// An element type attribute (a `TensorProto.DataType` number).
    pub(crate) fn element_attribute(&self, name: &str, default: Element) -> Outcome<Element> {
        match self.int(name, 0)? {
            0 => Ok(default),
            number => i32::try_from(number)
                .map_err(|_| format!("data type {number} is not known"))
                .and_then(weights::element_of)
                .map_err(|what| {
                    Fault::unsupported(format!("attribute '{name}': {what}"), "use another type")
                }),
        }
    }

    /// A finished value as the node's only output.
    pub(crate) fn one(&self, value: ValueId) -> Outcome<Vec<Operand>> {
        Ok(vec![self.importer.emit.operand(value)])
    }

    /// Finished values as the node's outputs.
    pub(crate) fn many(&self, values: &[ValueId]) -> Outcome<Vec<Operand>> {
        Ok(values.iter().map(|value| self.importer.emit.operand(*value)).collect())
    }
}

/// Which attributes the rows ask for, so that tests can draw them.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static NAMES: RefCell<BTreeSet<(String, i32)>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Forgets what was asked before.
    pub(crate) fn start() {
        NAMES.with_borrow_mut(BTreeSet::clear);
    }

    /// Notes a name and the type asked for; 0 for any.
    pub(super) fn note(name: &str, kind: i32) {
        NAMES.with_borrow_mut(|names| names.insert((name.to_string(), kind)));
    }

    /// What was asked since the start.
    pub(crate) fn names() -> BTreeSet<(String, i32)> {
        NAMES.with_borrow(Clone::clone)
    }
}
