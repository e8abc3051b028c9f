//! One command on several threads: its windows are cut along an axis, and each thread has a part of each.
//!
//! Destinations are cut into disjoint pieces of memory, so that this is plain safe code; a command whose windows do not allow that, or which
//! has little to do, runs on the caller. Where windows are cut must not show in results: a kernel says along which axes that is so.
//!
//! ```text
//! add [128, 8192] on 2 threads  =>  add [0..64, 8192], add [64..128, 8192]
//! ```

use super::Fault;
use super::pool::{Pool, WORK_MIN};
use crate::memory::{Destination, Source, Workspace};
use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

/// Lengths of parts are multiples of this many elements along the last axis: 64 f32 are four cache lines.
const GRANULE: usize = 64;

thread_local! {
    /// Room of each thread, kept from command to command.
    static ROOM: RefCell<Workspace> = RefCell::default();
}

/// What one thread works on.
type Part<'p, const D: usize, const S: usize> = ([Destination<'p>; D], [Option<Source<'p>>; S]);

/// Runs `body` on parts along `axis`, with the number of the part. All windows have the same extent there.
pub(crate) fn along<const D: usize, const S: usize>(
    axis: usize,
    destinations: [&mut Destination<'_>; D],
    sources: [Option<&Source<'_>>; S],
    pool: &Pool,
    body: impl Fn(usize, [Destination<'_>; D], [Option<Source<'_>>; S]) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    let extent = destinations[0].dims()[axis];
    let granule = if axis + 1 == destinations[0].rank() { GRANULE } else { 1 };
    let granules = extent.div_ceil(granule);
    let parts = pool.threads().min(granules).max(1);
    let edges: Vec<usize> = (0..=parts).map(|at| (granules * at / parts * granule).min(extent)).collect();
    let mut pieces = destinations.map(|destination| destination.parts(axis, &edges).into_iter());
    let work: Vec<Mutex<Option<Part<'_, D, S>>>> = edges
        .windows(2)
        .map(|edge| {
            let to = pieces.each_mut().map(|pieces| pieces.next().expect("a piece for each part"));
            let from = sources.map(|source| source.map(|source| source.part(axis, edge[0]..edge[1])));
            Mutex::new(Some((to, from)))
        })
        .collect();
    let fault: Mutex<Option<(usize, Fault)>> = Mutex::new(None);
    pool.each(parts, u64::MAX, |index| {
        let part = work[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((to, from)) = part else { return };
        if let Err(problem) = body(index, to, from) {
            let mut first = fault.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|first| index < first.0) {
                *first = Some((index, problem));
            }
        }
    });
    let fault = fault.into_inner().unwrap_or_else(PoisonError::into_inner);
    fault.map_or(Ok(()), |(_, problem)| Err(problem))
}

/// Runs a kernel whose elements depend on those at the same place alone. `cost` is work per element.
pub(crate) fn elementwise<const S: usize>(
    destination: &mut Destination<'_>,
    sources: [&Source<'_>; S],
    pool: &Pool,
    cost: u64,
    body: impl Fn(&mut Destination<'_>, [&Source<'_>; S]) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    let elements = destination.dims().iter().fold(1u64, |product, &dim| product.saturating_mul(dim as u64));
    let fits = pool.threads() > 1
        && elements.saturating_mul(cost) >= WORK_MIN
        && sources.iter().all(|source| source.dims() == destination.dims());
    let axis = destination.dims().iter().position(|&dim| dim > 1).filter(|_| fits);
    match axis.filter(|axis| can_cut(*axis, &[&*destination], &sources.map(Some))) {
        None => body(destination, sources),
        Some(axis) => along(axis, [destination], sources.map(Some), pool, |_, [mut to], from| {
            let whole = from.each_ref().map(|source| source.as_ref().expect("every source was given"));
            body(&mut to, whole)
        }),
    }
}

/// Runs a kernel whose rows along the last axis depend on nothing but themselves and the sources' rows at the same place. Threads have room of
/// their own. `cost` is work per element.
pub(crate) fn rows<const S: usize>(
    destination: &mut Destination<'_>,
    sources: [Option<&Source<'_>>; S],
    workspace: &mut Workspace,
    cost: u64,
    body: impl Fn(&mut Destination<'_>, [Option<&Source<'_>>; S], &mut Workspace) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    let pool = workspace.pool();
    let elements = destination.dims().iter().fold(1u64, |product, &dim| product.saturating_mul(dim as u64));
    let leading = &destination.dims()[..destination.rank().saturating_sub(1)];
    let is_worth = pool.threads() > 1 && elements.saturating_mul(cost) >= WORK_MIN;
    let axis = leading.iter().position(|&dim| dim > 1).filter(|_| is_worth);
    let is_alike = |axis: usize| {
        let extent = Some(&leading[axis]);
        sources.iter().flatten().all(|source| source.dims().get(axis) == extent)
    };
    let axis = axis.filter(|axis| is_alike(*axis) && can_cut(*axis, &[&*destination], &sources));
    match axis {
        None => body(destination, sources, workspace),
        Some(axis) => along(axis, [destination], sources, &pool, |_, [mut to], from| {
            ROOM.with_borrow_mut(|room| body(&mut to, from.each_ref().map(Option::as_ref), room))
        }),
    }
}

/// Whether windows can be cut along an axis anywhere.
pub(crate) fn can_cut(
    axis: usize,
    destinations: &[&Destination<'_>],
    sources: &[Option<&Source<'_>>],
) -> bool {
    destinations.iter().all(|destination| destination.can_part(axis))
        && sources.iter().flatten().all(|source| source.can_part(axis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;
    use crate::functions::{BinaryFunction, UnaryFunction};
    use crate::kernels::elementwise::{binary, unary};
    use crate::kernels::testing::{random, read, values};

    #[test]
    fn parts_give_what_the_whole_gives() {
        let pool = Pool::new(3);
        for (element, dims) in [
            (Element::F32, vec![1, 1, 50_000]),
            (Element::BF16, vec![7, 9001]),
            (Element::F32, vec![2, 3, 20_001]),
        ] {
            let (a, b) = (random(element, &dims, 1), random(element, &dims, 2));
            let (mut alone, mut together) = (values(element, &dims, &[]), values(element, &dims, &[]));
            binary(&mut alone.destination(), &a.source(), &b.source(), BinaryFunction::Multiply)
                .expect("fits");
            let (x, y) = (a.source(), b.source());
            elementwise(&mut together.destination(), [&x, &y], &pool, 4, |to, [x, y]| {
                binary(to, x, y, BinaryFunction::Multiply)
            })
            .expect("fits");
            assert_eq!(read(&alone.source()), read(&together.source()));
            // Turned, rows of the destination are not apart: the caller does it alone.
            let mut turned = together.destination();
            if dims.len() == 2 {
                turned.window.transpose_for_test();
                let mut x = a.source();
                x.window.transpose_for_test();
                elementwise(&mut turned, [&x], &pool, 4, |to, [x]| {
                    unary(to, x, UnaryFunction::Negate, 0.0, 0.0)
                })
                .expect("fits");
                let negated: Vec<f64> = read(&a.source()).iter().map(|x| -x).collect();
                assert_eq!(read(&together.source()), negated);
            }
        }
    }

    #[test]
    fn rows_have_room_of_their_own() {
        use crate::kernels::normalize::softmax;
        use std::sync::Arc;
        let dims = [2, 60, 700];
        let x = random(Element::F32, &dims, 3);
        let on = |threads: usize| {
            let mut workspace = Workspace::with_pool(Arc::new(Pool::new(threads)));
            let mut to = values(Element::F32, &dims, &[]);
            rows(
                &mut to.destination(),
                [Some(&x.source()), None],
                &mut workspace,
                16,
                |to, [x, none], room| {
                    assert!(none.is_none());
                    softmax(to, x.expect("it was given"), false, room)
                },
            )
            .expect("fits");
            read(&to.source())
        };
        assert_eq!(on(3), on(1));
    }

    #[test]
    fn the_first_fault_is_told() {
        let pool = Pool::new(2);
        let x = random(Element::F32, &[2, 40_000], 1);
        let mut to = values(Element::F32, &[2, 40_000], &[]);
        let source = x.source();
        let told = elementwise(&mut to.destination(), [&source], &pool, 4, |_, _| Err(Fault::Shape("no")));
        assert_eq!(told, Err(Fault::Shape("no")));
    }
}
