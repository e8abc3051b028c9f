//! The placement table: what runs where, why, and at what estimated cost. Nothing falls back silently.
//!
//! ```text
//! node              op           runs on   reason                              commands  DRAM bytes
//! /layers.0/q_proj  core.linear  npu-gen3                                            42       65536
//! /top_k            core.top_k   host      no row of npu-gen3 takes core.top_k         1        4096
//! ```

use std::fmt::Write;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;

/// One core op or kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementRow {
    /// Where it came from.
    pub location: Location,
    /// `core.matmul`, or `kernel linear`.
    pub op: String,
    /// The target's name, or `host`.
    pub target: &'static str,
    /// Why it is on the host; on the target, what else the machine refused, such as the format of a weight. Mostly empty.
    pub reason: String,
    /// Estimated cost of its tile ops, loops counted at their longest.
    pub cost: Cost,
}

/// An estimate of work, for the longest run that the program allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Commands executed.
    pub commands: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Bytes read from or written to DRAM (constants, io and state included).
    pub dram_bytes: u64,
}

/// What runs where.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// In program order. Ops that take no command (renamings) are not listed.
    pub rows: Vec<PlacementRow>,
}

impl Placement {
    /// The rows that run on the host instead of the target.
    pub fn fallbacks(&self) -> impl Iterator<Item = &PlacementRow> {
        self.rows.iter().filter(|row| row.target == "host" && !row.reason.is_empty())
    }

    /// Adds to the rows of some nodes what the machine refused of them.
    pub fn tell(&mut self, refused: &[(Location, String)]) {
        for (location, what) in refused {
            let names = location.names();
            for row in &mut self.rows {
                if row.location.names().iter().any(|name| names.contains(name)) {
                    let between = if row.reason.is_empty() { "" } else { "; " };
                    let _ = write!(row.reason, "{between}{what}");
                }
            }
        }
    }

    /// One error that lists every fallback, for `--require-target`.
    ///
    /// # Errors
    /// When there is a fallback.
    pub fn require_target(&self, target: &str) -> Result<(), Diagnostic> {
        let rows: Vec<&PlacementRow> = self.fallbacks().collect();
        let Some(first) = rows.first() else { return Ok(()) };
        let mut what = format!("{} ops cannot run on {target}:", rows.len());
        for row in &rows {
            let _ = write!(what, "\n  {} at {}: {}", row.op, row.location, row.reason);
        }
        Err(Diagnostic::unsupported(first.location.clone(), what)
            .with_help("compile without --require-target to run these on the host"))
    }

    /// The table as text, one line per row.
    pub fn text(&self) -> String {
        let header = ["node", "op", "runs on", "commands", "MACs", "DRAM bytes", "reason"].map(String::from);
        let mut lines = vec![header];
        for row in &self.rows {
            let cost = row.cost;
            lines.push([
                crate::emit::location_text(&row.location),
                row.op.clone(),
                row.target.to_string(),
                cost.commands.to_string(),
                cost.macs.to_string(),
                cost.dram_bytes.to_string(),
                row.reason.clone(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..7).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            let mut row = String::new();
            for (column, cell) in line.iter().enumerate() {
                let _ = match column {
                    3..=5 => write!(row, "{cell:>width$}  ", width = widths[column]),
                    _ => write!(row, "{cell:<width$}  ", width = widths[column]),
                };
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_refused_stands_with_the_op() {
        let row = |name: &str, reason: &str| PlacementRow {
            location: Location::fuse(None, [Location::name("norm"), Location::name(name)]),
            op: "kernel rows".into(),
            target: "npu-gen3",
            reason: reason.into(),
            cost: Cost::default(),
        };
        let mut placement = Placement { rows: vec![row("up", ""), row("down", "slow")] };
        let told =
            [(Location::name("down"), "no nf4".to_string()), (Location::name("up"), "no fp8".to_string())];
        placement.tell(&told);
        assert_eq!([&*placement.rows[0].reason, &*placement.rows[1].reason], ["no fp8", "slow; no nf4"]);
        assert_eq!(placement.fallbacks().count(), 0);
        assert!(placement.text().contains("slow; no nf4"));
    }
}
