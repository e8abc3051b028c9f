//! Operators of com.microsoft that language models carry: grouped-query attention, rotary embedding, weights of few bits.
//!
//! Source: ONNX Runtime's docs/ContribOperators.md. The caches of GroupQueryAttention may be longer than what is valid in them; here, as for
//! every other exporter, the past is valid as a whole, and `seqlens_k` says nothing more than its length.

use super::super::context::NodeContext;
use super::super::emit::Quantization;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft};
use super::attention::{
    Heads, Rule, attend, join_heads, length_mask, rotate, split_heads, table_rows, with_past,
};
use super::convolution::causal_conv_with_state;
use super::movement::reshaped;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::{Dim, Function};
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    microsoft("CausalConvWithState", causal_conv_with_state),
    microsoft("GatherBlockQuantized", gather_block_quantized),
    microsoft("GroupQueryAttention", group_query_attention),
    microsoft("MatMulNBits", matmul_n_bits),
    microsoft("MultiHeadAttention", multi_head_attention),
    microsoft("RotaryEmbedding", rotary_embedding),
];

/// Positions start, start + 1, .. as `[s]`.
fn positions_from(node: &mut NodeContext, start: &Dim, length: &Dim) -> Outcome<ValueId> {
    let ramp = node.iota(Element::I64, std::slice::from_ref(length), 0)?;
    if *start == Dim::Known(0) {
        return Ok(ramp);
    }
    let start = node.size(start)?;
    node.add(ramp, start)
}

fn rotary_embedding(node: &mut NodeContext) -> Made {
    let (x, positions) = (node.value(0)?, node.value(1)?);
    let (cos, sin) = (node.value(2)?, node.value(3)?);
    let is_flat = node.rank(x) == 3;
    let interleaved = node.flag("interleaved", false)?;
    let heads = if is_flat {
        let given = node.int("num_heads", 0)?;
        let width = &node.dim(cos, node.rank(cos).saturating_sub(1))? * &Dim::Known(2);
        let count = match given {
            0 => node.dim(x, 2)?.divide_exactly(&width).and_then(|count| count.known()),
            given => Some(given),
        };
        let count = count
            .ok_or_else(|| Fault::model(format!("{} is no multiple of head size {width}", node.ty(x))))?;
        split_heads(node, x, count)?
    } else {
        x
    };
    if node.rank(heads) != 4 {
        return Err(Fault::model(format!("input 0 must have rank 3 or 4, found {}", node.ty(x))));
    }
    // One position alone is that of the first token.
    let positions = if node.shape(positions).as_slice() == [Dim::Known(1)] {
        let length = node.dim(heads, 2)?;
        let ramp = positions_from(node, &Dim::Known(0), &length)?;
        let start = node.cast(positions, Element::I64)?;
        node.add(ramp, start)?
    } else {
        positions
    };
    let (cos, sin) = (table_rows(node, cos, positions)?, table_rows(node, sin, positions)?);
    let y = rotate(node, heads, cos, sin, interleaved)?;
    let scale = node.float("scale", 1.0)?;
    let y = node.scale(y, scale)?;
    let y = if is_flat { join_heads(node, y)? } else { y };
    node.one(y)
}

/// Queries, keys and values `[b, heads, s, d]` from three inputs or one packed input.
fn query_key_value(node: &mut NodeContext, heads: i64, groups: i64) -> Outcome<[ValueId; 3]> {
    let q = node.value(0)?;
    if let (Some(k), Some(v)) = (node.optional_value(1)?, node.optional_value(2)?) {
        return Ok([
            split_heads(node, q, heads)?,
            split_heads(node, k, groups)?,
            split_heads(node, v, groups)?,
        ]);
    }
    let count = groups.checked_mul(2).and_then(|both| both.checked_add(heads)).filter(|count| *count > 0);
    let width = node.shape(q).get(2).cloned().unwrap_or(Dim::Known(0));
    let size = count.and_then(|count| width.divide_exactly(&Dim::Known(count)));
    let size = size.ok_or_else(|| {
        Fault::model(format!("{width} does not split into {heads} heads and 2 x {groups} groups"))
    })?;
    let (q_width, k_width) = (&size * &Dim::Known(heads), &size * &Dim::Known(groups));
    let starts = [(Dim::Known(0), q_width.clone(), heads), (q_width.clone(), k_width.clone(), groups)];
    let mut parts = Vec::new();
    for (start, width, heads) in starts.into_iter().chain([(&q_width + &k_width, k_width, groups)]) {
        let part = node.slice_axis(q, 2, &start, &width)?;
        parts.push(split_heads(node, part, heads)?);
    }
    Ok([parts[0], parts[1], parts[2]])
}

