//! The command line: one file per verb, each with its arguments, its help and its `run`.
//!
//! Knows terminals and files. What a verb does is in the library; here it is asked for and shown.

/// `println!` that a closed pipe does not turn into a panic.
macro_rules! say {
    ($($words:tt)*) => { crate::output::say(format_args!($($words)*)) };
}

mod bench;
mod compile;
mod completion;
mod deploy;
mod disassemble;
mod doctor;
mod explain;
mod generate;
mod import;
mod inspect;
mod interrupt;
mod list;
mod load;
mod opt;
mod parity;
mod plan_memory;
mod profile;
mod quantize;
mod run;
mod sign;
mod synthesize;

use crate::calibrate::scaling::Scaling;
use crate::calibrate::{ActivationScales, Method};
use crate::driver::{CompileOptions, OptimizeFor};
use crate::exit::{EXIT_CODES, Failure};
use crate::import::Activations;
use crate::kv_cache::KvCache;
use crate::plan::PlanOptions;
use crate::policy_file;
use crate::precision::Precision;
use crate::quantize::{CALIBRATION_TOKENS, Calibration, QuantizeOptions};
use crate::session::Session;
use crate::text_parity::windows::WINDOW_DEFAULT;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::weight_format::FLOAT;
use tilewright_runtime::kernels::cpu::{self, Features};

/// An ahead-of-time model compiler for NPUs.
#[derive(Parser)]
#[command(
    name = "tilewright",
    version,
    about = "An ahead-of-time model compiler for NPUs: ONNX in, a mapped command stream out",
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Show what the compiler is doing; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Add a target that a TOML file describes, and compile for it where no --target is given; may be given again
    #[arg(long, global = true, value_name = "FILE.toml")]
    machine: Vec<PathBuf>,
    /// Run as a CPU with no more than these features would: names as `tilewright doctor` lists them, all, or none
    #[arg(long, global = true, value_name = "NAME,...", env = "TILEWRIGHT_CPU_FEATURES", value_parser = Features::parse)]
    cpu_features: Option<Features>,
}

#[derive(Subcommand)]
enum Verb {
    /// Read an ONNX model and print it as core IR
    Import(import::Arguments),
    /// Run passes over IR text
    Opt(opt::Arguments),
    /// Quantise a model's weights on samples, and tell what each loses
    Quantize(quantize::Arguments),
    /// Compile a model to an artifact
    Compile(compile::Arguments),
    /// Compile a model for the NPUs of a manifest
    Deploy(deploy::Arguments),
    /// Make a key that signs artifacts
    Keygen(sign::KeygenArguments),
    /// Sign artifacts
    Sign(sign::SignArguments),
    /// Run a model on inputs from .npy files
    Run(run::Arguments),
    /// Write text with a language model
    Generate(Box<generate::Arguments>),
    /// Compare a model's results with recorded ones
    Parity(parity::Arguments),
    /// Say what is in an artifact
    Inspect(inspect::Arguments),
    /// Tell what a model costs on its machine: cycles, stalls, bytes, energy, bounds
    Profile(Box<profile::Arguments>),
    /// Tell where a node of a model went, and why
    Explain(Box<explain::Arguments>),
    /// Measure how fast a model runs on this machine
    Bench(Box<bench::Arguments>),
    /// Tell what this machine has, and measure what it can do at most
    Doctor(doctor::Arguments),
    /// Print an artifact's commands
    Disassemble(disassemble::Arguments),
    /// List the targets, or print the description of one
    Targets(list::TargetsArguments),
    /// List the ops and the ONNX operators that are read
    Ops(list::OpsArguments),
    /// List the passes with their options
    Passes(list::Arguments),
    /// List the rewrite rules
    Rules(list::RulesArguments),
    /// Give buffers of a CSV file their places in memory
    PlanMemory(plan_memory::Arguments),
    /// For developers: write an ONNX model of a known shape with random weights
    Synthesize(synthesize::Arguments),
    /// Print a completion script for a shell
    Completion(completion::Arguments),
}

