//! The arguments of `generate`, and what is wrong with them before any file is read.

use crate::cli::CompileArguments;
use crate::cli::load::LoadArguments;
use crate::exit::Failure;
use std::path::PathBuf;

const PROMPTING: &str = "Prompt";
const SAMPLING: &str =
    "Sampling (in place of what generation_config.json says; greedy when nothing says otherwise)";
const ENDING: &str = "Form and end";
const SPECULATION: &str = "Speculative decoding";
const HEAT: &str = "Heat";

/// What is printed at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stats {
    /// One line on standard error
    #[default]
    Text,
    /// One JSON object on standard error
    Json,
    /// Nothing
    None,
}

/// Drafters that need no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Speculate {
    /// What followed the last few tokens when they came before
    Ngram,
}

/// Arguments.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tilewright generate tests/models/story-3m --prompt 'Once upon a time'\n  \
    tilewright generate story.npu --prompt 'The king' --temperature 0.8 --top-p 0.95 --seed 7\n  \
    tilewright generate chat.npu --chat --system 'Be brief.' --prompt 'Why is the sky blue?'\n  \
    tilewright generate chat.npu --interactive\n  \
    tilewright generate tests/models/story-3m --draft tests/models/story-draft --prompt 'Once'\n  \
    tilewright generate story.npu --speculate ngram --prompt-file notes.txt --stats json\n  \
    tilewright generate chat.npu --chat --prompt 'Who is the king?' --json-schema person.json\n  \
    tilewright generate model.onnx --input-ids 1,2,3 --max-new-tokens 16\n  \
    echo 'Once upon a time' | tilewright generate story.npu --prompt -\n  \
    tilewright generate story.npu --prompt 'A long text' --thermal-limit 75 --stats json\n  \
    tilewright generate story.npu --prompt 'A long text' --save-cache text.state\n  \
    tilewright generate story.npu --prompt 'A long text, continued' --load-cache text.state\n\n\
    With a tokenizer.json (beside the model, or inside the artifact) text goes in and comes out; with --input-ids, ids do.\n\
    Samplers run in this order: logit bias, repetition, frequency and presence penalty, temperature, top-k, top-p, min-p, typical-p.\n\
    Ctrl-C ends the text, prints what is there and exits with 130; a second one ends the program at once."
)]
pub(crate) struct Arguments {
    /// An .onnx file, a folder with one, or an .npu artifact
    #[arg(value_name = "MODEL|OUT.npu")]
    pub(super) model: PathBuf,
    /// The text to continue, or with --chat the user's message; '-' is standard input
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["input_ids", "prompt_file"], help_heading = PROMPTING)]
    pub(super) prompt: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE", conflicts_with = "input_ids", help_heading = PROMPTING)]
    pub(super) prompt_file: Option<PathBuf>,
    /// The token ids to continue; ids come out
    #[arg(long, value_name = "ID,...", value_delimiter = ',', help_heading = PROMPTING)]
    pub(super) input_ids: Vec<u32>,
    /// Put the prompt into the model's chat template and print the answer alone
    #[arg(long, conflicts_with = "input_ids", help_heading = PROMPTING)]
    pub(super) chat: bool,
    /// The system message of a chat
    #[arg(long, value_name = "TEXT", conflicts_with = "input_ids", help_heading = PROMPTING)]
    pub(super) system: Option<String>,
    /// The messages of a chat: a JSON list of {"role": ..., "content": ...}; '-' is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input_ids", "prompt", "prompt_file", "system"], help_heading = PROMPTING)]
    pub(super) messages: Option<PathBuf>,
    /// Chat line by line, until the input ends
    #[arg(long, conflicts_with = "input_ids", help_heading = PROMPTING)]
    pub(super) interactive: bool,
    /// The name of one of the model's chat templates, or a Jinja file
    #[arg(long, value_name = "NAME|FILE", help_heading = PROMPTING)]
    pub(super) chat_template: Option<String>,
    /// More variables of the chat template, such as '{"enable_thinking": false}'
    #[arg(long, value_name = "JSON", help_heading = PROMPTING)]
    pub(super) chat_template_kwargs: Option<String>,
    /// 0 takes the most likely token; 1 draws from the model's distribution
    #[arg(long, value_name = "T", help_heading = SAMPLING)]
    pub(super) temperature: Option<f32>,
    /// Draw from the N most likely tokens only; 0 is all
    #[arg(long, value_name = "N", help_heading = SAMPLING)]
    pub(super) top_k: Option<usize>,
    /// Draw from the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", help_heading = SAMPLING)]
    pub(super) top_p: Option<f32>,
    /// Draw from tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P", help_heading = SAMPLING)]
    pub(super) min_p: Option<f32>,
    /// Draw from the tokens nearest to the expected surprise that together reach this probability
    #[arg(long, value_name = "P", help_heading = SAMPLING)]
    pub(super) typical_p: Option<f32>,
    /// Divide the logits of tokens that were seen, prompt included; 1 is none
    #[arg(long, value_name = "X", help_heading = SAMPLING)]
    pub(super) repetition_penalty: Option<f32>,
    /// Subtract this from a token's logit for each time it was written
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, help_heading = SAMPLING)]
    pub(super) frequency_penalty: f32,
    /// Subtract this from the logit of a token that was written
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, help_heading = SAMPLING)]
    pub(super) presence_penalty: f32,
    /// Add to a token's logit (an id, or text that is one token): 15=+1.5, ' the'=-inf; may be given again
    #[arg(long, value_name = "TOKEN=BIAS", help_heading = SAMPLING)]
    pub(super) logit_bias: Vec<String>,
    /// Seed of the draw
    #[arg(long, default_value_t = 0, help_heading = SAMPLING)]
    pub(super) seed: u64,
    /// Write JSON of this schema and nothing else, whole within the limit of tokens where that can be
    #[arg(long, value_name = "FILE|JSON", help_heading = ENDING)]
    pub(super) json_schema: Option<String>,
    /// Most tokens to write [default: what the model says, else 128]
    #[arg(long, value_name = "N", help_heading = ENDING)]
    pub(super) max_new_tokens: Option<usize>,
    /// End before this text; may be given again
    #[arg(long, value_name = "TEXT", help_heading = ENDING)]
    pub(super) stop: Vec<String>,
    /// Token ids that end the text, in place of the model's own
    #[arg(long, value_name = "ID,...", value_delimiter = ',', help_heading = ENDING)]
    pub(super) eos: Vec<u32>,
    /// Go on after the model's end of text
    #[arg(long, conflicts_with = "eos", help_heading = ENDING)]
    pub(super) ignore_eos: bool,
    /// A smaller model with the same tokenizer guesses ahead; the text stays the model's own
    #[arg(long, value_name = "MODEL|OUT.npu", conflicts_with = "speculate", help_heading = SPECULATION)]
    pub(super) draft: Option<PathBuf>,
    /// Guess ahead without a model
    #[arg(long, value_enum, value_name = "HOW", help_heading = SPECULATION)]
    pub(super) speculate: Option<Speculate>,
    /// Most tokens guessed at a time; an ONNX model gets a program that checks as many in one pass
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = SPECULATION)]
    pub(super) draft_max: usize,
    /// Guess ahead even where it is slower
    #[arg(long, help_heading = SPECULATION)]
    pub(super) speculate_always: bool,
    /// Stay below this temperature: pauses, and smaller chunks of a prompt, when the warmest thermal zone comes near
    #[arg(long, value_name = "CELSIUS", help_heading = HEAT)]
    pub(super) thermal_limit: Option<f64>,
    /// Temperatures from a file, one a line for each look, in place of the thermal zones: a rehearsal
    #[arg(long, value_name = "FILE", requires = "thermal_limit", help_heading = HEAT)]
    pub(super) thermal_script: Option<PathBuf>,
    /// Let --draft write alone while pauses would more than halve the speed; the text is then not the model's own
    #[arg(long, requires = "thermal_limit", requires = "draft", help_heading = HEAT)]
    pub(super) thermal_draft: bool,
    /// Begin with the state in this file, as far as its tokens are the prompt's (see --save-cache)
    #[arg(long, value_name = "FILE")]
    pub(super) load_cache: Option<PathBuf>,
    /// Leave the state at the end of the text in this file, for --load-cache with the same artifact
    #[arg(long, value_name = "FILE")]
    pub(super) save_cache: Option<PathBuf>,
    /// How to print statistics at the end, on standard error
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub(super) stats: Stats,
    #[command(flatten)]
    pub(super) how: LoadArguments,
    #[command(flatten)]
    pub(super) what: CompileArguments,
}

