//! The processor with vectors of 512 bits: one register holds the 16 columns of a panel.

#![allow(unsafe_code, reason = "instructions of the processor; the caller has asked whether it has them")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line is an instruction; the contract is the trait's")]

use super::isa::{Isa, Pairs};
use std::arch::x86_64::*;

/// AVX-512 F, BW, VL, DQ and VNNI.
pub(super) struct Avx512;

/// `(line & mask) ^ flip` as a truth table: 0xf0 & 0xcc ^ 0xaa.
const AND_XOR: i32 = 0x6a;

// SAFETY of all: see the trait; pointers are read and written by unaligned instructions of just the length it says.
impl Isa for Avx512 {
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    unsafe fn line(at: *const u8) -> __m512i {
        _mm512_loadu_si512(at.cast())
    }
    #[inline(always)]
    unsafe fn splat(word: i32) -> __m512i {
        _mm512_set1_epi32(word)
    }
    #[inline(always)]
    unsafe fn nibbles(line: __m512i, flip: __m512i) -> [__m512i; 2] {
        let mask = _mm512_set1_epi8(15);
        let high = _mm512_srli_epi32::<4>(line);
        [
            _mm512_ternarylogic_epi32::<AND_XOR>(line, mask, flip),
            _mm512_ternarylogic_epi32::<AND_XOR>(high, mask, flip),
        ]
    }
    #[inline(always)]
    unsafe fn xor(left: __m512i, right: __m512i) -> __m512i {
        _mm512_xor_si512(left, right)
    }
    #[inline(always)]
    unsafe fn dot_nibbles(sum: __m512i, weights: __m512i, a: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, weights, a)
    }
    #[inline(always)]
    unsafe fn dot_bytes(sum: __m512i, weights: __m512i, a: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, weights, a)
    }
    #[inline(always)]
    unsafe fn add_ints(left: __m512i, right: __m512i) -> __m512i {
        _mm512_add_epi32(left, right)
    }
    #[inline(always)]
    unsafe fn multiply_ints(left: __m512i, right: __m512i) -> __m512i {
        _mm512_mullo_epi32(left, right)
    }
    #[inline(always)]
    unsafe fn widen_bytes(at: *const u8, is_signed: bool) -> __m512i {
        let bytes = _mm_loadu_si128(at.cast());
        if is_signed { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) }
    }
    #[inline(always)]
    unsafe fn to_floats(ints: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(ints)
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m512 {
        _mm512_loadu_ps(at)
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, floats: __m512) {
        _mm512_storeu_ps(at, floats);
    }
    #[inline(always)]
    unsafe fn load_halves(at: *const u8) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16(at: *const u8) -> __m512 {
        let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
    }
    #[inline(always)]
    unsafe fn add(left: __m512, right: __m512) -> __m512 {
        _mm512_add_ps(left, right)
    }
    #[inline(always)]
    unsafe fn subtract(left: __m512, right: __m512) -> __m512 {
        _mm512_sub_ps(left, right)
    }
    #[inline(always)]
    unsafe fn multiply(left: __m512, right: __m512) -> __m512 {
        _mm512_mul_ps(left, right)
    }
    #[inline(always)]
    unsafe fn fused(left: __m512, right: __m512, sum: __m512) -> __m512 {
        _mm512_fmadd_ps(left, right, sum)
    }
    #[inline(always)]
    unsafe fn lookup<const SHIFT: u32>(line: __m512i, table: &[f32; 16]) -> __m512 {
        // The instruction looks at 4 bits of an index: what lies above need not be cleared.
        _mm512_permutexvar_ps(_mm512_srli_epi32::<SHIFT>(line), _mm512_loadu_ps(table.as_ptr()))
    }
    #[inline(always)]
    unsafe fn byte<const BYTE: u32>(line: __m512i) -> __m512 {
        let up = match BYTE {
            0 => _mm512_slli_epi32::<24>(line),
            1 => _mm512_slli_epi32::<16>(line),
            2 => _mm512_slli_epi32::<8>(line),
            _ => line,
        };
        _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(up))
    }
    #[inline(always)]
    unsafe fn bf16<const UPPER: bool>(line: __m512i) -> __m512 {
        _mm512_castsi512_ps(match UPPER {
            true => _mm512_and_si512(line, _mm512_set1_epi32(0xffff_0000_u32 as i32)),
            false => _mm512_slli_epi32::<16>(line),
        })
    }
    #[inline(always)]
    unsafe fn f16<const UPPER: bool>(line: __m512i) -> __m512 {
        let line = if UPPER { _mm512_srli_epi32::<16>(line) } else { line };
        _mm512_cvtph_ps(_mm512_cvtepi32_epi16(line))
    }
    #[inline(always)]
    unsafe fn as_floats(line: __m512i) -> __m512 {
        _mm512_castsi512_ps(line)
    }
}

/// AVX-512 with BF16 too.
pub(super) type Avx512Bf16 = Avx512;

impl Pairs for Avx512Bf16 {
    #[inline(always)]
    unsafe fn dot_pairs(sum: __m512, pairs: __m512i, a: __m512i) -> __m512 {
        // SAFETY: both are 512 bits, and 32 bf16 may have any.
        let pairs: __m512bh = std::mem::transmute(pairs);
        let a: __m512bh = std::mem::transmute(a);
        _mm512_dpbf16_ps(sum, pairs, a)
    }
    #[inline(always)]
    unsafe fn code_pairs<const PAIR: usize>(line: __m512i, table: &[u16; 32]) -> __m512i {
        // Bytes 0 and 1 (or 2 and 3) of each column as words; bits above the code name the table's second half, which is the same.
        let order = if PAIR.is_multiple_of(2) { 0x8001_8000_u32 } else { 0x8003_8002 };
        let by_lane = _mm512_set_epi32(12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0);
        // 0x80 clears a byte whatever is added to its low bits.
        let order = _mm512_add_epi8(
            _mm512_set1_epi32(order as i32),
            _mm512_mullo_epi32(by_lane, _mm512_set1_epi32(0x0101_0101)),
        );
        let words = _mm512_shuffle_epi8(line, order);
        let words = if PAIR < 2 { words } else { _mm512_srli_epi16::<4>(words) };
        _mm512_permutexvar_epi16(words, _mm512_loadu_si512(table.as_ptr().cast()))
    }
    #[inline(always)]
    unsafe fn byte_pairs<const PAIR: usize>(line: __m512i) -> __m512i {
        // 8 bits fit a bf16: the lower half of each float is 0.
        let (low, high) = match PAIR {
            0 => (Self::byte::<0>(line), Self::byte::<1>(line)),
            _ => (Self::byte::<2>(line), Self::byte::<3>(line)),
        };
        _mm512_or_si512(_mm512_srli_epi32::<16>(_mm512_castps_si512(low)), _mm512_castps_si512(high))
    }
}
