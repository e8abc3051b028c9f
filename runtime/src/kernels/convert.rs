//! Changes of element type: conversion, quantisation, dequantisation.

use super::elementwise::{CHUNK, map1, map2};
use super::lanes::{Lane, load, saturate_to, store, with_lane};
use super::small_float::{encode, is_small_float};
use super::walk::{for_each_index, for_each_row, steps_of};
use super::wide::widest;
use super::{Fault, require, same, same_dims};
use crate::element::{Class, Element};
use crate::functions::Rounding;
use crate::memory::{Destination, Source, Workspace};

/// `destination = x` in another element type; see the command for rounding and range.
pub fn convert(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    saturate: bool,
    rounding: Rounding,
) -> Result<(), Fault> {
    let (from, to) = (x.element(), destination.element());
    let to_integer = to.integer_range().is_some() && to != Element::Bool;
    match (from.is_float(), to_integer) {
        (true, true) => float_to_integer(destination, x, saturate, rounding),
        (false, true) if saturate => map1::<i128>(destination, x, |lanes| {
            let (low, high) = to.integer_range().unwrap_or((i128::MIN, i128::MAX));
            lanes.iter_mut().for_each(|lane| *lane = (*lane).clamp(low, high));
        }),
        _ if is_small_float(to) && (!saturate || to == Element::F8E8M0) => {
            map1_codes(destination, x, saturate, rounding)
        }
        // Through the wider of both: f16 to f64 and i64 to f64 are exact, everything to f32 is rounded once.
        _ => with_lane!([from], L => map1::<L>(destination, x, |_| {})),
    }
}

/// To small floats by other rules than those of a store: codes are made here, as bytes or nibbles.
fn map1_codes(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    saturate: bool,
    rounding: Rounding,
) -> Result<(), Fault> {
    let element = destination.element();
    let mut bytes = Destination { window: destination.window.clone(), bytes: &mut *destination.bytes };
    bytes.window.element = if element.bits() == 4 { Element::U4 } else { Element::U8 };
    let mut codes = [0i64; CHUNK];
    let window = bytes.window.clone();
    same_dims("extents of destination and x differ", &bytes, x)?;
    for_each_row(window.dims(), [window.strides(), x.strides()], |length, offsets, steps| {
        let mut floats = [0f32; CHUNK];
        for start in (0..length).step_by(CHUNK) {
            let count = CHUNK.min(length - start);
            let place = |view: usize| offsets[view] + start as i64 * steps[view];
            load(x, place(1), steps[1], &mut floats[..count]);
            for (code, &float) in codes.iter_mut().zip(&floats[..count]) {
                *code = i64::from(encode(float, element, saturate, rounding));
            }
            store(&mut bytes, place(0), steps[0], &codes[..count]);
        }
        Ok(())
    })
}

fn float_to_integer(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    saturate: bool,
    rounding: Rounding,
) -> Result<(), Fault> {
    let round = match rounding {
        Rounding::Truncate => f64::trunc,
        Rounding::HalfEven => f64::round_ties_even,
        Rounding::Floor => f64::floor,
        Rounding::Ceil => f64::ceil,
    };
    let element = destination.element();
    map_between::<f64, i128>(destination, x, |value| {
        let rounded = round(value);
        if saturate { saturate_to(rounded, element) } else { rounded as i128 }
    })
}

/// Walks destination and source in step with different lanes on both sides.
fn map_between<A: Lane, B: Lane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    mut body: impl FnMut(A) -> B,
) -> Result<(), Fault> {
    same_dims("extents of destination and x differ", destination, x)?;
    let window = destination.window.clone();
    for_each_row(window.dims(), [window.strides(), x.strides()], |length, offsets, steps| {
        let (mut from, mut to) = ([A::default(); CHUNK], [B::default(); CHUNK]);
        for start in (0..length).step_by(CHUNK) {
            let count = CHUNK.min(length - start);
            let place = |view: usize| offsets[view] + start as i64 * steps[view];
            load(x, place(1), steps[1], &mut from[..count]);
            for (to, &from) in to.iter_mut().zip(&from[..count]) {
                *to = body(from);
            }
            store(destination, place(0), steps[0], &to[..count]);
        }
        Ok(())
    })
}

