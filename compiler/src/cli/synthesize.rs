//! `tilewright synthesize`, for developers: a model of a known shape with seeded random weights.

use crate::exit::Failure;
use crate::synthesize::convolutions::{Network, networks};
use crate::synthesize::{Options, Shape, Storage, write};
use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright synthesize llama-1b -o /tmp/llama-1b\n  \
    tilewright synthesize llama-7b -o /tmp/two-layers --layers 2 --element bf16 --seed 1\n  \
    tilewright synthesize ds-cnn-large -o /tmp/ds-cnn\n\n\
    The folder has no tokenizer: give `generate` token ids with --input-ids.")]
pub(crate) struct Arguments {
    /// Whose shape the model has: tiny, llama-135m, llama-1b, llama-7b; int8 convolutions: mobilenet-v1-0.25-96, ds-cnn-large, separable-tiny
    #[arg(value_name = "SHAPE", value_parser = preset)]
    shape: Preset,
    /// The folder to write; made when it is missing
    #[arg(short, value_name = "DIR")]
    output: PathBuf,
    /// Where the random numbers start
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Type of weights, activations and cache
    #[arg(long, value_enum, value_name = "TYPE")]
    element: Option<Storage>,
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

/// What can be made.
#[derive(Clone)]
enum Preset {
    Decoder(Shape),
    Convolutions(Network),
}

fn preset(name: &str) -> Result<Preset, String> {
    let decoder = Shape::preset(name).map(Preset::Decoder);
    decoder.or_else(|| Network::find(name).map(Preset::Convolutions)).ok_or_else(|| {
        let networks = networks().into_iter().map(|network| (network.name, network.like));
        let known: Vec<String> =
            Shape::presets().chain(networks).map(|(name, like)| format!("{name} ({like})")).collect();
        format!("the shapes are {}", known.join(", "))
    })
}

/// Writes the folder.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut shape = match &arguments.shape {
        Preset::Decoder(shape) => shape.clone(),
        Preset::Convolutions(network) => {
            let resizes =
                [arguments.layers, arguments.vocabulary, arguments.positions].iter().any(Option::is_some);
            if resizes || arguments.element.is_some() {
                let what = format!("{} has one size: only --seed goes with it", network.name);
                return Err(Failure::Usage(what));
            }
            let bytes = network.write(arguments.seed, &arguments.output)?;
            eprintln!("{}: {bytes} bytes", arguments.output.display());
            return Ok(());
        }
    };
    shape.layers = arguments.layers.unwrap_or(shape.layers);
    shape.vocabulary = arguments.vocabulary.unwrap_or(shape.vocabulary);
    shape.positions = arguments.positions.unwrap_or(shape.positions);
    let options = Options { seed: arguments.seed, storage: arguments.element.unwrap_or_default() };
    let bar = super::compile::spinner("writing weights");
    let bytes = write(&shape, &options, &arguments.output);
    bar.finish_and_clear();
    eprintln!("{}: {} bytes of weights", arguments.output.display(), bytes?);
    Ok(())
}
