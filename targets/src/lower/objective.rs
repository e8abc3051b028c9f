//! What a compilation is for: the fewest cycles in the SRAM there is, or the least SRAM.
//!
//! A function with chains of kernels is lowered with and without cascades, and the timing model's word on the two streams is taken: the
//! planner of chains adds up tiles, the timing model sees engines wait for each other.
//!
//! The least is searched for: the function is lowered and placed under tighter and tighter limits of what a kernel's plan may use. A limit
//! is too tight when something then runs on the host or lies in DRAM that did not before.
//!
//! ```text
//! 103808 bytes at 917504, 41216 at 32768, too tight at 16384, 36992 at 23170, ..   =>   36992
//! ```

use super::{Options, Tried, Wanted};
use crate::emit::constants::ConstantPool;
use crate::figures;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dialects::core;
use tilewright_ir::module::OpId;
use tilewright_runtime::timing::{Request, estimate};

/// What a compilation is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// The fewest modelled cycles in the SRAM of the machine.
    #[default]
    Performance,
    /// The least SRAM, then the fewest cycles in it.
    Size,
}

/// Limits that are tried: each halves the ratio of what fits and what does not, from 2^8 down to about 3 in 100.
const TRIES: usize = 8;
/// The first limit that is taken to be too tight, as a fraction of what fits.
const RANGE: u64 = 256;

/// Commands that are followed at most to tell two streams apart.
const STEPS_MAX: u64 = 1 << 22;

/// The placed function of the fewest modelled cycles, and of the least SRAM among equals.
///
/// # Errors
/// When it cannot be lowered.
pub(super) fn fastest(wanted: Wanted) -> Result<Tried, Diagnostics> {
    let together = ahead(wanted, wanted.tried(None)?);
    if wanted.options.without_cascades || !has_chain(wanted) {
        return Ok(together);
    }
    let options = Options { without_cascades: true, ..wanted.options.clone() };
    let Ok(apart) = (Wanted { options: &options, ..wanted }).tried(None) else { return Ok(together) };
    let apart = ahead(wanted, apart);
    let cost = |tried: &Tried| {
        let program = wanted.emit(tried, &mut ConstantPool::new()).ok()?;
        let request = Request { steps_max: STEPS_MAX, ..Request::default() };
        let timing = estimate(&program, &figures::of(wanted.machine), &request).ok()?;
        Some((tried.on_host(), timing.cycles, tried.bytes("sram")))
    };
    let is_slower = cost(&together).zip(cost(&apart)).is_some_and(|(together, apart)| apart < together);
    Ok(if is_slower { apart } else { together })
}

/// With transfers ahead: in nearly all of SRAM, else in what is taken anyway, or less, so that buffers pack.
fn ahead(wanted: Wanted, tried: Tried) -> Tried {
    let (all, taken) = (wanted.machine.sram_bytes, tried.bytes("sram"));
    wanted.ahead(tried, &[all - all / 16, taken, taken - taken / 8])
}

fn has_chain(wanted: Wanted) -> bool {
    let module = wanted.module;
    let Some(function) = module.function(wanted.function) else { return false };
    let kind = |op: &OpId| module.op(*op).attributes.get("kind").and_then(Attribute::as_str);
    let ops = &module.block(module.entry(function, 0)).ops;
    ops.iter().any(|op| module.op(*op).def == &core::KERNEL && kind(op) == Some("chain"))
}

/// The placed function that takes the least SRAM, of those tried.
///
/// # Errors
/// When it cannot be lowered without a limit.
pub(super) fn smallest(wanted: Wanted) -> Result<Tried, Diagnostics> {
    let mut best = wanted.tried(None)?;
    let (on_host, dram_bytes) = (best.on_host(), best.bytes("dram"));
    let mut fits = best.bytes("sram");
    let mut tight = fits / RANGE;
    for _ in 0..TRIES {
        // The middle in ratio: no float, no rounding that differs between machines.
        let limit = (u128::from(fits) * u128::from(tight.max(1))).isqrt() as u64;
        let tried = wanted.tried(Some(limit));
        match tried.ok().filter(|tried| tried.on_host() <= on_host && tried.bytes("dram") <= dram_bytes) {
            Some(tried) => {
                fits = limit;
                if tried.bytes("sram") < best.bytes("sram") {
                    best = tried;
                }
            }
            None => tight = limit,
        }
    }
    let taken = best.bytes("sram");
    Ok(wanted.ahead(best, &[taken, taken - taken / 8]))
}
