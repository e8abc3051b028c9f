//! The same code for wider vectors, chosen when the program runs.
//!
//! [`widest!`] compiles a function's body for the machine the crate is built for, for AVX2 with FMA, and for AVX-512. Only the width of
//! registers differs: additions keep their order, and what is not written as `mul_add` is not fused, so all give the same bits.

#[cfg(target_arch = "x86_64")]
use super::cpu::{Feature, features};

/// `widest! { fn name[generic parameters][generic arguments](argument: type, ..) { body } }`
macro_rules! widest {
    (
        $(#[$doc:meta])*
        fn $name:ident[$($generics:tt)*][$($call:tt)*]($($argument:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "the parts of one inner loop")]
        fn $name<$($generics)*>($($argument: $type),*) {
            #[inline(always)]
            fn body<$($generics)*>($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide<$($generics)*>($($argument: $type),*) {
                    body::<$($call)*>($($argument),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn widest<$($generics)*>($($argument: $type),*) {
                    body::<$($call)*>($($argument),*)
                }
                if $crate::kernels::wide::has_avx512() {
                    #[allow(unsafe_code, reason = "calling code for detected CPU features")]
                    // SAFETY: the CPU has them, as was just asked; the body itself is safe code.
                    return unsafe { widest::<$($call)*>($($argument),*) };
                }
                if $crate::kernels::wide::has_avx2() {
                    #[allow(unsafe_code, reason = "calling code for detected CPU features")]
                    // SAFETY: the CPU has them, as was just asked; the body itself is safe code.
                    return unsafe { wide::<$($call)*>($($argument),*) };
                }
            }
            body::<$($call)*>($($argument),*)
        }
    };
}
pub(crate) use widest;

/// Whether vectors of 512 bits with all that comes with them may be used.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    features().has(Feature::Avx512)
}

/// Whether vectors of 256 bits and fused multiply-add may be used.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    features().has(Feature::Avx2)
}
