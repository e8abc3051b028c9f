//! Look-ups of numbers and strings in lists that the model holds: LabelEncoder, CategoryMapper, OneHotEncoder, and the labels of
//! classifiers.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, of};
use super::strings;
use crate::strings::decode;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

const DOMAIN: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] = &[
    of(DOMAIN, "CategoryMapper", category_mapper).with_strings(),
    of(DOMAIN, "LabelEncoder", label_encoder).with_strings(),
    of(DOMAIN, "OneHotEncoder", one_hot_encoder).with_strings().refuses("zeros = 0"),
];

/// Keys, values or the default of a look-up; labels.
pub(super) enum Entries {
    Numbers(Tensor),
    Strings(Vec<String>),
}

impl Entries {
    /// What of these attributes is given: a tensor, integers, floats or strings, by name; no name where an operator has none of a kind.
    pub(super) fn of(
        node: &mut NodeContext,
        [tensor, ints, reals, texts]: [&str; 4],
    ) -> Outcome<Option<Entries>> {
        if let Some(value) = node.constant_attribute(tensor)? {
            let stored = value.as_strings().unwrap_or(&value).elements().map(Tensor::from_elements);
            let stored =
                stored.ok_or_else(|| Fault::model(format!("attribute '{tensor}' must be stored")))??;
            let is_text = value.as_strings().is_some();
            return Ok(Some(if is_text {
                Entries::Strings(decode(&stored))
            } else {
                Entries::Numbers(stored)
            }));
        }
        if let Some(values) = node.ints_attribute(ints)? {
            return Ok(Some(Entries::ints(values.to_vec())));
        }
        if let Some(texts) = node.texts_attribute(texts)? {
            return Ok(Some(Entries::Strings(texts)));
        }
        let values = node.floats_attribute(reals)?.filter(|values| !values.is_empty());
        let values = values.map(|values| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>());
        Ok(values.map(|values| Entries::Numbers(Tensor::from_floats(Element::F32, &[values.len()], values))))
    }

    fn required(node: &mut NodeContext, names: [&str; 4]) -> Outcome<Entries> {
        let names_given: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        Entries::of(node, names)?
            .ok_or_else(|| Fault::model(format!("none of {} is given", names_given.join(", "))))
    }

    fn ints(values: Vec<i64>) -> Entries {
        Entries::Numbers(Tensor::from_ints(Element::I64, &[values.len() as i64], values))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Entries::Numbers(tensor) => tensor.len(),
            Entries::Strings(texts) => texts.len(),
        }
    }

    fn kind(&self) -> String {
        match self {
            Entries::Numbers(tensor) => tensor.element.to_string(),
            Entries::Strings(_) => "string".into(),
        }
    }

    /// All of them: `[count]`, or code points `[count, length]`.
    fn stored(&self, node: &mut NodeContext) -> Outcome<ValueId> {
        match self {
            Entries::Numbers(values) => node.tensor(&Tensor { shape: vec![values.len()], ..values.clone() }),
            Entries::Strings(texts) => strings::constant(node, texts),
        }
    }

    fn operand(&self, node: &NodeContext, value: ValueId) -> Operand {
        let value = node.operand(value);
        if matches!(self, Entries::Strings(_)) { Operand::strings(value) } else { value }
    }

    /// Those at places `[..]`.
    pub(super) fn at(&self, node: &mut NodeContext, place: ValueId) -> Outcome<Operand> {
        let values = self.stored(node)?;
        let value = node.gather(values, place, 0)?;
        Ok(self.operand(node, value))
    }

    /// Those at places `[..]`, and the first of `other` where nothing was found.
    fn at_or(
        &self,
        node: &mut NodeContext,
        place: ValueId,
        found: ValueId,
        other: &Entries,
    ) -> Outcome<Operand> {
        if self.kind() != other.kind() || other.len() == 0 {
            let what =
                format!("a default of {} ({}) for values of {}", other.kind(), other.len(), self.kind());
            return Err(Fault::model(what));
        }
        let (mut values, mut other) = (self.stored(node)?, other.stored(node)?);
        let (mut shape, mut found) = (Vec::new(), found);
        if matches!(self, Entries::Strings(_)) {
            [values, other] = strings::aligned(node, values, other)?;
            shape.push(node.dim(other, 1)?);
            let column = [node.shape(found).as_slice(), &[Dim::Known(1)]].concat();
            found = node.reshape(found, &column)?;
        }
        let other = node.slice_axis(other, 0, &Dim::Known(0), &Dim::Known(1))?;
        let other = node.reshape(other, &shape)?;
        let value = node.gather(values, place, 0)?;
        let y = node.select(found, value, other)?;
        Ok(self.operand(node, y))
    }
}

