//! `tilewright synthesize`, for developers: a model of a known shape with seeded random weights.

use crate::exit::Failure;
use crate::synthesize::{Options, Shape, Storage, write};
use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright synthesize llama-1b -o /tmp/llama-1b\n  \
    tilewright synthesize llama-7b -o /tmp/two-layers --layers 2 --element bf16 --seed 1\n\n\
    The folder has no tokenizer: give `generate` token ids with --input-ids.")]
pub(crate) struct Arguments {
    /// Whose shape the model has: tiny, llama-135m, llama-1b, llama-7b
    #[arg(value_name = "SHAPE", value_parser = preset)]
    shape: Shape,
    /// The folder to write; made when it is missing
    #[arg(short, value_name = "DIR")]
    output: PathBuf,
    /// Where the random numbers start
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Type of weights, activations and cache
    #[arg(long, value_enum, default_value_t, value_name = "TYPE")]
    element: Storage,
    /// Decoder layers, in place of the shape's own
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Tokens in the vocabulary, in place of the shape's own
    #[arg(long, value_name = "N")]
    vocabulary: Option<usize>,
    /// Longest context, in place of the shape's own
    #[arg(long, value_name = "TOKENS")]
    positions: Option<usize>,
}

fn preset(name: &str) -> Result<Shape, String> {
    Shape::preset(name).ok_or_else(|| {
        let known: Vec<String> = Shape::presets().map(|(name, like)| format!("{name} ({like})")).collect();
        format!("the shapes are {}", known.join(", "))
    })
}

/// Writes the folder.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut shape = arguments.shape.clone();
    shape.layers = arguments.layers.unwrap_or(shape.layers);
    shape.vocabulary = arguments.vocabulary.unwrap_or(shape.vocabulary);
    shape.positions = arguments.positions.unwrap_or(shape.positions);
    let options = Options { seed: arguments.seed, storage: arguments.element };
    let bar = super::compile::spinner("writing weights");
    let bytes = write(&shape, &options, &arguments.output);
    bar.finish_and_clear();
    eprintln!("{}: {} bytes of weights", arguments.output.display(), bytes?);
    Ok(())
}
