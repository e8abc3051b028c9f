//! The spaces of one session, and safe windows on them.
//!
//! A [`View`] is resolved against the register file into a [`Window`]: plain numbers and the byte range it touches, checked
//! against the size of the space on every use (the checker has proven it already; this costs little and keeps a hostile
//! stream an error). `Memory::borrow` then hands out disjoint slices for all operands of a command at once. A source that
//! overlaps a destination is copied aside first, so that a kernel never sees its own output. This file must not know
//! commands.

use crate::element::Element;
use crate::kernels::Fault;
use crate::kernels::pool::Pool;
use crate::view::{RANK_MAX, Space, View};
use std::ops::Range;
use std::sync::Arc;
use zerocopy::{FromBytes, FromZeros, IntoBytes, KnownLayout};

/// Buffers begin at a multiple of this: a cache line.
const ALIGNMENT_BYTES: usize = 64;

/// Zeroed bytes that begin at a cache line.
#[derive(Default)]
pub(crate) struct AlignedBytes {
    /// Begins anywhere: the system's own zeros, which take no memory until they are used, come without a wish for alignment only.
    room: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBytes {
    /// So many zero bytes; `None` when the system has no room. Pages are touched only when used.
    pub(crate) fn new(length: usize) -> Option<AlignedBytes> {
        let room = u8::new_vec_zeroed(length.checked_add(ALIGNMENT_BYTES)?).ok()?;
        let start = room.as_ptr().align_offset(ALIGNMENT_BYTES);
        Some(AlignedBytes { start: start.min(ALIGNMENT_BYTES), room, length })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.start + self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.length]
    }

    /// Makes all bytes zero: by new ones of the system, which touches no page, as long as it has room for both.
    fn clear(&mut self) {
        match AlignedBytes::new(self.length) {
            Some(zeros) => *self = zeros,
            None => self.bytes_mut().fill(0),
        }
    }

    fn grow(&mut self, length: usize) -> Result<(), Fault> {
        if length > self.length {
            *self = AlignedBytes::new(length).ok_or(Fault::OutOfMemory { bytes: length as u64 })?;
        }
        Ok(())
    }
}

/// A view with numbers for registers.
#[derive(Clone, Debug)]
pub struct Window {
    /// Which memory.
    pub space: Space,
    /// What is in it.
    pub element: Element,
    rank: usize,
    dims: [usize; RANK_MAX],
    strides: [i64; RANK_MAX],
    /// Bytes of the space that elements touch; empty when some extent is 0.
    range: Range<usize>,
    /// From the range's start to element (0, 0, ..), in bytes.
    origin: i64,
}

impl Window {
    /// Resolves a view. `space_bytes` is the size of its space.
    ///
    /// # Errors
    /// When an element would lie outside the space.
    pub fn resolve(view: &View, registers: &[i64], space_bytes: usize) -> Result<Window, Fault> {
        let rank = view.dims.len().min(view.strides.len()).min(RANK_MAX);
        let mut window = Window {
            space: view.space,
            element: view.element,
            rank,
            dims: [0; RANK_MAX],
            strides: [0; RANK_MAX],
            range: 0..0,
            origin: 0,
        };
        let (mut low, mut high) = (0i128, 0i128);
        let mut is_empty = false;
        for axis in 0..rank {
            let dim = view.dims[axis].evaluate(registers) as usize;
            let stride = view.strides[axis];
            window.dims[axis] = dim;
            window.strides[axis] = stride;
            is_empty |= dim == 0;
            let reach = (dim as i128 - 1) * i128::from(stride);
            low += reach.min(0);
            high += reach.max(0);
        }
        if is_empty {
            return Ok(window);
        }
        let bits = i128::from(view.element.bits());
        let base = i128::from(view.base_bytes.evaluate(registers));
        let start = base + (low * bits).div_euclid(8);
        let end = base + ((high + 1) * bits + 7).div_euclid(8);
        if start < 0 || end > space_bytes as i128 {
            return Err(Fault::OutOfBounds { space: view.space, start, end, size: space_bytes });
        }
        window.range = start as usize..end as usize;
        window.origin = (base - start) as i64;
        Ok(window)
    }

    /// The extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The strides in elements.
    pub fn strides(&self) -> &[i64] {
        &self.strides[..self.rank]
    }

