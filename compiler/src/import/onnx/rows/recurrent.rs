//! LSTM, GRU and RNN as `core.scan`: what the inputs contribute is one matrix product outside of it.
//!
//! Gate order and formulas: ONNX Operators.md. Only the default activations; no clipping, peepholes or ragged sequences.

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft, standard};
use super::control::reverse;
use super::integer::dynamic_product;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::ValueId;
use tilewright_ir::op_def::OpDef;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    standard("GRU", |node| recurrent(node, Cell::Gru))
        .refuses("activations other than the default; clip; input_forget"),
    standard("LSTM", |node| recurrent(node, Cell::Lstm))
        .refuses("activations other than the default; clip; input_forget"),
    standard("RNN", |node| recurrent(node, Cell::Rnn))
        .refuses("activations other than the default; clip; input_forget"),
    microsoft("DynamicQuantizeLSTM", |node| recurrent(node, Cell::Lstm)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Lstm,
    Gru,
    Rnn,
}

impl Cell {
    fn gates(self) -> i64 {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Rnn => 1,
        }
    }

    /// Default activations of one direction.
    fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Cell::Gru => &["Sigmoid", "Tanh"],
            Cell::Rnn => &["Tanh"],
        }
    }
}

/// One direction's weights and start.
struct Direction {
    /// What the inputs contribute `[s, b, gates * h]`, biases of the inputs included.
    contribution: ValueId,
    /// Recurrent weight, transposed `[h, gates * h]`.
    recurrent: ValueId,
    /// Its scale and zero point, where it is quantised.
    quantized: Option<(ValueId, ValueId)>,
    /// Recurrent bias `[gates * h]`.
    bias: Option<ValueId>,
    /// First hidden state `[b, h]`.
    hidden: ValueId,
    /// First cell state `[b, h]`.
    cell: ValueId,
    /// What the gates input, output and forget see of the cell state: `[3 h]`.
    peephole: Option<ValueId>,
    /// Which steps are inside of the sequences, `[s, b, 1]`; all when there is none.
    is_inside: Option<ValueId>,
}

fn refuse(node: &NodeContext, cell: Cell, directions: usize) -> Outcome<()> {
    let no = |what: &str| Err(Fault::unsupported(format!("{what} is not supported"), "export without it"));
    if let Some(found) = node.texts_attribute("activations")? {
        let defaults: Vec<String> =
            (0..directions).flat_map(|_| cell.activations()).map(|name| name.to_ascii_lowercase()).collect();
        if found.iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>() != defaults {
            return no(&format!("activations {found:?}"));
        }
    }
    if node.has("clip") {
        return no("clip");
    }
    if node.int("input_forget", 0)? != 0 {
        return no("input_forget");
    }
    Ok(())
}

fn recurrent(node: &mut NodeContext, cell: Cell) -> Made {
    let direction = node.text("direction", "forward")?;
    let is_reverse: &[bool] = match direction.as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(Fault::model(format!("attribute 'direction' = '{other}' is not known"))),
    };
    refuse(node, cell, is_reverse.len())?;
    let is_batch_first = node.int("layout", 0)? == 1;
    let mut x = node.value(0)?;
    if node.rank(x) != 3 {
        return Err(Fault::model(format!("input 0 must have rank 3, found {}", node.ty(x))));
    }
    if is_batch_first {
        x = node.transpose(x, &[1, 0, 2])?;
    }
    let (length, batch) = (node.dim(x, 0)?, node.dim(x, 1)?);
    let is_inside = inside(node, &length, &batch)?;
    let (mut outputs, mut hiddens, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for (index, backwards) in is_reverse.iter().enumerate() {
        let parts = Direction { is_inside, ..direction_parts(node, cell, x, index, is_batch_first, &batch)? };
        let [hidden, last, mut all] = run(node, cell, &parts, *backwards)?;
        if *backwards {
            all = reverse(node, all, 0, &length)?;
        }
        for (value, into, axis) in [(all, &mut outputs, 1), (hidden, &mut hiddens, 0), (last, &mut cells, 0)]
        {
            let mut shape = node.shape(value).to_vec();
            shape.insert(axis, Dim::Known(1));
            into.push(node.reshape(value, &shape)?);
        }
    }
    let mut all = node.concat(&outputs, 1)?;
    let (mut hidden, mut last) = (node.concat(&hiddens, 0)?, node.concat(&cells, 0)?);
    if is_batch_first {
        all = node.transpose(all, &[2, 0, 1, 3])?;
        hidden = node.transpose(hidden, &[1, 0, 2])?;
        last = node.transpose(last, &[1, 0, 2])?;
    }
    let results = [all, hidden, last];
    node.many(if cell == Cell::Lstm { &results } else { &results[..2] })
}

