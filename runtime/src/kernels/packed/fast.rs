//! Which packed products fast kernels compute, and how their work is prepared and cut.
//!
//! A product that does not fit (another layout, factors that are not side by side, blocks that cut a line) is none of theirs: [`product`]
//! says so and [`super::scalar`] computes it, to the same bits.

#![allow(unsafe_code, reason = "handing checked pointers to kernels that write disjoint panels")]

use super::job::{FactorPlace, Job, Kernel, LINE_BYTES, Panels, Stored};
use super::prepare::{Rows, Word};
use super::{Layout, PANEL_COLUMNS, Problem, batches};
use crate::element::Element;
use crate::kernels::Fault;
use crate::kernels::cpu::Features;
use crate::kernels::lanes::{NF4_LEVELS, load, load_integer, store};
use crate::kernels::matmul::{DEPTH, Quantized};
use crate::kernels::pool::{Pieces, Pool};
use crate::memory::{Destination, Source, Workspace};
use half::bf16;

use super::amx;
use super::tiles::TILE_ROWS;
use super::x86::{Kernels, TileKernels, Weights, kernels, tile_kernels};

/// How a product is computed.
pub(super) struct Plan {
    pub(super) kernels: Kernels,
    word: Word,
    /// Rows of k in a line, and in a piece that is summed before it is scaled.
    depth: usize,
    piece: usize,
    flip: i32,
    offset: i32,
    table: [f32; 16],
    scale: Option<Stored>,
    one_scale: Option<[f32; PANEL_COLUMNS]>,
    zero: Option<Stored>,
}

/// The codes `0..16` of an element as numbers.
fn levels(b: &Quantized<'_, '_>) -> [f32; 16] {
    let mut levels = std::array::from_fn(|code| code as f32);
    match (b.codebook, b.values.element()) {
        (Some(codebook), _) => load(codebook, 0, codebook.last_stride(), &mut levels),
        (None, Element::NF4) => levels = NF4_LEVELS,
        (None, Element::I4) => levels[8..].iter_mut().for_each(|level| *level -= 16.0),
        _ => {}
    }
    levels
}

/// The layout of the values' element, when they lie so.
fn known_layout(values: &Source<'_>, problem: &Problem) -> Option<Layout> {
    let layout = Layout::of(values.element())?;
    let (outer, inner) = values.strides().split_at(values.rank() - 4);
    let [groups, columns, rows] = layout.steps;
    let wanted = [layout.depth() * layout.columns, groups, columns, rows];
    let dims = &values.dims()[values.rank() - 4..];
    let lies_so =
        dims.iter().zip(inner).zip(wanted).all(|((&dim, &found), wanted)| dim == 1 || found == wanted as i64);
    let extents = [problem.columns, problem.groups, problem.rows];
    let at_bytes = |stride: &i64| *stride >= 0 && stride * i64::from(values.element().bits()) % 8 == 0;
    let fits =
        lies_so && extents == [layout.columns, layout.groups, layout.rows] && outer.iter().all(at_bytes);
    fits.then_some(layout)
}

/// How factors are stored, when 16 lie side by side at whole bytes.
fn stored(factor: &Source<'_>) -> Option<Stored> {
    let stored = match factor.element() {
        Element::F32 => Stored::F32,
        Element::F16 => Stored::F16,
        Element::BF16 => Stored::BF16,
        Element::I8 => Stored::I8,
        Element::U8 => Stored::U8,
        Element::I4 => Stored::I4,
        Element::U4 => Stored::U4,
        _ => return None,
    };
    let (&across, outer) = factor.strides().split_last()?;
    let bits = i64::from(factor.element().bits());
    (across == 1 && outer.iter().all(|stride| *stride >= 0 && stride * bits % 8 == 0)).then_some(stored)
}

/// Which kernel multiplies, what a word of a is for it, and what turns stored weights into its numbers.
struct Way {
    weights: Weights,
    word: Word,
    flip: i32,
    offset: i32,
}

