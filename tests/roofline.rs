//! What reports tell: every figure can be counted again from the stream, and no run is faster than its bounds. A part of `end_to_end.rs`.

use super::{compiled, npu};
use harness::recorded::tests_folder;
use harness::second_count::{check, check_bound, close, locations};
use tilewright::driver::{Compilation, CompileOptions};
use tilewright::quantize::QuantizeOptions;
use tilewright::report::{Contexts, Report, Run, Subject, build};
use tilewright::session::Session;
use tilewright::synthesize::{Options, Shape, write};
use tilewright_passes::machine::Machine;
use tilewright_runtime::commands::Engine;
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{Stall, word_bound_bytes};
use tilewright_runtime::view::Space;
use tilewright_targets::{figures, machines};

fn report(compilation: &Compilation, contexts: &Contexts) -> Report {
    let subject = Subject {
        model: "model".into(),
        programs: compilation.programs.iter().filter_map(|one| one.program.as_ref()).collect(),
        machine: &compilation.programs[0].machine,
        about: "",
        placement: Vec::new(),
        placement_note: None,
        weights_bytes: (0, 0),
    };
    build(subject, contexts).unwrap_or_else(|problem| panic!("{problem}"))
}

/// Compares a run of a report with a count of its own.
fn recount(run: &Run, program: &Program, machine: &Machine) {
    let what = format!("{} on {}", program.name, machine.name);
    let figures = figures::of(machine);
    let registers: Vec<(&str, i64)> =
        run.registers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let counted = check(&what, program, &figures, &registers);
    assert_eq!((run.cycles, run.issue_cycles), (counted.cycles, counted.issue_cycles), "{what}");
    assert!(close(run.seconds, counted.cycles as f64 / (machine.clock_mhz as f64 * 1e6)), "{what}");
    for (index, stall) in Stall::ALL.into_iter().enumerate() {
        let cycles: u64 = counted.stalls.iter().map(|one| one[index]).sum();
        assert_eq!((run.stalls[index].cause, run.stalls[index].cycles), (stall.name(), cycles), "{what}");
    }
    for (engine, row) in Engine::ALL.iter().zip(&run.engines) {
        let busy = counted.busy_cycles[*engine as usize];
        assert_eq!((row.engine, row.busy_cycles), (engine.name(), busy), "{what}");
        assert!(close(row.utilisation, busy as f64 / counted.cycles as f64), "{what}: {row:?}");
        assert!(close(row.energy_pj, counted.engine_pj[*engine as usize]), "{what}: {row:?}");
    }
    for (space, row) in Space::ALL.iter().zip(&run.spaces) {
        assert_eq!([row.read_bytes, row.write_bytes], counted.space_bytes[*space as usize], "{what}");
        assert_eq!(row.size_bytes, program.space_bytes[*space as usize], "{what}");
    }
    let bytes = |at: usize| counted.bytes.iter().map(|one| one[at]).sum::<u64>();
    assert_eq!((run.dram_bytes, run.sram_bytes), (bytes(0), bytes(1)), "{what}");
    assert_eq!(run.macs, counted.macs.iter().sum::<u64>(), "{what}");
    assert_eq!(run.executions, counted.executions.iter().sum::<u64>(), "{what}");
    assert_eq!(run.bank_conflict_cycles, counted.bank_cycles, "{what}");
    let (dram_pj, sram_pj) =
        (machine.dram_energy_fj_per_byte as f64 / 1e3, machine.sram_energy_fj_per_byte as f64 / 1e3);
    assert!(close(run.dram_pj, bytes(0) as f64 * dram_pj), "{what}");
    assert!(close(run.sram_pj, bytes(1) as f64 * sram_pj), "{what}");
    let all_pj = run.dram_pj + run.sram_pj + counted.engine_pj.iter().sum::<f64>();
    assert!(close(run.joules * 1e12, all_pj), "{what}: {} J, {all_pj} pJ", run.joules);
    let bounds = &run.bounds;
    assert_eq!(bounds.compulsory_bytes, counted.compulsory_bytes, "{what}");
    assert_eq!(bounds.mac_cycles, counted.mac_cycles, "{what}");
    assert_eq!(bounds.dram_cycles, counted.compulsory_bytes.div_ceil(machine.dram_bytes_per_cycle), "{what}");
    assert_eq!(bounds.cycles, bounds.mac_cycles.max(bounds.dram_cycles), "{what}");
    assert!(close(bounds.ratio, run.cycles as f64 / bounds.cycles.max(1) as f64), "{what}");
    rows(&what, run, program, machine, &counted);
}

