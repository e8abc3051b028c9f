//! Types in text.
//!
//! ```text
//! tensor<1x?xf32, ["seq"]>   memref<4x?xi4, {dims = ["n"], element = !core.nf4, space = "sram"}>   (i1) -> ()   !tile.token<3>
//! ```

use super::alias::Alias;
use super::cursor::{Cursor, Parsed};
use super::op::Parser;
use crate::dim::Dim;
use crate::element::Element;
use crate::lex::Kind;
use crate::types::{Shape, TensorType, Type, ViewType};

impl<'a> Parser<'a> {
    /// Any type.
    pub(super) fn ty(&mut self) -> Parsed<Type> {
        self.cursor.enter()?;
        let ty = self.ty_inside()?;
        self.cursor.leave();
        Ok(ty)
    }

    fn ty_inside(&mut self) -> Parsed<Type> {
        let start = self.cursor.token.start;
        match self.cursor.token.kind {
            Kind::Punctuation(b'(') => self.function_type(),
            Kind::Bang => self.named_type(),
            Kind::Bare => {
                let word = self.cursor.token_text();
                match word {
                    "tensor" => self.tensor_type().map(Type::Tensor),
                    "memref" => self.view_type().map(Type::View),
                    "index" => {
                        self.cursor.take();
                        Ok(Type::Index)
                    }
                    _ => match Element::from_text(word) {
                        Some(element) => {
                            self.cursor.take();
                            Ok(Type::Scalar(element))
                        }
                        None => Err(Cursor::fault(start, format!("expected a type, found '{word}'"))),
                    },
                }
            }
            _ => Err(self.cursor.unexpected("a type")),
        }
    }

    /// `(a, b)`.
    fn type_list(&mut self) -> Parsed<Vec<Type>> {
        self.cursor.expect(b'(')?;
        let mut types = Vec::new();
        if !self.cursor.eat(b')') {
            loop {
                types.push(self.ty()?);
                if !self.cursor.eat(b',') {
                    break;
                }
            }
            self.cursor.expect(b')')?;
        }
        Ok(types)
    }

    /// `(a, b) -> c` or `(a, b) -> (c, d)`.
    pub(super) fn function_types(&mut self) -> Parsed<(Vec<Type>, Vec<Type>)> {
        let inputs = self.type_list()?;
        self.cursor.expect_kind(Kind::Arrow, "'->'")?;
        let results = if self.cursor.at(b'(') { self.type_list()? } else { vec![self.ty()?] };
        Ok((inputs, results))
    }

    fn function_type(&mut self) -> Parsed<Type> {
        let (inputs, results) = self.function_types()?;
        Ok(Type::Function(inputs, results))
    }

    /// `!alias`, `!dialect.name`, `!dialect.name<..>`, `!dialect<..>`.
    fn named_type(&mut self) -> Parsed<Type> {
        let token = self.cursor.token;
        let name = &self.cursor.token_text()[1..];
        let body = self.cursor.text.as_bytes().get(token.end) == Some(&b'<');
        if !body && !name.contains('.') {
            return match self.alias(b'!', name)? {
                Alias::Type(ty) => Ok(ty),
                _ => Err(Cursor::fault(token.start, format!("'!{name}' is not a type"))),
            };
        }
        if !body {
            let text = self.cursor.take();
            return Ok(Element::from_text(text).map_or_else(|| Type::Opaque(name.into()), Type::Scalar));
        }
        let end = self.balanced_end(token.end)?;
        let text = self.cursor.text[token.start + 1..end].to_string();
        self.cursor.jump(end);
        Ok(Type::Opaque(text))
    }

