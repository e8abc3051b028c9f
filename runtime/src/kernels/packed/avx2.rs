//! The processor with vectors of 256 bits: two registers hold the 16 columns of a panel.

#![allow(unsafe_code, reason = "instructions of the processor; the caller has asked whether it has them")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line is an instruction; the contract is the trait's")]

use super::isa::Isa;
use std::arch::x86_64::*;

/// AVX2 with FMA and F16C.
pub(super) struct Avx2;

/// The same with byte dot products.
pub(super) struct AvxVnni;

/// Calls an instruction for both halves.
macro_rules! both {
    ($($name:ident)*; $call:expr) => {{
        let lower = { $(let $name = $name[0];)* $call };
        let upper = { $(let $name = $name[1];)* $call };
        [lower, upper]
    }};
}

macro_rules! isa {
    ($name:ident, |$sum:ident, $weights:ident, $a:ident| $dot_nibbles:expr, $dot_bytes:expr) => {
        // SAFETY of all: see the trait; pointers are read and written by unaligned instructions of just the length it says.
        impl Isa for $name {
            type Ints = [__m256i; 2];
            type Floats = [__m256; 2];

            #[inline(always)]
            unsafe fn line(at: *const u8) -> [__m256i; 2] {
                [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())]
            }
            #[inline(always)]
            unsafe fn splat(word: i32) -> [__m256i; 2] {
                [_mm256_set1_epi32(word); 2]
            }
            #[inline(always)]
            unsafe fn nibbles(line: [__m256i; 2], flip: [__m256i; 2]) -> [[__m256i; 2]; 2] {
                let mask = _mm256_set1_epi8(15);
                let low = both!(line flip; _mm256_xor_si256(_mm256_and_si256(line, mask), flip));
                let high = both!(line flip; {
                    _mm256_xor_si256(_mm256_and_si256(_mm256_srli_epi32::<4>(line), mask), flip)
                });
                [low, high]
            }
            #[inline(always)]
            unsafe fn xor(left: [__m256i; 2], right: [__m256i; 2]) -> [__m256i; 2] {
                both!(left right; _mm256_xor_si256(left, right))
            }
            #[inline(always)]
            unsafe fn dot_nibbles($sum: [__m256i; 2], $weights: [__m256i; 2], $a: [__m256i; 2]) -> [__m256i; 2] {
                both!($sum $weights $a; $dot_nibbles)
            }
            #[inline(always)]
            unsafe fn dot_bytes($sum: [__m256i; 2], $weights: [__m256i; 2], $a: [__m256i; 2]) -> [__m256i; 2] {
                both!($sum $weights $a; $dot_bytes)
            }
            #[inline(always)]
            unsafe fn add_ints(left: [__m256i; 2], right: [__m256i; 2]) -> [__m256i; 2] {
                both!(left right; _mm256_add_epi32(left, right))
            }
            #[inline(always)]
            unsafe fn multiply_ints(left: [__m256i; 2], right: [__m256i; 2]) -> [__m256i; 2] {
                both!(left right; _mm256_mullo_epi32(left, right))
            }
            #[inline(always)]
            unsafe fn widen_bytes(at: *const u8, is_signed: bool) -> [__m256i; 2] {
                let halves = [_mm_loadl_epi64(at.cast()), _mm_loadl_epi64(at.add(8).cast())];
                both!(halves; if is_signed { _mm256_cvtepi8_epi32(halves) } else { _mm256_cvtepu8_epi32(halves) })
            }
            #[inline(always)]
            unsafe fn to_floats(ints: [__m256i; 2]) -> [__m256; 2] {
                both!(ints; _mm256_cvtepi32_ps(ints))
            }
            #[inline(always)]
            unsafe fn splat_float(value: f32) -> [__m256; 2] {
                [_mm256_set1_ps(value); 2]
            }
            #[inline(always)]
            unsafe fn load(at: *const f32) -> [__m256; 2] {
                [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))]
            }
            #[inline(always)]
            unsafe fn store(at: *mut f32, floats: [__m256; 2]) {
                _mm256_storeu_ps(at, floats[0]);
                _mm256_storeu_ps(at.add(8), floats[1]);
            }
            #[inline(always)]
            unsafe fn load_halves(at: *const u8) -> [__m256; 2] {
                let halves = [_mm_loadu_si128(at.cast()), _mm_loadu_si128(at.add(16).cast())];
                both!(halves; _mm256_cvtph_ps(halves))
            }
            #[inline(always)]
            unsafe fn load_bf16(at: *const u8) -> [__m256; 2] {
                let words = [_mm_loadu_si128(at.cast()), _mm_loadu_si128(at.add(16).cast())];
                both!(words; _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words))))
            }
            #[inline(always)]
            unsafe fn add(left: [__m256; 2], right: [__m256; 2]) -> [__m256; 2] {
                both!(left right; _mm256_add_ps(left, right))
            }
            #[inline(always)]
            unsafe fn subtract(left: [__m256; 2], right: [__m256; 2]) -> [__m256; 2] {
                both!(left right; _mm256_sub_ps(left, right))
            }
            #[inline(always)]
            unsafe fn multiply(left: [__m256; 2], right: [__m256; 2]) -> [__m256; 2] {
                both!(left right; _mm256_mul_ps(left, right))
            }
            #[inline(always)]
            unsafe fn fused(left: [__m256; 2], right: [__m256; 2], sum: [__m256; 2]) -> [__m256; 2] {
                both!(left right sum; _mm256_fmadd_ps(left, right, sum))
            }
            #[inline(always)]
            unsafe fn lookup<const SHIFT: u32>(line: [__m256i; 2], table: &[f32; 16]) -> [__m256; 2] {
                // Two tables of 8: the instruction looks at 3 bits of an index, the fourth chooses.
                let (low, high) = (_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8)));
                both!(line; {
                    let index = _mm256_srl_epi32(line, _mm_cvtsi32_si128(SHIFT as i32));
                    let choice = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
                    let lower = _mm256_permutevar8x32_ps(low, index);
                    _mm256_blendv_ps(lower, _mm256_permutevar8x32_ps(high, index), choice)
                })
            }
            #[inline(always)]
            unsafe fn byte<const BYTE: u32>(line: [__m256i; 2]) -> [__m256; 2] {
                both!(line; {
                    let up = match BYTE {
                        0 => _mm256_slli_epi32::<24>(line),
                        1 => _mm256_slli_epi32::<16>(line),
                        2 => _mm256_slli_epi32::<8>(line),
                        _ => line,
                    };
                    _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(up))
                })
            }
            #[inline(always)]
            unsafe fn bf16<const UPPER: bool>(line: [__m256i; 2]) -> [__m256; 2] {
                both!(line; _mm256_castsi256_ps(match UPPER {
                    true => _mm256_and_si256(line, _mm256_set1_epi32(0xffff_0000_u32 as i32)),
                    false => _mm256_slli_epi32::<16>(line),
                }))
            }
            #[inline(always)]
            unsafe fn f16<const UPPER: bool>(line: [__m256i; 2]) -> [__m256; 2] {
                both!(line; {
                    let half = if UPPER { line } else { _mm256_slli_epi32::<16>(line) };
                    let half = _mm256_srli_epi32::<16>(half);
                    // Words of 32 bits to 16: the lower four from each half of the register.
                    let packed = _mm256_packus_epi32(half, half);
                    _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(packed)))
                })
            }
            #[inline(always)]
            unsafe fn as_floats(line: [__m256i; 2]) -> [__m256; 2] {
                both!(line; _mm256_castsi256_ps(line))
            }
        }
    };
}

isa! {
    Avx2,
    |sum, weights, a| {
        // 15 * 128 * 2 fits 16 bits: nothing saturates.
        let pairs = _mm256_maddubs_epi16(weights, a);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    },
    {
        // Bytes 0 and 2, then 1 and 3, as 16 bits each.
        let even = _mm256_madd_epi16(
            _mm256_and_si256(weights, _mm256_set1_epi16(0xff)),
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a)),
        );
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(weights), _mm256_srai_epi16::<8>(a));
        _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
    }
}
isa! {
    AvxVnni,
    |sum, weights, a| _mm256_dpbusd_avx_epi32(sum, weights, a),
    _mm256_dpbusd_avx_epi32(sum, weights, a)
}
