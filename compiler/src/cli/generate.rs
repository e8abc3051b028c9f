//! `tilewright generate`: a language model writes text, streamed as it comes.
//!
//! Here are the arguments and the order of things; what each part does is in the files below.

mod arguments;
mod drafting;
mod heat;
mod prepare;
mod prompts;
mod report;
mod sampling;

pub(crate) use arguments::Arguments;

use super::interrupt::flag_on_ctrl_c;
use crate::chat::message;
use crate::exit::Failure;
use crate::json_schema;
use crate::session::Session;
use crate::story::{Ending, Story, Summary};
use crate::token_bytes;
use crate::tokens::TokenCodec;
use drafting::Drafting;
use prepare::Ready;
use prompts::Prompt;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_runtime::generate::generation::{Constraint, Settings};
use tilewright_runtime::generate::grammar::Machine;
use tilewright_runtime::generate::session::{ArtifactModel, GenerateError};
use tilewright_runtime::generate::vocabulary::{GrammarConstraint, Vocabulary};

/// One model, and all that texts of it share.
struct Writer<'a> {
    arguments: &'a Arguments,
    model: ArtifactModel,
    codec: Option<TokenCodec>,
    drafting: Option<Drafting>,
    settings: Settings,
    /// Texts that end the text.
    stop: Vec<String>,
    schema: Option<Schema>,
    /// Tokens that are the model's state.
    state: Vec<u32>,
}

/// The form that every text must have, over the model's tokens.
struct Schema {
    machine: Machine,
    vocabulary: Arc<Vocabulary>,
}

impl Schema {
    fn constraint(&self) -> Box<dyn Constraint> {
        Box::new(GrammarConstraint::new(self.machine.clone(), self.vocabulary.clone()))
    }
}

/// Reads a schema: a file, or JSON itself.
fn read_schema(arguments: &Arguments) -> Result<Option<Machine>, Failure> {
    let Some(text) = arguments.json_schema.as_deref() else { return Ok(None) };
    let is_json = text.trim_start().starts_with('{') || ["true", "false"].contains(&text.trim());
    let text = if is_json { text.to_string() } else { crate::output::read_text(std::path::Path::new(text))? };
    Ok(Some(json_schema::machine(&text)?))
}

fn told(error: &GenerateError) -> Diagnostic {
    Diagnostic::error(Location::Unknown, error.to_string())
}

/// A closed pipe (`| head`) ends the story, not the program with a fault.
fn say(piece: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(piece.as_bytes()).and_then(|()| out.flush()).is_ok()
}

impl Writer<'_> {
    fn write(&mut self, ids: &[u32]) -> Result<Summary, Failure> {
        let cached = self.state.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let story = Story {
            settings: self.settings.clone(),
            stop: &self.stop,
            codec: self.codec.as_ref(),
            constraint: self.schema.as_ref().map(|schema| schema.constraint() as Box<dyn Constraint>),
            speculation: self.drafting.as_mut().map(Drafting::speculation),
        };
        let summary = story.write(&mut self.model, cached, ids, &mut say).map_err(|error| told(&error))?;
        self.state.clone_from(&summary.state);
        if !summary.is_whole && summary.ending != Ending::Cancelled {
            eprintln!("\nwarning: the text was cut and is not whole JSON: allow more with --max-new-tokens");
        }
        Ok(summary)
    }

    /// Begins with a state from a file.
    fn load_cache(&mut self) -> Result<(), Failure> {
        if let Some(file) = &self.arguments.load_cache {
            self.state = self.model.load(file).map_err(|error| told(&error.into()))?;
        }
        Ok(())
    }

    fn save_cache(&mut self) -> Result<(), Failure> {
        if let Some(file) = &self.arguments.save_cache {
            self.model.save(file, &self.state).map_err(|error| told(&error.into()))?;
        }
        Ok(())
    }

    fn encode_chat(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let codec = self.codec.as_ref().ok_or_else(|| Failure::Usage("a chat needs a tokenizer".into()))?;
        Ok(codec.encode_plain(text)?)
    }
}

