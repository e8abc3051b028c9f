//! How to sample and where to end: the command line over the model's configuration.

use super::arguments::Arguments;
use crate::exit::Failure;
use crate::generation_config::GenerationConfig;
use crate::tokens::TokenCodec;
use tilewright_runtime::generate::generation::Settings;
use tilewright_runtime::generate::sample::Sampling;

/// Tokens when neither the user nor the model's configuration says how many.
const NEW_TOKENS_DEFAULT: usize = 128;

/// Settings of the generation, all but the flag that cancels it.
pub(super) fn settings(
    arguments: &Arguments,
    config: &GenerationConfig,
    codec: Option<&TokenCodec>,
) -> Result<Settings, Failure> {
    // Who asks for a temperature asks for draws.
    let do_sample = arguments.temperature.map(|temperature| temperature > 0.0).or(config.do_sample);
    let said = GenerationConfig {
        do_sample,
        temperature: arguments.temperature.or(config.temperature),
        top_k: arguments.top_k.or(config.top_k),
        top_p: arguments.top_p.or(config.top_p),
        min_p: arguments.min_p.or(config.min_p),
        typical_p: arguments.typical_p.or(config.typical_p),
        repetition_penalty: arguments.repetition_penalty.or(config.repetition_penalty),
        ..config.clone()
    };
    let bias = arguments.logit_bias.iter().map(|word| logit_bias(word, codec));
    let stop_tokens = match (arguments.ignore_eos, arguments.eos.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => config.eos_ids(),
        (false, false) => arguments.eos.clone(),
    };
    Ok(Settings {
        sampling: Sampling {
            frequency_penalty: arguments.frequency_penalty,
            presence_penalty: arguments.presence_penalty,
            logit_bias: bias.collect::<Result<_, _>>()?,
            seed: arguments.seed,
            ..said.sampling()
        },
        token_count_max: arguments.max_new_tokens.or(config.max_new_tokens).unwrap_or(NEW_TOKENS_DEFAULT),
        stop_tokens,
        ..Settings::default()
    })
}

/// Ids that the user named and the model does not have are a fault, said before anything runs.
pub(super) fn check_ids(
    arguments: &Arguments,
    settings: &Settings,
    vocabulary: Option<usize>,
) -> Result<(), Failure> {
    let Some(vocabulary) = vocabulary else { return Ok(()) };
    let named = [
        ("--input-ids", arguments.input_ids.clone()),
        ("--eos", arguments.eos.clone()),
        ("--logit-bias", settings.sampling.logit_bias.iter().map(|bias| bias.0).collect()),
    ];
    for (option, ids) in named {
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(Failure::user(
                format!("{option} names token {id}, and the model has {vocabulary} tokens"),
                format!("give ids from 0 to {}", vocabulary.saturating_sub(1)),
            ));
        }
    }
    Ok(())
}

/// Reads `15=+1.5` or ` the=-inf`.
fn logit_bias(word: &str, codec: Option<&TokenCodec>) -> Result<(u32, f32), Failure> {
    let parts = word.rsplit_once('=').and_then(|(token, bias)| Some((token, bias.parse::<f32>().ok()?)));
    let Some((token, bias)) = parts.filter(|(token, bias)| !token.is_empty() && !bias.is_nan()) else {
        return Err(Failure::Usage(format!(
            "cannot read --logit-bias '{word}': expected TOKEN=BIAS such as 15=+1.5 or ' the'=-inf"
        )));
    };
    if let Ok(id) = token.parse() {
        return Ok((id, bias));
    }
    let Some(codec) = codec else {
        return Err(Failure::Usage(format!("--logit-bias '{word}' names a text, and ids go in: give an id")));
    };
    let named = codec.id(token).map(|id| vec![id]);
    match named.map_or_else(|| codec.encode_plain(token), Ok)?[..] {
        [id] => Ok((id, bias)),
        ref ids => Err(Failure::user(
            format!("--logit-bias '{word}': the text is {} tokens, expected one", ids.len()),
            format!("give an id: {ids:?}"),
        )),
    }
}