/// The same for its rows.
fn rows(
    what: &str,
    run: &Run,
    program: &Program,
    machine: &Machine,
    counted: &harness::second_count::Counted,
) {
    let places = locations(program);
    let mut words = 0;
    for row in &run.ops {
        let mine: Vec<usize> = (0..places.len()).filter(|at| places[*at] == row.nodes.join(" + ")).collect();
        let sum = |of: &dyn Fn(usize) -> u64| mine.iter().map(|at| of(*at)).sum::<u64>();
        assert_eq!(row.commands as usize, mine.len(), "{what}: {}", row.name);
        assert_eq!(row.executions, sum(&|at| counted.executions[at]), "{what}: {}", row.name);
        assert_eq!(row.cycles, sum(&|at| counted.elapsed[at]), "{what}: {}", row.name);
        assert_eq!(row.busy_cycles, sum(&|at| counted.busy[at]), "{what}: {}", row.name);
        assert_eq!(row.stall_cycles, sum(&|at| counted.stalls[at].iter().sum()), "{what}: {}", row.name);
        assert_eq!(row.dram_bytes, sum(&|at| counted.bytes[at][0]), "{what}: {}", row.name);
        assert_eq!(row.sram_bytes, sum(&|at| counted.bytes[at][1]), "{what}: {}", row.name);
        assert_eq!(row.macs, sum(&|at| counted.macs[at]), "{what}: {}", row.name);
        assert!(close(row.energy_pj, mine.iter().map(|at| counted.energy_pj[*at]).sum()), "{what}");
        let products = || mine.iter().filter(|at| program.commands[**at].name().starts_with("matmul"));
        let narrowest = products().filter(|at| counted.macs[**at] > 0).filter_map(|at| {
            let mut bits = Vec::new();
            program.commands[*at].for_each_view(|name, _, id| {
                if ["a", "b"].contains(&name) {
                    bits.push(program.views[id.0 as usize].element.bits());
                }
            });
            bits.into_iter().min()
        });
        let on_chip = machine.sram_bytes + machine.accumulator_bytes;
        let macs = products().map(|at| counted.macs[*at]).sum();
        let bound = word_bound_bytes(macs, narrowest.min().unwrap_or(64), on_chip);
        assert_eq!(row.word_bound_bytes, bound, "{what}: {}", row.name);
        words += bound;
    }
    assert_eq!(run.bounds.word_bytes, words, "{what}");
    let rows: u64 = run.ops.iter().map(|row| row.cycles).sum();
    let layers: u64 = run.layers.iter().map(|row| row.cycles).sum();
    assert_eq!([rows, layers], [run.cycles; 2], "{what}: rows add up to the run");
    for layer in &run.layers {
        let mine = || run.ops.iter().filter(|op| op.layer == layer.name);
        assert_eq!(layer.dram_bytes, mine().map(|op| op.dram_bytes).sum::<u64>(), "{what}: {}", layer.name);
        assert_eq!(layer.macs, mine().map(|op| op.macs).sum::<u64>(), "{what}: {}", layer.name);
        assert_eq!(layer.busy_cycles, mine().map(|op| op.busy_cycles).sum::<u64>(), "{what}: {}", layer.name);
    }
}

#[test]
fn every_figure_of_a_report_can_be_counted_again_from_the_stream() {
    let session = Session::new();
    let models = tests_folder().join("models");
    let cases = [
        ("story-draft", "npu-gen3"),
        ("story-draft", "micro-npu"),
        ("story-3m", "npu-gen3"),
        ("cases/opt-llama", "apple-m5-npu"),
    ];
    for (name, target) in cases {
        let bindings = [("batch".to_string(), 1)].into();
        let options = CompileOptions { target: target.into(), bindings, ..npu(256, &[1, 8]) };
        let compilation = compiled(&session, &models.join(name), &options);
        let contexts = Contexts { tokens: vec![0, 37, 200], ..Contexts::default() };
        let report = report(&compilation, &contexts);
        assert!(report.runs.len() >= 2, "{name}: {} runs", report.runs.len());
        for run in &report.runs {
            let of = compilation.programs.iter().find(|one| one.name == run.program).expect("its program");
            recount(run, of.program.as_ref().expect("a program"), &of.machine);
        }
    }
}

#[test]
fn a_token_of_a_1b_shape_is_within_the_roofline_of_every_machine() {
    let session = Session::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    // One layer, and fewer words: the parts of the model are of their full size.
    let shape = Shape { layers: 1, vocabulary: 4096, ..Shape::preset("llama-1b").expect("a shape") };
    write(&shape, &Options::default(), folder.path()).unwrap_or_else(|problem| panic!("{problem}"));
    for (name, _) in machines::descriptions() {
        let options = CompileOptions {
            target: name.into(),
            quantize: Some(QuantizeOptions {
                preset: "int4".into(),
                allows_fallback: true,
                ..QuantizeOptions::default()
            }),
            ..npu(2048, &[1, 128])
        };
        let compilation = compiled(&session, folder.path(), &options);
        for (program, machine) in
            compilation.programs.iter().filter_map(|one| Some((one.program.as_ref()?, &one.machine)))
        {
            for tokens in [0, 1024] {
                let registers: Vec<(&str, i64)> = program
                    .registers
                    .iter()
                    .filter(|one| one.is_bound)
                    .map(|one| (one.name.as_str(), tokens.clamp(one.minimum, one.maximum)))
                    .collect();
                let what = format!("{} on {name} after {tokens}", program.name);
                check_bound(&what, program, &figures::of(machine), &registers);
            }
        }
    }
}

#[test]
fn dram_hardly_stands_still_between_kernels() {
    let compilation = compiled(&Session::new(), &tests_folder().join("models/story-3m"), &npu(256, &[1]));
    let report = report(&compilation, &Contexts { tokens: vec![128], ..Contexts::default() });
    let bounds = &report.runs[0].bounds;
    // 1.30 when each kernel begins with its own loads.
    assert!(bounds.ratio < 1.15, "{} of the roofline", bounds.ratio);
}
