//! The driver: one function of core IR (kernels formed or not) to a program, with the table of what runs where.
//!
//! Every op is offered to the target's rows in order, then to the host's; what a row cannot do after all (its smallest tiles do not
//! fit) is taken back and goes on to the next. A kernel goes to the target as a whole, or its ops one by one. Symbols left in the types become registers with a declared maximum. Ops on constants alone become constant expressions.
//!
//! ```text
//! let mut constants = ConstantPool::new();
//! let compiled = compile_function(&module, "main", &HOST, &machine, &Options::named("main"), &mut constants)?;
//! ```

mod compressed;
mod constant_fold;
mod cost;
mod interface;
mod objective;

pub(crate) use self::compressed::{Compressed, Stored};
pub(crate) use self::cost::work;
pub use self::objective::Objective;
use crate::check_memory_plan::check_memory_plan;
use crate::emit::constants::ConstantPool;
use crate::host;
use crate::idle_waits::remove_idle_waits;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject};
use crate::place::{Capacities, Placed, place, place_cheaply, place_quickly};
use crate::placement::{Placement, PlacementRow};
use crate::schedule::schedule_transfers;
use crate::target::Target;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::{builtin, core};
use tilewright_ir::module::{BlockId, Module, OpId};
use tilewright_ir::op_def::Traits;
use tilewright_passes::machine::Machine;
use tilewright_runtime::stream::Program;

/// How to compile a function.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the program in the artifact.
    pub name: String,
    /// Tokens per run, 0 when it is not about tokens.
    pub chunk_length: u32,
    /// Largest length of growing states: given, state pairs whose length is symbolic stay in place between runs.
    pub context_window: Option<i64>,
    /// Range of each symbol left in the function's types, inclusive.
    pub symbols: BTreeMap<String, (i64, i64)>,
    /// What it is for.
    pub objective: Objective,
    /// Run kernels one after the other, never stripe by stripe together.
    pub without_cascades: bool,
}

impl Options {
    /// A static function under a name.
    pub fn named(name: &str) -> Options {
        Options { name: name.to_string(), ..Options::default() }
    }
}

/// What a function became.
pub struct Compiled {
    /// Tile IR before memory was planned.
    pub tile: Module,
    /// Tile IR with `offset_bytes`.
    pub placed: Module,
    /// Bytes per space, and how good its plan is.
    pub memory: Placed,
    /// The program.
    pub program: Program,
    /// What runs where.
    pub placement: Placement,
}

/// Compiles one function.
///
/// # Errors
/// Every op that nothing can run (all of them, not the first), a symbol without a range, or a space that is too small.
pub fn compile_function(
    module: &Module,
    function: &str,
    target: &'static Target,
    machine: &Machine,
    options: &Options,
    constants: &mut ConstantPool,
) -> Result<Compiled, Diagnostics> {
    let wanted = Wanted { module, function, target, machine, options };
    let tried = match options.objective {
        Objective::Performance => objective::fastest(wanted)?,
        Objective::Size => objective::smallest(wanted)?,
    };
    let main = wanted.in_module(&tried.placed)?;
    check_memory_plan(&tried.placed, main, &capacities(machine)).map_err(|problem| vec![problem])?;
    let program = wanted.emit(&tried, constants)?;
    let Tried { tile, placed, memory, placement } = tried;
    Ok(Compiled { tile, placed, memory, program, placement })
}

/// A function, and what it is compiled for and how.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    module: &'a Module,
    function: &'a str,
    target: &'static Target,
    machine: &'a Machine,
    options: &'a Options,
}

impl Wanted<'_> {
    /// Lowers and places it; plans of kernels use at most `limit` bytes of SRAM, or as much as the memory plan finds room for.
    fn tried(self, limit: Option<u64>) -> Result<Tried, Diagnostics> {
        // Plans that leave hardly any SRAM free come first: mostly their buffers pack.
        let tight = TIGHT_DIVISORS.iter().filter(|_| limit.is_none()).find_map(|divisor| {
            let limit = self.machine.sram_bytes - self.machine.sram_bytes / divisor;
            self.tried_with(Some(limit), place_quickly).ok()
        });
        tight.map_or_else(|| self.tried_with(limit, place), Ok)
    }

    fn tried_with(self, limit: Option<u64>, place: Place) -> Result<Tried, Diagnostics> {
        let (tile, placement) = self.lowered(limit)?;
        let mut placed = tile.clone();
        let main = self.in_module(&placed)?;
        let memory = place(&mut placed, main, &capacities(self.machine)).map_err(|problem| vec![problem])?;
        Ok(Tried { tile, placed, memory, placement })
    }

    /// The same with transfers that keep DRAM busy between kernels: the first of these limits under which a plan of memory is found and
    /// proved with little search. It takes no longer than the plan of what was tried, and never gives up that plan's proof.
    fn ahead(self, tried: Tried, sram_bytes: &[u64]) -> Tried {
        for bytes in sram_bytes {
            let mut tile = tried.tile.clone();
            let Ok(main) = self.in_module(&tile) else { return tried };
            if !schedule_transfers(&mut tile, main, self.machine, *bytes) {
                return tried;
            }
            let mut placed = tile.clone();
            let memory = place_cheaply(&mut placed, main, &capacities(self.machine));
            if let Some(memory) = memory.ok().filter(Placed::is_proved) {
                return Tried { tile, placed, memory, placement: tried.placement };
            }
        }
        tried
    }

    fn emit(self, tried: &Tried, constants: &mut ConstantPool) -> Result<Program, Diagnostics> {
        let main = self.in_module(&tried.placed)?;
        let (name, length) = (&self.options.name, self.options.chunk_length);
        crate::emit::emit(&tried.placed, main, name, length, &tried.memory.bytes, constants)
            .map_err(|problem| vec![problem])
    }

    /// The function in this module or in one that was made from it.
    fn in_module(self, module: &Module) -> Result<OpId, Diagnostics> {
        let what = || format!("there is no function @{}", self.function);
        module.function(self.function).ok_or_else(|| vec![Diagnostic::error(Default::default(), what())])
    }
}