/// Arguments that say what to compile and for what; shared by the verbs that do.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CompileArguments {
    /// The target to compile for (see `tilewright targets`)
    #[arg(long, default_value = "npu-gen3", value_name = "NAME")]
    pub(crate) target: String,
    /// Fix symbolic dimensions, such as batch=1,seq=32
    #[arg(long, value_name = "NAME=VALUE,...", value_delimiter = ',')]
    pub(crate) bind: Vec<String>,
    /// The value of an input that is known beforehand and becomes a constant: NAME=@FILE.npy, or NAME=1,2,3; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) freeze: Vec<String>,
    /// The shape of an input to which the model gives none, such as x=1x3x224x224; may be given again
    #[arg(long, value_name = "NAME=SHAPE")]
    pub(crate) input_shape: Vec<String>,
    /// Bytes of on-chip SRAM, in place of the target's own (256KiB, 1MiB, or a number)
    #[arg(long, value_name = "BYTES")]
    pub(crate) sram_bytes: Option<String>,
    /// Fewest modelled cycles in that SRAM, or as little SRAM as can be
    #[arg(long, value_enum, default_value_t, value_name = "GOAL")]
    pub(crate) optimize_for: OptimizeFor,
    /// Run convolutions one after the other, never several together stripe by stripe of their feature maps
    #[arg(long)]
    pub(crate) no_cascading: bool,
    /// Tokens that one call takes, largest prompt chunk last: one program each, all sharing weights and state
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub(crate) chunk_lengths: Vec<usize>,
    /// Tokens that the KV cache holds at most
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context_window: Option<usize>,
    /// Samples that one run takes at most, of a model whose inputs begin with one symbolic dimension; any number up to it is taken
    #[arg(long, value_name = "N")]
    pub(crate) max_batch_size: Option<usize>,
    /// How key/value caches are kept; as the model has them when left out
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) kv_cache: Option<KvCache>,
    /// Fail when any op would run on the host
    #[arg(long)]
    pub(crate) require_target: bool,
    /// Activations where a node permits int8 (MatMulNBits with accuracy_level 4): as they are (the default), or rounded as ONNX
    /// Runtime does; `parity --cases` tries all when none is given, and says which agreed
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) activations: Option<Activations>,
    /// What to compute in, in one word: fp32, fp16, bf16, int8, int4, or a preset of --quantize
    #[arg(long, value_name = "WORD", conflicts_with_all = ["quantize", "quantization_plan"])]
    pub(crate) precision: Option<String>,
    /// Quantise float weights: mixed, int4, w4a16_g128_sym, w8a16, nf4_g64, palette4, fp8_e4m3, mxfp4, ...
    #[arg(long, value_name = "PRESET")]
    pub(crate) quantize: Option<String>,
    /// Another format for some weights, by a glob over names or role:NAME; may be given again, the last that fits counts
    #[arg(long, value_name = "PATTERN=FORMAT")]
    pub(crate) quantize_override: Vec<String>,
    /// Preset, exceptions and budget from a file; the flags count after it (see the guide "Quantise a model's weights")
    #[arg(long, value_name = "POLICY.toml", conflicts_with = "quantization_plan")]
    pub(crate) quantize_policy: Option<PathBuf>,
    /// Take the nearest format where one does not fit a weight, instead of an error
    #[arg(long)]
    pub(crate) quantize_allow_fallback: bool,
    /// Choose weight formats with the least estimated loss so that all weights take at most this many megabytes (10^6 bytes)
    #[arg(long, value_name = "MB")]
    pub(crate) max_weights_mb: Option<f64>,
    /// Quantise with knowledge of the activations on this text ('-' is standard input)
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["samples", "quantization_plan"])]
    pub(crate) calibrate: Option<PathBuf>,
    /// The same on recorded inputs: folders with input_0.npy .. in graph order, or .npy files
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "quantization_plan")]
    pub(crate) samples: Vec<PathBuf>,
    /// How weights are rounded with that knowledge
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(crate) method: Method,
    /// How input channels of weights are scaled before that, their input being divided by the same where it is made
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Scaling::Auto)]
    pub(crate) channel_scaling: Scaling,
    /// How int8 activations are scaled (presets w8a8, w4a8_g32, w4a8_g128)
    #[arg(long, value_name = "HOW", value_enum, default_value_t = ActivationScales::Rows)]
    pub(crate) activation_scales: ActivationScales,
    /// Tokens of the text that are run at most, in windows of --calibration-window
    #[arg(long, default_value_t = CALIBRATION_TOKENS, value_name = "TOKENS")]
    pub(crate) calibration_tokens: usize,
    /// Tokens per window
    #[arg(long, default_value_t = WINDOW_DEFAULT, value_name = "TOKENS")]
    pub(crate) calibration_window: usize,
    /// Formats and quantised weights from a plan that `tilewright quantize` wrote
    #[arg(long, value_name = "PLAN.json", conflicts_with_all = ["quantize", "quantize_override", "max_weights_mb"])]
    pub(crate) quantization_plan: Option<PathBuf>,
    /// Prune before, all weights but the embedding and the last product: 2:4 (two of every four, kept sparse) or magnitude:F (the smallest
    /// fraction F becomes 0, stored dense)
    #[arg(long, value_name = "HOW")]
    pub(crate) prune: Option<String>,
    /// Another pruning for some weights, or none; may be given again, the last that fits counts
    #[arg(long, value_name = "PATTERN=HOW")]
    pub(crate) prune_override: Vec<String>,
    /// Read more rewrite rules from a file; may be given again
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Vec<PathBuf>,
    /// Threads that compile and run, as many as there are cores when left out; results do not depend on it
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