    /// The strides, 0 beyond the rank.
    pub(crate) fn strides_padded(&self) -> [i64; RANK_MAX] {
        self.strides
    }

    /// The bytes of the space that it touches.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    #[cfg(test)]
    pub(crate) fn transpose_for_test(&mut self) {
        self.dims.swap(0, 1);
        self.strides.swap(0, 1);
    }

    fn overlaps(&self, other: &Window) -> bool {
        self.space == other.space && self.range.start < other.range.end && other.range.start < self.range.end
    }
}

/// A window to read: extents, strides and the bytes.
#[derive(Clone)]
pub struct Source<'m> {
    pub(crate) window: Window,
    pub(crate) bytes: &'m [u8],
}

/// A window to write (and read back).
pub struct Destination<'m> {
    pub(crate) window: Window,
    pub(crate) bytes: &'m mut [u8],
}

macro_rules! window_accessors {
    ($name:ident) => {
        impl $name<'_> {
            /// What is in it.
            pub fn element(&self) -> Element {
                self.window.element
            }
            /// The extents.
            pub fn dims(&self) -> &[usize] {
                self.window.dims()
            }
            /// The strides in elements.
            pub fn strides(&self) -> &[i64] {
                self.window.strides()
            }
            /// Number of dimensions.
            pub fn rank(&self) -> usize {
                self.window.rank
            }
            /// Extent of the last dimension, 1 for a scalar.
            pub fn last_dim(&self) -> usize {
                self.dims().last().copied().unwrap_or(1)
            }
            /// Stride of the last dimension, 1 for a scalar.
            pub fn last_stride(&self) -> i64 {
                self.strides().last().copied().unwrap_or(1)
            }
            /// Whether some extent is 0.
            pub fn is_empty(&self) -> bool {
                self.dims().contains(&0)
            }
            /// Byte in `bytes` (floor) and bit in that byte of an element offset.
            #[inline]
            pub(crate) fn locate(&self, offset: i64) -> (usize, u32) {
                let bits = i64::from(self.window.element.bits());
                if bits >= 8 {
                    ((self.window.origin + offset * (bits / 8)) as usize, 0)
                } else {
                    let bit = offset * bits;
                    ((self.window.origin + (bit >> 3)) as usize, (bit & 7) as u32)
                }
            }
        }
    };
}

window_accessors!(Source);
window_accessors!(Destination);

impl<'m> Source<'m> {
    /// A window over bytes of its own, row-major: for constants made at run time and for tests.
    pub fn packed(element: Element, dims: &[usize], bytes: &'m [u8]) -> Result<Source<'m>, Fault> {
        let window = Window::resolve(&packed_view(element, dims), &[], bytes.len())?;
        Ok(Source { bytes: &bytes[window.range()], window })
    }

    /// A window over bytes of its own with these strides (in elements).
    pub fn strided(
        element: Element,
        dims: &[usize],
        strides: &[i64],
        bytes: &'m [u8],
    ) -> Result<Source<'m>, Fault> {
        let view = View { strides: strides.to_vec(), ..packed_view(element, dims) };
        let window = Window::resolve(&view, &[], bytes.len())?;
        Ok(Source { bytes: &bytes[window.range()], window })
    }
}

impl Source<'_> {
    /// Whether [`Source::part`] may begin anywhere along an axis: elements of less than a byte do not.
    pub(crate) fn can_part(&self, axis: usize) -> bool {
        axis < self.rank() && (self.strides()[axis] * i64::from(self.element().bits())) % 8 == 0
    }

    /// Some indices of an axis. What [`Source::can_part`] refuses must not be asked for.
    pub(crate) fn part(&self, axis: usize, range: Range<usize>) -> Source<'_> {
        let mut window = self.window.clone();
        let step_bits = window.strides[axis] * i64::from(window.element.bits());
        window.origin += range.start as i64 * step_bits / 8;
        window.dims[axis] = range.len();
        Source { window, bytes: self.bytes }
    }
}