/// Which of the keys each element of input 0 equals: `[.., keys]`.
fn matches(node: &mut NodeContext, keys: &Entries) -> Outcome<ValueId> {
    if let Entries::Strings(texts) = keys {
        let x = node.strings(0)?;
        return strings::equal_to_each(node, x, texts);
    }
    let (x, stored) = (node.value(0)?, keys.stored(node)?);
    if node.element(stored) != node.element(x) {
        return Err(Fault::model(format!("keys of {} for input {}", keys.kind(), node.ty(x))));
    }
    let column = [node.shape(x).as_slice(), &[Dim::Known(1)]].concat();
    let column = node.reshape(x, &column)?;
    node.compare("eq", column, stored)
}

/// The place of the key that each element equals, the last of equal ones, and whether there is one: `[..]` each.
fn found_at(node: &mut NodeContext, keys: &Entries) -> Outcome<[ValueId; 2]> {
    let same = matches(node, keys)?;
    let same = node.cast(same, Element::I64)?;
    let axis = node.rank(same) - 1;
    let place = node.make(&core::ARG_REDUCE, |op| {
        op.operand(same)
            .attribute("function", "max")
            .attribute("axis", axis)
            .attribute("keep_dims", false)
            .attribute("select_last", true)
    })?;
    let found = node.reduce(&core::REDUCE_MAX, same, &[axis], false)?;
    Ok([place, node.cast(found, Element::Bool)?])
}

fn looked_up(node: &mut NodeContext, keys: &Entries, values: &Entries, other: &Entries) -> Made {
    if keys.len() != values.len() || keys.len() == 0 {
        return Err(Fault::model(format!("{} keys for {} values", keys.len(), values.len())));
    }
    let [place, found] = found_at(node, keys)?;
    Ok(vec![values.at_or(node, place, found, other)?])
}

fn label_encoder(node: &mut NodeContext) -> Made {
    let names = |kind: &str| ["tensor", "int64s", "floats", "strings"].map(|what| format!("{kind}_{what}"));
    let [keys, values] = ["keys", "values"].map(|kind| {
        let names = names(kind);
        Entries::required(node, names.each_ref().map(String::as_str))
    });
    let (keys, values) = (keys?, values?);
    let other = match Entries::of(node, ["default_tensor", "", "", ""])? {
        Some(other) => other,
        None => match &values {
            Entries::Strings(_) => Entries::Strings(vec![node.text("default_string", "_Unused")?]),
            Entries::Numbers(values) if values.element.is_float() => {
                let value = node.float("default_float", -0.0)?;
                Entries::Numbers(Tensor::splat(values.element, &[1], value))
            }
            Entries::Numbers(_) => Entries::ints(vec![node.int("default_int64", -1)?]),
        },
    };
    looked_up(node, &keys, &values, &other)
}

/// Strings to numbers or back, by one list of pairs.
fn category_mapper(node: &mut NodeContext) -> Made {
    let texts = Entries::Strings(node.texts_attribute("cats_strings")?.unwrap_or_default());
    let numbers = Entries::ints(node.ints_attribute("cats_int64s")?.unwrap_or_default().to_vec());
    if node.input(0)?.as_strings().is_some() {
        let other = Entries::ints(vec![node.int("default_int64", -1)?]);
        return looked_up(node, &texts, &numbers, &other);
    }
    let other = Entries::Strings(vec![node.text("default_string", "_Unused")?]);
    looked_up(node, &numbers, &texts, &other)
}

/// A one for the category of each element; zeros where it has none.
fn one_hot_encoder(node: &mut NodeContext) -> Made {
    if !node.flag("zeros", true)? {
        let what = "attribute 'zeros' = 0: whether a category is missing is known only when the model runs";
        return Err(Fault::unsupported(what, "set it to 1"));
    }
    let categories = Entries::required(node, ["", "cats_int64s", "", "cats_strings"])?;
    if let Entries::Numbers(_) = categories {
        let x = node.value(0)?;
        let x = node.cast(x, Element::I64)?;
        node.inputs[0] = Some(node.operand(x));
    }
    let same = matches(node, &categories)?;
    let y = node.cast(same, Element::F32)?;
    node.one(y)
}

/// Strings as numbers: the place of each in a list, or -1.
pub(super) fn numbered(node: &mut NodeContext, texts: Vec<String>) -> Outcome<ValueId> {
    let [place, found] = found_at(node, &Entries::Strings(texts))?;
    let none = node.scalar_like(place, -1.0)?;
    node.select(found, place, none)
}
