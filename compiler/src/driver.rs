//! From a model to an artifact: import, plan the programs, optimise each, lower each, write all into one file.
//!
//! Knows every stage and no detail of any. Terminals belong to `cli`.
//!
//! ```text
//! imported -> core -> optimized -> kernels -> tile -> placed -> commands      (one chain per program but for the first)
//! ```

use crate::generation_config::GenerationConfig;
use crate::import;
use crate::kv_cache::{CachePlan, KvCache};
use crate::model::Source;
use crate::placement_file;
use crate::plan::{PlanOptions, ProgramPlan, plan};
use crate::quantize::{QuantizeOptions, check_vocabulary, quantize};
use crate::session::Session;
use crate::signature::Signature;
use crate::strings;
use crate::text_parity::taps::{self, Tap};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::print::{PrintOptions, print};
use tilewright_ir::tensor::Tensor;
use tilewright_passes::PIPELINES;
use tilewright_passes::egraph::explain::BlockReport;
use tilewright_passes::form_kernels::kernel_count;
use tilewright_passes::machine::Machine;
use tilewright_passes::pass::PassContext;
use tilewright_passes::pipeline::PassManager;
use tilewright_passes::quantize_weights::{WeightRow, incoming};
use tilewright_runtime::artifact::{Artifact, ArtifactError, ArtifactWriter, WeightsSummary, WeightsWriter};
use tilewright_runtime::disassemble::disassemble;
use tilewright_runtime::stream::Program;
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::lower::{self, Objective, compile_function};
use tilewright_targets::place::SpacePlan;
use tilewright_targets::placement::Placement;
use tilewright_targets::target::Target;

/// How far to go, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// As the importer made it.
    Imported,
    /// Canonical, symbols bound.
    Core,
    /// After the e-graph.
    Optimized,
    /// Ops grouped into kernels.
    Kernels,
    /// Views, transfers and loops.
    Tile,
    /// The same with addresses.
    Placed,
    /// The command stream.
    #[default]
    Commands,
}

impl Level {
    fn name(self) -> &'static str {
        ["imported", "core", "optimized", "kernels", "tile", "placed", "commands"][self as usize]
    }
}

/// What the programs are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OptimizeFor {
    /// The fewest modelled cycles in the target's SRAM.
    #[default]
    Performance,
    /// The least SRAM, then the fewest cycles in it.
    Size,
}

/// The levels of core IR after import, in the order of [`PIPELINES`].
const CORE_LEVELS: [Level; 3] = [Level::Core, Level::Optimized, Level::Kernels];

/// What to compile for.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Target by name.
    pub target: String,
    /// Values of symbols.
    pub bindings: BTreeMap<String, i64>,
    /// Values of inputs that are known beforehand.
    pub frozen: BTreeMap<String, Tensor>,
    /// Shapes of inputs to which the model gives none.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// SRAM in place of the target's own.
    pub sram_bytes: Option<u64>,
    /// Fewest cycles, or least SRAM.
    pub optimize_for: OptimizeFor,
    /// Run convolutions one after the other, never several stripe by stripe.
    pub without_cascades: bool,
    /// Chunk lengths and context window.
    pub plan: PlanOptions,
    /// How key/value caches are kept; as the model has them when none is given.
    pub kv_cache: Option<KvCache>,
    /// Fail on any host fallback.
    pub require_target: bool,
    /// Rule files beyond the session's.
    pub rule_files: Vec<PathBuf>,
    /// What becomes of activations where the model's nodes permit int8.
    pub activations: import::Activations,
    /// The float type in which products are computed; the one of the model, or what the machine has, when none is given.
    pub float: Option<Element>,
    /// What becomes of float weights; they stay when none is given.
    pub quantize: Option<QuantizeOptions>,
    /// Keep a report of the rules that fired.
    pub explain: bool,
    /// Write every level into this folder.
    pub dump_folder: Option<PathBuf>,
    /// Where to stop.
    pub compile_to: Level,
    /// Give out the values at the borders of layers too, to compare them ([`crate::text_parity::taps`]).
    pub layer_outputs: bool,
    /// Threads; the machine's own number when none is given.
    pub threads: Option<usize>,
}

