//! Movement: strided copies, gathers, scatters, and values made from nothing.

use super::lanes::{Lane, load, load_integer, saturate_to, store, with_lane};
use super::walk::{for_each_index, for_each_row, steps_of};
use super::{Fault, require, same, same_dims};
use crate::element::Element;
use crate::functions::ScatterReduction;
use crate::memory::{Destination, Source};
use crate::view::RANK_MAX;

/// Copies elements between windows of one element type and equal extents.
pub fn copy(destination: &mut Destination<'_>, source: &Source<'_>) -> Result<(), Fault> {
    same_dims("extents of destination and source differ", destination, source)?;
    let window = destination.window.clone();
    copy_part(destination, source, window.dims(), [window.strides(), source.strides()], [0, 0])
}

/// Copies a sub-window: `dims` elements from source to destination, beginning at element offsets `origins`.
fn copy_part(
    destination: &mut Destination<'_>,
    source: &Source<'_>,
    dims: &[usize],
    strides: [&[i64]; 2],
    origins: [i64; 2],
) -> Result<(), Fault> {
    require(destination.element() == source.element(), "a copy cannot change the element type")?;
    let bits = source.element().bits() as usize;
    let bytes = bits / 8;
    for_each_row(dims, strides, |length, [to, from], [to_step, from_step]| {
        let (to, from) = (to + origins[0], from + origins[1]);
        let ((to_byte, to_bit), (from_byte, from_bit)) = (destination.locate(to), source.locate(from));
        let is_dense = (to_step == 1 && from_step == 1) || length == 1;
        if is_dense && to_bit == 0 && from_bit == 0 && (length * bits).is_multiple_of(8) {
            let count = length * bits / 8;
            destination.bytes[to_byte..to_byte + count]
                .copy_from_slice(&source.bytes[from_byte..from_byte + count]);
            return Ok(());
        }
        if bytes == 0 {
            let mut code = [0i64];
            for index in 0..length as i64 {
                load(&as_codes(source), from + index * from_step, 1, &mut code);
                store_code(destination, to + index * to_step, code[0] as u8);
            }
            return Ok(());
        }
        for index in 0..length as i64 {
            let (to, from) =
                (destination.locate(to + index * to_step).0, source.locate(from + index * from_step).0);
            destination.bytes[to..to + bytes].copy_from_slice(&source.bytes[from..from + bytes]);
        }
        Ok(())
    })
}

/// The same bits, read as unsigned codes, so that a copy changes nothing.
fn as_codes<'m>(source: &Source<'m>) -> Source<'m> {
    let mut codes = source.clone();
    codes.window.element = if source.element().bits() == 2 { Element::U2 } else { Element::U4 };
    codes
}

fn store_code(destination: &mut Destination<'_>, place: i64, code: u8) {
    let bits = destination.element().bits();
    let (byte, shift) = destination.locate(place);
    let mask = ((1u8 << bits) - 1) << shift;
    let slot = &mut destination.bytes[byte];
    *slot = (*slot & !mask) | ((code << shift) & mask);
}

/// An index brought into range: negative ones count from the end.
fn wrap(index: i64, extent: usize) -> Result<i64, Fault> {
    let wrapped = if index < 0 { index.saturating_add(extent as i64) } else { index };
    if (0..extent as i64).contains(&wrapped) { Ok(wrapped) } else { Err(Fault::Index { index, extent }) }
}

fn require_integers(indices: &Source<'_>) -> Result<(), Fault> {
    require(indices.element().is_integer(), "indices must be integers")
}

/// `destination[o.., i.., r..] = source[o.., indices[i..], r..]`.
pub fn gather(
    destination: &mut Destination<'_>,
    source: &Source<'_>,
    indices: &Source<'_>,
    axis: usize,
) -> Result<(), Fault> {
    require_integers(indices)?;
    let (count, rank) = (indices.rank(), source.rank());
    require(axis < rank && destination.rank() == rank - 1 + count, "gather: ranks do not fit")?;
    let window = destination.window.clone();
    let (dims, strides) = (window.dims(), window.strides());
    same("gather: extents before the axis differ", &dims[..axis], &source.dims()[..axis])?;
    same("gather: extents of the indices differ", &dims[axis..axis + count], indices.dims())?;
    same("gather: extents after the axis differ", &dims[axis + count..], &source.dims()[axis + 1..])?;
    let mut steps = [[0i64; 3]; RANK_MAX];
    for (place, step) in steps.iter_mut().enumerate().take(axis + count) {
        *step = match place.checked_sub(axis) {
            None => [strides[place], source.strides()[place], 0],
            Some(index) => [strides[place], 0, indices.strides()[index]],
        };
    }
    for_each_index(&dims[..axis + count], &steps[..axis + count], |[to, from, index]| {
        if dims[axis + count..].contains(&0) {
            return Ok(());
        }
        let index = wrap(load_integer(indices, index), source.dims()[axis])?;
        let from = from + index * source.strides()[axis];
        let rest = [&strides[axis + count..], &source.strides()[axis + 1..]];
        copy_part(destination, source, &dims[axis + count..], rest, [to, from])
    })
}

