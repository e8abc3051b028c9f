//! Quantised convolution networks: they run on integers, feature maps stay in SRAM, cascades take less of it than any two maps side by
//! side, and all ways to run them give the same bits. Random chains of windows, strides, dilations and residuals, under little SRAM.

use harness::networks::{How, compile, input, max_live_bytes, written};
use std::fmt::Write;
use tilewright::driver::{CompileOptions, OptimizeFor};
use tilewright::execute::{On, execute};
use tilewright::session::Session;
use tilewright::synthesize::convolutions::{Network, networks};
use tilewright_ir::sample::Sampler;

/// Steps of 1/255 that the integers may be away from floats that are rounded after every op: a tie here and there.
const STEPS_OFF_MAX: i64 = 1;

#[test]
fn networks_run_on_integers_and_agree_with_the_floats_of_the_model() {
    let session = Session::new();
    for network in networks() {
        let (_folder, source) = written(&network);
        let input = input(&network);
        let options = CompileOptions::default();
        let expected = execute(&session, &source, std::slice::from_ref(&input), &On::Reference(&options));
        let expected = expected.unwrap_or_else(|problems| panic!("{}", problems[0]));
        let spread = expected[0].ints().iter().max().unwrap() - expected[0].ints().iter().min().unwrap();
        assert!(spread > 4, "{}: {:?} tells nothing apart", network.name, expected[0].ints());
        let mut first = None;
        for target in ["npu-gen3", "micro-npu"] {
            for optimize_for in [OptimizeFor::Performance, OptimizeFor::Size] {
                for cascades in [true, false] {
                    let how = How { target, optimize_for, cascades, sram_bytes: None };
                    let compiled = compile(&session, &source, how);
                    let found = compiled.run(&input);
                    for (found, expected) in found[0].ints().iter().zip(expected[0].ints()) {
                        assert!((found - expected).abs() <= STEPS_OFF_MAX, "{} {how:?}", network.name);
                    }
                    // The same bits, however it is cut.
                    let first = first.get_or_insert_with(|| found[0].ints());
                    assert_eq!(&found[0].ints(), first, "{} {how:?}", network.name);
                    let on_host = compiled.on_host();
                    assert!(
                        on_host.iter().all(|op| op == "core.quantize"),
                        "{} {how:?}: {on_host:?}",
                        network.name
                    );
                }
            }
        }
    }
}

#[test]
fn cascades_take_less_sram_than_two_maps_side_by_side() {
    let session = Session::new();
    for name in ["mobilenet-v1-0.25-96", "ds-cnn-large"] {
        let network = Network::find(name).expect("a network");
        let (_folder, source) = written(&network);
        for target in ["npu-gen3", "micro-npu"] {
            let plan = |cascades| {
                let how = How { target, optimize_for: OptimizeFor::Size, cascades, sram_bytes: None };
                compile(&session, &source, how)
            };
            let (together, apart) = (plan(true), plan(false));
            // The bound counts the model's input, which lies outside of SRAM here.
            let input_bytes = network.map_bytes()[0] as u64;
            let bound = max_live_bytes(&network);
            assert!(together.sram_bytes + input_bytes < bound, "{name} on {target}: {}", together.sram_bytes);
            assert!(together.sram_bytes < apart.sram_bytes, "{name} on {target}");
            // Only what lies between the last kernels, a vector, is in DRAM.
            assert!(together.dram_bytes <= 1024, "{name} on {target}: {} bytes", together.dram_bytes);
        }
    }
}

