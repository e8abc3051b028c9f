//! The functions that rule expressions may call: one table, documented row by row.
//!
//! Axes count from 0, negative ones from the end. An undefined result is an error, which makes a guard false and a right side
//! refused.

use super::value::Value;
use tilewright_ir::dim::Dim;
use tilewright_ir::op_def::normalize_axis;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

/// A function of a rule expression.
#[derive(Clone, Copy)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Number of arguments.
    pub arity: usize,
    /// One line for the reference page.
    pub doc: &'static str,
    /// Computes it.
    pub apply: fn(&[Value]) -> Result<Value, String>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! functions {
    ($($name:literal, $arity:literal, $doc:literal, $apply:expr;)*) => {
        /// All functions.
        pub static FUNCTIONS: &[Function] =
            &[$(Function { name: $name, arity: $arity, doc: $doc, apply: $apply },)*];
    };
}

functions! {
    "rank", 1, "number of dimensions", |a| Ok(Value::int(a[0].as_tensor()?.rank() as i64));
    "dim", 2, "one dimension", |a| Ok(Value::Dim(a[0].as_tensor()?.shape[axis(&a[1], a[0].as_tensor()?.rank())?].clone()));
    "dims", 1, "all dimensions", |a| Ok(Value::dims(&a[0].as_tensor()?.shape));
    "count", 1, "number of elements", |a| Ok(Value::Dim(a[0].as_tensor()?.element_count()));
    "element", 1, "element type", |a| Ok(Value::Element(a[0].as_tensor()?.element));
    "bits", 1, "bits of an element type", |a| Ok(Value::int(a[0].as_element()?.bits() as i64));
    "is_float", 1, "whether an element type is a float", |a| Ok(Value::Bool(a[0].as_element()?.is_float()));
    "is_integer", 1, "whether an element type is an integer", |a| Ok(Value::Bool(a[0].as_element()?.is_integer()));
    "type", 1, "the type of a value", |a| a[0].as_type().map(Value::Type);
    "tensor", 2, "the tensor type of an element type and dimensions",
        |a| Ok(Value::Type(TensorType::new(a[0].as_element()?, a[1].as_dims()?).into()));
    "constant", 1, "whether a value follows from constants alone", |a| Ok(Value::Bool(a[0].as_class()?.constant));
    "present", 1, "whether an optional operand or attribute is given", |a| Ok(Value::Bool(match &a[0] {
        Value::Absent => false,
        Value::Class(data) => !data.types.is_empty(),
        _ => true,
    }));
    "scalar", 1, "the number that a constant holds everywhere", scalar;
    "values", 1, "the numbers of a small constant, row by row", values;
    "length", 1, "number of items", |a| Ok(Value::int(a[0].as_list()?.len() as i64));
    "at", 2, "one item", |a| { let list = a[0].as_list()?; Ok(list[axis(&a[1], list.len())?].clone()) };
    "set", 3, "the list with one item replaced", |a| {
        let mut list = a[0].as_list()?.to_vec();
        let at = axis(&a[1], list.len())?;
        list[at] = a[2].clone();
        Ok(Value::List(list))
    };
    "insert", 3, "the list with an item put before position", |a| {
        let mut list = a[0].as_list()?.to_vec();
        let at = axis(&a[1], list.len() + 1)?;
        list.insert(at, a[2].clone());
        Ok(Value::List(list))
    };
    "remove", 2, "the list without one item", |a| {
        let mut list = a[0].as_list()?.to_vec();
        let at = axis(&a[1], list.len())?;
        list.remove(at);
        Ok(Value::List(list))
    };
    "first", 2, "the first n items", |a| Ok(Value::List(a[0].as_list()?[..part(a)?].to_vec()));
    "last", 2, "the last n items", |a| { let list = a[0].as_list()?; Ok(Value::List(list[list.len() - part(a)?..].to_vec())) };
    "product", 1, "the product of dimensions", |a| {
        Ok(Value::Dim(a[0].as_dims()?.iter().fold(Dim::Known(1), |product, dim| &product * dim)))
    };
    "repeat", 2, "a list of n equal items", |a| {
        let count = usize::try_from(a[1].as_int()?).ok().filter(|count| *count <= 64);
        Ok(Value::List(vec![a[0].clone(); count.ok_or("a list is at most 64 long")?]))
    };
    "identity", 1, "[0, 1, .., n-1]", |a| Ok(Value::ints(0..a[0].as_int()?.clamp(0, 64)));
    "swap_last", 1, "the permutation of n axes that swaps the last two", |a| {
        let n = a[0].as_int()?.clamp(0, 64);
        if n < 2 { return Err("fewer than two axes".into()) }
        Ok(Value::ints((0..n - 2).chain([n - 1, n - 2])))
    };
    "compose", 2, "the permutation of transposing by p and then by q", |a| {
        let (p, q) = (a[0].as_ints()?, a[1].as_ints()?);
        q.iter().map(|at| p.get(*at as usize).copied().map(Value::int).ok_or("not a permutation".to_string())).collect::<Result<_, _>>().map(Value::List)
    };
    "inverse", 1, "the permutation that undoes p", |a| {
        let p = a[0].as_ints()?;
        (0..p.len() as i64).map(|axis| p.iter().position(|other| *other == axis).map(|at| Value::int(at as i64)).ok_or("not a permutation".to_string())).collect::<Result<_, _>>().map(Value::List)
    };
    "axis", 2, "an axis counted from 0, given the rank", |a| Ok(Value::int(axis(&a[0], a[1].as_int()? as usize)? as i64));
    "broadcast", 2, "the dimensions of two shapes broadcast", |a| {
        tilewright_ir::shape::broadcast(&a[0].as_dims()?, &a[1].as_dims()?).map(|dims| Value::dims(&dims))
    };
    "pad_rank", 2, "dimensions with leading ones up to a rank", |a| {
        let dims = a[0].as_list()?;
        let missing = (a[1].as_int()? as usize).checked_sub(dims.len()).ok_or("the rank is larger already")?;
        Ok(Value::List(std::iter::repeat_n(Value::int(1), missing).chain(dims.iter().cloned()).collect()))
    };
    "contains", 2, "whether a list holds an item", |a| Ok(Value::Bool(a[0].as_list()?.iter().any(|item| item.same(&a[1]))));
    "sqrt", 1, "square root", |a| a[0].as_float().map(|x| Value::Float(x.sqrt()));
    "abs", 1, "magnitude", |a| a[0].as_float().map(|x| Value::Float(x.abs()));
    "exp", 1, "exponential", |a| a[0].as_float().map(|x| Value::Float(x.exp()));
    "float", 1, "a number as a float", |a| a[0].as_float().map(Value::Float);
    "min", 2, "the smaller number", |a| Ok(Value::Float(a[0].as_float()?.min(a[1].as_float()?)));
    "max", 2, "the larger number", |a| Ok(Value::Float(a[0].as_float()?.max(a[1].as_float()?)));
    "close", 2, "whether two numbers agree to about 1 in 1000", |a| {
        let (x, y) = (a[0].as_float()?, a[1].as_float()?);
        Ok(Value::Bool((x - y).abs() <= 1e-3 * y.abs()))
    };
    "is_finite", 1, "whether a number is finite", |a| a[0].as_float().map(|x| Value::Bool(x.is_finite()));
}

