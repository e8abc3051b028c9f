//! Placed tile IR to the runtime's program: addresses, extents and expressions of registers, control flow, and the table of commands
//! (in `commands`). Equal views and expressions are shared; every command keeps its source location. It must not know how tile
//! IR came about.
//!
//! ```text
//! "tile.unary"(%y, %x) {engine = "vector", function = "silu"}   =>   unary vector function=silu destination=.. x=..
//! ```

mod commands;
pub mod constants;

use crate::live_ranges::root;
use crate::place::SpaceBytes;
use crate::range::Ranges;
use constants::ConstantPool;
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::dialects::tile;
use tilewright_ir::dim::{Atom, Dim, Function};
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, OpId, ValueId};
use tilewright_ir::op_def::Traits;
use tilewright_ir::types::{Type, ViewType};
use tilewright_runtime::commands::{Command, ExpressionId, Register, ViewId};
use tilewright_runtime::element::Element;
use tilewright_runtime::stream::{Program, ProgramBuilder, Recent, StateBinding};
use tilewright_runtime::view::{Expression, Extent, RANK_MAX, Space, TERMS_MAX, View};

/// Writes the program of a placed tile function. Constants get their places in `constants`, which several programs may share.
///
/// # Errors
/// When an expression is not affine in the registers, or a number does not fit its field.
pub fn emit(
    module: &Module,
    function: OpId,
    name: &str,
    chunk_length: u32,
    spaces: &SpaceBytes,
    constants: &mut ConstantPool,
) -> Result<Program, Diagnostic> {
    let mut emitter = Emitter {
        module,
        constants,
        program: ProgramBuilder::new(name, chunk_length),
        registers: BTreeMap::new(),
        ranges: Ranges::default(),
        places: BTreeMap::new(),
        views: BTreeMap::new(),
        tokens: BTreeMap::new(),
        names: BTreeMap::new(),
    };
    emitter.block(module.entry(function, 0))?;
    let mut program = emitter.program;
    for (space, bytes) in spaces {
        if let Some(space) = Space::ALL.into_iter().find(|known| known.name() == space) {
            program.space_bytes(space, *bytes);
        }
    }
    program.space_bytes(Space::Constant, constants.bytes());
    Ok(program.finish())
}

/// The runtime's element of a compiler's, where there is one.
pub fn runtime_element(element: tilewright_ir::element::Element) -> Option<Element> {
    use tilewright_ir::element::Element as E;
    Some(match element {
        E::F64 => Element::F64,
        E::F32 => Element::F32,
        E::F16 => Element::F16,
        E::BF16 => Element::BF16,
        E::I64 => Element::I64,
        E::I32 => Element::I32,
        E::I16 => Element::I16,
        E::I8 => Element::I8,
        E::U64 => Element::U64,
        E::U32 => Element::U32,
        E::U16 => Element::U16,
        E::U8 => Element::U8,
        E::Bool => Element::Bool,
        E::I4 => Element::I4,
        E::U4 => Element::U4,
        E::I2 => Element::I2,
        E::U2 => Element::U2,
        E::F8E4M3FN => Element::F8E4M3FN,
        E::F8E5M2 => Element::F8E5M2,
        E::NF4 => Element::NF4,
        E::F8E4M3FNUZ => Element::F8E4M3FNUZ,
        E::F8E5M2FNUZ => Element::F8E5M2FNUZ,
        E::F8E8M0 => Element::F8E8M0,
        E::F4E2M1 => Element::F4E2M1,
    })
}

struct Emitter<'a> {
    module: &'a Module,
    constants: &'a mut ConstantPool,
    program: ProgramBuilder,
    registers: BTreeMap<Arc<str>, Register>,
    ranges: Ranges,
    /// Start of each buffer, constant and argument in its space, in bytes.
    places: BTreeMap<ValueId, u64>,
    views: BTreeMap<ValueId, ViewId>,
    tokens: BTreeMap<ValueId, u16>,
    names: BTreeMap<String, u16>,
}

