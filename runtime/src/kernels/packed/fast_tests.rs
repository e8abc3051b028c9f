//! Every fast kernel against the portable path: odd extents, tails, saturating values, blocks of zeros, strided operands.

use super::testing::{Strided, pack, pack_factors, strided};
use super::x86::TileKernels;
use super::*;
use crate::element::Element;
use crate::kernels::cpu::{Feature, Features};
use crate::kernels::pool::Pool;
use crate::random::Random;
use proptest::prelude::*;
use std::sync::Arc;

/// Zero points: none, one for all, or one per block and column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Zeros {
    None,
    One,
    All,
}

/// How one product is made. Extents are counted in the layout's steps where floats ask for it.
#[derive(Clone, Debug)]
struct Case {
    destination: Element,
    a: Element,
    b: Element,
    scale: Option<Element>,
    zeros: Zeros,
    has_one_scale: bool,
    has_codebook: bool,
    dims: [usize; 4],
    block: usize,
    is_strided: bool,
    accumulate: bool,
    threads: usize,
    seed: u64,
}

/// Numbers with many extremes, some blocks of which are all zero.
fn numbers(element: Element, count: usize, random: &mut Random) -> Vec<f64> {
    let range = element.integer_range().map(|(low, high)| (low as f64, high as f64));
    (0..count)
        .map(|at| match (range, random.next_f64()) {
            _ if at / 40 % 5 == 3 => 0.0,
            (Some((low, _)), coin) if coin < 0.2 => low,
            (Some((_, high)), coin) if coin < 0.4 => high,
            (Some((low, high)), _) => (low + random.next_f64() * (high - low)).round(),
            (None, _) => random.next_f64() * 2.0 - 1.0,
        })
        .collect()
}

/// The bytes of the result by a processor with these features, and whether a fast kernel takes the case there.
fn run(case: &Case, features: Features) -> (Vec<u8>, bool) {
    run_with(case, features, None)
}

/// The same, with kernels on tiles.
fn run_with(case: &Case, features: Features, tiles: Option<TileKernels>) -> (Vec<u8>, bool) {
    let [batch, m, n, k] = case.dims;
    let mut random = Random::new(case.seed);
    let layout = Layout::of(case.b).expect("known");
    let gap = usize::from(case.is_strided) * 5;
    let a_step = if case.is_strided { 2 } else { 1 };
    let a_strides = [m * (k + gap) * a_step, (k + gap) * a_step, a_step];
    let a = strided(case.a, &[batch, m, k], &a_strides, &numbers(case.a, batch * m * k, &mut random));
    let b = pack(case.b, &layout, &numbers(case.b, batch * k * n, &mut random), [batch, k, n], 1.0);
    let blocks = if case.block == 0 { 1 } else { k.div_ceil(case.block) };
    let scale = case.scale.map(|element| {
        if case.has_one_scale {
            let dims = [batch, n.div_ceil(layout.columns), blocks, layout.columns];
            return strided(element, &dims, &[0; 4], &[-0.375]);
        }
        let scales = numbers(element, batch * blocks * n, &mut random);
        pack_factors(element, layout.columns, &scales, [batch, blocks, n])
    });
    let zero_element = if case.b.is_float() { Element::F32 } else { case.b };
    let zero = match case.zeros {
        Zeros::None => None,
        Zeros::All => {
            let zeros = numbers(zero_element, batch * blocks * n, &mut random);
            Some(pack_factors(zero_element, layout.columns, &zeros, [batch, blocks, n]))
        }
        Zeros::One => {
            let dims = [batch, n.div_ceil(layout.columns), blocks, layout.columns];
            let mut zero = Strided::zeros(zero_element, &dims, &[0; 4]);
            zero.set(&[0; 4], 3.0);
            Some(zero)
        }
    };
    let codebook = case.has_codebook.then(|| {
        let levels: Vec<f64> = (0..16).map(|_| random.next_f64() * 4.0 - 2.0).collect();
        strided(Element::F32, &[16], &[1], &levels)
    });
    let mut out = Strided::zeros(case.destination, &[batch, m, n], &[m * (n + gap), n + gap, 1]);
    for at in 0..batch * m * n {
        out.set(&[at / (m * n), at / n % m, at % n], 0.25);
    }
    let (a, b) = (a.source(), b.source());
    let [scale, zero, codebook] = [&scale, &zero, &codebook].map(|part| part.as_ref().map(Strided::source));
    let b = Quantized {
        scale: scale.as_ref(),
        zero: zero.as_ref(),
        codebook: codebook.as_ref(),
        block: case.block,
        ..Quantized::plain(&b)
    };
    let mut workspace = Workspace::with_pool(Arc::new(Pool::new(case.threads)));
    let problem = check(&out.destination(), &a, &b).expect("fits");
    let plan = match tiles {
        None => fast::plan(features, case.destination, case.a, &b, &problem),
        tiles => fast::plan_with(features, tiles, case.destination, case.a, &b, &problem),
    };
    let is_fast = plan.is_some();
    if let (Some(plan), true) = (&plan, tiles.is_some()) {
        assert_eq!(
            plan.kernels.interleaves,
            case.zeros == Zeros::All,
            "on tiles, or not, against what was meant"
        );
    }
    match plan.filter(|_| tiles.is_some()) {
        Some(plan) => {
            fast::product(&mut out.destination(), &a, &b, (&problem, &plan), case.accumulate, &mut workspace)
        }
        None => matmul_by(features, &mut out.destination(), &a, &b, case.accumulate, &mut workspace),
    }
    .expect("fits");
    (out.bytes().to_vec(), is_fast)
}

