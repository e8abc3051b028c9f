//! The planner against brute force, against the independent check, and on instances whose answer is known by construction.

use super::*;
use crate::check_offsets::check;

/// A small generator of numbers: the tests need variety, not quality.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

fn planned(buffers: &[Buffer], options: &Options) -> Plan {
    let problem = Problem::new(buffers.to_vec()).expect("sound buffers");
    let plan = plan(&problem, options);
    let violations = check(buffers, &plan.offsets, Some(plan.peak_bytes));
    assert!(violations.is_empty(), "{violations:?} in {buffers:?}");
    assert!(plan.live_bytes_max <= plan.lower_bound_bytes && plan.lower_bound_bytes <= plan.peak_bytes);
    plan
}

/// The lowest peak of all: every order of the buffers, each at the lowest free aligned place. Some order of any plan pushed down as
/// far as it goes gives that plan.
fn brute_force(buffers: &[Buffer]) -> u64 {
    fn deeper(buffers: &[Buffer], offsets: &mut Vec<Option<u64>>, peak: u64, best: &mut u64) {
        if peak >= *best {
            return;
        }
        if offsets.iter().all(Option::is_some) {
            *best = peak;
            return;
        }
        for at in 0..buffers.len() {
            if offsets[at].is_some() {
                continue;
            }
            let one = &buffers[at];
            // The top of everything placed that is alive with it: below it only orders that place it earlier would put it.
            let floor = (0..buffers.len())
                .filter(|other| buffers[*other].start < one.end && one.start < buffers[*other].end)
                .filter_map(|other| offsets[other].map(|offset| offset + buffers[other].bytes))
                .max()
                .unwrap_or(0);
            let offset = floor.next_multiple_of(one.alignment_bytes);
            offsets[at] = Some(offset);
            deeper(buffers, offsets, peak.max(offset + one.bytes), best);
            offsets[at] = None;
        }
    }
    let mut best = u64::MAX;
    deeper(buffers, &mut vec![None; buffers.len()], 0, &mut best);
    best
}

#[test]
fn small_problems_are_solved_exactly() {
    let mut above_the_bound = 0;
    for seed in 0..1500 {
        let mut numbers = Numbers(seed * 77 + 5);
        let count = 3 + numbers.below(5) as usize;
        let aligned = seed % 3 == 0;
        let buffers: Vec<Buffer> = (0..count)
            .map(|_| {
                let start = numbers.below(7);
                let buffer = Buffer::new(start, start + 1 + numbers.below(5), 1 + numbers.below(6));
                if aligned { buffer.aligned([1, 2, 4][numbers.below(3) as usize]) } else { buffer }
            })
            .collect();
        let best = brute_force(&buffers);
        let plan = planned(&buffers, &Options::default());
        assert_eq!(plan.peak_bytes, best, "{:?} for {buffers:?}", plan.proof);
        assert!(matches!(plan.proof, Proof::AtLowerBound | Proof::Optimal), "{:?}", plan.proof);
        above_the_bound += u32::from(plan.peak_bytes > plan.live_bytes_max);
        // The answer to "does it fit" is the same from both sides of the optimum.
        let asked =
            |capacity| planned(&buffers, &Options { capacity_bytes: Some(capacity), fuel: FUEL_DEFAULT });
        assert!(asked(best).peak_bytes <= best);
        assert_eq!(asked(best - 1).proof, Proof::Impossible, "{buffers:?}");
    }
    assert!(above_the_bound > 20, "only {above_the_bound} problems need the search to be refuted");
}

/// Cuts a rectangle of time and bytes at random until there are many: a problem with a plan without any hole.
fn cut_up(numbers: &mut Numbers, count: usize) -> (Vec<Buffer>, u64) {
    let (width, height) = (4096, 1 << 20);
    let mut tiles = vec![(0, width, height)];
    while tiles.len() < count {
        let at = numbers.below(tiles.len() as u64) as usize;
        let (start, end, bytes) = tiles.swap_remove(at);
        if numbers.below(2) == 0 && end - start > 8 {
            let cut = start + 1 + numbers.below(end - start - 1);
            tiles.extend([(start, cut, bytes), (cut, end, bytes)]);
        } else if bytes > 2048 {
            let cut = 512 * (1 + numbers.below(bytes / 512 - 1));
            tiles.extend([(start, end, cut), (start, end, bytes - cut)]);
        } else {
            tiles.push((start, end, bytes));
        }
    }
    (tiles.into_iter().map(|(start, end, bytes)| Buffer::new(start, end, bytes)).collect(), height)
}

