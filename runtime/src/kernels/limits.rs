//! What the machine can do at most, measured in about a second: bytes read from memory, and operations per second of each kind of multiplier
//! that kernels use. Rates of models are told beside these.
//!
//! A rate is the median of a few runs on all threads of a pool. Multipliers work on registers only: no kernel can be faster. Nothing
//! here computes a result, and nothing depends on what is measured.
//!
//! ```
//! use tilewright_runtime::kernels::{limits, pool::Pool};
//! for limit in limits::operations(&Pool::new(1), 0.001) {
//!     println!("{} {:.2} Gop/s", limit.name, limit.median / 1e9);
//! }
//! ```

use super::cpu::{Feature, features};
use super::pool::Pool;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

/// Runs of each measurement.
const RUNS: usize = 3;

/// A measured rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What was measured.
    pub name: &'static str,
    /// Threads at work.
    pub threads: usize,
    /// Per second: the median of a few runs. Operations count a multiplication and an addition as two.
    pub median: f64,
    /// The slowest run.
    pub minimum: f64,
    /// The fastest.
    pub maximum: f64,
}

impl Limit {
    fn of(name: &'static str, threads: usize, mut run: impl FnMut() -> f64) -> Limit {
        // The first run wakes threads and touches pages.
        run();
        let mut rates: Vec<f64> = (0..RUNS).map(|_| run()).collect();
        rates.sort_by(f64::total_cmp);
        Limit { name, threads, median: rates[RUNS / 2], minimum: rates[0], maximum: rates[RUNS - 1] }
    }
}

/// Bytes per second read from memory: all threads through buffers of so many bytes in all, which no cache should hold.
pub fn memory_read(pool: &Pool, bytes: usize) -> Limit {
    let mut words = vec![0u64; bytes.div_ceil(8).next_multiple_of(LINE_WORDS * pool.threads())];
    let part = words.len() / pool.threads();
    pool.split_mut(&mut words, part, u64::MAX, |start, piece| piece.fill(start as u64 + 1));
    let name = "memory_read";
    Limit::of(name, pool.threads(), || {
        let begin = Instant::now();
        pool.split(words.len(), part, u64::MAX, |range| {
            black_box(sum(&words[range]));
        });
        words.len() as f64 * 8.0 / begin.elapsed().as_secs_f64()
    })
}

/// Words that one step of reading takes: eight cache lines.
const LINE_WORDS: usize = 64;

super::wide::widest! {
    /// Adds all words up.
    fn add_up[][](words: &[u64], total: &mut u64) {
        let mut sums = [0u64; LINE_WORDS];
        for line in words.chunks_exact(LINE_WORDS) {
            sums.iter_mut().zip(line).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        }
        *total = sums.iter().fold(*total, |total, sum| total.wrapping_add(*sum));
    }
}

fn sum(words: &[u64]) -> u64 {
    let mut total = 0;
    add_up(words, &mut total);
    total
}

/// A loop over registers: what it does in so many rounds, in operations.
struct Multiplier {
    name: &'static str,
    /// What it needs.
    feature: Option<Feature>,
    /// Runs so many rounds; gives the operations of one.
    run: fn(u64) -> u64,
}

/// Operations per second of every multiplier that is there and not hidden, over about so many seconds each.
pub fn operations(pool: &Pool, seconds: f64) -> Vec<Limit> {
    let usable = |multiplier: &&Multiplier| multiplier.feature.is_none_or(|feature| features().has(feature));
    MULTIPLIERS.iter().filter(usable).map(|multiplier| measure(multiplier, pool, seconds)).collect()
}

fn measure(multiplier: &Multiplier, pool: &Pool, seconds: f64) -> Limit {
    const PROBE: u64 = 20_000;
    let begin = Instant::now();
    (multiplier.run)(black_box(PROBE));
    let rounds = PROBE as f64 * seconds / begin.elapsed().as_secs_f64().max(1e-6);
    let rounds = (rounds as u64).max(1);
    let threads = pool.threads();
    Limit::of(multiplier.name, threads, || {
        let done = Mutex::new((0u64, 0f64));
        pool.split(threads, 1, u64::MAX, |range| {
            let begin = Instant::now();
            let operations: u64 = range.map(|_| (multiplier.run)(black_box(rounds)) * rounds).sum();
            let time = begin.elapsed().as_secs_f64();
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *done = (done.0 + operations, done.1.max(time));
        });
        let (operations, time) = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        operations as f64 / time.max(1e-9)
    })
}

