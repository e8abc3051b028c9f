//! In which order the search tries things. Any order gives the same answers; a good one gives them sooner.

use crate::memory_plan::sections::Piece;

/// How one run chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    values: Values,
    /// How much a section's slack, in percent of the capacity, counts against choosing it; 0 counts only whether there is any.
    slack_weight: u32,
    seed: u64,
}

/// Which buffer goes onto a stretch first.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// Any.
    Random,
    /// The longest life, with noise of a factor of e.
    Long,
    /// The one in the fullest section.
    Crowded,
    /// The largest area, with noise of a factor of e.
    Area,
}

/// The sequence of orders: each run's is another combination.
const VALUES: [Values; 6] =
    [Values::Random, Values::Long, Values::Random, Values::Crowded, Values::Long, Values::Area];
const SLACK_WEIGHTS: [u32; 4] = [0, 1, 0, 4];

impl Order {
    /// The order of the n-th run.
    pub(super) fn of_run(run: u64) -> Order {
        Order {
            values: VALUES[run as usize % VALUES.len()],
            slack_weight: SLACK_WEIGHTS[(run as usize / VALUES.len() + run as usize) % SLACK_WEIGHTS.len()],
            seed: mix(run + 1),
        }
    }

    /// What it costs to branch on a section: fewer ways are better. Lower is chosen.
    pub(super) fn section_cost(&self, buffers: u32, slack: i64, capacity: i64) -> i64 {
        let hole = match slack {
            ..=0 => 0,
            _ => {
                4 + (slack as i128 * 100 * i128::from(self.slack_weight) / i128::from(capacity.max(1))) as i64
            }
        };
        i64::from(buffers) * 4 + hole
    }

    /// The rank of a buffer among those that could go onto a stretch; lower is tried first. `crowd` is the fullest section's bytes.
    pub(super) fn rank(&self, buffer: u32, piece: &Piece, crowd: i64) -> i64 {
        let noise = (mix(self.seed ^ u64::from(buffer)) & 0xfffff) as i64;
        let life = (piece.end - piece.start) as u64;
        match self.values {
            Values::Random => noise,
            Values::Long => noise - log_scaled(life),
            Values::Crowded => noise - 4 * log_scaled(crowd as u64),
            Values::Area => noise - log_scaled(life) - log_scaled(piece.bytes as u64),
        }
    }
}

/// The natural logarithm in 2^20ths, in integers: the same on every machine. Linear between powers of two.
fn log_scaled(value: u64) -> i64 {
    let value = value.max(1);
    let bits = 63 - i64::from(value.leading_zeros());
    let fraction = ((u128::from(value) << 20 >> bits) as i64) - (1 << 20);
    ((bits << 20) + fraction) * 693 / 1000
}

/// Steps of the n-th run at a capacity: Luby's sequence, within a factor of the best fixed choice whatever that is (Luby, Sinclair &
/// Zuckerman 1993, doi:10.1016/0020-0190(93)90029-9).
pub(super) fn run_steps(run: u64, unit: u64) -> u64 {
    let mut position = run + 1;
    loop {
        let bits = 64 - position.leading_zeros();
        if position == (1 << bits) - 1 {
            return unit << (bits - 1);
        }
        position -= (1 << (bits - 1)) - 1;
    }
}

/// Mixes a number's bits (the finaliser of MurmurHash3, Appleby, public domain).
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}
