//! `tilewright-run`: runs artifacts, and carries nothing that compiles. What a device needs is this file's dependencies.
//!
//! ```text
//! tilewright-run model.npu --input x=@x.npy --output-dir results
//! tilewright-run story.npu --input-ids 1,403,2 --max-new-tokens 20     prints token ids: texts are the application's business
//! ```

mod arguments;

use arguments::{Arguments, Asked, HELP};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tilewright_runtime::generate::generation::{Generation, Settings};
use tilewright_runtime::generate::session::ArtifactModel;
use tilewright_runtime::hardware::System;
use tilewright_runtime::npy::{self, Content};
use tilewright_runtime::opening::{Opening, choose, lock, open_artifact};
use tilewright_runtime::session::{Options, Session, Tensor};

/// Why the program ends: in words, and with which code.
struct Failure {
    what: String,
    code: u8,
}

impl Failure {
    fn user(what: impl std::fmt::Display) -> Failure {
        Failure { what: what.to_string(), code: 1 }
    }
}

fn main() -> ExitCode {
    let ended = arguments::parse(lexopt::Parser::from_env()).and_then(|asked| match asked {
        Asked::Help => say(HELP),
        Asked::Version => say(concat!("tilewright-run ", env!("CARGO_PKG_VERSION"), "\n")),
        Asked::Run(arguments) => run(&arguments),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { what, code }) => {
            eprintln!("error: {what}");
            ExitCode::from(code)
        }
    }
}

/// Prints; a closed pipe is a quiet end.
fn say(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::user(error)),
        _ => Ok(()),
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut opening = Opening { threads: arguments.threads, ..Opening::default() };
    for file in &arguments.public_keys {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::user(format!("cannot read '{}': {error}", file.display())))?;
        let key = tilewright_runtime::artifact::trust::public_key(&text);
        let none = || Failure::user(format!("'{}' holds no public ed25519 key", file.display()));
        opening.trusted.push(key.ok_or_else(none)?);
    }
    let helped = |error: tilewright_runtime::opening::OpenError| {
        Failure::user(format!("{}\n  help: {}", error.what, error.help))
    };
    let mut path = arguments.artifact.clone();
    if path.is_dir() {
        let system = System { root: None, assumed: arguments.assume_hardware.clone() };
        let chosen = choose(&path, &opening, &system).map_err(helped)?;
        chosen.reasons.iter().for_each(|reason| eprintln!("{reason}"));
        opening.identity = Some(chosen.identity);
        path = chosen.artifact;
    }
    let artifact = Arc::new(open_artifact(&path, &opening).map_err(helped)?);
    let options = Options { threads: opening.threads, ..Options::default() };
    let session = Session::new(artifact.clone(), options).map_err(Failure::user)?;
    lock(&artifact).map_err(helped)?;
    match &arguments.input_ids {
        Some(ids) => generate(session, ids, arguments.max_new_tokens),
        None => once(session, arguments),
    }
}

/// Prints the tokens that follow, the likeliest each time.
fn generate(session: Session, ids: &[u32], token_count_max: usize) -> Result<(), Failure> {
    let mut model = ArtifactModel::new(session).map_err(Failure::user)?;
    if let Some(vocabulary) = model.vocabulary()
        && let Some(wrong) = ids.iter().find(|id| **id as usize >= vocabulary)
    {
        return Err(Failure::user(format!("token {wrong}: the vocabulary has {vocabulary}")));
    }
    let settings = Settings { token_count_max, ..Settings::default() };
    let mut generation = Generation::start(&mut model, ids, settings).map_err(Failure::user)?;
    let mut separator = "";
    while let Some(token) = generation.next_token().map_err(Failure::user)? {
        say(&format!("{separator}{token}"))?;
        std::io::stdout().flush().map_err(Failure::user)?;
        separator = " ";
    }
    say("\n")
}

/// Runs once on the given inputs and writes or prints the outputs.
fn once(mut session: Session, arguments: &Arguments) -> Result<(), Failure> {
    for (name, file) in &arguments.inputs {
        let told = |what: String| Failure::user(format!("{}: {what}", file.display()));
        let bytes = std::fs::read(file).map_err(|error| told(error.to_string()))?;
        let array = npy::decode(&bytes).map_err(told)?;
        let Content::Numbers(element) = array.content else {
            return Err(told("strings are not taken here: give their code points as int32".into()));
        };
        let wanted = session.input_shape(name).map(|(wanted, _)| wanted);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != element) {
            return Err(told(format!("input '{name}' takes {wanted}, the file holds {element}")));
        }
        session.set_input(name, &array.shape, array.data).map_err(Failure::user)?;
    }
    session.run().map_err(Failure::user)?;
    let program = session.program();
    let states = program.states.iter().map(|state| state.output.name.clone());
    let names: Vec<String> = program.outputs.iter().map(|output| output.name.clone()).chain(states).collect();
    for name in names {
        let tensor = session.output(&name).map_err(Failure::user)?;
        match &arguments.output_dir {
            Some(folder) => write(folder, &name, &tensor)?,
            None => say(&summary(&name, &tensor))?,
        }
    }
    Ok(())
}

/// Element, shape and the first numbers.
fn summary(name: &str, tensor: &Tensor) -> String {
    const SHOWN: usize = 8;
    let values = tensor.to_f32();
    let shown: Vec<String> = values.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if values.len() > SHOWN { ", .." } else { "" };
    format!("{name}: {} {:?} [{}{more}]\n", tensor.element, tensor.shape, shown.join(", "))
}

/// Writes `NAME.npy`, whole or not at all. What numpy has no type for becomes f32.
fn write(folder: &Path, name: &str, tensor: &Tensor) -> Result<(), Failure> {
    let told = |error: std::io::Error| {
        Failure::user(format!("cannot write '{name}' into '{}': {error}", folder.display()))
    };
    let bytes = npy::encode(Content::Numbers(tensor.element), &tensor.shape, &tensor.bytes).or_else(|| {
        let wide: Vec<u8> = tensor.to_f32().iter().flat_map(|value| value.to_le_bytes()).collect();
        npy::encode(Content::Numbers(tilewright_runtime::element::Element::F32), &tensor.shape, &wide)
    });
    std::fs::create_dir_all(folder).map_err(told)?;
    // A name may be a path in the source model.
    let file = folder.join(format!("{}.npy", name.replace(['/', '\\'], "_")));
    let temporary = file.with_extension("npy.part");
    std::fs::write(&temporary, bytes.unwrap_or_default())
        .and_then(|()| std::fs::rename(&temporary, &file))
        .map_err(told)
}