/// `destination = saturate(round_half_even(x / scale) + zero_point)`, in f32. Sums in i32 are divided in f64 and rounded once to f32.
pub fn quantize(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    scale: &Source<'_>,
    zero_point: Option<&Source<'_>>,
) -> Result<(), Fault> {
    let element = destination.element();
    let is_integer = element.integer_range().is_some();
    require(is_integer || is_small_float(element), "quantize makes integers or small floats")?;
    if x.element() == Element::I32 {
        require(is_integer, "quantize makes integers of i32")?;
        return scaled_rows::<f64>(destination, x, scale, zero_point, |x, scale, zero| {
            let quotient = (x / scale) as f32;
            saturate_to(f64::from(quotient.round_ties_even()) + zero, element)
        });
    }
    if let (Some(range), None, 1..=8) = (element.integer_range(), zero_point, element.bits()) {
        return quantize_symmetric(destination, x, scale, [range.0 as f32, range.1 as f32]);
    }
    for_each_scaled(destination, x, scale, zero_point, |x, scale, zero| {
        if is_integer {
            saturate_to((x / scale).round_ties_even() as f64 + f64::from(zero), element)
        } else {
            x / scale + zero
        }
    })
}

/// Adding and subtracting it rounds a number below 2^22 to an integer, nearest even.
const ROUND: f32 = 12_582_912.0;

/// Integers of at most 8 bits without a zero point: the same numbers, many at once.
fn quantize_symmetric(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    scale: &Source<'_>,
    range: [f32; 2],
) -> Result<(), Fault> {
    map2::<f32>(destination, x, scale, |values, scales| quantize_lanes(values, scales, range))
}

widest! {
fn quantize_lanes[][](values: &mut [f32], scales: &[f32], range: [f32; 2]) {
    for (value, scale) in values.iter_mut().zip(scales) {
        // The ends are integers: what is rounded after it was cut is what is cut after it was rounded.
        let quotient = (*value / scale).clamp(range[0], range[1]);
        *value = if quotient.is_nan() { 0.0 } else { (quotient + ROUND) - ROUND };
    }
}
}

/// `destination = (x - zero_point) * scale`, in f32.
pub fn dequantize(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    scale: &Source<'_>,
    zero_point: Option<&Source<'_>>,
) -> Result<(), Fault> {
    require(destination.element().class() == Class::Float, "dequantize makes floats")?;
    if x.element() == Element::I32 || x.element() == Element::U32 {
        return dequantize_wide(destination, x, scale, zero_point);
    }
    for_each_scaled(destination, x, scale, zero_point, |x, scale, zero| (x - zero) * scale)
}

/// 32-bit integers do not fit f32: they are subtracted in f64 and rounded once before the product.
fn dequantize_wide(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    scale: &Source<'_>,
    zero_point: Option<&Source<'_>>,
) -> Result<(), Fault> {
    scaled_rows::<f64>(destination, x, scale, zero_point, |x, scale, zero| {
        f64::from((x - zero) as f32 * scale as f32)
    })
}

/// Quantises the last dimension of x in groups; see the command for what scale and offset are.
pub fn quantize_groups(
    destination: &mut Destination<'_>,
    scale: &mut Destination<'_>,
    offset: &mut Destination<'_>,
    x: &Source<'_>,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    same_dims("extents of destination and x differ", destination, x)?;
    let rank = x.rank();
    let fits = rank >= 1 && scale.rank() == rank && offset.rank() == rank;
    require(fits, "quantize_groups: ranks differ")?;
    same("quantize_groups: scale and offset differ", scale.dims(), offset.dims())?;
    same("quantize_groups: scale and x differ", &scale.dims()[..rank - 1], &x.dims()[..rank - 1])?;
    let (width, groups) = (x.last_dim(), scale.last_dim());
    require(groups >= 1 && width.is_multiple_of(groups), "quantize_groups: groups do not divide x")?;
    let levels = destination.element().integer_range().filter(|range| range.0 == 0).map(|range| range.1);
    let levels = levels.ok_or(Fault::Shape("quantize_groups makes unsigned integers"))? as f32;
    let row = workspace.lanes::<f32>(width / groups)?;
    let strides = [destination.strides(), scale.strides(), offset.strides(), x.strides()];
    let (steps, _) = steps_of(strides.map(|strides| &strides[..rank - 1]));
    let along: [i64; 4] = std::array::from_fn(|view| strides[view][rank - 1]);
    for_each_index(&x.dims()[..rank - 1], &steps[..rank - 1], |places| {
        for group in 0..groups as i64 {
            let first = group * row.len() as i64;
            load(x, places[3] + first * along[3], along[3], row);
            let least = row.iter().fold(f32::INFINITY, |a, &b| Lane::minimum(a, b));
            let most = row.iter().fold(f32::NEG_INFINITY, |a, &b| Lane::maximum(a, b));
            let mut factors = [(most - least) / levels, least];
            // As they are kept: the codes make up for their rounding.
            let [scale_at, offset_at] = [1, 2].map(|view: usize| places[view] + group * along[view]);
            store(scale, scale_at, 1, &factors[..1]);
            store(offset, offset_at, 1, &factors[1..]);
            load(&scale.as_source(), scale_at, 1, &mut factors[..1]);
            load(&offset.as_source(), offset_at, 1, &mut factors[1..]);
            for lane in row.iter_mut() {
                let code = ((*lane - factors[1]) / factors[0]).round_ties_even();
                let is_number = code.is_finite() && factors[0] != 0.0;
                *lane = if is_number { code.clamp(0.0, levels) } else { 0.0 };
            }
            store(destination, places[0] + first * along[0], along[0], row);
        }
        Ok(())
    })
}