/// Writes the text.
pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    arguments.check()?;
    // What is wrong with the request is said before a model is compiled for it.
    let machine = read_schema(arguments)?;
    let mut prompt = prompts::read(arguments)?;
    let draft_chunks = arguments.speculates().then(|| arguments.draft_max + 1);
    let ready = prepare::prepare(session, &arguments.model, &arguments.what, &arguments.how, draft_chunks)?;
    let codec = prompts::codec(&ready, matches!(prompt, Prompt::Ids(_)))?;
    let schema = match (machine, &ready.tokenizer) {
        (None, _) => None,
        (Some(_), None) => {
            let help = "put its tokenizer.json beside the model";
            return Err(Failure::user("--json-schema needs the model's tokenizer", help));
        }
        (Some(machine), Some(bytes)) => {
            Some(Schema { machine, vocabulary: Arc::new(token_bytes::vocabulary(bytes)?) })
        }
    };
    let template = prompts::template(&ready, arguments, &prompt)?;
    crate::render::print_all(&ready.config_warnings, &[]);
    let stop = [&arguments.stop[..], &ready.config.stop_texts()].concat();
    let mut settings = sampling::settings(arguments, &ready.config, codec.as_ref())?;
    if settings.stop_tokens.is_empty() && arguments.eos.is_empty() && !arguments.ignore_eos {
        let named = ready.tokenizer_config.token("eos_token");
        settings.stop_tokens.extend(named.zip(codec.as_ref()).and_then(|(name, codec)| codec.id(name)));
    }
    let Ready { loaded, target, compile_ms, _mapped, .. } = ready;
    let model = ArtifactModel::new(loaded.session).map_err(|error| told(&error))?;
    sampling::check_ids(arguments, &settings, model.vocabulary())?;
    let drafting = drafting::prepare(
        session,
        arguments,
        &model,
        &target,
        codec.as_ref(),
        settings.sampling.is_greedy(),
    )?;
    let interrupted = flag_on_ctrl_c()?;
    settings.cancel = Some(interrupted.clone());
    settings.governed = heat::governed(arguments)?;
    let mut writer = Writer { arguments, model, codec, drafting, settings, stop, schema, state: Vec::new() };
    writer.load_cache()?;
    let programs = writer.model.session().programs();
    let facts = report::Facts::of(session, &target, compile_ms, programs, &writer.settings.governed);
    if arguments.interactive {
        let template =
            template.as_ref().ok_or_else(|| Failure::Usage("--interactive needs a chat".into()))?;
        let messages = std::mem::take(prompt.messages_mut());
        converse(&mut writer, template, messages, &facts, &interrupted)?;
        return writer.save_cache();
    }
    let ids = match (&prompt, &template) {
        (Prompt::Ids(ids), _) => ids.clone(),
        (Prompt::Messages(messages), Some(template)) => writer.encode_chat(&template.render(messages)?)?,
        (Prompt::Messages(_), None) => return Err(Failure::Usage("messages need a chat template".into())),
        (Prompt::Text(text), _) => {
            // Who asks for JSON wants nothing before it.
            if writer.schema.is_none() {
                say(text);
            }
            writer.codec.as_ref().map(|codec| codec.encode(text)).transpose()?.unwrap_or_default()
        }
    };
    let summary = writer.write(&ids)?;
    say("\n");
    report::print(arguments.stats, &summary, &facts);
    writer.save_cache()?;
    if summary.ending == Ending::Cancelled { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Reads lines and answers each, until the input ends. Ctrl-C ends an answer; while a line is waited for, it ends the program.
fn converse(
    writer: &mut Writer<'_>,
    template: &crate::chat::ChatTemplate,
    mut messages: Vec<minijinja::Value>,
    facts: &report::Facts,
    interrupted: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let mut input = std::io::stdin().lock();
    let is_terminal = input.is_terminal();
    // Messages that came with the command are answered first.
    let last_role = |messages: &[minijinja::Value]| {
        messages.last().and_then(|last| last.get_attr("role").ok()).map(|role| role.to_string())
    };
    loop {
        if last_role(&messages).as_deref() != Some("user") {
            if is_terminal {
                say("> ");
            }
            interrupted.store(true, Ordering::Relaxed);
            let mut line = String::new();
            let count = input
                .read_line(&mut line)
                .map_err(|error| Failure::user(format!("cannot read a line: {error}"), "send UTF-8 text"))?;
            if count == 0 {
                return Ok(());
            }
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                continue;
            }
            messages.push(message("user", line));
        }
        interrupted.store(false, Ordering::Relaxed);
        let ids = writer.encode_chat(&template.render(&messages)?)?;
        let summary = writer.write(&ids)?;
        if !say("\n") {
            return Ok(());
        }
        report::print(writer.arguments.stats, &summary, facts);
        messages.push(message("assistant", &summary.text));
    }
}
