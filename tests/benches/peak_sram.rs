//! What int8 convolution networks take of SRAM with and without cascades: `cargo bench -p tilewright-tests --bench peak_sram`.
//!
//! Beside them the most bytes of one layer's input and output, which no plan without cascades can be under, and the figure that Arm's
//! Vela prints for the same network where one is published: Arm's ML evaluation kit, docs/sections/memory_considerations.md, for the
//! clustered int8 ds_cnn_large of Arm's model zoo: "Total SRAM used 70.77 KiB". None was found for MobileNetV1 0.25 on 96x96 pixels.
//! Vela's figure holds the model's input; so does the column `with input`. Its weights stay in flash, ours pass through SRAM.

use harness::networks::{How, compile, max_live_bytes, written};
use std::time::Instant;
use tilewright::driver::OptimizeFor;
use tilewright::session::Session;
use tilewright::synthesize::convolutions::Network;

/// Network, Vela's SRAM in KiB, and an amount of SRAM between the least and what the fewest cycles take.
const NETWORKS: [(&str, Option<f64>, u64); 2] =
    [("mobilenet-v1-0.25-96", None, 40 << 10), ("ds-cnn-large", Some(70.77), 64 << 10)];

fn main() {
    let session = Session::new();
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    for (name, vela, between) in NETWORKS {
        let network = Network::find(name).unwrap_or_else(|| panic!("no network is called {name}"));
        let (_folder, source) = written(&network);
        let vela = vela.map_or("not published".to_string(), |kib| format!("{kib:.2} KiB"));
        println!("{name}: uncascaded max-live bound {:.2} KiB, Vela {vela}", kib(max_live_bytes(&network)));
        println!(
            "{:>12}{:>13}{:>10}{:>12}{:>13}{:>12}{:>14}{:>10}",
            "machine", "for", "cascades", "SRAM KiB", "with input", "cycles", "DRAM bytes", "ms"
        );
        let input_bytes = network.map_bytes()[0] as u64;
        for target in ["micro-npu", "npu-gen3"] {
            let (fast, small) = (OptimizeFor::Performance, OptimizeFor::Size);
            for (optimize_for, sram_bytes) in [(fast, None), (fast, Some(between)), (small, None)] {
                for cascades in [false, true] {
                    let start = Instant::now();
                    let how = How { target, optimize_for, cascades, sram_bytes };
                    let found = compile(&session, &source, how);
                    println!(
                        "{target:>12}{:>13}{:>10}{:>12.2}{:>13.2}{:>12}{:>14}{:>10.0}",
                        match sram_bytes {
                            Some(bytes) => format!("in {} KiB", bytes >> 10),
                            None => format!("{optimize_for:?}").to_lowercase(),
                        },
                        if cascades { "yes" } else { "no" },
                        kib(found.sram_bytes),
                        kib(found.sram_bytes + input_bytes),
                        found.cycles,
                        found.traffic_bytes,
                        start.elapsed().as_secs_f64() * 1e3
                    );
                }
            }
        }
        println!();
    }
}