/// Sets of features that this processor has, from much to little.
fn processors() -> Vec<Features> {
    let sets = ["avx2,avx512,avx512_vnni,avx512_bf16", "avx2,avx512", "avx2,avx_vnni", "avx2"];
    let sets = sets.map(|set| Features::parse(set).expect("known names"));
    sets.into_iter().filter(|set| set.and(Features::detected()) == *set).collect()
}

/// Sums of pairs in another order.
fn assert_close(case: &Case, found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.chunks_exact(4).zip(expected.chunks_exact(4)) {
        let [found, expected] =
            [found, expected].map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four")));
        let room = 1e-2 * expected.abs().max(4.0);
        assert!((found - expected).abs() <= room, "{found} and {expected}: {case:?}");
    }
}

fn compare(case: &Case) {
    let (expected, _) = run(case, Features::NONE);
    for features in processors() {
        let (found, is_fast) = run(case, features);
        // Only what is given up for the order of sums or for rare extents may be slow.
        let needs_vnni = case.a == Element::I8 && !features.has(Feature::Avx2);
        assert!(is_fast || needs_vnni, "no fast kernel for {case:?} with {features}");
        if case.a == Element::BF16 && features.has(Feature::Avx512Bf16) {
            assert_close(case, &found, &expected);
        } else {
            assert!(found == expected, "other bits for {case:?} with {features}");
        }
    }
}

fn integer_cases() -> impl Strategy<Value = Case> {
    use Element as E;
    let kinds = prop_oneof![Just(E::I4), Just(E::U4), Just(E::I8), Just(E::U8)];
    let zeros = prop_oneof![Just(Zeros::None), Just(Zeros::One), Just(Zeros::All)];
    let parts = (
        kinds,
        zeros,
        prop_oneof![Just(E::F16), Just(E::F32), Just(E::BF16)],
        prop_oneof![Just(E::F32), Just(E::BF16)],
    );
    let extents = (1usize..3, 1usize..20, 1usize..150, 1usize..90, 0usize..5);
    (parts, extents, any::<[bool; 3]>(), 1usize..4, any::<u64>()).prop_map(
        |(
            (b, zeros, scale, destination),
            (batch, m, n, eights, block),
            [is_strided, accumulate, is_third],
            threads,
            seed,
        )| {
            // Blocks of whole lines; all of k at once, also when it is no whole number of lines.
            let (k, block) = match block {
                0 => (eights * 7 + 1, 0),
                1 => (eights * 8 + 3, 32),
                2 => (eights * 8, 8),
                3 => (eights * 16, 512),
                _ => (eights * 8, 64),
            };
            Case {
                destination,
                a: E::I8,
                b,
                scale: Some(scale),
                zeros,
                has_one_scale: is_third,
                has_codebook: false,
                dims: [batch, m, n, k],
                block,
                is_strided,
                accumulate,
                threads,
                seed,
            }
        },
    )
}

