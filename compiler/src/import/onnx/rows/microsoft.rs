//! Weights of few bits in com.microsoft: MatMulNBits, GatherBlockQuantized, MatMulBnb4.
//!
//! Source: ONNX Runtime's docs/ContribOperators.md.

use super::super::context::NodeContext;
use super::super::emit::Quantization;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, microsoft};
use super::movement::reshaped;
use tilewright_ir::attribute::Attributes;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::{Dim, Function};
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::TensorType;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    microsoft("GatherBlockQuantized", gather_block_quantized)
        .refuses("bits other than 2, 4 and 8; blocks below 16"),
    microsoft("MatMulBnb4", matmul_bnb4).refuses("rows that end within a block"),
    microsoft("MatMulNBits", matmul_n_bits).refuses("bits other than 2, 3, 4 and 8"),
];

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
pub(super) fn unpacked(
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

/// Numbers of three bits: each lies in one byte or across two.
fn three_bits(node: &mut NodeContext, packed: &Operand, rows: i64, columns: i64) -> Outcome<Operand> {
    let width = columns.saturating_mul(3).saturating_add(7) / 8;
    let value = node.data(packed)?;
    let bytes = node.reshape(value, &[Dim::Known(rows), Dim::Known(width)])?;
    let bytes = node.cast(bytes, Element::I32)?;
    let bits: Vec<i64> = (0..columns).map(|column| 3 * column).collect();
    let at = |skip: i64| bits.iter().map(|bit| (bit / 8 + skip).min(width - 1)).collect::<Vec<_>>();
    let (low, high) =
        (node.ints(Element::I64, &[columns], &at(0))?, node.ints(Element::I64, &[columns], &at(1))?);
    let (low, high) = (node.gather(bytes, low, 1)?, node.gather(bytes, high, 1)?);
    let high = node.scale(high, 256.0)?;
    let words = node.add(low, high)?;
    let shifts: Vec<i64> = bits.iter().map(|bit| bit % 8).collect();
    let shifts = node.ints(Element::I32, &[columns], &shifts)?;
    let words = bitwise(node, "shr", words, shifts)?;
    let seven = node.ints(Element::I32, &[], &[7])?;
    let codes = bitwise(node, "and", words, seven)?;
    let codes = node.cast(codes, Element::U8)?;
    Ok(node.operand(codes))
}

fn bitwise(node: &mut NodeContext, function: &'static str, a: ValueId, b: ValueId) -> Outcome<ValueId> {
    node.binary_with(&core::BITWISE, a, b, Attributes::from([("function".into(), function.into())]))
}

/// The number that stands for zero where no zero points are given.
pub(super) fn middle(node: &mut NodeContext, element: Element, bits: i64, shape: &[Dim]) -> Outcome<ValueId> {
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

/// A table stored in blocks of few bits: gathered first, made real after.
fn gather_block_quantized(node: &mut NodeContext) -> Made {
    let (table, indices) = (node.input(0)?, node.value(1)?);
    let (bits, block) = (node.int("bits", 4)?, node.int("block_size", 128)?);
    let is_packed = table.element() == Element::U8;
    let rank = table.rank();
    let gather_axis = node.axis("gather_axis", 0, rank)?;
    let quantize_axis = node.axis("quantize_axis", 1, rank)?;
    if block < 1 {
        return Err(Fault::unsupported(format!("blocks of {block} are not supported"), "use 16 or more"));
    }
    let codes = if is_packed { unpacked_rows(node, &table, bits)? } else { table };
    let codes = node.data(&codes)?;
    let scales = node.value(2)?;
    let width = node.dim(codes, quantize_axis)?;
    let blocks = Dim::call(Function::FloorDiv, &(&width + &Dim::Known(block - 1)), &Dim::Known(block));
    node.equate(
        "the scales along an axis are not those of blocks",
        &blocks,
        &node.dim(scales, quantize_axis)?,
    )?;
    let zero_points = match node.optional(3) {
        Some(points) if is_packed && bits < 8 => {
            let points = unpacked_rows(node, &points, bits)?;
            let points = node.data(&points)?;
            let last = node.dim(scales, rank - 1)?;
            Some(node.slice_axis(points, rank - 1, &Dim::Known(0), &last)?)
        }
        Some(points) => Some(node.data(&points)?),
        None if is_packed => Some(middle(node, node.element(codes), bits, &node.shape(scales))?),
        None => None,
    };
    let element = node.element(scales);
    let mut parts = [Some(codes), Some(scales), zero_points];
    let mut axis = quantize_axis;
    if gather_axis != quantize_axis {
        for part in parts.iter_mut().flatten() {
            *part = node.gather(*part, indices, gather_axis)?;
        }
        if quantize_axis > gather_axis {
            axis = quantize_axis + node.rank(indices) - 1;
        }
    }
    let [Some(codes), Some(scale), zero_point] = parts else { return Err("no codes".into()) };
    let with = Quantization { scale, zero_point, axis: Some(axis), block };
    let y = node.dequantize(codes, &with, element)?;
    let y = if gather_axis == quantize_axis { node.gather(y, indices, gather_axis)? } else { y };
    node.one(y)
}

/// Packed bytes read as few bits, the last axis longer by what a byte holds.
fn unpacked_rows(node: &mut NodeContext, table: &Operand, bits: i64) -> Outcome<Operand> {
    if !matches!(bits, 2 | 4 | 8) {
        return Err(Fault::unsupported(format!("{bits} bits are not supported"), "2, 4 and 8 bits are"));
    }
    let sizes: Option<Vec<i64>> = table.shape().iter().map(Dim::known).collect();
    let sizes = sizes.ok_or_else(|| Fault::unsupported("the table's shape must be known", "bind it"))?;
    let (last, leading) = sizes.split_last().ok_or_else(|| Fault::model("the table has no dimensions"))?;
    let rows = leading.iter().fold(1i64, |product, size| product.saturating_mul(*size));
    let columns = last.saturating_mul(8 / bits);
    let matrix = unpacked(node, table, bits, rows, columns)?;
    let shape: Vec<Dim> = leading.iter().copied().chain([columns]).map(Dim::Known).collect();
    reshaped(node, &matrix, &shape)
}

/// The values of bitsandbytes' two 4-bit types by code, as fractions of the largest: fp4, then nf4.
const BNB4_VALUES: [[f64; 16]; 2] = [
    [
        0.0,
        0.005_208_333_333_333_333,
        0.666_666_666_666_666_6,
        1.0,
        0.333_333_333_333_333_3,
        0.5,
        0.166_666_666_666_666_66,
        0.25,
        0.0,
        -0.005_208_333_333_333_333,
        -0.666_666_666_666_666_6,
        -1.0,
        -0.333_333_333_333_333_3,
        -0.5,
        -0.166_666_666_666_666_66,
        -0.25,
    ],
    [
        -1.0,
        -0.696_192_800_998_687_7,
        -0.525_073_051_452_636_7,
        -0.394_917_488_098_144_5,
        -0.284_441_381_692_886_35,
        -0.184_773_430_228_233_34,
        -0.091_050_036_251_544_95,
        0.0,
        0.079_580_299_556_255_34,
        0.160_930_201_411_247_25,
        0.246_112_301_945_686_34,
        0.337_915_241_718_292_24,
        0.440_709_829_330_444_34,
        0.562_617_003_917_694_1,
        0.722_956_836_223_602_3,
        1.0,
    ],
];

/// y = x W^T with the elements of W `[N, K]` stored as codes of 4 bits, high ones first, in blocks of one scale.
fn matmul_bnb4(node: &mut NodeContext) -> Made {
    let (k, n) = (node.required_int("K")?, node.required_int("N")?);
    let (block, kind) = (node.required_int("block_size")?, node.required_int("quant_type")?);
    let values = usize::try_from(kind).ok().and_then(|kind| BNB4_VALUES.get(kind));
    let is_sane = [k, n, block].iter().all(|size| (1..1 << 31).contains(size)) && k * n % 2 == 0;
    let (true, Some(values)) = (is_sane && k * n % block == 0, values) else {
        return Err(Fault::unsupported(
            format!("K = {k}, N = {n}, block_size = {block}, quant_type = {kind} is not supported"),
            "use whole blocks of fp4 (0) or nf4 (1)",
        ));
    };
    let packed = node.value(1)?;
    let one = Dim::Known(1);
    let bytes = node.reshape(packed, &[Dim::Known(k * n / 2), one])?;
    let bytes = node.cast(bytes, Element::I32)?;
    let shifts = node.ints(Element::I32, &[2], &[4, 0])?;
    let codes = bitwise(node, "shr", bytes, shifts)?;
    let low = node.ints(Element::I32, &[], &[15])?;
    let codes = bitwise(node, "and", codes, low)?;
    let (x, scales) = (node.value(0)?, node.value(2)?);
    let table = Tensor::from_floats(node.element(scales), &[16], values.to_vec());
    let table = node.tensor(&table)?;
    let weight = node.gather(table, codes, 0)?;
    let blocks = Dim::Known(k * n / block);
    let weight = node.reshape(weight, &[blocks.clone(), Dim::Known(block)])?;
    let scales = node.reshape(scales, &[blocks, Dim::Known(1)])?;
    let weight = node.mul(weight, scales)?;
    let weight = node.reshape(weight, &[Dim::Known(n), Dim::Known(k)])?;
    let weight = node.cast_like(weight, x)?;
    let weight = if node.flag("transB", true)? { node.transpose(weight, &[1, 0])? } else { weight };
    let y = node.matmul(x, weight)?;
    node.one(y)
}