/// How memory is planned.
type Place = fn(&mut Module, OpId, &Capacities) -> Result<Placed, Diagnostic>;

/// A function lowered and placed.
struct Tried {
    tile: Module,
    placed: Module,
    memory: Placed,
    placement: Placement,
}

impl Tried {
    fn on_host(&self) -> usize {
        self.placement.rows.iter().filter(|row| row.target == "host").count()
    }

    fn bytes(&self, space: &str) -> u64 {
        self.memory.bytes.get(space).copied().unwrap_or(0)
    }
}

/// Fractions of SRAM left free that are tried before what lowerings leave on their own, the smallest first.
const TIGHT_DIVISORS: [u64; 2] = [64, 16];

fn capacities(machine: &Machine) -> Capacities {
    Capacities { sram_bytes: Some(machine.sram_bytes), accumulator_bytes: Some(machine.accumulator_bytes) }
}

/// Lowers one function to tile IR, and says what runs where.
///
/// # Errors
/// As [`compile_function`].
pub fn lower_function(
    module: &Module,
    function: &str,
    target: &'static Target,
    machine: &Machine,
    options: &Options,
) -> Result<(Module, Placement), Diagnostics> {
    Wanted { module, function, target, machine, options }.lowered(None)
}

impl Wanted<'_> {
    fn lowered(self, sram_limit_bytes: Option<u64>) -> Result<(Module, Placement), Diagnostics> {
        let Wanted { module, function, target, machine, options } = self;
        let source = self.in_module(module)?;
        let mut tile = Module::new();
        let (body, attributes) = (tile.body(), interface::tile_function_attributes(function));
        let main =
            tile.create_op(&builtin::FUNCTION, &[], attributes, &[], module.op(source).location.clone());
        let region = tile.add_region(main);
        let block = tile.add_block(region, &[]);
        tile.append(body, main);
        let one = |diagnostic| vec![diagnostic];
        let ranges = interface::symbol_ranges(module, source, options).map_err(one)?;
        let mut context = LoweringContext::new(module, tile, block, ranges);
        context.machine = machine.clone();
        context.copy_engine = target.copy_engine;
        context.sram_limit_bytes = sram_limit_bytes;
        context.is_cascading = !options.without_cascades;
        context.folded = constant_fold::foldable(module, source);
        context.constant_arguments = constant_fold::arguments(module, source, &context.folded);
        context.target = Some(target);
        context.compressed =
            compressed::compressed(module, source, &context.folded, &|op| context.is_on_target(op));
        context.folded.retain(|value| !context.compressed.contains_key(value));
        let ends = interface::declare(&mut context, source, options)
            .map_err(|what| one(Diagnostic::error(module.op(source).location.clone(), what)))?;
        context.lower_block(module.entry(source, 0));
        if context.problems.is_empty() {
            let finished = interface::finish(&mut context, source, &ends);
            if let Err(what) = finished {
                context.problems.push(Diagnostic::unsupported(module.op(source).location.clone(), what));
            }
        }
        if !context.problems.is_empty() {
            return Err(context.problems);
        }
        let mut placement = std::mem::take(&mut context.placement);
        cost::estimate(&context.tile, main, &context.spans, &mut placement);
        let mut tile = context.tile;
        remove_idle_waits(&mut tile, main);
        constant_fold::remove_unread(&mut tile, main);
        let end = tile.create_op(&builtin::RETURN, &[], Default::default(), &[], Default::default());
        tile.append(block, end);
        Ok((tile, placement))
    }
}

