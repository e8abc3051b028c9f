//! Groups optimised core ops into kernels: `core.kernel` regions that a target runs as one tile program, with everything between
//! their operands and results kept on chip. Knows ops by what they iterate over, no target.
//!
//! What a lowering may rely on:
//!
//! - The region holds its ops in an order in which each is made before it is used, then one `core.yield`. Constants that only
//!   the kernel reads are inside it; everything else comes through arguments.
//! - kind `rows`: every non-constant op has a result `[rows.., n]` with the same leading dims `rows..`. An operand from outside is
//!   either such a tensor, or broadcasts along the rows (a bias `[n]`, a scalar), or is the weight of a `linear`. No `linear` depends on
//!   another one of its kernel, so rows may be cut freely and each weight is read once per cut.
//! - kind `convolution`: one convolution first, then element-wise ops of its result's shape, quantisations by tensor or channel too.
//! - kind `elementwise`: element-wise ops of one result shape; operands broadcast to it.
//! - kind `attention`: one attention, last, and before it the rotation of its queries where nothing else reads them.
//! - kind `chain`: kernels of kind `convolution`, each but the first reading a result of an earlier one.
//! - Data movement stays outside, as single ops.
//!
//! ```text
//! %n = "core.rms_norm"(%x, %g); %q = "core.linear"(%n, %w ..); %k = "core.linear"(%n, %v ..)
//! =>  %q, %k = "core.kernel"(%x, %g) <{kind = "rows", name = "rows"}> ({ .. })
//! ```

mod chains;
mod prologue;
mod rebuild;
mod residuals;

use crate::pass::{Pass, PassContext, PassDef};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::Attribute;
use tilewright_ir::diagnostic::Diagnostics;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits};
use tilewright_ir::types::TensorType;

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "form-kernels",
    doc: "Groups optimised ops into `core.kernel` regions, which a target runs as one tile program each.",
    options: &[],
    make: |_| Ok(Box::new(FormKernels)),
};

struct FormKernels;

impl Pass for FormKernels {
    fn run(&self, module: &mut Module, _context: &mut PassContext) -> Result<(), Diagnostics> {
        for function in module.functions() {
            form_kernels(module, function);
        }
        Ok(())
    }
}

/// What a group may take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Rows,
    Convolution,
    Elementwise,
    Attention,
    Chain,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Kind::Rows => "rows",
            Kind::Convolution => "convolution",
            Kind::Elementwise => "elementwise",
            Kind::Attention => "attention",
            Kind::Chain => "chain",
        }
    }
}

/// Ops that keep rows apart and need each row whole. With the last axis as their axis where they have one.
const ROW_OPS: &[&OpDef] = &[&core::RMS_NORM, &core::LAYER_NORM, &core::SOFTMAX, &core::LOG_SOFTMAX];
/// Ops that begin a kernel of rows and read a weight.
const ANCHORS: &[&OpDef] = &[&core::LINEAR, &core::MATMUL, &core::MATMUL_INTEGER];
/// Ops that begin a convolution kernel.
const CONVOLUTIONS: &[&OpDef] =
    &[&core::CONVOLUTION, &core::CONVOLUTION_INTEGER, &core::CONV_TRANSPOSE, &core::POOL];
/// Ops that count as a kernel of their own wherever they stand.
const HEAVY: &[&OpDef] = &[&core::ATTENTION, &core::ROPE];

fn is_one_of(list: &[&'static OpDef], def: &'static OpDef) -> bool {
    list.contains(&def)
}

/// Forms the kernels of a function's first block. Gives the number of kernels.
pub fn form_kernels(module: &mut Module, function: OpId) -> usize {
    let block = module.entry(function, 0);
    residuals::sink(module, block);
    let groups = Grouping::new(module, block).run();
    let count = groups.len();
    rebuild::rebuild(module, block, groups);
    let chains = chains::chains(module, block);
    rebuild::rebuild(module, block, chains);
    count
}

/// True for ops that compute: those that a count of kernels counts. Data movement, constants and markers are free.
pub fn is_compute(def: &OpDef) -> bool {
    let free = def.is(Traits::DATA_MOVEMENT) || def.is(Traits::CONSTANT) || def.is(Traits::TERMINATOR);
    !free && def != &core::SIZE && def != &core::IOTA
}

/// The number of kernels of a function after [`form_kernels`]: kernels plus computing ops outside of one.
pub fn kernel_count(module: &Module, function: OpId) -> usize {
    let ops = &module.block(module.entry(function, 0)).ops;
    let count = |op: &OpId| match module.op(*op).attributes.get("kind").and_then(Attribute::as_str) {
        Some("chain") => module.block(module.entry(*op, 0)).ops.len() - 1,
        _ => usize::from(is_compute(module.op(*op).def)),
    };
    ops.iter().map(count).sum()
}

struct Group {
    kind: Kind,
    /// Members by position in the block.
    members: BTreeSet<usize>,
}

struct Grouping<'a> {
    module: &'a Module,
    ops: Vec<OpId>,
    position: BTreeMap<OpId, usize>,
    /// Constants, and little ones made of them alone, which are made when the artifact is written: they begin no kernel.
    constant: Vec<bool>,
    /// Ops that make quantised rows for a product: they join it and nothing else.
    reserved: BTreeSet<OpId>,
    group_of: Vec<Option<usize>>,
    groups: Vec<Group>,
}

