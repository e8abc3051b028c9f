//! The report as one self-contained page: tables and time lines, drawn by a script in the page from data in the page.
//!
//! Nothing is loaded from anywhere. Columns of numbers are arrays, so that ten thousand commands stay a small file.
//!
//! ```text
//! page.html  <-  {{title}} {{style}} {{data}} {{script}}
//! ```

use super::{Detail, Report};
use serde_json::{Value, json};
use tilewright_runtime::commands::Engine;
use tilewright_runtime::timing::Stall;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
pub fn html(report: &Report) -> String {
    let mut data = report.to_json();
    data["details"] = report.details.iter().map(columns).collect::<Vec<_>>().into();
    data["engines"] = Engine::ALL.iter().map(|engine| engine.name()).collect::<Vec<_>>().into();
    data["causes"] = Stall::ALL.iter().map(|cause| cause.name()).collect::<Vec<_>>().into();
    // A name may hold what would end the script's element.
    let data = data.to_string().replace('<', "\\u003c");
    let title = escape(&format!("{} on {}", report.model, report.machine.name));
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + data.len());
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or(("", after));
        page += before;
        page += match name {
            "title" => &title,
            "style" => STYLE,
            "data" => &data,
            "script" => SCRIPT,
            _ => "",
        };
        rest = after;
    }
    page + rest
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The time lines of a run, column by column.
fn columns(detail: &Detail) -> Value {
    let spans = &detail.spans;
    let pauses = &detail.pauses;
    let rectangles = &detail.rectangles;
    json!({
        "run": detail.run,
        "commands": detail.commands,
        "spans_total": detail.spans_total,
        "rectangles_total": detail.rectangles_total,
        "spans": {
            "engine": spans.iter().map(|one| one.engine as u8).collect::<Vec<_>>(),
            "op": spans.iter().map(|one| one.op).collect::<Vec<_>>(),
            "command": spans.iter().map(|one| one.command).collect::<Vec<_>>(),
            "latency": spans.iter().map(|one| one.start - one.from).collect::<Vec<_>>(),
            "start": spans.iter().map(|one| one.start).collect::<Vec<_>>(),
            "end": spans.iter().map(|one| one.end).collect::<Vec<_>>(),
            "dram_bytes": spans.iter().map(|one| one.dram_bytes).collect::<Vec<_>>(),
        },
        "pauses": {
            "cause": pauses.iter().map(|one| one.cause).collect::<Vec<_>>(),
            "start": pauses.iter().map(|one| one.start).collect::<Vec<_>>(),
            "end": pauses.iter().map(|one| one.end).collect::<Vec<_>>(),
        },
        "rectangles": {
            "offset": rectangles.iter().map(|one| one.offset).collect::<Vec<_>>(),
            "bytes": rectangles.iter().map(|one| one.bytes).collect::<Vec<_>>(),
            "start": rectangles.iter().map(|one| one.start).collect::<Vec<_>>(),
            "end": rectangles.iter().map(|one| one.end).collect::<Vec<_>>(),
            "op": rectangles.iter().map(|one| one.op).collect::<Vec<_>>(),
            "engine": rectangles.iter().map(|one| one.engine as u8).collect::<Vec<_>>(),
        },
    })
}
