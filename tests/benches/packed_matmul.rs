//! Packed products of the 1 B shape beside what the machine can do: `cargo bench -p tilewright-tests --bench packed_matmul`.
//! `-- quick` leaves the vocabulary's product and long prompts out; `-- only "f32 x i4"` takes one kind, `-- threads 1` so many threads,
//! `-- features avx2` hides others (`none` is the portable path).
//!
//! Weights are cold for one row (a ring of copies larger than the caches), as they are when a token is decoded.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tilewright_runtime::element::Element;
use tilewright_runtime::kernels::cpu::{self, Features};
use tilewright_runtime::kernels::limits;
use tilewright_runtime::kernels::matmul::{Quantized, matmul};
use tilewright_runtime::kernels::packed::Layout;
use tilewright_runtime::kernels::pool::Pool;
use tilewright_runtime::memory::{Destination, Source, Workspace};
use tilewright_runtime::random::Random;

/// k, n of the products of a layer, and of the vocabulary.
const SHAPES: [[usize; 2]; 4] = [[2048, 2048], [2048, 8192], [8192, 2048], [2048, 128_256]];
const ROWS: [usize; 4] = [1, 8, 128, 512];
/// Larger than the caches of most processors.
const COLD_BYTES: usize = 256 << 20;
const BLOCK: usize = 32;

/// What is multiplied: a, b, and whether b has scales.
const KINDS: [(&str, Element, Element, bool); 8] = [
    ("i8 x i4", Element::I8, Element::I4, true),
    ("i8 x i8", Element::I8, Element::I8, true),
    ("f32 x i4", Element::F32, Element::I4, true),
    ("f32 x nf4", Element::F32, Element::NF4, true),
    ("f32 x i8", Element::F32, Element::I8, true),
    ("bf16 x i4", Element::BF16, Element::I4, true),
    ("bf16 x bf16", Element::BF16, Element::BF16, false),
    ("f32 x f32", Element::F32, Element::F32, false),
];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let value = |word: &str| words.iter().position(|given| given == word).and_then(|at| words.get(at + 1));
    if let Some(names) = value("features") {
        let features = Features::parse(names).expect("known names");
        cpu::restrict(features).expect("no kernel was chosen yet");
    }
    let threads = value("threads").and_then(|number| number.parse().ok());
    let pool = Arc::new(threads.map_or_else(Pool::of_machine, Pool::new));
    let limits = Limits::measure(&pool);
    println!(
        "features {}; {} threads; DRAM read {:.1} GB/s; on registers int8 {:.3} TOPS, f32 {:.3} TFLOPS, bf16 {:.3} TFLOPS",
        cpu::features(),
        pool.threads(),
        limits.read,
        limits.integers,
        limits.floats,
        limits.pairs,
    );
    println!(
        "{:<12} {:>4} {:>6} {:>7} {:>10} {:>8} {:>7} {:>8} {:>7}",
        "", "m", "k", "n", "us", "GB/s", "of read", "TOPS", "of peak"
    );
    for (name, a, b, is_scaled) in KINDS {
        if value("only").is_some_and(|only| only != name) {
            continue;
        }
        for [k, n] in SHAPES {
            let has_room = n < 100_000 || (!has("quick") && b.bits() <= 8);
            for m in ROWS {
                let is_long = m * n * k > 20 << 30 || (has("quick") && m > 128);
                if has_room && !is_long {
                    row(name, (a, b, is_scaled), [m, k, n], &pool, &limits);
                }
            }
        }
    }
}

/// What the machine can do at most, per second.
struct Limits {
    read: f64,
    integers: f64,
    floats: f64,
    pairs: f64,
}

impl Limits {
    fn measure(pool: &Pool) -> Limits {
        let operations = limits::operations(pool, 0.05);
        let best = |kinds: &[&str]| {
            let of_kind =
                operations.iter().filter(|limit| kinds.iter().any(|kind| limit.name.contains(kind)));
            of_kind.map(|limit| limit.median).fold(0.0, f64::max)
        };
        Limits {
            read: limits::memory_read(pool, 2 * COLD_BYTES).median / 1e9,
            integers: best(&["int8"]) / 1e12,
            floats: best(&["f32"]) / 1e12,
            pairs: best(&["bf16"]) / 1e12,
        }
    }
}

