//! What one decoder layer of the 1 B shape moves from and to DRAM stays near bounds and near the best that a search of its own finds.

use harness::layer_traffic::{Models, compulsory_bytes, exhaustive_bytes, kernel_bytes};
use tilewright::session::Session;

/// Tokens, SRAM, and the most that a layer may move: of what its ops must, and of the best of all tiles.
const LIMITS: &[(usize, u64, f64, f64)] = &[
    (1, 256, 1.01, 1.01),
    (1, 512, 1.01, 1.01),
    (1, 1024, 1.01, 1.01),
    (1, 4096, 1.01, 1.01),
    (128, 256, 1.75, 1.02),
    (128, 512, 1.10, 1.02),
    (128, 1024, 1.05, 1.02),
    (128, 4096, 1.01, 1.02),
    (512, 256, 3.75, 1.02),
    (512, 512, 2.45, 1.02),
    (512, 1024, 1.65, 1.02),
    (512, 4096, 1.10, 1.02),
];

#[test]
fn a_layer_moves_little_more_than_it_must() {
    let (session, models) = (Session::new(), Models::write());
    let mut faults = Vec::new();
    for kib in [256, 512, 1024, 4096] {
        let limits: Vec<_> = LIMITS.iter().filter(|limit| limit.1 == kib).collect();
        let tokens: Vec<usize> = limits.iter().map(|limit| limit.0).collect();
        let layers = models.layers(&session, &tokens, kib << 10);
        assert_eq!(layers.len(), limits.len());
        for ((tokens, _, of_ops, of_best), layer) in limits.into_iter().zip(layers) {
            let m = *tokens as u64;
            let found = layer.dram_bytes as f64;
            let ratios = [found / compulsory_bytes(m) as f64, found / exhaustive_bytes(m, kib << 10) as f64];
            if ratios[0] > *of_ops || ratios[1] > *of_best {
                faults
                    .push(format!("{tokens} tokens, {kib} KiB: {ratios:.3?} above {:?}", [of_ops, of_best]));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn bounds_are_in_order() {
    for (m, sram_bytes) in [(1, 256 << 10), (128, 512 << 10), (512, 4 << 20)] {
        let (least, best) = (kernel_bytes(m), exhaustive_bytes(m, sram_bytes));
        assert!(least <= best, "{m} tokens: {least} > {best}");
        assert!(best <= exhaustive_bytes(m, sram_bytes / 2), "{m} tokens: more SRAM moves more");
    }
}
