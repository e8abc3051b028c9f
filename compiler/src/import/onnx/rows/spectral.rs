//! Fourier transforms as products with a matrix of sines and cosines, and the windows around them.
//!
//! Sums of a transform cancel, and f32 leaves 1e-5 where 0 belongs, so the products are made in f64.

use super::super::context::NodeContext;
use super::super::emit::axis_of;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, since};
use std::f64::consts::{LN_10, PI};
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

pub(super) static ROWS: &[Row] = &[
    since(17, "BlackmanWindow", |node| window(node, &[0.42, -0.5, 0.08])),
    since(17, "DFT", dft).refuses("lengths above 4,096, or symbols"),
    since(17, "HammingWindow", |node| window(node, &[25.0 / 46.0, -21.0 / 46.0])),
    since(17, "HannWindow", |node| window(node, &[0.5, -0.5])),
    since(17, "MelWeightMatrix", mel_weights),
    since(17, "STFT", stft).refuses("lengths above 4,096, or symbols"),
];

/// The longest transform.
const LENGTH_MAX: i64 = 1 << 12;

/// A sum of cosines: `sum over i of terms[i] * cos(2 pi i n / period)`.
fn window(node: &mut NodeContext, terms: &[f64]) -> Made {
    let size = one_number(node, 0)?;
    if !(0.0..=(1 << 24) as f64).contains(&size) {
        return Err(Fault::model(format!("a window of {size} elements is out of range")));
    }
    let period = if node.flag("periodic", true)? { size } else { size - 1.0 };
    let at = |n: usize| -> f64 {
        terms.iter().enumerate().map(|(i, term)| term * (2.0 * PI * i as f64 * n as f64 / period).cos()).sum()
    };
    let values = (0..size as usize).map(at).collect();
    let element = node.element_attribute("output_datatype", Element::F32)?;
    let y = node.tensor(&Tensor::from_floats(element, &[size as usize], values))?;
    node.one(y)
}

fn one_number(node: &mut NodeContext, at: usize) -> Outcome<f64> {
    let value = node.known_tensor(at)?;
    if value.len() == 1 {
        Ok(value.float(0))
    } else {
        Err(Fault::model(format!("input {at} must be one number")))
    }
}

/// Triangles on the mel scale, `mel = 2595 log10(1 + hertz / 700)`: `[length / 2 + 1, bins]`.
fn mel_weights(node: &mut NodeContext) -> Made {
    let mut numbers = [0.0; 5];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = one_number(node, at)?;
    }
    let [bins, length, rate, low, high] = numbers;
    if !(0.0..=65536.0).contains(&bins) || !(0.0..=1e6).contains(&length) || rate <= 0.0 {
        return Err(Fault::model(format!(
            "{bins} bins of a transform of {length} at {rate} Hz are out of range"
        )));
    }
    let (bins, rows) = (bins as usize, length as usize / 2 + 1);
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / LN_10;
    let step = (mel(high) - mel(low)) / (bins + 2) as f64;
    let edge = |at: usize| {
        let hertz = 700.0 * ((at as f64 * step + mel(low)) / 2595.0 * LN_10).exp_m1();
        (((length + 1.0) * hertz) / rate).floor().clamp(0.0, rows as f64) as usize
    };
    let mut values = vec![0.0; rows * bins];
    for bin in 0..bins {
        let (left, middle, right) = (edge(bin), edge(bin + 1), edge(bin + 2));
        let mut set = |row: usize, value: f64| {
            if row < rows {
                values[row * bins + bin] = value;
            }
        };
        if left == middle {
            set(middle, 1.0);
        }
        for row in left..=middle {
            if left < middle {
                set(row, (row - left) as f64 / (middle - left) as f64);
            }
        }
        for row in middle..right {
            set(row, (right - row) as f64 / (right - middle) as f64);
        }
    }
    let element = node.element_attribute("output_datatype", Element::F32)?;
    let y = node.tensor(&Tensor::from_floats(element, &[rows, bins], values))?;
    node.one(y)
}

fn dft(node: &mut NodeContext) -> Made {
    let x = node.value(0)?;
    let rank = node.rank(x);
    let axis = if node.version < 20 {
        node.int("axis", 1)?
    } else if node.optional(2).is_some() {
        one_number(node, 2)? as i64
    } else {
        -2
    };
    let axis = axis_of(axis, rank)?;
    let length = if node.optional(1).is_some() { Some(one_number(node, 1)? as i64) } else { None };
    let (inverse, onesided) = (node.flag("inverse", false)?, node.flag("onesided", false)?);
    let y = transform(node, x, axis, length, inverse, onesided)?;
    node.one(y)
}

