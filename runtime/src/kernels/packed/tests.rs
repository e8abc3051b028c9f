//! The portable path against the unpacked product, and against the definition.

use super::testing::{Strided, pack, pack_factors};
use super::*;
use crate::element::Element;
use crate::kernels::matmul::matmul as product;
use crate::kernels::testing::{Values, random, read, values};

const LAYOUTS: [Layout; 3] = [
    Layout { columns: 16, groups: 1, rows: 4, steps: [64, 4, 1] },
    Layout { columns: 16, groups: 2, rows: 4, steps: [1, 8, 2] },
    // More columns than fit one pass, an odd depth, rows outermost.
    Layout { columns: 70, groups: 3, rows: 1, steps: [1, 3, 210] },
];

/// One product: [batch, m, n, k], b's element, rows per block, and which factors it has.
struct Case {
    dims: [usize; 4],
    elements: [Element; 3],
    block: usize,
    has_scale: bool,
    has_zero: bool,
}

struct Operands {
    a: Values,
    b: Values,
    scale: Values,
    zero: Values,
    blocks: usize,
}

fn operands(case: &Case) -> Operands {
    let [batch, m, n, k] = case.dims;
    let blocks = if case.block == 0 { 1 } else { k.div_ceil(case.block) };
    let [_, a, b] = case.elements;
    let zero = if b == Element::NF4 { Element::F32 } else { b };
    Operands {
        a: random(a, &[batch, m, k], 1),
        b: random(b, &[batch, k, n], 2),
        scale: random(Element::F16, &[batch, blocks, n], 3),
        zero: random(zero, &[batch, blocks, n], 4),
        blocks,
    }
}

/// The packed product, accumulated on 0.5.
fn packed_product(case: &Case, operands: &Operands, layout: &Layout) -> Result<Vec<f64>, Fault> {
    let [batch, m, n, k] = case.dims;
    let [to, _, element] = case.elements;
    let b = pack(element, layout, &read(&operands.b.source()), [batch, k, n], 1.0);
    let factor = |values: &Values| -> Strided {
        let source = values.source();
        pack_factors(source.element(), layout.columns, &read(&source), [batch, operands.blocks, n])
    };
    let (scale, zero) = (factor(&operands.scale), factor(&operands.zero));
    let (b, scale, zero) = (b.source(), scale.source(), zero.source());
    let b = Quantized {
        scale: case.has_scale.then_some(&scale),
        zero: case.has_zero.then_some(&zero),
        block: case.block,
        ..Quantized::plain(&b)
    };
    let mut out = values(to, &[batch, m, n], &vec![0.5; batch * m * n]);
    product(&mut out.destination(), &operands.a.source(), b, true, &mut Workspace::default())?;
    Ok(read(&out.source()))
}

#[test]
fn integers_give_the_bits_of_the_unpacked_product() {
    use Element as E;
    for (elements, block, has_scale, has_zero) in [
        ([E::F32, E::I8, E::I4], 32, true, false),
        ([E::F32, E::I8, E::U4], 32, true, true),
        ([E::F16, E::I8, E::I8], 0, true, true),
        ([E::BF16, E::U8, E::U8], 7, true, true),
        ([E::I32, E::I8, E::I8], 0, false, false),
        ([E::I32, E::I32, E::I16], 0, false, false),
    ] {
        let case = Case { dims: [2, 3, 87, 300], elements, block, has_scale, has_zero };
        let operands = operands(&case);
        let (a, b) = (operands.a.source(), operands.b.source());
        let (scale, zero) = (operands.scale.source(), operands.zero.source());
        let b = Quantized {
            scale: has_scale.then_some(&scale),
            zero: has_zero.then_some(&zero),
            block,
            ..Quantized::plain(&b)
        };
        let mut expected = values(elements[0], &[2, 3, 87], &[0.5; 2 * 3 * 87]);
        product(&mut expected.destination(), &a, b, true, &mut Workspace::default()).expect("fits");
        for layout in &LAYOUTS {
            let found = packed_product(&case, &operands, layout).expect("fits");
            assert_eq!(found, read(&expected.source()), "{elements:?} {layout:?}");
        }
    }
}