/// Ways to multiply, the fastest first. `constant` is a zero point of all weights.
fn ways(a: Element, b: &Quantized<'_, '_>, has_zeros: bool, constant: i32) -> Vec<Way> {
    use Element as E;
    const SIGNS: i32 = 0x8080_8080_u32 as i32;
    let element = b.values.element();
    let way = |weights, word, flip, offset| Way { weights, word, flip, offset };
    let is_integer = element.is_integer() && b.codebook.is_none();
    let mut ways = Vec::new();
    if a == E::I8 && b.scale.is_some() && is_integer {
        ways.push(match element {
            E::I4 => way(Weights::Nibbles, Word::Bytes, 0x0808_0808, constant + 8),
            E::U4 => way(Weights::Nibbles, Word::Bytes, 0, constant),
            E::I8 => way(Weights::Bytes, Word::Bytes, SIGNS, constant + 128),
            _ => way(Weights::Bytes, Word::Bytes, 0, constant),
        });
    }
    if !a.is_float() || a == E::F64 {
        return ways;
    }
    if a == E::BF16 && !has_zeros {
        match element {
            E::BF16 => ways.push(way(Weights::PairsBf16, Word::Pair, 0, 0)),
            E::I4 | E::U4 if is_integer => ways.push(way(Weights::PairsCodes, Word::Pair, 0, 0)),
            E::I8 if constant == 0 => ways.push(way(Weights::PairsSigned, Word::Pair, 0, 0)),
            _ => {}
        }
    }
    let (weights, flip, offset) = match element {
        E::I4 | E::U4 | E::NF4 if has_zeros => (Weights::CodesLess, 0, 0),
        E::I4 | E::U4 | E::NF4 => (Weights::Codes, 0, 0),
        E::I8 if !has_zeros && constant == 0 => (Weights::Signed, 0, 0),
        E::I8 => (Weights::BytesLess, 0, constant),
        E::U8 => (Weights::BytesLess, SIGNS, constant - 128),
        E::BF16 if b.zero.is_none() => (Weights::Bf16, 0, 0),
        E::F16 if b.zero.is_none() => (Weights::F16, 0, 0),
        E::F32 if b.zero.is_none() => (Weights::F32, 0, 0),
        _ => return ways,
    };
    ways.push(way(weights, Word::Float, flip, offset));
    ways
}

/// Whether tiles can hold the weights: less a zero point they must be signed bytes.
fn fits_tiles(weights: Weights, element: Element, constant: i32) -> bool {
    match weights {
        Weights::Nibbles => (-64..=64).contains(&constant),
        Weights::Bytes => element == Element::I8 && constant == 0,
        _ => true,
    }
}

/// Whether all factors are one.
fn is_constant(factor: &Source<'_>) -> bool {
    factor.dims().iter().zip(factor.strides()).all(|(&dim, &stride)| dim == 1 || stride == 0)
}

/// The plan of a product, if some kernel for a processor with these features takes it.
pub(super) fn plan(
    features: Features,
    destination: Element,
    a: Element,
    b: &Quantized<'_, '_>,
    problem: &Problem,
) -> Option<Plan> {
    plan_with(features, tile_kernels(features), destination, a, b, problem)
}

