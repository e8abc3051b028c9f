//! Runs passes in order: pipeline text, verification after each, instrumentation, and what is needed to reproduce a failure.
//!
//! Knows no pass by name, no files, no terminal: instruments get the module and print what they like.
//!
//! ```text
//! builtin.module(canonicalize,cse,optimize{exact=true nodes=4000})      canonicalize,cse
//! ```

use crate::pass::{Options, Pass, PassContext, Passes};
use std::fmt;
use std::time::{Duration, Instant};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;

/// Op names that a pipeline may nest passes in. All our passes run on the whole module.
const ANCHORS: &[&str] = &["builtin.module", "func.func", "any"];

/// One step of a pipeline as text: pass name and options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The pass.
    pub name: String,
    /// Its options.
    pub options: Options,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.options.values.is_empty() {
            return Ok(());
        }
        let pairs: Vec<String> =
            self.options.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        write!(f, "{{{}}}", pairs.join(" "))
    }
}

/// Reads pipeline text. Anchors (`builtin.module(..)`) may nest; commas separate passes.
///
/// # Errors
/// Says what is wrong and at which column (from 1).
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut reader = Reader { text, at: 0 };
    let mut steps = Vec::new();
    reader.list(&mut steps, 0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.error("unexpected text"));
    }
    Ok(steps)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, what: &str) -> String {
        format!("pipeline column {}: {what} in '{}'", self.at + 1, self.text)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, stop: &[u8]) -> String {
        self.space();
        let start = self.at;
        while self.peek().is_some_and(|byte| !byte.is_ascii_whitespace() && !stop.contains(&byte)) {
            self.at += 1;
        }
        self.text[start..self.at].to_string()
    }

    fn list(&mut self, steps: &mut Vec<Step>, depth: usize) -> Result<(), String> {
        if depth > 8 {
            return Err(self.error("anchors nest too deep"));
        }
        loop {
            self.space();
            if matches!(self.peek(), None | Some(b')')) {
                return Ok(());
            }
            let start = self.at;
            let name = self.word(b",(){}");
            if name.is_empty() {
                return Err(self.error("expected a pass name"));
            }
            if self.eat(b'(') {
                if !ANCHORS.contains(&name.as_str()) {
                    self.at = start;
                    return Err(self.error(&format!("'{name}' is not an anchor ({})", ANCHORS.join(", "))));
                }
                self.list(steps, depth + 1)?;
                if !self.eat(b')') {
                    return Err(self.error("expected ')'"));
                }
            } else {
                let options = if self.eat(b'{') { self.options()? } else { Options::default() };
                steps.push(Step { name, options });
            }
            if !self.eat(b',') {
                return Ok(());
            }
        }
    }

    fn options(&mut self) -> Result<Options, String> {
        let mut options = Options::default();
        loop {
            if self.eat(b'}') {
                return Ok(options);
            }
            let key = self.word(b"={}");
            if key.is_empty() {
                return Err(self.error("expected an option name or '}'"));
            }
            let value = if self.eat(b'=') { self.word(b"{}") } else { "true".to_string() };
            if options.values.insert(key.clone(), value).is_some() {
                return Err(self.error(&format!("option '{key}' is given twice")));
            }
        }
    }
}

/// What an instrument sees.
pub struct PassEvent<'a> {
    /// The step.
    pub step: &'a Step,
    /// Its number in the pipeline, from 0.
    pub index: usize,
    /// The module: before the pass, or after it.
    pub module: &'a Module,
}

/// Watches a pipeline run. All methods do nothing unless overridden.
pub trait Instrument {
    /// True if [`Instrument::after`] needs to know whether the module changed, which costs a fingerprint per pass.
    fn wants_changed(&self) -> bool {
        false
    }
    /// Before a pass.
    fn before(&mut self, _event: &PassEvent) {}
    /// After a pass that succeeded. `changed` is `None` when nobody asked.
    fn after(&mut self, _event: &PassEvent, _changed: Option<bool>, _took: Duration) {}
    /// After a pass that failed, or whose result does not verify.
    fn failure(&mut self, _event: &PassEvent, _diagnostics: &[Diagnostic]) {}
}

/// What is needed to run a failed step again.
#[derive(Clone, Debug)]
pub struct Reproducer {
    /// The module before the failed pass.
    pub module: Module,
    /// The rest of the pipeline, the failed pass first.
    pub pipeline: String,
}

/// A failed run.
#[derive(Debug)]
pub struct PipelineFailure {
    /// The pass that failed.
    pub pass: String,
    /// What it said.
    pub diagnostics: Diagnostics,
    /// How to see it again, when [`PassManager::keep_reproducer`] is set.
    pub reproducer: Option<Box<Reproducer>>,
}

/// Checks a module after each pass.
pub type Verifier = fn(&Module) -> Result<(), Diagnostics>;

/// A pipeline ready to run.
pub struct PassManager {
    steps: Vec<(Step, Box<dyn Pass>)>,
    /// Runs after each pass.
    pub verifier: Option<Verifier>,
    /// Keep a copy of the module before each pass, so that a failure can be reproduced.
    pub keep_reproducer: bool,
}