impl Arguments {
    /// Whether tokens are guessed ahead.
    pub(super) fn speculates(&self) -> bool {
        self.draft.is_some() || self.speculate.is_some()
    }

    /// Whether the prompt goes through a chat template.
    pub(super) fn is_chat(&self) -> bool {
        self.chat || self.interactive || self.messages.is_some()
    }

    /// Refuses numbers that mean nothing.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        let mut range = |name: &str, value: Option<f32>, least: f32, most: f32| {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                let upper = if most == f32::MAX { "or more".to_string() } else { format!("to {most}") };
                wrong.push(format!("--{name} is {value}, expected {least} {upper}"));
            }
        };
        range("temperature", self.temperature, 0.0, f32::MAX);
        range("top-p", self.top_p, 0.0, 1.0);
        range("min-p", self.min_p, 0.0, 1.0);
        range("typical-p", self.typical_p, 0.0, 1.0);
        range("repetition-penalty", self.repetition_penalty, 0.0, f32::MAX);
        range("frequency-penalty", Some(self.frequency_penalty), f32::MIN, f32::MAX);
        range("presence-penalty", Some(self.presence_penalty), f32::MIN, f32::MAX);
        if let Some(limit) = self.thermal_limit.filter(|limit| !(30.0..=120.0).contains(limit)) {
            wrong.push(format!("--thermal-limit is {limit}, expected 30 to 120 degrees Celsius"));
        }
        if self.repetition_penalty == Some(0.0) {
            wrong.push("--repetition-penalty is 0, expected more: 1 is none".into());
        }
        if self.stop.iter().any(String::is_empty) {
            wrong.push("--stop is empty, expected a text".into());
        }
        if self.draft_max == 0 {
            wrong.push("--draft-max is 0, expected 1 or more".into());
        }
        if self.system.is_some() && !self.is_chat() {
            wrong.push("--system is part of a chat: add --chat".into());
        }
        if self.chat_template.is_some() && !self.is_chat() {
            wrong.push("--chat-template is part of a chat: add --chat".into());
        }
        if self.chat_template_kwargs.is_some() && !self.is_chat() {
            wrong.push("--chat-template-kwargs is part of a chat: add --chat".into());
        }
        if wrong.is_empty() { Ok(()) } else { Err(Failure::Usage(wrong.join("\n  "))) }
    }
}
