//! Which ops each level of lowering may hold, as a table, and the pass that checks it.
//!
//! ```text
//! builtin.module(optimize,check-level{name=optimized})
//! ```

use crate::pass::{OptionDef, Pass, PassContext, PassDef};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::module::Module;
use tilewright_ir::op_def::OpDef;

/// One level: the ops it may hold, by dialect prefix or full name, and exceptions.
pub struct Level {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Dialects that may occur.
    pub dialects: &'static [&'static str],
    /// Ops of those dialects that may not.
    pub refused: &'static [&'static str],
}

const FRAME: [&str; 2] = ["builtin", "func"];

/// Every level, in the order of lowering.
pub static LEVELS: &[Level] = &[
    Level {
        name: "imported",
        doc: "As the importer made it.",
        dialects: &[FRAME[0], FRAME[1], "core"],
        refused: &["core.kernel"],
    },
    Level {
        name: "core",
        doc: "Canonical: shapes inferred, constants folded.",
        dialects: &[FRAME[0], FRAME[1], "core"],
        refused: &["core.kernel"],
    },
    Level {
        name: "optimized",
        doc: "After the e-graph.",
        dialects: &[FRAME[0], FRAME[1], "core"],
        refused: &["core.kernel"],
    },
    Level {
        name: "kernels",
        doc: "Ops grouped into `core.kernel` regions.",
        dialects: &[FRAME[0], FRAME[1], "core"],
        refused: &[],
    },
    Level {
        name: "tile",
        doc: "Views, transfers, tokens and loops; weights are still constants.",
        dialects: &[FRAME[0], FRAME[1], "tile"],
        refused: &[],
    },
    Level {
        name: "placed",
        doc: "As tile, with addresses.",
        dialects: &[FRAME[0], FRAME[1], "tile"],
        refused: &[],
    },
    Level {
        name: "commands",
        doc: "Straight-line commands.",
        dialects: &[FRAME[0], FRAME[1], "tile"],
        refused: &[],
    },
];

/// The level of that name.
pub fn level(name: &str) -> Option<&'static Level> {
    LEVELS.iter().find(|level| level.name == name)
}

impl Level {
    /// Whether an op may occur. Dialects that are not in-tree are always allowed: their owner lowers them.
    pub fn allows(&self, def: &OpDef) -> bool {
        let dialect = def.name.split('.').next().unwrap_or_default();
        let foreign = !["builtin", "func", "core", "tile"].contains(&dialect);
        (foreign || self.dialects.contains(&dialect)) && !self.refused.contains(&def.name)
    }

    /// Checks a module.
    ///
    /// # Errors
    /// One error per op that may not occur.
    pub fn check(&self, module: &Module) -> Result<(), Diagnostics> {
        let wrong = module.all_ops().into_iter().filter(|op| !self.allows(module.op(*op).def));
        let errors: Diagnostics = wrong
            .map(|op| {
                let operation = module.op(op);
                Diagnostic::error(
                    operation.location.clone(),
                    format!("'{}' is not legal at level '{}'", operation.def.name, self.name),
                )
                .with_help(format!(
                    "level '{}' holds: {}",
                    self.name,
                    self.dialects.join(", ")
                ))
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "check-level",
    doc: "Fails when an op is not legal at a level; changes nothing.",
    options: &[OptionDef {
        name: "name",
        default: "core",
        doc: "imported, core, optimized, kernels, tile, placed or commands",
    }],
    make: |options| {
        let name: String = options.get("name", "core".to_string())?;
        let level = level(&name).ok_or_else(|| {
            let known: Vec<&str> = LEVELS.iter().map(|level| level.name).collect();
            format!("no level '{name}'; known: {}", known.join(", "))
        })?;
        Ok(Box::new(CheckLevel { level }))
    },
};

struct CheckLevel {
    level: &'static Level,
}

impl Pass for CheckLevel {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        self.level.check(module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_each_level_once() {
        for name in ["imported", "core", "optimized", "kernels", "tile", "placed", "commands"] {
            assert_eq!(LEVELS.iter().filter(|level| level.name == name).count(), 1, "{name}");
        }
        assert!(!level("tile").unwrap().allows(&tilewright_ir::dialects::core::CONSTANT));
        assert!(level("core").unwrap().allows(&tilewright_ir::dialects::core::CONSTANT));
    }
}