/// The same with these kernels on tiles.
pub(super) fn plan_with(
    features: Features,
    tiles: Option<TileKernels>,
    destination: Element,
    a: Element,
    b: &Quantized<'_, '_>,
    problem: &Problem,
) -> Option<Plan> {
    let layout = known_layout(b.values, problem)?;
    let (k, block) = (problem.k, problem.block.min(problem.k));
    if problem.m == 0 || problem.n == 0 || k == 0 || !destination.is_float() || destination == Element::F64 {
        return None;
    }
    // One factor for all is kept with the plan, 16 times side by side.
    let one_scale = b.scale.filter(|scale| scale.element().is_float() && is_constant(scale)).map(|scale| {
        let mut one = [0f32];
        load(scale, 0, 1, &mut one);
        [one[0]; PANEL_COLUMNS]
    });
    let scale = b.scale.map(|scale| match one_scale {
        Some(_) => Some(Stored::F32),
        None => stored(scale).filter(|stored| matches!(stored, Stored::F32 | Stored::F16 | Stored::BF16)),
    });
    let is_code = |zero: &Source<'_>| zero.element().is_integer() && zero.element().bits() <= 8;
    // One zero point for all is part of the numbers.
    let (zero, constant) = match b.zero {
        None => (None, 0),
        Some(zero) if !is_code(zero) => return None,
        Some(zero) if is_constant(zero) => (None, load_integer(zero, 0) as i32),
        Some(zero) => (Some(stored(zero)?), 0),
    };
    if scale == Some(None) || zero.is_some() && scale.is_none() {
        return None;
    }
    let (depth, scale) = (layout.depth(), scale.flatten());
    let mut table = levels(b);
    table.iter_mut().for_each(|level| *level -= constant as f32);
    ways(a, b, zero.is_some(), constant).into_iter().find_map(|Way { weights, word, flip, offset }| {
        let (piece, fits) = match word {
            // Padding of a is 0 and adds nothing; a block is cut as the unpacked product cuts it.
            Word::Bytes => {
                let piece = block.min(DEPTH);
                let is_even = piece == block || block == k || block.is_multiple_of(DEPTH);
                (piece, is_even && (piece == k || piece.is_multiple_of(depth)))
            }
            // Padding of b may be no number at all: there must be none.
            Word::Pair | Word::Float => {
                let piece = if scale.is_some() { block } else { k };
                (piece, k.is_multiple_of(depth) && piece.is_multiple_of(depth))
            }
        };
        if !fits {
            return None;
        }
        // Without scales tiles are added up one by one: the same for every number of rows.
        let tile = if scale.is_some() { piece } else { TILE_ROWS * word.elements() };
        let is_tiled = zero.is_none()
            && fits_tiles(weights, b.values.element(), constant)
            && amx::takes(k / word.elements(), tile / word.elements())
            && k.is_multiple_of(tile)
            && tile.is_multiple_of(depth);
        let tiled = tiles.filter(|_| is_tiled).and_then(|tiles| tiles(weights, problem.m));
        let piece = if tiled.is_some() { tile } else { piece };
        let kernels = tiled.or_else(|| kernels(features, weights, problem.m))?;
        Some(Plan { kernels, word, depth, piece, flip, offset, table, scale, one_scale, zero })
    })
}

/// Computes the product.
pub(super) fn product(
    destination: &mut Destination<'_>,
    a: &Source<'_>,
    b: &Quantized<'_, '_>,
    (problem, plan): (&Problem, &Plan),
    accumulate: bool,
    workspace: &mut Workspace,
) -> Result<(), Fault> {
    let &Problem { m, n, k, block, .. } = problem;
    let rows = plan.kernels.rows;
    let blocks = m.div_ceil(rows);
    let lines = k.div_ceil(plan.depth);
    let words = lines * plan.depth / plan.word.elements();
    let pieces = k.div_ceil(plan.piece);
    let starts = if plan.word == Word::Bytes && plan.kernels.interleaves { pieces } else { 0 };
    let rank = destination.rank();
    let strides = destination.strides();
    let [down, across] = [strides[rank - 2], strides[rank - 1]];
    // Rows that do not overlap, of floats where floats may lie.
    let is_direct = destination.element() == Element::F32
        && (across == 1 || n == 1)
        && (m == 1 || down >= n as i64)
        && destination.bytes[destination.locate(0).0..].as_ptr().cast::<f32>().is_aligned();
    let pool = workspace.pool();
    let (room, staged) =
        workspace.two::<u32, f32>(blocks * rows * (words + starts), if is_direct { 0 } else { m * n })?;
    let (a_room, starts_room) = room.split_at_mut(blocks * rows * words);
    let starts_room: &mut [i32] = zerocopy::transmute_mut!(starts_room);
    let window = destination.window.clone();
    batches(&window, &Quantized::plain(a), b, |to, left, right| {
        let of_a = Rows {
            a,
            offset: left.values,
            m,
            k,
            word: plan.word,
            rows,
            words,
            interleaves: plan.kernels.interleaves,
            piece: plan.piece.next_multiple_of(4),
            factor: if plan.zero.is_some() { 1 } else { plan.offset },
        };
        prepare(&of_a, &pool, a_room, starts_room);
        let place = |row: usize| to + row as i64 * down;
        let result = if is_direct {
            let (start, _) = destination.locate(to);
            destination.bytes[start..].as_mut_ptr().cast::<f32>()
        } else {
            if accumulate {
                for (row, staged) in staged.chunks_exact_mut(n).enumerate() {
                    load(&destination.as_source(), place(row), across, staged);
                }
            }
            staged.as_mut_ptr()
        };
        let job = Job {
            b: b.values.bytes[b.values.locate(right.values).0..].as_ptr(),
            panel_bytes: bytes(b.values, b.values.rank() - 5),
            lines,
            scale: match &plan.one_scale {
                Some(one) => Some(FactorPlace {
                    at: one.as_ptr().cast(),
                    stored: Stored::F32,
                    panel_bytes: 0,
                    block_bytes: 0,
                }),
                None => plan.scale.and_then(|stored| factor_place(b.scale?, right.scale, stored)),
            },
            zero: plan.zero.and_then(|stored| factor_place(b.zero?, right.zero, stored)),
            flip: plan.flip,
            offset: plan.offset,
            table: plan.table,
            pairs: std::array::from_fn(|at| bf16::from_f32(plan.table[at % 16]).to_bits()),
            a: a_room.as_ptr(),
            words,
            starts: starts_room.as_ptr(),
            piece_lines: plan.piece.div_ceil(plan.depth),
            pieces,
            pieces_of_block: block.min(k).div_ceil(plan.piece),
            to: result,
            row_step: if is_direct { down.max(0) as usize } else { n },
            m,
            n,
            accumulate,
        };
        run(&job, &plan.kernels, &pool, blocks);
        if !is_direct {
            for (row, staged) in staged.chunks_exact(n).enumerate() {
                store(destination, place(row), across, staged);
            }
        }
        Ok(())
    })
}

