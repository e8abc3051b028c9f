//! Every format on random tensors of odd sizes: bounds of the error, saturation, agreement of the two ways to count errors.

use super::*;
use crate::number;
use crate::weight_format::{BASES, Granularity, WeightFormat};
use proptest::prelude::*;

/// All formats with scales, in every granularity they take.
fn formats() -> Vec<WeightFormat> {
    let mut all = Vec::new();
    for base in BASES {
        let plain: WeightFormat = base.name.parse().unwrap();
        if plain.is_palette() {
            continue;
        }
        all.push(plain);
        if base.is_fixed {
            continue;
        }
        for granularity in [Granularity::Tensor, Granularity::Channel, Granularity::Group(32)] {
            all.push(plain.with_granularity(granularity));
        }
        if let Some(storage) = base.asymmetric {
            all.push(WeightFormat { storage, has_zero_point: true, ..plain });
        }
    }
    all
}

fn spec(format: WeightFormat, axis: usize, method: &'static str) -> Spec {
    let sharing = match format.granularity {
        Granularity::Tensor => Sharing::Tensor,
        Granularity::Channel => Sharing::Channel(1 - axis),
        Granularity::Group(group) => Sharing::Blocks(axis, group as usize),
    };
    let WeightFormat { storage, scale, has_zero_point, .. } = format;
    Spec { storage, scale, has_zero_point, sharing, method }
}

fn numbers(element: Element, bytes: &[u8], count: usize) -> Vec<f64> {
    match number::unpack(element, bytes, count) {
        crate::tensor::Data::F32(values) => values.into_iter().map(f64::from).collect(),
        crate::tensor::Data::F64(values) => values,
        crate::tensor::Data::I64(values) => values.into_iter().map(|value| value as f64).collect(),
    }
}

/// The number of the scale of each weight of a matrix.
fn scale_index(spec: &Spec, [rows, columns]: [usize; 2], at: usize) -> usize {
    let (row, column) = (at / columns, at % columns);
    match spec.sharing {
        Sharing::Tensor => 0,
        Sharing::Channel(0) => row,
        Sharing::Channel(_) => column,
        Sharing::Blocks(0, block) => row / block * columns + column,
        Sharing::Blocks(_, block) => row * columns.div_ceil(block) + column / block,
    }
    .min(rows * columns)
}

fn restored(spec: &Spec, shape: [usize; 2], found: &Quantized) -> (Vec<f64>, Vec<f64>) {
    let count = shape[0] * shape[1];
    let q = numbers(spec.storage, &found.storage, count);
    let scales = found.scale.len() * 8 / spec.scale.bits();
    let scale = numbers(spec.scale, &found.scale, scales);
    let zero = if spec.has_zero_point {
        numbers(spec.storage, &found.zero_point, scales)
    } else {
        vec![0.0; scales]
    };
    let of = |at: usize| scale_index(spec, shape, at);
    let values = (0..count).map(|at| (q[at] - zero[of(at)]) * scale[of(at)]).collect();
    (values, (0..count).map(|at| scale[of(at)]).collect())
}

/// The widest gap between neighbouring numbers of a storage element, in steps of its scale.
fn widest_gap(storage: Element) -> f64 {
    if storage.is_integer() {
        return 1.0;
    }
    let mut all: Vec<f64> = (0..1u16 << storage.bits())
        .map(|code| number::decode(storage, code as u8))
        .filter(|value| value.is_finite())
        .collect();
    all.sort_by(f64::total_cmp);
    all.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn errors_are_bounded(
        rows in 1usize..70, columns in 1usize..70, seed in any::<u64>(), axis in 0usize..2, power in -2i32..8,
    ) {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * 2f32.powi(power)
        };
        let values: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let weights = Weights { element: Element::F32, shape: &[rows, columns], bytes: &bytes };
        for format in formats() {
            let mut noise = Vec::new();
            for method in METHODS {
                let spec = spec(format, axis, method);
                let found = quantize(weights, &spec, None).unwrap();
                let (restored, scales) = restored(&spec, [rows, columns], &found);
                if *method == "max" {
                    // Half the widest gap; MX and zero points may also cut the largest weight.
                    let is_mx = spec.scale == Element::F8E8M0;
                    let cut = if is_mx { 2.0 } else { f64::from(u8::from(format.has_zero_point)) };
                    let gap = widest_gap(spec.storage) * (0.5 + cut) * 1.001;
                    for (at, value) in values.iter().enumerate() {
                        let error = (restored[at] - f64::from(*value)).abs();
                        prop_assert!(error <= gap * scales[at].abs(), "{format}: {value} became {}", restored[at]);
                    }
                }
                let counted: f64 = values.iter().zip(&restored).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
                let (signal, error) = squared_error(weights, &spec, None).unwrap();
                prop_assert!((error - counted).abs() <= 1e-4 * signal, "{format}: {error} against {counted}");
                noise.push(counted);
            }
            prop_assert!(noise[1] <= noise[0] * 1.0001 + 1e-12, "{format}: the search made {noise:?}");
        }
    }
}