/// `destination[i] = source[i with i[axis] replaced by indices[i]]`.
pub fn gather_elements(
    destination: &mut Destination<'_>,
    source: &Source<'_>,
    indices: &Source<'_>,
    axis: usize,
) -> Result<(), Fault> {
    require_integers(indices)?;
    require(source.rank() == indices.rank() && axis < source.rank(), "gather_elements: ranks do not fit")?;
    same_dims("extents of destination and indices differ", destination, indices)?;
    check_beside(source.dims(), indices.dims(), axis)?;
    let window = destination.window.clone();
    let (mut steps, rank) = steps_of([window.strides(), source.strides(), indices.strides()]);
    steps[axis][1] = 0;
    for_each_index(window.dims(), &steps[..rank], |[to, from, index]| {
        let index = wrap(load_integer(indices, index), source.dims()[axis])?;
        copy_part(destination, source, &[], [&[], &[]], [to, from + index * source.strides()[axis]])
    })
}

/// Beside the axis, indices may not reach further than the data.
fn check_beside(data: &[usize], indices: &[usize], axis: usize) -> Result<(), Fault> {
    let fits = (0..data.len()).filter(|&other| other != axis).all(|other| indices[other] <= data[other]);
    require(fits, "indices exceed the data beside the axis")
}

/// Combines one update with what is there.
fn update<L: Lane>(destination: &mut Destination<'_>, place: i64, update: L, reduction: ScatterReduction) {
    let mut old = [L::default()];
    load(&destination.as_source(), place, 1, &mut old);
    let value = match reduction {
        ScatterReduction::None => update,
        ScatterReduction::Add => old[0].add(update),
        ScatterReduction::Multiply => old[0].multiply(update),
        ScatterReduction::Maximum => old[0].maximum(update),
        ScatterReduction::Minimum => old[0].minimum(update),
    };
    store(destination, place, 1, &[value]);
}

/// `destination[i with i[axis] replaced by indices[i]] op= updates[i]`.
pub fn scatter_elements(
    destination: &mut Destination<'_>,
    indices: &Source<'_>,
    updates: &Source<'_>,
    axis: usize,
    reduction: ScatterReduction,
) -> Result<(), Fault> {
    require_integers(indices)?;
    require(destination.element() == updates.element(), "updates must have the destination's element")?;
    require(
        destination.rank() == indices.rank() && axis < indices.rank(),
        "scatter_elements: ranks do not fit",
    )?;
    same("extents of indices and updates differ", indices.dims(), updates.dims())?;
    let window = destination.window.clone();
    check_beside(window.dims(), indices.dims(), axis)?;
    let (mut steps, rank) = steps_of([window.strides(), indices.strides(), updates.strides()]);
    steps[axis][0] = 0;
    with_lane!([updates.element()], L => for_each_index(indices.dims(), &steps[..rank], |[to, index, from]| {
        let index = wrap(load_integer(indices, index), window.dims()[axis])?;
        let mut lane = [L::default()];
        load(updates, from, 1, &mut lane);
        update(destination, to + index * window.strides()[axis], lane[0], reduction);
        Ok(())
    }))
}

/// Offset of the coordinates at `place` of `indices` into `dims` with `strides`.
fn coordinates(
    indices: &Source<'_>,
    place: i64,
    dims: &[usize],
    strides: &[i64],
    depth: usize,
) -> Result<i64, Fault> {
    let mut offset = 0;
    for axis in 0..depth {
        let index = load_integer(indices, place + axis as i64 * indices.last_stride());
        offset += wrap(index, dims[axis])? * strides[axis];
    }
    Ok(offset)
}

