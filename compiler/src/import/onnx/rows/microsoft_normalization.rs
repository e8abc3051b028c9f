//! Normalisations of com.microsoft: embeddings of BERT, group normalisation of diffusion models, gated RMS normalisation.
//!
//! Source: ONNX Runtime's docs/ContribOperators.md.

use super::super::context::NodeContext;
use super::super::emit::Quantization;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft};
use super::fused::{channels_first, channels_last};
use super::normalization::{normalize, per_channel, standardize};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    microsoft("EmbedLayerNormalization", embed),
    microsoft("GatedRMSNorm", gated_rms_norm),
    microsoft("GroupNorm", |node| group_norm(node, false)),
    microsoft("QEmbedLayerNormalization", quantized_embed),
    microsoft("SkipGroupNorm", |node| group_norm(node, true)),
];

/// The tables and vectors of an embedding.
struct Tables {
    word: ValueId,
    position: ValueId,
    segment: Option<ValueId>,
    gain: ValueId,
    bias: ValueId,
}

fn embed(node: &mut NodeContext) -> Made {
    let tables = Tables {
        word: node.value(2)?,
        position: node.value(3)?,
        segment: node.optional_value(4)?,
        gain: node.value(5)?,
        bias: node.value(6)?,
    };
    let positions = node.optional_value(8)?;
    embedded(node, &tables, positions)
}

/// As [`embed`] with tables and vectors in u8 or i8: scales at 8.., zero points at 13...
fn quantized_embed(node: &mut NodeContext) -> Made {
    let mut parts = Vec::new();
    for at in 0..5 {
        parts.push(match node.optional_value(2 + at)? {
            None => None,
            Some(codes) => {
                let (scale, zero) = (node.value(8 + at)?, node.value(13 + at)?);
                let (scale, zero) = (node.reshape(scale, &[])?, node.reshape(zero, &[])?);
                let element = node.element(scale);
                let with = Quantization::per_tensor(scale, Some(zero));
                Some(node.dequantize(codes, &with, element)?)
            }
        });
    }
    let part = |at: usize| parts[at].ok_or_else(|| Fault::model(format!("input {} is missing", 2 + at)));
    let tables =
        Tables { word: part(0)?, position: part(1)?, segment: parts[2], gain: part(3)?, bias: part(4)? };
    embedded(node, &tables, None)
}

/// Outputs: the normalised sum, how many words the mask (input 7) keeps in each sequence, the sum.
fn embedded(node: &mut NodeContext, tables: &Tables, positions: Option<ValueId>) -> Made {
    let ids = node.value(0)?;
    let shape = node.shape(ids);
    let [batch, length] = shape.as_slice() else {
        return Err(Fault::model(format!("input 0 must be [batch, sequence], found {}", node.ty(ids))));
    };
    let positions = match positions {
        Some(positions) => positions,
        None => node.iota(Element::I64, std::slice::from_ref(length), 0)?,
    };
    let words = node.gather(tables.word, ids, 0)?;
    let places = node.gather(tables.position, positions, 0)?;
    let mut sum = node.add(words, places)?;
    if let (Some(table), Some(segments)) = (tables.segment, node.optional_value(1)?) {
        let segments = node.gather(table, segments, 0)?;
        sum = node.add(sum, segments)?;
    }
    let epsilon = node.float("epsilon", 1e-12)?;
    let last = node.rank(sum) - 1;
    let y = normalize(node, sum, last, tables.gain, Some(tables.bias), epsilon, false)?;
    let counts = match node.optional_value(7)? {
        Some(mask) => {
            let mask = node.cast(mask, Element::I32)?;
            node.reduce(&core::REDUCE_SUM, mask, &[1], false)?
        }
        None => {
            let zero = node.ints(Element::I32, &[], &[0])?;
            node.broadcast(zero, std::slice::from_ref(batch))?
        }
    };
    node.many(&[y, counts, sum])
}

