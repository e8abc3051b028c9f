//! Which command computes a core op: one table, for every engine. Rows differ in the command's fields only; views come from the caller.
//!
//! Ops that work along axes are given here with those axes last: the caller permutes its views. It must not know tiles, engines
//! or memory.
//!
//! ```text
//! core.silu -> tile.unary {function = "silu"}      core.softmax -> tile.softmax {log = false}, axis last
//! ```

use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::module::Operation;
use tilewright_ir::op_def::OpDef;

/// A command without its engine and views.
#[derive(Clone, Debug, PartialEq)]
pub struct OpCommand {
    /// The tile op.
    pub def: &'static OpDef,
    /// Its fields.
    pub fields: Attributes,
}

impl OpCommand {
    fn new(def: &'static OpDef) -> OpCommand {
        OpCommand { def, fields: Attributes::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<Attribute>) -> OpCommand {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// `unary` with a function.
    pub fn unary(function: &str) -> OpCommand {
        OpCommand::new(&tile::UNARY).with("function", function)
    }

    /// `binary` with a function.
    pub fn binary(function: &str) -> OpCommand {
        OpCommand::new(&tile::BINARY).with("function", function)
    }

    /// Writes the command: the destination, then the operands in the command's order.
    ///
    /// # Errors
    /// When the views do not fit the command.
    pub fn emit(
        &self,
        context: &mut LoweringContext,
        engine: &'static str,
        destination: &View,
        operands: &[Option<View>],
    ) -> Result<(), String> {
        let mut command = context.command(self.def, engine).view(destination);
        for operand in operands {
            command = command.maybe(operand.as_ref());
        }
        for (name, value) in &self.fields {
            if let std::borrow::Cow::Borrowed(name) = name {
                command = command.attribute(name, value.clone());
            }
        }
        command.emit()
    }
}

/// Unary functions without constants.
static UNARY: &[(&OpDef, &str)] = &[
    (&core::NEG, "neg"),
    (&core::ABS, "abs"),
    (&core::EXP, "exp"),
    (&core::LOG, "log"),
    (&core::SQRT, "sqrt"),
    (&core::RSQRT, "rsqrt"),
    (&core::RECIPROCAL, "reciprocal"),
    (&core::TANH, "tanh"),
    (&core::SIGMOID, "sigmoid"),
    (&core::ERF, "erf"),
    (&core::RELU, "relu"),
    (&core::SILU, "silu"),
    (&core::NOT, "not"),
    (&core::SIGN, "sign"),
    (&core::IS_NAN, "is_nan"),
    (&core::BITWISE_NOT, "bitwise_not"),
];

/// Binary functions without a choice.
static BINARY: &[(&OpDef, &str)] = &[
    (&core::ADD, "add"),
    (&core::SUB, "sub"),
    (&core::MUL, "mul"),
    (&core::DIV, "div"),
    (&core::POW, "pow"),
    (&core::MAX, "max"),
    (&core::MIN, "min"),
];

/// Op, command, attribute, words of the attribute and of the command.
type Chosen = (&'static OpDef, &'static OpDef, &'static str, &'static [(&'static str, &'static str)]);

/// Functions chosen by one attribute.
static CHOSEN: &[Chosen] = &[
    (&core::GELU, &tile::UNARY, "approximate", &[("none", "gelu"), ("tanh", "gelu_tanh")]),
    (
        &core::ROUND,
        &tile::UNARY,
        "mode",
        &[("half_even", "round_half_even"), ("floor", "floor"), ("ceil", "ceil"), ("trunc", "trunc")],
    ),
    (&core::REMAINDER, &tile::BINARY, "mode", &[("floor", "rem_floor"), ("trunc", "rem_trunc")]),
    (&core::MATH, &tile::UNARY, "function", &[]),
    (&core::COMPARE, &tile::BINARY, "predicate", &[]),
    (&core::LOGICAL, &tile::BINARY, "function", &[]),
    (&core::BITWISE, &tile::BINARY, "function", &[]),
];

/// Unary functions with constants: op, function, attribute and default of alpha, of beta.
type Constants = [Option<(&'static str, f64)>; 2];
static WITH_CONSTANTS: &[(&OpDef, &str, Constants)] = &[
    (&core::LEAKY_RELU, "leaky_relu", [Some(("alpha", 0.01)), None]),
    (&core::ELU, "elu", [Some(("alpha", 1.0)), None]),
    (&core::HARD_SIGMOID, "hard_sigmoid", [Some(("alpha", 0.2)), Some(("beta", 0.5))]),
    (&core::CLAMP, "clamp", [Some(("min", f64::NEG_INFINITY)), Some(("max", f64::INFINITY))]),
];

/// Reductions; the reduced axes are last, of length 1 in the destination.
static REDUCE: &[(&OpDef, &str)] = &[
    (&core::REDUCE_SUM, "sum"),
    (&core::REDUCE_MEAN, "mean"),
    (&core::REDUCE_MAX, "max"),
    (&core::REDUCE_MIN, "min"),
    (&core::REDUCE_PROD, "prod"),
];

/// The unary function of an activation's name; none for `none`.
pub fn activation_function(activation: &str) -> Option<&str> {
    (activation != "none").then_some(activation)
}

/// The command of an op whose result elements follow from the operand elements at the same place, or from one row along its
/// last axis. `rank` is the rank of the views that will be given. None when no single command computes it.
pub fn op_command(operation: &Operation, rank: usize) -> Option<OpCommand> {
    elementwise(operation).or_else(|| row_wise(operation, rank))
}

fn elementwise(operation: &Operation) -> Option<OpCommand> {
    let def = operation.def;
    let text = |name: &str| operation.attributes.get(name).and_then(Attribute::as_str);
    let float = |name: &str| operation.attributes.get(name).and_then(Attribute::as_float);
    if let Some(row) = UNARY.iter().find(|row| row.0 == def) {
        return Some(OpCommand::unary(row.1));
    }
    if let Some(row) = BINARY.iter().find(|row| row.0 == def) {
        return Some(OpCommand::binary(row.1));
    }
    if let Some((_, command, attribute, words)) = CHOSEN.iter().find(|row| row.0 == def) {
        let word = text(attribute).or_else(|| words.first().map(|row| row.0))?;
        let function = words.iter().find(|row| row.0 == word).map_or(word, |row| row.1);
        return Some(OpCommand::new(command).with("function", function));
    }
    if let Some((_, function, constants)) = WITH_CONSTANTS.iter().find(|row| row.0 == def) {
        let mut command = OpCommand::unary(function);
        for (field, constant) in ["alpha", "beta"].into_iter().zip(constants) {
            if let Some((name, default)) = constant {
                command = command.with(field, float(name).unwrap_or(*default));
            }
        }
        return Some(command);
    }
    match def {
        def if def == &core::SELECT => Some(OpCommand::new(&tile::SELECT)),
        def if def == &core::QUANTIZE => Some(OpCommand::new(&tile::QUANTIZE)),
        def if def == &core::DEQUANTIZE => Some(OpCommand::new(&tile::DEQUANTIZE)),
        _ => None,
    }
}

/// The command of a cast. Floats truncate and saturate to integers; integers wrap.
pub fn cast_command(operation: &Operation, from_float: bool) -> OpCommand {
    let saturate = operation.attributes.get("saturate").and_then(Attribute::as_bool).unwrap_or(true);
    OpCommand::new(&tile::CONVERT).with("saturate", from_float && saturate).with("rounding", "trunc")
}

fn row_wise(operation: &Operation, rank: usize) -> Option<OpCommand> {
    let def = operation.def;
    let attribute = |name: &str| operation.attributes.get(name).cloned();
    let truth = |name: &str| attribute(name).unwrap_or(Attribute::Bool(false));
    if let Some(row) = REDUCE.iter().find(|row| row.0 == def) {
        return Some(OpCommand::new(&tile::REDUCE).with("function", row.1));
    }
    let last = rank as i64 - 1;
    if def == &core::SOFTMAX || def == &core::LOG_SOFTMAX {
        return Some(OpCommand::new(&tile::SOFTMAX).with("log", def == &core::LOG_SOFTMAX));
    }
    if def == &core::RMS_NORM || def == &core::LAYER_NORM {
        let kind = if def == &core::RMS_NORM { "rms" } else { "layer" };
        return Some(
            OpCommand::new(&tile::NORMALIZE).with("kind", kind).with("epsilon", attribute("epsilon")?),
        );
    }
    if def == &core::ROPE {
        return Some(OpCommand::new(&tile::ROPE).with("interleaved", truth("interleaved")));
    }
    if def == &core::CUMULATIVE {
        let command = OpCommand::new(&tile::CUMULATIVE).with("function", attribute("function")?);
        let command = command.with("axis", last).with("exclusive", truth("exclusive"));
        return Some(command.with("reverse", truth("reverse")));
    }
    if def == &core::ARG_REDUCE {
        let command = OpCommand::new(&tile::ARG_REDUCE).with("function", attribute("function")?);
        return Some(command.with("axis", last).with("select_last", truth("select_last")));
    }
    None
}
