//! Signal to noise of a compiled model inside, layer by layer: where does it leave its original?
//!
//! Works on the taps of two compilations of one model ([`super::taps`]). Knows no terminal.
//!
//! ```text
//! SQNR = 10 log10(sum original^2 / sum (original - found)^2) over all elements of a value and all windows, in dB
//! own noise of a product = noise/signal after it - noise/signal of the residual stream before it, at least 0
//! ```

use super::subject::{Runner, Subject};
use super::taps::Tap;
use super::windows::Windows;
use serde::Serialize;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;

/// One value inside the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRow {
    /// The ONNX node that makes it.
    pub node: String,
    /// Whether it is a product with a weight; else a sum of the residual stream.
    pub is_product: bool,
    /// Signal to noise ratio; infinite when equal.
    pub sqnr_db: f64,
    /// Of a product: by how much the ratio of noise to signal is larger than in the residual stream before it.
    pub own_noise: f64,
}

/// Runs windows on both; both must have been compiled with taps, from the same model by the same plan of chunks. Of a window that takes
/// several runs the last one is compared.
///
/// # Errors
/// When a model cannot run a window, or lacks a value that the other has.
pub fn compare(
    original: &Subject,
    found: &Subject,
    windows: &Windows,
    count: usize,
) -> Result<Vec<LayerRow>, Diagnostics> {
    let problem = |what: String| vec![Diagnostic::error(Location::Unknown, what)];
    let (mut first, mut second) = (original.runner()?, found.runner()?);
    let taps = original.taps();
    let mut sums = vec![[0.0f64; 2]; taps.len()];
    for index in 0..count.min(windows.count()) {
        let (tokens, _) = windows.get(index);
        for runner in [&mut first, &mut second] {
            runner.logits(tokens).map_err(problem)?;
        }
        for (tap, sums) in taps.iter().zip(&mut sums) {
            let expected = value(&mut first, tap).map_err(problem)?;
            let found = value(&mut second, tap).map_err(problem)?;
            if expected.len() != found.len() {
                let (expected, found) = (expected.len(), found.len());
                return Err(problem(format!("'{}' has {expected} and {found} elements", tap.node)));
            }
            for (&expected, &found) in expected.iter().zip(&found) {
                let (expected, found) = (f64::from(expected), f64::from(found));
                sums[0] += expected * expected;
                sums[1] += (expected - found) * (expected - found);
            }
        }
    }
    Ok(rows(taps, &sums))
}

fn value(runner: &mut Runner<'_>, tap: &Tap) -> Result<Vec<f32>, String> {
    let Runner::Artifact(model) = runner else {
        return Err("the reference evaluator gives no values from inside".into());
    };
    Ok(model.session_mut().output(&tap.output).map_err(|error| error.to_string())?.to_f32())
}

/// From sums of squares of signal and noise.
fn rows(taps: &[Tap], sums: &[[f64; 2]]) -> Vec<LayerRow> {
    let mut stream_noise = 0.0;
    let row = |(tap, [signal, noise]): (&Tap, &[f64; 2])| {
        let ratio = if *noise == 0.0 { 0.0 } else { noise / signal };
        let own_noise = if tap.is_product { (ratio - stream_noise).max(0.0) } else { 0.0 };
        if !tap.is_product {
            stream_noise = ratio;
        }
        let sqnr_db = if ratio == 0.0 { f64::INFINITY } else { -10.0 * ratio.log10() };
        LayerRow { node: tap.node.to_string(), is_product: tap.is_product, sqnr_db, own_noise }
    };
    taps.iter().zip(sums).map(row).collect()
}

/// The part of a node's name that says its layer: up to the first number in it (`model.layers.3` of `model.layers.3.mlp/MatMul`), or
/// the path before the last slash when there is none.
pub fn layer_of(node: &str) -> &str {
    let mut start = 0;
    for part in node.split_inclusive(['.', '/']) {
        let end = start + part.trim_end_matches(['.', '/']).len();
        if node[start..end].bytes().all(|byte| byte.is_ascii_digit()) && end > start {
            return &node[..end];
        }
        start += part.len();
    }
    node.rsplit_once('/').map_or(node, |(path, _)| path)
}

/// The first value below a threshold, in the order of the graph.
pub fn first_below(rows: &[LayerRow], least_db: f64) -> Option<&LayerRow> {
    rows.iter().find(|row| row.sqnr_db.is_nan() || row.sqnr_db < least_db)
}

/// Products to keep at 8 bits: of the layer where the model first falls below the threshold, those with at least an even share of the
/// noise that its products add; arguments of `--quantize-override`.
pub fn suggestions(rows: &[LayerRow], least_db: f64) -> Vec<String> {
    let Some(first) = first_below(rows, least_db) else { return Vec::new() };
    let layer = layer_of(&first.node);
    let products: Vec<&LayerRow> =
        rows.iter().filter(|row| row.is_product && layer_of(&row.node) == layer).collect();
    let mean = products.iter().map(|row| row.own_noise).sum::<f64>() / products.len().max(1) as f64;
    let loud = products.iter().filter(|row| row.own_noise >= mean);
    loud.map(|row| format!("{}=int8", row.node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(node: &str, is_product: bool) -> Tap {
        Tap { node: node.into(), output: String::new(), is_product }
    }

    #[test]
    fn noise_is_attributed_to_the_products_that_add_it() {
        let taps = [
            tap("m.layers.0.q/MatMul", true),
            tap("m.layers.0/Add", false),
            tap("m.layers.1.up/MatMul", true),
            tap("m.layers.1.down/MatMul", true),
            tap("m.layers.1/Add", false),
        ];
        let rows = rows(&taps, &[[1.0, 0.0], [10.0, 0.01], [10.0, 0.02], [10.0, 1.0], [10.0, 0.5]]);
        assert_eq!(rows[0].sqnr_db, f64::INFINITY);
        assert!((rows[1].sqnr_db - 30.0).abs() < 1e-9 && (rows[3].sqnr_db - 10.0).abs() < 1e-9);
        assert!((rows[2].own_noise - 0.001).abs() < 1e-12 && (rows[3].own_noise - 0.099).abs() < 1e-12);
        assert_eq!(first_below(&rows, 20.0).map(|row| row.node.as_str()), Some("m.layers.1.down/MatMul"));
        assert_eq!(suggestions(&rows, 20.0), ["m.layers.1.down/MatMul=int8"]);
        assert!(first_below(&rows, 5.0).is_none() && suggestions(&rows, 5.0).is_empty());
    }

    #[test]
    fn a_layer_is_the_path_to_its_number() {
        assert_eq!(layer_of("model.layers.12.mlp.down_proj/node_linear"), "model.layers.12");
        assert_eq!(layer_of("/model/layers.3/attn/MatMul"), "/model/layers.3");
        assert_eq!(layer_of("lm_head/MatMul_2"), "lm_head");
        assert_eq!(layer_of("MatMul_7"), "MatMul_7");
    }
}
