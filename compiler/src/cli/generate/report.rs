//! The closing statistics, as a line or as JSON.

use super::arguments::Stats;
use super::heat;
use crate::modelled::{ModelledPass, pass, program_for};
use crate::session::Session;
use crate::story::Summary;
use serde_json::json;
use std::time::Duration;
use tilewright_runtime::generate::governor::Governed;
use tilewright_runtime::stream::Program;

/// What does not change from text to text.
pub(super) struct Facts {
    compile_ms: f64,
    modelled: Option<ModelledPass>,
    governed: Governed,
}

impl Facts {
    pub(super) fn of(
        session: &Session,
        target: &str,
        compile_ms: f64,
        programs: &[Program],
        governed: &Governed,
    ) -> Facts {
        let modelled = program_for(programs, 1).and_then(|program| pass(session, target, program));
        Facts { compile_ms, modelled, governed: governed.clone() }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn rate(count: usize, duration: Duration) -> f64 {
    count as f64 / duration.as_secs_f64().max(1e-9)
}

/// Prints to standard error.
pub(super) fn print(how: Stats, summary: &Summary, facts: &Facts) {
    match how {
        Stats::None => {}
        Stats::Text => eprintln!("[{}]", text(summary, facts)),
        Stats::Json => eprintln!("{}", as_json(summary, facts)),
    }
}

fn text(summary: &Summary, facts: &Facts) -> String {
    let statistics = &summary.statistics;
    let mut text = format!("{} tokens, {}", summary.ids.len(), summary.ending.text());
    if !summary.is_whole {
        text += " (cut: the text is not whole)";
    }
    text += &format!(
        "; compile {:.0} ms, first token {:.0} ms, {:.1} tokens/s on this host",
        facts.compile_ms,
        milliseconds(summary.first_token),
        rate(summary.ids.len().saturating_sub(1), summary.decode),
    );
    if statistics.drafted > 0 {
        text += &format!(
            "; {} drafted, {} verified, {} accepted ({:.0} %) in {} of {} passes",
            statistics.drafted,
            statistics.verified,
            statistics.accepted,
            100.0 * statistics.acceptance().unwrap_or(0.0),
            statistics.verification_passes,
            statistics.passes,
        );
    }
    if statistics.pauses > 0 {
        text += &format!(", turned off {} times", statistics.pauses);
    }
    if statistics.drafted_alone > 0 {
        text += &format!("; {} tokens are the draft model's alone", statistics.drafted_alone);
    }
    text += &heat::text(&facts.governed);
    if let Some(modelled) = &facts.modelled {
        text += &format!("; {modelled}");
    }
    text
}

fn as_json(summary: &Summary, facts: &Facts) -> serde_json::Value {
    let statistics = &summary.statistics;
    let prompt_run = statistics.prompt_tokens - statistics.cached_tokens;
    json!({
        "prompt_tokens": statistics.prompt_tokens,
        "cached_tokens": statistics.cached_tokens,
        "tokens": summary.ids.len(),
        "ending": summary.ending.text(),
        "is_whole": summary.is_whole,
        "compile_ms": facts.compile_ms,
        "prompt_ms": milliseconds(summary.prompt),
        "first_token_ms": milliseconds(summary.first_token),
        "decode_ms": milliseconds(summary.decode),
        "prompt_tokens_per_second": rate(prompt_run, summary.prompt),
        "tokens_per_second": rate(summary.ids.len().saturating_sub(1), summary.decode),
        "passes": statistics.passes,
        "speculation": {
            "verification_passes": statistics.verification_passes,
            "drafted": statistics.drafted,
            "verified": statistics.verified,
            "accepted": statistics.accepted,
            "acceptance": statistics.acceptance(),
            "pauses": statistics.pauses,
            "drafted_alone": statistics.drafted_alone,
        },
        "heat": heat::as_json(&facts.governed),
        "modelled": facts.modelled.as_ref().map(|pass| json!({
            "target": pass.target,
            "past_tokens": pass.past_tokens,
            "cycles_per_token": pass.cycles,
            "dram_bytes_per_token": pass.dram_bytes,
            "joules_per_token": pass.joules,
        })),
    })
}