impl Destination<'_> {
    /// Whether indices of an axis lie in memory one after the other, with all that belongs to one before the next.
    pub(crate) fn can_part(&self, axis: usize) -> bool {
        let size = (self.element().bits() / 8) as i64;
        let others = || (0..self.rank()).filter(|other| *other != axis);
        let reach: i64 =
            others().map(|other| (self.dims()[other] as i64 - 1) * self.strides()[other] * size).sum();
        let ascends = self.strides().iter().all(|stride| *stride >= 0) && self.window.origin == 0;
        size > 0
            && axis < self.rank()
            && !self.is_empty()
            && ascends
            && self.strides()[axis] * size >= reach + size
    }

    /// The pieces between `edges`, which ascend from 0 to the extent of the axis. The whole where [`Destination::can_part`] refuses, which must
    /// then be all that is asked for.
    pub(crate) fn parts(&mut self, axis: usize, edges: &[usize]) -> Vec<Destination<'_>> {
        let step_bytes = self.strides()[axis].max(0) as usize * (self.element().bits() / 8) as usize;
        let (mut left, mut at) = (&mut *self.bytes, 0);
        let mut pieces = Vec::with_capacity(edges.len().saturating_sub(1));
        for (index, edge) in edges.windows(2).enumerate() {
            let is_last = index + 2 == edges.len();
            let end = if is_last { at + left.len() } else { edge[1] * step_bytes };
            let (piece, rest) = std::mem::take(&mut left).split_at_mut(end - at);
            let mut window = self.window.clone();
            window.dims[axis] = edge[1] - edge[0];
            pieces.push(Destination { window, bytes: piece });
            (left, at) = (rest, end);
        }
        pieces
    }
}

impl<'m> Destination<'m> {
    /// A window over bytes of its own, row-major.
    pub fn packed(element: Element, dims: &[usize], bytes: &'m mut [u8]) -> Result<Destination<'m>, Fault> {
        let window = Window::resolve(&packed_view(element, dims), &[], bytes.len())?;
        Ok(Destination { bytes: &mut bytes[window.range()], window })
    }

    /// The same window, to read.
    pub fn as_source(&self) -> Source<'_> {
        Source { window: self.window.clone(), bytes: self.bytes }
    }
}

fn packed_view(element: Element, dims: &[usize]) -> View {
    View::contiguous(Space::Dram, element, 0, dims.iter().map(|&dim| u32::try_from(dim).unwrap_or(u32::MAX)))
}

/// What kernels work with: room for rows in full precision, and threads. The room grows to what the largest command needs (the
/// session asks for that at load) and is reused from then on.
#[derive(Default)]
pub struct Workspace {
    lanes: AlignedBytes,
    pool: Arc<Pool>,
}

impl Workspace {
    /// No room yet, and these threads.
    pub fn with_pool(pool: Arc<Pool>) -> Workspace {
        Workspace { pool, ..Workspace::default() }
    }

    /// The threads.
    pub fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }

    /// Makes room for so many bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Fault> {
        self.lanes.grow(bytes)
    }

    /// `count` numbers of unspecified value.
    pub fn lanes<L: FromBytes + IntoBytes + KnownLayout>(&mut self, count: usize) -> Result<&mut [L], Fault> {
        Ok(self.two::<L, u8>(count, 0)?.0)
    }

    /// Two rows of numbers of unspecified values.
    pub fn two<A, B>(&mut self, first: usize, second: usize) -> Result<(&mut [A], &mut [B]), Fault>
    where
        A: FromBytes + IntoBytes + KnownLayout,
        B: FromBytes + IntoBytes + KnownLayout,
    {
        let too_large = Fault::OutOfMemory { bytes: u64::MAX };
        let first_bytes = first.checked_mul(size_of::<A>()).ok_or(too_large.clone())?;
        let second_bytes = second.checked_mul(size_of::<B>()).ok_or(too_large.clone())?;
        let split = first_bytes.checked_next_multiple_of(64).ok_or(too_large.clone())?;
        self.lanes.grow(split.checked_add(second_bytes).ok_or(too_large)?)?;
        let (front, back) = self.lanes.bytes_mut().split_at_mut(split);
        let unaligned = || Fault::Shape("the workspace is not aligned");
        let front = <[A]>::mut_from_bytes(&mut front[..first_bytes]).map_err(|_| unaligned())?;
        let back = <[B]>::mut_from_bytes(&mut back[..second_bytes]).map_err(|_| unaligned())?;
        Ok((front, back))
    }
}

/// All spaces but the constants, which are borrowed from the artifact for the time of a run.
#[derive(Default)]
pub(crate) struct Memory {
    spaces: [AlignedBytes; Space::COUNT],
    aside: AlignedBytes,
}

