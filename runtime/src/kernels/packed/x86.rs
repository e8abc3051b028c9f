//! Kernels for x86-64, by what the processor has.

#![allow(unsafe_code, reason = "functions compiled for features that are asked for before they are chosen")]
#![allow(unsafe_op_in_unsafe_fn, reason = "they only pass on what they are given")]

use super::amx::{self, AMX_ROWS, ByteMath, PairMath, TileMath};
use super::avx2::{Avx2, AvxVnni};
use super::avx512::Avx512;
use super::job::{Job, Kernel, Panels};
use super::kernels::{floats, integers, pairs};
use super::tiles::{Native, TILE_ROWS, Tiles};
use super::weights::*;
use crate::kernels::cpu::{Feature, Features};

/// Kernels of one kind for a number of rows.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Rows of a block.
    pub(super) rows: usize,
    /// Panels that `wide` takes at a time; `narrow` takes one.
    pub(super) panels: usize,
    pub(super) wide: Kernel,
    pub(super) narrow: Kernel,
    /// Whether words of the rows of a block lie side by side.
    pub(super) interleaves: bool,
}

/// Kernels on tiles, by weights and number of rows.
pub(super) type TileKernels = fn(Weights, usize) -> Option<Kernels>;

/// What weights are, and what they are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    Nibbles,
    Bytes,
    Codes,
    CodesLess,
    Signed,
    BytesLess,
    Bf16,
    F16,
    F32,
    PairsCodes,
    PairsSigned,
    PairsBf16,
}

/// Functions compiled for features, generic over weights and the sizes of a block.
macro_rules! compiled {
    ($($name:ident: $features:literal, $kernel:ident::<$isa:ty>, $bound:path;)*) => {
        $(
            #[target_feature(enable = $features)]
            unsafe fn $name<W: $bound, const R: usize, const P: usize>(job: &Job, panels: Panels, block: usize) {
                $kernel::<$isa, W, R, P>(job, panels, block);
            }
        )*
    };
}

compiled! {
    integers_512: "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", integers::<Avx512>, IntegerWeights;
    floats_512: "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq", floats::<Avx512>, FloatWeights<Avx512>;
    pairs_512: "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16", pairs::<Avx512>, PairWeights<Avx512>;
    integers_vnni: "avx2,fma,f16c,avxvnni", integers::<AvxVnni>, IntegerWeights;
    integers_256: "avx2,fma,f16c", integers::<Avx2>, IntegerWeights;
    floats_256: "avx2,fma,f16c", floats::<Avx2>, FloatWeights<Avx2>;
}

