//! Which rows each kernel of a cascade computes in each stripe, and how many of them its buffers hold. Pure numbers; it must not know
//! the IR, memories or costs.
//!
//! A stripe is some rows of the last result. Every kernel computes the rows that are new; rows that a window still needs move to the
//! start of their buffer before the next stripe, so that all stripes find them at the same places.
//!
//! ```text
//! 3x3, then 3x3, stripes of 4 of 12 rows: 5 + 4 + 3 rows of the first, 6 rows of buffer, two of which are kept from stripe to stripe
//! ```

use super::super::spatial::Shape;

/// What a kernel reads of another one's result.
#[derive(Clone, Copy, Debug)]
pub enum Window<'s> {
    /// Windows of it.
    Rows(&'s Shape),
    /// The rows that it computes.
    Same,
}

/// A value that a kernel of the cascade reads.
#[derive(Clone, Copy, Debug)]
pub struct Read<'s> {
    /// The kernel that makes it, by its place in the cascade.
    pub maker: usize,
    /// Which rows.
    pub window: Window<'s>,
}

/// A kernel of a cascade.
#[derive(Clone, Debug)]
pub struct Link<'s> {
    /// Rows of its results.
    pub rows: i64,
    /// What it reads of earlier kernels.
    pub reads: Vec<Read<'s>>,
    /// Whether something after the cascade needs all of its rows.
    pub is_whole: bool,
}

/// Rows that are kept for the next stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose result.
    pub maker: usize,
    /// Where they lie in the buffer; they go to its start.
    pub from: i64,
    /// How many.
    pub rows: i64,
}

/// New rows of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which kernel.
    pub link: usize,
    /// First row.
    pub start: i64,
    /// How many.
    pub rows: i64,
}

/// One stripe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stripe {
    /// First of all.
    pub moves: Vec<Move>,
    /// Then in this order.
    pub steps: Vec<Step>,
    /// The row at the start of each kernel's buffer.
    pub bases: Vec<i64>,
}

/// All stripes of a cascade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripes {
    /// In order.
    pub stripes: Vec<Stripe>,
    /// Rows of each kernel's buffer, if its result goes through one.
    pub capacities: Vec<i64>,
}

impl Window<'_> {
    /// Rows of the source that `rows` rows from `start` on need, of `of`.
    fn needs(&self, start: i64, rows: i64, of: i64) -> (i64, i64) {
        match self {
            Window::Rows(shape) => shape.rows_read(start, rows, of),
            Window::Same => (start, start + rows),
        }
    }
}

/// Cuts a cascade into stripes of `height` rows of its last kernel's result.
pub fn stripes(links: &[Link], height: i64) -> Stripes {
    let last = links.len() - 1;
    let mut done = vec![0i64; links.len()];
    let mut bases = vec![0i64; links.len()];
    let mut result = Stripes { stripes: Vec::new(), capacities: vec![0; links.len()] };
    while done[last] < links[last].rows {
        let end = (done[last] + height).min(links[last].rows);
        let wanted = wanted(links, &done, end);
        let mut stripe = Stripe::default();
        for maker in 0..last {
            let first = first_needed(links, &done, maker).min(done[maker]);
            let kept = done[maker] - first;
            if kept > 0 && first > bases[maker] {
                stripe.moves.push(Move { maker, from: first - bases[maker], rows: kept });
            }
            bases[maker] = first.max(bases[maker]);
            result.capacities[maker] = result.capacities[maker].max(wanted[maker] - bases[maker]);
        }
        result.capacities[last] = result.capacities[last].max(end - done[last]);
        bases[last] = done[last];
        for link in 0..links.len() {
            let rows = wanted[link] - done[link];
            if rows > 0 {
                stripe.steps.push(Step { link, start: done[link], rows });
            }
            done[link] = done[link].max(wanted[link]);
        }
        stripe.bases.clone_from(&bases);
        result.stripes.push(stripe);
    }
    result
}

/// How far each kernel has to be when the last one is at `end`.
fn wanted(links: &[Link], done: &[i64], end: i64) -> Vec<i64> {
    let last = links.len() - 1;
    let mut wanted = done.to_vec();
    wanted[last] = end;
    for link in (0..links.len()).rev() {
        if links[link].is_whole && end == links[last].rows {
            wanted[link] = links[link].rows;
        }
        let rows = wanted[link] - done[link];
        for read in links[link].reads.iter().filter(|_| rows > 0) {
            let (_, end) = read.window.needs(done[link], rows, links[read.maker].rows);
            wanted[read.maker] = wanted[read.maker].max(end);
        }
    }
    wanted
}

