//! Reads rule files: patterns and right sides against the op registry, guards, test clauses. Every fault has a place.
//!
//! ```text
//! rule add_zero {
//!   (core.add ?x ?c) => ?x
//!   where scalar(?c) == 0, type(?c) == type(?x)
//!   test { ?x: tensor(f32, [2, 3]); V in {0, 1}; ?c: tensor(f32, [2, 3]) = V }
//! }
//! ```

use super::expression::{Expression, OPERATORS};
use super::functions;
use super::lex::{Placed, RuleError, Token, nearest, tokens};
use super::pattern::{AttributePattern, Guard, NodePattern, NodeTemplate, Pattern, Rule, Template};
use super::sample::TestClause;
use super::value::Value;
use crate::egraph::analysis::is_slotted;
use tilewright_ir::element::Element;
use tilewright_ir::op_def::{AttributeDef, OpDef};
use tilewright_ir::registry::Registry;

/// What a variable stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Value,
    Attribute,
    Type,
}

pub(super) struct Parser<'a> {
    file: &'a str,
    text: &'a str,
    registry: &'a Registry,
    tokens: Vec<Placed>,
    at: usize,
    variables: Vec<(String, Use)>,
    depth: usize,
}

/// Reads all rules of a file.
///
/// # Errors
/// The first fault.
pub fn parse(file: &str, text: &str, registry: &Registry) -> Result<Vec<Rule>, RuleError> {
    let tokens = tokens(file, text)?;
    let mut parser = Parser { file, text, registry, tokens, at: 0, variables: Vec::new(), depth: 0 };
    let mut rules: Vec<Rule> = Vec::new();
    while *parser.peek() != Token::End {
        let place = parser.at;
        let rule = parser.rule()?;
        if let Some(other) = rules.iter().find(|other| other.name == rule.name) {
            let what = format!("rule '{}' is defined already at {}", rule.name, other.place);
            return Err(parser.error_at(place, what));
        }
        rules.push(rule);
    }
    Ok(rules)
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    pub(super) fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].token.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn error_at(&self, at: usize, what: impl Into<String>) -> RuleError {
        let placed = &self.tokens[at];
        RuleError { file: self.file.into(), line: placed.line, column: placed.column, what: what.into() }
    }

    pub(super) fn error(&self, what: impl Into<String>) -> RuleError {
        self.error_at(self.at, what)
    }

    pub(super) fn eat(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Token::Mark(found) if *found == mark);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect(&mut self, mark: &str) -> Result<(), RuleError> {
        if self.eat(mark) { Ok(()) } else { Err(self.error(format!("expected '{mark}'"))) }
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(found) if found == word);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn word(&mut self, what: &str) -> Result<String, RuleError> {
        match self.peek().clone() {
            Token::Word(word) => {
                self.next();
                Ok(word)
            }
            _ => Err(self.error(format!("expected {what}"))),
        }
    }

    fn rule(&mut self) -> Result<Rule, RuleError> {
        self.variables.clear();
        if !self.eat_word("rule") {
            return Err(self.error("expected 'rule'"));
        }
        let placed = &self.tokens[self.at];
        let place = format!("{}:{}", self.file, placed.line);
        let name = self.word("the rule's name")?;
        let (mut approximate, mut expanding) = (false, false);
        loop {
            match self.peek() {
                Token::Word(word) if word == "approximate" => approximate = true,
                Token::Word(word) if word == "expanding" => expanding = true,
                _ => break,
            }
            self.next();
        }
        self.expect("{")?;
        let start = self.at;
        let Pattern::Node(left) = self.pattern()? else {
            return Err(self.error_at(start, "a left side must be an op, such as (core.add ?x ?y)"));
        };
        self.expect("=>")?;
        let right_at = self.at;
        let right = self.template()?;
        let mut guards = Vec::new();
        if self.eat_word("where") {
            guards = self.guards()?;
        }
        let test = if self.eat_word("test") { self.test_clause()? } else { TestClause::default() };
        self.expect("}")?;
        let rule = Rule {
            name: name.into(),
            approximate,
            expanding,
            left: *left,
            right,
            guards,
            variables: self.variables.iter().map(|row| row.0.clone()).collect(),
            test,
            place,
        };
        super::check::check(&rule).map_err(|what| self.error_at(right_at, what))?;
        Ok(rule)
    }

    fn guards(&mut self) -> Result<Vec<Guard>, RuleError> {
        let mut guards = Vec::new();
        loop {
            let is_preference = self.eat_word("prefer");
            let start = self.tokens[self.at].at;
            let condition = self.expression(0)?;
            let end = self.tokens[self.at].at;
            let text = self.text[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
            guards.push(Guard { condition, text: text.trim_end_matches(',').into(), is_preference });
            if !self.eat(",") {
                return Ok(guards);
            }
        }
    }

    /// The number of a variable. Left sides bind new ones (`binds`); elsewhere it must be known.
    fn variable(&mut self, name: &str, used: Use, binds: bool) -> Result<usize, RuleError> {
        let known = self.variables.iter().position(|row| row.0 == name);
        match known {
            Some(index) if self.variables[index].1 == used => Ok(index),
            Some(index) => {
                let was = self.variables[index].1;
                Err(self.error(
                    format!("'?{name}' stands for {was:?} and cannot stand for {used:?}").to_lowercase(),
                ))
            }
            None if binds => {
                self.variables.push((name.into(), used));
                Ok(self.variables.len() - 1)
            }
            None => {
                let names = self.variables.iter().map(|row| row.0.as_str());
                let hint = nearest(name, names);
                Err(self.error(format!("'?{name}' is not bound by the left side{hint}")))
            }
        }
    }

    fn op(&mut self) -> Result<(&'static OpDef, Option<usize>), RuleError> {
        let at = self.at;
        let name = self.word("an op, such as core.add")?;
        if name == "project" {
            let Token::Int(index) = self.next() else {
                return Err(self.error_at(at, "expected (project NUMBER core.op ..)"));
            };
            return Ok((self.op()?.0, Some(index.max(0) as usize)));
        }
        match self.registry.find(&name) {
            Some(def) => Ok((def, None)),
            None => {
                let hint = self
                    .registry
                    .nearest(&name)
                    .map_or(String::new(), |near| format!("; did you mean '{near}'?"));
                Err(self.error_at(at, format!("no op is called '{name}'{hint}")))
            }
        }
    }

    fn check_arity(&self, at: usize, def: &OpDef, given: usize) -> Result<usize, RuleError> {
        if !is_slotted(def) {
            return Ok(given);
        }
        let slots = def.operands.len();
        let required =
            def.operands.iter().rposition(|operand| operand.arity == tilewright_ir::op_def::Arity::One);
        let least = required.map_or(0, |at| at + 1);
        if given < least || given > slots {
            let names: Vec<&str> = def.operands.iter().map(|operand| operand.name).collect();
            let what =
                format!("'{}' takes {} operands ({}), found {given}", def.name, slots, names.join(", "));
            return Err(self.error_at(at, what));
        }
        Ok(slots)
    }

    fn attribute_def(&self, def: &'static OpDef, name: &str) -> Result<&'static AttributeDef, RuleError> {
        def.attributes.iter().find(|attribute| attribute.name == name).ok_or_else(|| {
            let hint = nearest(name, def.attributes.iter().map(|attribute| attribute.name));
            self.error(format!("'{}' has no attribute '{name}'{hint}", def.name))
        })
    }

    fn enter(&mut self) -> Result<(), RuleError> {
        self.depth += 1;
        if self.depth > 100 { Err(self.error("nested too deep")) } else { Ok(()) }
    }

    fn pattern(&mut self) -> Result<Pattern, RuleError> {
        if let Token::Variable(name) = self.peek().clone() {
            let index = self.variable(&name, Use::Value, true)?;
            self.next();
            return Ok(Pattern::Variable(index));
        }
        if self.eat_word("none") {
            return Ok(Pattern::Absent);
        }
        self.enter()?;
        let start = self.at;
        self.expect("(")?;
        let (def, project) = self.op()?;
        let either_order = self.eat("~");
        let mut children = Vec::new();
        while matches!(self.peek(), Token::Variable(_) | Token::Mark("(")) || self.is_none() {
            children.push(self.pattern()?);
        }
        if either_order && !def.is(tilewright_ir::op_def::Traits::COMMUTATIVE) {
            return Err(
                self.error_at(start, format!("'{}' is not commutative: '~' does not apply", def.name))
            );
        }
        children.resize_with(self.check_arity(start, def, children.len())?, || Pattern::Absent);
        let attributes = self.attribute_patterns(def)?;
        let ty = if self.eat(":") {
            let Token::Variable(name) = self.peek().clone() else {
                return Err(self.error("a left side binds a type to a variable, such as ': ?t'"));
            };
            let index = self.variable(&name, Use::Type, true)?;
            self.next();
            Some(index)
        } else {
            None
        };
        self.expect(")")?;
        self.depth -= 1;
        Ok(Pattern::Node(Box::new(NodePattern { def, project, children, either_order, attributes, ty })))
    }

    fn is_none(&self) -> bool {
        matches!(self.peek(), Token::Word(word) if word == "none")
    }

    fn attribute_patterns(
        &mut self,
        def: &'static OpDef,
    ) -> Result<Vec<(&'static str, Option<AttributePattern>)>, RuleError> {
        let mut given = Vec::new();
        if self.eat("{") {
            while !self.eat("}") {
                let name = self.word("an attribute's name")?;
                let attribute = self.attribute_def(def, &name)?;
                self.expect("=")?;
                let pattern = match self.peek().clone() {
                    Token::Variable(name) => {
                        let index = self.variable(&name, Use::Attribute, true)?;
                        self.next();
                        AttributePattern::Variable(index)
                    }
                    Token::Word(word) if word == "_" => {
                        self.next();
                        AttributePattern::Any
                    }
                    _ => {
                        let at = self.at;
                        let value = self.expression(0)?.evaluate(&super::expression::Given::default());
                        AttributePattern::Equal(value.map_err(|what| self.error_at(at, what))?)
                    }
                };
                given.push((attribute.name, pattern));
                self.eat(",");
            }
        }
        let mut out = Vec::new();
        for attribute in def.attributes {
            let at = given.iter().position(|row| row.0 == attribute.name);
            if at.is_none() && attribute.required && !def.is(tilewright_ir::op_def::Traits::CONSTANT) {
                let name = attribute.name;
                return Err(self.error(format!(
                    "'{}' has attribute '{name}', which the rule does not mention; '{name}=_' takes any",
                    def.name
                )));
            }
            out.push((attribute.name, at.map(|at| given.remove(at).1)));
        }
        Ok(out)
    }

    fn template(&mut self) -> Result<Template, RuleError> {
        if let Token::Variable(name) = self.peek().clone() {
            let index = self.variable(&name, Use::Value, false)?;
            self.next();
            return Ok(Template::Variable(index));
        }
        if self.eat_word("none") {
            return Ok(Template::Absent);
        }
        self.enter()?;
        let start = self.at;
        self.expect("(")?;
        if self.eat_word("number") {
            let value = self.expression(0)?;
            self.expect(":")?;
            let ty = self.expression(0)?;
            self.expect(")")?;
            self.depth -= 1;
            return Ok(Template::Constant(Box::new((value, ty))));
        }
        let (def, project) = self.op()?;
        let mut children = Vec::new();
        while matches!(self.peek(), Token::Variable(_) | Token::Mark("(")) || self.is_none() {
            children.push(self.template()?);
        }
        children.resize_with(self.check_arity(start, def, children.len())?, || Template::Absent);
        let mut attributes = Vec::new();
        if self.eat("{") {
            while !self.eat("}") {
                let name = self.word("an attribute's name")?;
                let attribute = self.attribute_def(def, &name)?;
                self.expect("=")?;
                attributes.push((attribute.name, attribute.rule, self.expression(0)?));
                self.eat(",");
            }
        }
        let missing = def
            .attributes
            .iter()
            .find(|attribute| attribute.required && !attributes.iter().any(|row| row.0 == attribute.name));
        if let Some(attribute) = missing {
            return Err(self.error(format!("'{}' needs attribute '{}'", def.name, attribute.name)));
        }
        let ty = if self.eat(":") { Some(self.expression(0)?) } else { None };
        self.expect(")")?;
        self.depth -= 1;
        Ok(Template::Node(Box::new(NodeTemplate { def, project, children, attributes, ty })))
    }

    /// An expression whose operators bind at least as strongly as `least`.
    pub(super) fn expression(&mut self, least: u8) -> Result<Expression, RuleError> {
        self.enter()?;
        let mut left = self.primary()?;
        while let Token::Mark(mark) = self.peek() {
            let Some((_, operator, strength)) = OPERATORS.iter().find(|row| row.0 == *mark) else { break };
            if *strength < least.max(1) {
                break;
            }
            self.next();
            let right = self.expression(strength + 1)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn arguments(&mut self, close: &str) -> Result<Vec<Expression>, RuleError> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.expression(0)?);
            if !self.eat(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn primary(&mut self) -> Result<Expression, RuleError> {
        let at = self.at;
        match self.next() {
            Token::Int(value) => Ok(Expression::Literal(Value::int(value))),
            Token::Float(value) => Ok(Expression::Literal(Value::Float(value))),
            Token::Text(text) => Ok(Expression::Literal(Value::Str(text.as_str().into()))),
            Token::Variable(name) => {
                let Some(index) = self.variables.iter().position(|row| row.0 == name) else {
                    let hint = nearest(&name, self.variables.iter().map(|row| row.0.as_str()));
                    return Err(self.error_at(at, format!("'?{name}' is not bound by the left side{hint}")));
                };
                Ok(Expression::Variable(index))
            }
            Token::Mark("-") => Ok(Expression::Negate(Box::new(self.expression(6)?))),
            Token::Mark("!") => Ok(Expression::Not(Box::new(self.expression(6)?))),
            Token::Mark("[") => Ok(Expression::List(self.arguments("]")?)),
            Token::Mark("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Word(word) => self.named(at, &word),
            _ => Err(self.error_at(at, "expected an expression")),
        }
    }

    fn named(&mut self, at: usize, word: &str) -> Result<Expression, RuleError> {
        match word {
            "true" | "false" => return Ok(Expression::Literal(Value::Bool(word == "true"))),
            "none" => return Ok(Expression::Literal(Value::Absent)),
            "infinity" => return Ok(Expression::Literal(Value::Float(f64::INFINITY))),
            _ => {}
        }
        if self.eat("(") {
            let Some(function) = functions::find(word) else {
                let hint = nearest(word, functions::FUNCTIONS.iter().map(|function| function.name));
                return Err(self.error_at(at, format!("no function is called '{word}'{hint}")));
            };
            let arguments = self.arguments(")")?;
            if arguments.len() != function.arity {
                let (name, arity, found) = (function.name, function.arity, arguments.len());
                return Err(self.error_at(at, format!("'{name}' takes {arity} arguments, found {found}")));
            }
            return Ok(Expression::Call(function, arguments));
        }
        if let Some(element) = Element::from_text(word) {
            return Ok(Expression::Literal(Value::Element(element)));
        }
        Ok(Expression::Name(word.into()))
    }

    /// The number of a variable that the left side bound, for test clauses.
    pub(super) fn bound_variable(&mut self) -> Result<usize, RuleError> {
        let at = self.at;
        match self.next() {
            Token::Variable(name) => self.variables.iter().position(|row| row.0 == name).ok_or_else(|| {
                let hint = nearest(&name, self.variables.iter().map(|row| row.0.as_str()));
                self.error_at(at, format!("'?{name}' is not bound by the left side{hint}"))
            }),
            _ => Err(self.error_at(at, "expected a variable")),
        }
    }
}