impl Session {
    /// Runs the command line of this process: the whole `main` of a tool with its own dialects, passes and targets.
    pub fn run_cli(&self) -> ExitCode {
        self.run_arguments(std::env::args_os())
    }

    /// Runs a command line given as words, the program's name first.
    pub fn run_arguments<I, T>(&self, words: I) -> ExitCode
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
        let codes: Vec<String> = EXIT_CODES.iter().map(|(code, text)| format!("  {code}  {text}")).collect();
        let mut command = Cli::command().after_help(format!("Exit codes:\n{}", codes.join("\n")));
        let parse = |command: &mut clap::Command| {
            let matches = command.try_get_matches_from_mut(&words)?;
            Cli::from_arg_matches(&matches)
        };
        let cli = match parse(&mut command) {
            Ok(cli) => cli,
            Err(error) => return end_of_parsing(&error),
        };
        start_log(cli.verbose);
        if let Some(Err(what)) = cli.cpu_features.map(cpu::restrict) {
            return end(Err(Failure::user(
                what,
                "give --cpu-features to a process that has run nothing yet",
            )));
        }
        if cli.machine.is_empty() {
            return end(self.run_verb(cli.verb));
        }
        // What is described first is the target that is meant where none is named.
        let (session, name) = match self.with_machines(&cli.machine) {
            Ok(found) => found,
            Err(failure) => return end(Err(failure)),
        };
        let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_string()).collect();
        for verb in verbs {
            command = command.mut_subcommand(verb, |verb| {
                verb.mut_args(|argument| match argument.get_id().as_str() {
                    "target" => argument.default_value(name),
                    _ => argument,
                })
            });
        }
        match parse(&mut command) {
            Ok(cli) => end(session.run_verb(cli.verb)),
            Err(error) => end_of_parsing(&error),
        }
    }

    /// This session with the machines of some files, and the first one's name.
    fn with_machines(&self, files: &[PathBuf]) -> Result<(Session, &'static str), Failure> {
        let mut session = self.clone();
        let mut first = None;
        for path in files {
            let (with, name) = read_with(path, |file, text| session.clone().with_machine(file, text))?;
            session = with;
            first.get_or_insert(name);
        }
        first.map(|name| (session, name)).ok_or_else(|| Failure::Usage("--machine needs a file".into()))
    }

    fn run_verb(&self, verb: Verb) -> Result<(), Failure> {
        match verb {
            Verb::Import(arguments) => import::run(self, &arguments),
            Verb::Opt(arguments) => opt::run(self, &arguments),
            Verb::Quantize(arguments) => quantize::run(self, &arguments),
            Verb::Compile(arguments) => compile::run(self, &arguments),
            Verb::Deploy(arguments) => deploy::run(self, &arguments),
            Verb::Keygen(arguments) => sign::keygen(&arguments),
            Verb::Sign(arguments) => sign::sign(&arguments),
            Verb::Run(arguments) => run::run(self, &arguments),
            Verb::Generate(arguments) => generate::run(self, &arguments),
            Verb::Parity(arguments) => parity::run(self, &arguments),
            Verb::Inspect(arguments) => inspect::run(&arguments),
            Verb::Profile(arguments) => profile::run(self, &arguments),
            Verb::Explain(arguments) => explain::run(self, &arguments),
            Verb::Bench(arguments) => bench::run(self, &arguments),
            Verb::Doctor(arguments) => doctor::run(&arguments),
            Verb::Disassemble(arguments) => disassemble::run(self, &arguments),
            Verb::Targets(arguments) => list::targets(self, &arguments),
            Verb::Ops(arguments) => list::ops(self, &arguments),
            Verb::Passes(arguments) => list::passes(self, &arguments),
            Verb::Rules(arguments) => list::rules(self, &arguments),
            Verb::PlanMemory(arguments) => plan_memory::run(&arguments),
            Verb::Synthesize(arguments) => synthesize::run(&arguments),
            Verb::Completion(arguments) => completion::run(&arguments),
        }
    }
}

