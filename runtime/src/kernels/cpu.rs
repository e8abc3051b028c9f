//! What the processor can do, asked once by CPUID bits (never by model), and what kernels may use of it.
//!
//! Kernels are chosen by [`features`]. [`restrict`] hides features, to compare kernels or to run as a lesser machine would.
//!
//! ```
//! use tilewright_runtime::kernels::cpu::{Feature, Features};
//! let features = Features::parse("avx2,avx_vnni")?;
//! assert!(features.has(Feature::Avx2) && !features.has(Feature::Avx512));
//! # Ok::<(), String>(())
//! ```

use std::sync::OnceLock;

macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $detect:expr;)*) => {
        /// A group of instructions that kernels are written for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Feature {
            $($(#[$doc])* $variant,)*
        }

        impl Feature {
            /// All, in order.
            pub const ALL: &[Feature] = &[$(Feature::$variant,)*];

            /// Name, as in lists.
            pub fn name(self) -> &'static str {
                match self { $(Feature::$variant => $name,)* }
            }

            fn is_there(self) -> bool {
                match self { $(Feature::$variant => $detect,)* }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! x86 {
    ($($name:tt)*) => { $(std::arch::is_x86_feature_detected!($name))&&* };
}
#[cfg(not(target_arch = "x86_64"))]
macro_rules! x86 {
    ($($name:tt)*) => {
        false
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! arm {
    ($name:tt) => {
        std::arch::is_aarch64_feature_detected!($name)
    };
}
#[cfg(not(target_arch = "aarch64"))]
macro_rules! arm {
    ($name:tt) => {
        false
    };
}

features! {
    /// x86-64: 256-bit integers, fused multiply-add, half floats.
    Avx2 = "avx2", x86!("avx2" "fma" "f16c");
    /// x86-64: byte dot products on 256 bits.
    AvxVnni = "avx_vnni", x86!("avx2" "avxvnni");
    /// x86-64: 512 bits, with bytes and words, and 256-bit forms.
    Avx512 = "avx512", x86!("avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512dq");
    /// x86-64: byte dot products on 512 bits.
    Avx512Vnni = "avx512_vnni", x86!("avx512f" "avx512vl" "avx512vnni");
    /// x86-64: bf16 dot products on 512 bits.
    Avx512Bf16 = "avx512_bf16", x86!("avx512f" "avx512vl" "avx512bf16");
    /// x86-64: tiles of int8.
    AmxInt8 = "amx_int8", amx::has(25);
    /// x86-64: tiles of bf16.
    AmxBf16 = "amx_bf16", amx::has(22);
    /// AArch64: byte dot products.
    DotProduct = "dotprod", arm!("dotprod");
    /// AArch64: products of byte matrices.
    I8mm = "i8mm", arm!("i8mm");
    /// AArch64: bf16 dot products.
    Bf16 = "bf16", arm!("bf16");
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// None: what every processor of the architecture has.
    pub const NONE: Features = Features(0);

    /// What this processor and its operating system have.
    pub fn detected() -> Features {
        static DETECTED: OnceLock<Features> = OnceLock::new();
        let all = || Feature::ALL.iter().copied().filter(|feature| feature.is_there());
        *DETECTED.get_or_init(|| all().fold(Features::NONE, Features::with))
    }

    /// A list by names and commas; `all`, and `none`.
    ///
    /// # Errors
    /// The name that is not known, with those that are.
    pub fn parse(text: &str) -> Result<Features, String> {
        let names = || Feature::ALL.iter().map(|feature| feature.name()).collect::<Vec<_>>().join(", ");
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).try_fold(
            Features::NONE,
            |set, name| match name {
                "none" => Ok(set),
                "all" => Ok(Feature::ALL.iter().fold(set, |set, feature| set.with(*feature))),
                name => Feature::ALL
                    .iter()
                    .find(|feature| feature.name() == name)
                    .map(|feature| set.with(*feature))
                    .ok_or_else(|| {
                        format!("there is no CPU feature '{name}'; there are: {}, all, none", names())
                    }),
            },
        )
    }

    /// With one more.
    #[must_use]
    pub fn with(self, feature: Feature) -> Features {
        Features(self.0 | 1 << feature as u32)
    }

    /// Whether it is in the set.
    pub fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 == 1
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }
}

impl std::fmt::Display for Features {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> =
            Feature::ALL.iter().filter(|feature| self.has(**feature)).map(|feature| feature.name()).collect();
        formatter.write_str(if names.is_empty() { "none" } else { "" })?;
        formatter.write_str(&names.join(","))
    }
}

static USED: OnceLock<Features> = OnceLock::new();

/// What kernels use: what the machine has, less what [`restrict`] hid. Does not change after the first call.
pub fn features() -> Features {
    *USED.get_or_init(Features::detected)
}

/// Hides all other features from kernels.
///
/// # Errors
/// When kernels were chosen already, by other features.
pub fn restrict(to: Features) -> Result<(), String> {
    let wanted = Features::detected().and(to);
    let used = *USED.get_or_init(|| wanted);
    if used == wanted {
        return Ok(());
    }
    Err(format!("kernels were chosen already, for these features: {used}"))
}

#[cfg(not(target_arch = "x86_64"))]
mod amx {
    pub(super) fn has(_bit: u32) -> bool {
        false
    }
}

#[cfg(target_arch = "x86_64")]
mod amx {
    //! AMX is there when the processor has it, the system saves its registers, and grants them to this process.

    use std::arch::x86_64::{__cpuid, __cpuid_count};

    /// Whether tiles, and the bit of CPUID leaf 7 (Intel's manual, volume 2, CPUID) in EDX, can be used.
    pub(super) fn has(bit: u32) -> bool {
        const TILE: u32 = 24;
        if __cpuid(0).eax < 7 {
            return false;
        }
        let edx = __cpuid_count(7, 0).edx;
        edx >> bit & 1 == 1 && edx >> TILE & 1 == 1 && is_saved() && is_granted()
    }

    /// Whether the system saves tile configuration and data (XCR0 bits 17 and 18).
    fn is_saved() -> bool {
        const OSXSAVE: u32 = 27;
        if __cpuid(1).ecx >> OSXSAVE & 1 == 0 {
            return false;
        }
        let (low, high): (u32, u32);
        #[allow(unsafe_code, reason = "reading a register of the processor")]
        // SAFETY: the system has enabled XGETBV, as OSXSAVE says; it reads register 0 and touches no memory.
        unsafe {
            std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
        }
        let _ = high;
        low >> 17 & 3 == 3
    }

    /// Asks Linux for the tile registers: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), kernel documentation x86/xstate.
    #[cfg(target_os = "linux")]
    fn is_granted() -> bool {
        const ARCH_PRCTL: isize = 158;
        const REQUEST: usize = 0x1023;
        const TILE_DATA: usize = 18;
        let result: isize;
        #[allow(unsafe_code, reason = "a system call that the standard library lacks")]
        // SAFETY: the call takes two numbers and touches no memory of ours; the kernel clobbers rcx and r11.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") REQUEST,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn is_granted() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for text in ["none", "avx2", "avx2,avx512_vnni", "dotprod,i8mm"] {
            assert_eq!(Features::parse(text).expect("known names").to_string(), text);
        }
        let all = Features::parse("all").expect("known");
        assert!(Feature::ALL.iter().all(|feature| all.has(*feature)));
        let error = Features::parse("avx2,sse9").expect_err("not known");
        assert!(error.contains("'sse9'") && error.contains("amx_int8"), "{error}");
    }

    #[test]
    fn what_is_used_is_what_is_there() {
        let used = features();
        assert_eq!(used.and(Features::detected()), used);
        assert_eq!(restrict(used), Ok(()));
        if used != Features::NONE {
            assert!(restrict(Features::NONE).is_err());
        }
    }
}
