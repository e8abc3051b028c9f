//! `tilewright completion`: a completion script for a shell.

use super::Cli;
use crate::exit::Failure;
use clap::CommandFactory;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright completion bash > /etc/bash_completion.d/tilewright\n  \
    tilewright completion fish | source")]
pub(crate) struct Arguments {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "tilewright", &mut script);
    Ok(crate::output::write(std::path::Path::new("-"), &script)?)
}