fn for_each_scaled(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    scale: &Source<'_>,
    zero_point: Option<&Source<'_>>,
    body: impl FnMut(f32, f32, f32) -> f32,
) -> Result<(), Fault> {
    scaled_rows::<f32>(destination, x, scale, zero_point, body)
}

fn scaled_rows<L: Lane>(
    destination: &mut Destination<'_>,
    x: &Source<'_>,
    scale: &Source<'_>,
    zero_point: Option<&Source<'_>>,
    mut body: impl FnMut(L, L, L) -> L,
) -> Result<(), Fault> {
    same_dims("extents of destination and x differ", destination, x)?;
    same_dims("extents of destination and scale differ", destination, scale)?;
    let zero = zero_point.unwrap_or(scale);
    same_dims("extents of destination and zero point differ", destination, zero)?;
    let window = destination.window.clone();
    let strides = [window.strides(), x.strides(), scale.strides(), zero.strides()];
    for_each_row(window.dims(), strides, |length, offsets, steps| {
        let (mut values, mut scales, mut zeros) =
            ([L::default(); CHUNK], [L::default(); CHUNK], [L::default(); CHUNK]);
        for start in (0..length).step_by(CHUNK) {
            let count = CHUNK.min(length - start);
            let place = |view: usize| offsets[view] + start as i64 * steps[view];
            load(x, place(1), steps[1], &mut values[..count]);
            load(scale, place(2), steps[2], &mut scales[..count]);
            if zero_point.is_some() {
                load(zero, place(3), steps[3], &mut zeros[..count]);
            }
            for index in 0..count {
                values[index] = body(values[index], scales[index], zeros[index]);
            }
            store(destination, place(0), steps[0], &values[..count]);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_close, random, read, values};

    fn converted(
        from: Element,
        to: Element,
        numbers: &[f64],
        saturate: bool,
        rounding: Rounding,
    ) -> Vec<f64> {
        let x = values(from, &[numbers.len()], numbers);
        let mut out = values(to, &[numbers.len()], &[]);
        convert(&mut out.destination(), &x.source(), saturate, rounding).expect("extents agree");
        read(&out.source())
    }

    #[test]
    fn rounding_and_range() {
        let x = [2.5, -2.5, 300.7, -300.2];
        assert_eq!(
            converted(Element::F32, Element::I8, &x, true, Rounding::HalfEven),
            [2.0, -2.0, 127.0, -128.0]
        );
        assert_eq!(
            converted(Element::F32, Element::I8, &x, false, Rounding::Truncate),
            [2.0, -2.0, 44.0, -44.0]
        );
        assert_eq!(
            converted(Element::F32, Element::I32, &x, true, Rounding::Floor),
            [2.0, -3.0, 300.0, -301.0]
        );
        assert_eq!(
            converted(Element::I32, Element::U8, &[-1.0, 256.0], false, Rounding::Truncate),
            [255.0, 0.0]
        );
        assert_eq!(
            converted(Element::I32, Element::U8, &[-1.0, 256.0], true, Rounding::Truncate),
            [0.0, 255.0]
        );
        assert_eq!(converted(Element::F32, Element::Bool, &[0.0, 0.3], true, Rounding::Truncate), [0.0, 1.0]);
        assert_eq!(
            converted(Element::F32, Element::F8E4M3FN, &[1e6, 1.1], true, Rounding::Truncate),
            [448.0, 1.125]
        );
        assert!(converted(Element::F32, Element::F8E4M3FN, &[1e6], false, Rounding::Truncate)[0].is_nan());
        assert_eq!(
            converted(Element::F64, Element::F16, &[65519.0, 1e9], true, Rounding::Truncate),
            [65504.0, f64::INFINITY]
        );
    }

    #[test]
    fn groups_have_their_own_scale_and_offset() {
        let mut workspace = Workspace::default();
        let x = values(Element::F32, &[2, 4], &[0.0, 30.0, -1.0, 0.5, 7.0, 7.0, f64::NAN, 1.0]);
        for (element, levels) in [(Element::U4, 15.0), (Element::U8, 255.0)] {
            let mut q = values(element, &[2, 4], &[9.0; 8]);
            let (mut scale, mut offset) =
                (values(Element::F16, &[2, 2], &[]), values(Element::F16, &[2, 2], &[]));
            let mut run = |x: &Source<'_>| {
                let (mut scale, mut offset) = (scale.destination(), offset.destination());
                quantize_groups(&mut q.destination(), &mut scale, &mut offset, x, &mut workspace)
            };
            run(&x.source()).expect("fits");
            let codes = read(&q.source());
            assert_eq!(codes[..6], [0.0, levels, 0.0, levels, 0.0, 0.0]);
            let (scale, offset) = (read(&scale.source()), read(&offset.source()));
            assert_eq!((scale[2], offset[2]), (0.0, 7.0));
            assert!(scale[3].is_nan(), "a group that holds no number stays none");
            for at in 0..4 {
                let back = codes[at] * scale[at / 2] + offset[at / 2];
                assert!((back - read(&x.source())[at]).abs() <= scale[at / 2] * 0.5 + 0.01, "{back}");
            }
        }
    }

    #[test]
    fn sums_are_quantised_without_a_float_between() {
        // 2^24 + 1 is no f32; its eighth rounds as a quotient only.
        let sums = values(Element::I32, &[4], &[16_777_217.0, -12.0, 20.0, 1e9]);
        let scale = values(Element::F32, &[4], &[131_072.0, 8.0, 8.0, 8.0]);
        let zero = values(Element::I8, &[4], &[-1.0; 4]);
        let mut out = values(Element::I8, &[4], &[]);
        quantize(&mut out.destination(), &sums.source(), &scale.source(), Some(&zero.source()))
            .expect("fits");
        assert_eq!(read(&out.source()), [127.0, -3.0, 1.0, 127.0]);
    }

    #[test]
    fn many_at_once_are_what_one_is() {
        let numbers = [0.0, -0.0, 2.5, 3.5, -2.5, 126.5, 127.5, -128.5, 300.0, -1e30, 1e30, 1e-40, 8.499_999];
        let numbers: Vec<f64> = numbers
            .into_iter()
            .chain([f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
            .cycle()
            .take(300)
            .collect();
        let x = values(Element::F32, &[numbers.len()], &numbers);
        for (element, scale) in [
            (Element::I8, 1.0),
            (Element::I8, 0.37),
            (Element::U8, 1.0),
            (Element::I4, 2.0),
            (Element::U4, 0.0),
        ] {
            let scales = values(Element::F32, &[numbers.len()], &vec![scale; numbers.len()]);
            let mut many = values(element, &[numbers.len()], &[]);
            quantize(&mut many.destination(), &x.source(), &scales.source(), None).expect("fits");
            let mut one = values(element, &[numbers.len()], &[]);
            for_each_scaled(&mut one.destination(), &x.source(), &scales.source(), None, |x, scale, _| {
                saturate_to(f64::from((x / scale).round_ties_even()), element)
            })
            .expect("fits");
            assert_eq!(read(&many.source()), read(&one.source()), "{element:?} by {scale}");
        }
    }

    #[test]
    fn quantize_inverts_dequantize() {
        for element in [Element::I8, Element::U8, Element::I4, Element::U4, Element::I16] {
            let q = random(element, &[3, 8], 5);
            let scale = values(Element::F32, &[3, 8], &[0.25; 24]);
            let zero = values(element, &[3, 8], &[3.0; 24]);
            let mut x = values(Element::F32, &[3, 8], &[]);
            dequantize(&mut x.destination(), &q.source(), &scale.source(), Some(&zero.source()))
                .expect("fits");
            let expected: Vec<f64> = read(&q.source()).iter().map(|q| (q - 3.0) * 0.25).collect();
            assert_close(&read(&x.source()), &expected, 1e-6);
            let mut back = values(element, &[3, 8], &[]);
            quantize(&mut back.destination(), &x.source(), &scale.source(), Some(&zero.source()))
                .expect("fits");
            assert_eq!(read(&back.source()), read(&q.source()), "{element}");
        }
    }
}