    /// The offset after the `>` that closes the `<` at `start`.
    fn balanced_end(&self, start: usize) -> Parsed<usize> {
        let bytes = self.cursor.text.as_bytes();
        let mut open = Vec::new();
        let mut at = start;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'<' | b'(' | b'[' | b'{' => open.push(*byte),
                b'>' if bytes[at - 1] == b'-' => {}
                b'>' | b')' | b']' | b'}' => {
                    let opener = match byte {
                        b')' => b'(',
                        other => other - 2,
                    };
                    if open.pop() != Some(opener) {
                        break;
                    }
                    if open.is_empty() {
                        return Ok(at + 1);
                    }
                }
                b'"' => {
                    at += 1;
                    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\n')) {
                        at += if bytes[at] == b'\\' { 2 } else { 1 };
                    }
                }
                b'\n' => break,
                _ => {}
            }
            at += 1;
        }
        Err(Cursor::fault(start, "the '<' of this type is not closed on its line"))
    }

    /// The sizes before an element type (`None` for `?`), and the element type.
    fn sizes_and_element(&mut self) -> Parsed<(Vec<Option<i64>>, Element)> {
        let bytes = self.cursor.text.as_bytes();
        let mut at = self.cursor.token.start;
        let mut sizes = Vec::new();
        loop {
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let width = if digits > 0 { digits } else { usize::from(bytes.get(at) == Some(&b'?')) };
            if width == 0 {
                break;
            }
            if bytes.get(at + width) != Some(&b'x') {
                return Err(Cursor::fault(at, "expected 'x' after a dimension"));
            }
            let text = &self.cursor.text[at..at + width];
            let too_large =
                || Cursor::fault(at, format!("dimension {} is too large", super::cursor::shorten(text)));
            sizes.push(if digits > 0 { Some(text.parse().map_err(|_| too_large())?) } else { None });
            at += width + 1;
        }
        self.cursor.jump(at);
        match self.ty()? {
            Type::Scalar(element) => Ok((sizes, element)),
            other => Err(Cursor::fault(at, format!("expected an element type, found {other}"))),
        }
    }

    fn shape(&mut self, at: usize, sizes: &[Option<i64>], mut dims: Vec<Dim>) -> Parsed<Shape> {
        let open = sizes.iter().filter(|size| size.is_none()).count();
        if open != dims.len() {
            let what =
                format!("expected an expression for each '?': {open} '?' and {} expressions", dims.len());
            let mut fault = Cursor::fault(at, what);
            fault.help = "write the expressions as tensor<?x4xf32, [\"seq\"]>".into();
            return Err(fault);
        }
        if let Some(known) = dims.iter().find(|dim| dim.known().is_some_and(|value| value < 0)) {
            return Err(Cursor::fault(at, format!("a dimension is at least 0, found {known}")));
        }
        dims.reverse();
        let dim = |size: &Option<i64>| size.map_or_else(|| dims.pop().unwrap_or(Dim::Known(0)), Dim::Known);
        Ok(sizes.iter().map(dim).collect())
    }

    /// `["a", "b + 1"]`.
    fn dims(&mut self) -> Parsed<Vec<Dim>> {
        self.cursor.expect(b'[')?;
        let mut dims = Vec::new();
        if self.cursor.eat(b']') {
            return Ok(dims);
        }
        loop {
            let at = self.cursor.token.start;
            let raw = self.cursor.token_text();
            if let Some(known) = self.known_dims.get(raw) {
                dims.push(known.clone());
                self.cursor.take();
            } else {
                let text = self.cursor.string("a dimension expression in quotes")?;
                let dim: Dim = text.parse().map_err(|error| Cursor::fault(at, format!("{error}")))?;
                self.known_dims.insert(raw, dim.clone());
                dims.push(dim);
            }
            if !self.cursor.eat(b',') {
                break;
            }
        }
        self.cursor.expect(b']')?;
        Ok(dims)
    }

    /// `tensor<..>`.
    pub(super) fn tensor_type(&mut self) -> Parsed<TensorType> {
        let start = self.cursor.token.start;
        if !self.cursor.at_word("tensor") {
            return Err(self.cursor.unexpected("a tensor type"));
        }
        self.cursor.take();
        self.cursor.expect(b'<')?;
        let (sizes, element) = self.sizes_and_element()?;
        let dims = if self.cursor.eat(b',') { self.dims()? } else { Vec::new() };
        self.cursor.expect(b'>')?;
        Ok(TensorType { element, shape: self.shape(start, &sizes, dims)? })
    }

    /// `memref<..>`.
    fn view_type(&mut self) -> Parsed<ViewType> {
        let start = self.cursor.token.start;
        self.cursor.take();
        self.cursor.expect(b'<')?;
        let (sizes, mut element) = self.sizes_and_element()?;
        let mut space = String::new();
        let mut dims = Vec::new();
        if self.cursor.eat(b',') {
            if self.cursor.token.kind == Kind::Str {
                space = self.cursor.string("a memory space")?;
            } else {
                self.view_facts(&mut element, &mut space, &mut dims)?;
            }
        }
        self.cursor.expect(b'>')?;
        Ok(ViewType { element, shape: self.shape(start, &sizes, dims)?, space })
    }

    /// `{dims = [..], element = !core.nf4, space = ".."}`.
    fn view_facts(&mut self, element: &mut Element, space: &mut String, dims: &mut Vec<Dim>) -> Parsed<()> {
        self.cursor.expect(b'{')?;
        loop {
            let at = self.cursor.token.start;
            let key = self.cursor.expect_kind(Kind::Bare, "'dims', 'element' or 'space'")?;
            self.cursor.expect(b'=')?;
            match key {
                "dims" => *dims = self.dims()?,
                "space" => *space = self.cursor.string("a memory space in quotes")?,
                "element" => match self.ty()? {
                    Type::Scalar(own) if own.bits() == element.bits() => *element = own,
                    other => {
                        return Err(Cursor::fault(
                            at,
                            format!("expected an element type as wide as {element}, found {other}"),
                        ));
                    }
                },
                _ => {
                    return Err(Cursor::fault(
                        at,
                        format!("expected 'dims', 'element' or 'space', found '{key}'"),
                    ));
                }
            }
            if !self.cursor.eat(b',') {
                return self.cursor.expect(b'}');
            }
        }
    }
}