#[test]
fn all_source_elements_are_read() {
    let values = [0.5f32, -1.0, 0.25, 2.0];
    let spec = spec("int8_tensor".parse().unwrap(), 0, "max");
    let expected = quantize(
        Weights {
            element: Element::F32,
            shape: &[4, 1],
            bytes: &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
        },
        &spec,
        None,
    );
    for element in [Element::F16, Element::BF16, Element::F64] {
        let data = if element == Element::F64 {
            crate::tensor::Data::F64(values.iter().map(|v| f64::from(*v)).collect())
        } else {
            crate::tensor::Data::F32(values.to_vec())
        };
        let bytes = number::pack(element, &data);
        assert_eq!(quantize(Weights { element, shape: &[4, 1], bytes: &bytes }, &spec, None), expected);
    }
}

#[test]
fn faults_are_found() {
    let quantize_f32 = |values: &[f32], format: &str| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let weights = Weights { element: Element::F32, shape: &[values.len(), 1], bytes: &bytes };
        quantize(weights, &spec(format.parse().unwrap(), 0, "max"), None)
    };
    let error = quantize_f32(&[1.0, f32::INFINITY], "int4_g32").unwrap_err();
    assert_eq!(error.to_string(), "weight 1 is inf, expected finite numbers");
    let error = quantize_f32(&[1e6, 0.0], "int4_g32").unwrap_err();
    assert_eq!(error.to_string(), "a scale of 1.4285714e5 (largest weight 1e6) overflows f16");
    assert!(quantize_f32(&[1e6, 0.0], "int4_g32_f32").is_ok());
    // Very small weights keep a scale of more than nothing.
    assert_ne!(quantize_f32(&[1e-30, 0.0], "int4_g32").unwrap().scale, [0, 0]);
}

#[test]
fn importance_draws_the_scale() {
    // One outlier that hardly counts: the search cuts it to serve the others.
    let values: Vec<f32> = (0..32).map(|at| if at == 0 { 10.0 } else { 0.1 * at as f32 }).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let weights = Weights { element: Element::F32, shape: &[32, 1], bytes: &bytes };
    let spec = spec("int4_g32".parse().unwrap(), 0, "squared_error");
    let importance: Vec<f32> = (0..32).map(|at| if at == 0 { 1e-6 } else { 1.0 }).collect();
    let error = |with: Option<&[f32]>| {
        let found = quantize(weights, &spec, with).unwrap();
        let (restored, _) = restored(&spec, [32, 1], &found);
        values.iter().zip(&restored).skip(1).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>()
    };
    assert!(error(Some(&importance)) < error(None));
    assert!(quantize(weights, &spec, Some(&importance[1..])).is_err());
}

#[test]
fn surveys_count_what_is_not_finite() {
    let mut values = vec![0.5f32; 3000];
    values[1500] = f32::NAN;
    values[2000] = f32::NEG_INFINITY;
    values[7] = -3.0;
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let survey = Weights { element: Element::F32, shape: &[3000], bytes: &bytes }.survey();
    assert_eq!((survey.largest, survey.not_finite), (3.0, 2));
    assert!(survey.first.is_some_and(|(at, value)| at == 1500 && value.is_nan()));
}

#[test]
fn numbers_without_sign_need_zero_points() {
    let weights = Weights { element: Element::F32, shape: &[1, 1], bytes: &1f32.to_le_bytes() };
    let spec = spec("palette4".parse().unwrap(), 0, "max");
    let expected = QuantizeError::Form("weights in ui4 need zero points: it has no sign".into());
    assert_eq!(quantize(weights, &spec, None), Err(expected.clone()));
    assert_eq!(squared_error(weights, &spec, None), Err(expected));
}
