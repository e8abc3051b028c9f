//! Prints MLIR's generic form, which mlir-opt reads.
//!
//! Values are called after the source model, else after the op that makes them (`%matmul`, `%matmul_1`), each name once per
//! function. Knows nothing of files; [`crate::parse`] reads what is printed here.
//!
//! ```text
//! "builtin.module"() ({
//!   "func.func"() <{function_type = (tensor<4xf32>) -> tensor<4xf32>, sym_name = "main"}> ({
//!   ^bb0(%x: tensor<4xf32>):
//!     %relu = "core.relu"(%x) : (tensor<4xf32>) -> tensor<4xf32> loc("/act")
//!     "func.return"(%relu) : (tensor<4xf32>) -> ()
//!   }) : () -> ()
//! }) : () -> ()
//! ```

mod attribute;
mod names;
mod number;

pub use attribute::{ELIDED, resource_key, split_resource_key};
pub use names::ValueNames;
pub use number::{float_bits, float_from_bits, float_text};

use crate::attribute::Attribute;
use crate::module::{BlockId, Module, OpId, RegionId, ValueId};
use crate::types::Type;
use std::fmt;
use std::fmt::Write;

/// What to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrintOptions {
    /// `loc(..)` after every op.
    pub locations: bool,
    /// The start of its content hash in the name of every weight. Costs one pass over the bytes of each.
    pub hashes: bool,
    /// Constants of more elements than this print as `dense_resource<__elided__>`. Such text is for people: its numbers are
    /// gone.
    pub elide_above: Option<usize>,
}

impl Default for PrintOptions {
    fn default() -> PrintOptions {
        PrintOptions { locations: false, hashes: true, elide_above: None }
    }
}

/// The text of a module, with a newline at its end.
pub fn print(module: &Module, options: &PrintOptions) -> String {
    print_op(module, module.root(), options)
}

/// The text of one op and all below it. Values from outside keep the names they have in their function.
pub fn print_op(module: &Module, op: OpId, options: &PrintOptions) -> String {
    let scope = scope_of(module, op);
    let mut printer = Printer { module, options, names: ValueNames::of(module, scope), out: String::new() };
    printer.op(op, 0);
    printer.out
}

/// The innermost op above `op` in which names are unique.
fn scope_of(module: &Module, op: OpId) -> OpId {
    let mut at = op;
    while let Some(parent) = module.parent_op(at) {
        at = parent;
        if names::is_scope(module, at) {
            break;
        }
    }
    at
}

struct Printer<'a> {
    module: &'a Module,
    options: &'a PrintOptions,
    names: ValueNames,
    out: String,
}

impl Printer<'_> {
    fn push(&mut self, arguments: fmt::Arguments) {
        let written = self.out.write_fmt(arguments);
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }

    fn indent(&mut self, depth: usize) {
        for _ in 0..depth {
            self.out.push_str("  ");
        }
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Self, T)) {
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.out.push_str(", ");
            }
            each(self, item);
        }
    }

    fn value(&mut self, value: ValueId) {
        self.out.push('%');
        self.names.write(&mut self.out, value);
    }

    fn types(&mut self, types: Vec<&Type>) {
        self.out.push('(');
        self.list(types, |this, ty| this.push(format_args!("{ty}")));
        self.out.push(')');
    }

    fn op(&mut self, op: OpId, depth: usize) {
        let operation = self.module.op(op);
        self.indent(depth);
        if !operation.results.is_empty() {
            let groups = self.names.groups(&operation.results);
            self.list(groups, |this, (value, count)| {
                this.out.push('%');
                this.names.write_pack(&mut this.out, value);
                if count > 1 {
                    this.push(format_args!(":{count}"));
                }
            });
            self.out.push_str(" = ");
        }
        self.push(format_args!("\"{}\"(", operation.def.name));
        self.list(operation.operands.iter().copied(), |this, value| this.value(value));
        self.out.push(')');
        if !operation.successors.is_empty() {
            self.out.push('[');
            self.list(operation.successors.iter().copied(), |this, block| this.block_name(block));
            self.out.push(']');
        }
        let (inherent, discardable) = attribute::split_attributes(&operation.attributes);
        if inherent > 0 {
            self.out.push_str(" <");
            self.attributes(op, false);
            self.out.push('>');
        }
        if !operation.regions.is_empty() {
            self.out.push_str(" (");
            self.list(operation.regions.iter().copied(), |this, region| this.region(region, depth));
            self.out.push(')');
        }
        if discardable > 0 {
            self.out.push(' ');
            self.attributes(op, true);
        }
        self.signature(op);
        if self.options.locations {
            self.push(format_args!(" loc({})", operation.location));
        }
        self.out.push('\n');
    }

    fn attributes(&mut self, op: OpId, discardable: bool) {
        let entries =
            self.module.op(op).attributes.iter().filter(|(name, _)| name.contains('.') == discardable);
        attribute::write_dictionary(&mut self.out, entries, self.options);
    }

    fn signature(&mut self, op: OpId) {
        let operation = self.module.op(op);
        self.out.push_str(" : ");
        self.types(operation.operands.iter().map(|value| self.module.ty(*value)).collect());
        self.out.push_str(" -> ");
        match operation.results.as_slice() {
            [single] if !matches!(self.module.ty(*single), Type::Function(..)) => {
                self.push(format_args!("{}", self.module.ty(*single)));
            }
            results => self.types(results.iter().map(|value| self.module.ty(*value)).collect()),
        }
    }

    fn region(&mut self, region: RegionId, depth: usize) {
        let scope = self.module.region(region).parent.filter(|op| names::is_scope(self.module, *op));
        let outer = scope.map(|op| std::mem::replace(&mut self.names, ValueNames::of(self.module, op)));
        self.out.push_str("{\n");
        for (index, block) in self.module.region(region).blocks.iter().enumerate() {
            self.block(*block, index, depth);
        }
        self.indent(depth);
        self.out.push('}');
        if let Some(outer) = outer {
            self.names = outer;
        }
    }

    fn block_name(&mut self, block: BlockId) {
        let blocks =
            self.module.block(block).parent.map(|region| self.module.region(region).blocks.as_slice());
        let index = blocks.and_then(|blocks| blocks.iter().position(|other| *other == block));
        match index {
            Some(index) => self.push(format_args!("^bb{index}")),
            None => self.out.push_str("^gone"),
        }
    }

    fn block(&mut self, block: BlockId, index: usize, depth: usize) {
        let contents = self.module.block(block);
        // As MLIR: the first block has a label only when it has arguments or nothing else.
        if index > 0 || !contents.arguments.is_empty() || contents.ops.is_empty() {
            self.indent(depth);
            self.push(format_args!("^bb{index}"));
            if !contents.arguments.is_empty() {
                self.out.push('(');
                self.list(contents.arguments.iter().copied(), |this, value| {
                    this.value(value);
                    this.push(format_args!(": {}", this.module.ty(value)));
                });
                self.out.push(')');
            }
            self.out.push_str(":\n");
        }
        for op in &contents.ops {
            self.op(*op, depth + 1);
        }
    }
}

impl fmt::Display for Module {
    /// The text with default options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self, &PrintOptions::default()))
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        attribute::write_attribute(&mut out, self, &PrintOptions::default(), true);
        f.write_str(&out)
    }
}