impl CompileOptions {
    /// The target's machine, as these options change it.
    ///
    /// # Errors
    /// When it does not multiply the float type that is asked for.
    pub fn machine(&self, target: &Target) -> Result<Machine, Diagnostic> {
        let mut machine = target.machine();
        machine.sram_bytes = self.sram_bytes.unwrap_or(machine.sram_bytes);
        let Some(float) = self.float else { return Ok(machine) };
        machine.with_float(float).map_err(|floats| {
            let what = format!("the matrix engine of {} does not multiply {float}", target.name);
            let names: Vec<&str> = floats.iter().map(|element| element.text()).collect();
            let help = match names.as_slice() {
                [] => "it multiplies no floats: choose a precision of integers".to_owned(),
                names => format!("of floats it multiplies {}", names.join(", ")),
            };
            Diagnostic::error(Location::Unknown, what).with_help(help)
        })
    }

    /// What of it is said about the import.
    pub fn import_options(&self) -> import::Options {
        import::Options {
            bindings: self.bindings.iter().map(|(name, value)| (name.as_str().into(), *value)).collect(),
            frozen: self.frozen.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
            shapes: self.shapes.iter().map(|(name, shape)| (name.as_str().into(), shape.clone())).collect(),
            int8_activations: self.activations != import::Activations::Exact,
            int8_activations_fused: self.activations == import::Activations::Int8Fused,
            // Programs bind the batch: to one where they chunk a text.
            one_sequence: true,
            ..Default::default()
        }
    }
}

/// A model on its way: after the core levels.
struct Optimized {
    plan: ProgramPlan,
    module: Module,
    machine: Machine,
    warnings: Diagnostics,
    explain: Vec<BlockReport>,
    dumps: Vec<(Level, String)>,
}

/// One program of the result.
pub struct ProgramReport {
    /// Its name.
    pub name: String,
    /// Kernels, counted as `--explain` prints them.
    pub kernel_count: usize,
    /// What runs where.
    pub placement: Placement,
    /// How good the memory plan of each space is, when it was made.
    pub memory: Vec<SpacePlan>,
    /// What the optimiser did, when asked for.
    pub explain: Vec<BlockReport>,
    /// Its text at the level where compilation stopped; empty at the last.
    pub text: String,
    /// The program, when compilation went to the end.
    pub program: Option<Program>,
    /// The machine it is for.
    pub machine: Machine,
}

