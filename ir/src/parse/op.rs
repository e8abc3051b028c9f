//! Ops, regions, blocks and aliases in text.

use super::ParseOptions;
use super::alias::AliasState;
use super::cursor::{Cursor, Fault, Faults, Parsed};
use super::scope::{Forward, Pack, Scopes};
use crate::attribute::{Attributes, Resource};
use crate::diagnostic::Diagnostic;
use crate::dim::Dim;
use crate::lex::Kind;
use crate::location::Location;
use crate::module::{BlockId, Module, OpId, RegionId, ValueId};
use crate::op_def::{OpDef, Traits};
use crate::registry::Registry;
use crate::types::{TensorType, Type};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Stands for a value that is used before the text defines it; gone when the text is read.
static FORWARD: OpDef = OpDef { name: "builtin.forward_reference", ..OpDef::DEFAULT };

/// Faults beyond these are not reported.
const FAULTS_MAX: usize = 100;

/// Blocks of the region being read.
#[derive(Default)]
struct Labels<'a> {
    blocks: BTreeMap<&'a str, (BlockId, bool, usize)>,
}

pub(crate) struct Parser<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) options: ParseOptions<'a>,
    pub(super) known_dims: HashMap<&'a str, Dim>,
    pub(super) stand_ins: BTreeMap<(String, Option<String>, TensorType), Arc<Resource>>,
    pub(super) stand_in_bytes: usize,
    registry: &'a Registry,
    module: Module,
    scopes: Scopes<'a>,
    labels: Vec<Labels<'a>>,
    pub(super) aliases: HashMap<&'a str, AliasState>,
    faults: Faults,
}

/// The text before an op's `(`: names and sizes of its results.
type ResultNames<'a> = Vec<(&'a str, u32, usize)>;

