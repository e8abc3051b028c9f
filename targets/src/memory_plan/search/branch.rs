//! The walk through the states of the skyline: depth first, with a stack of its own.

use super::order::Order;
use super::skyline::Skyline;
use super::{Failed, Outcome};

/// A choice that is under way: which buffer goes onto a section's floor, or that none does.
struct Choice {
    /// The stretch it is about.
    stretch: (usize, usize),
    section: usize,
    floor: i64,
    /// The history before the choice.
    mark: usize,
    /// Buffers still to be tried: those at and after this position of the candidates, up to `end`.
    next: usize,
    end: usize,
    begin: usize,
    /// Where the next buffer begins when none lies on the floor; none when that cannot be, or has been tried.
    hole: Option<i64>,
    key: u128,
    /// Stretches that remain to be solved under what is being tried.
    remaining: Vec<(usize, usize)>,
}

/// A section to branch on, and the stretch of equal floor around it.
#[derive(Clone, Copy)]
struct Low {
    section: usize,
    stretch: (usize, usize),
}

/// One run of the search.
pub(super) struct Walk<'a, 's> {
    skyline: Skyline<'a>,
    order: Order,
    failed: &'s mut Failed,
    failed_max: usize,
    choices: Vec<Choice>,
    candidates: Vec<u32>,
    steps: u64,
}