/// Sums side by side: more than any multiplier's latency.
const CHAINS: usize = 12;

/// A function of rounds: every sum becomes `step(sum, x)`, which multiplies so many pairs.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_loop {
    ($name:ident, $features:literal, $multiplications:literal, $zero:expr, $one:expr, $step:expr) => {
        pub(super) fn $name(rounds: u64) -> u64 {
            #[target_feature(enable = $features)]
            fn body(rounds: u64) {
                use std::arch::x86_64::*;
                let mut sums = [$zero; CHAINS];
                let x = black_box($one);
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = $step(*sum, x);
                    }
                }
                black_box(sums);
            }
            #[allow(unsafe_code, reason = "calling code for a detected CPU feature")]
            // SAFETY: the table below names the feature, and `operations` runs only what the CPU has.
            unsafe {
                body(rounds);
            }
            CHAINS as u64 * $multiplications * 2
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, black_box};

    x86_loop!(f32_avx2, "avx2,fma", 8, _mm256_setzero_ps(), _mm256_set1_ps(0.5), |s, x| _mm256_fmadd_ps(
        s, x, x
    ));
    x86_loop!(f32_avx512, "avx512f", 16, _mm512_setzero_ps(), _mm512_set1_ps(0.5), |s, x| {
        _mm512_fmadd_ps(s, x, x)
    });
    // Without byte dot products: pairs of bytes to words, pairs of words to doublewords, and the sum.
    x86_loop!(i8_avx2, "avx2", 32, _mm256_setzero_si256(), _mm256_set1_epi8(1), |s, x| {
        _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(x, s), x))
    });
    x86_loop!(i8_avx_vnni, "avx2,avxvnni", 32, _mm256_setzero_si256(), _mm256_set1_epi8(1), |s, x| {
        _mm256_dpbusd_avx_epi32(s, x, x)
    });
    x86_loop!(i8_avx512, "avx512f,avx512vnni", 64, _mm512_setzero_si512(), _mm512_set1_epi8(1), |s, x| {
        _mm512_dpbusd_epi32(s, x, x)
    });
    x86_loop!(
        bf16_avx512,
        "avx512f,avx512bf16",
        32,
        _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
        |s, x| _mm512_dpbf16_ps(s, x, x)
    );
}

#[cfg(target_arch = "x86_64")]
static MULTIPLIERS: &[Multiplier] = &[
    Multiplier { name: "f32_avx2", feature: Some(Feature::Avx2), run: x86::f32_avx2 },
    Multiplier { name: "f32_avx512", feature: Some(Feature::Avx512), run: x86::f32_avx512 },
    Multiplier { name: "bf16_avx512", feature: Some(Feature::Avx512Bf16), run: x86::bf16_avx512 },
    Multiplier { name: "int8_avx2", feature: Some(Feature::Avx2), run: x86::i8_avx2 },
    Multiplier { name: "int8_avx_vnni", feature: Some(Feature::AvxVnni), run: x86::i8_avx_vnni },
    Multiplier { name: "int8_avx512_vnni", feature: Some(Feature::Avx512Vnni), run: x86::i8_avx512 },
    SCALAR,
];
#[cfg(not(target_arch = "x86_64"))]
static MULTIPLIERS: &[Multiplier] = &[SCALAR];

/// What the compiler makes of plain code.
const SCALAR: Multiplier = Multiplier { name: "f32_portable", feature: None, run: portable };

fn portable(rounds: u64) -> u64 {
    const LANES: usize = 64;
    let mut sums = [0f32; LANES];
    let x = black_box(0.5f32);
    for _ in 0..rounds {
        sums.iter_mut().for_each(|sum| *sum = *sum * x + x);
    }
    black_box(sums);
    LANES as u64 * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_in_order() {
        let pool = Pool::new(2);
        let mut all = operations(&pool, 0.001);
        all.push(memory_read(&pool, 1 << 20));
        assert!(all.iter().any(|limit| limit.name == "f32_portable"));
        for limit in all {
            let Limit { minimum, median, maximum, .. } = limit;
            assert!(0.0 < minimum && minimum <= median && median <= maximum, "{limit:?}");
            assert!(maximum.is_finite(), "{limit:?}");
        }
    }

    #[test]
    fn all_words_are_read() {
        let words: Vec<u64> = (0..LINE_WORDS as u64 * 3).collect();
        assert_eq!(sum(&words), words.iter().sum());
    }
}
