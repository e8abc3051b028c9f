//! What a model costs, and where a node went, as a user asks for it.

use super::{expect, folder, model};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:.200}"))
}

/// Header and rows of a CSV file without quoted cells.
fn rows(text: &str) -> (Vec<String>, Vec<BTreeMap<String, String>>) {
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    let row = |cells: Vec<String>| {
        assert_eq!(cells.len(), header.len());
        header.iter().cloned().zip(cells).collect()
    };
    let rows = lines.map(row).collect();
    (header.clone(), rows)
}

#[test]
fn a_model_is_profiled_in_all_forms() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let words = [
        "profile",
        &model("story-draft"),
        "--context",
        "100",
        "--chunk-lengths",
        "1,8",
        "--context-window",
        "256",
    ];
    let (csv, trace, html) = (text("csv"), text("trace.json"), text("page.html"));
    let shown = expect(0, &[&words[..], &["--csv", &csv, "--trace", &trace, "--html", &html]].concat()).out;
    for word in ["chunk_1 past_seq=100", "waits: dram latency", "compulsory", "2 m n k / sqrt(S)", "layers.0"]
    {
        assert!(shown.contains(word), "'{word}' is not in\n{shown}");
    }
    let report = json(&expect(0, &[&words[..], &["--json"]].concat()).out);
    let run = &report["runs"][0];
    let cycles = run["cycles"].as_u64().expect("cycles");
    assert!(shown.contains("chunk_1 past_seq=100: ") && cycles > 0, "{run}");
    let (header, summary) = rows(&read(&path("csv").join("story-draft_summary_npu-gen3.csv")));
    assert_eq!(header.join(","), include_str!("expected/vela_summary_columns.txt").trim());
    assert_eq!(summary.len(), report["runs"].as_array().expect("runs").len());
    assert_eq!(summary[0]["cycles_total"], cycles.to_string());
    assert_eq!(summary[0]["nn_macs"], run["macs"].to_string());
    assert_eq!(summary[0]["core_clock"], "1000000000");
    let (header, layers) = rows(&read(&path("csv").join("story-draft_per-layer.csv")));
    assert!(header.join(",").starts_with("Original Operator,NNG Operator,Target,Staging Usage,"));
    let all: u64 = layers.iter().map(|row| row["Op Cycles"].parse::<u64>().expect("a number")).sum();
    assert_eq!(all, cycles, "ops add up to the run");
    check_trace(&json(&read(&path("trace.json"))), &report);
    check_page(&read(&path("page.html")), &report);
    // An artifact tells the same, with the reasons.
    let artifact = text("draft.npu");
    let compile = ["--chunk-lengths", "1,8", "--context-window", "256", "-o", &artifact];
    expect(0, &[&["compile", &model("story-draft")][..], &compile].concat());
    let of_artifact = json(&expect(0, &["profile", &artifact, "--context", "100", "--json"]).out);
    assert_eq!(of_artifact["runs"], report["runs"]);
    assert_eq!(of_artifact["placement"], report["placement"]);
    assert!(of_artifact["placement_note"].is_null());
    let inspected = json(&expect(0, &["inspect", &artifact, "--json"]).out);
    let placed = inspected["placement"].as_array().expect("rows");
    assert_eq!(placed.len(), report["placement"].as_array().expect("rows").len());
    let of_model = expect(0, &["explain", "node_linear_5", &model("story-draft")]).out;
    let of_artifact = expect(0, &["explain", "node_linear_5", &artifact]).out;
    let first = |text: &str| text.lines().take(3).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(first(&of_artifact), first(&of_model));
    let wrong = expect(1, &["profile", &artifact, "--program", "chunk_2"]);
    assert!(wrong.err.contains("no program 'chunk_2'") && wrong.err.contains("chunk_8"), "{}", wrong.err);
    expect(2, &["profile", &artifact, "--context=-1"]);
}

