//! The governor that the arguments ask for, and what it decided.

use super::arguments::Arguments;
use crate::exit::Failure;
use serde_json::json;
use std::path::Path;
use tilewright_runtime::generate::governor::{Device, Governed, Governor, Limits, Scripted, ThermalZones};

/// The governor; none when no limit is given.
pub(super) fn governed(arguments: &Arguments) -> Result<Governed, Failure> {
    let Some(limit_celsius) = arguments.thermal_limit else { return Ok(Governed::default()) };
    let device: Box<dyn Device> = match &arguments.thermal_script {
        Some(path) => Box::new(Scripted::new(readings(path)?)),
        None => Box::new(ThermalZones::find(Path::new(ThermalZones::FOLDER)).ok_or_else(|| {
            Failure::user(
                format!("--thermal-limit: no thermal zone can be read below {}", ThermalZones::FOLDER),
                "leave it out, or rehearse with --thermal-script FILE",
            )
        })?),
    };
    let limits = Limits { limit_celsius, may_draft: arguments.thermal_draft, ..Limits::default() };
    Ok(Governed::by(Governor::new(device, limits)))
}

fn readings(path: &Path) -> Result<Vec<f64>, Failure> {
    let text = crate::output::read_text(path)?;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let celsius = line.trim().parse::<f64>().ok().filter(|celsius| celsius.is_finite());
        found.push(celsius.ok_or_else(|| {
            let what = format!("{}:{}: '{}' is no temperature", path.display(), index + 1, line.trim());
            Failure::user(what, "give one number a line, in degrees Celsius")
        })?);
    }
    if found.is_empty() {
        return Err(Failure::user(
            format!("{} has no temperature", path.display()),
            "give one number a line",
        ));
    }
    Ok(found)
}

/// What was decided so far, in words; empty when nothing was.
pub(super) fn text(governed: &Governed) -> String {
    let Some(governor) = governed.governor() else { return String::new() };
    let decisions: Vec<String> = governor.decisions().iter().map(ToString::to_string).collect();
    match decisions.is_empty() {
        true => String::new(),
        false => format!("; paused {:.1} s for heat: {}", governor.paused_seconds(), decisions.join(", ")),
    }
}

/// The same as JSON; null when nothing is governed.
pub(super) fn as_json(governed: &Governed) -> serde_json::Value {
    governed.governor().map_or(serde_json::Value::Null, |governor| {
        let decisions = governor.decisions().iter().map(|one| {
            json!({
                "seconds": one.seconds,
                "celsius": one.celsius,
                "change": one.change.to_string(),
                "busy_share": one.share,
                "chunk_tokens_max": (one.chunk_tokens_max < usize::MAX).then_some(one.chunk_tokens_max),
            })
        });
        json!({ "paused_seconds": governor.paused_seconds(), "decisions": decisions.collect::<Vec<_>>() })
    })
}