/// The first row of a kernel's result that a later one still reads; past its end when none does.
fn first_needed(links: &[Link], done: &[i64], maker: usize) -> i64 {
    let of = links[maker].rows;
    let mut first = of;
    for (link, done) in links.iter().zip(done).filter(|(link, done)| **done < link.rows) {
        for read in link.reads.iter().filter(|read| read.maker == maker) {
            first = first.min(read.window.needs(*done, 1, of).0);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain<'s>(shapes: &'s [Shape], rows: &[i64]) -> Vec<Link<'s>> {
        let link = |(at, rows): (usize, &i64)| Link {
            rows: *rows,
            reads: if at == 0 {
                vec![]
            } else {
                vec![Read { maker: at - 1, window: Window::Rows(&shapes[at]) }]
            },
            is_whole: false,
        };
        rows.iter().enumerate().map(link).collect()
    }

    #[test]
    fn kept_rows_are_those_that_the_next_windows_reach() {
        let shapes = [Shape::rows(1, 1, 1, 0), Shape::rows(3, 1, 1, 1)];
        let found = stripes(&chain(&shapes, &[12, 12]), 4);
        let computed: Vec<Vec<i64>> =
            found.stripes.iter().map(|stripe| stripe.steps.iter().map(|step| step.rows).collect()).collect();
        assert_eq!(computed, [[5, 4], [4, 4], [3, 4]]);
        assert_eq!(found.capacities, [6, 4]);
        assert_eq!(found.stripes[1].moves, [Move { maker: 0, from: 3, rows: 2 }]);
        assert_eq!(found.stripes[2].bases, [7, 8]);
    }

    #[test]
    fn strides_that_skip_rows_leave_nothing_to_keep() {
        let shapes = [Shape::rows(1, 1, 1, 0), Shape::rows(1, 3, 1, 0)];
        let found = stripes(&chain(&shapes, &[10, 4]), 1);
        assert!(found.stripes.iter().all(|stripe| stripe.moves.is_empty()));
        let steps: Vec<(i64, i64)> =
            found.stripes.iter().map(|stripe| (stripe.steps[0].start, stripe.steps[0].rows)).collect();
        assert_eq!(steps, [(0, 1), (1, 3), (4, 3), (7, 3)]);
    }

    /// Every row that a step reads is in its buffer, every row of the last result is computed once, whatever the windows.
    #[test]
    fn every_window_finds_its_rows() {
        let mut random = tilewright_ir::sample::Sampler::new(11);
        for _ in 0..400 {
            let count = random.below(2, 6) as usize;
            let (mut shapes, mut rows) = (vec![Shape::rows(1, 1, 1, 0)], vec![random.below(6, 40)]);
            for at in 1..count {
                let (window, stride, dilation) = (random.below(1, 5), random.below(1, 4), random.below(1, 3));
                let reach = (window - 1) * dilation;
                let pad = random.below(0, reach + 1);
                let length = rows[at - 1] + 2 * pad - reach - 1;
                if length < 0 {
                    break;
                }
                shapes.push(Shape::rows(window, stride, dilation, pad));
                rows.push(length / stride + 1);
            }
            let mut links = chain(&shapes, &rows);
            let last = links.len() - 1;
            // A residual over two kernels of one height.
            if last >= 2 && rows[last] == rows[last - 2] {
                links[last].reads.push(Read { maker: last - 2, window: Window::Same });
            }
            links[0].is_whole = random.below(0, 4) == 0;
            let found = stripes(&links, random.below(1, rows[last] + 2));
            let mut done = vec![0; links.len()];
            let mut bases = vec![0; links.len()];
            for stripe in &found.stripes {
                for moved in &stripe.moves {
                    assert_eq!(stripe.bases[moved.maker], bases[moved.maker] + moved.from);
                    assert_eq!(stripe.bases[moved.maker] + moved.rows, done[moved.maker]);
                }
                bases.clone_from(&stripe.bases);
                for step in &stripe.steps {
                    assert_eq!(step.start, done[step.link], "rows are computed in order, once");
                    done[step.link] += step.rows;
                    assert!(done[step.link] - bases[step.link] <= found.capacities[step.link]);
                    for read in &links[step.link].reads {
                        let (first, end) = read.window.needs(step.start, step.rows, links[read.maker].rows);
                        assert!(
                            first >= bases[read.maker] && end <= done[read.maker],
                            "{step:?} of {links:?}"
                        );
                    }
                }
            }
            assert_eq!(done[last], links[last].rows);
            assert!(!links[0].is_whole || done[0] == links[0].rows);
        }
    }
}
