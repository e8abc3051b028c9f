//! Everything that is known: dialects, passes, rules, targets. The entry for tools with parts of their own.
//!
//! ```no_run
//! // A tool with its own dialect, pass and target is this `main`:
//! let session = tilewright::session::Session::new();
//! std::process::exit(i32::from(session.run_cli() != std::process::ExitCode::SUCCESS));
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::registry::{Dialect, Registry};
use tilewright_passes::egraph::cost::CostModel;
use tilewright_passes::machine::Machine;
use tilewright_passes::pass::{PassContext, PassDef, Passes, RuleText};
use tilewright_targets::description;
use tilewright_targets::target::{Target, Targets};

/// What a run of the compiler knows. Begins with all that is in-tree.
#[derive(Clone)]
pub struct Session {
    /// Known dialects.
    pub registry: Registry,
    /// Known passes.
    pub passes: Passes,
    /// Known targets.
    pub targets: Targets,
    /// Rules beyond the in-tree ones.
    pub rules: Vec<RuleText>,
    /// Prices nodes for the optimiser; the machine's flat price list when none is given.
    pub cost: Option<CostOf>,
}

/// Makes the price list of a machine.
pub type CostOf = fn(&Machine) -> Arc<dyn CostModel>;

impl Default for Session {
    fn default() -> Session {
        Session::new()
    }
}

impl Session {
    /// All in-tree parts.
    pub fn new() -> Session {
        Session {
            registry: Registry::builtin(),
            passes: Passes::default(),
            targets: Targets::builtin(),
            rules: Vec::new(),
            cost: None,
        }
    }

    /// Adds a dialect.
    ///
    /// # Panics
    /// When one of its ops is known already.
    #[must_use]
    pub fn with_dialect(mut self, dialect: &'static Dialect) -> Session {
        self.registry = self.registry.with(dialect);
        self
    }

    /// Adds passes.
    ///
    /// # Panics
    /// When one of their names is known already.
    #[must_use]
    pub fn with_passes(mut self, passes: &[&'static PassDef]) -> Session {
        self.passes = passes.iter().fold(self.passes, |known, pass| known.with(pass));
        self
    }

    /// Adds a target.
    ///
    /// # Panics
    /// When its name is known already.
    #[must_use]
    pub fn with_target(mut self, target: &'static Target) -> Session {
        self.targets = self.targets.with(target);
        self
    }

    /// Adds a target that a text describes ([`tilewright_targets::description`]). `file` is its name in messages. Gives the session
    /// and the target's name.
    ///
    /// # Errors
    /// All that is wrong with the text, each at its line; when its name is known already.
    pub fn with_machine(mut self, file: &str, text: &str) -> Result<(Session, &'static str), Diagnostics> {
        let target = description::target(text, file, &self.targets)?;
        self.targets = self.targets.with(target);
        Ok((self, target.name))
    }

    /// Adds rules, given as the text of a `.rules` file and its name for messages.
    #[must_use]
    pub fn with_rules(mut self, name: &str, text: &str) -> Session {
        self.rules.push(RuleText { name: name.into(), text: text.into() });
        self
    }

    /// Replaces the price list that the optimiser chooses by.
    #[must_use]
    pub fn with_cost(mut self, cost: CostOf) -> Session {
        self.cost = Some(cost);
        self
    }

    /// The target of that name.
    ///
    /// # Errors
    /// Names the known ones.
    pub fn target(&self, name: &str) -> Result<&'static Target, Diagnostic> {
        self.targets.find(name).ok_or_else(|| {
            let known: Vec<&str> = self.targets.iter().map(|target| target.name).collect();
            Diagnostic::error(Default::default(), format!("no target is called '{name}'"))
                .with_help(format!("there are: {}", known.join(", ")))
        })
    }

    /// A context for passes, with this session's rules and those of more files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn pass_context(&self, rule_files: &[PathBuf]) -> Result<PassContext, Diagnostic> {
        let mut context = PassContext::new(self.registry.clone());
        context.rules = self.rules.clone();
        for path in rule_files {
            let text = crate::output::read_text(path)?;
            context.rules.push(RuleText { name: path.display().to_string(), text });
        }
        Ok(context)
    }
}
