//! Truncated and bit-flipped files: an import of anything is a result or a report, never a panic.

use super::build::*;
use crate::import::Options;
use crate::import::onnx::import_bytes;
use crate::import::onnx::schema::{GraphProto, ModelProto, TensorProto};
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many mutated files are imported. `TILEWRIGHT_MUTATIONS` asks for more.
const MUTATIONS: usize = 10_000;

/// Models that between them use most families of operators.
fn models() -> Vec<ModelProto> {
    let scalar = |name: &str, number: i64| TensorProto { dims: vec![], ..ints(name, &[number]) };
    let shape_soup = model(
        vec![
            node("Shape", &["x"], &["s"], vec![]),
            node("Gather", &["s", "one"], &["d"], vec![]),
            node("Mul", &["d", "two"], &["dd"], vec![]),
            node("Concat", &["minus", "dd"], &["shape"], vec![int("axis", 0)]),
            node("Expand", &["x", "s"], &["e"], vec![]),
            node("Slice", &["e", "one", "dd", "one", "two"], &["sl"], vec![]),
            node("Reshape", &["sl", "minus"], &["y"], vec![]),
            node("Squeeze", &["dd"], &["d0"], vec![]),
            node("Range", &["zero", "d0", "step"], &["r"], vec![]),
            node("Tile", &["x", "twice"], &["t"], vec![]),
        ],
        vec![value("x", FLOAT, &["batch", "seq + 4"])],
        &["y", "r", "t"],
        vec![
            ints("one", &[1]),
            ints("two", &[2]),
            ints("minus", &[-1]),
            ints("twice", &[2, 3]),
            scalar("zero", 0),
            scalar("step", 1),
        ],
    );
    let body = GraphProto {
        name: Some("body".into()),
        input: vec![value("i", INT64, &[]), value("go", BOOL, &[]), value("v", FLOAT, &["2"])],
        output: vec![value("go", BOOL, &[]), value("next", FLOAT, &["2"])],
        node: vec![node("Add", &["v", "x"], &["next"], vec![])],
        ..GraphProto::default()
    };
    let control = model(
        vec![node("Loop", &["n", "", "x"], &["last"], vec![graph("body", body)])],
        vec![value("n", INT64, &[]), value("x", FLOAT, &["2"])],
        &["last"],
        vec![],
    );
    let mut bits = node(
        "MatMulNBits",
        &["x", "q", "sc"],
        &["y"],
        vec![int("K", 32), int("N", 4), int("bits", 4), int("block_size", 16)],
    );
    bits.domain = Some("com.microsoft".into());
    let mut packed = floats("q", &[4, 2, 8], &[]);
    packed.data_type = Some(2);
    packed.raw_data = Some(vec![0x5a; 64].into());
    let quantized = model(
        vec![
            bits,
            node("Softmax", &["y"], &["p"], vec![int("axis", -1)]),
            node("Split", &["p"], &["a", "b"], vec![int("num_outputs", 2), int("axis", 1)]),
        ],
        vec![value("x", FLOAT, &["b", "32"])],
        &["a", "b"],
        vec![packed, floats("sc", &[4, 2], &[0.5; 8])],
    );
    let convolution = model(
        vec![
            node("Conv", &["x", "w"], &["c"], vec![int("group", 1)]),
            node("GlobalAveragePool", &["c"], &["g"], vec![]),
            node("Flatten", &["g"], &["f"], vec![]),
            node("Gemm", &["f", "m"], &["y"], vec![int("transB", 1)]),
        ],
        vec![value("x", FLOAT, &["n", "3", "8", "8"])],
        &["y"],
        vec![floats("w", &[2, 3, 3, 3], &[0.1; 54]), floats("m", &[5, 2], &[1.0; 10])],
    );
    vec![shape_soup, control, quantized, convolution]
}

fn mutation_count() -> usize {
    std::env::var("TILEWRIGHT_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTATIONS)
}

fn mutate(bytes: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let below = |random: &mut ChaCha8Rng, limit: usize| (random.next_u64() % limit.max(1) as u64) as usize;
    for _ in 0..1 + below(random, 4) {
        let at = below(random, bytes.len());
        match below(random, 5) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] ^= 1 << below(random, 8),
            2 => bytes[at] = [0x00, 0x7f, 0x80, 0xff][below(random, 4)],
            3 => {
                // A run copied elsewhere: lengths and tags in wrong places.
                let length = below(random, 16).min(bytes.len() - at);
                let run = bytes[at..at + length].to_vec();
                let to = below(random, bytes.len());
                bytes.splice(to..to, run);
            }
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    bytes
}

#[test]
fn mutated_files_never_panic() {
    let count = mutation_count();
    let seeds: Vec<Vec<u8>> = models().iter().map(Message::encode_to_vec).collect();
    for (index, seed) in seeds.iter().enumerate() {
        let imported = import_bytes(seed.clone().into(), &Options::default());
        assert!(imported.is_ok(), "model {index} is fine before it is mutated: {:?}", imported.err());
    }
    let (taken, refused) = survive(&seeds, count);
    assert!(
        taken > count / 100 && refused > count / 4,
        "{taken} taken, {refused} refused: mutations are too mild or too wild"
    );
}

/// Imports mutations of the seeds in turn: how many were taken and how many refused.
fn survive(seeds: &[Vec<u8>], count: usize) -> (usize, usize) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..count {
        let bytes = mutate(&seeds[round % seeds.len()], &mut random);
        let result =
            catch_unwind(AssertUnwindSafe(|| import_bytes(bytes.clone().into(), &Options::default())));
        match result {
            Ok(Ok(_)) => taken += 1,
            Ok(Err(diagnostics)) => {
                assert!(!diagnostics.is_empty(), "a refusal says why");
                refused += 1;
            }
            Err(_) => panic!("mutation {round} panics: {bytes:?}"),
        }
    }
    (taken, refused)
}

#[test]
fn mutated_models_of_exporters_never_panic() {
    let root = std::env::var_os("TILEWRIGHT_MODELS").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/cases"),
        std::path::PathBuf::from,
    );
    let mut files: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("model.onnx"))
        .filter(|file| file.metadata().is_ok_and(|file| file.len() < 1 << 20))
        .collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "no models in {}", root.display());
    // Most bytes of these are weights, so fewer mutations matter than there are.
    survive(&seeds, mutation_count() / 20);
}