/// Transforms `[.., n, .., 1 or 2]` along an axis; `length` elements when given, zeros behind a shorter input.
fn transform(
    node: &mut NodeContext,
    x: ValueId,
    axis: usize,
    length: Option<i64>,
    inverse: bool,
    onesided: bool,
) -> Outcome<ValueId> {
    let (rank, element) = (node.rank(x), node.element(x));
    if rank < 2 || axis + 1 >= rank {
        return Err(Fault::model(format!("axis {axis} of {} cannot be transformed", node.ty(x))));
    }
    let known = |dim: Dim| {
        dim.known().filter(|dim| (0..=LENGTH_MAX).contains(dim)).ok_or_else(|| {
            Fault::unsupported(
                format!("a length of at most {LENGTH_MAX} must be known, found {dim}"),
                "bind it with --bind NAME=VALUE",
            )
        })
    };
    let (given, parts) = (known(node.dim(x, axis)?)?, known(node.dim(x, rank - 1)?)?);
    let to_real = inverse && onesided;
    let length = length.unwrap_or(if to_real { 2 * (given - 1) } else { given });
    if !(1..=2).contains(&parts) || !(1..=LENGTH_MAX).contains(&length) {
        return Err(Fault::model(format!("{parts} parts and a length of {length} cannot be transformed")));
    }
    let used = given.min(if to_real { length / 2 + 1 } else { length });
    let x = node.slice_axis(x, axis, &Dim::Known(0), &Dim::Known(used))?;
    let mut order: Vec<usize> = (0..rank - 1).filter(|other| *other != axis).collect();
    order.extend([axis, rank - 1]);
    let moved = node.transpose(x, &order)?;
    let moved = node.cast(moved, Element::F64)?;
    let mut shape = node.shape(moved).to_vec();
    shape.truncate(rank - 2);
    let front = shape.clone();
    shape.push(Dim::Known(used * parts));
    let rows = node.reshape(moved, &shape)?;
    let made = if onesided && !inverse { length / 2 + 1 } else { length };
    let made_parts = if to_real { 1 } else { 2 };
    let matrix = matrix(used, parts, made, made_parts, length, inverse);
    let matrix =
        Tensor::from_floats(Element::F64, &[(used * parts) as usize, (made * made_parts) as usize], matrix);
    let matrix = node.tensor(&matrix)?;
    let y = node.matmul(rows, matrix)?;
    let y = node.cast(y, element)?;
    let y = node.reshape(y, &[front.as_slice(), &[Dim::Known(made), Dim::Known(made_parts)]].concat())?;
    let mut back: Vec<usize> = (0..rank - 2).collect();
    back.insert(axis, rank - 2);
    back.push(rank - 1);
    node.transpose(y, &back)
}

/// Row (n, part), column (k, part): what element n gives to element k.
fn matrix(used: i64, parts: i64, made: i64, made_parts: i64, length: i64, inverse: bool) -> Vec<f64> {
    let mut values = Vec::new();
    for n in 0..used {
        // A one-sided spectrum stands for its mirror image as well, but for its ends.
        let mirrored = made_parts == 1 && n != 0 && 2 * n != length;
        let factor = if mirrored { 2.0 } else { 1.0 } / if inverse { length as f64 } else { 1.0 };
        for part in 0..parts {
            for k in 0..made {
                let angle = 2.0 * PI * (n * k % length) as f64 / length as f64;
                let (sin, cos) = if inverse { angle.sin_cos() } else { (-angle).sin_cos() };
                let (real, imaginary) = if part == 0 { (cos, sin) } else { (-sin, cos) };
                values.push(real * factor);
                if made_parts == 2 {
                    values.push(imaginary * factor);
                }
            }
        }
    }
    values
}

/// Transforms of overlapping parts: signal `[b, n, 1 or 2]`, as `[b, frames, bins, 2]`.
fn stft(node: &mut NodeContext) -> Made {
    let mut signal = node.value(0)?;
    if node.rank(signal) == 2 {
        let shape = node.shape(signal);
        signal = node.reshape(signal, &[shape[0].clone(), shape[1].clone(), Dim::Known(1)])?;
    }
    let step = one_number(node, 1)? as i64;
    let window = node.optional_value(2)?;
    let dim = node.dim(signal, 1)?;
    let length = match window {
        _ if node.optional(3).is_some() => Some(one_number(node, 3)? as i64),
        Some(window) => node.dim(window, 0)?.known(),
        None => dim.known(),
    };
    let (Some(length), Some(total)) = (length, dim.known()) else {
        return Err(Fault::unsupported(
            format!("the signal's length must be known, found {dim}"),
            "bind it with --bind NAME=VALUE",
        ));
    };
    if node.rank(signal) != 3 || step < 1 || !(1..=total).contains(&length) {
        return Err(Fault::model(format!(
            "frames of {length} every {step} do not fit signal {}",
            node.ty(signal)
        )));
    }
    let frames = 1 + (total - length) / step;
    let places: Vec<i64> = (0..frames * length).map(|at| at / length * step + at % length).collect();
    let places = node.ints(Element::I64, &[frames, length], &places)?;
    let mut x = node.gather(signal, places, 1)?;
    if let Some(window) = window {
        let window = node.reshape(window, &[Dim::Known(length), Dim::Known(1)])?;
        x = node.mul(x, window)?;
    }
    let onesided = node.flag("onesided", true)?;
    let y = transform(node, x, 2, None, false, onesided)?;
    node.one(y)
}