/// Events of one thread follow each other, and add up to what the report says.
fn check_trace(trace: &Value, report: &Value) {
    let events = trace["traceEvents"].as_array().expect("events");
    let named = events.iter().filter(|event| event["ph"] == "M" && event["name"] == "thread_name");
    let threads: BTreeMap<(u64, u64), String> = named
        .map(|event| {
            let place = (event["pid"].as_u64().expect("a pid"), event["tid"].as_u64().expect("a tid"));
            (place, event["args"]["name"].as_str().expect("a name").to_string())
        })
        .collect();
    let mut ends: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut busy: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X" && event["cat"] != "stall") {
        let place = (event["pid"].as_u64().expect("a pid"), event["tid"].as_u64().expect("a tid"));
        let (start, cycles) = (&event["args"]["start_cycle"], &event["args"]["cycles"]);
        let (start, cycles) = (start.as_u64().expect("a cycle"), cycles.as_u64().expect("cycles"));
        assert!(threads.contains_key(&place), "{event}");
        let end = ends.entry(place).or_default();
        assert!(start >= *end, "{event}: the thread is busy until {end}");
        *end = start + cycles;
        *busy.entry(place).or_default() += cycles;
    }
    let first = &report["runs"][0];
    for engine in first["engines"].as_array().expect("engines") {
        let of = |(place, name): (&(u64, u64), &String)| {
            (place.0 == 1 && *name == engine["engine"]).then_some(*place)
        };
        let place = threads.iter().find_map(of).expect("its thread");
        assert_eq!(busy.get(&place).copied().unwrap_or(0), engine["busy_cycles"], "{engine}");
    }
    for counter in ["SRAM in use", "DRAM bytes moved"] {
        let values: Vec<i64> = events
            .iter()
            .filter(|event| event["ph"] == "C" && event["name"] == counter && event["pid"] == 1)
            .map(|event| event["args"]["bytes"].as_i64().expect("bytes"))
            .collect();
        assert!(values.len() > 10 && values.iter().all(|bytes| *bytes >= 0), "{counter}: {values:?}");
        let last = *values.last().expect("values");
        assert_eq!(
            last,
            if counter == "SRAM in use" { 0 } else { first["dram_bytes"].as_i64().expect("bytes") }
        );
    }
}

