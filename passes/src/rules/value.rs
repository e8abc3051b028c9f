//! Values that rule expressions compute with, and how they turn into attributes, dimensions and types.
//!
//! ```text
//! 3   2.5   "none"   [0, 2, 1]   dim(?x, -1)   f32   tensor(f32, dims(?x))
//! ```

use crate::egraph::analysis::Data;
use std::sync::Arc;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::types::{TensorType, Type};

/// A value of an expression.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: an optional attribute or operand that is left out.
    Absent,
    /// A truth value.
    Bool(bool),
    /// A number or a symbolic dimension.
    Dim(Dim),
    /// A float.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// A list.
    List(Vec<Value>),
    /// An element type.
    Element(Element),
    /// A type.
    Type(Type),
    /// What is known of a class.
    Class(Data),
    /// Any other attribute, passed through.
    Attribute(Attribute),
}

impl Value {
    /// An integer.
    pub fn int(value: i64) -> Value {
        Value::Dim(Dim::Known(value))
    }

    /// A list of integers.
    pub fn ints(values: impl IntoIterator<Item = i64>) -> Value {
        Value::List(values.into_iter().map(Value::int).collect())
    }

    /// A list of dimensions.
    pub fn dims(dims: &[Dim]) -> Value {
        Value::List(dims.iter().cloned().map(Value::Dim).collect())
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Result<i64, String> {
        match self {
            Value::Dim(Dim::Known(value)) => Ok(*value),
            Value::Bool(value) => Ok(i64::from(*value)),
            other => Err(format!("expected an integer, found {}", other.text())),
        }
    }

    /// The dimension, if it is one.
    pub fn as_dim(&self) -> Result<Dim, String> {
        match self {
            Value::Dim(dim) => Ok(dim.clone()),
            other => Err(format!("expected a dimension, found {}", other.text())),
        }
    }

    /// The number; integers are widened.
    pub fn as_float(&self) -> Result<f64, String> {
        match self {
            Value::Float(value) => Ok(*value),
            Value::Dim(Dim::Known(value)) => Ok(*value as f64),
            other => Err(format!("expected a number, found {}", other.text())),
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Result<bool, String> {
        match self {
            Value::Bool(value) => Ok(*value),
            other => Err(format!("expected true or false, found {}", other.text())),
        }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Result<&[Value], String> {
        match self {
            Value::List(items) => Ok(items),
            other => Err(format!("expected a list, found {}", other.text())),
        }
    }

    /// The integers of a list.
    pub fn as_ints(&self) -> Result<Vec<i64>, String> {
        self.as_list()?.iter().map(Value::as_int).collect()
    }

    /// The dimensions of a list.
    pub fn as_dims(&self) -> Result<Vec<Dim>, String> {
        self.as_list()?.iter().map(Value::as_dim).collect()
    }

    /// The class, if it is one that has a value.
    pub fn as_class(&self) -> Result<&Data, String> {
        match self {
            Value::Class(data) => Ok(data),
            other => Err(format!("expected a value of the program, found {}", other.text())),
        }
    }

    /// The tensor type of a class or type.
    pub fn as_tensor(&self) -> Result<&TensorType, String> {
        let found = match self {
            Value::Class(data) => data.tensor(),
            Value::Type(ty) => ty.as_tensor(),
            _ => None,
        };
        found.ok_or_else(|| format!("expected a tensor, found {}", self.text()))
    }

    /// The element type.
    pub fn as_element(&self) -> Result<Element, String> {
        match self {
            Value::Element(element) => Ok(*element),
            other => Err(format!("expected an element type, found {}", other.text())),
        }
    }

    /// The type.
    pub fn as_type(&self) -> Result<Type, String> {
        match self {
            Value::Type(ty) => Ok(ty.clone()),
            Value::Class(data) if data.types.len() == 1 => Ok(data.types[0].clone()),
            other => Err(format!("expected a type, found {}", other.text())),
        }
    }

    /// Short text for messages.
    pub fn text(&self) -> String {
        match self {
            Value::Absent => "none".into(),
            Value::Bool(value) => value.to_string(),
            Value::Dim(dim) => dim.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Str(text) => format!("\"{text}\""),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::text).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Element(element) => element.to_string(),
            Value::Type(ty) => ty.to_string(),
            Value::Class(data) => data.types.first().map_or("none".into(), ToString::to_string),
            Value::Attribute(attribute) => format!("{attribute:?}"),
        }
    }

    /// Equality with numbers compared by value.
    pub fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Absent, Value::Absent) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Dim(a), Value::Dim(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Element(a), Value::Element(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Value::Type(_) | Value::Class(_), Value::Type(_) | Value::Class(_)) => {
                self.as_type().ok().is_some() && self.as_type() == other.as_type()
            }
            (Value::Attribute(a), Value::Attribute(b)) => a == b,
            _ => matches!((self.as_float(), other.as_float()), (Ok(a), Ok(b)) if a == b),
        }
    }

    /// Reads an attribute.
    pub fn from_attribute(attribute: Option<&Attribute>) -> Value {
        match attribute {
            None => Value::Absent,
            Some(Attribute::Bool(value)) => Value::Bool(*value),
            Some(Attribute::Int(value)) => Value::int(*value),
            Some(Attribute::Float(value)) => Value::Float(value.0),
            Some(Attribute::Str(text)) => Value::Str(text.clone()),
            Some(Attribute::Ints(values)) => Value::ints(values.iter().copied()),
            Some(Attribute::Type(ty)) => Value::Type(ty.clone()),
            Some(attribute @ Attribute::Array(_)) => match attribute.as_dims() {
                Some(dims) => Value::dims(&dims),
                None => Value::Attribute(attribute.clone()),
            },
            Some(other) => Value::Attribute(other.clone()),
        }
    }

    /// As an attribute for a rule of the op's definition; `None` for [`Value::Absent`].
    pub fn to_attribute(
        &self,
        rule: tilewright_ir::op_def::AttributeRule,
    ) -> Result<Option<Attribute>, String> {
        use tilewright_ir::op_def::AttributeRule as Rule;
        Ok(Some(match (rule, self) {
            (_, Value::Absent) => return Ok(None),
            (_, Value::Attribute(attribute)) => attribute.clone(),
            (Rule::Float, value) => Attribute::float(value.as_float()?),
            (Rule::Ints, value) => Attribute::ints(&value.as_ints()?),
            (Rule::Dims, value) => Attribute::dims(&value.as_dims()?),
            (Rule::Dim, value) => Attribute::dim(&value.as_dim()?),
            (_, Value::Bool(value)) => Attribute::Bool(*value),
            (_, Value::Str(text)) => Attribute::Str(text.clone()),
            (_, Value::Dim(Dim::Known(value))) => Attribute::Int(*value),
            (_, Value::Float(value)) => Attribute::float(*value),
            (_, Value::Type(ty)) => Attribute::Type(ty.clone()),
            (_, value) => return Err(format!("{} is no attribute", value.text())),
        }))
    }
}
