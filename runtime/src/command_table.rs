//! The command set: one table from which opcode, command type, encoder, decoder, disassembler, operand visitor and fuzz
//! input are generated. Nothing about a command's shape is written anywhere else.
//!
//! A row reads `opcode class name = Variant { field: type, .. }`. A field in brackets is a view the command touches:
//! `[read]`, `[write]`, or `[update]` (reads, then writes). Opcodes from 0x80 on belong to targets and carry bytes of their
//! own ([`Command::Target`]).
//!
//! How to name: commands are verbs or nouns of the operation, without element types (views carry those). A variant of an
//! operation is a field, not a command. Destinations come first, then sources.
//!
//! ```text
//! transfer dma0 token=3 destination=sram[0x0] f32<32x64:64,1> source=const[0x10000] f32<32x64:64,1>
//! wait token=3
//! matmul matrix destination=acc[0x0] f32<1x32:32,1> a=.. b=.. scale=none zero_point=none codebook=none indices=none block=0 accumulate=false
//! ```
//!
//! **Arithmetic.** Floating point operands are widened to f32 (f64 to f64), the command computes there, and the result
//! is rounded once, nearest even, to the destination's element. Integer arithmetic wraps at the destination's width. This is
//! the definition that every engine has to meet. This file must not know how a command is executed.