/// Bytes of one step along an axis.
fn bytes(source: &Source<'_>, axis: usize) -> isize {
    (source.strides()[axis] * i64::from(source.element().bits()) / 8) as isize
}

fn factor_place(factor: &Source<'_>, base: i64, stored: Stored) -> Option<FactorPlace> {
    let rank = factor.rank();
    Some(FactorPlace {
        at: factor.bytes.get(factor.locate(base).0..)?.as_ptr(),
        stored,
        panel_bytes: bytes(factor, rank - 3),
        block_bytes: bytes(factor, rank - 2),
    })
}

/// Brings the rows of a into order, each block by whoever comes to it.
fn prepare(of_a: &Rows<'_, '_>, pool: &Pool, words: &mut [u32], starts: &mut [i32]) {
    let blocks = of_a.m.div_ceil(of_a.rows);
    let (words_each, starts_each) = (words.len() / blocks, starts.len() / blocks);
    let (words, starts) = (Pieces::new(words), Pieces::new(starts));
    pool.split(blocks, 1, (of_a.m * of_a.k) as u64, |range| {
        for block in range {
            // SAFETY: blocks are disjoint, and each is of one range.
            let (words, starts) = unsafe {
                (
                    words.piece(block * words_each..(block + 1) * words_each),
                    starts.piece(block * starts_each..(block + 1) * starts_each),
                )
            };
            of_a.block(block, words, starts);
        }
    });
}

/// Calls kernels for all panels and blocks: each panel's bytes are read once for all blocks, while they are near.
fn run(job: &Job, kernels: &Kernels, pool: &Pool, blocks: usize) {
    let panels = job.n.div_ceil(PANEL_COLUMNS);
    let work = (panels * job.lines * LINE_BYTES * blocks) as u64;
    let call = |kernel: Kernel, first: usize, step: usize, block: usize| {
        // SAFETY: the kernel was chosen by the processor's features; `plan` and `check` have proved that layouts and extents are what
        // the job says, views are bounds-checked, and no two threads have the same panel and block.
        unsafe { kernel(job, Panels { first, step }, block) };
    };
    let some = |range: std::ops::Range<usize>, blocks: std::ops::Range<usize>| {
        let together = range.len() / kernels.panels;
        for index in 0..together {
            // A single block reads every byte once: panels far apart make streams that go on from panel to panel.
            let (first, step) = match blocks.len() {
                1 => (range.start + index, together),
                _ => (range.start + index * kernels.panels, 1),
            };
            blocks.clone().for_each(|block| call(kernels.wide, first, step, block));
        }
        for panel in range.start + together * kernels.panels..range.end {
            blocks.clone().for_each(|block| call(kernels.narrow, panel, 1, block));
        }
    };
    let groups = panels.div_ceil(kernels.panels);
    if groups < 2 * pool.threads() && blocks > 1 {
        return pool.each(groups * blocks, work, |part| {
            let (group, block) = (part / blocks, part % blocks);
            let first = group * kernels.panels;
            some(first..panels.min(first + kernels.panels), block..block + 1);
        });
    }
    pool.split(panels, kernels.panels, work, |range| some(range, 0..blocks));
}