impl Emitter<'_> {
    fn block(&mut self, block: BlockId) -> Result<(), Diagnostic> {
        for op in &self.module.block(block).ops {
            let location = self.module.op(*op).location.clone();
            self.op(*op, &location).map_err(|what| {
                let name = self.module.op(*op).def.name;
                Diagnostic::unsupported(location, format!("'{name}' cannot become a command: {what}"))
            })??;
        }
        Ok(())
    }

    /// The outer result is this op's own fault, the inner one that of an op inside it.
    fn op(&mut self, op: OpId, location: &Location) -> Result<Result<(), Diagnostic>, String> {
        let operation = self.module.op(op);
        let (def, attributes) = (operation.def, &operation.attributes);
        if def == &tile::REGISTER {
            self.declare_register(attributes);
        } else if def == &tile::BUFFER {
            let offset =
                int(attributes, "offset_bytes").ok_or("the buffer has no place: plan memory first")?;
            self.places.insert(self.module.result(op), offset as u64);
        } else if def == &tile::CONSTANT {
            let value = self.module.result(op);
            let offset = self.constants.add(self.module, op)?;
            self.places.insert(value, offset);
        } else if def == &tile::ARGUMENT {
            self.argument(op)?;
        } else if def != &tile::VIEW && !def.is(Traits::TERMINATOR) {
            self.program.location(&location_text(location));
            if def == &tile::FOR || def == &tile::LOOP {
                return self.for_loop(op);
            }
            if def == &tile::IF {
                return self.condition(op);
            }
            if def == &tile::WAIT {
                let token = self.wait_token(op)?;
                self.program.push(Command::Wait { token });
            } else {
                let command = commands::command(self, op)?;
                self.program.push(command);
            }
        }
        Ok(Ok(()))
    }

    fn declare_register(&mut self, attributes: &Attributes) {
        let name = text(attributes, "name").unwrap_or_default();
        let range = (int(attributes, "minimum").unwrap_or(0), int(attributes, "maximum").unwrap_or(0));
        let register = match text(attributes, "role") {
            Some("bound") => self.program.bound_register(name, range.0, range.1),
            _ => self.program.scratch_register(range.1),
        };
        self.registers.insert(name.into(), register);
        self.ranges.insert(name, range.0, range.1);
    }

    fn argument(&mut self, op: OpId) -> Result<(), String> {
        let attributes = &self.module.op(op).attributes;
        let value = self.module.result(op);
        let offset = int(attributes, "offset_bytes").ok_or("the argument has no place: plan memory first")?;
        self.places.insert(value, offset as u64);
        let name = text(attributes, "name").unwrap_or_default();
        let view = self.make_view(value)?;
        match text(attributes, "role") {
            Some("input") => self.program.input(name, view),
            Some("output") => self.program.output(name, view),
            _ => {
                let dims = attributes.get("output_dims").and_then(Attribute::as_dims);
                let mut output = view.clone();
                for (extent, dim) in output.dims.iter_mut().zip(dims.unwrap_or_default()) {
                    *extent = self.extent(&dim)?;
                }
                let output_name = text(attributes, "output_name").unwrap_or_default();
                self.program.state(StateBinding {
                    input: tilewright_runtime::stream::Binding { name: name.to_string(), view },
                    output: tilewright_runtime::stream::Binding {
                        name: output_name.to_string(),
                        view: output,
                    },
                    growing_axis: int(attributes, "growing_axis").and_then(|axis| u8::try_from(axis).ok()),
                    recent: recent(attributes),
                });
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, op: OpId) -> Result<Result<(), Diagnostic>, String> {
        let attributes = &self.module.op(op).attributes;
        let variable = text(attributes, "variable").unwrap_or_default();
        let limit = attributes.get("limit").and_then(Attribute::as_dim).ok_or("the limit is not readable")?;
        let step = u32::try_from(int(attributes, "step").unwrap_or(1)).map_err(|_| "the step is negative")?;
        let maximum = self.ranges.maximum(&limit).ok_or_else(|| format!("limit '{limit}' has no maximum"))?;
        let end = self.expression_id(&limit)?;
        // The counter passes the limit by less than one step before the loop ends.
        let register = self.program.scratch_register(maximum.max(0).saturating_add(i64::from(step)));
        self.ranges.insert(
            variable,
            0,
            (maximum - 1).max(0) / i64::from(step.max(1)) * i64::from(step.max(1)),
        );
        self.registers.insert(variable.into(), register);
        self.program.push(Command::LoopBegin { register, end, step });
        let result = self.block(self.module.entry(op, 0));
        self.program.push(Command::LoopEnd {});
        Ok(result)
    }

    fn condition(&mut self, op: OpId) -> Result<Result<(), Diagnostic>, String> {
        let condition = self.view_id(self.module.op(op).operands[0])?;
        self.program.push(Command::IfBegin { condition });
        if let Err(error) = self.block(self.module.entry(op, 0)) {
            return Ok(Err(error));
        }
        let otherwise = self.module.entry(op, 1);
        if !self.module.block(otherwise).ops.is_empty() {
            self.program.push(Command::Else {});
            if let Err(error) = self.block(otherwise) {
                return Ok(Err(error));
            }
        }
        self.program.push(Command::IfEnd {});
        Ok(Ok(()))
    }

    fn transfer_token(&mut self, op: OpId) -> u16 {
        match text(&self.module.op(op).attributes, "name") {
            Some(name) => self.named_token(name),
            None => {
                let token = self.program.token();
                self.tokens.insert(self.module.result(op), token);
                token
            }
        }
    }

    fn named_token(&mut self, name: &str) -> u16 {
        if let Some(token) = self.names.get(name) {
            return *token;
        }
        let token = self.program.token();
        self.names.insert(name.to_string(), token);
        token
    }

    fn wait_token(&mut self, op: OpId) -> Result<u16, String> {
        let operation = self.module.op(op);
        if let Some(name) = text(&operation.attributes, "name") {
            return Ok(self.named_token(name));
        }
        let token = operation.operands.first().and_then(|token| self.tokens.get(token));
        token.copied().ok_or_else(|| "the token is not of a transfer before it".to_string())
    }

    // ---- views and expressions ----------------------------------------------------------------------------------------

    fn view_id(&mut self, value: ValueId) -> Result<ViewId, String> {
        if let Some(id) = self.views.get(&value) {
            return Ok(*id);
        }
        let view = self.make_view(value)?;
        let id = self.program.view(view);
        self.views.insert(value, id);
        Ok(id)
    }

    fn make_view(&mut self, value: ValueId) -> Result<View, String> {
        let Type::View(ty) = self.module.ty(value) else { return Err("an operand is not a memref".into()) };
        let space = Space::ALL.into_iter().find(|space| space.name() == ty.space);
        let space = space.ok_or_else(|| format!("unknown space '{}'", ty.space))?;
        let element = runtime_element(ty.element)
            .ok_or_else(|| format!("element type {} is not known to the command set", ty.element))?;
        let base = root(self.module, value);
        let start = *self.places.get(&base).ok_or("a view of something that was not declared")?;
        if ty.shape.len() > RANK_MAX {
            return Err(format!("a view has {} dimensions, at most {RANK_MAX} fit", ty.shape.len()));
        }
        let dims = ty.shape.iter().map(|dim| self.extent(dim)).collect::<Result<Vec<_>, _>>()?;
        let (offset, strides) = self.layout(value, ty)?;
        let bits = offset.times(i64::from(element.bits()));
        let whole = bits.constant_part() % 8 == 0 && bits.terms().iter().all(|term| term.1 % 8 == 0);
        if !whole {
            return Err(format!("a view of {element} begins inside a byte"));
        }
        let base_bytes =
            Expression::new(bits.constant_part() / 8, bits.terms().iter().map(|term| (term.0, term.1 / 8)))
                .plus_constant(start as i64);
        Ok(View { space, element, base_bytes, dims, strides })
    }

    /// Offset in elements and strides: of a `tile.view`, or of a whole buffer.
    fn layout(&self, value: ValueId, ty: &ViewType) -> Result<(Expression, Vec<i64>), String> {
        let producer = self.module.producer(value).ok_or("a view must come from an op")?;
        let operation = self.module.op(producer);
        if operation.def == &tile::VIEW {
            let offset = operation.attributes.get("offset").and_then(Attribute::as_dim);
            let offset = self.expression(&offset.ok_or("a view's offset is not readable")?)?;
            let strides = operation.attributes.get("strides").and_then(Attribute::as_ints);
            return Ok((offset, strides.ok_or("a view's strides are not readable")?.to_vec()));
        }
        let capacity = match operation.attributes.get("capacity").and_then(Attribute::as_ints) {
            Some(capacity) => capacity.to_vec(),
            None => ty.shape.iter().map(|dim| dim.known().unwrap_or(0)).collect(),
        };
        Ok((Expression::constant(0), crate::view::row_major(&capacity)))
    }

    fn expression_id(&mut self, dim: &Dim) -> Result<ExpressionId, String> {
        let expression = self.expression(dim)?;
        Ok(self.program.expression(expression))
    }

    fn expression(&self, dim: &Dim) -> Result<Expression, String> {
        let (constant, linear) =
            dim.affine().ok_or_else(|| format!("'{dim}' is not affine in the registers"))?;
        let mut terms = Vec::new();
        for (name, coefficient) in linear {
            let register = self.registers.get(&name);
            terms
                .push((*register.ok_or_else(|| format!("'{name}' in '{dim}' is no register"))?, coefficient));
        }
        if terms.len() > TERMS_MAX {
            return Err(format!("'{dim}' names {} registers, at most {TERMS_MAX} fit", terms.len()));
        }
        Ok(Expression::new(constant, terms))
    }

    /// A length: a number, an affine expression, or `min(number, affine)`; `max(0, ..)` is implied.
    fn extent(&self, dim: &Dim) -> Result<Extent, String> {
        let mut cap = self.ranges.maximum(dim).ok_or_else(|| format!("'{dim}' has no maximum"))?;
        let mut bound = dim.clone();
        while let Some((function, a, b)) = as_call(&bound) {
            let (number, rest) = match (a.known(), b.known()) {
                (Some(number), _) => (number, b.clone()),
                (_, Some(number)) => (number, a.clone()),
                _ => return Err(format!("'{dim}' is neither affine nor min(number, affine)")),
            };
            match function {
                Function::Min => cap = cap.min(number),
                Function::Max if number <= 0 => {}
                _ => return Err(format!("'{dim}' is neither affine nor min(number, affine)")),
            }
            bound = rest;
        }
        let cap =
            u32::try_from(cap.max(0)).map_err(|_| format!("'{dim}' may be {cap}, more than 32 bits hold"))?;
        Ok(Extent::bounded(cap, self.expression(&bound)?))
    }
}

fn as_call(dim: &Dim) -> Option<(Function, Dim, Dim)> {
    let terms = dim.terms();
    let (product, coefficient) = terms.iter().next()?;
    match product.as_slice() {
        [Atom::Call(function, a, b)] if terms.len() == 1 && *coefficient == 1 => {
            Some((*function, a.clone(), b.clone()))
        }
        _ => None,
    }
}

/// The node names of a location, as the symbol table keeps them.
pub fn location_text(location: &Location) -> String {
    let names = location.names();
    if names.is_empty() && *location != Location::Unknown {
        return location.to_string();
    }
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(" + ")
}

fn int(attributes: &Attributes, name: &str) -> Option<i64> {
    attributes.get(name).and_then(Attribute::as_int)
}

/// The ring, block and kept tokens of a cache that is quantised in blocks.
fn recent(attributes: &Attributes) -> Option<Recent> {
    let counts = attributes.get("recent").and_then(Attribute::as_ints)?;
    let count = |index: usize| u32::try_from(*counts.get(index)?).ok();
    Some(Recent { ring: count(0)?, block: count(1)?, keep: count(2)? })
}

fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name).and_then(Attribute::as_str)
}
