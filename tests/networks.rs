//! Convolution networks compiled in several ways: what a plan takes of SRAM, and what the timing model says of it.

use tilewright::driver::{Compilation, CompileOptions, OptimizeFor};
use tilewright::loaded::Loaded;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright::synthesize::convolutions::Network;
use tilewright_ir::sample::Sampler;
use tilewright_ir::tensor::Tensor;
use tilewright_runtime::timing::{Request, estimate};

/// How a network is compiled.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// The machine.
    pub target: &'static str,
    /// Fewest cycles or least SRAM.
    pub optimize_for: OptimizeFor,
    /// Whether kernels may run together stripe by stripe.
    pub cascades: bool,
    /// SRAM in place of the machine's own.
    pub sram_bytes: Option<u64>,
}

/// A network in a folder of its own, compiled.
pub struct Compiled {
    compilation: Compilation,
    /// Bytes of a space at most in use, of the memory plan.
    pub sram_bytes: u64,
    /// Bytes of activations in DRAM.
    pub dram_bytes: u64,
    /// Modelled cycles.
    pub cycles: u64,
    /// Modelled bytes from and to DRAM, weights too.
    pub traffic_bytes: u64,
}

/// Writes a network; keep the folder as long as the source is used.
///
/// # Panics
/// When it cannot be written.
pub fn written(network: &Network) -> (tempfile::TempDir, Source) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    network.write(1, folder.path()).unwrap_or_else(|problem| panic!("{problem}"));
    let source = Source::open(folder.path()).unwrap_or_else(|problem| panic!("{problem}"));
    (folder, source)
}

/// An input of random pixels.
pub fn input(network: &Network) -> Tensor {
    let [channels, height, width] = network.input.map(|dim| dim as i64);
    let mut random = Sampler::new(7);
    let count = channels * height * width;
    let pixels = (0..count).map(|_| random.below(-128, 128)).collect();
    Tensor::from_ints(tilewright_ir::element::Element::I8, &[1, channels, height, width], pixels)
}

/// The most bytes of input and output of one layer: what has to be there at once when layers run one after the other.
pub fn max_live_bytes(network: &Network) -> u64 {
    let maps = network.map_bytes();
    maps.windows(2).map(|pair| (pair[0] + pair[1]) as u64).max().unwrap_or(0)
}

/// Compiles a network.
///
/// # Panics
/// When it does not compile.
pub fn compile(session: &Session, source: &Source, how: How) -> Compiled {
    let options = CompileOptions {
        target: how.target.into(),
        optimize_for: how.optimize_for,
        without_cascades: !how.cascades,
        sram_bytes: how.sram_bytes,
        ..CompileOptions::default()
    };
    let compilation = session.compile(source, &options).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let report = &compilation.programs[0];
    let bytes =
        |space: &str| report.memory.iter().find(|plan| plan.space == space).map_or(0, |plan| plan.bytes);
    let figures = tilewright_targets::figures::of(&report.machine);
    let program = report.program.as_ref().expect("a program");
    let timing = estimate(program, &figures, &Request::default()).unwrap_or_else(|error| panic!("{error}"));
    let (sram_bytes, dram_bytes) = (bytes("sram"), bytes("dram"));
    let (cycles, traffic_bytes) = (timing.cycles, timing.total.dram_bytes);
    Compiled { compilation, sram_bytes, dram_bytes, cycles, traffic_bytes }
}

impl Compiled {
    /// Runs it in the interpreter.
    ///
    /// # Panics
    /// When it does not run.
    pub fn run(&self, input: &Tensor) -> Vec<Tensor> {
        let mut loaded =
            Loaded::from_compilation(&self.compilation).unwrap_or_else(|problems| panic!("{}", problems[0]));
        loaded
            .run_once(&self.compilation.signature, std::slice::from_ref(input))
            .unwrap_or_else(|problems| panic!("{}", problems[0]))
    }

    /// Ops on the host.
    pub fn on_host(&self) -> Vec<String> {
        let rows = &self.compilation.programs[0].placement.rows;
        rows.iter().filter(|row| row.target == "host").map(|row| row.op.clone()).collect()
    }
}