/// ONNX GatherND: the last dimension of `indices` holds coordinates into the source after `batch_dims`.
pub fn gather_nd(
    destination: &mut Destination<'_>,
    source: &Source<'_>,
    indices: &Source<'_>,
    batch_dims: usize,
) -> Result<(), Fault> {
    require_integers(indices)?;
    require(indices.rank() >= 1 && batch_dims < indices.rank(), "gather_nd: batch_dims does not fit")?;
    let (outer, depth) = (indices.rank() - 1, indices.last_dim());
    let taken = batch_dims + depth;
    require(taken <= source.rank(), "gather_nd: more coordinates than dimensions")?;
    let window = destination.window.clone();
    let (dims, strides) = (window.dims(), window.strides());
    require(dims.len() == outer + source.rank() - taken, "gather_nd: ranks do not fit")?;
    same("gather_nd: batch extents differ", &source.dims()[..batch_dims], &indices.dims()[..batch_dims])?;
    same("gather_nd: extents of the indices differ", &dims[..outer], &indices.dims()[..outer])?;
    same("gather_nd: inner extents differ", &dims[outer..], &source.dims()[taken..])?;
    let mut steps = [[0i64; 3]; RANK_MAX];
    for (place, step) in steps.iter_mut().enumerate().take(outer) {
        let from = if place < batch_dims { source.strides()[place] } else { 0 };
        *step = [strides[place], from, indices.strides()[place]];
    }
    for_each_index(&dims[..outer], &steps[..outer], |[to, from, index]| {
        let (inner, inner_strides) = (&source.dims()[batch_dims..], &source.strides()[batch_dims..]);
        let from = from + coordinates(indices, index, inner, inner_strides, depth)?;
        copy_part(
            destination,
            source,
            &dims[outer..],
            [&strides[outer..], &source.strides()[taken..]],
            [to, from],
        )
    })
}

/// ONNX ScatterND: the last dimension of `indices` holds coordinates into the destination's leading dimensions.
pub fn scatter_nd(
    destination: &mut Destination<'_>,
    indices: &Source<'_>,
    updates: &Source<'_>,
    reduction: ScatterReduction,
) -> Result<(), Fault> {
    require_integers(indices)?;
    require(destination.element() == updates.element(), "updates must have the destination's element")?;
    require(indices.rank() >= 1, "scatter_nd: indices cannot be a scalar")?;
    let (outer, depth) = (indices.rank() - 1, indices.last_dim());
    let window = destination.window.clone();
    let (dims, strides) = (window.dims(), window.strides());
    require(
        depth <= dims.len() && updates.rank() == outer + dims.len() - depth,
        "scatter_nd: ranks do not fit",
    )?;
    same("scatter_nd: extents of the indices differ", &updates.dims()[..outer], &indices.dims()[..outer])?;
    same("scatter_nd: inner extents differ", &updates.dims()[outer..], &dims[depth..])?;
    let (steps, _) = steps_of([&indices.strides()[..outer], &updates.strides()[..outer]]);
    with_lane!([updates.element()], L => for_each_index(&indices.dims()[..outer], &steps[..outer], |[index, from]| {
        let to = coordinates(indices, index, dims, strides, depth)?;
        let (inner, _) = steps_of([&strides[depth..], &updates.strides()[outer..]]);
        for_each_index(&dims[depth..], &inner[..dims.len() - depth], |[to_rest, from_rest]| {
            let mut lane = [L::default()];
            load(updates, from + from_rest, 1, &mut lane);
            update(destination, to + to_rest, lane[0], reduction);
            Ok(())
        })
    }))
}

/// One value everywhere, saturated to the element's range.
pub fn fill(destination: &mut Destination<'_>, value: f64) -> Result<(), Fault> {
    const CHUNK: usize = 256;
    let element = destination.element();
    let window = destination.window.clone();
    let is_integer = element.integer_range().is_some() && element != Element::Bool;
    let lanes = [saturate_to::<i128>(value.trunc(), element); CHUNK];
    let floats = [value; CHUNK];
    for_each_row(window.dims(), [window.strides()], |length, [to], [step]| {
        for start in (0..length).step_by(CHUNK) {
            let (count, place) = (CHUNK.min(length - start), to + start as i64 * step);
            if is_integer {
                store(destination, place, step, &lanes[..count]);
            } else {
                store(destination, place, step, &floats[..count]);
            }
        }
        Ok(())
    })
}

/// One integer everywhere.
pub fn fill_integer(destination: &mut Destination<'_>, value: i64) -> Result<(), Fault> {
    let window = destination.window.clone();
    for_each_row(window.dims(), [window.strides()], |length, [to], [step]| {
        (0..length as i64).for_each(|index| store(destination, to + index * step, 1, &[value]));
        Ok(())
    })
}