/// Which steps are inside of the sequences, `[s, b, 1]`; `None` when all are.
fn inside(node: &mut NodeContext, length: &Dim, batch: &Dim) -> Outcome<Option<ValueId>> {
    let Some(lengths) = node.optional(4) else { return Ok(None) };
    let known = super::super::fold::constant(&node.module, &lengths);
    if known.zip(length.known()).is_some_and(|(found, s)| found.ints().iter().all(|value| *value == s)) {
        return Ok(None);
    }
    let lengths = node.data(&lengths)?;
    let one = Dim::Known(1);
    let lengths = node.reshape(lengths, &[one.clone(), batch.clone(), one.clone()])?;
    let element = node.element(lengths);
    let steps = node.iota(element, &[length.clone(), one.clone(), one], 0)?;
    node.compare("lt", steps, lengths).map(Some)
}

/// A new value inside of a sequence, an old one behind its end.
fn held(node: &mut NodeContext, is_inside: Option<ValueId>, new: ValueId, old: ValueId) -> Outcome<ValueId> {
    match is_inside {
        Some(is_inside) => node.select(is_inside, new, old),
        None => Ok(new),
    }
}

/// Part `index` of the leading axis, that axis dropped.
fn part(node: &mut NodeContext, value: ValueId, index: usize) -> Outcome<ValueId> {
    let shape = node.shape(value);
    if shape.is_empty() {
        return Err(Fault::model("a weight has no dimensions"));
    }
    let piece = node.slice_axis(value, 0, &Dim::Known(index as i64), &Dim::Known(1))?;
    node.reshape(piece, &shape[1..])
}

fn direction_parts(
    node: &mut NodeContext,
    cell: Cell,
    x: ValueId,
    index: usize,
    is_batch_first: bool,
    batch: &Dim,
) -> Outcome<Direction> {
    let (weight, recurrent) = (node.value(1)?, node.value(2)?);
    let (weight, recurrent) = (part(node, weight, index)?, part(node, recurrent, index)?);
    // DynamicQuantizeLSTM stores both transposed, their scales and zero points behind all that LSTM has.
    let is_quantized = node.node.op_type.as_deref() == Some("DynamicQuantizeLSTM");
    let recurrent = if is_quantized { recurrent } else { node.transpose_last(recurrent)? };
    let size = node.dim(recurrent, 0)?;
    let gates = &size * &Dim::Known(cell.gates());
    node.equate("the recurrent weight does not fit", &node.dim(recurrent, 1)?, &gates)?;
    let mut quantized = None;
    let mut contribution = if is_quantized {
        let mut parts = Vec::new();
        for input in 8..12 {
            let value = node.value(input)?;
            parts.push(part(node, value, index)?);
        }
        quantized = Some((parts[2], parts[3]));
        dynamic_product(node, x, weight, parts[0], Some(parts[1]))?
    } else {
        let weight = node.transpose_last(weight)?;
        node.matmul(x, weight)?
    };
    let mut bias = None;
    if let Some(both) = node.optional_value(3)? {
        let both = part(node, both, index)?;
        let input = node.slice_axis(both, 0, &Dim::Known(0), &gates)?;
        contribution = node.add(contribution, input)?;
        bias = Some(node.slice_axis(both, 0, &gates, &gates)?);
    }
    let start = |node: &mut NodeContext, input: usize| -> Outcome<ValueId> {
        match node.optional_value(input)? {
            Some(value) if is_batch_first => {
                let value = node.transpose(value, &[1, 0, 2])?;
                part(node, value, index)
            }
            Some(value) => part(node, value, index),
            None => {
                let zero = node.scalar_like(x, 0.0)?;
                node.broadcast(zero, &[batch.clone(), size.clone()])
            }
        }
    };
    let hidden = start(node, 5)?;
    let state = if cell == Cell::Lstm { start(node, 6)? } else { hidden };
    let peephole = match node.optional_value(7)? {
        Some(peephole) if cell == Cell::Lstm => Some(part(node, peephole, index)?),
        _ => None,
    };
    Ok(Direction { contribution, recurrent, quantized, bias, hidden, cell: state, peephole, is_inside: None })
}