/// One use of a value in text: name, number in its pack, place.
type Use<'a> = (&'a str, u32, usize);

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, registry: &'a Registry, options: ParseOptions<'a>) -> Parser<'a> {
        let mut parser = Parser {
            cursor: Cursor::new(text, options.file, options.first_line),
            options,
            known_dims: HashMap::new(),
            stand_ins: BTreeMap::new(),
            stand_in_bytes: 0,
            registry,
            module: Module::new(),
            scopes: Scopes::new(),
            labels: Vec::new(),
            aliases: HashMap::new(),
            faults: Faults::default(),
        };
        parser.find_aliases();
        parser
    }

    pub(super) fn diagnostic(&self, fault: &Fault) -> Diagnostic {
        self.cursor.diagnostic(fault)
    }

    pub(super) fn expect_end(&self) -> Parsed<()> {
        self.cursor.expect_end()
    }

    pub(super) fn finish(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }

    pub(super) fn into_module(self) -> Module {
        self.module
    }

    fn report(&mut self, fault: &Fault) {
        if self.faults.list.len() < FAULTS_MAX {
            self.faults.list.push(self.cursor.diagnostic(fault));
        }
    }

    /// Reads the whole text into the module; faults are kept.
    pub(super) fn read_all(&mut self) {
        let body = self.module.body();
        let mut explicit = false;
        loop {
            match self.cursor.token.kind {
                Kind::End => break,
                Kind::FileData => self.skip_file_data(),
                Kind::Hash | Kind::Bang => {
                    if let Err(fault) = self.alias_line() {
                        self.report(&fault);
                        break;
                    }
                }
                _ if !explicit && self.is_module_op() => {
                    explicit = true;
                    let read = self.root_module();
                    if let Err(fault) = &read {
                        self.report(fault);
                    }
                    if !self.faults.list.is_empty() {
                        return;
                    }
                }
                _ => {
                    if !self.op_or_recover(body) {
                        break;
                    }
                }
            }
        }
        if self.faults.list.is_empty()
            && let Some((name, index, at)) = self.scopes.unresolved()
        {
            let fault = undefined(name, index, at);
            self.report(&fault);
        }
    }

    fn skip_file_data(&mut self) {
        let start = self.cursor.token.start;
        let length = self.cursor.text.get(start..).and_then(|rest| rest.find("#-}"));
        self.cursor.jump(length.map_or(self.cursor.text.len(), |length| start + length + 3));
    }

    /// True at the op that the module itself is made of: the first op, when it is a `builtin.module`.
    fn is_module_op(&self) -> bool {
        self.cursor.token_text() == "\"builtin.module\""
            && self.module.block(self.module.body()).ops.is_empty()
    }

    fn root_module(&mut self) -> Parsed<()> {
        self.cursor.take();
        self.cursor.expect(b'(')?;
        self.cursor.expect(b')')?;
        let mut attributes = Attributes::new();
        self.properties(&mut attributes)?;
        self.cursor.expect(b'(')?;
        self.cursor.expect(b'{')?;
        let (root, body) = (self.module.root(), self.module.body());
        if self.cursor.token.kind == Kind::Caret {
            self.cursor.take();
            self.cursor.expect(b':')?;
        }
        self.scopes.enter_region(true);
        while !self.cursor.at(b'}') && self.cursor.token.kind != Kind::End {
            if !self.op_or_recover(body) {
                return Ok(());
            }
        }
        let unresolved = self.scopes.leave_region(true);
        if let Some((name, index, at)) = unresolved.filter(|_| self.faults.list.is_empty()) {
            return Err(undefined(name, index, at));
        }
        self.cursor.expect(b'}')?;
        self.cursor.expect(b')')?;
        if self.cursor.at(b'{') {
            self.dictionary(&mut attributes)?;
        }
        self.cursor.expect(b':')?;
        let at = self.cursor.token.start;
        let (operands, results) = self.function_types()?;
        if !operands.is_empty() || !results.is_empty() {
            return Err(Cursor::fault(at, "a module has no operands and no results"));
        }
        let location = self.trailing_location()?.unwrap_or_default();
        let root = self.module.op_mut(root);
        root.attributes = attributes;
        root.location = location;
        Ok(())
    }

    /// Reads an op of the outer level. After a fault, goes to the line of the next one; false if there is none.
    fn op_or_recover(&mut self, block: BlockId) -> bool {
        let start = self.cursor.token.start;
        let (scopes, depth, labels) = (self.scopes.mark(), self.cursor.depth(), self.labels.len());
        let Err(fault) = self.op(block) else { return true };
        self.report(&fault);
        self.scopes.restore(scopes);
        self.cursor.restore_depth(depth);
        self.labels.truncate(labels);
        let from = fault.at.max(start);
        let next = self.cursor.indentation(start).and_then(|blanks| self.cursor.next_op_line(from, blanks));
        match next.filter(|next| *next > start) {
            Some(next) => self.cursor.jump(next),
            None => return false,
        }
        true
    }

    /// `%a, %b:2 = "dialect.name"(..) ..`, appended to a block.
    fn op(&mut self, block: BlockId) -> Parsed<()> {
        self.cursor.enter()?;
        let start = self.cursor.token.start;
        let names = self.result_names()?;
        let def = self.op_name()?;
        let operands = self.operand_uses()?;
        let successors = self.successors(block)?;
        let mut attributes = Attributes::new();
        self.properties(&mut attributes)?;
        let op = self.module.create_op(def, &[], Attributes::new(), &[], Location::Unknown);
        self.regions(op, def)?;
        if self.cursor.at(b'{') {
            self.dictionary(&mut attributes)?;
        }
        self.cursor.expect(b':')?;
        let types_at = self.cursor.token.start;
        let (operand_types, result_types) = self.function_types()?;
        let location = match self.trailing_location()? {
            Some(location) => location,
            None if self.options.file_locations => self.cursor.location_of(start),
            None => Location::Unknown,
        };
        let operation = self.module.op_mut(op);
        operation.attributes = attributes;
        operation.location = location;
        operation.successors = successors.into();
        self.set_operands(op, &operands, &operand_types, types_at)?;
        self.set_results(op, &names, &result_types, types_at)?;
        self.module.append(block, op);
        self.cursor.leave();
        Ok(())
    }

    fn result_names(&mut self) -> Parsed<ResultNames<'a>> {
        let mut names = Vec::new();
        while self.cursor.token.kind == Kind::Percent {
            let at = self.cursor.token.start;
            let name = &self.cursor.take()[1..];
            let mut count = 1;
            if self.cursor.eat(b':') {
                let count_at = self.cursor.token.start;
                count = u32::try_from(self.integer()?).unwrap_or(0);
                if count == 0 {
                    return Err(Cursor::fault(count_at, "a result pack has at least one result"));
                }
            }
            names.push((name, count, at));
            if !self.cursor.eat(b',') {
                self.cursor.expect(b'=')?;
                return Ok(names);
            }
        }
        if names.is_empty() { Ok(names) } else { Err(self.cursor.unexpected("a value name")) }
    }

    fn op_name(&mut self) -> Parsed<&'static OpDef> {
        let at = self.cursor.token.start;
        if self.cursor.token.kind == Kind::Bare {
            let mut fault = self.cursor.unexpected("an op in quotes");
            fault.help = "only MLIR's generic form is read: print with --mlir-print-op-generic".into();
            return Err(fault);
        }
        let name = self.cursor.string("an op")?;
        self.registry.find(&name).ok_or_else(|| {
            let mut fault =
                Cursor::fault(at, format!("op '{}' is not registered", super::cursor::shorten(&name)));
            if let Some(known) = self.registry.nearest(&name) {
                fault.help = format!("did you mean '{known}'?");
            }
            fault
        })
    }

    fn operand_uses(&mut self) -> Parsed<Vec<Use<'a>>> {
        self.cursor.expect(b'(')?;
        let mut uses = Vec::new();
        if self.cursor.eat(b')') {
            return Ok(uses);
        }
        loop {
            let at = self.cursor.token.start;
            let name = &self.cursor.expect_kind(Kind::Percent, "a value")?[1..];
            let mut index = 0;
            if self.cursor.token.kind == Kind::Hash {
                let number = self.cursor.token_text()[1..].parse();
                index = number.map_err(|_| self.cursor.unexpected("a result number"))?;
                self.cursor.take();
            }
            uses.push((name, index, at));
            if !self.cursor.eat(b',') {
                break;
            }
        }
        self.cursor.expect(b')')?;
        Ok(uses)
    }

    /// `<{..}>`, if it is here.
    fn properties(&mut self, attributes: &mut Attributes) -> Parsed<()> {
        if self.cursor.eat(b'<') {
            self.dictionary(attributes)?;
            self.cursor.expect(b'>')?;
        }
        Ok(())
    }

    fn set_operands(&mut self, op: OpId, uses: &[Use<'a>], types: &[Type], at: usize) -> Parsed<()> {
        if uses.len() != types.len() {
            let what = format!("the op has {} operands, but its type has {}", uses.len(), types.len());
            return Err(Cursor::fault(at, what));
        }
        let mut values = Vec::with_capacity(uses.len());
        for ((name, index, at), ty) in uses.iter().copied().zip(types) {
            values.push(self.value_of(name, index, at, ty)?);
        }
        self.module.set_operands(op, &values);
        Ok(())
    }

    fn value_of(&mut self, name: &'a str, index: u32, at: usize, ty: &Type) -> Parsed<ValueId> {
        let known = match self.scopes.find(name) {
            Some(pack) if index < pack.count => Some(ValueId(pack.first.0 + index)),
            Some(pack) => {
                return Err(Cursor::fault(
                    at,
                    format!("'%{name}' has {} results, found '#{index}'", pack.count),
                ));
            }
            None => self.scopes.forward(name, index).map(|forward| forward.value),
        };
        if let Some(value) = known {
            let expected = self.module.ty(value);
            if expected == ty {
                return Ok(value);
            }
            return Err(Cursor::fault(
                at,
                format!("'%{name}' differs in type: expected {expected}, found {ty}"),
            ));
        }
        let stand_in = self.module.create_op(
            &FORWARD,
            &[],
            Attributes::new(),
            std::slice::from_ref(ty),
            Location::Unknown,
        );
        let value = self.module.result(stand_in);
        self.scopes.add_forward(name, index, Forward { value, at });
        Ok(value)
    }

    fn set_results(&mut self, op: OpId, names: &ResultNames<'a>, types: &[Type], at: usize) -> Parsed<()> {
        let named: u64 = names.iter().map(|row| u64::from(row.1)).sum();
        if named != types.len() as u64 && !names.is_empty() {
            return Err(Cursor::fault(
                at,
                format!("the op names {named} results, but its type has {}", types.len()),
            ));
        }
        let values: Vec<ValueId> = types.iter().map(|ty| self.module.add_result(op, ty.clone())).collect();
        let mut rest = values.as_slice();
        for (name, count, at) in names.iter().copied() {
            let (pack, later) = rest.split_at((count as usize).min(rest.len()));
            rest = later;
            if let Some(first) = pack.first() {
                self.define(name, Pack { first: *first, count }, at)?;
            }
        }
        Ok(())
    }

    fn define(&mut self, name: &'a str, pack: Pack, at: usize) -> Parsed<()> {
        self.module.value_mut(pack.first).name = Some(name.into());
        if !self.scopes.define(name, pack) {
            return Err(Cursor::fault(at, format!("'%{name}' is defined twice")));
        }
        for index in 0..pack.count {
            let Some(forward) = self.scopes.resolve_forward(name, index) else { continue };
            let value = ValueId(pack.first.0 + index);
            if self.module.ty(value) != self.module.ty(forward.value) {
                let (expected, found) = (self.module.ty(value), self.module.ty(forward.value));
                let what = format!("'%{name}' differs in type: expected {expected}, found {found}");
                return Err(Cursor::fault(forward.at, what));
            }
            self.module.replace_all_uses(forward.value, value);
        }
        Ok(())
    }

    fn regions(&mut self, op: OpId, def: &OpDef) -> Parsed<()> {
        if !self.cursor.eat(b'(') {
            return Ok(());
        }
        loop {
            let region = self.module.add_region(op);
            self.region(region, def)?;
            if !self.cursor.eat(b',') {
                break;
            }
        }
        self.cursor.expect(b')')
    }

    fn region(&mut self, region: RegionId, def: &OpDef) -> Parsed<()> {
        let isolated = def.is(Traits::ISOLATED);
        self.cursor.expect(b'{')?;
        self.scopes.enter_region(isolated);
        self.labels.push(Labels::default());
        let mut order = Vec::new();
        while !self.cursor.eat(b'}') {
            let block = match self.cursor.token.kind {
                Kind::Caret => self.block_header(region)?,
                _ if order.is_empty() => self.module.add_block(region, &[]),
                _ => return Err(self.cursor.unexpected("an op, a block or '}'")),
            };
            order.push(block);
            while matches!(self.cursor.token.kind, Kind::Percent | Kind::Str | Kind::Bare) {
                self.op(block)?;
            }
            if !matches!(self.cursor.token.kind, Kind::Caret | Kind::Punctuation(b'}')) {
                return Err(self.cursor.unexpected("an op, a block or '}'"));
            }
        }
        let labels = self.labels.pop().unwrap_or_default();
        let open = labels.blocks.iter().filter(|(_, row)| !row.1).min_by_key(|(_, row)| row.2);
        if let Some((name, row)) = open {
            return Err(Cursor::fault(row.2, format!("block '^{name}' is not defined")));
        }
        if order.is_empty() && def.is(Traits::NO_TERMINATOR) {
            order.push(self.module.add_block(region, &[]));
        }
        self.module.set_region_blocks(region, order);
        match self.scopes.leave_region(isolated) {
            Some((name, index, at)) => Err(undefined(name, index, at)),
            None => Ok(()),
        }
    }

    /// The block of a label, made when first seen.
    fn labelled(&mut self, region: RegionId, name: &'a str, at: usize, define: bool) -> Parsed<BlockId> {
        let last = self.labels.len().max(1) - 1;
        if let Some(row) = self.labels.get_mut(last).and_then(|labels| labels.blocks.get_mut(name)) {
            if define && row.1 {
                return Err(Cursor::fault(at, format!("block '^{name}' is defined twice")));
            }
            row.1 |= define;
            return Ok(row.0);
        }
        let block = self.module.add_block(region, &[]);
        if let Some(labels) = self.labels.get_mut(last) {
            labels.blocks.insert(name, (block, define, at));
        }
        Ok(block)
    }

    /// `^bb1(%a: type, ..):`.
    fn block_header(&mut self, region: RegionId) -> Parsed<BlockId> {
        let at = self.cursor.token.start;
        let name = &self.cursor.take()[1..];
        let block = self.labelled(region, name, at, true)?;
        if self.cursor.eat(b'(') {
            loop {
                let at = self.cursor.token.start;
                let name = &self.cursor.expect_kind(Kind::Percent, "a block argument")?[1..];
                self.cursor.expect(b':')?;
                let ty = self.ty()?;
                let value = self.module.add_argument(block, ty);
                self.trailing_location()?;
                self.define(name, Pack { first: value, count: 1 }, at)?;
                if !self.cursor.eat(b',') {
                    break;
                }
            }
            self.cursor.expect(b')')?;
        }
        self.cursor.expect(b':')?;
        Ok(block)
    }

    /// `[^bb1, ^bb2]`, if it is here.
    fn successors(&mut self, block: BlockId) -> Parsed<Vec<BlockId>> {
        let mut blocks = Vec::new();
        if !self.cursor.eat(b'[') {
            return Ok(blocks);
        }
        let Some(region) = self.module.block(block).parent.filter(|_| !self.labels.is_empty()) else {
            return Err(Cursor::fault(self.cursor.token.start, "an op of the module has no successors"));
        };
        loop {
            let at = self.cursor.token.start;
            let name = &self.cursor.expect_kind(Kind::Caret, "a block")?[1..];
            blocks.push(self.labelled(region, name, at, false)?);
            if !self.cursor.eat(b',') {
                break;
            }
        }
        self.cursor.expect(b']')?;
        Ok(blocks)
    }
}

fn undefined(name: &str, index: u32, at: usize) -> Box<Fault> {
    let suffix = if index > 0 { format!("#{index}") } else { String::new() };
    Cursor::fault(at, format!("value '%{name}{suffix}' is not defined"))
}
