//! The described machines on recorded models: all compile, agree as closely as what they compute in allows, and do on their engines what
//! their descriptions say they can.

use super::{HEAVY_OPS, all_cases, as_recorded, compiled, list, npu, read};
use harness::recorded::tests_folder;
use tilewright::driver::CompileOptions;
use tilewright::execute::{On, execute};
use tilewright::metrics::compare;
use tilewright::model::Source;
use tilewright::quantize::QuantizeOptions;
use tilewright::session::Session;
use tilewright_passes::machine::Machine;
use tilewright_targets::machines;

/// Signal to noise that a machine with 11 bits of mantissa keeps through a model of a few layers, where results are not as close as f16's
/// own: models that round activations to 8 bits fall on the neighbouring step now and then, at each of some thirty places.
const SQNR_DB_MIN: f64 = 25.0;

fn described(session: &Session) -> Vec<Machine> {
    machines::descriptions().map(|(name, _)| session.target(name).expect("a target").machine()).collect()
}

#[test]
fn recorded_cases_agree_on_the_described_machines() {
    let session = Session::new();
    let (mut faults, mut agreed) = (Vec::new(), 0);
    for (name, folder) in all_cases() {
        let case = read(&folder);
        if case.outputs.is_empty() {
            continue;
        }
        // npu-gen3 itself has a test of its own, with closer tolerances.
        for machine in described(&session).iter().skip(1) {
            let on = machine.name.as_str();
            let options = CompileOptions { target: on.into(), ..as_recorded(&name) };
            let source = Source::Onnx(case.model.clone());
            let found = match execute(&session, &source, &case.inputs, &On::Target(&options)) {
                Ok(found) => found,
                Err(problems) => {
                    faults.push(format!("{name} on {on}: {}", list(&problems)));
                    continue;
                }
            };
            assert_eq!(found.len(), case.outputs.len(), "{name} on {on}");
            for (index, (found, expected)) in found.iter().zip(&case.outputs).enumerate() {
                match compare(found, expected, 1e-2, 1e-2) {
                    Ok(one) if one.mismatches == 0 || one.sqnr_db >= SQNR_DB_MIN => agreed += 1,
                    Ok(one) => faults.push(format!("{name} on {on}: output {index}: {:.1} dB", one.sqnr_db)),
                    Err(problem) => faults.push(format!("{name} on {on}: output {index}: {problem}")),
                }
            }
        }
    }
    println!("{agreed} outputs agree");
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn quantised_weights_stay_packed_where_floats_are_narrowed() {
    let session = Session::new();
    let model = tests_folder().join("models/story-draft");
    for machine in described(&session).iter().filter(|machine| machine.narrower_float().is_some()) {
        let stored = |preset: Option<&str>| {
            let quantize =
                preset.map(|preset| QuantizeOptions { preset: preset.into(), ..Default::default() });
            let options = CompileOptions { target: machine.name.clone(), quantize, ..npu(128, &[1]) };
            let compilation = compiled(&session, &model, &options);
            let heavy = |op: &str| HEAVY_OPS.iter().any(|heavy| op.starts_with(heavy));
            for row in &compilation.programs[0].placement.rows {
                let is_on_host = heavy(&row.op) && row.target == "host";
                assert!(!is_on_host, "{} {preset:?}: {}: {}", machine.name, row.op, row.reason);
            }
            let folder = tempfile::tempdir().expect("a temporary folder");
            compilation.write(&folder.path().join("draft.npu")).unwrap_or_else(|problem| panic!("{problem}"))
        };
        let (float, int8, int4) = (stored(None), stored(Some("w8a16")), stored(Some("int4")));
        assert!(int8 * 10 < float * 7 && int4 < int8, "{}: {float}, {int8}, {int4} bytes", machine.name);
    }
}

#[test]
fn machines_with_floats_run_a_language_model_on_their_engines() {
    let session = Session::new();
    let model = tests_folder().join("models/story-3m");
    for machine in described(&session) {
        let options = CompileOptions { target: machine.name.clone(), ..npu(256, &[1]) };
        let compilation = compiled(&session, &model, &options);
        let rows = &compilation.programs[0].placement.rows;
        let heavy = |op: &str| HEAVY_OPS.iter().any(|heavy| op.starts_with(heavy));
        let on_host = rows.iter().filter(|row| heavy(&row.op) && row.target == "host").count();
        let has_floats = machine.mac_rates.iter().any(|rate| rate.activation.is_float());
        if has_floats {
            assert_eq!(on_host, 0, "{}: {rows:?}", machine.name);
        } else {
            assert!(on_host > 0, "{} has no floats", machine.name);
            let reasons: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
            assert!(reasons.iter().any(|reason| reason.contains(&machine.name)), "{reasons:?}");
        }
    }
}