impl Memory {
    /// Zeroed spaces of these sizes; the constants' entry is ignored.
    pub(crate) fn new(space_bytes: &[u64; Space::COUNT]) -> Result<Memory, Fault> {
        let mut memory = Memory::default();
        for space in Space::ALL.into_iter().filter(|&space| space != Space::Constant) {
            let bytes = space_bytes[space as usize];
            let length = usize::try_from(bytes).ok().filter(|&length| length <= isize::MAX as usize - 64);
            let buffer = length.and_then(AlignedBytes::new).ok_or(Fault::OutOfMemory { bytes })?;
            memory.spaces[space as usize] = buffer;
        }
        Ok(memory)
    }

    pub(crate) fn space(&self, space: Space) -> &[u8] {
        self.spaces[space as usize].bytes()
    }

    /// Makes a space zero again.
    pub(crate) fn clear(&mut self, space: Space) {
        self.spaces[space as usize].clear();
    }

    #[cfg(test)]
    pub(crate) fn space_mut(&mut self, space: Space) -> &mut [u8] {
        self.spaces[space as usize].bytes_mut()
    }

    /// Size of a space.
    pub(crate) fn size(&self, space: Space, constants: &[u8]) -> usize {
        if space == Space::Constant { constants.len() } else { self.spaces[space as usize].length }
    }