impl PassManager {
    /// Reads pipeline text and makes its passes.
    ///
    /// # Errors
    /// Unknown passes and options, each with the nearest known name.
    pub fn parse(text: &str, passes: &Passes) -> Result<PassManager, Diagnostic> {
        let fail = |what: String| Diagnostic::error(Location::Unknown, what);
        let mut steps = Vec::new();
        for step in parse(text).map_err(fail)? {
            let Some(def) = passes.find(&step.name) else {
                let help = match passes.nearest(&step.name) {
                    Some(name) => format!("did you mean '{name}'?"),
                    None => "'tilewright passes' lists them".to_string(),
                };
                return Err(fail(format!("no pass is called '{}'", step.name)).with_help(help));
            };
            for key in step.options.values.keys() {
                if !def.options.iter().any(|option| option.name == key) {
                    let known: Vec<&str> = def.options.iter().map(|option| option.name).collect();
                    let help = format!(
                        "it has: {}",
                        if known.is_empty() { "none".into() } else { known.join(", ") }
                    );
                    return Err(fail(format!("pass '{}' has no option '{key}'", def.name)).with_help(help));
                }
            }
            let pass =
                (def.make)(&step.options).map_err(|what| fail(format!("pass '{}': {what}", def.name)))?;
            steps.push((step, pass));
        }
        Ok(PassManager { steps, verifier: Some(crate::verify), keep_reproducer: false })
    }

    /// The pipeline as text, in canonical form.
    pub fn text(&self) -> String {
        pipeline_text(self.steps.iter().map(|row| &row.0))
    }

    /// Runs all passes.
    ///
    /// # Errors
    /// The first failure of a pass, or of the verifier after it.
    pub fn run(
        &self,
        module: &mut Module,
        context: &mut PassContext,
        instruments: &mut [&mut dyn Instrument],
    ) -> Result<(), PipelineFailure> {
        let watch = instruments.iter().any(|instrument| instrument.wants_changed());
        for (index, (step, pass)) in self.steps.iter().enumerate() {
            for instrument in instruments.iter_mut() {
                instrument.before(&PassEvent { step, index, module });
            }
            let before = watch.then(|| fingerprint(module));
            let copy = self.keep_reproducer.then(|| module.clone());
            let start = Instant::now();
            let span = tracing::debug_span!("pass", name = step.name);
            let outcome = span.in_scope(|| pass.run(module, context));
            let took = start.elapsed();
            let outcome = outcome.and_then(|()| self.verifier.map_or(Ok(()), |verify| verify(module)));
            let event = PassEvent { step, index, module };
            match outcome {
                Ok(()) => {
                    let changed = before.map(|before| before != fingerprint(module));
                    for instrument in instruments.iter_mut() {
                        instrument.after(&event, changed, took);
                    }
                }
                Err(diagnostics) => {
                    for instrument in instruments.iter_mut() {
                        instrument.failure(&event, &diagnostics);
                    }
                    let pipeline = pipeline_text(self.steps[index..].iter().map(|row| &row.0));
                    let reproducer = copy.map(|module| Box::new(Reproducer { module, pipeline }));
                    return Err(PipelineFailure { pass: step.name.clone(), diagnostics, reproducer });
                }
            }
        }
        Ok(())
    }
}

fn pipeline_text<'a>(steps: impl Iterator<Item = &'a Step>) -> String {
    let steps: Vec<String> = steps.map(ToString::to_string).collect();
    format!("builtin.module({})", steps.join(","))
}

/// A hash of all that a dump of the module shows but names of values and locations.
pub fn fingerprint(module: &Module) -> u64 {
    use std::hash::{Hash, Hasher};
    // SipHash with its fixed default keys: the same on every run.
    let mut hasher = std::hash::DefaultHasher::new();
    let mut numbers = vec![u32::MAX; module.value_count()];
    let mut next = 0u32;
    for op in module.all_ops() {
        let operation = module.op(op);
        operation.def.name.hash(&mut hasher);
        for operand in &operation.operands {
            numbers[operand.index()].hash(&mut hasher);
        }
        operation.attributes.hash(&mut hasher);
        let arguments = operation.regions.iter().flat_map(|region| &module.region(*region).blocks);
        let arguments = arguments.flat_map(|block| &module.block(*block).arguments);
        for value in operation.results.iter().chain(arguments) {
            module.ty(*value).hash(&mut hasher);
            numbers[value.index()] = next;
            next += 1;
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_plain_text_read_the_same() {
        let nested = parse("builtin.module(canonicalize, func.func(cse), optimize{nodes=10 exact})").unwrap();
        let plain = parse("canonicalize,cse,optimize{exact=true nodes=10}").unwrap();
        assert_eq!(nested, plain);
        assert_eq!(
            pipeline_text(nested.iter()),
            "builtin.module(canonicalize,cse,optimize{exact=true nodes=10})"
        );
    }

    #[test]
    fn faults_name_the_column() {
        assert!(
            parse("canonicalize,cse{")
                .unwrap_err()
                .starts_with("pipeline column 18: expected an option name")
        );
        assert!(parse("canonicalise(cse)").unwrap_err().contains("'canonicalise' is not an anchor"));
        assert!(parse("a b").unwrap_err().contains("column 3: unexpected text"));
    }

    #[test]
    fn unknown_passes_and_options_are_refused() {
        let passes = Passes::default();
        let error = PassManager::parse("canonicalise", &passes).err().unwrap();
        assert_eq!(error.help, "did you mean 'canonicalize'?");
        let error = PassManager::parse("cse{fast=1}", &passes).err().unwrap();
        assert_eq!(error.what, "pass 'cse' has no option 'fast'");
    }
}
