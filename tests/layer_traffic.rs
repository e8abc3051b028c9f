//! What one decoder layer of the 1 B shape moves from and to DRAM, beside bounds that know nothing of the compiler.
//!
//! Traffic is counted from the emitted stream by the timing model; a layer is the difference of models with two layers and one. Weights are
//! int4 in groups of 128, products take activations as int8 with a scale per token that is made on chip, and what lies between ops is f16.
//!
//! ```text
//! Product { k: 2048, columns: &[2048, 512, 512], residual: false } at m = 128  ->  4.6 MB compulsory; 256 KiB of SRAM: at best 5.1 MB
//! ```

use std::path::{Path, PathBuf};
use tilewright::driver::{Compilation, CompileOptions};
use tilewright::model::Source;
use tilewright::plan::PlanOptions;
use tilewright::quantize::QuantizeOptions;
use tilewright::session::Session;
use tilewright::synthesize::{Options, Shape, write};
use tilewright_runtime::timing::{Request, Timing, estimate};
use tilewright_targets::figures;

/// Tokens in the cache before a pass of one token.
pub const PAST_TOKENS: u64 = 1024;
const WINDOW: usize = 2048;
/// Tokens of a pass: decode and two prompts.
pub const TOKENS: [usize; 3] = [1, 128, 512];
/// SRAM sizes.
pub const SRAM_KIB: [u64; 4] = [256, 512, 1024, 4096];

const HIDDEN: u64 = 2048;
const HEADS: u64 = 32;
const KEY_HEADS: u64 = 8;
const HEAD: u64 = 64;
const INNER: u64 = 8192;
const WEIGHT_BLOCK: u64 = 128;
/// What DRAM moves at a time.
const BURST_BYTES: u64 = 64;
/// f16.
const FLOAT_BYTES: u64 = 2;

/// Products that read the same rows, with what is added to their result.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Name.
    pub name: &'static str,
    /// Depth.
    pub k: u64,
    /// Columns of all weights together.
    pub n: u64,
    /// Columns that leave: less than `n` where gate and up become one.
    pub results: u64,
    /// Whether as much as leaves is read and added.
    pub has_residual: bool,
    /// Matrices whose columns a result takes together.
    pub matrices: u64,
}

/// The products of a layer.
pub const PRODUCTS: [Product; 4] = [
    Product {
        name: "q k v",
        k: HIDDEN,
        n: HIDDEN + 2 * KEY_HEADS * HEAD,
        results: HIDDEN + 2 * KEY_HEADS * HEAD,
        has_residual: false,
        matrices: 1,
    },
    Product { name: "o", k: HEADS * HEAD, n: HIDDEN, results: HIDDEN, has_residual: true, matrices: 1 },
    Product { name: "gate up", k: HIDDEN, n: 2 * INNER, results: INNER, has_residual: false, matrices: 2 },
    Product { name: "down", k: INNER, n: HIDDEN, results: HIDDEN, has_residual: true, matrices: 1 },
];

impl Product {
    /// Bytes of weights and scales.
    pub fn weight_bytes(&self) -> u64 {
        self.k * self.n / 2 + self.k / WEIGHT_BLOCK * self.n * FLOAT_BYTES
    }

    /// Bytes of weights and scales in tiles of so many columns, of all matrices together: a row of one moves in whole bursts.
    fn tiled_weight_bytes(&self, columns: u64) -> u64 {
        let row_bytes = columns / self.matrices / 2;
        if columns == self.n || row_bytes == 0 {
            return self.weight_bytes();
        }
        let rows = self.k * (self.n / 2).div_ceil(row_bytes);
        rows * row_bytes.next_multiple_of(BURST_BYTES) + self.weight_bytes() - self.k * self.n / 2
    }

    /// Bytes that leave, and that are added to them.
    fn result_bytes(&self, m: u64) -> u64 {
        m * self.results * FLOAT_BYTES * if self.has_residual { 2 } else { 1 }
    }

    /// Each operand and result once.
    pub fn compulsory_bytes(&self, m: u64) -> u64 {
        m * self.k * FLOAT_BYTES + self.weight_bytes() + self.result_bytes(m)
    }

    /// 2 m n k / sqrt(S) - 2 S words (arXiv:1702.02017) of the narrowest operand's width.
    pub fn word_bound_bytes(&self, m: u64, sram_bytes: u64) -> u64 {
        let words = sram_bytes as f64 * 2.0;
        let moved = 2.0 * m as f64 * self.n as f64 * self.k as f64 / words.sqrt() - 2.0 * words;
        (moved.max(0.0) / 2.0) as u64
    }
}

