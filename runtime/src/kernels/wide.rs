//! The same code for wider vectors, chosen when the program runs.
//!
//! [`widest!`] compiles a function's body twice: for the machine the crate is built for, and with AVX2. Only the width of
//! registers differs: multiplications and additions are not fused and keep their order, so both give the same bits.

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
                #[target_feature(enable = "avx2")]
                fn wide<$($generics)*>($($argument: $type),*) {
                    body::<$($call)*>($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    #[allow(unsafe_code, reason = "calling code for a detected CPU feature")]
                    // SAFETY: the CPU has AVX2, as was just asked; the body itself is safe code.
                    return unsafe { wide::<$($call)*>($($argument),*) };
                }
            }
            body::<$($call)*>($($argument),*)
        }
    };
}
pub(crate) use widest;
