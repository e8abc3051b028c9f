//! Does extraction choose otherwise when it asks the tile search what a product costs? `cargo bench -p tilewright-tests --bench tile_cost`.
//!
//! The optimiser prices a product by its bytes, each once, and its multiplications; tiles that do not fit read some bytes again. Here every
//! recorded model and the language model of the source are compiled for machines of several SRAM sizes by both price lists; what differs is
//! told with the modelled cycles of both.

use harness::recorded::{cases_in, own_cases, shared_cases, tests_folder};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tilewright::driver::CompileOptions;
use tilewright::model::Source;
use tilewright::session::Session;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::Module;
use tilewright_ir::parse::{ParseOptions, parse};
use tilewright_ir::print::{PrintOptions, print};
use tilewright_ir::symbols::{Substitution, substitute};
use tilewright_ir::types::Type;
use tilewright_passes::egraph::cost::{CostModel, CostQuery, MachineCost, nominal};
use tilewright_passes::machine::Machine;
use tilewright_passes::pass::PassContext;
use tilewright_passes::pipeline::PassManager;
use tilewright_passes::synthetic::{LlamaShape, llama};
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{Request, estimate};
use tilewright_targets::figures;
use tilewright_targets::npu_gen3::NPU_GEN3;
use tilewright_targets::npu_gen3::tile_search::{Axis, Flow, Limits, Operand, Problem, Work, search};

/// SRAM sizes; the last is the machine's own.
const SRAM_KIB: [u64; 4] = [48, 128, 256, 1024];

/// The flat price list, with the time of the best tiles in place of the larger of transfers and multiplications.
struct TileCost(MachineCost);

/// A product: how often, rows, columns, depth, and the formats of its operands and result.
struct Product {
    batch: u64,
    m: u64,
    n: u64,
    k: u64,
    formats: [Element; 3],
}

impl Product {
    fn of(query: &CostQuery) -> Option<Product> {
        let products = [&core::MATMUL, &core::MATMUL_INTEGER, &core::LINEAR];
        if query.constant || !products.contains(&query.def) {
            return None;
        }
        let tensor = |slot: usize| query.operands.get(slot).copied().flatten().and_then(Type::as_tensor);
        let (x, w, y) = (tensor(0)?, tensor(1)?, query.results.first()?.as_tensor()?);
        let rows = y.shape.iter().rev().skip(1).map(nominal).fold(1, u64::saturating_mul);
        let m = if w.rank() <= 2 { rows } else { y.shape.iter().rev().nth(1).map_or(1, nominal) };
        let (n, k) = (nominal(y.shape.last()?), nominal(x.shape.last()?));
        Some(Product { batch: rows / m.max(1), m, n, k, formats: [x.element, w.element, y.element] })
    }

    /// Cycles of the best tiles, and of the flat list.
    fn cycles(&self, machine: &Machine) -> Option<[u64; 2]> {
        let Product { batch, m, n, k, formats: [x, w, y] } = *self;
        let rate = machine.macs_per_cycle(x, w)?.max(1);
        let bits = |element: Element| element.bits() as u64;
        let columns = |operand: Operand| Operand { burst: Some(1), ..operand };
        let problem = Problem {
            axes: vec![Axis::new("m", m, 1), Axis::new("n", n, 32), Axis::new("k", k, 32)],
            operands: vec![
                Operand::new(Flow::Load, &[0, 2], bits(x)),
                columns(Operand::new(Flow::Load, &[2, 1], bits(w))),
                Operand::new(Flow::Accumulate, &[0, 1], 32),
                columns(Operand::new(Flow::Store, &[0, 1], bits(y))),
            ],
            work: vec![Work { axes: vec![0, 1, 2], factor: 1, per_cycle: rate }],
            orders: vec![vec![0, 1, 2], vec![1, 0, 2]],
            keeps: None,
            fixed_sram_bytes: 0,
        };
        let limits = Limits {
            sram_bytes: machine.sram_bytes - machine.sram_bytes / 8,
            accumulator_bytes: machine.accumulator_bytes,
            dram_bytes_per_cycle: machine.dram_bytes_per_cycle,
            transfer_cycles: machine.dram_latency_cycles,
            command_cycles: machine.launch_cycles,
        };
        let moved = m * k * bits(x) + k * n * bits(w) + m * n * bits(y);
        let flat = machine.dram_cycles(moved.saturating_mul(batch) / 8).max(batch * m * n * k / rate);
        Some([search(&problem, limits).ok()?.cycles.saturating_mul(batch), flat])
    }
}

/// Products priced, and those whose best tiles take a tenth more than the flat list says.
static PRICED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

impl CostModel for TileCost {
    fn cost(&self, query: &CostQuery) -> u64 {
        let MachineCost(machine) = &self.0;
        let flat = self.0.cost(query);
        let Some([tiles, once]) = Product::of(query).and_then(|product| product.cycles(machine)) else {
            return flat;
        };
        PRICED[0].fetch_add(1, Ordering::Relaxed);
        PRICED[1].fetch_add(u64::from(tiles > once + once / 10), Ordering::Relaxed);
        let picoseconds = |cycles: u64| cycles.saturating_mul(1_000_000) / machine.clock_mhz.max(1);
        flat.saturating_add(picoseconds(tiles)).saturating_sub(picoseconds(once)).max(1)
    }
}

fn by_tiles(machine: &Machine) -> Arc<dyn CostModel> {
    Arc::new(TileCost(MachineCost(machine.clone())))
}