/// Keys and values of `tokens` tokens.
fn cache_bytes(tokens: u64) -> u64 {
    2 * tokens * KEY_HEADS * HEAD * FLOAT_BYTES
}

fn past(m: u64) -> u64 {
    if m == 1 { PAST_TOKENS } else { 0 }
}

/// Query and result of attention, and all keys and values once.
pub fn attention_bytes(m: u64) -> u64 {
    2 * m * HEADS * HEAD * FLOAT_BYTES + cache_bytes(past(m) + m)
}

/// Heads in and out where rotating them is an op of its own.
fn rotation_bytes(m: u64, heads: u64) -> u64 {
    2 * m * heads * HEAD * FLOAT_BYTES
}

/// What every op of a layer must move when each begins and ends in DRAM. A norm and a quantisation are part of the product that they feed;
/// rotating queries and keys is an op of the model, whatever the compiler makes it part of.
pub fn compulsory_bytes(m: u64) -> u64 {
    let products: u64 = PRODUCTS.iter().map(|product| product.compulsory_bytes(m)).sum();
    products + rotation_bytes(m, HEADS + KEY_HEADS) + attention_bytes(m)
}

/// What every kernel must move when queries are rotated as attention takes them in.
pub fn kernel_bytes(m: u64) -> u64 {
    compulsory_bytes(m) - rotation_bytes(m, HEADS)
}

/// What the layer must move when nothing between its ops does: weights, the cache, its rows in and out.
pub fn layer_bytes(m: u64) -> u64 {
    let weights: u64 = PRODUCTS.iter().map(Product::weight_bytes).sum();
    weights + cache_bytes(past(m)) + cache_bytes(m) + 2 * m * HIDDEN * FLOAT_BYTES
}

/// One layer as it was compiled.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// From and to DRAM.
    pub dram_bytes: u64,
    /// Modelled cycles.
    pub cycles: u64,
}

/// Models of one and of two layers.
pub struct Models {
    _folder: tempfile::TempDir,
    models: [PathBuf; 2],
}

impl Models {
    /// Writes them.
    ///
    /// # Panics
    /// When there is no room.
    pub fn write() -> Models {
        let folder = tempfile::tempdir().unwrap_or_else(|fault| panic!("no temporary folder: {fault}"));
        let models = [1, 2].map(|layers| {
            let path = folder.path().join(format!("layers-{layers}"));
            let shape = Shape::preset("llama-1b").expect("the shape");
            let shape = Shape { layers, vocabulary: 256, ..shape };
            write(&shape, &Options::default(), &path).unwrap_or_else(|problem| panic!("{problem}"));
            path.join("model.onnx")
        });
        Models { _folder: folder, models }
    }

    /// The model with one layer, or with two.
    pub fn path(&self, layers: usize) -> &Path {
        &self.models[layers - 1]
    }

    /// Compiles one of them for `npu-gen3` with this much SRAM.
    ///
    /// # Panics
    /// When it does not compile.
    pub fn compile(
        &self,
        session: &Session,
        layers: usize,
        tokens: &[usize],
        sram_bytes: u64,
    ) -> Compilation {
        let options = CompileOptions {
            target: "npu-gen3".into(),
            sram_bytes: Some(sram_bytes),
            plan: PlanOptions {
                chunk_lengths: tokens.to_vec(),
                context_window: Some(WINDOW),
                ..Default::default()
            },
            quantize: Some(QuantizeOptions { preset: "w4a8_g128".into(), ..Default::default() }),
            ..CompileOptions::default()
        };
        let compiled = session.compile(&Source::Onnx(self.path(layers).to_path_buf()), &options);
        compiled.unwrap_or_else(|problems| panic!("{}", problems[0]))
    }

    /// A layer in passes of so many tokens.
    pub fn layers(&self, session: &Session, tokens: &[usize], sram_bytes: u64) -> Vec<Layer> {
        let [one, two] = [1, 2].map(|layers| timings(&self.compile(session, layers, tokens, sram_bytes)));
        let layer = |(one, two): (&Timing, &Timing)| Layer {
            dram_bytes: two.total.dram_bytes - one.total.dram_bytes,
            cycles: two.cycles - one.cycles,
        };
        one.iter().zip(&two).map(layer).collect()
    }
}

