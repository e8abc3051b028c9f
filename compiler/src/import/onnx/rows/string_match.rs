//! RegexFullMatch: a deterministic automaton in a table, one step for each code point of all strings at once.

use super::super::automaton::{Automaton, automaton};
use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use super::strings::zeros;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[since(20, "RegexFullMatch", full_match).with_strings().refuses(
    "classes of Unicode (\\p{..}, letters beyond ASCII in brackets), tables of more than 262,144 entries",
)];

/// Elements of a stored vector, which takes half the bytes as i32.
fn looked_up(node: &mut NodeContext, values: &[i64], at: ValueId) -> Outcome<ValueId> {
    let values = node.ints(Element::I32, &[values.len() as i64], values)?;
    let found = node.gather(values, at, 0)?;
    node.cast(found, Element::I64)
}

/// The class of each code point `[n, length]`.
fn classes(node: &mut NodeContext, codes: ValueId, automaton: &Automaton) -> Outcome<ValueId> {
    let shape = [node.shape(codes).as_slice(), &[Dim::Known(1)]].concat();
    let column = node.reshape(codes, &shape)?;
    let borders = node.ints(Element::I32, &[automaton.borders.len() as i64], &automaton.borders)?;
    let passed = node.compare("ge", column, borders)?;
    let passed = node.cast(passed, Element::I64)?;
    let interval = node.reduce(&core::REDUCE_SUM, passed, &[2], false)?;
    looked_up(node, &automaton.class_of, interval)
}

fn full_match(node: &mut NodeContext) -> Made {
    let x = node.strings(0)?;
    let pattern = node.text("pattern", "")?;
    let automaton = automaton(&pattern).map_err(|what| {
        Fault::unsupported(format!("attribute 'pattern' = '{pattern}': {what}"), "use a simpler pattern")
    })?;
    let shape = node.shape(x).to_vec();
    let Some((length, dims)) = shape.split_last() else { return Err(Fault::model("strings are needed")) };
    let count = dims.iter().fold(Dim::Known(1), |product, dim| &product * dim);
    let codes = node.reshape(x, &[count.clone(), length.clone()])?;
    let classes = classes(node, codes, &automaton)?;
    let start = zeros(node, Element::I64, std::slice::from_ref(&count))?;
    let attributes = Attributes::from([
        ("carried_count".into(), 1usize.into()),
        ("axes".into(), vec![1i64].into()),
        ("reverse".into(), vec![0i64].into()),
    ]);
    let op = node.begin_region_op(&core::SCAN, &[start, classes], attributes, 1);
    let ty = TensorType::new(Element::I64, [count]);
    let [state, class] = node.open_region(op, 0, &[ty.clone(), ty.clone()])[..] else {
        return Err(Fault::model("a scan of two values"));
    };
    let width = node.scalar_like(state, automaton.classes as f64)?;
    let line = node.mul(state, width)?;
    let at = node.add(line, class)?;
    let next = looked_up(node, &automaton.table, at)?;
    node.close_region(&[next])?;
    let last = node.end_region_op(op, &[ty])[0];
    let accepts = looked_up(node, &automaton.accepts, last)?;
    let y = node.cast(accepts, Element::Bool)?;
    let y = node.reshape(y, dims)?;
    node.one(y)
}