/// Operands of one product, with some copies of b.
struct Product {
    elements: (Element, Element),
    dims: [usize; 3],
    block: usize,
    a: Vec<u8>,
    b: Vec<Vec<u8>>,
    scale: Option<Vec<u8>>,
}

fn random_bytes(element: Element, count: usize, random: &mut Random) -> Vec<u8> {
    let bytes = element.packed_bytes(count as u64).expect("fits memory") as usize;
    match element {
        Element::F32 => (0..count).flat_map(|_| (random.next_f64() as f32 - 0.5).to_le_bytes()).collect(),
        Element::BF16 => (0..count)
            .flat_map(|_| ((random.next_f64() as f32 - 0.5).to_bits() >> 16).to_le_bytes()[..2].to_vec())
            .collect(),
        Element::F16 => (0..count).flat_map(|_| [0, 0x20 + (random.next_f64() * 4.0) as u8]).collect(),
        _ => (0..bytes).map(|_| (random.next_f64() * 256.0) as u8).collect(),
    }
}

impl Product {
    fn new(
        (a, b, is_scaled): (Element, Element, bool),
        [m, k, n]: [usize; 3],
        block: usize,
        copies: usize,
    ) -> Product {
        let mut random = Random::new(1);
        let layout = Layout::of(b).expect("a layout that fast kernels know");
        let count: usize = layout.dims(n, k).iter().product();
        let first = random_bytes(b, count, &mut random);
        let panels = n.div_ceil(layout.columns);
        let scale = is_scaled
            .then(|| random_bytes(Element::F16, panels * layout.columns * k.div_ceil(block), &mut random));
        Product {
            elements: (a, b),
            dims: [m, k, n],
            block: if is_scaled { block } else { 0 },
            a: random_bytes(a, m * k, &mut random),
            b: vec![first; copies],
            scale,
        }
    }

    fn run(&self, copy: usize, out: &mut [u8], workspace: &mut Workspace) {
        let [m, k, n] = self.dims;
        let layout = Layout::of(self.elements.1).expect("known");
        let a = Source::packed(self.elements.0, &[m, k], &self.a).expect("fits");
        let (dims, strides) = (layout.dims(n, k), layout.strides(k));
        let b = Source::strided(self.elements.1, &dims, &strides.map(|stride| stride as i64), &self.b[copy])
            .expect("fits");
        let panels = n.div_ceil(layout.columns);
        let scale = self.scale.as_ref().map(|bytes| {
            Source::packed(Element::F16, &[panels, k.div_ceil(self.block), layout.columns], bytes)
                .expect("fits")
        });
        let b = Quantized { scale: scale.as_ref(), block: self.block, ..Quantized::plain(&b) };
        let mut to = Destination::packed(Element::F32, &[m, n], out).expect("fits");
        matmul(&mut to, &a, b, false, workspace).expect("operands fit");
        black_box(&to);
    }

    fn b_bytes(&self) -> usize {
        self.b[0].len() + self.scale.as_ref().map_or(0, Vec::len)
    }
}

fn row(name: &str, kind: (Element, Element, bool), [m, k, n]: [usize; 3], pool: &Arc<Pool>, limits: &Limits) {
    let one = kind.1.packed_bytes((n * k) as u64).expect("fits") as usize;
    let copies = if m == 1 { (COLD_BYTES / one).clamp(1, 64) } else { 1 };
    let product = Product::new(kind, [m, k, n], BLOCK, copies);
    let mut workspace = Workspace::with_pool(pool.clone());
    let mut out = vec![0u8; m * n * 4];
    product.run(0, &mut out, &mut workspace);
    let work = (2 * m * k * n) as f64;
    let runs = if m == 1 { copies.max(16) } else { ((2e11 / work) as usize).clamp(2, 20) };
    let mut at = 0;
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            at = (at + 1) % copies;
            let start = Instant::now();
            product.run(at, &mut out, &mut workspace);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    let rate = product.b_bytes() as f64 / seconds / 1e9;
    let operations = work / seconds / 1e12;
    let peak = match kind.0 {
        Element::I8 => limits.integers,
        Element::BF16 if limits.pairs > 0.0 => limits.pairs,
        _ => limits.floats,
    };
    println!(
        "{name:<12} {m:>4} {k:>6} {n:>7} {:>10.1} {rate:>8.2} {:>6.0}% {operations:>8.3} {:>6.0}%",
        seconds * 1e6,
        100.0 * rate / limits.read,
        100.0 * operations / peak,
    );
}
