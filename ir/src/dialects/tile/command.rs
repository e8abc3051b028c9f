//! The ops that an engine runs: one row per portable command. The command set defines what each computes, to the bit; the rows here
//! say its views (in the command's field order) and its other fields.
//!
//! ```text
//! "tile.matmul"(%c, %a, %b) <{operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}> {accumulate = true, engine = "matrix"} : (..) -> ()
//! ```

use super::{Access, CommandOp, ENGINES};
use crate::op_def::{
    AttributeRule, OpDef, TypeRule, ValueDef, attribute, optional as optional_operand, optional_attribute,
    value,
};

macro_rules! operand {
    (optional $name:ident) => {
        optional_operand(stringify!($name), TypeRule::View)
    };
    ($access:ident $name:ident) => {
        value(stringify!($name), TypeRule::View)
    };
}

macro_rules! access {
    (read) => {
        Access::Read
    };
    (optional) => {
        Access::Read
    };
    (write) => {
        Access::Write
    };
    (update) => {
        Access::Update
    };
}

macro_rules! field {
    (needs $name:ident $rule:ident) => {
        attribute(stringify!($name), AttributeRule::$rule)
    };
    (may $name:ident $rule:ident) => {
        optional_attribute(stringify!($name), AttributeRule::$rule)
    };
}

macro_rules! commands {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $text:literal ($($access:ident $operand:ident),*)
        { $($need:ident $field:ident: $rule:ident),* } $($results:expr)?;
    )*) => {
        $(
            $(#[doc = $doc])+
            pub static $name: OpDef = OpDef {
                name: concat!("tile.", $text),
                doc: concat!($($doc),+),
                operands: &[$(operand!($access $operand)),*],
                results: commands!(@results $($results)?),
                attributes: &[
                    attribute("engine", AttributeRule::OneOf(ENGINES)),
                    $(field!($need $field $rule)),*
                ],
                ..OpDef::DEFAULT
            };
        )*

        /// All engine commands, with what they do with their operands.
        pub static COMMANDS: &[CommandOp] = &[$(CommandOp { def: &$name, access: &[$(access!($access)),*] }),*];
    };
    (@results) => { &[] };
    (@results $results:expr) => { $results };
}

const TOKEN: &[ValueDef] = &[value("token", TypeRule::Opaque)];