fn group_query_attention(node: &mut NodeContext) -> Made {
    let (heads, groups) = (node.required_int("num_heads")?, node.required_int("kv_num_heads")?);
    refuse_cache_quantization(node)?;
    let [mut q, mut k, v] = query_key_value(node, heads, groups)?;
    let (past_key, past_value) = (node.optional_value(3)?, node.optional_value(4)?);
    let past = past_key.and_then(|past| node.shape(past).get(2).cloned()).unwrap_or(Dim::Known(0));
    let length = node.dim(q, 2)?;
    if let Some(total) = node.optional(6).and_then(|total| node.symbolic_of(&total))
        && let Some(total) = total.values.first().filter(|total| total.as_symbol().is_some())
    {
        node.equate("the total length differs", total, &(&past + &length))?;
    }
    if node.flag("do_rotary", false)? {
        let interleaved = node.flag("rotary_interleaved", false)?;
        let positions = match node.optional_value(9)? {
            Some(positions) => positions,
            None => positions_from(node, &past, &length)?,
        };
        let (cos, sin) = (node.value(7)?, node.value(8)?);
        let (cos, sin) = (table_rows(node, cos, positions)?, table_rows(node, sin, positions)?);
        q = rotate(node, q, cos, sin, interleaved)?;
        k = rotate(node, k, cos, sin, interleaved)?;
    }
    let (k, v) = (with_past(node, past_key, k)?, with_past(node, past_value, v)?);
    let scale = node.float("scale", 0.0)?;
    let rule = Rule {
        scale: (scale != 0.0).then_some(scale),
        causal: true,
        softcap: node.float("softcap", 0.0)?,
        window: node.int("local_window_size", -1)?,
    };
    let sinks = match node.optional_value(11)? {
        Some(sinks) => Some(sinks),
        None if node.flag("smooth_softmax", false)? => {
            let zero = node.scalar_like(q, 0.0)?;
            Some(node.broadcast(zero, &[Dim::Known(heads)])?)
        }
        None => None,
    };
    let bias = node.optional_value(10)?;
    let y = attend(node, &Heads { q, k, v }, &rule, bias, sinks)?;
    let y = join_heads(node, y)?;
    node.many(&[y, k, v])
}

fn refuse_cache_quantization(node: &NodeContext) -> Outcome<()> {
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = node.text(name, "NONE")?;
        if kind != "NONE" && !kind.is_empty() {
            return Err(Fault::unsupported(
                format!("a quantised cache ({name} = {kind}) is not supported"),
                "export it as float",
            ));
        }
    }
    Ok(())
}

fn multi_head_attention(node: &mut NodeContext) -> Made {
    let heads = node.required_int("num_heads")?;
    let mut parts = Vec::new();
    for at in 0..3 {
        let hidden = node.optional_value(at)?;
        let x = hidden.ok_or_else(|| {
            Fault::unsupported("packed inputs are not supported", "give query, key and value apart")
        })?;
        if node.rank(x) != 3 && (at == 0 || node.rank(x) != 4) {
            return Err(Fault::unsupported(
                "packed inputs are not supported",
                "give query, key and value apart",
            ));
        }
        parts.push(x);
    }
    if let Some(bias) = node.optional_value(3)? {
        let mut start = Dim::Known(0);
        for part in &mut parts {
            let width = node.shape(*part).last().cloned().unwrap_or(Dim::Known(0));
            let piece = node.slice_axis(bias, 0, &start, &width)?;
            *part = node.add(*part, piece)?;
            start = &start + &width;
        }
    }
    for part in &mut parts {
        if node.rank(*part) == 3 {
            *part = split_heads(node, *part, heads)?;
        }
    }
    let (past_key, past_value) = (node.optional_value(6)?, node.optional_value(7)?);
    let (k, v) = (with_past(node, past_key, parts[1])?, with_past(node, past_value, parts[2])?);
    let mut mask = node.optional_value(5)?;
    if let Some(padding) = node.optional_value(4)? {
        mask = Some(padding_mask(node, mask, padding, &node.dim(k, 2)?)?);
    }
    let scale = node.float("scale", 0.0)?;
    let rule = Rule {
        scale: (scale != 0.0).then_some(scale),
        causal: node.flag("unidirectional", false)?,
        softcap: 0.0,
        window: -1,
    };
    let y = attend(node, &Heads { q: parts[0], k, v }, &rule, mask, None)?;
    let y = join_heads(node, y)?;
    node.many(&[y, k, v])
}

