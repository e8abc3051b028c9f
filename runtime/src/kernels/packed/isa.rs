//! What fast kernels need of a processor: vectors over the 16 columns of a panel, and lines of 64 bytes of it.
//!
//! A line is 16 words of 32 bits, one per column; each holds 8 codes, 4 bytes, 2 halves or 1 float of consecutive rows
//! (see [`super::Layout`]).

#![allow(unsafe_code, reason = "instructions that only some processors have")]

/// Instructions of one kind of processor.
///
/// # Safety
/// Every function may use instructions that only such a processor has, and reads or writes exactly the columns it says at a pointer
/// that needs no alignment. Callers are compiled for the processor's features.
pub(super) trait Isa {
    /// 16 x i32.
    type Ints: Copy;
    /// 16 x f32.
    type Floats: Copy;

    /// 64 bytes.
    unsafe fn line(at: *const u8) -> Self::Ints;
    /// The same word in every column.
    unsafe fn splat(word: i32) -> Self::Ints;
    /// The low and the high codes of every byte, with the bits of `flip` flipped.
    unsafe fn nibbles(line: Self::Ints, flip: Self::Ints) -> [Self::Ints; 2];
    /// Bits flipped.
    unsafe fn xor(left: Self::Ints, right: Self::Ints) -> Self::Ints;
    /// `sum + weights . a`: 4 codes below 16 and 4 signed bytes of each column.
    unsafe fn dot_nibbles(sum: Self::Ints, weights: Self::Ints, a: Self::Ints) -> Self::Ints;
    /// `sum + weights . a`: 4 unsigned and 4 signed bytes of each column.
    unsafe fn dot_bytes(sum: Self::Ints, weights: Self::Ints, a: Self::Ints) -> Self::Ints;
    /// `left + right`.
    unsafe fn add_ints(left: Self::Ints, right: Self::Ints) -> Self::Ints;
    /// `left * right`.
    unsafe fn multiply_ints(left: Self::Ints, right: Self::Ints) -> Self::Ints;
    /// 16 bytes, widened with or without sign.
    unsafe fn widen_bytes(at: *const u8, is_signed: bool) -> Self::Ints;
    /// To f32, nearest even.
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats;

    /// The same number in every column.
    unsafe fn splat_float(value: f32) -> Self::Floats;
    /// 16 floats.
    unsafe fn load(at: *const f32) -> Self::Floats;
    /// Writes 16 floats.
    unsafe fn store(at: *mut f32, floats: Self::Floats);
    /// 16 halves as floats.
    unsafe fn load_halves(at: *const u8) -> Self::Floats;
    /// 16 bf16 as floats.
    unsafe fn load_bf16(at: *const u8) -> Self::Floats;
    /// `left + right`.
    unsafe fn add(left: Self::Floats, right: Self::Floats) -> Self::Floats;
    /// `left - right`.
    unsafe fn subtract(left: Self::Floats, right: Self::Floats) -> Self::Floats;
    /// `left * right`.
    unsafe fn multiply(left: Self::Floats, right: Self::Floats) -> Self::Floats;
    /// `left * right + sum`, rounded once.
    unsafe fn fused(left: Self::Floats, right: Self::Floats, sum: Self::Floats) -> Self::Floats;

    /// The entries of a table of 16 floats that codes name: 4 bits of every column from bit `SHIFT` on.
    unsafe fn lookup<const SHIFT: u32>(line: Self::Ints, table: &[f32; 16]) -> Self::Floats;
    /// Byte `BYTE` of every column, signed.
    unsafe fn byte<const BYTE: u32>(line: Self::Ints) -> Self::Floats;
    /// The lower or the upper half of every column as the upper half of a float.
    unsafe fn bf16<const UPPER: bool>(line: Self::Ints) -> Self::Floats;
    /// The lower or the upper half of every column, a half float.
    unsafe fn f16<const UPPER: bool>(line: Self::Ints) -> Self::Floats;
    /// The columns as floats.
    unsafe fn as_floats(line: Self::Ints) -> Self::Floats;
}

/// Products of pairs of bf16.
pub(super) trait Pairs: Isa {
    /// `sum + pairs . a`, two bf16 of each column, in the machine's order.
    unsafe fn dot_pairs(sum: Self::Floats, pairs: Self::Ints, a: Self::Ints) -> Self::Floats;
    /// Pairs of rows 2 `PAIR` and 2 `PAIR` + 1 of a line of codes, through a table of 16 bf16 (twice).
    unsafe fn code_pairs<const PAIR: usize>(line: Self::Ints, table: &[u16; 32]) -> Self::Ints;
    /// Pairs of rows 2 `PAIR` and 2 `PAIR` + 1 of a line of signed bytes.
    unsafe fn byte_pairs<const PAIR: usize>(line: Self::Ints) -> Self::Ints;
}

/// Asks for a line ahead of its use.
#[inline(always)]
pub(super) fn prefetch(at: *const u8) {
    // SAFETY: a prefetch touches nothing, wherever it points; SSE is always there.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
}