impl<'a, 's> Walk<'a, 's> {
    pub(super) fn new(
        skyline: Skyline<'a>,
        order: Order,
        failed: &'s mut Failed,
        failed_max: usize,
    ) -> Walk<'a, 's> {
        Walk { skyline, order, failed, failed_max, choices: Vec::new(), candidates: Vec::new(), steps: 0 }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Walks until the first plan, the last state, or `steps_max` steps.
    pub(super) fn run(&mut self, steps_max: u64) -> Outcome {
        let mut solved = self.enter((0, self.skyline.part.sections));
        loop {
            match solved {
                // A new choice is on the stack, or the last one goes on with its next way.
                None => {
                    if self.steps >= steps_max {
                        return Outcome::OutOfFuel;
                    }
                    solved = self.advance();
                }
                Some(true) => match self.choices.last_mut() {
                    Some(choice) => match choice.remaining.pop() {
                        Some(stretch) => solved = self.enter(stretch),
                        None => {
                            self.forget();
                        }
                    },
                    None => return self.found(),
                },
                Some(false) => {
                    if self.choices.is_empty() {
                        return Outcome::Impossible;
                    }
                    solved = None;
                }
            }
        }
    }

    /// The uppermost choice is made for good: what it was about is solved.
    fn forget(&mut self) {
        if let Some(choice) = self.choices.pop() {
            self.candidates.truncate(choice.begin);
        }
    }

    fn found(&self) -> Outcome {
        let pieces = &self.skyline.part.pieces;
        let peak = self.skyline.offsets.iter().zip(pieces).map(|(offset, piece)| offset + piece.bytes).max();
        Outcome::Fits(self.skyline.offsets.clone(), peak.unwrap_or(0))
    }

    /// Puts a choice for a stretch on the stack. `Some` when there is nothing to choose.
    fn enter(&mut self, stretch: (usize, usize)) -> Option<bool> {
        let key = self.skyline.key(stretch.0, stretch.1);
        if self.failed.contains(&key) {
            return Some(false);
        }
        let Some(low) = self.choose_section(stretch) else { return Some(true) };
        let section = low.section;
        let floor = self.skyline.floor[section];
        let begin = self.candidates.len();
        self.find_candidates(section, floor);
        let hole = self.hole(low, floor);
        self.choices.push(Choice {
            stretch,
            section,
            floor,
            mark: self.skyline.mark(),
            next: begin,
            end: self.candidates.len(),
            begin,
            hole,
            key,
            remaining: Vec::new(),
        });
        None
    }

    /// Tries the next way of the uppermost choice.
    fn advance(&mut self) -> Option<bool> {
        self.steps += 1;
        let Some(choice) = self.choices.last_mut() else { return Some(true) };
        self.skyline.back_to(choice.mark);
        let holds = if choice.next < choice.end {
            let buffer = self.candidates[choice.next];
            choice.next += 1;
            self.skyline.place(buffer, choice.floor)
        } else if let Some(floor) = choice.hole.take() {
            self.skyline.leave_hole(choice.section, floor)
        } else {
            let key = choice.key;
            self.forget();
            if self.failed.len() < self.failed_max {
                self.failed.insert(key);
            }
            return Some(false);
        };
        if !holds {
            return None;
        }
        choice.remaining = self.skyline.fall_apart(choice.stretch.0, choice.stretch.1);
        choice.remaining.reverse();
        match choice.remaining.pop() {
            Some(stretch) => self.enter(stretch),
            None => {
                self.forget();
                Some(true)
            }
        }
    }

    /// The cheapest section of all stretches of equal floor with higher ground on both sides.
    fn choose_section(&self, (start, end): (usize, usize)) -> Option<Low> {
        let floor = &self.skyline.floor;
        let mut best: Option<(i64, i64, Low)> = None;
        let mut at = start;
        while at < end {
            let mut after = at + 1;
            while after < end && floor[after] == floor[at] {
                after += 1;
            }
            let is_low =
                (at == start || floor[at - 1] > floor[at]) && (after == end || floor[after] > floor[at]);
            if is_low {
                let height = floor[at];
                for section in at..after {
                    let (flush, slack) = (self.skyline.flush[section], self.skyline.slack(section));
                    let cost = self.order.section_cost(flush, slack, self.skyline.capacity);
                    if best.as_ref().is_none_or(|best| (cost, height) < (best.0, best.1)) {
                        best = Some((cost, height, Low { section, stretch: (at, after) }));
                    }
                }
            }
            at = after;
        }
        best.map(|(_, _, low)| low)
    }

    /// The buffers that can lie on a section's floor, first choice first; of equal ones the first alone.
    fn find_candidates(&mut self, section: usize, floor: i64) {
        let (skyline, begin) = (&self.skyline, self.candidates.len());
        let pieces = &skyline.part.pieces;
        for buffer in skyline.cover(section) {
            let is_flush = !skyline.placed[*buffer as usize] && skyline.lowest[*buffer as usize] == floor;
            let like = |other: &u32| {
                let (one, other) = (&pieces[*buffer as usize], &pieces[*other as usize]);
                (one.start, one.end, one.bytes, one.alignment)
                    == (other.start, other.end, other.bytes, other.alignment)
            };
            if is_flush && !self.candidates[begin..].iter().any(like) {
                self.candidates.push(*buffer);
            }
        }
        let order = &self.order;
        self.candidates[begin..].sort_by_cached_key(|buffer| {
            let (piece, crowd) = (&pieces[*buffer as usize], skyline.crowd[*buffer as usize]);
            (order.rank(*buffer, piece, crowd), *buffer)
        });
    }

    /// Where the next buffer of a section begins at the lowest if none lies on its floor: on a buffer that lies on the floor beside it,
    /// or on the ground beside its stretch.
    fn hole(&self, Low { section, stretch }: Low, floor: i64) -> Option<i64> {
        let skyline = &self.skyline;
        if skyline.slack(section) <= 0 {
            return None;
        }
        let pieces = &skyline.part.pieces;
        let waits = |buffer: &&u32| !skyline.placed[**buffer as usize];
        // Buffers that can lie on the floor beside the section, each looked at where it starts, or where the stretch does.
        let beside: Vec<u32> = (stretch.0..stretch.1)
            .flat_map(|at| {
                skyline.cover(at).iter().filter(move |buffer| pieces[**buffer as usize].start == at)
            })
            .filter(waits)
            .filter(|buffer| {
                let piece = &pieces[**buffer as usize];
                skyline.lowest[**buffer as usize] == floor && (piece.end <= section || section < piece.start)
            })
            .copied()
            .collect();
        let mut lowest: Option<i64> = None;
        for buffer in skyline.cover(section).iter().filter(waits) {
            let piece = &pieces[*buffer as usize];
            let place = match skyline.lowest[*buffer as usize] {
                place if place > floor => Some(place),
                _ => beside
                    .iter()
                    .map(|other| &pieces[*other as usize])
                    .filter(|other| other.start < piece.end && piece.start < other.end)
                    .map(|other| piece.align(floor + other.bytes))
                    .min(),
            };
            lowest = [lowest, place].into_iter().flatten().min();
        }
        lowest.filter(|lowest| lowest - floor <= skyline.slack(section))
    }
}
