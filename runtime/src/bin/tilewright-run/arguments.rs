//! The command line of `tilewright-run`.

use super::Failure;
use lexopt::prelude::*;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
Runs a tilewright artifact; carries no compiler.

Usage: tilewright-run [OPTIONS] <OUT.npu|DEPLOYMENT>

Options:
  --input <NAME=@FILE.npy>   An input; may be given again. A state that is not given begins empty or zero
  --output-dir <DIR>         Write each output as NAME.npy into this folder instead of printing it
  --input-ids <N,...>        Of a language model, print the likeliest tokens that follow these
  --max-new-tokens <N>       How many [default: 64]
  --threads <N>              Threads, as many as there are cores when left out; results do not depend on it
  --cpu-features <NAME,...>  Run as a CPU with no more than these features would (also none, all)
  --public-key <KEY.pub>     Take only what this key has signed, with all hashes compared; may be given again
  --assume-hardware <NAME>   Of a deployment, take the artifact for this hardware, whatever is detected
  -h, --help                 Print help
  -V, --version              Print version

Examples:
  tilewright-run model.npu --input x=@x.npy --output-dir results
  tilewright-run story.npu --input-ids 1,403,2 --max-new-tokens 20

Exit codes:
  0  ok
  1  user error: a file or a value is wrong
  2  usage: the command line cannot be read
";

/// What the user asks for.
pub(super) enum Asked {
    Help,
    Version,
    Run(Arguments),
}

/// A run.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) artifact: PathBuf,
    pub(super) inputs: Vec<(String, PathBuf)>,
    pub(super) output_dir: Option<PathBuf>,
    pub(super) input_ids: Option<Vec<u32>>,
    pub(super) max_new_tokens: usize,
    pub(super) threads: usize,
    pub(super) public_keys: Vec<PathBuf>,
    pub(super) assume_hardware: Option<String>,
}

fn usage(what: impl std::fmt::Display) -> Failure {
    Failure { what: format!("{what}\n\nFor more information, try '--help'."), code: 2 }
}

/// Reads the command line, and restricts kernels to CPU features that it names.
pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Asked, Failure> {
    let mut arguments = Arguments { max_new_tokens: 64, ..Arguments::default() };
    let mut artifact = None;
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Short('V') | Long("version") => return Ok(Asked::Version),
            Long("input") => {
                let word: String = parser.value().and_then(|value| value.parse()).map_err(usage)?;
                let parts = word.split_once("=@");
                let (name, file) =
                    parts.ok_or_else(|| usage(format!("cannot read '{word}': expected NAME=@FILE.npy")))?;
                arguments.inputs.push((name.into(), file.into()));
            }
            Long("output-dir") => arguments.output_dir = Some(parser.value().map_err(usage)?.into()),
            Long("input-ids") => {
                let word: String = parser.value().and_then(|value| value.parse()).map_err(usage)?;
                let ids: Result<Vec<u32>, _> = word.split(',').map(|id| id.trim().parse()).collect();
                let ids =
                    ids.map_err(|_| usage(format!("cannot read '{word}': expected tokens such as 1,2,3")));
                arguments.input_ids = Some(ids?);
            }
            Long("max-new-tokens") => {
                arguments.max_new_tokens = parser.value().and_then(|value| value.parse()).map_err(usage)?;
            }
            Long("threads") => {
                arguments.threads = parser.value().and_then(|value| value.parse()).map_err(usage)?;
            }
            Long("cpu-features") => {
                let word: String = parser.value().and_then(|value| value.parse()).map_err(usage)?;
                let features = tilewright_runtime::kernels::cpu::Features::parse(&word).map_err(usage)?;
                tilewright_runtime::kernels::cpu::restrict(features).map_err(usage)?;
            }
            Long("public-key") => arguments.public_keys.push(parser.value().map_err(usage)?.into()),
            Long("assume-hardware") => {
                let name: String = parser.value().and_then(|value| value.parse()).map_err(usage)?;
                arguments.assume_hardware = Some(name);
            }
            Value(path) if artifact.is_none() => artifact = Some(PathBuf::from(path)),
            other => return Err(usage(other.unexpected())),
        }
    }
    arguments.artifact = artifact.ok_or_else(|| usage("no artifact is given"))?;
    Ok(Asked::Run(arguments))
}
