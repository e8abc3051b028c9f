//! What to continue: ids, a text, or messages for a chat template.

use super::arguments::Arguments;
use super::prepare::Ready;
use crate::chat::{ChatTemplate, message, messages_from_json};
use crate::exit::Failure;
use crate::output::read_text;
use crate::tokens::TokenCodec;
use minijinja::Value;
use std::path::Path;

/// What the user gave.
pub(super) enum Prompt {
    Ids(Vec<u32>),
    Text(String),
    Messages(Vec<Value>),
}

impl Prompt {
    /// The messages; none for another kind.
    pub(super) fn messages_mut(&mut self) -> &mut Vec<Value> {
        if !matches!(self, Prompt::Messages(_)) {
            *self = Prompt::Messages(Vec::new());
        }
        match self {
            Prompt::Messages(messages) => messages,
            _ => unreachable!("it was just made so"),
        }
    }
}

/// Reads the prompt.
pub(super) fn read(arguments: &Arguments) -> Result<Prompt, Failure> {
    if !arguments.input_ids.is_empty() {
        return Ok(Prompt::Ids(arguments.input_ids.clone()));
    }
    if let Some(path) = &arguments.messages {
        return Ok(Prompt::Messages(messages_from_json(&path.display().to_string(), &read_text(path)?)?));
    }
    let from_file = |path: &Path| read_text(path).map(|text| text.trim_end_matches('\n').to_string());
    let text = match (arguments.prompt.as_deref(), &arguments.prompt_file) {
        (Some("-"), _) => Some(from_file(Path::new("-"))?),
        (Some(text), _) => Some(text.to_string()),
        (None, Some(path)) => Some(from_file(path)?),
        (None, None) => None,
    };
    if !arguments.is_chat() {
        let missing = "say what to continue: --prompt TEXT, --prompt-file FILE, --messages FILE, --interactive or --input-ids ID,...";
        return text.map(Prompt::Text).ok_or_else(|| Failure::Usage(missing.into()));
    }
    if text.is_none() && !arguments.interactive {
        return Err(Failure::Usage("a chat needs --prompt TEXT, --messages FILE or --interactive".into()));
    }
    let system = arguments.system.as_deref().map(|text| message("system", text));
    let user = text.as_deref().map(|text| message("user", text));
    Ok(Prompt::Messages(system.into_iter().chain(user).collect()))
}

/// The tokenizer; none when ids go in and come out.
pub(super) fn codec(ready: &Ready, by_ids: bool) -> Result<Option<TokenCodec>, Failure> {
    match (&ready.tokenizer, by_ids) {
        (_, true) => Ok(None),
        (Some(bytes), false) => Ok(Some(TokenCodec::from_bytes(bytes)?)),
        (None, false) => Err(Failure::user(
            "the model has no tokenizer.json",
            "put one beside the model, or give token ids with --input-ids",
        )),
    }
}

/// The chat template, where there are messages.
pub(super) fn template(
    ready: &Ready,
    arguments: &Arguments,
    prompt: &Prompt,
) -> Result<Option<ChatTemplate>, Failure> {
    if !matches!(prompt, Prompt::Messages(_)) {
        return Ok(None);
    }
    let with_variables = |template: ChatTemplate| match &arguments.chat_template_kwargs {
        Some(json) => template.with_variables(json).map_err(Failure::from),
        None => Ok(template),
    };
    let config = &ready.tokenizer_config;
    let name = arguments.chat_template.as_deref();
    let file = name.filter(|name| !config.template_names().contains(name)).map(Path::new);
    if let Some(path) = file.filter(|path| path.is_file()) {
        let found = ChatTemplate::new(&path.display().to_string(), &read_text(path)?, config)?;
        return with_variables(found).map(Some);
    }
    with_variables(ChatTemplate::find(ready.chat_template.as_deref(), config, name)?).map(Some)
}
