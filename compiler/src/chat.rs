//! Chat templates: a list of messages becomes the text that the model was trained to answer.
//!
//! The template is Jinja, from `chat_template.jinja` or from `tokenizer_config.json`, and is given what the transformers library gives
//! it: `messages`, `tools`, `documents`, `add_generation_prompt`, the special tokens by name, `raise_exception`, `strftime_now`, Python's
//! methods on strings and maps. Knows no tokenizer and no model.

use crate::dates;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};
use serde::Serialize;
use std::collections::BTreeMap;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;

/// The special tokens that a template may name.
const SPECIAL_TOKENS: &[&str] =
    &["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

fn fault(what: String, help: &str) -> Diagnostic {
    Diagnostic::error(Location::Unknown, what).with_help(help)
}

/// What `tokenizer_config.json` says of special tokens and templates.
#[derive(Clone, Debug, Default)]
pub struct TokenizerConfig {
    tokens: BTreeMap<String, String>,
    /// (name, text)
    templates: Vec<(String, String)>,
}

impl TokenizerConfig {
    /// Reads JSON text.
    ///
    /// # Errors
    /// Says what is wrong with it, with line and column.
    pub fn from_bytes(bytes: &[u8]) -> Result<TokenizerConfig, Diagnostic> {
        let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
            fault(format!("cannot read tokenizer_config.json: {error}"), "mend the file, or take it away")
        })?;
        // A token is a text, or an object with a `content`.
        let text = |value: &serde_json::Value| {
            let content = value.get("content").unwrap_or(value);
            content.as_str().map(str::to_string)
        };
        let named =
            SPECIAL_TOKENS.iter().filter_map(|&name| Some((name.to_string(), text(json.get(name)?)?)));
        let tokens = named.collect();
        let mut templates = Vec::new();
        match json.get("chat_template") {
            None | Some(serde_json::Value::Null) => {}
            Some(serde_json::Value::String(template)) => templates.push(("default".into(), template.clone())),
            Some(serde_json::Value::Array(several)) => {
                for one in several {
                    let part = |key: &str| one.get(key).and_then(|value| value.as_str()).map(str::to_string);
                    let (Some(name), Some(template)) = (part("name"), part("template")) else {
                        return Err(fault(
                            "tokenizer_config.json: a chat_template of a list lacks its name or template"
                                .into(),
                            "each must be {\"name\": ..., \"template\": ...}",
                        ));
                    };
                    templates.push((name, template));
                }
            }
            Some(_) => {
                return Err(fault(
                    "tokenizer_config.json: chat_template is neither a text nor a list of named templates"
                        .into(),
                    "put the template into chat_template.jinja beside the model",
                ));
            }
        }
        Ok(TokenizerConfig { tokens, templates })
    }

    /// A special token by its role, such as `eos_token`.
    pub fn token(&self, role: &str) -> Option<&str> {
        self.tokens.get(role).map(String::as_str)
    }

    /// Names of the templates.
    pub fn template_names(&self) -> Vec<&str> {
        self.templates.iter().map(|one| one.0.as_str()).collect()
    }
}

/// A message as templates see it. Files of messages may hold more fields: see [`messages_from_json`].
pub fn message(role: &str, content: &str) -> Value {
    context! { role => role, content => content }
}

/// Reads a JSON list of messages, all their fields kept in order.
///
/// # Errors
/// Names the line, or the message without a role.
pub fn messages_from_json(name: &str, text: &str) -> Result<Vec<Value>, Diagnostic> {
    let help = "expected a list such as [{\"role\": \"user\", \"content\": \"Hello\"}]";
    let messages: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| fault(format!("cannot read messages of '{name}': {error}"), help))?;
    let has_role = |message: &Value| message.get_attr("role").is_ok_and(|role| role.as_str().is_some());
    match messages.iter().position(|message| !has_role(message)) {
        Some(index) => Err(fault(format!("message {index} of '{name}' has no role"), help)),
        None if messages.is_empty() => Err(fault(format!("'{name}' holds no message"), help)),
        None => Ok(messages),
    }
}