/// A padding mask: a length per batch `[b]`, or nonzero where a key is kept `[b, t]`.
fn padding_mask(
    node: &mut NodeContext,
    mask: Option<ValueId>,
    padding: ValueId,
    keys: &Dim,
) -> Outcome<ValueId> {
    let shape = node.shape(padding);
    match shape.as_slice() {
        [_] => length_mask(node, mask, padding, keys),
        [batch, length] => {
            let keep = node.cast(padding, Element::Bool)?;
            let one = Dim::Known(1);
            let keep = node.reshape(keep, &[batch.clone(), one.clone(), one, length.clone()])?;
            super::attention::also_keep(node, mask, keep)
        }
        _ => Err(Fault::unsupported(
            format!("a padding mask of {} is not supported", node.ty(padding)),
            "use [batch, keys]",
        )),
    }
}

/// The unsigned element type of a number of bits that storage can be read as.
fn unsigned(bits: i64) -> Option<Element> {
    match bits {
        2 => Some(Element::U2),
        4 => Some(Element::U4),
        8 => Some(Element::U8),
        _ => None,
    }
}

/// Packed bytes read as a matrix `[rows, columns]` of few bits.
fn unpacked(
    node: &mut NodeContext,
    packed: &Operand,
    bits: i64,
    rows: i64,
    columns: i64,
) -> Outcome<Operand> {
    let what =
        || Fault::model(format!("{} does not hold {rows} x {columns} numbers of {bits} bits", packed.ty()));
    if rows < 0 || columns < 0 {
        return Err(what());
    }
    if let Some(element) = unsigned(bits) {
        let ty = TensorType::of(element, &[rows, columns]);
        if let Some(constant) = packed.reinterpret(ty) {
            return Ok(constant);
        }
        if element == Element::U8 {
            return reshaped(node, packed, &[Dim::Known(rows), Dim::Known(columns)]);
        }
        return Err(if packed.elements().is_some() {
            what()
        } else {
            Fault::unsupported("packed weights must be stored in the model", "make them initializers")
        });
    }
    three_bits(node, packed, rows, columns)
}

/// Eight numbers of three bits in three bytes, taken apart by shifts.
fn three_bits(node: &mut NodeContext, packed: &Operand, rows: i64, columns: i64) -> Outcome<Operand> {
    let dims = |dims: &[i64]| dims.iter().copied().map(Dim::Known).collect::<Vec<_>>();
    let value = node.data(packed)?;
    if columns % 8 != 0 {
        return Err(Fault::unsupported(
            format!("{columns} numbers of 3 bits in a row are not supported"),
            "use a multiple of 8",
        ));
    }
    let bytes = node.reshape(value, &dims(&[rows, columns / 8, 3]))?;
    let bytes = node.cast(bytes, Element::I32)?;
    let weights = node.ints(Element::I32, &[3], &[1, 256, 65536])?;
    let shifted = node.mul(bytes, weights)?;
    let words = node.reduce(&core::REDUCE_SUM, shifted, &[2], true)?;
    let shifts = node.ints(Element::I32, &[8], &[0, 3, 6, 9, 12, 15, 18, 21])?;
    let bitwise = |function: &'static str| {
        tilewright_ir::attribute::Attributes::from([("function".into(), function.into())])
    };
    let words = node.binary_with(&core::BITWISE, words, shifts, bitwise("shr"))?;
    let low = node.ints(Element::I32, &[], &[7])?;
    let codes = node.binary_with(&core::BITWISE, words, low, bitwise("and"))?;
    let codes = node.cast(codes, Element::U8)?;
    let codes = node.reshape(codes, &dims(&[rows, columns]))?;
    Ok(node.operand(codes))
}

/// The number that stands for zero where no zero points are given.
fn middle(node: &mut NodeContext, element: Element, bits: i64, shape: &[Dim]) -> Outcome<ValueId> {
    let zero = node.ints(element, &[], &[1 << (bits - 1)])?;
    node.broadcast(zero, shape)
}