/// Reads a text file by `read`, which is given its name and text. What is wrong with the text is shown with its lines.
fn read_with<T>(path: &Path, read: impl FnOnce(&str, &str) -> Result<T, Diagnostics>) -> Result<T, Failure> {
    let text = crate::output::read_text(path)?;
    let file = path.display().to_string();
    read(&file, &text).map_err(|problems| {
        crate::render::print_all(&problems, &[(&file, &text)]);
        Failure::Shown(problems)
    })
}

/// Clap says help and version by way of its errors; those end well.
fn end_of_parsing(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Shows why a verb failed.
fn end(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    match &failure {
        Failure::Diagnostics(all) => crate::render::print_all(all, &[]),
        Failure::Shown(_) | Failure::Interrupted => {}
        Failure::Usage(what) => eprintln!("error: {what}\n\nFor more information, try '--help'."),
        Failure::Parity(what) => eprintln!("error: {what}"),
    }
    failure.exit_code()
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    // A second start (tests call the command line more than once) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .try_init();
}

impl CompileArguments {
    /// What becomes of float weights. A budget or an exception alone stand on the default preset.
    fn quantize_options(&self, precision: &Precision) -> Result<Option<QuantizeOptions>, Failure> {
        let preset = self.quantize.as_deref().or(precision.preset()).map(str::to_owned);
        let policy = self.quantize_policy.as_deref();
        let file = policy.map(|path| read_with(path, policy_file::parse)).transpose()?;
        let is_pruned = self.prune.is_some() || !self.prune_override.is_empty();
        let is_quantized =
            preset.is_some() || self.max_weights_mb.is_some() || !self.quantize_override.is_empty();
        let is_quantized = is_quantized || file.is_some();
        let file = file.unwrap_or_default();
        let is_calibrated = self.calibrate.is_some() || !self.samples.is_empty();
        let is_planned = is_calibrated || self.quantization_plan.is_some();
        let is_quantized = is_quantized || is_planned;
        if is_pruned && is_planned {
            return Err(Failure::Usage(
                "--prune does not go with --calibrate, --samples or --quantization-plan: a plan decides all, and holds dense weights".into(),
            ));
        }
        if !is_pruned && !is_quantized {
            return if self.quantize_allow_fallback {
                Err(Failure::Usage("--quantize-allow-fallback needs --quantize PRESET".into()))
            } else {
                Ok(None)
            };
        }
        let bytes_max = match self.max_weights_mb.or(file.max_weights_mb) {
            Some(megabytes) if megabytes.is_finite() && megabytes > 0.0 => Some((megabytes * 1e6) as usize),
            Some(megabytes) => {
                return Err(Failure::Usage(format!("max-weights-mb {megabytes}: expected a number above 0")));
            }
            None => None,
        };
        Ok(Some(QuantizeOptions {
            preset: preset
                .or(file.preset)
                .unwrap_or_else(|| if is_quantized { "mixed" } else { FLOAT }.into()),
            overrides: file.overrides.into_iter().chain(self.quantize_override.iter().cloned()).collect(),
            allows_fallback: self.quantize_allow_fallback
                || file.allows_fallback
                || precision.preset().is_some(),
            bytes_max,
            calibration: (self.calibrate.is_some() || !self.samples.is_empty()).then(|| Calibration {
                text: self.calibrate.clone(),
                samples: self.samples.clone(),
                window: self.calibration_window,
                tokens: self.calibration_tokens,
                method: self.method,
                scaling: self.channel_scaling,
                activation_scales: self.activation_scales,
                sensitivity: false,
            }),
            plan: self.quantization_plan.clone(),
            prune: self.prune.clone().unwrap_or_default(),
            prune_overrides: self.prune_override.clone(),
        }))
    }

    /// What the driver is asked for.
    pub(crate) fn options(&self) -> Result<CompileOptions, Failure> {
        let precision =
            self.precision.as_deref().map(Precision::parse).transpose().map_err(Failure::Usage)?;
        let precision = precision.unwrap_or_default();
        Ok(CompileOptions {
            target: self.target.clone(),
            bindings: parse_bindings(&self.bind)?,
            frozen: run::read_inputs(&self.freeze)?
                .into_iter()
                .map(|(name, given)| Ok((name, given.either()?)))
                .collect::<Result<_, Failure>>()?,
            shapes: self.input_shape.iter().map(|word| parse_shape(word)).collect::<Result<_, _>>()?,
            sram_bytes: self.sram_bytes.as_deref().map(parse_bytes).transpose()?,
            optimize_for: self.optimize_for,
            without_cascades: self.no_cascading,
            plan: PlanOptions {
                chunk_lengths: self.chunk_lengths.clone(),
                context_window: self.context_window,
                batch_size: self.max_batch_size,
            },
            kv_cache: self.kv_cache,
            require_target: self.require_target,
            activations: self.activations.unwrap_or_default(),
            float: precision.float(),
            quantize: self.quantize_options(&precision)?,
            rule_files: self.rules.clone(),
            threads: self.threads,
            ..CompileOptions::default()
        })
    }
}

/// Reads `NAME=2x3`.
fn parse_shape(word: &str) -> Result<(String, Vec<i64>), Failure> {
    let parts = word.rsplit_once('=').and_then(|(name, sizes)| {
        let sizes = sizes.split('x').filter(|size| !size.is_empty());
        let sizes: Option<Vec<i64>> = sizes.map(|size| size.parse().ok().filter(|size| *size >= 0)).collect();
        Some((name.to_string(), sizes?))
    });
    parts.filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
        Failure::Usage(format!("cannot read '{word}': expected NAME=SIZExSIZE such as x=1x3x224x224"))
    })
}