/// Sizes for 32 registers that each hold a panel's columns.
macro_rules! by_rows_512 {
    ($m:expr, $kernel:ident::<$weights:ty>) => {
        Some(match $m {
            1 => sized!($kernel::<$weights>, 1, 4),
            2..=4 => sized!($kernel::<$weights>, 4, 2),
            _ => sized!($kernel::<$weights>, 8, 2),
        })
    };
}
/// Sizes for 16 registers of half of them.
macro_rules! by_rows_256 {
    ($m:expr, $kernel:ident::<$weights:ty>) => {
        Some(match $m {
            1 => sized!($kernel::<$weights>, 1, 2),
            _ => sized!($kernel::<$weights>, 4, 1),
        })
    };
}
macro_rules! sized {
    ($kernel:ident::<$weights:ty>, $rows:literal, $panels:literal) => {
        Kernels {
            rows: $rows,
            panels: $panels,
            wide: $kernel::<$weights, $rows, $panels>,
            narrow: $kernel::<$weights, $rows, 1>,
            interleaves: true,
        }
    };
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tiled<T: Tiles, M: TileMath, const R: usize, const ROWS: usize>(
    job: &Job,
    panels: Panels,
    block: usize,
) {
    amx::product::<T, M, R, ROWS>(job, panels, block);
}

/// One row alone, up to 16, or many: for every number when the order of sums is the tiles' own, else for those that are worth it.
fn tile_kernels_of<T: Tiles, M: TileMath>(m: usize, is_worth: usize) -> Option<Kernels> {
    let of =
        |rows, kernel: Kernel| Kernels { rows, panels: 1, wide: kernel, narrow: kernel, interleaves: false };
    match m {
        _ if m < is_worth => None,
        1 => Some(of(1, tiled::<T, M, 1, 1>)),
        2..=TILE_ROWS => Some(of(TILE_ROWS, tiled::<T, M, TILE_ROWS, TILE_ROWS>)),
        _ => Some(of(AMX_ROWS, tiled::<T, M, TILE_ROWS, AMX_ROWS>)),
    }
}

fn byte_tiles<T: Tiles>(weights: Weights, m: usize) -> Option<Kernels> {
    match weights {
        Weights::Nibbles => tile_kernels_of::<T, ByteMath<Nibbles>>(m, TILE_ROWS),
        Weights::Bytes => tile_kernels_of::<T, ByteMath<Bytes>>(m, TILE_ROWS),
        _ => None,
    }
}

fn pair_tiles<T: Tiles>(weights: Weights, m: usize) -> Option<Kernels> {
    match weights {
        Weights::PairsCodes => tile_kernels_of::<T, PairMath<Codes>>(m, 1),
        Weights::PairsSigned => tile_kernels_of::<T, PairMath<Signed>>(m, 1),
        Weights::PairsBf16 => tile_kernels_of::<T, PairMath<Bf16>>(m, 1),
        _ => None,
    }
}

fn all_tiles<T: Tiles>(weights: Weights, m: usize) -> Option<Kernels> {
    byte_tiles::<T>(weights, m).or_else(|| pair_tiles::<T>(weights, m))
}

/// The kernels on tiles of a processor with these features.
pub(super) fn tile_kernels(features: Features) -> Option<TileKernels> {
    let has = |feature| features.has(Feature::Avx512) && features.has(feature);
    match (has(Feature::AmxInt8), has(Feature::AmxBf16)) {
        (true, true) => Some(all_tiles::<Native>),
        (true, false) => Some(byte_tiles::<Native>),
        (false, true) => Some(pair_tiles::<Native>),
        (false, false) => None,
    }
}

/// The same kernels on a model of tiles; the rest of them needs AVX-512.
#[cfg(test)]
pub(super) fn model_tile_kernels() -> TileKernels {
    all_tiles::<super::tiles::Model>
}

/// The kernels for `m` rows on a processor with these features, if there are some.
pub(super) fn kernels(features: Features, weights: Weights, m: usize) -> Option<Kernels> {
    use Feature::{Avx2 as HasAvx2, Avx512 as HasAvx512, Avx512Bf16, Avx512Vnni, AvxVnni as HasAvxVnni};
    let has = |feature| features.has(feature);
    match weights {
        Weights::Nibbles if has(HasAvx512) && has(Avx512Vnni) => by_rows_512!(m, integers_512::<Nibbles>),
        Weights::Bytes if has(HasAvx512) && has(Avx512Vnni) => by_rows_512!(m, integers_512::<Bytes>),
        Weights::Nibbles if has(HasAvx2) && has(HasAvxVnni) => by_rows_256!(m, integers_vnni::<Nibbles>),
        Weights::Bytes if has(HasAvx2) && has(HasAvxVnni) => by_rows_256!(m, integers_vnni::<Bytes>),
        Weights::Nibbles if has(HasAvx2) => by_rows_256!(m, integers_256::<Nibbles>),
        Weights::Bytes if has(HasAvx2) => by_rows_256!(m, integers_256::<Bytes>),
        Weights::PairsCodes | Weights::PairsSigned | Weights::PairsBf16 => {
            if !has(HasAvx512) || !has(Avx512Bf16) {
                return None;
            }
            match weights {
                Weights::PairsCodes => by_rows_512!(m, pairs_512::<Codes>),
                Weights::PairsSigned => by_rows_512!(m, pairs_512::<Signed>),
                _ => by_rows_512!(m, pairs_512::<Bf16>),
            }
        }
        Weights::Codes if has(HasAvx512) => by_rows_512!(m, floats_512::<Codes>),
        Weights::CodesLess if has(HasAvx512) => by_rows_512!(m, floats_512::<CodesLess>),
        Weights::Signed if has(HasAvx512) => by_rows_512!(m, floats_512::<Signed>),
        Weights::BytesLess if has(HasAvx512) => by_rows_512!(m, floats_512::<BytesLess>),
        Weights::Bf16 if has(HasAvx512) => by_rows_512!(m, floats_512::<Bf16>),
        Weights::F16 if has(HasAvx512) => by_rows_512!(m, floats_512::<F16>),
        Weights::F32 if has(HasAvx512) => by_rows_512!(m, floats_512::<F32>),
        _ if !has(HasAvx2) => None,
        Weights::Codes => by_rows_256!(m, floats_256::<Codes>),
        Weights::CodesLess => by_rows_256!(m, floats_256::<CodesLess>),
        Weights::Signed => by_rows_256!(m, floats_256::<Signed>),
        Weights::BytesLess => by_rows_256!(m, floats_256::<BytesLess>),
        Weights::Bf16 => by_rows_256!(m, floats_256::<Bf16>),
        Weights::F16 => by_rows_256!(m, floats_256::<F16>),
        Weights::F32 => by_rows_256!(m, floats_256::<F32>),
        Weights::Nibbles | Weights::Bytes => None,
    }
}
