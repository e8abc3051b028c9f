//! Who guesses ahead, and what that costs.

use super::arguments::{Arguments, Speculate};
use super::prepare;
use super::told;
use crate::cli::load::Mapped;
use crate::exit::Failure;
use crate::modelled::{pass, program_for};
use crate::session::Session;
use crate::story::Speculation;
use crate::tokens::TokenCodec;
use tilewright_runtime::generate::pace::{Costs, Pace};
use tilewright_runtime::generate::session::{ArtifactModel, TokenModel};
use tilewright_runtime::generate::speculate::{DraftModel, Drafter, NGrams};

/// A drafter for all texts of the run.
pub(super) struct Drafting {
    drafter: Box<dyn Drafter>,
    draft_tokens_max: usize,
    pace: Pace,
    /// The file that the draft model is mapped from.
    _mapped: Option<Mapped>,
}

impl Drafting {
    /// For one text.
    pub(super) fn speculation(&mut self) -> Speculation<'_> {
        let Drafting { drafter, draft_tokens_max, pace, .. } = self;
        Speculation { drafter: Box::new(&mut **drafter), draft_tokens_max: *draft_tokens_max, pace: *pace }
    }
}

/// Makes the drafter that was asked for, if any.
pub(super) fn prepare(
    session: &Session,
    arguments: &Arguments,
    model: &ArtifactModel,
    target: &str,
    codec: Option<&TokenCodec>,
    is_greedy: bool,
) -> Result<Option<Drafting>, Failure> {
    if !arguments.speculates() {
        return Ok(None);
    }
    if model.verify_length_max(0) < 2 {
        return Err(told(&tilewright_runtime::generate::session::GenerateError::CannotVerify).into());
    }
    let programs = model.session().programs();
    let cycles = |program| pass(session, target, program).map(|pass| pass.cycles as f64);
    let plain = program_for(programs, 1).and_then(cycles);
    let verify = program_for(programs, arguments.draft_max + 1).and_then(cycles);
    let (drafter, draft, mapped): (Box<dyn Drafter>, _, _) = match (&arguments.draft, arguments.speculate) {
        (Some(path), _) => {
            let ready = prepare::prepare(session, path, &arguments.what, &arguments.how, None)?;
            same_tokens(&ready, codec, path)?;
            let draft_model = ArtifactModel::new(ready.loaded.session).map_err(|error| told(&error))?;
            let cost = program_for(draft_model.session().programs(), 1).and_then(cycles);
            (Box::new(DraftModel::new(draft_model)), cost, Some(ready._mapped))
        }
        (None, Some(Speculate::Ngram) | None) => (Box::new(NGrams::default()), Some(0.0), None),
    };
    let costs = plain.zip(verify).zip(draft);
    let pace = match (arguments.speculate_always, costs) {
        (true, _) => Pace::Always,
        // A drawn text must not depend on how busy the machine is; a greedy one does not.
        (false, Some(((plain, verify), draft))) if !is_greedy => {
            Pace::Modelled(Costs { plain, verify, draft })
        }
        (false, None) if !is_greedy => Pace::Always,
        (false, _) => Pace::Measured,
    };
    Ok(Some(Drafting { drafter, draft_tokens_max: arguments.draft_max, pace, _mapped: mapped }))
}

/// A draft is of use only when each id means the same to both.
fn same_tokens(
    draft: &prepare::Ready,
    codec: Option<&TokenCodec>,
    path: &std::path::Path,
) -> Result<(), Failure> {
    let help = "draft with a model that was trained with the same tokenizer";
    let Some(codec) = codec else { return Ok(()) };
    let Some(bytes) = &draft.tokenizer else {
        let what = format!("draft model '{}' has no tokenizer.json to compare", path.display());
        return Err(Failure::user(what, "put its tokenizer.json beside it"));
    };
    match codec.difference(&TokenCodec::from_bytes(bytes)?) {
        Some(difference) => Err(Failure::user(
            format!("draft model '{}' has another tokenizer: {difference}", path.display()),
            help,
        )),
        None => Ok(()),
    }
}