/// What a compilation gave.
pub struct Compilation {
    /// The programs in order of chunk length.
    pub programs: Vec<ProgramReport>,
    /// All weights, shared by the programs.
    pub constants: ConstantPool,
    /// What became of the weights, when quantisation was asked for.
    pub weights: Vec<WeightRow>,
    /// Warnings.
    pub warnings: Diagnostics,
    /// The model's border before symbols were bound.
    pub signature: Signature,
    /// Name and duration of each phase.
    pub phases: Vec<(&'static str, Duration)>,
    /// The imported module's text, when compilation stopped there.
    pub imported_text: String,
    /// The values from inside that it gives out.
    pub taps: Vec<Tap>,
    target: &'static str,
    metadata: BTreeMap<String, String>,
    companions: Vec<(&'static str, Vec<u8>)>,
}

impl Session {
    /// Compiles a model.
    ///
    /// # Errors
    /// All problems of the stage that failed.
    pub fn compile(&self, source: &Source, options: &CompileOptions) -> Result<Compilation, Diagnostics> {
        match options.threads {
            None => self.compile_here(source, options),
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
                    vec![Diagnostic::error(
                        Location::Unknown,
                        format!("cannot start {threads} threads: {error}"),
                    )]
                })?;
                pool.install(|| self.compile_here(source, options))
            }
        }
    }

    fn compile_here(&self, source: &Source, options: &CompileOptions) -> Result<Compilation, Diagnostics> {
        let one = |problem: Diagnostic| vec![problem];
        let target = self.target(&options.target).map_err(one)?;
        let machine = options.machine(target).map_err(one)?;
        let mut phases = Vec::new();
        let start = Instant::now();
        let mut imported = self.import_with(source, &options.import_options())?;
        let taps = if options.layer_outputs { taps::add(&mut imported.module) } else { Vec::new() };
        phases.push(("import", start.elapsed()));
        let function = main_function(&imported.module)?;
        let signature = Signature::of(&imported.module, function);
        let mut compilation = Compilation {
            programs: Vec::new(),
            constants: ConstantPool::new(),
            weights: Vec::new(),
            warnings: imported.diagnostics,
            signature,
            phases,
            imported_text: String::new(),
            target: target.name,
            metadata: BTreeMap::new(),
            companions: source.companions().map_err(one)?,
            taps,
        };
        dump(options, "model", Level::Imported, || print(&imported.module, &PrintOptions::default()))?;
        if options.compile_to == Level::Imported {
            compilation.imported_text = print(&imported.module, &PrintOptions::default());
            return Ok(compilation);
        }
        let mut faults = incoming::check_scales(&imported.module);
        faults.extend(check_vocabulary(&compilation.signature, &compilation.companions));
        let mut module = imported.module;
        if let Some(wanted) = &options.quantize {
            let start = Instant::now();
            let mut context = self.pass_context(&options.rule_files).map_err(one)?;
            context.machine = machine.clone();
            match quantize(&mut module, wanted, source, &self.passes, &mut context) {
                Ok(weights) => compilation.weights = weights,
                Err(mut problems) => faults.append(&mut problems),
            }
            compilation.warnings.append(&mut context.diagnostics);
            compilation.phases.push(("quantize", start.elapsed()));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut plan_options = options.plan.clone();
        plan_options.context_window = plan_options.context_window.or_else(|| model_window(source));
        let plans = plan(&compilation.signature, &plan_options)?;
        let window = plans.iter().filter_map(ProgramPlan::context_window).max();
        let native = || KvCache::native(&machine).and_then(|format| format.plan(&plans).ok());
        let cache =
            options.kv_cache.map(|format| format.plan(&plans)).transpose().map_err(one)?.or_else(native);
        let contexts: Vec<PassContext> = plans
            .iter()
            .map(|_| self.pass_context(&options.rule_files).map_err(one))
            .collect::<Result<_, _>>()?;
        let start = Instant::now();
        // Each program is optimised on its own; results come back in the order of the plans, so threads leave no trace.
        let optimized: Vec<Result<Optimized, Diagnostics>> = plans
            .into_par_iter()
            .zip(contexts)
            .map(|(plan, mut context)| {
                context.machine = machine.clone();
                context.cost = self.cost.map(|made_for| made_for(&machine));
                self.optimize(&module, (plan, cache), context, options)
            })
            .collect();
        compilation.phases.push(("optimize", start.elapsed()));
        let start = Instant::now();
        for optimized in optimized {
            self.lower(optimized?, target, options, &mut compilation)?;
        }
        compilation.phases.push(("lower", start.elapsed()));
        if let Some(window) = window {
            compilation.describe("context_window", &window.to_string());
        }
        compilation.metadata.extend(strings::metadata(&compilation.signature));
        Ok(compilation)
    }

    /// Imports a model.
    ///
    /// # Errors
    /// All problems of the model.
    pub fn import(
        &self,
        source: &Source,
        bindings: &BTreeMap<String, i64>,
        activations: import::Activations,
    ) -> Result<import::Imported, Diagnostics> {
        let options = CompileOptions { bindings: bindings.clone(), activations, ..CompileOptions::default() };
        self.import_with(source, &options.import_options())
    }

    /// Imports a model with all that the user may say about it.
    ///
    /// # Errors
    /// All problems of the model.
    pub fn import_with(
        &self,
        source: &Source,
        options: &import::Options,
    ) -> Result<import::Imported, Diagnostics> {
        match source {
            Source::Onnx(path) => import::onnx::import(path, options),
            Source::StandardInput => {
                let bytes = crate::output::read(Path::new("-")).map_err(|problem| vec![problem])?;
                import::onnx::import_bytes(bytes.into(), options)
            }
            Source::Artifact(path) | Source::Deployment(path) => Err(vec![
                Diagnostic::error(Location::Unknown, format!("'{}' is compiled already", path.display()))
                    .with_help("give the ONNX model it was made from"),
            ]),
        }
    }

    fn optimize(
        &self,
        imported: &Module,
        (plan, cache): (ProgramPlan, Option<CachePlan>),
        mut context: PassContext,
        options: &CompileOptions,
    ) -> Result<Optimized, Diagnostics> {
        let mut module = imported.clone();
        let root = module.root();
        tilewright_ir::symbols::substitute(&mut module, root, &plan.substitution);
        let mut dumps = Vec::new();
        let wants_text = |level: Level| options.dump_folder.is_some() || options.compile_to == level;
        for (level, (_, pipeline)) in CORE_LEVELS.into_iter().zip(PIPELINES) {
            if level > options.compile_to {
                break;
            }
            let pipeline = match &cache {
                Some(cache) if level == Level::Kernels => format!("{},{pipeline}", cache.pipeline()),
                _ => pipeline.to_string(),
            };
            let manager = PassManager::parse(&pipeline, &self.passes).map_err(|problem| vec![problem])?;
            manager.run(&mut module, &mut context, &mut []).map_err(|failure| failure.diagnostics)?;
            if wants_text(level) {
                dumps.push((level, print(&module, &PrintOptions::default())));
            }
        }
        let explain = if options.explain { std::mem::take(&mut context.reports) } else { Vec::new() };
        Ok(Optimized {
            plan,
            module,
            machine: context.machine,
            warnings: context.diagnostics,
            explain,
            dumps,
        })
    }

    fn lower(
        &self,
        optimized: Optimized,
        target: &'static Target,
        options: &CompileOptions,
        compilation: &mut Compilation,
    ) -> Result<(), Diagnostics> {
        let Optimized { plan, module, machine, warnings, explain, dumps } = optimized;
        // Programs of several chunk lengths say the same of the model.
        for warning in warnings {
            if !compilation.warnings.contains(&warning) {
                compilation.warnings.push(warning);
            }
        }
        let function = main_function(&module)?;
        let mut report = ProgramReport {
            name: plan.name.clone(),
            kernel_count: kernel_count(&module, function),
            placement: Placement::default(),
            memory: Vec::new(),
            explain,
            text: String::new(),
            program: None,
            machine,
        };
        let mut texts = dumps;
        let vetoes =
            compilation.weights.iter().filter_map(|row| Some((row.location.clone(), row.veto.clone()?)));
        let vetoes: Vec<(Location, String)> = vetoes.collect();
        if options.compile_to > Level::Kernels {
            let lower_options = lower::Options {
                name: plan.name.clone(),
                chunk_length: plan.chunk_length as u32,
                context_window: plan.context_window(),
                symbols: plan
                    .maxima
                    .iter()
                    .map(|(name, maximum)| (name.to_string(), (0, *maximum)))
                    .collect(),
                objective: match options.optimize_for {
                    OptimizeFor::Performance => Objective::Performance,
                    OptimizeFor::Size => Objective::Size,
                },
                without_cascades: options.without_cascades,
            };
            let constants = &mut compilation.constants;
            let name = module.symbol_name(function).unwrap_or("main").to_string();
            let compiled =
                compile_function(&module, &name, target, &report.machine, &lower_options, constants)?;
            let wanted = |level: Level| {
                level <= options.compile_to && (options.dump_folder.is_some() || options.compile_to == level)
            };
            if wanted(Level::Tile) {
                texts.push((Level::Tile, print(&compiled.tile, &PrintOptions::default())));
            }
            if wanted(Level::Placed) {
                texts.push((Level::Placed, print(&compiled.placed, &PrintOptions::default())));
            }
            if wanted(Level::Commands) && options.dump_folder.is_some() {
                texts.push((Level::Commands, disassemble(&compiled.program, Default::default())));
            }
            if options.require_target {
                compiled.placement.require_target(target.name).map_err(|problem| vec![problem])?;
            }
            report.placement = compiled.placement;
            report.memory = compiled.memory.plans;
            report.placement.tell(&vetoes);
            report.program = Some(compiled.program);
        }
        for (level, text) in texts {
            dump(options, &plan.name, level, || text.clone())?;
            if level == options.compile_to {
                report.text = text;
            }
        }
        compilation.programs.push(report);
        Ok(())
    }
}

