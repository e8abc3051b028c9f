//! Expressions of rules: guards, computed attributes, types, and what test clauses generate. Evaluation either gives a value or
//! says why not; a guard that cannot be evaluated does not hold.
//!
//! ```text
//! rank(?b) == 1 && dim(?b, 0) == dim(?w, -1)      compose(?p, ?q)      tensor(element(?x), set(dims(?x), -1, 1))
//! ```

use super::functions::Function;
use super::value::Value;
use std::collections::BTreeMap;
use tilewright_ir::dim::Dim;

/// Operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `+`, also of lists
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`: of integers and dimensions exact or undefined
    Divide,
    /// `%`
    Remainder,
}

/// Spelling, operator and binding strength.
pub const OPERATORS: &[(&str, Binary, u8)] = &[
    ("||", Binary::Or, 1),
    ("&&", Binary::And, 2),
    ("==", Binary::Equal, 3),
    ("!=", Binary::Unequal, 3),
    ("<=", Binary::LessEqual, 3),
    (">=", Binary::GreaterEqual, 3),
    ("<", Binary::Less, 3),
    (">", Binary::Greater, 3),
    ("+", Binary::Add, 4),
    ("-", Binary::Subtract, 4),
    ("*", Binary::Multiply, 5),
    ("/", Binary::Divide, 5),
    ("%", Binary::Remainder, 5),
];

/// An expression.
#[derive(Clone, Debug)]
pub enum Expression {
    /// A value.
    Literal(Value),
    /// A variable of the rule, by number.
    Variable(usize),
    /// A name of the test clause.
    Name(String),
    /// `[a, b]`.
    List(Vec<Expression>),
    /// `f(a, b)`.
    Call(Function, Vec<Expression>),
    /// `a op b`.
    Binary(Binary, Box<Expression>, Box<Expression>),
    /// `!a`.
    Not(Box<Expression>),
    /// `-a`.
    Negate(Box<Expression>),
}

/// What variables and names stand for.
pub trait Environment {
    /// The value of a variable.
    ///
    /// # Errors
    /// When it is not bound.
    fn variable(&self, index: usize) -> Result<Value, String>;

    /// The value of a name of the test clause.
    ///
    /// # Errors
    /// When there is none.
    fn name(&self, name: &str) -> Result<Value, String> {
        Err(format!("'{name}' has no value here"))
    }
}

/// Names and variables given directly.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Names of the test clause.
    pub names: BTreeMap<String, Value>,
    /// Variables by number.
    pub variables: BTreeMap<usize, Value>,
}

impl Environment for Given {
    fn variable(&self, index: usize) -> Result<Value, String> {
        self.variables.get(&index).cloned().ok_or_else(|| "a variable has no value yet".into())
    }
    fn name(&self, name: &str) -> Result<Value, String> {
        self.names.get(name).cloned().ok_or_else(|| format!("'{name}' has no value"))
    }
}

impl Expression {
    /// Evaluates.
    ///
    /// # Errors
    /// Why there is no value.
    pub fn evaluate(&self, environment: &dyn Environment) -> Result<Value, String> {
        match self {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Variable(index) => environment.variable(*index),
            Expression::Name(name) => environment.name(name),
            Expression::List(items) => {
                items.iter().map(|item| item.evaluate(environment)).collect::<Result<_, _>>().map(Value::List)
            }
            Expression::Call(function, arguments) => {
                let arguments: Vec<Value> = arguments
                    .iter()
                    .map(|argument| argument.evaluate(environment))
                    .collect::<Result<_, _>>()?;
                (function.apply)(&arguments)
            }
            Expression::Not(inner) => Ok(Value::Bool(!inner.evaluate(environment)?.as_bool()?)),
            Expression::Negate(inner) => match inner.evaluate(environment)? {
                Value::Dim(dim) => Ok(Value::Dim(&Dim::Known(0) - &dim)),
                value => Ok(Value::Float(-value.as_float()?)),
            },
            Expression::Binary(operator, left, right) => {
                let left = left.evaluate(environment)?;
                // The right side of a decided `&&` or `||` need not have a value.
                match (operator, &left) {
                    (Binary::And, Value::Bool(false)) | (Binary::Or, Value::Bool(true)) => return Ok(left),
                    _ => {}
                }
                binary(*operator, &left, &right.evaluate(environment)?)
            }
        }
    }

    /// True if it evaluates to `true`.
    pub fn holds(&self, environment: &dyn Environment) -> bool {
        matches!(self.evaluate(environment), Ok(Value::Bool(true)))
    }

    /// Calls `f` with every variable in it.
    pub fn variables(&self, f: &mut impl FnMut(usize)) {
        match self {
            Expression::Literal(_) | Expression::Name(_) => {}
            Expression::Variable(index) => f(*index),
            Expression::List(items) | Expression::Call(_, items) => {
                for item in items {
                    item.variables(f);
                }
            }
            Expression::Binary(_, left, right) => {
                left.variables(f);
                right.variables(f);
            }
            Expression::Not(inner) | Expression::Negate(inner) => inner.variables(f),
        }
    }
}

fn binary(operator: Binary, left: &Value, right: &Value) -> Result<Value, String> {
    match operator {
        Binary::Or | Binary::And => {
            let (a, b) = (left.as_bool()?, right.as_bool()?);
            Ok(Value::Bool(if operator == Binary::And { a && b } else { a || b }))
        }
        Binary::Equal => Ok(Value::Bool(left.same(right))),
        Binary::Unequal => Ok(Value::Bool(!left.same(right))),
        Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
            let (a, b) = (left.as_float()?, right.as_float()?);
            Ok(Value::Bool(match operator {
                Binary::Less => a < b,
                Binary::LessEqual => a <= b,
                Binary::Greater => a > b,
                _ => a >= b,
            }))
        }
        _ => arithmetic(operator, left, right),
    }
}

fn arithmetic(operator: Binary, left: &Value, right: &Value) -> Result<Value, String> {
    if let (Binary::Add, Value::List(a), Value::List(b)) = (operator, left, right) {
        return Ok(Value::List(a.iter().chain(b).cloned().collect()));
    }
    if let (Value::Dim(a), Value::Dim(b)) = (left, right) {
        return Ok(Value::Dim(match operator {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide => a.divide_exactly(b).ok_or_else(|| format!("{b} does not divide {a}"))?,
            _ => Dim::call(tilewright_ir::dim::Function::Mod, a, b),
        }));
    }
    let (a, b) = (left.as_float()?, right.as_float()?);
    Ok(Value::Float(match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        _ => a.rem_euclid(b),
    }))
}
