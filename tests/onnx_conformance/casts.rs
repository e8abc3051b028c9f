//! Casts to small floats and small integers: the evaluator and the runtime make the same codes, and each is the nearest.

use proptest::prelude::*;
use tilewright_ir::element::Element as E;
use tilewright_ir::number;
use tilewright_ir::tensor::Tensor;
use tilewright_runtime::commands::Rounding;
use tilewright_runtime::element::Element;
use tilewright_runtime::kernels::small_float;

const FORMATS: [(E, Element); 5] = [
    (E::F8E4M3FN, Element::F8E4M3FN),
    (E::F8E5M2, Element::F8E5M2),
    (E::F8E4M3FNUZ, Element::F8E4M3FNUZ),
    (E::F8E5M2FNUZ, Element::F8E5M2FNUZ),
    (E::F4E2M1, Element::F4E2M1),
];

fn any_float() -> impl Strategy<Value = f32> {
    // All bit patterns, and numbers of the size that these formats hold.
    prop_oneof![any::<u32>().prop_map(f32::from_bits), -70000.0f32..70000.0, -8.0f32..8.0, -0.1f32..0.1]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn evaluator_and_runtime_make_the_same_codes(value in any_float(), saturate in any::<bool>()) {
        for (ours, theirs) in FORMATS {
            let expected = number::encode(ours, f64::from(value), saturate);
            let found = small_float::encode(value, theirs, saturate, Rounding::HalfEven);
            let (a, b) = (number::decode(ours, expected), f64::from(small_float::decode(found, theirs)));
            prop_assert!(
                expected == found || (a.is_nan() && b.is_nan()),
                "{ours}: {value:e} is {expected:#x} and {found:#x}"
            );
        }
    }

    #[test]
    fn small_floats_are_the_nearest(value in -1e5f32..1e5) {
        for (element, _) in FORMATS {
            let codes = 0..=u8::try_from((1u16 << element.bits()) - 1).expect("at most 8 bits");
            let values: Vec<f64> =
                codes.map(|code| number::decode(element, code)).filter(|value| value.is_finite()).collect();
            let found = number::round_float(element, f64::from(value));
            let best = values.iter().map(|one| (one - f64::from(value)).abs()).fold(f64::INFINITY, f64::min);
            prop_assert!((found - f64::from(value)).abs() <= best, "{element}: {value} became {found}");
        }
    }

    #[test]
    fn small_integers_keep_the_low_bits(value in any::<i64>()) {
        for (element, bits) in [(E::I4, 4), (E::U4, 4), (E::I2, 2), (E::U2, 2)] {
            let found = Tensor::from_ints(E::I64, &[1], vec![value]).cast(element).int(0);
            let (low, high) = element.integer_range().expect("an integer");
            prop_assert!((low..=high).contains(&found));
            prop_assert_eq!((found - value).rem_euclid(1 << bits), 0);
        }
    }

    #[test]
    fn floats_truncate_and_saturate_to_integers(value in any_float()) {
        for element in [E::I8, E::U8, E::I16, E::U16, E::I32, E::U32] {
            let found = Tensor::from_floats(E::F32, &[1], vec![f64::from(value)]).cast(element).int(0);
            let (low, high) = element.integer_range().expect("an integer");
            let expected = if value.is_nan() { 0.0 } else { f64::from(value).trunc().clamp(low as f64, high as f64) };
            prop_assert_eq!(found as f64, expected, "{}", element);
        }
    }
}
