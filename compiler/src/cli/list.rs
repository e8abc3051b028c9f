//! `tilewright targets`, `ops`, `passes`, `rules`: what there is, as tables or JSON.

use super::table;
use crate::exit::Failure;
use crate::import::onnx::support::{COLUMNS, RECORD, Record, support};
use crate::session::Session;
use serde_json::json;
use std::path::PathBuf;
use tilewright_ir::element::Element;
use tilewright_ir::op_def::{Arity, OpDef, ValueDef};
use tilewright_passes::machine::{Engine, Machine};
use tilewright_targets::machines;

/// Arguments of the plain lists.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright passes\n  tilewright passes --json")]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of the list of targets.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tilewright targets\n  tilewright targets apple-m5-npu > my.toml     # to begin one's own with\n  \
                        tilewright targets --machine my.toml --json"
)]
pub(crate) struct TargetsArguments {
    /// Print the description of one target as TOML: its figures with their sources
    #[arg(value_name = "NAME", conflicts_with = "json")]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of the list of ops.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tilewright ops\n  tilewright ops core.attention\n  tilewright ops --onnx --json"
)]
pub(crate) struct OpsArguments {
    /// Show one op in full
    #[arg(value_name = "OP")]
    name: Option<String>,
    /// List the ONNX operators that are read: opset versions, element types and engines that cases have shown, limits
    #[arg(long)]
    onnx: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Arguments of the list of rules.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright rules\n  tilewright rules --rules my.rules --json")]
pub(crate) struct RulesArguments {
    /// Read more rewrite rules from a file; may be given again
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a list is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
    Csv,
}

impl Form {
    fn of(json: bool, csv: bool) -> Form {
        match (json, csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Table,
        }
    }
}

fn show(json_wanted: bool, header: &[&str], rows: Vec<Vec<String>>) {
    show_as(Form::of(json_wanted, false), header, rows);
}

fn show_as(form: Form, header: &[&str], rows: Vec<Vec<String>>) {
    if form == Form::Csv {
        let quote = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
        let line = |cells: Vec<String>| cells.join(",");
        say!("{}", line(header.iter().map(|cell| quote(cell)).collect()));
        for row in rows {
            say!("{}", line(row.iter().map(|cell| quote(cell)).collect()));
        }
        return;
    }
    if form == Form::Json {
        let objects: Vec<serde_json::Value> = rows
            .iter()
            .map(|row| {
                let pairs = header.iter().zip(row).map(|(key, cell)| ((*key).to_string(), json!(cell)));
                serde_json::Value::Object(pairs.collect())
            })
            .collect();
        say!("{:#}", serde_json::Value::Array(objects));
        return;
    }
    let mut report = table(header);
    for row in rows {
        report.add_row(row);
    }
    say!("{report}");
}

/// The targets, or the description of one.
pub(crate) fn targets(session: &Session, arguments: &TargetsArguments) -> Result<(), Failure> {
    if let Some(name) = &arguments.name {
        let target = session.target(name)?;
        let text = machines::text(target.name).ok_or_else(|| {
            Failure::user(
                format!("'{name}' is described by no text"),
                "its figures are in the program; tilewright targets --json prints them",
            )
        })?;
        say!("{}", text.trim_end());
        return Ok(());
    }
    let floats = |machine: &Machine, engine| {
        let all = [Element::F32, Element::F16, Element::BF16];
        let names: Vec<&str> =
            all.into_iter().filter(|one| machine.supports(engine, *one)).map(Element::text).collect();
        names.join(" ")
    };
    let rows = session.targets.iter().map(|target| {
        let machine = target.machine();
        let fastest = machine.mac_rates.iter().max_by_key(|rate| rate.macs_per_cycle);
        let peak = fastest.map_or(0.0, |rate| (2 * rate.macs_per_cycle * machine.clock_mhz) as f64 / 1e6);
        let pair = fastest.map_or_else(String::new, |rate| format!(" {}x{}", rate.activation, rate.weight));
        vec![
            target.name.to_string(),
            format!("{} KiB", machine.sram_bytes >> 10),
            format!("{peak:.1} TOPS{pair}"),
            format!("{:.1} GB/s", (machine.dram_bytes_per_cycle * machine.clock_mhz) as f64 / 1e3),
            floats(&machine, Engine::Matrix),
            floats(&machine, Engine::Vector),
            target.lowerings.len().to_string(),
            target.doc.to_string(),
        ]
    });
    let header =
        ["name", "sram", "peak", "dram", "float products", "float vectors", "lowerings", "what it is"];
    show(arguments.json, &header, rows.collect());
    Ok(())
}

/// The passes.
pub(crate) fn passes(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let rows = session.passes.all().iter().map(|pass| {
        let options: Vec<String> =
            pass.options.iter().map(|option| format!("{}={}", option.name, option.default)).collect();
        vec![pass.name.to_string(), options.join(" "), pass.doc.to_string()]
    });
    show(arguments.json, &["name", "options", "what it does"], rows.collect());
    Ok(())
}

/// The ops of all dialects, one op in full, or the ONNX operators.
pub(crate) fn ops(session: &Session, arguments: &OpsArguments) -> Result<(), Failure> {
    if arguments.onnx {
        let rows = support(&Record::parse(RECORD)).into_iter().map(|row| row.cells().to_vec());
        show_as(Form::of(arguments.json, arguments.csv), &COLUMNS, rows.collect());
        return Ok(());
    }
    if let Some(name) = &arguments.name {
        let def = session.registry.find(name).ok_or_else(|| {
            let nearest = session.registry.nearest(name).map(|name| format!("did you mean '{name}'?"));
            Failure::user(
                format!("no op is called '{name}'"),
                nearest.unwrap_or_else(|| "tilewright ops lists them".into()),
            )
        })?;
        say!("{}", in_full(def));
        return Ok(());
    }
    let rows = session.registry.ops().map(|def| {
        let attributes: Vec<&str> = def.attributes.iter().map(|attribute| attribute.name).collect();
        vec![def.name.to_string(), values(def.operands), attributes.join(" "), first_sentence(def.doc)]
    });
    let form = Form::of(arguments.json, arguments.csv);
    show_as(form, &["op", "operands", "attributes", "what it computes"], rows.collect());
    Ok(())
}

fn values(list: &[ValueDef]) -> String {
    let words: Vec<String> = list
        .iter()
        .map(|value| {
            let mark = match value.arity {
                Arity::One => "",
                Arity::Optional => "?",
                Arity::Variadic => "*",
            };
            format!("{}{mark}", value.name)
        })
        .collect();
    words.join(", ")
}

fn first_sentence(doc: &str) -> String {
    doc.split_inclusive(". ").next().unwrap_or(doc).trim().to_string()
}

fn in_full(def: &OpDef) -> String {
    let mut text =
        format!("{}({}) -> {}\n\n{}\n", def.name, values(def.operands), values(def.results), def.doc);
    for attribute in def.attributes {
        let need = if attribute.required { "required" } else { "optional" };
        text += &format!("\n  {}: {:?}, {need}", attribute.name, attribute.rule);
    }
    if !def.axes.is_empty() {
        text += &format!("\n\naxes: {}", def.axes);
    }
    text
}

/// The rewrite rules, in-tree and given.
pub(crate) fn rules(session: &Session, arguments: &RulesArguments) -> Result<(), Failure> {
    let context = session.pass_context(&arguments.rules)?;
    let rules = tilewright_passes::rules::load(&context.registry, &context.rules)?;
    let rows = rules.iter().map(|rule| {
        let tier = if rule.approximate { "approximate" } else { "exact" };
        let guards: Vec<&str> = rule.guards.iter().map(|guard| guard.text.as_str()).collect();
        vec![rule.name.to_string(), tier.to_string(), rule.place.clone(), guards.join(", ")]
    });
    show(arguments.json, &["rule", "tier", "where", "holds where"], rows.collect());
    Ok(())
}
