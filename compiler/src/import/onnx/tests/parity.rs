//! The models of the optional folder `../shared/models`, imported, evaluated and compared with their recorded outputs.
//!
//! Each case is a folder with `model.onnx`, `input_K.npy` and `output_K.npy`; subfolders hold other shapes for the same model.

use crate::import::onnx::import;
use crate::import::{Imported, Options};
use crate::npy;
use std::path::{Path, PathBuf};
use tilewright_ir::element::Element;
use tilewright_ir::evaluate;
use tilewright_ir::tensor::Tensor;

/// Cases whose recorded outputs are not what the operators define, with the reason. They must run all the same.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("genai-gemma2-int4", "an activation lies on the edge of two int8 steps"),
    ("genai-mistral-int4/prefill_p0", "an activation lies on the edge of two int8 steps"),
    ("whisper-decoder-torch18-qdq-i8", "a sum lies on the edge of two int8 steps"),
    ("a16w8", "sums in f32 fall on the neighbouring one of 65536 steps here and there"),
];

/// The worst difference of a result, in units of what is allowed.
struct Difference {
    largest: f64,
    ratio: f64,
}

fn tensors(folder: &Path, stem: &str) -> Vec<Tensor> {
    (0..)
        .map(|index| folder.join(format!("{stem}_{index}.npy")))
        .take_while(|path| path.exists())
        .map(|path| npy::read(&path).unwrap().tensor)
        .collect()
}

fn compare(expected: &Tensor, found: &Tensor) -> Result<Difference, String> {
    if expected.shape != found.shape || expected.element != found.element {
        return Err(format!("expected {}, found {}", expected.ty(), found.ty()));
    }
    let (relative, absolute) = if expected.element == Element::F16 { (1e-2, 1e-2) } else { (1e-3, 1e-4) };
    let mut difference = Difference { largest: 0.0, ratio: 0.0 };
    for index in 0..expected.len() {
        let (a, b) = (expected.float(index), found.float(index));
        if a.is_nan() != b.is_nan() {
            return Err(format!("element {index}: expected {a}, found {b}"));
        }
        let distance = (a - b).abs();
        if a != b && !a.is_nan() {
            difference.largest = difference.largest.max(distance);
            difference.ratio = difference.ratio.max(distance / (absolute + relative * a.abs()));
        }
    }
    Ok(difference)
}

/// Evaluates a model on one set of inputs: the worst ratio, or what went wrong.
fn run(imported: &Imported, folder: &Path) -> Result<Difference, String> {
    let (inputs, outputs) = (tensors(folder, "input"), tensors(folder, "output"));
    let found = evaluate::run(&imported.module, "main", &inputs).map_err(|error| error.to_string())?;
    if found.len() != outputs.len() {
        return Err(format!("expected {} outputs, found {}", outputs.len(), found.len()));
    }
    let mut worst = Difference { largest: 0.0, ratio: 0.0 };
    for (at, (expected, found)) in outputs.iter().zip(&found).enumerate() {
        let one = compare(expected, found).map_err(|what| format!("output {at}: {what}"))?;
        worst.largest = worst.largest.max(one.largest);
        worst.ratio = worst.ratio.max(one.ratio);
    }
    Ok(worst)
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// Where cases are looked for: the folder that `TILEWRIGHT_MODELS` names, else the reference folder beside the repository.
fn root() -> PathBuf {
    match std::env::var_os("TILEWRIGHT_MODELS") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models"),
    }
}

/// The ways of rounding activations: recorded outputs do not say which was in use.
const WAYS: &[(&str, bool, bool)] =
    &[("exact", false, false), ("int8", true, false), ("int8, fused", true, true)];

/// The model as each way makes it.
fn imports(case: &Path) -> Result<Vec<(&'static str, Imported)>, String> {
    WAYS.iter()
        .map(|(way, int8_activations, int8_activations_fused)| {
            let options = Options {
                int8_activations: *int8_activations,
                int8_activations_fused: *int8_activations_fused,
                ..Options::default()
            };
            import(case, &options).map(|imported| (*way, imported)).map_err(|diagnostics| {
                let shown: Vec<String> = diagnostics.iter().take(4).map(ToString::to_string).collect();
                format!("IMPORT {} errors\n{}", diagnostics.len(), shown.join("\n"))
            })
        })
        .collect()
}

/// The nearest of the ways.
fn best(imports: &[(&'static str, Imported)], folder: &Path) -> Result<(&'static str, Difference), String> {
    let mut best: Option<(&str, Difference)> = None;
    for (way, imported) in imports {
        let difference = run(imported, folder)?;
        let agrees = difference.ratio <= 1.0;
        if best.as_ref().is_none_or(|(_, best)| difference.ratio < best.ratio) {
            best = Some((way, difference));
        }
        if agrees {
            break;
        }
    }
    best.ok_or_else(|| "nothing was run".into())
}

#[test]
fn models_agree_with_their_recorded_outputs() {
    let mut failures = Vec::new();
    let (mut agreed, mut excepted, mut skipped) = (0, 0, 0);
    let only = std::env::var("TILEWRIGHT_CASE").unwrap_or_default();
    for case in folders(&root()).into_iter().filter(|case| case.to_string_lossy().contains(&only)) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let imports = imports(&case);
        for set in std::iter::once(case.clone()).chain(folders(&case)) {
            let label = if set == case {
                name.clone()
            } else {
                format!("{name}/{}", set.file_name().unwrap().to_string_lossy())
            };
            let is_excepted = EXCEPTIONS.iter().any(|(part, _)| label.contains(part));
            let result = match &imports {
                Ok(_) if !set.join("output_0.npy").exists() => {
                    println!("{label:<44} skipped: no recorded outputs");
                    skipped += 1;
                    continue;
                }
                Ok(imports) => best(imports, &set),
                Err(what) => Err(what.clone()),
            };
            match result {
                Ok((way, difference)) if difference.ratio <= 1.0 => {
                    println!("{label:<44} ok {:.1e} ({way})", difference.largest);
                    agreed += 1;
                }
                Ok((_, difference)) if is_excepted => {
                    println!("{label:<44} over by exception {:.1e}", difference.largest);
                    excepted += 1;
                }
                Ok((_, difference)) => {
                    let (largest, ratio) = (difference.largest, difference.ratio);
                    println!("{label:<44} OVER {largest:.1e}, {ratio:.0} times the tolerance");
                    failures.push(label);
                }
                Err(what) => {
                    println!("{label:<44} ERROR {what}");
                    failures.push(label);
                }
            }
        }
    }
    println!("{agreed} agree, {excepted} are excepted, {} do not, {skipped} skipped", failures.len());
    assert!(failures.is_empty(), "{failures:?}");
}