/// The function of that name.
pub fn find(name: &str) -> Option<Function> {
    FUNCTIONS.iter().find(|function| function.name == name).copied()
}

fn axis(value: &Value, rank: usize) -> Result<usize, String> {
    let at = value.as_int()?;
    normalize_axis(at, rank).ok_or_else(|| format!("axis {at} is out of range for {rank}"))
}

fn part(arguments: &[Value]) -> Result<usize, String> {
    let (length, count) = (arguments[0].as_list()?.len(), arguments[1].as_int()?);
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= length)
        .ok_or_else(|| format!("{count} of {length} items"))
}

fn tensor(value: &Value) -> Result<&Tensor, String> {
    value.as_class()?.value.as_deref().ok_or_else(|| "not a small constant".to_string())
}

fn number(tensor: &Tensor, index: usize) -> Value {
    if tensor.element.is_float() { Value::Float(tensor.float(index)) } else { Value::int(tensor.int(index)) }
}

fn scalar(arguments: &[Value]) -> Result<Value, String> {
    let tensor = tensor(&arguments[0])?;
    if tensor.is_empty() {
        return Err("an empty constant".into());
    }
    let first = tensor.float(0);
    if (1..tensor.len()).any(|index| tensor.float(index).to_bits() != first.to_bits()) {
        return Err("a constant of several numbers".into());
    }
    Ok(number(tensor, 0))
}

fn values(arguments: &[Value]) -> Result<Value, String> {
    let tensor = tensor(&arguments[0])?;
    Ok(Value::List((0..tensor.len()).map(|index| number(tensor, index)).collect()))
}
