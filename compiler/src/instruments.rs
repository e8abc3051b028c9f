//! Watching a pipeline: IR dumps under MLIR's flag names, and a timing report.

use std::path::{Path, PathBuf};
use std::time::Duration;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::module::Module;
use tilewright_ir::print::{PrintOptions, print};
use tilewright_passes::pipeline::{Instrument, PassEvent};

/// Which dumps are wanted.
#[derive(Clone, Debug, Default)]
pub struct DumpOptions {
    /// Before these passes.
    pub before: Vec<String>,
    /// Before every pass.
    pub before_all: bool,
    /// After these passes.
    pub after: Vec<String>,
    /// After every pass.
    pub after_all: bool,
    /// After passes that changed something.
    pub after_change: bool,
    /// After a pass that failed.
    pub after_failure: bool,
    /// Into files of this folder instead of standard error.
    pub tree_folder: Option<PathBuf>,
    /// How to print.
    pub print: PrintOptions,
}

impl DumpOptions {
    /// True if any dump is wanted.
    pub fn any(&self) -> bool {
        self.before_all
            || self.after_all
            || self.after_change
            || self.after_failure
            || !self.before.is_empty()
            || !self.after.is_empty()
    }
}

/// Dumps IR around passes.
pub struct Dumper {
    options: DumpOptions,
    /// What could not be written; told once at the end.
    pub problems: Vec<Diagnostic>,
}

impl Dumper {
    /// A dumper.
    pub fn new(options: DumpOptions) -> Dumper {
        Dumper { options, problems: Vec::new() }
    }

    fn dump(&mut self, event: &PassEvent, when: &str) {
        let text = print(event.module, &self.options.print);
        let banner = format!("// -----// IR Dump {when} {} //----- //", event.step.name);
        match &self.options.tree_folder {
            None => eprintln!("{banner}\n{text}"),
            Some(folder) => {
                let slug = when.to_lowercase().replace(' ', "-");
                let name = format!("{:02}-{}-{slug}.mlir", event.index, event.step.name);
                if let Err(problem) = write_dump(folder, &name, &format!("{banner}\n{text}")) {
                    self.problems.push(problem);
                }
            }
        }
    }
}

fn write_dump(folder: &Path, name: &str, text: &str) -> Result<(), Diagnostic> {
    crate::output::make_folder(folder)?;
    crate::output::write(&folder.join(name), text.as_bytes())
}

impl Instrument for Dumper {
    fn wants_changed(&self) -> bool {
        self.options.after_change
    }

    fn before(&mut self, event: &PassEvent) {
        if self.options.before_all || self.options.before.contains(&event.step.name) {
            self.dump(event, "Before");
        }
    }

    fn after(&mut self, event: &PassEvent, changed: Option<bool>, _took: Duration) {
        let named = self.options.after_all || self.options.after.contains(&event.step.name);
        // With --mlir-print-ir-after-change a pass that changed nothing is left out, also of after-all.
        let wanted = if self.options.after_change { changed == Some(true) } else { named };
        if wanted {
            self.dump(event, "After");
        }
    }

    fn failure(&mut self, event: &PassEvent, _diagnostics: &[Diagnostic]) {
        if self.options.after_failure || self.options.after_all {
            self.dump(event, "After Failed");
        }
    }
}

/// Adds up the time of each pass.
#[derive(Default)]
pub struct Timer {
    rows: Vec<(String, Duration)>,
}

impl Timer {
    /// MLIR's execution time report, slowest last in pipeline order kept.
    pub fn report(&self) -> String {
        let total: Duration = self.rows.iter().map(|row| row.1).sum();
        let mut text = String::from("===-- Execution time report (wall) --===\n");
        for (name, took) in &self.rows {
            let share = 100.0 * took.as_secs_f64() / total.as_secs_f64().max(1e-12);
            text += &format!("  {:>9.4} s ({share:>5.1}%)  {name}\n", took.as_secs_f64());
        }
        text + &format!("  {:>9.4} s (100.0%)  Total\n", total.as_secs_f64())
    }
}

impl Instrument for Timer {
    fn after(&mut self, event: &PassEvent, _changed: Option<bool>, took: Duration) {
        self.rows.push((event.step.name.clone(), took));
    }
}

/// A file that shows a failure again: the module before the failed pass, and the rest of the pipeline in a comment.
pub fn reproducer_text(module: &Module, pipeline: &str) -> String {
    format!("// configuration: --pass-pipeline='{pipeline}'\n{}", print(module, &PrintOptions::default()))
}