/// y = x W^T with W `[N, K]` stored in blocks of few bits along K.
fn matmul_n_bits(node: &mut NodeContext) -> Made {
    let (k, n) = (node.required_int("K")?, node.required_int("N")?);
    let (bits, block) = (node.int("bits", 4)?, node.int("block_size", 32)?);
    let is_sane = k > 0 && n > 0 && block > 0 && [k, n, block].iter().all(|value| *value < 1 << 31);
    if !is_sane || !matches!(bits, 2 | 3 | 4 | 8) {
        return Err(Fault::unsupported(
            format!("K = {k}, N = {n}, bits = {bits}, block_size = {block} is not supported"),
            "2, 3, 4 and 8 bits are",
        ));
    }
    let blocks = (k + block - 1) / block;
    let (x, packed) = (node.value(0)?, node.input(1)?);
    let codes = unpacked(node, &packed, bits, n, blocks * block)?;
    let codes = node.data(&codes)?;
    let codes = node.slice_axis(codes, 1, &Dim::Known(0), &Dim::Known(k))?;
    let grid = [Dim::Known(n), Dim::Known(blocks)];
    let scales = node.input(2)?;
    let scales = reshaped(node, &scales, &grid)?;
    let scales = node.data(&scales)?;
    let zero_points = zero_points(node, bits, n, blocks, codes)?;
    let groups = node.optional(4);
    let is_plain = node.element(zero_points) == node.element(codes);
    let weight = if is_plain && !has_own_groups(node, groups.as_ref(), k, block)? {
        let with = Quantization { scale: scales, zero_point: Some(zero_points), axis: Some(1), block };
        let element = node.element(scales);
        node.dequantize(codes, &with, element)?
    } else {
        by_groups(node, codes, scales, zero_points, groups, (k, block))?
    };
    let weight = node.cast_like(weight, x)?;
    let weight = node.transpose(weight, &[1, 0])?;
    let x = if node.importer.options.int8_activations && node.int("accuracy_level", 0)? == 4 {
        rounded_in_blocks(node, x, k, block)?
    } else {
        x
    };
    let mut y = node.matmul(x, weight)?;
    if let Some(bias) = node.optional_value(5)? {
        y = node.add(y, bias)?;
    }
    node.one(y)
}

/// Activations rounded to int8 in blocks along the last axis: round(x * 127 / m) * m / 127 with m the largest size in the block.
pub(super) fn rounded_in_blocks(node: &mut NodeContext, x: ValueId, k: i64, block: i64) -> Outcome<ValueId> {
    let shape = node.shape(x);
    let (last, leading) = shape.split_last().ok_or_else(|| Fault::model("input 0 has no dimensions"))?;
    node.equate("the last dimension of input 0 is not K", last, &Dim::Known(k))?;
    let blocks = (k + block - 1) / block;
    let rank = shape.len();
    let missing = blocks * block - k;
    let padded = if missing == 0 {
        x
    } else {
        let low = vec![Dim::Known(0); rank];
        let mut high = low.clone();
        high[rank - 1] = Dim::Known(missing);
        node.make(&core::PAD, |op| {
            op.operand(x)
                .maybe(None)
                .attribute("low", low)
                .attribute("high", high)
                .attribute("mode", "constant")
        })?
    };
    let apart: Vec<Dim> = leading.iter().cloned().chain([Dim::Known(blocks), Dim::Known(block)]).collect();
    let apart = node.reshape(padded, &apart)?;
    let sizes = node.unary(&core::ABS, apart)?;
    let largest = node.reduce(&core::REDUCE_MAX, sizes, &[rank], true)?;
    let (zero, steps) = (node.scalar_like(x, 0.0)?, node.scalar_like(x, 127.0)?);
    let is_zero = node.compare("eq", largest, zero)?;
    let inverse = node.binary(&core::DIV, steps, largest)?;
    let inverse = node.select(is_zero, zero, inverse)?;
    let scaled = node.mul(apart, inverse)?;
    let rounded = node.make(&core::ROUND, |op| op.operand(scaled).attribute("mode", "half_even"))?;
    let scale = node.binary(&core::DIV, largest, steps)?;
    let y = node.mul(rounded, scale)?;
    let joined: Vec<Dim> = leading.iter().cloned().chain([Dim::Known(blocks * block)]).collect();
    let y = node.reshape(y, &joined)?;
    node.slice_axis(y, rank - 1, &Dim::Known(0), &Dim::Known(k))
}

/// Zero points `[N, blocks]`: packed as the weight is, or as floats, or in the middle of the range.
fn zero_points(node: &mut NodeContext, bits: i64, n: i64, blocks: i64, codes: ValueId) -> Outcome<ValueId> {
    let grid = [Dim::Known(n), Dim::Known(blocks)];
    let Some(given) = node.optional(3) else {
        return middle(node, node.element(codes), bits, &grid);
    };
    if given.element().is_float() {
        let given = reshaped(node, &given, &grid)?;
        return node.data(&given);
    }
    if bits == 3 {
        return Err(Fault::unsupported(
            "packed zero points of 3 bits are not supported",
            "give them as floats",
        ));
    }
    // Every row starts on a byte.
    let columns = (blocks * bits + 7) / 8 * 8 / bits;
    let points = unpacked(node, &given, bits, n, columns)?;
    let points = node.data(&points)?;
    node.slice_axis(points, 1, &Dim::Known(0), &Dim::Known(blocks))
}