/// The scan over one direction: last hidden state, last cell state, all hidden states `[s, b, h]`.
fn run(node: &mut NodeContext, cell: Cell, parts: &Direction, backwards: bool) -> Outcome<[ValueId; 3]> {
    let is_lstm = cell == Cell::Lstm;
    let mut operands = vec![parts.hidden];
    if is_lstm {
        operands.push(parts.cell);
    }
    let carried = operands.len();
    operands.push(parts.contribution);
    operands.extend(parts.is_inside);
    let scanned = operands.len() - carried;
    let attributes = Attributes::from([
        ("carried_count".into(), carried.into()),
        ("axes".into(), vec![0i64; scanned].into()),
        ("reverse".into(), vec![i64::from(backwards); scanned].into()),
    ]);
    let op = node.begin_region_op(&core::SCAN, &operands, attributes, carried + 1);
    let mut arguments: Vec<TensorType> = operands.iter().map(|value| node.ty(*value).clone()).collect();
    let length = arguments[carried].shape.remove(0);
    if let Some(flags) = arguments.get_mut(carried + 1) {
        flags.shape.remove(0);
    }
    let values = node.open_region(op, 0, &arguments);
    let from_input = values[carried];
    let (hidden, state) = match cell {
        Cell::Lstm => lstm(node, parts, from_input, values[0], values[1])?,
        Cell::Gru => (gru(node, parts, from_input, values[0])?, values[0]),
        Cell::Rnn => {
            let sum = with_recurrent(node, parts, from_input, values[0])?;
            (node.unary(&core::TANH, sum)?, values[0])
        }
    };
    // Behind its end a sequence keeps its state and shows zeros.
    let is_inside = values.get(carried + 1).copied();
    let zero = node.scalar_like(hidden, 0.0)?;
    let shown = held(node, is_inside, hidden, zero)?;
    let hidden = held(node, is_inside, hidden, values[0])?;
    let state = if is_lstm { held(node, is_inside, state, values[1])? } else { state };
    let yielded: &[ValueId] = if is_lstm { &[hidden, state, shown] } else { &[hidden, shown] };
    let mut results: Vec<TensorType> = yielded.iter().map(|value| node.ty(*value).clone()).collect();
    node.close_region(yielded)?;
    if let Some(last) = results.last_mut() {
        last.shape.insert(0, length);
    }
    let values = node.end_region_op(op, &results);
    Ok([values[0], values[if is_lstm { 1 } else { 0 }], values[carried]])
}

/// input + h R + b.
fn with_recurrent(
    node: &mut NodeContext,
    parts: &Direction,
    from_input: ValueId,
    hidden: ValueId,
) -> Outcome<ValueId> {
    let own = match parts.quantized {
        Some((scale, zero)) => dynamic_product(node, hidden, parts.recurrent, scale, Some(zero))?,
        None => node.matmul(hidden, parts.recurrent)?,
    };
    let sum = node.add(from_input, own)?;
    match parts.bias {
        Some(bias) => node.add(sum, bias),
        None => Ok(sum),
    }
}