/// Group normalisation of x, or of x + skip + bias, with an optional SiLU; the sum is output 1.
fn group_norm(node: &mut NodeContext, has_skip: bool) -> Made {
    let is_last = node.flag("channels_last", true)?;
    let (groups, epsilon) = (node.required_int("groups")?, node.float("epsilon", 1e-5)?);
    let mut x = node.value(0)?;
    if node.rank(x) != 4 {
        return Err(Fault::model(format!("an image of rank 4 is needed, found {}", node.ty(x))));
    }
    if has_skip {
        x = skipped(node, x, is_last)?;
    }
    let image = if is_last { channels_first(node, x)? } else { x };
    let shape = node.shape(image);
    let rest = shape[1]
        .divide_exactly(&Dim::Known(groups))
        .filter(|_| groups > 0)
        .ok_or_else(|| Fault::model(format!("{} channels do not split into {groups} groups", shape[1])))?;
    let apart = [shape[0].clone(), Dim::Known(groups), rest, shape[2].clone(), shape[3].clone()];
    let grouped = node.reshape(image, &apart)?;
    let grouped = node.cast(grouped, Element::F32)?;
    let (y, _, _) = standardize(node, grouped, &[2, 3, 4], epsilon)?;
    let mut y = node.reshape(y, &shape)?;
    for (input, def) in [(1, &core::MUL), (2, &core::ADD)] {
        let vector = node.value(input)?;
        let vector = node.cast(vector, Element::F32)?;
        let vector = per_channel(node, vector, 4)?;
        y = node.binary(def, y, vector)?;
    }
    y = match node.int("activation", 0)? {
        0 => y,
        1 => node.unary(&core::SILU, y)?,
        other => return Err(Fault::model(format!("attribute 'activation' = {other} must be 0 or 1"))),
    };
    let y = node.cast_like(y, x)?;
    let y = if is_last { channels_last(node, y)? } else { y };
    if has_skip { node.many(&[y, x]) } else { node.one(y) }
}

/// x + skip + bias; a skip of `[n, c]` is one per image and channel.
fn skipped(node: &mut NodeContext, x: ValueId, is_last: bool) -> Outcome<ValueId> {
    let (mut skip, one) = (node.value(3)?, Dim::Known(1));
    let shape = node.shape(skip);
    let spread = |n: &Dim, c: &Dim| match is_last {
        true => [n.clone(), one.clone(), one.clone(), c.clone()],
        false => [n.clone(), c.clone(), one.clone(), one.clone()],
    };
    if let [n, c] = shape.as_slice() {
        skip = node.reshape(skip, &spread(n, c))?;
    }
    let mut sum = node.add(x, skip)?;
    if let Some(bias) = node.optional_value(4)? {
        let count = node.dim(bias, 0)?;
        let bias = node.reshape(bias, &spread(&one, &count))?;
        sum = node.add(sum, bias)?;
    }
    Ok(sum)
}

/// rms_norm(x) * scale * activation(gate) over groups as long as the scale, in f32.
fn gated_rms_norm(node: &mut NodeContext) -> Made {
    let (x, scale, gate) = (node.value(0)?, node.value(1)?, node.value(2)?);
    let (shape, width) = (node.shape(x), node.dim(scale, 0)?);
    let count = shape.last().and_then(|last| last.divide_exactly(&width));
    let count =
        count.ok_or_else(|| Fault::model(format!("{} does not split into groups of {width}", node.ty(x))))?;
    let mut apart = shape[..shape.len() - 1].to_vec();
    apart.extend([count, width]);
    let (epsilon, element) = (node.float("epsilon", 1e-5)?, node.element(x));
    let name = node.text("activation", "silu")?;
    let rows = node.reshape(x, &apart)?;
    let (rows, scale) = (node.cast(rows, Element::F32)?, node.cast(scale, Element::F32)?);
    let y = node.make(&core::RMS_NORM, |op| op.operands(&[rows, scale]).attribute("epsilon", epsilon))?;
    let y = node.reshape(y, &shape)?;
    let gate = node.cast(gate, Element::F32)?;
    let gate = match name.as_str() {
        "silu" | "swish" => node.unary(&core::SILU, gate)?,
        "sigmoid" => node.unary(&core::SIGMOID, gate)?,
        other => return Err(Fault::model(format!("attribute 'activation' = '{other}' is not known"))),
    };
    let y = node.mul(y, gate)?;
    let y = node.cast(y, element)?;
    node.one(y)
}