/// A template that can be filled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    tokens: BTreeMap<String, String>,
    /// What the user gives beside the messages.
    variables: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Finds the template: `chat_template.jinja` where there is one, else the one of that name (or "default", or the only one) of
    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// When there is none, or its syntax is wrong (the line is named).
    pub fn find(
        jinja: Option<&[u8]>,
        config: &TokenizerConfig,
        name: Option<&str>,
    ) -> Result<ChatTemplate, Diagnostic> {
        if let (Some(bytes), None | Some("default")) = (jinja, name) {
            let text = String::from_utf8_lossy(bytes).into_owned();
            return ChatTemplate::new("chat_template.jinja", &text, config);
        }
        let wanted = name.unwrap_or("default");
        let found = config.templates.iter().find(|one| one.0 == wanted);
        let only = config.templates.first().filter(|_| name.is_none() && config.templates.len() == 1);
        match found.or(only) {
            Some((_, template)) => {
                ChatTemplate::new("chat_template of tokenizer_config.json", template, config)
            }
            None if config.templates.is_empty() => Err(fault(
                "the model has no chat template".into(),
                "put chat_template.jinja beside the model (and compile again), name a file with --chat-template, or use --prompt without --chat",
            )),
            None => Err(fault(
                format!(
                    "there is no chat template '{wanted}'; there are: {}",
                    config.template_names().join(", ")
                ),
                "choose one with --chat-template",
            )),
        }
    }

    /// Reads a template's text; `source` is what errors call it.
    ///
    /// # Errors
    /// Names the line where the syntax is wrong.
    pub fn new(source: &str, text: &str, config: &TokenizerConfig) -> Result<ChatTemplate, Diagnostic> {
        let mut environment = Environment::new();
        // As the transformers library sets them.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| template_fault(source, &error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |what: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, what))
        });
        environment.add_function("strftime_now", |pattern: String| -> Result<String, Error> {
            dates::format(dates::now_seconds(), &pattern)
                .map_err(|what| Error::new(ErrorKind::InvalidOperation, what))
        });
        environment
            .add_template_owned("chat", without_generation_marks(text))
            .map_err(|error| template_fault(source, &error))?;
        Ok(ChatTemplate {
            environment,
            source: source.into(),
            tokens: config.tokens.clone(),
            variables: BTreeMap::new(),
        })
    }

    /// With more variables, a JSON object such as `{"enable_thinking": false}`; they stand before those that are always there.
    ///
    /// # Errors
    /// Says where the JSON is wrong.
    pub fn with_variables(mut self, json: &str) -> Result<ChatTemplate, Diagnostic> {
        self.variables = serde_json::from_str(json).map_err(|error| {
            let help = "expected an object such as {\"enable_thinking\": false}";
            fault(format!("cannot read the chat template's variables: {error}"), help)
        })?;
        Ok(self)
    }

    /// The prompt for a list of messages, up to where the assistant's answer begins.
    ///
    /// # Errors
    /// Names the line of the template, and what it says is wrong (such as roles that do not alternate).
    pub fn render(&self, messages: &[Value]) -> Result<String, Diagnostic> {
        let variables = self.variables.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let always = context! {
            messages => messages,
            tools => Value::from(()),
            documents => Value::from(()),
            add_generation_prompt => true,
            ..Value::from_pairs(self.tokens.iter().map(|(name, token)| (name.as_str(), token.as_str())))
        };
        let given = context! { ..Value::from_pairs(variables), ..always };
        let template = self.environment.get_template("chat");
        template
            .and_then(|template| template.render(given))
            .map_err(|error| template_fault(&self.source, &error))
    }
}

fn template_fault(source: &str, error: &Error) -> Diagnostic {
    let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let what = match error.detail() {
        Some(detail) => format!("{source}{line}: {}: {detail}", error.kind()),
        None => format!("{source}{line}: {}", error.kind()),
    };
    fault(
        what,
        "the template decides what roles and fields it takes; another can be given with --chat-template FILE",
    )
}

/// Training marks of the transformers library become comments, which trim white space alike.
fn without_generation_marks(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let word = tag.trim_matches(['-', '+']).trim();
        result += &rest[..start];
        if word == "generation" || word == "endgeneration" {
            let side = |is_there: bool| if is_there { "-" } else { "" };
            result += &format!("{{#{} {}#}}", side(tag.starts_with('-')), side(tag.ends_with('-')));
        } else {
            result += &rest[start..start + length + 2];
        }
        rest = &rest[start + length + 2..];
    }
    result + rest
}

/// JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it.
struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, to: &mut W) -> std::io::Result<()> {
        to.write_all(b": ")
    }
}

/// The filter `tojson`: without HTML's escapes, unlike Jinja's own.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Others (ensure_ascii, sort_keys, separators) are rare; one that is given must not pass unseen.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter)),
        Some(indent) => {
            let spaces = " ".repeat(indent);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(Value::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests;