/// Gate `index` of `[b, gates * h]`, through an activation.
fn gate(
    node: &mut NodeContext,
    gates: ValueId,
    index: i64,
    size: &Dim,
    activation: Option<&'static OpDef>,
) -> Outcome<ValueId> {
    let x = node.slice_axis(gates, 1, &(size * &Dim::Known(index)), size)?;
    match activation {
        Some(def) => node.unary(def, x),
        None => Ok(x),
    }
}

/// Gates in the order input, output, forget, cell.
fn lstm(
    node: &mut NodeContext,
    parts: &Direction,
    from_input: ValueId,
    hidden: ValueId,
    cell: ValueId,
) -> Outcome<(ValueId, ValueId)> {
    let size = node.dim(hidden, 1)?;
    let gates = with_recurrent(node, parts, from_input, hidden)?;
    let looked = |node: &mut NodeContext, index: i64, cell: ValueId| -> Outcome<ValueId> {
        let mut x = gate(node, gates, index, &size, None)?;
        if let Some(peephole) = parts.peephole {
            let weight = node.slice_axis(peephole, 0, &(&size * &Dim::Known(index)), &size)?;
            let seen = node.mul(weight, cell)?;
            x = node.add(x, seen)?;
        }
        node.unary(&core::SIGMOID, x)
    };
    let (input, forget) = (looked(node, 0, cell)?, looked(node, 2, cell)?);
    let new = gate(node, gates, 3, &size, Some(&core::TANH))?;
    let kept = node.mul(forget, cell)?;
    let added = node.mul(input, new)?;
    let cell = node.add(kept, added)?;
    // The output gate sees the new state.
    let output = looked(node, 1, cell)?;
    let shown = node.unary(&core::TANH, cell)?;
    Ok((node.mul(output, shown)?, cell))
}

/// Gates in the order update, reset, hidden.
fn gru(node: &mut NodeContext, parts: &Direction, from_input: ValueId, hidden: ValueId) -> Outcome<ValueId> {
    let size = node.dim(hidden, 1)?;
    let two = &size * &Dim::Known(2);
    let part_of = |node: &mut NodeContext, from: ValueId, axis: usize, index: i64, width: &Dim| {
        node.slice_axis(from, axis, &(&size * &Dim::Known(index)), width)
    };
    let weight = part_of(node, parts.recurrent, 1, 0, &two)?;
    let weight_hidden = part_of(node, parts.recurrent, 1, 2, &size)?;
    let bias = parts.bias.map(|bias| part_of(node, bias, 0, 0, &two)).transpose()?;
    let bias_hidden = parts.bias.map(|bias| part_of(node, bias, 0, 2, &size)).transpose()?;
    let add = |node: &mut NodeContext, x: ValueId, bias: Option<ValueId>| match bias {
        Some(bias) => node.add(x, bias),
        None => Ok(x),
    };
    let own = node.matmul(hidden, weight)?;
    let given = part_of(node, from_input, 1, 0, &two)?;
    let gates = node.add(given, own)?;
    let gates = add(node, gates, bias)?;
    let update = gate(node, gates, 0, &size, Some(&core::SIGMOID))?;
    let reset = gate(node, gates, 1, &size, Some(&core::SIGMOID))?;
    let given = part_of(node, from_input, 1, 2, &size)?;
    let own = if node.flag("linear_before_reset", false)? {
        let own = node.matmul(hidden, weight_hidden)?;
        let own = add(node, own, bias_hidden)?;
        node.mul(reset, own)?
    } else {
        let kept = node.mul(reset, hidden)?;
        let own = node.matmul(kept, weight_hidden)?;
        add(node, own, bias_hidden)?
    };
    let sum = node.add(given, own)?;
    let new = node.unary(&core::TANH, sum)?;
    // (1 - z) * new + z * hidden
    let difference = node.sub(hidden, new)?;
    let moved = node.mul(update, difference)?;
    node.add(new, moved)
}