#[test]
fn floats_are_fused_chains_by_block() {
    for (element, block, has_scale, has_zero) in [
        (Element::F32, 0, false, false),
        (Element::BF16, 0, false, false),
        (Element::I4, 32, true, false),
        (Element::U4, 300, true, true),
        (Element::I8, 0, true, true),
        (Element::NF4, 64, true, false),
    ] {
        let dims = [1, 3, 37, 301];
        let case = Case { dims, elements: [Element::F32, Element::F32, element], block, has_scale, has_zero };
        let operands = operands(&case);
        let [a, b, scale, zero] =
            [&operands.a, &operands.b, &operands.scale, &operands.zero].map(|values| read(&values.source()));
        let [_, m, n, k] = dims;
        let expected = (0..m * n).map(|at| {
            let (row, column) = (at / n, at % n);
            let (mut total, mut sum) = if has_scale { (0.5f32, 0f32) } else { (0.0, 0.5) };
            for inner in 0..k {
                let group = inner.checked_div(block).unwrap_or(0) * n + column;
                let zero = if has_zero { zero[group] } else { 0.0 };
                let weight = b[inner * n + column] - zero;
                sum = (a[row * k + inner] as f32).mul_add(weight as f32, sum);
                let is_last = inner + 1 == k || block != 0 && (inner + 1) % block == 0;
                if has_scale && is_last {
                    total = sum.mul_add(scale[group] as f32, total);
                    sum = 0.0;
                }
            }
            f64::from(if has_scale { total } else { sum })
        });
        let expected: Vec<f64> = expected.collect();
        for layout in &LAYOUTS {
            let found = packed_product(&case, &operands, layout).expect("fits");
            assert_eq!(found, expected, "{element} {layout:?}");
        }
    }
}

#[test]
fn codes_of_a_codebook_are_looked_up() {
    let (m, n, k) = (2, 20, 24);
    let (a, codes) = (random(Element::F32, &[1, m, k], 1), random(Element::U4, &[1, k, n], 2));
    let levels: Vec<f64> = (0..16).map(|code| f64::from(code * code - 40)).collect();
    let codebook = values(Element::F32, &[16], &levels);
    let looked_up: Vec<f64> = read(&codes.source()).iter().map(|&code| levels[code as usize]).collect();
    let wide = values(Element::F32, &[1, k, n], &looked_up);
    let run = |b: &Values, element: Element, codebook: Option<&Source<'_>>| {
        let b = pack(element, &LAYOUTS[1], &read(&b.source()), [1, k, n], 0.0);
        let b = b.source();
        let b = Quantized { codebook, ..Quantized::plain(&b) };
        let mut out = values(Element::F32, &[1, m, n], &[]);
        product(&mut out.destination(), &a.source(), b, false, &mut Workspace::default()).expect("fits");
        read(&out.source())
    };
    assert_eq!(run(&codes, Element::U4, Some(&codebook.source())), run(&wide, Element::F32, None));
}

#[test]
fn panels_that_do_not_fit_are_faults() {
    let a = random(Element::F32, &[2, 9], 1);
    let product = |dims: [usize; 5]| {
        let b = random(Element::F32, &dims, 2);
        let mut out = values(Element::F32, &[2, 33], &[]);
        let b = b.source();
        let b = Quantized::plain(&b);
        product(&mut out.destination(), &a.source(), b, false, &mut Workspace::default())
    };
    assert_eq!(product([3, 3, 1, 16, 4]), Ok(()));
    assert!(matches!(product([2, 3, 1, 16, 4]), Err(Fault::Extents { .. })));
    assert!(matches!(product([3, 2, 1, 16, 4]), Err(Fault::Extents { .. })));
    assert!(matches!(product([3, 3, 1, 0, 4]), Err(Fault::Shape(_))));
}

#[test]
fn known_layouts_touch_every_element_once() {
    for &element in Element::ALL {
        let Some(layout) = Layout::of(element) else { continue };
        let (dims, strides) = (layout.dims(40, 20), layout.strides(20));
        let count: usize = dims.iter().product();
        let mut seen = vec![false; count];
        for at in 0..count {
            let mut rest = at;
            let mut offset = 0;
            for axis in (0..5).rev() {
                offset += rest % dims[axis] * strides[axis];
                rest /= dims[axis];
            }
            assert!(!std::mem::replace(&mut seen[offset], true), "{element}: {offset} twice");
        }
        // A step along k1 is a whole number of 64-byte lines.
        assert_eq!((layout.depth() * layout.columns) as u32 * element.bits() % 512, 0, "{element}");
    }
}