/// A chain of convolutions, pools and residuals as IR text.
fn random_chain(random: &mut Sampler) -> String {
    let mut dims = [random.below(1, 5), random.below(8, 30), random.below(4, 12)];
    let ty = |dims: [i64; 3]| format!("tensor<1x{}x{}x{}xf32>", dims[0], dims[1], dims[2]);
    let (mut body, mut arguments) = (String::new(), vec![("%x".to_string(), ty(dims))]);
    let mut values = vec![("%x".to_string(), dims)];
    for at in 0..random.below(2, 7) {
        let (x, from) = values.last().expect("a value").clone();
        let window = [random.below(1, 4), random.below(1, 4)];
        let strides = [random.below(1, 3), random.below(1, 3)];
        let dilation = random.below(1, 3);
        let reach = window.map(|length| (length - 1) * dilation);
        let low = reach.map(|reach| random.below(0, reach + 1));
        let high = reach.map(|reach| random.below(0, reach + 1));
        let length = |axis: usize| {
            (dims[axis + 1] + low[axis] + high[axis] - reach[axis] - 1).div_euclid(strides[axis]) + 1
        };
        let (rows, columns) = (length(0), length(1));
        if rows < 2 || columns < 2 {
            break;
        }
        let list = |pair: [i64; 2]| format!("array<i64: {}, {}>", pair[0], pair[1]);
        let mut attributes = format!(
            "dilations = {}, pads_high = {}, pads_low = {}, strides = {}",
            list([dilation, dilation]),
            list(high),
            list(low),
            list(strides)
        );
        let y = format!("%y{at}");
        let kind = random.below(0, 4);
        let channels = if kind == 0 { random.below(1, 6) } else { from[0] };
        dims = [channels, rows, columns];
        if kind == 3 && low.iter().chain(&high).all(|pad| *pad == 0) {
            let _ = writeln!(
                body,
                "{y} = \"core.pool\"({x}) <{{{attributes}, function = \"max\", kernel = {}}}> : ({}) -> {}",
                list(window),
                ty(from),
                ty(dims)
            );
        } else {
            let groups = if kind == 0 { 1 } else { channels };
            let w = format!("tensor<{channels}x{}x{}x{}xf32>", from[0] / groups, window[0], window[1]);
            let _ =
                write!(attributes, ", groups = {groups} : i64, operandSegmentSizes = array<i32: 1, 1, 0>");
            arguments.push((format!("%w{at}"), w.clone()));
            let _ = writeln!(
                body,
                "{y} = \"core.convolution\"({x}, %w{at}) <{{{attributes}}}> : ({}, {w}) -> {}",
                ty(from),
                ty(dims)
            );
        }
        values.push((y.clone(), dims));
        // Something of these dimensions from before is added.
        let earlier = values[1..values.len() - 1].iter().find(|known| known.1 == dims).cloned();
        if let Some((other, _)) = earlier.filter(|_| random.below(0, 3) > 0) {
            let sum = format!("%s{at}");
            let _ = writeln!(
                body,
                "{sum} = \"core.add\"({y}, {other}) : ({}, {}) -> {}",
                ty(dims),
                ty(dims),
                ty(dims)
            );
            values.push((sum, dims));
        }
    }
    let (last, result) = values.last().expect("a value").clone();
    // A second result from the middle now and then.
    let middle = values[values.len() / 2].clone();
    let mut results = vec![(last, ty(result))];
    if random.below(0, 3) == 0 && middle.0 != results[0].0 && middle.0 != "%x" {
        results.push((middle.0, ty(middle.1)));
    }
    let types =
        |list: &[(String, String)]| list.iter().map(|one| one.1.clone()).collect::<Vec<_>>().join(", ");
    let names =
        |list: &[(String, String)]| list.iter().map(|one| one.0.clone()).collect::<Vec<_>>().join(", ");
    let declared: Vec<String> = arguments.iter().map(|one| format!("{}: {}", one.0, one.1)).collect();
    format!(
        "\"builtin.module\"() ({{\n\"func.func\"() <{{function_type = ({}) -> ({}), sym_name = \"main\"}}> ({{\n^bb0({}):\n{body}\
         \"func.return\"({}) : ({}) -> ()\n}}) : () -> ()\n}}) : () -> ()\n",
        types(&arguments),
        types(&results),
        declared.join(", "),
        names(&results),
        types(&results)
    )
}

/// The harness evaluates each before, runs it with early and late transfers, and compares.
#[test]
fn random_chains_agree_under_little_sram() {
    let session = Session::new();
    let mut random = Sampler::new(23);
    let mut chained = 0;
    for case in 0..40 {
        let sram_bytes = [1 << 20, 8192, 4096][case % 3];
        let goal = if case % 2 == 0 { "size" } else { "performance" };
        let header = format!(
            "// pipeline: form-kernels\n// target: npu-gen3\n// sram: {sram_bytes}\n// optimize: {goal}\n"
        );
        let text = header + &random_chain(&mut random);
        let found = harness::corpus_file::run(&session, &format!("random chain {case}"), &text);
        assert!(!found.starts_with("does not"), "{found}\n{text}");
        chained += usize::from(found.contains("kernel chain "));
    }
    assert!(chained > 20, "{chained} chains");
}