/// Reads `NAME=VALUE` words.
pub(crate) fn parse_bindings(words: &[String]) -> Result<BTreeMap<String, i64>, Failure> {
    words
        .iter()
        .map(|word| {
            let parts =
                word.rsplit_once('=').and_then(|(name, value)| Some((name, value.parse::<i64>().ok()?)));
            match parts {
                Some((name, value)) if !name.is_empty() && value >= 0 => Ok((name.to_string(), value)),
                _ => Err(Failure::Usage(format!("cannot read '{word}': expected NAME=VALUE such as seq=32"))),
            }
        })
        .collect()
}

/// Reads `256KiB`, `1MiB`, `4096`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, Failure> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[split..].trim() {
        "" | "B" => Some(1u64),
        "KiB" | "K" | "k" => Some(1 << 10),
        "MiB" | "M" => Some(1 << 20),
        "GiB" | "G" => Some(1 << 30),
        _ => None,
    };
    let number: Option<u64> = text[..split].parse().ok();
    number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit)).ok_or_else(|| {
        Failure::Usage(format!(
            "cannot read '{text}' as a number of bytes: expected such as 4096, 256KiB or 1MiB"
        ))
    })
}

/// A table without lines, left aligned, wrapped to the terminal.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("256KiB").ok(), Some(262_144));
        assert_eq!(parse_bytes("12").ok(), Some(12));
        assert!(
            parse_bytes("1XB").is_err() && parse_bytes("").is_err() && parse_bytes("99999999999GiB").is_err()
        );
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