fn float_cases() -> impl Strategy<Value = Case> {
    use Element as E;
    let kinds = prop_oneof![
        Just((E::I4, false)),
        Just((E::U4, false)),
        Just((E::U4, true)),
        Just((E::NF4, false)),
        Just((E::I8, false)),
        Just((E::U8, false)),
        Just((E::BF16, false)),
        Just((E::F16, false)),
        Just((E::F32, false)),
    ];
    let zeros = prop_oneof![Just(Zeros::None), Just(Zeros::One), Just(Zeros::All)];
    let scales = prop_oneof![Just(None), Just(Some(E::F16)), Just(Some(E::F32)), Just(Some(E::BF16))];
    let left = prop_oneof![Just(E::F32), Just(E::F16), Just(E::BF16)];
    let extents = (1usize..3, 1usize..20, 1usize..150, 1usize..40, 0usize..4);
    ((kinds, zeros, scales, left), extents, any::<[bool; 3]>(), 1usize..4, any::<u64>()).prop_map(
        |(
            ((b, has_codebook), zeros, scale, a),
            (batch, m, n, eights, block),
            [is_strided, accumulate, is_third],
            threads,
            seed,
        )| {
            let has_zeros = !b.is_float() && !has_codebook && scale.is_some();
            Case {
                destination: E::F32,
                a,
                b,
                scale,
                zeros: if has_zeros { zeros } else { Zeros::None },
                has_one_scale: is_third && scale.is_some(),
                has_codebook,
                dims: [batch, m, n, eights * 8],
                block: if scale.is_some() { [0, 8, 32, 128][block] } else { 0 },
                is_strided,
                accumulate,
                threads,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn integer_kernels_give_the_portable_bits(case in integer_cases()) {
        compare(&case);
    }

    #[test]
    fn float_kernels_give_the_portable_bits(case in float_cases()) {
        compare(&case);
    }
}

#[test]
fn tiles_give_the_portable_bits() {
    let mut seed = 0;
    for (b, zeros, accumulate) in [
        (Element::I4, Zeros::None, true),
        (Element::U4, Zeros::One, false),
        (Element::I8, Zeros::None, false),
        // Not for tiles: the other kernels take it.
        (Element::U4, Zeros::All, true),
    ] {
        // Parts of tiles, several, an odd number of pieces, more than one chunk; rows that fill no tile, and more than one block.
        for (m, n, k, block) in
            [(16, 33, 96, 32), (70, 16, 64, 64), (17, 40, 384, 128), (130, 20, 1280, 256), (33, 16, 1056, 32)]
        {
            seed += 1;
            let case = Case {
                destination: Element::F32,
                a: Element::I8,
                b,
                scale: Some(Element::F16),
                zeros,
                has_one_scale: false,
                has_codebook: false,
                dims: [1, m, n, k],
                block,
                is_strided: seed % 2 == 0,
                accumulate,
                threads: 2,
                seed,
            };
            let (expected, _) = run(&case, Features::NONE);
            if Features::detected().has(Feature::Avx512) {
                let (found, is_fast) = run_with(&case, Features::detected(), Some(x86::model_tile_kernels()));
                assert!(is_fast && found == expected, "other bits on the model for {case:?}");
            }
            if Features::detected().has(Feature::AmxInt8) {
                let (found, _) = run(&case, Features::detected());
                assert!(found == expected, "other bits on tiles for {case:?}");
            }
        }
    }
}

#[test]
fn pairs_on_tiles_are_close_and_do_not_depend_on_rows() {
    if !Features::detected().has(Feature::Avx512) {
        return;
    }
    for (b, scale, block, k) in [
        (Element::I4, Some(Element::F16), 32, 160),
        (Element::U4, Some(Element::F32), 128, 640),
        (Element::I8, Some(Element::F16), 64, 128),
        (Element::BF16, None, 0, 96),
        (Element::BF16, None, 0, 1056),
    ] {
        for m in [1, 5, 16, 70] {
            let case = Case {
                destination: Element::F32,
                a: Element::BF16,
                b,
                scale,
                zeros: if b == Element::U4 { Zeros::One } else { Zeros::None },
                has_one_scale: false,
                has_codebook: false,
                dims: [1, m, 40, k],
                block,
                is_strided: m == 5,
                accumulate: m != 1,
                threads: 2,
                seed: 5,
            };
            let (expected, _) = run(&case, Features::NONE);
            let (found, is_fast) = run_with(&case, Features::detected(), Some(x86::model_tile_kernels()));
            assert!(is_fast);
            assert_close(&case, &found, &expected);
        }
        if block == 32 {
            let case = |m: usize| Case { dims: [1, m, 40, k], ..equal_rows_case(Element::BF16, b) };
            let one = run_equal_rows(&case(1), Features::detected(), Some(x86::model_tile_kernels()));
            let many = run_equal_rows(&case(20), Features::detected(), Some(x86::model_tile_kernels()));
            assert!(many.chunks_exact(one.len()).all(|row| row == one), "{b}");
        }
    }
}

#[test]
fn rows_do_not_depend_on_how_many_there_are() {
    for (a, b) in [
        (Element::I8, Element::I4),
        (Element::F32, Element::I4),
        (Element::BF16, Element::I4),
        (Element::BF16, Element::BF16),
    ] {
        let case = |m: usize| Case { dims: [1, m, 48, 128], ..equal_rows_case(a, b) };
        for features in processors() {
            let nine = run_equal_rows(&case(9), features, None);
            let one = run_equal_rows(&case(1), features, None);
            for row in nine.chunks_exact(one.len()) {
                assert_eq!(row, one, "{a} {b} {features}");
            }
        }
    }
}

fn equal_rows_case(a: Element, b: Element) -> Case {
    Case {
        destination: Element::F32,
        a,
        b,
        scale: Some(Element::F16),
        zeros: Zeros::None,
        has_one_scale: false,
        has_codebook: false,
        dims: [1, 1, 48, 128],
        block: 32,
        is_strided: false,
        accumulate: false,
        threads: 2,
        seed: 7,
    }
}

/// As [`run_with`], with every row of a the same.
fn run_equal_rows(case: &Case, features: Features, tiles: Option<TileKernels>) -> Vec<u8> {
    let [_, m, n, k] = case.dims;
    let mut random = Random::new(case.seed);
    let layout = Layout::of(case.b).expect("known");
    let row = numbers(case.a, k, &mut random);
    let b = pack(case.b, &layout, &numbers(case.b, k * n, &mut random), [1, k, n], 1.0);
    let blocks = k.div_ceil(case.block);
    let scale = pack_factors(
        Element::F16,
        layout.columns,
        &numbers(Element::F16, blocks * n, &mut random),
        [1, blocks, n],
    );
    let a = strided(case.a, &[1, m, k], &[m * k, k, 1], &row.repeat(m));
    let (a, b, scale) = (a.source(), b.source(), scale.source());
    let b = Quantized { scale: Some(&scale), block: case.block, ..Quantized::plain(&b) };
    let mut out = Strided::zeros(case.destination, &[1, m, n], &[m * n, n, 1]);
    let mut workspace = Workspace::with_pool(Arc::new(Pool::new(case.threads)));
    let problem = check(&out.destination(), &a, &b).expect("fits");
    let tiles = tiles.or_else(|| x86::tile_kernels(features));
    let plan = fast::plan_with(features, tiles, case.destination, case.a, &b, &problem).expect("fast");
    fast::product(&mut out.destination(), &a, &b, (&problem, &plan), false, &mut workspace).expect("fits");
    out.bytes().to_vec()
}