/// The page holds its data, all that its script looks for, and nothing that is loaded from elsewhere.
fn check_page(page: &str, report: &Value) {
    let (before, after) = page.split_once("<script type=\"application/json\" id=\"data\">").expect("data");
    let (data, script) = after.split_once("</script>").expect("its end");
    let data = json(data);
    assert_eq!(data["runs"], report["runs"]);
    for id in ["summary", "timeline", "sram", "roofline", "layers", "ops", "placement"] {
        assert!(before.contains(&format!("<section id=\"{id}\">")), "no section '{id}'");
    }
    let ids: BTreeSet<&str> = page
        .match_indices(" id=\"")
        .filter_map(|(at, open)| page[at + open.len()..].split('"').next())
        .collect();
    for (at, call) in script.match_indices("find(\"") {
        let id = script[at + call.len()..].split('"').next().expect("an id");
        assert!(ids.contains(id), "the script looks for '{id}'");
    }
    // What a script declares outside functions shares one scope with what every window has of its own.
    let mut declared: BTreeSet<&str> = ["top", "window", "document", "location"].into();
    for line in script.lines() {
        let name = ["const ", "let ", "function "].iter().find_map(|word| line.strip_prefix(word));
        let Some(name) = name.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next()) else {
            continue;
        };
        assert!(name.is_empty() || declared.insert(name), "'{name}' is declared twice");
    }
    assert!(declared.len() > 30, "{declared:?}");
    assert!(!page.contains("{{"), "a place in the page was not filled");
    for word in ["src=", "@import", "url(", "fetch(", "XMLHttpRequest", "import(", "<link rel=\"stylesheet\""]
    {
        assert!(!page.contains(word), "the page may load something: {word}");
    }
    for (at, link) in page.match_indices("href=\"") {
        let to = &page[at + link.len()..];
        assert!(to.starts_with('#') || to.starts_with("data:"), "a link out of the page: {to:.60}");
    }
    for scheme in ["http://", "https://"] {
        // The name of SVG is no address.
        let outside = page
            .match_indices(scheme)
            .filter(|(at, _)| !page[*at..].starts_with("http://www.w3.org/2000/svg"));
        assert_eq!(outside.count(), 0, "an address in the page");
    }
    let detail = &data["details"][0];
    let run = &data["runs"][detail["run"].as_u64().expect("a run") as usize];
    let column = |table: &str, name: &str| detail[table][name].as_array().expect("a column").clone();
    let numbers = |table: &str, name: &str| -> Vec<u64> {
        column(table, name).iter().map(|value| value.as_u64().expect("a number")).collect()
    };
    let (ends, sram) = (numbers("spans", "end"), data["machine"]["sram_bytes"].as_u64().expect("bytes"));
    assert!(ends.iter().all(|end| *end <= run["cycles"].as_u64().expect("cycles")));
    let (offsets, bytes) = (numbers("rectangles", "offset"), numbers("rectangles", "bytes"));
    assert!(offsets.len() > 50 && offsets.iter().zip(&bytes).all(|(offset, bytes)| offset + bytes <= sram));
    let pauses: u64 =
        numbers("pauses", "end").iter().sum::<u64>() - numbers("pauses", "start").iter().sum::<u64>();
    let stalls = run["stalls"].as_array().expect("stalls").iter();
    assert_eq!(pauses, stalls.map(|one| one["cycles"].as_u64().expect("cycles")).sum::<u64>());
}

#[test]
fn a_node_is_explained() {
    let short = ["--chunk-lengths", "1", "--context-window", "256"];
    let explain = |node: &str, more: &[&str]| {
        [&["explain", node, &model("story-draft")][..], &short, more]
            .concat()
            .iter()
            .map(|word| word.to_string())
            .collect::<Vec<_>>()
    };
    let words = |words: Vec<String>| -> Vec<&'static str> {
        words.into_iter().map(|word| &*String::leak(word)).collect()
    };
    let told = json(&expect(0, &words(explain("layers.0.mlp.down_proj", &["--json"]))).out);
    let carrier = &told["carriers"][0];
    assert!(told["node"].as_str().expect("a name").contains("layers.0.mlp.down_proj"), "{told}");
    assert_eq!(told["placed"][0]["target"], "npu-gen3");
    let tiles = carrier["tiles"].as_array().expect("tiles");
    assert!(tiles.iter().any(|tile| tile["command"] == "matmul" && tile["engine"] == "matrix"), "{tiles:?}");
    let executed: u64 = tiles.iter().map(|tile| tile["dram_bytes"].as_u64().expect("bytes")).sum();
    assert_eq!(executed, carrier["row"]["dram_bytes"], "tiles add up to the kernel");
    let shown = expect(0, &words(explain("layers.0.mlp.down_proj", &[]))).out;
    assert!(
        shown.contains("on npu-gen3") && shown.contains("matmul") && shown.contains("commands"),
        "{shown}"
    );
    let name = told["node"].as_str().expect("a name");
    let wrong = expect(1, &words(explain(&name.replace("down", "doun"), &[]))).err;
    assert!(wrong.contains("did you mean") && wrong.contains(name), "{wrong}");
    let several = expect(1, &words(explain("down_proj", &[]))).err;
    assert!(several.contains("is a part of") && several.contains(name), "{several}");
    // On a machine without floats it is the host's, and the reason is told.
    let host = expect(0, &words(explain(name, &["--target", "micro-npu"]))).out;
    assert!(host.contains("on the host: ") && host.contains("micro-npu"), "{host}");
}