impl LoweringContext<'_> {
    /// Lowers the ops of a core block up to its terminator. Problems are collected, so that one run reports all of them.
    pub(crate) fn lower_block(&mut self, block: BlockId) {
        for op in &self.source.block(block).ops {
            let operation = self.source.op(*op);
            if operation.def.is(Traits::TERMINATOR) {
                break;
            }
            if operation.def.is(Traits::CONSTANT)
                || operation
                    .results
                    .iter()
                    .any(|value| self.folded.contains(value) || self.compressed.contains_key(value))
            {
                continue;
            }
            let outer = std::mem::replace(&mut self.location, operation.location.clone());
            if let Err(what) = self.lower_op(*op) {
                let name = operation.def.name;
                self.problems.push(Diagnostic::unsupported(
                    operation.location.clone(),
                    format!("'{name}' cannot be lowered: {what}"),
                ));
                // Later ops may use the results: they get places, so that only real problems are reported.
                for value in &operation.results {
                    let _ = self.destination(*value);
                }
            }
            self.location = outer;
        }
    }

    /// Whether a row of the target, not the host's, takes an op.
    fn is_on_target(&self, op: OpId) -> bool {
        let (subject, _) = self.subject(op);
        let place = PlaceContext { module: self.source, op, ranges: &self.ranges, machine: &self.machine };
        let rows = self.target.into_iter().flat_map(|target| target.lowerings);
        rows.filter(|row| row.subject == subject).any(|row| (row.place)(&place).is_ok())
    }

    fn lower_op(&mut self, op: OpId) -> Result<(), String> {
        let (subject, label) = self.subject(op);
        let mut reason = String::new();
        let target = self.target;
        if self.has_no_elements(op) {
            reason = "it has no elements to compute".into();
        } else if let Some(target) = target {
            for row in target.lowerings.iter().filter(|row| row.subject == subject) {
                let place =
                    PlaceContext { module: self.source, op, ranges: &self.ranges, machine: &self.machine };
                let tried = (row.place)(&place).and_then(|()| self.attempt(row, op, target.name, &label));
                match tried {
                    Ok(()) => return Ok(()),
                    Err(why) => reason = why,
                }
            }
            if reason.is_empty() && !target.is_processor() {
                reason = format!("{} has no lowering for {label}", target.name);
            }
        }
        match subject {
            // Its ops are offered one by one; each says for itself where it runs.
            Subject::Kernel(_) => host::inline_kernel(self, op),
            Subject::Op(def) => {
                let row = host::find(def);
                let row = row.ok_or_else(|| format!("the host has no lowering for {label}"))?;
                if row.is_free || row.has_regions {
                    return (row.lower)(self, op);
                }
                let row = Lowering { subject, place: |_| Ok(()), lower: row.lower };
                let home = target.filter(|target| target.is_processor()).map_or("host", |target| target.name);
                self.run_row(&row, op, home, label, reason)
            }
        }
    }

    /// True if a result or an operand is known to be empty: engines do not run over nothing, and a reduction of nothing is a fill.
    fn has_no_elements(&self, op: OpId) -> bool {
        let operation = self.source.op(op);
        let is_empty = |value: &tilewright_ir::module::ValueId| {
            self.source.tensor(*value).is_some_and(|ty| ty.shape.contains(&tilewright_ir::dim::Dim::Known(0)))
        };
        operation.operands.iter().chain(&operation.results).any(is_empty)
    }

    /// What the rows are asked for, and how the placement table calls it.
    fn subject(&self, op: OpId) -> (Subject, String) {
        let operation = self.source.op(op);
        if operation.def == &core::KERNEL {
            let kind = operation.attributes.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default();
            let known = self.target.into_iter().flat_map(|target| target.lowerings).find_map(|row| match row
                .subject
            {
                Subject::Kernel(name) if name == kind => Some(row.subject),
                _ => None,
            });
            return (known.unwrap_or(Subject::Kernel("")), format!("kernel {kind}"));
        }
        (Subject::Op(operation.def), operation.def.name.to_string())
    }

    /// Runs a row of the target. What it wrote before it failed is taken back.
    fn attempt(&mut self, row: &Lowering, op: OpId, target: &'static str, label: &str) -> Result<(), String> {
        let (declared, written) = (self.declarations, self.tile.block(self.block).ops.len());
        let derived = self.derived.clone();
        let done = self.run_row(row, op, target, label.to_string(), String::new());
        if done.is_err() {
            // Declarations stay, at the start of the function: later ops share them.
            let moved = if self.block == self.top { self.declarations - declared } else { 0 };
            self.erase_from(written + moved);
            self.derived = derived;
        }
        done
    }

    /// Erases the current block's ops from a position on, and forgets the views of their buffers.
    fn erase_from(&mut self, position: usize) {
        let ops = self.tile.block(self.block).ops[position..].to_vec();
        let mut buffers = BTreeSet::new();
        for op in ops.into_iter().rev() {
            self.tile.walk(op, &mut |inner| buffers.extend(self.tile.op(inner).results.iter().copied()));
            self.tile.erase(op);
        }
        self.views.retain(|_, view| !buffers.contains(&view.buffer));
    }

    fn run_row(
        &mut self,
        row: &Lowering,
        op: OpId,
        target: &'static str,
        label: String,
        reason: String,
    ) -> Result<(), String> {
        let first = self.tile.op_count();
        (row.lower)(self, op)?;
        self.spans.push(first..self.tile.op_count());
        let location = self.source.op(op).location.clone();
        self.placement.rows.push(PlacementRow {
            location,
            op: label,
            target,
            reason,
            cost: Default::default(),
        });
        Ok(())
    }
}