commands! {
    /// Strided copy between views of one element type and the same extents. On a DMA engine it is asynchronous until a
    /// `tile.wait` for its token (or its `name`).
    TRANSFER "transfer" (write destination, read source) { may name: Str } TOKEN;
    /// `destination[o.., i.., r..] = source[o.., indices[i..], r..]`, `o` being the dimensions before `axis`.
    GATHER "gather" (write destination, read source, read indices) { needs axis: Int };
    /// `destination[i] = source[i with i[axis] replaced by indices[i]]`.
    GATHER_ELEMENTS "gather_elements" (write destination, read source, read indices) { needs axis: Int };
    /// `destination[i with i[axis] replaced by indices[i]] op= updates[i]`.
    SCATTER_ELEMENTS "scatter_elements" (update destination, read indices, read updates) { needs axis: Int, needs reduction: Str };
    /// The last dimension of `indices` holds coordinates into the source's dimensions after `batch_dims`.
    GATHER_ND "gather_nd" (write destination, read source, read indices) { needs batch_dims: Int };
    /// The last dimension of `indices` holds coordinates into the destination's leading dimensions.
    SCATTER_ND "scatter_nd" (update destination, read indices, read updates) { needs reduction: Str };
    /// Writes one value to every element.
    FILL "fill" (write destination) { needs value: Float };
    /// `destination[.., i, ..] = start + i * step` along `axis`.
    IOTA "iota" (write destination) { needs axis: Int, may start: Dim, may step: Int };
    /// `destination[.., m, n] (+)= sum over k of a[.., m, k] * b[.., k, n]`; `b` may be quantised, with `scale` and `zero_point`
    /// [.., blocks, n], each row for `block` rows of b (0: one row for all). A packed `b` [.., n1, k1, h, n0, r] holds row
    /// `(i * h + p) * r + q` of column `j * n0 + c` at [j, i, p, c, q]; its factors are [.., n1, blocks, n0].
    MATMUL "matmul" (
        write destination, read a, read b, optional scale, optional zero_point, optional codebook, optional indices
    ) { may block: Int, may accumulate: Bool };
    /// `destination i32 (+)= sum over k of (a - a_zero) * (b - b_zero)`.
    MATMUL_INTEGER "matmul_integer" (write destination, read a, read b, optional a_zero, optional b_zero) { may accumulate: Bool };
    /// x [n, c, spatial..], w [o, c / groups, kernel..], destination [n, o, spatial..].
    /// Integers count from `x_zero` and `w_zero`.
    CONVOLUTION "convolution" (write destination, read x, read w) {
        needs strides: Ints, needs dilations: Ints, needs pads_low: Ints, needs groups: Int, may x_zero: Int,
        may w_zero: Int, may accumulate: Bool
    };
    /// x [n, c, spatial..], w [c, o / groups, kernel..], destination [n, o, spatial..].
    CONV_TRANSPOSE "conv_transpose" (write destination, read x, read w) {
        needs strides: Ints, needs dilations: Ints, needs pads_low: Ints, needs groups: Int, may accumulate: Bool
    };
    /// Window maximum or mean over the spatial dimensions of x [n, c, spatial..].
    POOL "pool" (write destination, read x) {
        needs function: Str, needs kernel: Ints, needs strides: Ints, needs dilations: Ints, needs pads_low: Ints,
        needs pads_high: Ints, may count_include_pad: Bool
    };
    /// One flash-attention step over a tile of keys: q `[rows, d]`, k `[t, d]`, v `[t, e]`; accumulator `[rows, e]`, running maximum and
    /// sum `[rows]`. Key j is visible to row r when `j <= r / group + causal_offset`, and, with a window, `j > r / group +
    /// causal_offset - window`. Row j of k is scaled by row j / `block` of its scale; a `part` (all, settled or recent) limits what a
    /// row sees to blocks that at least `keep` keys follow, or to the others. With `ahead` keys after the position are seen too.
    ATTENTION "attention" (
        update accumulator, update running_maximum, update running_sum, read q, read k, read v, optional mask,
        optional k_scale, optional k_offset, optional v_scale, optional v_offset
    ) {
        needs scale: Float, may softcap: Float, may causal_offset: Dim, may window: Int, may group: Int, may block: Int,
        may part: Str, may keep: Int, may ahead: Bool
    };
    /// `destination[r, e] = accumulator[r, e] / sum[r]`, 0 where the sum is 0.
    ATTENTION_FINISH "attention_finish" (write destination, read accumulator, read sum) {};
    /// Elementwise function of one operand, with constants `alpha` and `beta`.
    UNARY "unary" (write destination, read x) { needs function: Str, may alpha: Float, may beta: Float };
    /// Elementwise function of two operands.
    BINARY "binary" (write destination, read a, read b) { needs function: Str };
    /// `destination = condition ? a : b`.
    SELECT "select" (write destination, read condition, read a, read b) {};
    /// Changes the element type.
    CONVERT "convert" (write destination, read x) { may saturate: Bool, may rounding: Str };
    /// `destination = saturate(round_half_even(x / scale) + zero_point)`.
    QUANTIZE "quantize" (write destination, read x, read scale, optional zero_point) {};
    /// `destination = (x - zero_point) * scale`.
    DEQUANTIZE "dequantize" (write destination, read x, read scale, optional zero_point) {};
    /// The last dimension in groups: `offset = minimum`, `scale = range / levels`, `destination = round((x - offset) / scale)`.
    QUANTIZE_GROUPS "quantize_groups" (write destination, write scale, write offset, read x) {};
    /// Reduces every dimension where the destination's extent is 1 and x's is not.
    REDUCE "reduce" (write destination, read x) { needs function: Str, may accumulate: Bool };
    /// Softmax over the last dimension, or its logarithm.
    SOFTMAX "softmax" (write destination, read x) { may log: Bool };
    /// Normalises over the last dimension, times gain, plus bias.
    NORMALIZE "normalize" (write destination, read x, optional gain, optional bias) { needs kind: Str, needs epsilon: Float };
    /// Rotary embedding of the last dimension.
    ROPE "rope" (write destination, read x, read cos, read sin) { may interleaved: Bool };
    /// Running sum or product along an axis.
    CUMULATIVE "cumulative" (write destination, read x) {
        needs function: Str, needs axis: Int, may exclusive: Bool, may reverse: Bool
    };
    /// Index of the largest or smallest element along an axis.
    ARG_REDUCE "arg_reduce" (write destination, read x) { needs function: Str, needs axis: Int, may select_last: Bool };
    /// The k largest (or smallest) along an axis, in order.
    TOP_K "top_k" (write values, write indices, read x) { needs axis: Int, may largest: Bool };
}