/// True if `g_idx` says anything but that block i holds columns i * block_size and on.
fn has_own_groups(node: &mut NodeContext, groups: Option<&Operand>, k: i64, block: i64) -> Outcome<bool> {
    let Some(groups) = groups else { return Ok(false) };
    let known = super::super::fold::constant(&node.module, groups);
    Ok(known.is_none_or(|groups| groups.ints() != (0..k).map(|column| column / block).collect::<Vec<_>>()))
}

/// (code - zero) * scale with the block of every column looked up.
fn by_groups(
    node: &mut NodeContext,
    codes: ValueId,
    scales: ValueId,
    zero_points: ValueId,
    groups: Option<Operand>,
    (k, block): (i64, i64),
) -> Outcome<ValueId> {
    let groups = match groups {
        Some(groups) => node.data(&groups)?,
        None => {
            let columns = node.iota(Element::I32, &[Dim::Known(k)], 0)?;
            let block = node.ints(Element::I32, &[], &[block])?;
            node.binary(&core::DIV, columns, block)?
        }
    };
    let element = node.element(scales);
    let scales = node.gather(scales, groups, 1)?;
    let zero_points = node.cast(zero_points, element)?;
    let zero_points = node.gather(zero_points, groups, 1)?;
    let codes = node.cast(codes, element)?;
    let centered = node.sub(codes, zero_points)?;
    node.mul(centered, scales)
}

/// Rows of a table stored in blocks of few bits: gathered first, made real after.
fn gather_block_quantized(node: &mut NodeContext) -> Made {
    let (table, indices) = (node.input(0)?, node.value(1)?);
    let scales = node.value(2)?;
    let bits = node.int("bits", 4)?;
    let block = node.int("block_size", 128)?;
    let is_packed = table.element() == Element::U8;
    let rank = table.rank();
    let gather_axis = node.axis("gather_axis", 0, rank)?;
    let quantize_axis = node.axis("quantize_axis", 1, rank)?;
    if rank != 2 || gather_axis != 0 || quantize_axis != 1 || block < 1 {
        return Err(Fault::unsupported(
            "only rows of a matrix with blocks along them are supported",
            "use axes 0 and 1",
        ));
    }
    let known = |axis: usize| {
        table.shape()[axis]
            .known()
            .ok_or_else(|| Fault::unsupported("the table's shape must be known", "bind it"))
    };
    let (rows, width) = (known(0)?, known(1)?);
    let codes = if is_packed {
        let per_byte = if matches!(bits, 2 | 4 | 8) {
            8 / bits
        } else {
            return Err(Fault::unsupported(format!("{bits} bits are not supported"), "2, 4 and 8 bits are"));
        };
        unpacked(node, &table, bits, rows, width.saturating_mul(per_byte))?
    } else {
        table.clone()
    };
    let codes = node.data(&codes)?;
    let blocks =
        Dim::call(Function::FloorDiv, &(&node.dim(codes, 1)? + &Dim::Known(block - 1)), &Dim::Known(block));
    node.equate("the number of scales in a row is not that of blocks", &blocks, &node.dim(scales, 1)?)?;
    let zero_points = match node.optional(3) {
        Some(points) if is_packed && bits < 8 => {
            let columns = blocks.known().map_or(0, |blocks| (blocks * bits + 7) / 8 * 8 / bits);
            let points = unpacked(node, &points, bits, rows, columns)?;
            let points = node.data(&points)?;
            Some(node.slice_axis(points, 1, &Dim::Known(0), &blocks)?)
        }
        Some(points) => Some(node.data(&points)?),
        None if is_packed => Some(middle(node, node.element(codes), bits, &[Dim::Known(rows), blocks])?),
        None => None,
    };
    let codes = node.gather(codes, indices, 0)?;
    let scale = node.gather(scales, indices, 0)?;
    let zero_point = zero_points.map(|points| node.gather(points, indices, 0)).transpose()?;
    let axis = node.rank(codes) - 1;
    let with = Quantization { scale, zero_point, axis: Some(axis), block };
    let element = node.element(scales);
    let y = node.dequantize(codes, &with, element)?;
    node.one(y)
}