    /// Slices for all operands of one command. Destinations must not overlap each other; sources may overlap anything.
    pub(crate) fn borrow<'m, const W: usize, const R: usize>(
        &'m mut self,
        constants: &'m [u8],
        writes: [Window; W],
        reads: [Option<Window>; R],
    ) -> Result<([Destination<'m>; W], [Option<Source<'m>>; R]), Fault> {
        if writes.iter().any(|write| write.space == Space::Constant) {
            return Err(Fault::ConstantWrite);
        }
        let copied = self.copy_overlapping(&writes, &reads)?;
        let mut order: [usize; W] = std::array::from_fn(|index| index);
        order.sort_by_key(|&index| (writes[index].space, writes[index].range.start));
        let Memory { spaces, aside } = self;
        let mut rest: [&'m mut [u8]; Space::COUNT] = spaces.each_mut().map(AlignedBytes::bytes_mut);
        let mut rest_start = [0usize; Space::COUNT];
        let mut taken: [Option<&'m mut [u8]>; W] = [const { None }; W];
        let mut gaps: [(Space, usize, &'m [u8]); W] = std::array::from_fn(|_| (Space::Constant, 0, &[][..]));
        for (gap, &index) in gaps.iter_mut().zip(&order) {
            let Window { space, range, .. } = &writes[index];
            let place = *space as usize;
            let Some(skip) = range.start.checked_sub(rest_start[place]).or(range.is_empty().then_some(0))
            else {
                return Err(Fault::OverlappingDestinations);
            };
            let whole = std::mem::take(&mut rest[place]);
            let out_of_bounds = Fault::Shape("a window lies outside its space");
            let (before, tail) = whole.split_at_mut_checked(skip).ok_or(out_of_bounds.clone())?;
            let (mine, tail) = tail.split_at_mut_checked(range.len()).ok_or(out_of_bounds)?;
            *gap = (*space, rest_start[place], before);
            taken[index] = Some(mine);
            rest[place] = tail;
            rest_start[place] += skip + range.len();
        }
        let rest: [&'m [u8]; Space::COUNT] = rest.map(|slice| &*slice);
        let aside: &'m [u8] = aside.bytes();
        let mut sources: [Option<Source<'m>>; R] = [const { None }; R];
        for ((source, window), copy) in sources.iter_mut().zip(reads).zip(copied) {
            let Some(window) = window else { continue };
            let range = window.range();
            let within =
                |start: usize, slice: &'m [u8]| slice.get(range.start.checked_sub(start)?..range.end - start);
            let bytes = match (&copy, window.space) {
                _ if range.is_empty() => Some(&[][..]),
                (Some(copy), _) => aside.get(copy.clone()),
                (None, Space::Constant) => constants.get(range.clone()),
                (None, space) => within(rest_start[space as usize], rest[space as usize]).or_else(|| {
                    gaps.iter().filter(|gap| gap.0 == space).find_map(|gap| within(gap.1, gap.2))
                }),
            };
            let bytes = bytes.ok_or(Fault::Shape("a source lies outside its space"))?;
            *source = Some(Source { window, bytes });
        }
        let mut taken = taken.into_iter();
        let destinations = writes.map(|window| Destination {
            window,
            bytes: taken.next().flatten().expect("every destination was taken above"),
        });
        Ok((destinations, sources))
    }

    /// Copies sources that overlap a destination; returns where to.
    fn copy_overlapping<const W: usize, const R: usize>(
        &mut self,
        writes: &[Window; W],
        reads: &[Option<Window>; R],
    ) -> Result<[Option<Range<usize>>; R], Fault> {
        let mut copied = [const { None }; R];
        let mut used = 0usize;
        for (copy, read) in copied.iter_mut().zip(reads) {
            let Some(read) = read else { continue };
            if writes.iter().any(|write| write.overlaps(read)) {
                *copy = Some(used..used + read.range.len());
                used = (used + read.range.len()).next_multiple_of(64);
            }
        }
        if used != 0 {
            self.aside.grow(used)?;
            for (copy, read) in copied.iter().zip(reads) {
                if let (Some(copy), Some(read)) = (copy, read) {
                    let from = &self.spaces[read.space as usize].bytes()[read.range.clone()];
                    self.aside.bytes_mut()[copy.clone()].copy_from_slice(from);
                }
            }
        }
        Ok(copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Expression, Register};

    fn window(base: i64, count: u32) -> Window {
        Window::resolve(&View::contiguous(Space::Sram, Element::U8, base, [count]), &[], 64)
            .expect("in bounds")
    }

    fn memory() -> Memory {
        let mut memory = Memory::new(&[0, 0, 0, 0, 64, 0]).expect("small");
        for (index, byte) in memory.space_mut(Space::Sram).iter_mut().enumerate() {
            *byte = index as u8;
        }
        memory
    }

    #[test]
    fn buffers_begin_at_a_cache_line_and_become_zero_again() {
        for length in [0, 1, 63, 64, 1000, 1 << 20] {
            let mut buffer = AlignedBytes::new(length).expect("small");
            assert_eq!((buffer.bytes().len(), buffer.bytes().as_ptr() as usize % 64), (length, 0));
            buffer.bytes_mut().fill(7);
            buffer.clear();
            assert!(buffer.bytes().len() == length && buffer.bytes().iter().all(|byte| *byte == 0));
        }
        assert!(AlignedBytes::new(usize::MAX).is_none());
    }

    #[test]
    fn windows_are_checked_at_both_ends() {
        let mut view = View::contiguous(Space::Sram, Element::I4, Expression::register(Register(0)), [5u32]);
        assert_eq!(Window::resolve(&view, &[61], 64).expect("3 bytes fit").range(), 61..64);
        assert!(matches!(Window::resolve(&view, &[62], 64), Err(Fault::OutOfBounds { .. })));
        view.strides = vec![-2];
        assert_eq!(Window::resolve(&view, &[4], 64).expect("reaches back").range(), 0..5);
        assert!(Window::resolve(&view, &[3], 64).is_err());
        assert!(Window::resolve(&view, &[i64::MAX], 64).is_err());
    }

    #[test]
    fn operands_are_disjoint_or_copied() {
        let mut memory = memory();
        let (writes, reads) = memory
            .borrow(&[], [window(32, 8), window(8, 8)], [Some(window(0, 8)), Some(window(12, 30)), None])
            .expect("disjoint destinations");
        assert_eq!(writes[0].bytes[0], 32);
        writes[1].bytes.fill(255);
        writes[0].bytes.fill(255);
        let read = reads[1].as_ref().expect("given");
        assert_eq!(reads[0].as_ref().expect("given").bytes, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(
            read.bytes.iter().zip(12..).all(|(&byte, expected)| byte == expected),
            "the copy is from before"
        );
    }

    #[test]
    fn overlapping_destinations_and_constant_writes_are_refused() {
        let mut memory = memory();
        assert_eq!(
            memory.borrow(&[], [window(0, 8), window(7, 8)], [None]).err(),
            Some(Fault::OverlappingDestinations)
        );
        let mut constant = window(0, 8);
        constant.space = Space::Constant;
        assert_eq!(memory.borrow(&[0; 8], [constant], [None]).err(), Some(Fault::ConstantWrite));
    }
}