/// `destination[.., i, ..] = start + i * step` along an axis.
pub fn iota(destination: &mut Destination<'_>, axis: usize, start: i64, step: i64) -> Result<(), Fault> {
    require(axis < destination.rank(), "iota: the axis is not less than the rank")?;
    let window = destination.window.clone();
    let (mut steps, rank) = steps_of([window.strides()]);
    let mut dims = [1usize; RANK_MAX];
    dims[..rank].copy_from_slice(window.dims());
    let (count, along) = (dims[axis], steps[axis][0]);
    (dims[axis], steps[axis]) = (1, [0]);
    for_each_index(&dims[..rank], &steps[..rank], |[to]| {
        for index in 0..count as i64 {
            store(destination, to + index * along, 1, &[start.wrapping_add(index.wrapping_mul(step))]);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{random, read, values};

    fn counting(element: Element, dims: &[usize]) -> crate::kernels::testing::Values {
        values(
            element,
            dims,
            &(0..dims.iter().product::<usize>()).map(|index| index as f64).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn copies_transpose_every_width() {
        for &element in Element::ALL {
            let x = random(element, &[4, 6], 9);
            let mut out = values(element, &[6, 4], &[]);
            let mut view = x.source();
            view.window.transpose_for_test();
            copy(&mut out.destination(), &view).expect("extents agree");
            let (from, to) = (read(&x.source()), read(&out.source()));
            for row in 0..4 {
                for column in 0..6 {
                    let (found, expected) = (to[column * 4 + row], from[row * 6 + column]);
                    assert_eq!(found.to_bits(), expected.to_bits(), "{element}");
                }
            }
        }
    }

    #[test]
    fn gathers_wrap_negative_indices_and_refuse_others() {
        let x = counting(Element::F32, &[3, 4]);
        let rows = values(Element::I64, &[2], &[2.0, -3.0]);
        let mut out = values(Element::F32, &[2, 4], &[]);
        gather(&mut out.destination(), &x.source(), &rows.source(), 0).expect("in range");
        assert_eq!(read(&out.source()), [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0]);
        let mut columns = values(Element::F32, &[3, 2], &[]);
        gather(&mut columns.destination(), &x.source(), &rows.source(), 1).expect("in range");
        assert_eq!(read(&columns.source()), [2.0, 1.0, 6.0, 5.0, 10.0, 9.0]);
        let wrong = values(Element::I64, &[2], &[0.0, 3.0]);
        let fault = gather(&mut out.destination(), &x.source(), &wrong.source(), 0);
        assert_eq!(fault, Err(Fault::Index { index: 3, extent: 3 }));
    }

    #[test]
    fn elements_and_coordinates() {
        let x = counting(Element::I32, &[2, 3]);
        let index = values(Element::I64, &[2, 2], &[2.0, 0.0, 1.0, -1.0]);
        let mut out = values(Element::I32, &[2, 2], &[]);
        gather_elements(&mut out.destination(), &x.source(), &index.source(), 1).expect("in range");
        assert_eq!(read(&out.source()), [2.0, 0.0, 4.0, 5.0]);
        let mut data = counting(Element::I32, &[2, 3]);
        let update = values(Element::I32, &[2, 2], &[10.0; 4]);
        scatter_elements(
            &mut data.destination(),
            &index.source(),
            &update.source(),
            1,
            ScatterReduction::Add,
        )
        .expect("in range");
        assert_eq!(read(&data.source()), [10.0, 1.0, 12.0, 3.0, 14.0, 15.0]);
        let places = values(Element::I64, &[2, 2], &[0.0, 1.0, 1.0, -1.0]);
        let mut picked = values(Element::I32, &[2], &[]);
        gather_nd(&mut picked.destination(), &x.source(), &places.source(), 0).expect("in range");
        assert_eq!(read(&picked.source()), [1.0, 5.0]);
        let batched = values(Element::I64, &[2, 1], &[2.0, 0.0]);
        gather_nd(&mut picked.destination(), &x.source(), &batched.source(), 1).expect("in range");
        assert_eq!(read(&picked.source()), [2.0, 3.0]);
        let update = values(Element::I32, &[2], &[7.0, 8.0]);
        scatter_nd(&mut data.destination(), &places.source(), &update.source(), ScatterReduction::None)
            .expect("fits");
        assert_eq!(read(&data.source()), [10.0, 7.0, 12.0, 3.0, 14.0, 8.0]);
    }

    #[test]
    fn values_from_nothing() {
        let mut out = values(Element::I8, &[2, 2], &[]);
        fill(&mut out.destination(), -1e9).expect("any value");
        assert_eq!(read(&out.source()), [-128.0; 4]);
        iota(&mut out.destination(), 1, 5, -2).expect("axis in range");
        assert_eq!(read(&out.source()), [5.0, 3.0, 5.0, 3.0]);
        let mut float = values(Element::F32, &[1], &[]);
        fill(&mut float.destination(), f64::NEG_INFINITY).expect("any value");
        assert_eq!(read(&float.source()), [f64::NEG_INFINITY]);
    }
}