/// Compared, and how many differ.
#[derive(Default)]
struct Count {
    compared: usize,
    differ: usize,
}

/// Runs a pipeline by both price lists on machines of all SRAM sizes.
fn compare_graphs(session: &Session, name: &str, module: &Module, pipeline: &str, count: &mut Count) {
    let manager =
        PassManager::parse(pipeline, &session.passes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    for kib in SRAM_KIB {
        let machine = Machine { sram_bytes: kib << 10, ..NPU_GEN3.machine() };
        let texts = [None, Some(by_tiles(&machine))].map(|cost| {
            let mut context = PassContext::new(session.registry.clone());
            (context.machine, context.cost) = (machine.clone(), cost);
            let mut module = module.clone();
            let done = manager.run(&mut module, &mut context, &mut []);
            done.map(|()| print(&module, &PrintOptions::default())).ok()
        });
        if let [Some(flat), Some(tiles)] = texts {
            count.compared += 1;
            if flat != tiles {
                count.differ += 1;
                println!("{name} at {kib} KiB differs");
            }
        }
    }
}

/// Files of the corpus that the optimiser works on, and the 1B shape at several chunk lengths.
fn graphs(session: &Session) -> Count {
    let mut count = Count::default();
    let corpus = tests_folder().join("corpus/passes");
    let mut files: Vec<_> = std::fs::read_dir(corpus.join("optimize"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "mlir"))
        .collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a file of the corpus");
        let options = ParseOptions { stand_in_seed: Some(1), ..ParseOptions::default() };
        let pipeline = text.lines().find_map(|line| line.strip_prefix("// pipeline: "));
        if let (Ok(module), Some(pipeline)) = (parse(&text, &session.registry, &options), pipeline) {
            compare_graphs(session, &path.display().to_string(), &module, pipeline, &mut count);
        }
    }
    for tokens in [1, 128, 512] {
        let mut module = llama(&LlamaShape::default());
        let root = module.root();
        substitute(&mut module, root, &Substitution::from([("seq".into(), Dim::Known(tokens))]));
        let pipeline = "canonicalize,cse,dce,optimize";
        compare_graphs(session, &format!("1B shape, {tokens} tokens"), &module, pipeline, &mut count);
    }
    count
}

/// A model's programs; open batches are one, other open dimensions 32. None when it does not compile, with whichever prices.
fn programs(session: &Session, model: &Path, options: &CompileOptions) -> Option<Vec<Program>> {
    let source = Source::Onnx(model.to_path_buf());
    let compiled = session.compile(&source, options).or_else(|_| {
        let imported = session.import(&source, &BTreeMap::new(), options.activations)?;
        let mut names = std::collections::BTreeSet::new();
        for input in
            tilewright::signature::Signature::of(&imported.module, imported.module.functions()[0]).inputs
        {
            input.ty.shape.iter().for_each(|dim| dim.collect_symbols(&mut names));
        }
        let bound = |name: &str| if name.contains("batch") { 1 } else { 32 };
        let bindings = names.iter().map(|name| (name.to_string(), bound(name))).collect();
        session.compile(&source, &CompileOptions { bindings, ..options.clone() })
    });
    compiled.ok()?.programs.into_iter().map(|report| report.program).collect()
}

fn main() {
    let flat = Session::new();
    let Count { compared, differ } = graphs(&flat);
    println!("{compared} graphs of the corpus and of the 1B shape, {differ} differ");
    let tiles = Session::new().with_cost(by_tiles);
    let mut models = cases_in(&tests_folder().join("models"));
    models.extend(own_cases());
    models.extend(shared_cases());
    let (mut compared, mut differ, mut skipped) = (0, 0, 0);
    let mut time = [0.0; 2];
    for folder in &models {
        for kib in SRAM_KIB {
            let options = CompileOptions {
                target: "npu-gen3".into(),
                sram_bytes: Some(kib << 10),
                ..CompileOptions::default()
            };
            let timed = |session: &Session, took: &mut f64| {
                let start = Instant::now();
                let programs = programs(session, &folder.join("model.onnx"), &options);
                *took += start.elapsed().as_secs_f64();
                programs
            };
            let [of_flat, of_tiles] = &mut time;
            let (Some(one), Some(other)) = (timed(&flat, of_flat), timed(&tiles, of_tiles)) else {
                skipped += 1;
                continue;
            };
            let target = flat.target(&options.target).expect("the default target");
            let figures = figures::of(&options.machine(target).expect("its machine"));
            for (one, other) in one.iter().zip(&other) {
                compared += 1;
                if one == other {
                    continue;
                }
                differ += 1;
                let cycles = |program: &Program| {
                    estimate(program, &figures, &Request::default()).map_or(0, |timing| timing.cycles)
                };
                let (flat, tiles) = (cycles(one), cycles(other));
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                println!(
                    "{name} {} at {kib} KiB: {flat} cycles by flat prices, {tiles} by tiles, {:+.2} %",
                    one.name,
                    (tiles as f64 / flat.max(1) as f64 - 1.0) * 1e2
                );
            }
        }
    }
    println!("{compared} programs of {} models, {differ} differ; {skipped} were not compiled", models.len());
    let [priced, more] = PRICED.each_ref().map(|one| one.load(Ordering::Relaxed));
    println!("{priced} products priced by tiles, {more} of them a tenth or more above the flat price");
    println!("compiled in {:.1} s by flat prices, in {:.1} s by tiles", time[0], time[1]);
}