impl Compilation {
    /// Says something of the artifact in its metadata.
    pub fn describe(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.to_owned(), value.to_owned());
    }

    /// Whether a program's state grows with the context.
    pub fn has_context(&self) -> bool {
        self.metadata.contains_key("context_window")
    }

    /// Writes the artifact; weights are streamed tensor by tensor. Gives its size in bytes.
    ///
    /// # Errors
    /// When a weight cannot be made or the file cannot be written; nothing is left then.
    pub fn write(&self, path: &Path) -> Result<u64, Diagnostic> {
        self.write_whole(path).map_err(|error| cannot_write(path, &error))
    }

    fn write_whole(&self, path: &Path) -> Result<u64, ArtifactError> {
        let mut writer = ArtifactWriter::create(path, self.target, TOOL)?;
        self.write_programs(&mut writer, &self.metadata)?;
        let constants = self.constants.constants();
        let infos: Vec<_> = constants.iter().map(|constant| constant.info.clone()).collect();
        let mut maker = self.constants.maker();
        writer.constants(&infos, |index, sink: &mut dyn Write| {
            sink.write_all(&maker.bytes(index).map_err(std::io::Error::other)?)
        })?;
        writer.finish()
    }

    /// Writes the artifact without weights, and adds those that are not there yet to a file of weights, which is made if need be. Gives
    /// the artifact's size in bytes and what became of the weights.
    ///
    /// # Errors
    /// When a weight cannot be made or a file cannot be written; both files are then as they were.
    pub fn write_stripped(&self, path: &Path, weights: &Path) -> Result<(u64, WeightsSummary), Diagnostic> {
        let mut store =
            WeightsWriter::create(weights, TOOL).map_err(|error| cannot_write(weights, &error))?;
        let mut hashes = Vec::new();
        let mut maker = self.constants.maker();
        for (index, constant) in self.constants.constants().iter().enumerate() {
            let bytes = maker.bytes(index).map_err(|what| {
                let what = format!("cannot make weight '{}': {what}", constant.info.name);
                Diagnostic::error(Location::Unknown, what)
            })?;
            let hash = store.add(&constant.info, &bytes);
            hashes.push(hash.map_err(|error| cannot_write(weights, &error))?);
        }
        let finish = |store: WeightsWriter| {
            let mut writer = ArtifactWriter::create(path, self.target, TOOL)?;
            let mut metadata = self.metadata.clone();
            metadata.extend([Artifact::weights_metadata(&seen_from(path, weights))]);
            self.write_programs(&mut writer, &metadata)?;
            let infos: Vec<_> =
                self.constants.constants().iter().map(|constant| constant.info.clone()).collect();
            writer.constant_index(&infos, &hashes)?;
            // The weights are put in their place first: a program is never there without them.
            let summary = store.finish()?;
            Ok((writer.finish()?, summary))
        };
        finish(store).map_err(|error: ArtifactError| cannot_write(path, &error))
    }

    fn write_programs(
        &self,
        writer: &mut ArtifactWriter,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), ArtifactError> {
        writer.metadata(metadata)?;
        for program in self.programs.iter().filter_map(|report| report.program.as_ref()) {
            writer.program(program)?;
        }
        writer.blob(placement_file::NAME, &placement_file::write(&placement_file::rows(self)))?;
        self.companions.iter().try_for_each(|(name, bytes)| writer.blob(name, bytes))
    }
}