/// Largest value made of constants that begins no kernel whatever it is made from: as much as is evaluated beforehand then. Larger ones
/// begin none either when they are not larger than that, such as weights in a narrower type.
const KNOWN_BYTES_MAX: usize = 64 << 10;

/// Which ops are constants, or are evaluated beforehand from nothing else.
fn constants(module: &Module, ops: &[OpId]) -> Vec<bool> {
    let mut known = BTreeSet::new();
    let mut is_known = |op: &OpId| {
        let operation = module.op(*op);
        let is_constant = operation.def.is(Traits::CONSTANT);
        let is_made = operation.def.is(Traits::PURE)
            && operation.regions.is_empty()
            && !operation.operands.is_empty()
            && operation.operands.iter().all(|value| known.contains(value));
        if is_constant || is_made {
            known.extend(operation.results.iter().copied());
        }
        let bytes = |value: &ValueId| {
            let ty = module.tensor(*value)?;
            Some(ty.element.bytes_of(ty.known_shape()?.iter().product::<i64>() as usize))
        };
        let is_small = || {
            let to: Option<usize> = operation.results.iter().map(bytes).sum();
            let from: Option<usize> = operation.operands.iter().map(bytes).sum();
            to.zip(from).is_some_and(|(to, from)| to <= from.max(KNOWN_BYTES_MAX))
        };
        is_constant || is_made && is_small()
    };
    ops.iter().map(&mut is_known).collect()
}

impl<'a> Grouping<'a> {
    fn new(module: &'a Module, block: BlockId) -> Grouping<'a> {
        let ops = module.block(block).ops.clone();
        let position = ops.iter().enumerate().map(|(at, op)| (*op, at)).collect();
        let constant = constants(module, &ops);
        let group_of = vec![None; ops.len()];
        let mut grouping = Grouping {
            module,
            position,
            constant,
            reserved: BTreeSet::new(),
            group_of,
            groups: Vec::new(),
            ops,
        };
        for at in 0..grouping.ops.len() {
            if is_one_of(ANCHORS, grouping.def(at)) && grouping.reads_weight(at) {
                let x = grouping.module.operand_at(grouping.ops[at], 0);
                grouping
                    .reserved
                    .extend(x.and_then(|x| prologue::of(module, x)).into_iter().flat_map(|one| one.0));
            }
        }
        grouping
    }

    fn run(mut self) -> Vec<(Kind, Vec<OpId>)> {
        self.seed_anchors();
        self.seed_rest();
        let ops = &self.ops;
        self.groups
            .iter()
            .filter(|group| !group.members.is_empty())
            .map(|group| (group.kind, group.members.iter().map(|at| ops[*at]).collect()))
            .collect()
    }

    fn def(&self, at: usize) -> &'static OpDef {
        self.module.op(self.ops[at]).def
    }

