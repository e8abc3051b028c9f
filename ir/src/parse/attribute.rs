//! Attributes and locations in text.
//!
//! ```text
//! {axis = -1 : i64, mode = "edge", flag}   array<i64: 1, 2>   [1, "seq"]   @main   loc(fused<"rule">["a", #loc2])
//! ```

use super::alias::Alias;
use super::cursor::{Cursor, Parsed};
use super::op::Parser;
use crate::attribute::{Attribute, Attributes};
use crate::element::{Element, Family};
use crate::lex::Kind;
use crate::location::Location;
use crate::print::float_from_bits;
use crate::types::Type;
use std::borrow::Cow;

impl<'a> Parser<'a> {
    /// Any attribute.
    pub(crate) fn attribute(&mut self) -> Parsed<Attribute> {
        self.cursor.enter()?;
        let value = self.attribute_inside()?;
        self.cursor.leave();
        Ok(value)
    }

    fn attribute_inside(&mut self) -> Parsed<Attribute> {
        let token = self.cursor.token;
        match token.kind {
            Kind::Integer | Kind::Float | Kind::Punctuation(b'-') => self.number(),
            Kind::Str => Ok(Attribute::Str(self.cursor.string("a string")?.into())),
            Kind::At => self.symbol(),
            Kind::Punctuation(b'[') => self.array(),
            Kind::Punctuation(b'{') => {
                let mut entries = Attributes::new();
                self.dictionary(&mut entries)?;
                Ok(Attribute::Dict(entries.into()))
            }
            Kind::Hash => self.hash_attribute(),
            Kind::Bare => match self.cursor.token_text() {
                "true" | "false" => Ok(Attribute::Bool(self.cursor.take() == "true")),
                "unit" => {
                    self.cursor.take();
                    Ok(Attribute::Unit)
                }
                "array" => self.number_array(),
                "dense" => self.dense(),
                "dense_resource" => self.dense_resource(),
                word @ ("affine_map" | "affine_set" | "sparse" | "strided" | "opaque" | "distinct") => Err(
                    Cursor::fault(token.start, format!("attributes of the form '{word}' are not supported")),
                ),
                _ => self.ty().map(Attribute::Type),
            },
            _ => match self.ty() {
                Ok(ty) => Ok(Attribute::Type(ty)),
                Err(fault) if fault.at == token.start => Err(self.cursor.unexpected("an attribute")),
                Err(fault) => Err(fault),
            },
        }
    }

    /// `#alias` or `#core.dense<..>`.
    fn hash_attribute(&mut self) -> Parsed<Attribute> {
        let token = self.cursor.token;
        let name = &self.cursor.token_text()[1..];
        if name == "core.dense" {
            return self.packed_dense();
        }
        if name.contains('.') {
            return Err(Cursor::fault(token.start, format!("attribute '#{name}' is not known")));
        }
        match self.alias(b'#', name)? {
            Alias::Attribute(value) => Ok(value),
            Alias::Type(ty) => Ok(Attribute::Type(ty)),
            Alias::Location(_) => {
                Err(Cursor::fault(token.start, format!("expected an attribute, but '#{name}' is a location")))
            }
        }
    }

