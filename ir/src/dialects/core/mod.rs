//! The `core` dialect: what models compute, on immutable tensors, with no target in mind. Families live in files of their own.
//!
//! ```text
//! %matmul = "core.matmul"(%x, %w) : (tensor<1x4x64xf32>, tensor<64x64xf32>) -> tensor<1x4x64xf32>
//! ```

mod attention;
mod cache;
mod cast;
mod compress;
mod constant;
mod control;
mod convolution;
mod elementwise_binary;
mod elementwise_unary;
mod index;
mod matmul;
mod normalize;
mod numeric;
mod packed;
mod quantize;
mod quantize_weight;
mod reduce;
mod regions;
mod shape;
mod support;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use attention::{ATTENTION, ROPE};
pub use cache::{APPEND_BLOCKS, CACHED_ATTENTION, QUANTIZE_GROUPS};
pub use cast::{BITCAST, CAST};
pub use compress::{COMPRESS_WEIGHT, SPARSE_EXPAND};
pub use constant::{CONSTANT, IOTA, SIZE};
pub use control::{IF, KERNEL, LOOP, SCAN, YIELD};
pub use convolution::{CONV_TRANSPOSE, CONVOLUTION, CONVOLUTION_INTEGER, POOL};
pub use elementwise_binary::{
    ADD, BITWISE, BITWISE_FUNCTIONS, COMPARE, DIV, LOGICAL, LOGICAL_FUNCTIONS, MAX, MIN, MUL, POW,
    PREDICATES, REMAINDER, SELECT, SUB,
};
pub use elementwise_unary::{
    ABS, BITWISE_NOT, CLAMP, ELU, ERF, EXP, GELU, GELU_FORMS, HARD_SIGMOID, IS_NAN, LEAKY_RELU, LOG, MATH,
    MATH_FUNCTIONS, NEG, NOT, RECIPROCAL, RELU, ROUND, ROUND_MODES, RSQRT, SIGMOID, SIGN, SILU, SQRT, TANH,
};
pub use index::{
    ARG_REDUCE, GATHER, GATHER_ELEMENTS, GATHER_ND, NONZERO, REDUCTIONS, SCATTER_ELEMENTS, SCATTER_ND, TOP_K,
};
pub use matmul::{GLU, LINEAR, MATMUL, MATMUL_INTEGER};
pub use normalize::{LAYER_NORM, LOG_SOFTMAX, RMS_NORM, SOFTMAX};
pub use numeric::ACTIVATIONS;
pub use quantize::{DEQUANTIZE, QUANTIZE};
pub use quantize_weight::QUANTIZE_WEIGHT;
pub use reduce::{CUMULATIVE, REDUCE_MAX, REDUCE_MEAN, REDUCE_MIN, REDUCE_PROD, REDUCE_SUM};
pub use shape::{BROADCAST, CONCAT, PAD, RESHAPE, SLICE, TRANSPOSE};

use crate::registry::Dialect;

/// The dialect.
pub static DIALECT: Dialect = Dialect {
    name: "core",
    doc: "Pure tensor ops with symbolic shapes.",
    ops: &[
        &CONSTANT,
        &SIZE,
        &IOTA,
        &RESHAPE,
        &TRANSPOSE,
        &BROADCAST,
        &SLICE,
        &CONCAT,
        &PAD,
        &GATHER,
        &GATHER_ELEMENTS,
        &GATHER_ND,
        &SCATTER_ELEMENTS,
        &SCATTER_ND,
        &NONZERO,
        &NEG,
        &ABS,
        &EXP,
        &LOG,
        &SQRT,
        &RSQRT,
        &RECIPROCAL,
        &TANH,
        &SIGMOID,
        &ERF,
        &RELU,
        &SILU,
        &GELU,
        &NOT,
        &IS_NAN,
        &SIGN,
        &ROUND,
        &MATH,
        &LEAKY_RELU,
        &ELU,
        &HARD_SIGMOID,
        &CLAMP,
        &BITWISE_NOT,
        &ADD,
        &SUB,
        &MUL,
        &DIV,
        &POW,
        &MAX,
        &MIN,
        &REMAINDER,
        &COMPARE,
        &LOGICAL,
        &BITWISE,
        &SELECT,
        &CAST,
        &BITCAST,
        &REDUCE_SUM,
        &REDUCE_MEAN,
        &REDUCE_MAX,
        &REDUCE_MIN,
        &REDUCE_PROD,
        &ARG_REDUCE,
        &CUMULATIVE,
        &TOP_K,
        &SOFTMAX,
        &LOG_SOFTMAX,
        &RMS_NORM,
        &LAYER_NORM,
        &MATMUL,
        &MATMUL_INTEGER,
        &LINEAR,
        &GLU,
        &ROPE,
        &ATTENTION,
        &QUANTIZE_GROUPS,
        &APPEND_BLOCKS,
        &CACHED_ATTENTION,
        &CONVOLUTION,
        &CONVOLUTION_INTEGER,
        &CONV_TRANSPOSE,
        &POOL,
        &COMPRESS_WEIGHT,
        &SPARSE_EXPAND,
        &QUANTIZE,
        &DEQUANTIZE,
        &QUANTIZE_WEIGHT,
        &IF,
        &LOOP,
        &SCAN,
        &YIELD,
        &KERNEL,
    ],
};
