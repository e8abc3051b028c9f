//! `tilewright import`: an ONNX model as core IR.

use super::parse_bindings;
use crate::driver::CompileOptions;
use crate::exit::Failure;
use crate::import::{Activations, Options};
use crate::model::Source;
use crate::session::Session;
use std::path::PathBuf;
use tilewright_ir::print::{PrintOptions, print};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright import model.onnx -o model.mlir\n  \
    tilewright import models/story-3m --bind batch=1,seq=32 | tilewright opt - --pass-pipeline canonicalize")]
pub(crate) struct Arguments {
    /// An .onnx file or a folder with one; '-' is standard input
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Where the result goes; '-' is standard output
    #[arg(short, default_value = "-", value_name = "FILE")]
    output: PathBuf,
    /// Fix symbolic dimensions, such as batch=1,seq=32
    #[arg(long, value_name = "NAME=VALUE,...", value_delimiter = ',')]
    bind: Vec<String>,
    /// Activations where a node permits int8: as they are, or rounded as ONNX Runtime does
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    activations: Activations,
    /// Print where ops came from
    #[arg(long)]
    mlir_print_debuginfo: bool,
    /// Leave the content hashes of weights out, which saves reading them
    #[arg(long)]
    no_hashes: bool,
}

/// Imports and prints.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let source = Source::open(&arguments.model)?;
    let options = CompileOptions {
        bindings: parse_bindings(&arguments.bind)?,
        activations: arguments.activations,
        ..CompileOptions::default()
    };
    // Whoever reads the text may bind a batch to any number.
    let options = Options { one_sequence: false, ..options.import_options() };
    let imported = session.import_with(&source, &options)?;
    crate::render::print_all(&imported.diagnostics, &[]);
    let options = PrintOptions {
        locations: arguments.mlir_print_debuginfo,
        hashes: !arguments.no_hashes,
        ..PrintOptions::default()
    };
    Ok(crate::output::write(&arguments.output, print(&imported.module, &options).as_bytes())?)
}
