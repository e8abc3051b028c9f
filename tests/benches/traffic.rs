//! DRAM traffic of one decoder layer of the 1 B shape, int8 activations and int4 weights, and how long its tile search takes:
//! `cargo bench -p tilewright-tests --bench traffic`; `-- rows` lists what moves most.

use harness::layer_traffic::{
    Layer, Models, PRODUCTS, SRAM_KIB, TOKENS, compulsory_bytes, exhaustive_bytes, layer_bytes, timings,
};
use std::collections::BTreeMap;
use std::time::Instant;
use tilewright::session::Session;
use tilewright_targets::npu_gen3::tile_search::{remembered, solve};

const MEGABYTE: f64 = 1e6;

fn main() {
    let session = Session::new();
    let models = Models::write();
    let lists_rows = std::env::args().any(|word| word == "rows");
    println!(
        "MB of a layer            moved   between ops  ratio   of the layer  ratio   word bound  exhaustive  ratio      cycles"
    );
    for kib in SRAM_KIB {
        for (tokens, layer) in TOKENS.iter().zip(models.layers(&session, &TOKENS, kib << 10)) {
            row(kib, *tokens as u64, &layer);
        }
        if lists_rows {
            rows(&models, &session, kib);
        }
    }
    for kib in SRAM_KIB {
        search_time(&models, kib);
    }
}

fn row(kib: u64, m: u64, layer: &Layer) {
    let found = layer.dram_bytes as f64;
    let megabytes = |bytes: u64| bytes as f64 / MEGABYTE;
    let ratio = |bytes: u64| found / bytes as f64;
    let words: u64 = PRODUCTS.iter().map(|product| product.word_bound_bytes(m, kib << 10)).sum();
    let (ops, whole, best) = (compulsory_bytes(m), layer_bytes(m), exhaustive_bytes(m, kib << 10));
    println!(
        "{kib:>5} KiB, {m:>4} tokens  {:>8.2}  {:>11.2}  {:>5.3}  {:>12.2}  {:>6.3}  {:>10.2}  {:>10.2}  {:>5.3}  {:>10}",
        found / MEGABYTE,
        megabytes(ops),
        ratio(ops),
        megabytes(whole),
        ratio(whole),
        megabytes(words),
        megabytes(best),
        ratio(best),
        layer.cycles
    );
}

/// What each op of a model with two layers moves, and how long engines work on it.
fn rows(models: &Models, session: &Session, kib: u64) {
    let compiled = models.compile(session, 2, &TOKENS, kib << 10);
    for (report, timing) in compiled.programs.iter().zip(timings(&compiled)) {
        println!("{}: {} bytes", report.name, timing.total.dram_bytes);
        let Some(program) = &report.program else { continue };
        let mut by_op: BTreeMap<&str, (usize, u64, u64)> = BTreeMap::new();
        for (at, cost) in timing.commands.iter().enumerate() {
            let entry = by_op.entry(program.location(at).unwrap_or_default()).or_insert((at, 0, 0));
            entry.1 += cost.dram_bytes;
            entry.2 += cost.busy_cycles;
        }
        let mut rows: Vec<_> = by_op.into_iter().collect();
        rows.sort_by_key(|row| row.1.0);
        for (name, (_, bytes, busy)) in rows {
            let name: String = name.chars().take(90).collect();
            println!("   {bytes:>12} bytes  {busy:>10} cycles busy  {name}");
        }
    }
}

/// How long the searches take that one program for each number of tokens poses.
fn search_time(models: &Models, kib: u64) {
    for tokens in TOKENS {
        // What a thread has found it does not search for again.
        let posed = std::thread::scope(|scope| {
            let compile = || {
                models.compile(&Session::new(), 1, &[tokens], kib << 10);
                remembered()
            };
            scope.spawn(compile).join().unwrap_or_else(|_| panic!("it does not compile"))
        });
        let start = Instant::now();
        let fitting =
            posed.iter().filter(|(forms, limits, known)| solve(forms, *limits, *known).is_ok()).count();
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        println!(
            "{kib:>5} KiB, {tokens:>4} tokens: {:>4} tile searches, {fitting:>4} found, {milliseconds:>8.2} ms   aim 50   ratio {:>6.2}",
            posed.len(),
            milliseconds / 50.0
        );
    }
}