    fn result(&self, at: usize) -> Option<&'a TensorType> {
        let value = self.module.op(self.ops[at]).results.first()?;
        self.module.tensor(*value)
    }

    fn producer(&self, value: ValueId) -> Option<usize> {
        self.position.get(&self.module.producer(value)?).copied()
    }

    fn users(&self, at: usize) -> BTreeSet<usize> {
        let results = &self.module.op(self.ops[at]).results;
        let users = results.iter().flat_map(|value| self.module.value(*value).users.iter());
        // A user in a nested region counts as the op of this block that holds it: it is not in `position`, and such ops never join.
        users.filter_map(|op| self.position.get(op).copied()).collect()
    }

    /// One group per input of row anchors, with its norm before and what fits after; one per convolution.
    fn seed_anchors(&mut self) {
        for at in 0..self.ops.len() {
            if self.group_of[at].is_some() {
                continue;
            }
            let def = self.def(at);
            if is_one_of(ANCHORS, def) && self.reads_weight(at) {
                self.seed_rows(at);
            } else if is_one_of(CONVOLUTIONS, def) {
                let group = self.start(Kind::Convolution, at);
                self.grow(group);
            } else if def == &core::ATTENTION {
                let group = self.start(Kind::Attention, at);
                self.join_rotation(at, group);
            }
        }
    }

    /// Takes in the rotation of an attention's queries, which nothing else reads: queries come into SRAM as the product made them.
    fn join_rotation(&mut self, attention: usize, group: usize) {
        let Some(q) = self.module.operand_at(self.ops[attention], 0) else { return };
        let rope = self.producer(q).filter(|at| self.def(*at) == &core::ROPE && self.group_of[*at].is_none());
        if let Some(rope) = rope.filter(|_| self.module.value(q).users[..] == [self.ops[attention]]) {
            self.join(rope, group);
        }
    }

    /// A matmul is a row anchor when its right side is one matrix; a batched one is a kernel of its own.
    fn reads_weight(&self, at: usize) -> bool {
        let weight = self.module.operand_at(self.ops[at], 1).and_then(|value| self.module.tensor(value));
        weight.is_some_and(|ty| ty.rank() == 2) && self.result(at).is_some_and(|ty| ty.rank() >= 1)
    }

    fn seed_rows(&mut self, at: usize) {
        let group = self.start(Kind::Rows, at);
        let Some(x) = self.module.operand_at(self.ops[at], 0) else { return };
        // Siblings read the same rows. Their other operands must not depend on the group.
        let siblings: Vec<usize> =
            self.module.value(x).users.iter().filter_map(|op| self.position.get(op).copied()).collect();
        for sibling in siblings {
            let fits = sibling > at
                && self.group_of[sibling].is_none()
                && is_one_of(ANCHORS, self.def(sibling))
                && self.module.operand_at(self.ops[sibling], 0) == Some(x)
                && self.reads_weight(sibling)
                && !self.depends_on_group(sibling, group);
            if fits {
                self.join(sibling, group);
            }
        }
        let x = self.join_quantization(x, group);
        if let Some(norm) = self.producer(x)
            && self.group_of[norm].is_none()
            && is_one_of(ROW_OPS, self.def(norm))
            && self.is_last_axis(norm)
            && self.leading(norm) == self.leading(at)
        {
            self.join(norm, group);
        }
        self.grow(group);
    }

    /// Takes in the quantisation of a product's rows; gives the rows that it begins from.
    fn join_quantization(&mut self, x: ValueId, group: usize) -> ValueId {
        let Some((ops, rows)) = prologue::of(self.module, x) else { return x };
        let places: Option<Vec<usize>> = ops.iter().map(|op| self.position.get(op).copied()).collect();
        match places {
            Some(places) if places.iter().all(|at| self.group_of[*at].is_none()) => {
                places.into_iter().for_each(|at| self.join(at, group));
                rows
            }
            _ => x,
        }
    }

    fn seed_rest(&mut self) {
        for at in 0..self.ops.len() {
            let def = self.def(at);
            if self.group_of[at].is_some() || self.constant[at] {
                continue;
            }
            if is_one_of(ROW_OPS, def) && self.is_last_axis(at) {
                let group = self.start(Kind::Rows, at);
                self.grow(group);
            } else if self.is_elementwise(at) {
                let group = self.start(Kind::Elementwise, at);
                self.grow(group);
            }
        }
    }

    fn start(&mut self, kind: Kind, at: usize) -> usize {
        self.groups.push(Group { kind, members: BTreeSet::new() });
        let group = self.groups.len() - 1;
        self.join(at, group);
        group
    }

    fn join(&mut self, at: usize, group: usize) {
        self.group_of[at] = Some(group);
        self.groups[group].members.insert(at);
    }

    /// Takes in consumers until none fits.
    fn grow(&mut self, group: usize) {
        loop {
            let users = self.groups[group].members.iter().flat_map(|at| self.users(*at));
            let mut candidates: BTreeSet<usize> = users.map(|at| self.behind_residual(at, group)).collect();
            candidates.retain(|at| self.group_of[*at].is_none());
            if !candidates.into_iter().any(|at| self.take(at, group)) {
                return;
            }
        }
    }

    /// The op that a dequantised map is for, in a kernel of a convolution; else the op itself.
    fn behind_residual(&self, at: usize, group: usize) -> usize {
        let reader =
            residuals::reader(self.module, self.ops[at]).and_then(|op| self.position.get(&op).copied());
        reader.filter(|_| self.groups[group].kind == Kind::Convolution).unwrap_or(at)
    }

    /// Takes an op in if it fits, with the dequantisations of maps that are for it alone.
    fn take(&mut self, at: usize, group: usize) -> bool {
        let operands = self.module.op(self.ops[at]).operands.iter();
        let producers: BTreeSet<usize> = operands.filter_map(|value| self.producer(*value)).collect();
        let residuals = producers.into_iter().filter(|from| {
            let is_for_this = self.behind_residual(*from, group) == at && *from != at;
            let is_alike = self.result(*from).map(|ty| &ty.shape) == self.result(at).map(|ty| &ty.shape);
            is_for_this && is_alike && self.group_of[*from].is_none()
        });
        let residuals: Vec<usize> = residuals.collect();
        residuals.iter().for_each(|from| self.join(*from, group));
        let fits = self.fits(at, group) && !residuals.iter().any(|from| self.depends_on_group(*from, group));
        if fits {
            self.join(at, group);
        } else {
            for from in residuals {
                self.group_of[from] = None;
                self.groups[group].members.remove(&from);
            }
        }
        fits
    }

    fn fits(&self, at: usize, group: usize) -> bool {
        let first = *self.groups[group].members.first().expect("a group has members");
        let same_shape = || self.result(at).map(|ty| &ty.shape) == self.result(first).map(|ty| &ty.shape);
        let takes = match self.groups[group].kind {
            Kind::Rows => self.fits_rows(at, first),
            Kind::Convolution => {
                (self.is_elementwise(at) || residuals::scales_channels(self.module, self.ops[at]))
                    && same_shape()
            }
            Kind::Elementwise => self.is_elementwise(at) && same_shape(),
            Kind::Attention | Kind::Chain => false,
        };
        takes && !self.reserved.contains(&self.ops[at]) && !self.depends_on_group(at, group)
    }

    fn fits_rows(&self, at: usize, first: usize) -> bool {
        let row_op = is_one_of(ROW_OPS, self.def(at)) && self.is_last_axis(at);
        if !(row_op || self.is_elementwise(at)) || self.leading(at) != self.leading(first) {
            return false;
        }
        // A norm that feeds the next matmuls is their prologue.
        let begins =
            |user: &usize| is_one_of(ANCHORS, self.def(*user)) || self.reserved.contains(&self.ops[*user]);
        if row_op && self.users(at).iter().any(begins) {
            return false;
        }
        let Some(leading) = self.leading(at) else { return false };
        self.module
            .op(self.ops[at])
            .operands
            .iter()
            .all(|value| self.module.tensor(*value).is_some_and(|ty| rows_align(ty, leading)))
    }

    fn is_elementwise(&self, at: usize) -> bool {
        let def = self.def(at);
        def.is(Traits::ELEMENTWISE.with(Traits::PURE)) && !is_one_of(HEAVY, def) && self.result(at).is_some()
    }

    fn is_last_axis(&self, at: usize) -> bool {
        let Some(ty) = self.result(at) else { return false };
        match self.module.op(self.ops[at]).attributes.get("axis").and_then(Attribute::as_int) {
            None => true,
            Some(axis) => axis == -1 || axis + 1 == ty.rank() as i64,
        }
    }

    /// All dims of the result but the last.
    fn leading(&self, at: usize) -> Option<&'a [Dim]> {
        let ty = self.result(at)?;
        ty.shape.split_last().map(|(_, leading)| leading)
    }

    /// True if an operand from outside the group is computed, at whatever distance, from a member: the op cannot join without a
    /// cycle.
    fn depends_on_group(&self, at: usize, group: usize) -> bool {
        let first = *self.groups[group].members.first().expect("a group has members");
        let mut open: Vec<usize> = Vec::new();
        let mut seen = BTreeSet::new();
        let inputs = |at: usize| {
            self.module.op(self.ops[at]).operands.iter().filter_map(|value| self.producer(*value))
        };
        open.extend(inputs(at).filter(|from| self.group_of[*from] != Some(group)));
        while let Some(outside) = open.pop() {
            // Groups already formed are entered and left as a whole.
            let whole: Vec<usize> = match self.group_of[outside] {
                Some(other) => self.groups[other].members.iter().copied().collect(),
                None => vec![outside],
            };
            for part in whole {
                if !seen.insert(part) {
                    continue;
                }
                for from in inputs(part) {
                    if self.group_of[from] == Some(group) {
                        return true;
                    }
                    let earlier_group = self.group_of[from].is_some();
                    if from >= first || earlier_group {
                        open.push(from);
                    }
                }
            }
        }
        false
    }
}

/// True if a tensor has these rows, or is the same for all of them.
fn rows_align(ty: &TensorType, leading: &[Dim]) -> bool {
    let one = Dim::Known(1);
    match ty.shape.split_last() {
        None => true,
        Some((_, own)) if own.len() <= leading.len() => {
            let aligned = &leading[leading.len() - own.len()..];
            (own == aligned && own.len() == leading.len()) || own.iter().all(|dim| *dim == one)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests;