/// The timing of every program: one token after [`PAST_TOKENS`] others, a prompt after none.
///
/// # Panics
/// When the timing model cannot follow a program.
pub fn timings(compilation: &Compilation) -> Vec<Timing> {
    let timing = |report: &tilewright::driver::ProgramReport| {
        let program = report.program.as_ref().expect("compiled to the end");
        let value = past(u64::from(program.chunk_length)) as i64;
        let bound = program.registers.iter().filter(|register| register.is_bound);
        let registers: Vec<(&str, i64)> = bound.map(|register| (register.name.as_str(), value)).collect();
        let request = Request { registers: &registers, ..Request::default() };
        estimate(program, &figures::of(&report.machine), &request).unwrap_or_else(|fault| panic!("{fault}"))
    };
    compilation.programs.iter().map(timing).collect()
}

/// Rows that go on or off chip at a time.
const PIECE_ROWS: u64 = 16;

/// Tiles of a product: rows, columns, depth.
#[derive(Clone, Copy)]
struct Tile {
    m: u64,
    n: u64,
    k: u64,
}

impl Product {
    /// Sums in f32, two tiles of weights with their scales on their way, two pieces of results and of what is added to them.
    fn tile_bytes(&self, tile: Tile, weight_tiles: u64) -> u64 {
        let weights = tile.k * tile.n / 2 + tile.k.div_ceil(WEIGHT_BLOCK) * tile.n * FLOAT_BYTES;
        let columns = tile.n * self.results / self.n * if self.has_residual { 2 } else { 1 };
        4 * tile.m * tile.n + weight_tiles * weights + 2 * PIECE_ROWS.min(tile.m) * columns * FLOAT_BYTES
    }

    /// The least bytes that a plan of one of three kinds moves, over all tiles that are multiples of what the matrix engine takes. Rows are
    /// read as f16 and quantised on chip; what is read more than once is read from a copy in int8, which is written once.
    pub fn exhaustive_bytes(&self, m: u64, sram_bytes: u64) -> u64 {
        let rows = m * self.k;
        let copied = |sweeps: u64| rows * FLOAT_BYTES + rows + sweeps * rows;
        let steps = |extent: u64, granule: u64| {
            (1..=extent.div_ceil(granule)).map(move |i| (i * granule).min(extent))
        };
        let mut least = u64::MAX;
        for tile_m in steps(m, PIECE_ROWS) {
            for tile_n in steps(self.n, WEIGHT_BLOCK) {
                for tile_k in steps(self.k, WEIGHT_BLOCK) {
                    let tile = Tile { m: tile_m, n: tile_n, k: tile_k };
                    let (rows_swept, columns_swept) = (m.div_ceil(tile_m), self.n.div_ceil(tile_n));
                    let streamed = self.tile_bytes(tile, 2);
                    let weights = self.tiled_weight_bytes(tile_n);
                    // All depth of some rows stays, weights pass once for each of them.
                    if streamed + tile_m * self.k <= sram_bytes {
                        least = least.min(rows * FLOAT_BYTES + rows_swept * weights);
                    }
                    // Both pass, sums stay.
                    if streamed + 2 * tile_m * tile_k <= sram_bytes {
                        least = least.min(copied(columns_swept) + rows_swept * weights);
                    }
                    // All depth of some columns stays, rows pass once for each of them.
                    let whole =
                        self.tile_bytes(Tile { k: self.k, ..tile }, if columns_swept > 1 { 2 } else { 1 });
                    if whole + 2 * tile_m * tile_k <= sram_bytes {
                        least = least.min(copied(columns_swept) + weights);
                    }
                }
            }
        }
        least.saturating_add(self.result_bytes(m))
    }
}

/// The least that attention moves: some queries of all heads of a group stay with what they carry, keys and values pass once for each.
pub fn exhaustive_attention_bytes(m: u64, sram_bytes: u64) -> u64 {
    let group = HEADS / KEY_HEADS;
    let fits = |queries: &u64| {
        let carried = group * queries * (HEAD + 2) * 4;
        let keys = 4 * PIECE_ROWS * HEAD * FLOAT_BYTES;
        carried + 4 * group * queries * HEAD * FLOAT_BYTES + keys <= sram_bytes
    };
    let queries = (1..=m).rev().find(fits).unwrap_or(1);
    2 * m * HEADS * HEAD * FLOAT_BYTES + m.div_ceil(queries) * cache_bytes(past(m) + m)
}

/// What a layer moves when each product, the rotation of keys, and attention with that of its queries run on their own with their best tiles.
pub fn exhaustive_bytes(m: u64, sram_bytes: u64) -> u64 {
    let products = PRODUCTS.iter().map(|product| product.exhaustive_bytes(m, sram_bytes));
    products.sum::<u64>() + rotation_bytes(m, KEY_HEADS) + exhaustive_attention_bytes(m, sram_bytes)
}