#[test]
fn problems_without_slack_are_solved() {
    for seed in 0..6 {
        let (buffers, height) = cut_up(&mut Numbers(seed), 100);
        let plan = planned(&buffers, &Options::default());
        assert_eq!((plan.peak_bytes, plan.proof), (height, Proof::AtLowerBound), "{} steps", plan.steps);
    }
}

#[test]
fn the_same_problem_gives_the_same_plan_and_fuel_ends_it() {
    let (mut buffers, _) = cut_up(&mut Numbers(99), 150);
    // One buffer more than fits: the bound is above what the rest needs.
    buffers.push(Buffer::new(5, 4000, 12_345));
    let options = Options { capacity_bytes: None, fuel: 5_000 };
    let first = planned(&buffers, &options);
    assert_eq!(first, planned(&buffers, &options));
    assert!(first.steps <= 5_000 + buffers.len() as u64, "{} steps", first.steps);
    let none = planned(&buffers, &Options { capacity_bytes: None, fuel: 0 });
    assert!(none.peak_bytes >= none.live_bytes_max);
}

#[test]
fn too_little_capacity_is_told() {
    let buffers = [Buffer::new(0, 3, 4), Buffer::new(2, 9, 4), Buffer::new(8, 9, 1)];
    let ask = |capacity| planned(&buffers, &Options { capacity_bytes: Some(capacity), fuel: 1000 }).proof;
    assert_eq!(ask(7), Proof::Impossible);
    assert_eq!(ask(8), Proof::AtLowerBound);
}

#[test]
fn gaps_are_used_and_nothing_is_claimed_beyond_the_bound() {
    let mut numbers = Numbers(4);
    for _ in 0..300 {
        let buffers: Vec<Buffer> = (0..8)
            .map(|_| {
                let start = numbers.below(8);
                let mut buffer = Buffer::new(start, start + 3 + numbers.below(6), 2 + numbers.below(9));
                if numbers.below(2) == 0 {
                    let window = (numbers.below(2) == 0).then_some(0..1 + numbers.below(2));
                    buffer.gaps.push(Gap { time: start + 1..start + 2, window });
                }
                buffer
            })
            .collect();
        let plan = planned(&buffers, &Options { capacity_bytes: None, fuel: 2_000 });
        assert_ne!(plan.proof, Proof::Optimal);
    }
    let mut long = Buffer::new(0, 10, 8);
    long.gaps.push(Gap { time: 2..6, window: None });
    let plan = planned(&[long, Buffer::new(2, 6, 8)], &Options::default());
    assert_eq!((plan.peak_bytes, plan.proof), (8, Proof::AtLowerBound));
}

#[test]
fn what_needs_nothing_has_a_place_and_faults_are_all_named() {
    let plan = planned(&[Buffer::new(3, 3, 9), Buffer::new(1, 2, 0)], &Options::default());
    assert_eq!((plan.peak_bytes, plan.offsets), (0, vec![0, 0]));
    assert_eq!(planned(&[], &Options::default()).proof, Proof::AtLowerBound);
    let mut gap = Buffer::new(0, 4, 8);
    gap.gaps.push(Gap { time: 3..5, window: Some(4..9) });
    let wrong = vec![Buffer::new(4, 3, 1), Buffer::new(0, 1, 1).aligned(0), Buffer::new(0, 1, u64::MAX), gap];
    let faults: Vec<String> =
        Problem::new(wrong).expect_err("four faults").iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    assert_eq!(faults[0], "buffer 0: its life ends at 3, before its start at 4");
}
