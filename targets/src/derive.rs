//! Registers for numbers that are not affine in the bound ones: a quotient, a remainder, a larger or smaller of two, computed in the
//! stream where they are first needed.
//!
//! Views and loop limits are affine expressions; `floordiv(past, 32)` becomes a scratch register that is set from memory. What such
//! an expression's largest value is, says [`crate::range`]. It must not know what the number is for.
//!
//! ```text
//! store_expression a <- past; store_expression b <- 32; binary div c a b; set_register r1 <- c
//! ```

use crate::lowering::{LoweringContext, engine, space};
use crate::view::View;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::tile;
use tilewright_ir::dim::{Atom, Dim, Function};
use tilewright_ir::element::Element;

/// Who computes derived numbers, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deriver {
    /// The host, in DRAM.
    Host,
    /// The vector engine, in SRAM.
    Vector,
}

impl LoweringContext<'_> {
    /// The same number as an affine expression: functions of two numbers become registers. Their arguments must not be negative.
    ///
    /// # Errors
    /// When a product of symbols occurs, or a symbol has no range.
    pub fn derived(&mut self, dim: &Dim, by: Deriver) -> Result<Dim, String> {
        if dim.affine().is_some() {
            return Ok(dim.clone());
        }
        if let Some(known) = self.derived.get(dim) {
            return Ok(known.clone());
        }
        let mut sum = Dim::Known(0);
        for (product, coefficient) in dim.terms() {
            let term = match product.as_slice() {
                [] => Dim::Known(1),
                [Atom::Symbol(name)] => Dim::symbol(name),
                [Atom::Call(function, a, b)] => self.derived_call(*function, a, b, by)?,
                _ => return Err(format!("'{dim}' is a product of numbers that are not known")),
            };
            sum = &sum + &(&term * &Dim::Known(coefficient));
        }
        // What is made inside a loop or a condition is not there outside of it.
        if self.block == self.top {
            self.derived.insert(dim.clone(), sum.clone());
        }
        Ok(sum)
    }

    fn derived_call(&mut self, function: Function, a: &Dim, b: &Dim, by: Deriver) -> Result<Dim, String> {
        let whole = Dim::call(function, a, b);
        if let Some(known) = self.derived.get(&whole) {
            return Ok(known.clone());
        }
        let range = self.ranges.range(&whole).ok_or_else(|| format!("'{whole}' has no known range"))?;
        let (a, b) = (self.derived(a, by)?, self.derived(b, by)?);
        let word = match function {
            Function::FloorDiv => "div",
            Function::Mod => "rem_floor",
            Function::Max => "max",
            Function::Min => "min",
        };
        let (place, engine) = match by {
            Deriver::Host => (space::DRAM, engine::HOST),
            Deriver::Vector => (space::SRAM, engine::VECTOR),
        };
        let (a, b) = (self.stored(&a, place)?, self.stored(&b, place)?);
        let result = self.buffer(place, Element::I64, &[])?;
        let command = self.command(&tile::BINARY, engine).view(&result).view(&a).view(&b);
        command.attribute("function", word).emit()?;
        let name = self.new_symbol("derived");
        self.declare_register(&name, range.0.max(0), range.1.max(0), "scratch")?;
        let source = self.value(&result)?;
        self.builder()
            .op(&tile::SET_REGISTER)
            .operand(source)
            .attribute("register", name.as_str())
            .build()?;
        let symbol = Dim::symbol(&name);
        if self.block == self.top {
            self.derived.insert(whole, symbol.clone());
        }
        Ok(symbol)
    }

    /// An expression's value in memory.
    fn stored(&mut self, dim: &Dim, place: &str) -> Result<View, String> {
        let view = self.buffer(place, Element::I64, &[])?;
        let name = self.value(&view)?;
        self.builder()
            .op(&tile::STORE_EXPRESSION)
            .operand(name)
            .attribute("value", Attribute::dim(dim))
            .build()?;
        Ok(view)
    }
}