    /// `@name`.
    fn symbol(&mut self) -> Parsed<Attribute> {
        let token = self.cursor.token;
        let text = &self.cursor.take()[1..];
        if self.cursor.text.get(token.end..).is_some_and(|rest| rest.starts_with("::")) {
            return Err(Cursor::fault(token.end, "nested symbols ('@a::@b') are not supported"));
        }
        let name = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(inside) => crate::lex::unescape(inside)
                .ok_or_else(|| Cursor::fault(token.start, "the symbol's name has a wrong escape"))?,
            None => text.to_string(),
        };
        if name.is_empty() {
            return Err(Cursor::fault(token.start, "a symbol's name is empty"));
        }
        Ok(Attribute::Symbol(name.into()))
    }

    fn array(&mut self) -> Parsed<Attribute> {
        self.cursor.expect(b'[')?;
        let mut items = Vec::new();
        if !self.cursor.eat(b']') {
            loop {
                items.push(self.attribute()?);
                if !self.cursor.eat(b',') {
                    break;
                }
            }
            self.cursor.expect(b']')?;
        }
        Ok(Attribute::Array(items.into()))
    }

    /// `{a = .., b}`, added to `entries`.
    pub(super) fn dictionary(&mut self, entries: &mut Attributes) -> Parsed<()> {
        self.cursor.expect(b'{')?;
        if self.cursor.eat(b'}') {
            return Ok(());
        }
        loop {
            let at = self.cursor.token.start;
            let name = match self.cursor.token.kind {
                Kind::Bare => self.cursor.take().to_string(),
                // `4x` and the like are no names, but a quoted one may hold anything.
                _ => self.cursor.string("an attribute name")?,
            };
            if name.is_empty() {
                return Err(Cursor::fault(at, "an attribute's name is empty"));
            }
            let value = if self.cursor.eat(b'=') { self.attribute()? } else { Attribute::Unit };
            if entries.insert(Cow::Owned(name.clone()), value).is_some() {
                return Err(Cursor::fault(at, format!("attribute '{name}' is given twice")));
            }
            if !self.cursor.eat(b',') {
                return self.cursor.expect(b'}');
            }
        }
    }

    /// `-3 : i64`, `1.5`, `0x7FC00000 : f32`.
    fn number(&mut self) -> Parsed<Attribute> {
        let at = self.cursor.token.start;
        let negative = self.cursor.eat(b'-');
        let kind = self.cursor.token.kind;
        if !matches!(kind, Kind::Integer | Kind::Float) {
            return Err(self.cursor.unexpected("a number"));
        }
        let text = self.cursor.take();
        let ty = if self.cursor.eat(b':') { Some((self.cursor.token.start, self.ty()?)) } else { None };
        let scalar = match ty {
            None => None,
            Some((_, Type::Index)) => Some(Element::I64),
            Some((_, Type::Scalar(element))) => Some(element),
            Some((at, other)) => {
                return Err(Cursor::fault(at, format!("expected a number type, found {other}")));
            }
        };
        if let Some(value) = float_value(kind, text, negative, scalar) {
            return Ok(Attribute::float(value));
        }
        if kind == Kind::Float || scalar.is_some_and(Element::is_float) {
            return Err(Cursor::fault(
                at,
                format!("{text} is not a number of type {}", scalar.unwrap_or(Element::F64)),
            ));
        }
        int_value(text, negative, scalar).map(Attribute::Int).ok_or_else(|| {
            Cursor::fault(at, format!("{} does not fit 64 bits", super::cursor::shorten(text)))
        })
    }

    /// An integer without a type, with its sign.
    pub(super) fn integer(&mut self) -> Parsed<i64> {
        let at = self.cursor.token.start;
        let negative = self.cursor.eat(b'-');
        let text = self.cursor.expect_kind(Kind::Integer, "an integer")?;
        int_value(text, negative, None).ok_or_else(|| {
            Cursor::fault(at, format!("{} does not fit 64 bits", super::cursor::shorten(text)))
        })
    }

    /// `array<i64: 1, 2>`; `i32` is for `operandSegmentSizes`.
    fn number_array(&mut self) -> Parsed<Attribute> {
        self.cursor.take();
        self.cursor.expect(b'<')?;
        let at = self.cursor.token.start;
        let element = match self.ty()? {
            Type::Scalar(element @ (Element::I64 | Element::I32)) => element,
            other => {
                return Err(Cursor::fault(
                    at,
                    format!("expected array<i64: ..> or array<i32: ..>, found array<{other}>"),
                ));
            }
        };
        let mut values = Vec::new();
        if self.cursor.eat(b':') {
            loop {
                values.push(self.integer()?);
                if !self.cursor.eat(b',') {
                    break;
                }
            }
        }
        self.cursor.expect(b'>')?;
        if element == Element::I64 {
            return Ok(Attribute::ints(&values));
        }
        let narrow: Result<Vec<i32>, _> = values.iter().map(|value| i32::try_from(*value)).collect();
        let narrow = narrow.map_err(|_| Cursor::fault(at, "a number of this array does not fit i32"))?;
        Ok(Attribute::Segments(narrow.into()))
    }

    /// `loc(..)`, if it is here.
    pub(super) fn trailing_location(&mut self) -> Parsed<Option<Location>> {
        if !self.cursor.at_word("loc") {
            return Ok(None);
        }
        self.cursor.take();
        self.cursor.expect(b'(')?;
        let location = self.location()?;
        self.cursor.expect(b')')?;
        Ok(Some(location))
    }

    /// What stands inside `loc(..)`.
    pub(crate) fn location(&mut self) -> Parsed<Location> {
        self.cursor.enter()?;
        let location = self.location_inside()?;
        self.cursor.leave();
        Ok(location)
    }

    fn location_inside(&mut self) -> Parsed<Location> {
        let token = self.cursor.token;
        match (token.kind, self.cursor.token_text()) {
            (Kind::Bare, "unknown") => {
                self.cursor.take();
                Ok(Location::Unknown)
            }
            (Kind::Bare, "fused") => self.fused_location(),
            (Kind::Bare, "callsite") => {
                self.cursor.take();
                self.cursor.expect(b'(')?;
                let callee = self.location()?;
                if !self.cursor.at_word("at") {
                    return Err(self.cursor.unexpected("'at'"));
                }
                self.cursor.take();
                let caller = self.location()?;
                self.cursor.expect(b')')?;
                Ok(Location::Fused(Some("callsite".into()), [callee, caller].into()))
            }
            (Kind::Hash, name) => match self.alias(b'#', &name[1..])? {
                Alias::Location(location) => Ok(location),
                _ => Err(Cursor::fault(token.start, format!("'{name}' is not a location"))),
            },
            (Kind::Str, _) => self.named_location(),
            _ => Err(self.cursor.unexpected("a location")),
        }
    }

    /// `"name"`, `"name"(child)`, `"file":line:column`. The child of a name says where the name was read; it is not kept.
    fn named_location(&mut self) -> Parsed<Location> {
        let name = self.cursor.string("a name")?;
        if self.cursor.eat(b':') {
            let line = self.small_number()?;
            self.cursor.expect(b':')?;
            let column = self.small_number()?;
            // Later versions of MLIR print ranges, `3:4 to :9`.
            if self.cursor.at_word("to") {
                self.cursor.take();
                if !self.cursor.at(b':') {
                    self.small_number()?;
                }
                self.cursor.expect(b':')?;
                self.small_number()?;
            }
            return Ok(Location::File(name.into(), line, column));
        }
        if self.cursor.eat(b'(') {
            self.location()?;
            self.cursor.expect(b')')?;
        }
        // A name that is empty is kept as it is: `Location::name` would lose it.
        Ok(Location::Name(name.into()))
    }

    fn small_number(&mut self) -> Parsed<u32> {
        let at = self.cursor.token.start;
        let value = self.integer()?;
        u32::try_from(value).map_err(|_| Cursor::fault(at, format!("{value} does not fit 32 bits")))
    }

    fn fused_location(&mut self) -> Parsed<Location> {
        self.cursor.take();
        let mut tag = None;
        if self.cursor.eat(b'<') {
            match self.attribute()? {
                Attribute::Str(text) => tag = Some(text),
                other => tag = Some(other.to_string().into()),
            }
            self.cursor.expect(b'>')?;
        }
        self.cursor.expect(b'[')?;
        let mut parts = Vec::new();
        if !self.cursor.eat(b']') {
            loop {
                parts.push(self.location()?);
                if !self.cursor.eat(b',') {
                    break;
                }
            }
            self.cursor.expect(b']')?;
        }
        Ok(Location::Fused(tag, parts.into()))
    }
}

