//! `tilewright disassemble`: an artifact's commands as text.

use crate::exit::Failure;
use crate::session::Session;
use std::path::PathBuf;
use tilewright_runtime::artifact::Verify;
use tilewright_runtime::disassemble::{Options, disassemble};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright disassemble story.npu | less\n  \
    tilewright disassemble story.npu --program decode --offsets --hexdump")]
pub(crate) struct Arguments {
    /// The artifact
    #[arg(value_name = "OUT.npu")]
    artifact: PathBuf,
    /// Only the program of this name (see `tilewright inspect`)
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Print each command's offset in the encoded stream
    #[arg(long)]
    offsets: bool,
    /// Print each command's bytes
    #[arg(long)]
    hexdump: bool,
    /// Leave out the names of the model's nodes
    #[arg(long)]
    no_locations: bool,
}

/// Prints the commands.
pub(crate) fn run(_session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let artifact = super::inspect::open(&arguments.artifact, Verify::ExceptConstants)?;
    let options = Options {
        offsets: arguments.offsets,
        hexdump: arguments.hexdump,
        without_locations: arguments.no_locations,
    };
    let names: Vec<&str> = artifact.programs.iter().map(|program| program.name.as_str()).collect();
    let chosen: Vec<_> = artifact
        .programs
        .iter()
        .filter(|program| arguments.program.as_ref().is_none_or(|name| *name == program.name))
        .collect();
    if chosen.is_empty() {
        let wanted = arguments.program.as_deref().unwrap_or_default();
        return Err(Failure::user(
            format!("no program '{wanted}'"),
            format!("there are: {}", names.join(", ")),
        ));
    }
    let text: Vec<String> = chosen.iter().map(|program| disassemble(program, options)).collect();
    Ok(crate::output::write(std::path::Path::new("-"), text.join("\n").as_bytes())?)
}