/// Calls `$generate!` with the whole command table.
macro_rules! for_each_command {
    ($generate:ident) => {
        $generate! {
            // ---- control ---------------------------------------------------------------------------------------
            /// Ends the program. Must be the last command, outside loops and conditions.
            0x00 Control end = End {},
            /// Runs the commands up to the matching `loop_end` with `register` = 0, step, 2 step, .. while it is less than
            /// `end` (evaluated once, on entry). After the loop the register is dead.
            0x01 Control loop_begin = LoopBegin {
                /// the counter; a scratch register
                register: Register,
                /// first value that is not run
                end: ExpressionId,
                /// increment, at least 1
                step: u32,
            },
            /// Closes the innermost loop.
            0x02 Control loop_end = LoopEnd {},
            /// Leaves the innermost loop when the boolean scalar is 0.
            0x03 Control break_unless = BreakUnless {
                /// one bool
                [read] condition: ViewId,
            },
            /// Runs what follows, up to `else` or `if_end`, when the boolean scalar is not 0.
            0x04 Control if_begin = IfBegin {
                /// one bool
                [read] condition: ViewId,
            },
            /// What follows runs when the condition of the matching `if_begin` was 0.
            0x05 Control else = Else {},
            /// Closes the innermost condition.
            0x06 Control if_end = IfEnd {},
            /// Sets a scratch register from memory. A value outside the register's declared range is a run error.
            0x07 Control set_register = SetRegister {
                /// a scratch register
                register: Register,
                /// one integer
                [read] source: ViewId,
            },
            /// Writes the value of an expression to every element of an integer view.
            0x08 Control store_expression = StoreExpression {
                /// integers
                [write] destination: ViewId,
                /// the value
                value: ExpressionId,
            },
            // ---- movement --------------------------------------------------------------------------------------
            /// Strided copy between views of one element type and the same extents. On a DMA engine the copy is asynchronous
            /// until a `wait` for its token; on other engines it is done at once and the token counts as waited.
            0x10 Movement transfer = Transfer {
                /// who moves
                engine: Engine,
                /// names this transfer for `wait`
                token: u16,
                /// where to
                [write] destination: ViewId,
                /// where from
                [read] source: ViewId,
            },
            /// Blocks until the last transfer with this token has finished.
            0x11 Control wait = Wait {
                /// which transfer
                token: u16,
            },
            /// `destination[o.., i.., r..] = source[o.., indices[i..], r..]`, where `o` are the dimensions before `axis`.
            /// Negative indices count from the end; others out of range are a run error.
            0x12 Movement gather = Gather {
                /// who moves
                engine: Engine,
                /// rank(source) - 1 + rank(indices)
                [write] destination: ViewId,
                /// the table
                [read] source: ViewId,
                /// i64 or i32
                [read] indices: ViewId,
                /// which dimension of the source is indexed
                axis: u8,
            },
            /// `destination[i] = source[i with i[axis] replaced by indices[i]]`; all of one rank.
            0x13 Movement gather_elements = GatherElements {
                /// who moves
                engine: Engine,
                /// extents of `indices`
                [write] destination: ViewId,
                /// the table
                [read] source: ViewId,
                /// i64 or i32
                [read] indices: ViewId,
                /// which dimension is indexed
                axis: u8,
            },
            /// `destination[i with i[axis] replaced by indices[i]] op= updates[i]`, in row-major order of `updates`.
            0x14 Movement scatter_elements = ScatterElements {
                /// who moves
                engine: Engine,
                /// already holds the data that is updated
                [update] destination: ViewId,
                /// i64 or i32
                [read] indices: ViewId,
                /// extents of `indices`
                [read] updates: ViewId,
                /// which dimension is indexed
                axis: u8,
                /// how updates meet what is there
                reduction: ScatterReduction,
            },
            /// The last dimension of `indices` holds coordinates into the source's dimensions after `batch_dims`
            /// (ONNX GatherND).
            0x15 Movement gather_nd = GatherNd {
                /// who moves
                engine: Engine,
                /// indices' extents without the last, then what is left of the source
                [write] destination: ViewId,
                /// the table
                [read] source: ViewId,
                /// i64 or i32
                [read] indices: ViewId,
                /// leading dimensions that source and indices share
                batch_dims: u8,
            },
            /// The last dimension of `indices` holds coordinates into the destination's leading dimensions (ONNX ScatterND).
            0x16 Movement scatter_nd = ScatterNd {
                /// who moves
                engine: Engine,
                /// already holds the data that is updated
                [update] destination: ViewId,
                /// i64 or i32
                [read] indices: ViewId,
                /// indices' extents without the last, then what is left of the destination
                [read] updates: ViewId,
                /// how updates meet what is there
                reduction: ScatterReduction,
            },
            /// Writes one value to every element (converted as `convert` does, saturating).
            0x17 Movement fill = Fill {
                /// who writes
                engine: Engine,
                /// any element
                [write] destination: ViewId,
                /// the value
                value: f64,
            },
            /// `destination[.., i, ..] = start + i * step` along `axis`.
            0x18 Movement iota = Iota {
                /// who writes
                engine: Engine,
                /// any element
                [write] destination: ViewId,
                /// the dimension that counts
                axis: u8,
                /// value at index 0
                start: ExpressionId,
                /// increment
                step: i64,
            },
            // ---- matrix ----------------------------------------------------------------------------------------
            /// `destination[.., m, n] (+)= sum over k of a[.., m, k] * b[.., k, n]`. Transposes and batch broadcasts are strides.
            /// With a scale, an integer (or nf4, f8) `b` stands for `(b - zero_point) * scale`, row `k` using row `k / block`
            /// of both (row 0 when block is 0). Products are summed in f32; those of `a` and a scaled `b` that both are integers of at
            /// most 8 bits exactly, in int32, over up to 256 rows of a block at a time, each sum then scaled and added in f32.
            ///
            /// `b` may be packed into panels, as `linalg.mmt4d` has it: of rank + 3, `[batch.., n1, k1, h, n0, r]`, whose element
            /// `[j, i, p, c, q]` is row `(i * h + p) * r + q` and column `j * n0 + c`, with `n1 = ceil(n / n0)` and
            /// `k1 = ceil(k / (h * r))`. Columns from n on are not computed and rows from k on do not count, whatever is stored there. Its
            /// scale and zero point are `[batch.., n1, blocks, n0]`. Integers give what the unpacked product gives. With a float `a`, products
            /// of a block (all of k without a scale) are summed by fused multiply-add in f32 over ascending k, and the sum times its
            /// scale is added by fused multiply-add too; products of bf16 with bf16 or with integers of at most 8 bits may be summed in
            /// pairs instead, in the machine's own order.
            0x20 Matrix matmul = Matmul {
                /// who multiplies
                engine: Engine,
                /// `[batch.., m, n]`
                [write] destination: ViewId,
                /// `[batch.., m, k]`
                [read] a: ViewId,
                /// `[batch.., k, n]`, or packed `[batch.., n1, k1, h, n0, r]`
                [read] b: ViewId,
                /// `[batch.., blocks, n]`, or packed `[batch.., n1, blocks, n0]`
                [read] scale: Option<ViewId>,
                /// as scale
                [read] zero_point: Option<ViewId>,
                /// `[16]`: b holds codes of 4 bits, which stand for these numbers
                [read] codebook: Option<ViewId>,
                /// u2 `[batch.., k / 2, n]`: b is 2:4 sparse, `[batch.., k / 2, n]`; its rows 2 g and 2 g + 1 are rows 4 g + index
                /// of k, ascending, and the others are 0
                [read] indices: Option<ViewId>,
                /// rows of k that share a row of scale; 0 for all
                block: u32,
                /// add to what the destination holds
                accumulate: bool,
            },
            /// `destination i32 (+)= sum over k of (a - a_zero) * (b - b_zero)`; zero points have a's and b's extents (broadcast by
            /// strides).
            0x21 Matrix matmul_integer = MatmulInteger {
                /// who multiplies
                engine: Engine,
                /// `[batch.., m, n]` i32
                [write] destination: ViewId,
                /// `[batch.., m, k]` 8 bits or less
                [read] a: ViewId,
                /// `[batch.., k, n]` 8 bits or less
                [read] b: ViewId,
                /// a's extents
                [read] a_zero: Option<ViewId>,
                /// b's extents
                [read] b_zero: Option<ViewId>,
                /// add to what the destination holds
                accumulate: bool,
            },
            /// Convolution over 1 to 3 spatial dimensions: x [n, c, spatial..], w [o, c / groups, kernel..],
            /// destination [n, o, spatial..]; outside x is 0. Unused entries of the arrays are 1 (0 for pads). A float
            /// destination sums in f32, an integer one in i64 and wraps. Integers count from their zero points: sums of
            /// `(x - x_zero) * (w - w_zero)`, and outside x is `x_zero`.
            0x22 Matrix convolution = Convolution {
                /// who multiplies
                engine: Engine,
                /// `[n, o, spatial..]`
                [write] destination: ViewId,
                /// `[n, c, spatial..]`
                [read] x: ViewId,
                /// `[o, c / groups, kernel..]`
                [read] w: ViewId,
                /// steps of the window
                strides: [u32; 3],
                /// steps inside the window
                dilations: [u32; 3],
                /// padding before x
                pads_low: [u32; 3],
                /// channel groups
                groups: u32,
                /// what x counts from; 0 for floats
                x_zero: i32,
                /// what w counts from; 0 for floats
                w_zero: i32,
                /// add to what the destination holds
                accumulate: bool,
            },
            /// Transposed convolution: x [n, c, spatial..], w [c, o / groups, kernel..], destination [n, o, spatial..];
            /// `pads_low` is what is cut off before the result.
            0x23 Matrix conv_transpose = ConvTranspose {
                /// who multiplies
                engine: Engine,
                /// `[n, o, spatial..]`
                [write] destination: ViewId,
                /// `[n, c, spatial..]`
                [read] x: ViewId,
                /// `[c, o / groups, kernel..]`
                [read] w: ViewId,
                /// distance between windows
                strides: [u32; 3],
                /// steps inside the window
                dilations: [u32; 3],
                /// cut off before the result
                pads_low: [u32; 3],
                /// channel groups
                groups: u32,
                /// add to what the destination holds
                accumulate: bool,
            },
            /// Window maximum or mean over the spatial dimensions of x [n, c, spatial..].
            0x24 Vector pool = Pool {
                /// who computes
                engine: Engine,
                /// maximum or mean
                function: PoolFunction,
                /// `[n, c, spatial..]`
                [write] destination: ViewId,
                /// `[n, c, spatial..]`
                [read] x: ViewId,
                /// window
                kernel: [u32; 3],
                /// steps of the window
                strides: [u32; 3],
                /// steps inside the window
                dilations: [u32; 3],
                /// padding before x
                pads_low: [u32; 3],
                /// padding after x: with `count_include_pad` the mean counts positions up to here
                pads_high: [u32; 3],
                /// whether the mean counts padding
                count_include_pad: bool,
            },
            /// One flash-attention step over a tile of keys (Dao 2023, arXiv:2307.08691, algorithm 1): scores = q k^T * scale, soft-capped,
            /// masked; running maximum and sum are updated and the accumulator rescaled. Start with accumulator 0, maximum
            /// -inf, sum 0 (attention sinks: maximum = sink, sum = 1). All views may share leading batch dimensions. With a scale,
            /// k (or v) stands for `k * scale + offset`; column c of width d uses column c / (d / groups) of both.
            0x28 Fused attention = Attention {
                /// who computes
                engine: Engine,
                /// `[rows, e]` f32
                [update] accumulator: ViewId,
                /// `[rows]` f32
                [update] running_maximum: ViewId,
                /// `[rows]` f32
                [update] running_sum: ViewId,
                /// `[rows, d]`
                [read] q: ViewId,
                /// `[t, d]`
                [read] k: ViewId,
                /// `[t, e]`
                [read] v: ViewId,
                /// `[rows, t]`: bool (1 keeps) or float (is added)
                [read] mask: Option<ViewId>,
                /// `[t / block, groups]`, at least so many rows: row j of k uses row j / block
                [read] k_scale: Option<ViewId>,
                /// as k_scale
                [read] k_offset: Option<ViewId>,
                /// `[t, groups]`
                [read] v_scale: Option<ViewId>,
                /// as v_scale
                [read] v_offset: Option<ViewId>,
                /// multiplies q k^T
                scale: f32,
                /// scores become softcap * tanh(scores / softcap); 0 for none
                softcap: f32,
                /// key j of this tile is visible to row r when j <= r / group + offset; none: all are
                causal_offset: Option<ExpressionId>,
                /// with an offset: and j > r / group + offset - window; 0 for no limit
                window: u32,
                /// query rows per position (heads that share these keys), at least 1
                group: u32,
                /// keys that share a row of k_scale, at least 1
                block: u32,
                /// with an offset: which keys a row sees. Of row r, the first `floor((r / group + offset + 1 - keep) / block) * block`
                /// keys of the tile are settled
                part: KeyPart,
                /// keys that follow a settled block
                keep: u32,
                /// the offset tells a row's age only: keys after its own are visible too
                ahead: bool,
            },
            /// `destination[r, e] = accumulator[r, e] / sum[r]`, 0 where the sum is 0.
            0x29 Vector attention_finish = AttentionFinish {
                /// who computes
                engine: Engine,
                /// `[rows, e]`
                [write] destination: ViewId,
                /// `[rows, e]` f32
                [read] accumulator: ViewId,
                /// `[rows]` f32
                [read] sum: ViewId,
            },
            // ---- vector ----------------------------------------------------------------------------------------
            /// Elementwise function of one operand.
            0x30 Vector unary = Unary {
                /// who computes
                engine: Engine,
                /// which
                function: UnaryFunction,
                /// x's extents
                [write] destination: ViewId,
                /// operand
                [read] x: ViewId,
                /// first constant
                alpha: f64,
                /// second constant
                beta: f64,
            },
            /// Elementwise function of two operands (broadcast by strides).
            0x31 Vector binary = Binary {
                /// who computes
                engine: Engine,
                /// which
                function: BinaryFunction,
                /// the extents of all
                [write] destination: ViewId,
                /// left
                [read] a: ViewId,
                /// right
                [read] b: ViewId,
            },
            /// `destination = condition ? a : b`.
            0x32 Vector select = Select {
                /// who computes
                engine: Engine,
                /// element of a and b
                [write] destination: ViewId,
                /// bool
                [read] condition: ViewId,
                /// where true
                [read] a: ViewId,
                /// where false
                [read] b: ViewId,
            },
            /// Changes the element type. Float to integer rounds as said; out of range it saturates, or else wraps
            /// (NaN gives 0). To bool: not equal to 0. To f8 `saturate` clamps to the largest finite value.
            0x33 Vector convert = Convert {
                /// who computes
                engine: Engine,
                /// any element
                [write] destination: ViewId,
                /// any element
                [read] x: ViewId,
                /// clamp to the destination's range
                saturate: bool,
                /// for float to integer
                rounding: Rounding,
            },
            /// `destination = saturate(round_half_even(x / scale) + zero_point)`; all views have x's extents.
            0x34 Vector quantize = Quantize {
                /// who computes
                engine: Engine,
                /// integer or f8
                [write] destination: ViewId,
                /// float
                [read] x: ViewId,
                /// float
                [read] scale: ViewId,
                /// destination's element
                [read] zero_point: Option<ViewId>,
            },
            /// `destination = (x - zero_point) * scale`; all views have x's extents.
            0x35 Vector dequantize = Dequantize {
                /// who computes
                engine: Engine,
                /// float
                [write] destination: ViewId,
                /// integer, f8 or nf4
                [read] x: ViewId,
                /// float
                [read] scale: ViewId,
                /// x's element
                [read] zero_point: Option<ViewId>,
            },
            /// The last dimension in groups of equal length, each with its own scale and offset, so that `destination * scale + offset` is x
            /// as nearly as the destination's n levels allow: offset = minimum, scale = (maximum - minimum) / (n - 1), both rounded to
            /// their element; destination = clamp(round_half_even((x - offset) / scale)), 0 where the scale is 0 or no number.
            0x3d Vector quantize_groups = QuantizeGroups {
                /// who computes
                engine: Engine,
                /// unsigned integers
                [write] destination: ViewId,
                /// x's extents, the last is the number of groups; float
                [write] scale: ViewId,
                /// as scale
                [write] offset: ViewId,
                /// float
                [read] x: ViewId,
            },
            /// Reduces every dimension where the destination's extent is 1 and x's is not (or the destination's stride is 0).
            0x36 Vector reduce = Reduce {
                /// who computes
                engine: Engine,
                /// which
                function: ReduceFunction,
                /// x's rank
                [write] destination: ViewId,
                /// operand
                [read] x: ViewId,
                /// combine with what the destination holds (not for mean)
                accumulate: bool,
            },
            /// Softmax, or its logarithm, over the last dimension. A row of -inf gives NaN.
            0x37 Vector softmax = Softmax {
                /// who computes
                engine: Engine,
                /// x's extents
                [write] destination: ViewId,
                /// float
                [read] x: ViewId,
                /// logarithm of it
                log: bool,
            },
            /// Normalises over the last dimension, then multiplies by gain and adds bias (both of x's extents, by strides).
            0x38 Vector normalize = Normalize {
                /// who computes
                engine: Engine,
                /// root mean square, or mean and variance
                kind: NormalizeKind,
                /// x's extents
                [write] destination: ViewId,
                /// float
                [read] x: ViewId,
                /// factor
                [read] gain: Option<ViewId>,
                /// summand
                [read] bias: Option<ViewId>,
                /// added below the root
                epsilon: f32,
            },
            /// Rotary embedding of the last dimension d (Su et al. 2021, arXiv:2104.09864). Pairs are (i, i + d/2), or
            /// (2i, 2i + 1) when interleaved. cos and sin have x's rank and last extent d or d/2.
            0x39 Vector rope = Rope {
                /// who computes
                engine: Engine,
                /// x's extents
                [write] destination: ViewId,
                /// `[.., d]`
                [read] x: ViewId,
                /// `[.., d]` or [.., d / 2]
                [read] cos: ViewId,
                /// as cos
                [read] sin: ViewId,
                /// pairs lie side by side
                interleaved: bool,
            },
            /// Running sum or product along an axis.
            0x3a Vector cumulative = Cumulative {
                /// who computes
                engine: Engine,
                /// which
                function: CumulativeFunction,
                /// x's extents
                [write] destination: ViewId,
                /// operand
                [read] x: ViewId,
                /// along which
                axis: u8,
                /// leave the element itself out
                exclusive: bool,
                /// from the end
                reverse: bool,
            },
            /// Index of the largest or smallest element along an axis.
            0x3b Vector arg_reduce = ArgReduce {
                /// who computes
                engine: Engine,
                /// which
                function: ArgFunction,
                /// x's extents, 1 along the axis; i64 or i32
                [write] destination: ViewId,
                /// operand
                [read] x: ViewId,
                /// along which
                axis: u8,
                /// of equals the last, else the first
                select_last: bool,
            },
            /// The k largest (or smallest) along an axis, in order, equals by index; k is the destinations' extent there.
            0x3c Vector top_k = TopK {
                /// who computes
                engine: Engine,
                /// x's element
                [write] values: ViewId,
                /// i64 or i32
                [write] indices: ViewId,
                /// operand
                [read] x: ViewId,
                /// along which
                axis: u8,
                /// largest, else smallest
                largest: bool,
            },
        }
    };
}
pub(crate) use for_each_command;