/// The value of a token that spells a float: `1.5`, or the bits of a float type.
fn float_value(kind: Kind, text: &str, negative: bool, element: Option<Element>) -> Option<f64> {
    if kind == Kind::Float {
        let value: f64 = text.parse().ok()?;
        return element.unwrap_or(Element::F64).is_float().then_some(if negative { -value } else { value });
    }
    let element = element.filter(|element| element.is_float() && !negative)?;
    let hex = text.strip_prefix("0x")?;
    let bits = u64::from_str_radix(hex, 16).ok()?;
    let fits = element.bits() == 64 || bits >> element.bits() == 0;
    fits.then(|| float_from_bits(bits, element))
}

/// The value of a token that spells an integer of a type (`i64` when none is given).
pub(super) fn int_value(text: &str, negative: bool, element: Option<Element>) -> Option<i64> {
    if let Some(hex) = text.strip_prefix("0x") {
        let value = u64::from_str_radix(hex, 16).ok()? as i64;
        return Some(if negative { value.wrapping_neg() } else { value });
    }
    let value: u64 = text.parse().ok()?;
    if negative {
        return (value <= 1 << 63).then(|| (value as i64).wrapping_neg());
    }
    let unsigned = element.is_some_and(|element| element.family() == Family::Unsigned);
    if unsigned { Some(value as i64) } else { i64::try_from(value).ok() }
}