/// What made an artifact, as its header says.
pub(crate) const TOOL: &str = concat!("tilewright ", env!("CARGO_PKG_VERSION"));

fn cannot_write(path: &Path, error: &ArtifactError) -> Diagnostic {
    Diagnostic::error(Location::Unknown, format!("cannot write artifact '{}': {error}", path.display()))
        .with_help("check that the folder exists, is writable and has room")
}

/// How a program names the file of its weights: by name when it is in the same folder, else in full.
fn seen_from(program: &Path, weights: &Path) -> String {
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (program, weights) = (full(program), full(weights));
    match weights.file_name() {
        Some(name) if program.parent() == weights.parent() => name.to_string_lossy().into_owned(),
        _ => weights.display().to_string(),
    }
}

/// The function of an imported module.
fn main_function(module: &Module) -> Result<tilewright_ir::module::OpId, Diagnostics> {
    module
        .functions()
        .first()
        .copied()
        .ok_or_else(|| vec![Diagnostic::error(Location::Unknown, "the module holds no function")])
}

/// The context window that the model's configuration states.
fn model_window(source: &Source) -> Option<usize> {
    let folder = source.folder()?;
    GenerationConfig::from_folder(folder).ok()?.max_position_embeddings
}

fn dump(
    options: &CompileOptions,
    name: &str,
    level: Level,
    text: impl Fn() -> String,
) -> Result<(), Diagnostics> {
    let Some(folder) = &options.dump_folder else { return Ok(()) };
    let extension = if level == Level::Commands { "txt" } else { "mlir" };
    let file = folder.join(format!("{name}.{}.{}.{extension}", level as usize, level.name()));
    crate::output::make_folder(folder)
        .and_then(|()| crate::output::write(&file, text().as_bytes()))
        .map_err(|problem| vec![problem])
}
