//! Test clauses: how to make random instances of a rule, and the check that both sides agree on them and that every guard is needed.
//!
//! ```text
//! test { N in 1..4; V in {0, 1}; ?x: tensor(f32, [N, 3]); ?c: tensor(f32, []) = V; ?a in {0, -1}; tolerance 1e-5 }
//! ```

use super::expression::{Environment, Expression, Given};
use super::lex::{RuleError, Token};
use super::parse::Parser;
use super::pattern::{AttributePattern, Match, Matched, NodePattern, Pattern, Rule, search};
use super::value::Value;
use crate::egraph::analysis::{Facts, Graph};
use crate::egraph::cost::MachineCost;
use crate::egraph::plan;
use crate::egraph::slice;
use crate::machine::Machine;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::builtin;
use tilewright_ir::evaluate;
use tilewright_ir::location::Location;
use tilewright_ir::module::{BlockId, Module, ValueId};
use tilewright_ir::op_def::AttributeRule;
use tilewright_ir::tensor::Tensor;
use tilewright_ir::types::{TensorType, Type};

/// One statement of a test clause.
#[derive(Clone, Debug)]
pub enum Statement {
    /// `NAME in {..}` or `NAME = ..`: a value for a name.
    Name(String, Vec<Expression>),
    /// `?v in {..}` or `?v = ..`: a value for an attribute or type variable.
    Variable(usize, Vec<Expression>),
    /// `?v: TYPE`, a random tensor.
    Tensor(Box<Operand>),
    /// `?v: none`, a left-out operand.
    Absent(usize),
}

/// A random tensor of a test clause.
#[derive(Clone, Debug)]
pub struct Operand {
    /// The variable.
    pub variable: usize,
    /// Its type.
    pub ty: Expression,
    /// `const TYPE`: a constant.
    pub constant: bool,
    /// `= number`: a constant of this number, or of these numbers in a list.
    pub number: Option<Expression>,
    /// `between LOW, HIGH`: the range of values.
    pub range: Option<(Expression, Expression)>,
}

/// How to make random instances of a rule.
#[derive(Clone, Debug, Default)]
pub struct TestClause {
    /// Statements in order.
    pub statements: Vec<Statement>,
    /// Largest difference allowed, relative to `1 + |expected|`. 1e-4 unless said.
    pub tolerance: Option<f64>,
}

impl Parser<'_> {
    /// Reads a test clause, behind the word `test`.
    pub(super) fn test_clause(&mut self) -> Result<TestClause, RuleError> {
        let mut clause = TestClause::default();
        self.expect("{")?;
        while !self.eat("}") {
            if self.eat_word("tolerance") {
                let value =
                    self.expression(0)?.evaluate(&Given::default()).and_then(|value| value.as_float());
                clause.tolerance = Some(value.map_err(|what| self.error(what))?);
            } else {
                clause.statements.push(self.statement()?);
            }
            if !self.eat(";") {
                self.expect("}")?;
                break;
            }
        }
        Ok(clause)
    }

    fn statement(&mut self) -> Result<Statement, RuleError> {
        if matches!(self.peek(), Token::Word(_)) {
            let name = self.word("a name")?;
            return Ok(Statement::Name(name, self.options()?));
        }
        let variable = self.bound_variable()?;
        if !self.eat(":") {
            return Ok(Statement::Variable(variable, self.options()?));
        }
        if self.eat_word("none") {
            return Ok(Statement::Absent(variable));
        }
        let constant = self.eat_word("const");
        let ty = self.expression(0)?;
        let number = if self.eat("=") { Some(self.expression(0)?) } else { None };
        let range = if self.eat_word("between") {
            let low = self.expression(0)?;
            self.expect(",")?;
            Some((low, self.expression(0)?))
        } else {
            None
        };
        Ok(Statement::Tensor(Box::new(Operand { variable, ty, constant, number, range })))
    }

    fn options(&mut self) -> Result<Vec<Expression>, RuleError> {
        if self.eat("=") {
            return Ok(vec![self.expression(0)?]);
        }
        if !self.eat_word("in") {
            return Err(self.error("expected 'in {..}', 'in LOW..HIGH' or '= value'"));
        }
        let mut options = Vec::new();
        if self.eat("{") {
            while !self.eat("}") {
                options.push(self.expression(0)?);
                if !self.eat(",") {
                    self.expect("}")?;
                    break;
                }
            }
            return Ok(options);
        }
        let (Token::Int(low), Token::Mark("..")) = (self.peek().clone(), self.peek_second().clone()) else {
            return Err(self.error("expected '{..}' or a range such as 1..4"));
        };
        self.expression(6)?;
        self.expect("..")?;
        let Token::Int(high) = self.peek().clone() else { return Err(self.error("expected a number")) };
        self.expression(6)?;
        Ok((low..=high).map(|value| Expression::Literal(Value::int(value))).collect())
    }
}

/// What a check of a rule found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Instances on which the rule applied and both sides agreed.
    pub agreed: usize,
    /// Instances tried.
    pub tried: usize,
    /// Faults, at most a few.
    pub faults: Vec<String>,
    /// Guards whose removal nothing noticed.
    pub unneeded_guards: Vec<String>,
}

/// A small generator of our own, so that instances are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64, S. Vigna, public domain.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One instance: the left side as a function, its inputs, and where its variables are.
struct Instance {
    module: Module,
    inputs: Vec<Tensor>,
}

/// What happened to one instance.
enum Outcome {
    NoMatch,
    Refused,
    Differs(String),
    Agrees,
}

/// Runs a rule on random instances until `wanted` agree, and its guards by removal.
pub fn check_rule(rule: &Rule, wanted: usize, seed: u64) -> Checked {
    let mut random = Random(seed);
    let mut checked = Checked::default();
    let mut noticed: Vec<bool> = rule.guards.iter().map(|guard| guard.is_preference).collect();
    let limit = wanted * 60 + 500;
    let mut why_not = String::new();
    while checked.tried < limit
        && checked.faults.len() < 3
        && (checked.agreed < wanted || noticed.iter().any(|found| !found))
    {
        checked.tried += 1;
        let instance = match instance(rule, &mut random) {
            Ok(instance) => instance,
            Err(what) => {
                why_not = what;
                continue;
            }
        };
        let (mut graph, root, found) = match matched(rule, &instance) {
            Some(found) => found,
            None => {
                why_not = "the left side does not match its own instance".into();
                continue;
            }
        };
        // Preferences play no part in what is true.
        let failing: Vec<usize> = {
            let environment = Matched { graph: &graph, found: &found };
            let fails = |at: &usize| {
                !rule.guards[*at].is_preference && !rule.guards[*at].condition.holds(&environment)
            };
            (0..rule.guards.len()).filter(fails).collect()
        };
        let removal = match failing.as_slice() {
            [] => None,
            [one] if !noticed[*one] => Some(*one),
            _ => continue,
        };
        let outcome = outcome(rule, &mut graph, root, &found, &instance);
        match (removal, outcome) {
            (None, Outcome::Agrees) => checked.agreed += 1,
            (None, Outcome::Differs(what)) => checked.faults.push(what),
            (None, Outcome::Refused | Outcome::NoMatch) => why_not = "the right side was refused".into(),
            (Some(guard), Outcome::Refused | Outcome::Differs(_)) => noticed[guard] = true,
            (Some(_), _) => {}
        }
    }
    if checked.agreed < wanted && checked.faults.is_empty() {
        checked.faults.push(format!("only {} of {wanted} instances applied: {why_not}", checked.agreed));
    }
    for (guard, noticed) in rule.guards.iter().zip(noticed) {
        if !noticed && !guard.is_preference {
            checked.unneeded_guards.push(guard.text.clone());
        }
    }
    checked
}

fn pick(options: &[Expression], random: &mut Random, given: &Given) -> Result<Value, String> {
    let chosen = options.get(random.below(options.len())).ok_or("no option to pick from")?;
    chosen.evaluate(given as &dyn Environment)
}

fn instance(rule: &Rule, random: &mut Random) -> Result<Instance, String> {
    let mut given = Given::default();
    let mut operands: Vec<(usize, Option<(Tensor, bool)>)> = Vec::new();
    for statement in &rule.test.statements {
        match statement {
            Statement::Name(name, options) => {
                let value = pick(options, random, &given)?;
                given.names.insert(name.clone(), value);
            }
            Statement::Variable(index, options) => {
                let value = pick(options, random, &given)?;
                given.variables.insert(*index, value);
            }
            Statement::Absent(index) => operands.push((*index, None)),
            Statement::Tensor(operand) => {
                let (tensor, constant) = random_tensor(operand, random, &given)?;
                given.variables.insert(operand.variable, Value::Type(tensor.ty().into()));
                operands.push((operand.variable, Some((tensor, constant))));
            }
        }
    }
    build(rule, &given, operands, random)
}

fn random_tensor(operand: &Operand, random: &mut Random, given: &Given) -> Result<(Tensor, bool), String> {
    let ty: TensorType = operand.ty.evaluate(given)?.as_tensor()?.clone();
    let shape = ty.known_shape().ok_or("a test instance has known dimensions")?;
    if shape.iter().any(|dim| *dim < 0) {
        return Err("a dimension is negative".into());
    }
    let count = shape.iter().product::<i64>() as usize;
    let bounds = match &operand.range {
        Some((low, high)) => (low.evaluate(given)?.as_float()?, high.evaluate(given)?.as_float()?),
        None => (-2.0, 2.0),
    };
    let numbers: Vec<f64> = match &operand.number {
        Some(number) => match number.evaluate(given)? {
            Value::List(items) => items.iter().map(Value::as_float).collect::<Result<_, _>>()?,
            one => vec![one.as_float()?; count],
        },
        None if ty.element.is_float() => {
            (0..count).map(|_| bounds.0 + random.unit() * (bounds.1 - bounds.0)).collect()
        }
        None => {
            let (low, high) = ty.element.integer_range().unwrap_or((-8, 8));
            let (low, high) = match operand.range {
                Some(_) => (bounds.0 as i64, bounds.1 as i64),
                None => (low.max(-8), high.min(8)),
            };
            (0..count).map(|_| (low + random.below((high - low + 1).max(1) as usize) as i64) as f64).collect()
        }
    };
    if numbers.len() != count {
        return Err("a constant's numbers do not fill its shape".into());
    }
    let shape: Vec<usize> = shape.iter().map(|dim| *dim as usize).collect();
    Ok((Tensor::from_floats(ty.element, &shape, numbers), operand.constant || operand.number.is_some()))
}

/// Builds the left side as a function whose arguments are the operands that are no constants.
fn build(
    rule: &Rule,
    given: &Given,
    operands: Vec<(usize, Option<(Tensor, bool)>)>,
    random: &mut Random,
) -> Result<Instance, String> {
    let mut module = Module::new();
    let body = module.body();
    let attributes = Attributes::from([("sym_name".into(), "main".into())]);
    let function = module.create_op(&builtin::FUNCTION, &[], attributes, &[], Location::Unknown);
    let region = module.add_region(function);
    let block = module.add_block(region, &[]);
    module.append(body, function);
    let mut values: Vec<Option<ValueId>> = vec![None; rule.variables.len()];
    let mut inputs = Vec::new();
    for (variable, operand) in operands {
        let Some((tensor, constant)) = operand else { continue };
        values[variable] = Some(if constant {
            Builder::at_end(&mut module, block).constant(&tensor)
        } else {
            let value = module.add_argument(block, tensor.ty().into());
            inputs.push(tensor);
            value
        });
    }
    let root = build_node(&mut module, block, &rule.left, given, &values, random)?;
    Builder::at_end(&mut module, block).op(&builtin::RETURN).operand(root).build()?;
    let types =
        |values: &[ValueId]| values.iter().map(|value| module.ty(*value).clone()).collect::<Vec<Type>>();
    let ty = Type::Function(types(&module.block(block).arguments), types(&[root]));
    module.op_mut(function).attributes.insert("function_type".into(), ty.into());
    Ok(Instance { module, inputs })
}

fn build_node(
    module: &mut Module,
    block: BlockId,
    node: &NodePattern,
    given: &Given,
    values: &[Option<ValueId>],
    random: &mut Random,
) -> Result<ValueId, String> {
    let mut operands = Vec::new();
    for child in &node.children {
        operands.push(match child {
            Pattern::Absent => None,
            Pattern::Variable(index) => values[*index],
            Pattern::Node(child) => Some(build_node(module, block, child, given, values, random)?),
        });
    }
    if node.either_order && random.below(2) == 1 {
        operands.reverse();
    }
    let mut attributes = Attributes::new();
    for (name, pattern) in &node.attributes {
        let rule = node
            .def
            .attributes
            .iter()
            .find(|row| row.name == *name)
            .map_or(AttributeRule::Any, |row| row.rule);
        let value = match pattern {
            None => Value::Absent,
            Some(AttributePattern::Equal(value)) => value.clone(),
            Some(AttributePattern::Variable(index)) => given.variable(*index)?,
            Some(AttributePattern::Any) => any_value(rule, random),
        };
        if let Some(attribute) = value.to_attribute(rule)? {
            attributes.insert((*name).into(), attribute);
        }
    }
    if node.def.needs_segments() {
        let sizes: Vec<i32> = operands.iter().map(|operand| i32::from(operand.is_some())).collect();
        attributes.insert("operandSegmentSizes".into(), Attribute::Segments(sizes.into()));
    }
    let given_operands: Vec<ValueId> = operands.into_iter().flatten().collect();
    let mut builder = Builder::at_end(module, block);
    let mut op = builder.op(node.def).operands(&given_operands).attributes(attributes);
    if let Some(index) = node.ty {
        op = op.result(given.variable(index)?.as_type()?);
    }
    let op = op.build()?;
    module.op(op).results.get(node.project.unwrap_or(0)).copied().ok_or_else(|| "no such result".into())
}

fn any_value(rule: AttributeRule, random: &mut Random) -> Value {
    match rule {
        AttributeRule::OneOf(words) => Value::Str(words[random.below(words.len())].into()),
        AttributeRule::Bool => Value::Bool(random.below(2) == 1),
        AttributeRule::Float => Value::Float(random.unit()),
        _ => Value::int(0),
    }
}

/// The instance as an e-graph, with the match at its root.
fn matched(rule: &Rule, instance: &Instance) -> Option<(Graph, egg::Id, Match)> {
    let function = instance.module.function("main")?;
    let block = instance.module.entry(function, 0);
    let ops: Vec<_> = instance
        .module
        .block(block)
        .ops
        .iter()
        .copied()
        .filter(|op| slice::is_sliceable(&instance.module, *op))
        .collect();
    let (slice, _) = slice::take(&instance.module, &ops);
    let constant_inputs = slice.inputs.iter().map(|input| input.constant).collect();
    let mut graph = Graph::new(Facts { constant_inputs, ..Facts::default() });
    let (roots, _) = plan::build(&mut graph, &slice);
    graph.rebuild();
    let root = graph.find(*roots.last()?);
    let found = search(&graph, &rule.left, rule.variables.len(), 1000);
    let at_root = found.into_iter().find(|(class, _)| *class == root)?.1;
    Some((graph, root, at_root))
}

fn outcome(rule: &Rule, graph: &mut Graph, root: egg::Id, found: &Match, instance: &Instance) -> Outcome {
    let Ok(made) = crate::egraph::saturate::right_side(graph, rule, root, found) else {
        return Outcome::Refused;
    };
    if graph[made].data.types != graph[root].data.types {
        return Outcome::Refused;
    }
    let mut module = instance.module.clone();
    let Some(function) = module.function("main") else { return Outcome::NoMatch };
    let block = module.entry(function, 0);
    let ops: Vec<_> =
        module.block(block).ops.iter().copied().filter(|op| slice::is_sliceable(&module, *op)).collect();
    let (slice, binding) = slice::take(&module, &ops);
    let plan = plan::only(graph, &slice, &[made], &MachineCost(Machine::reference()));
    let (made, outputs) = plan::instantiate(&mut module, &plan, &binding);
    let Some(last) = module.terminator(block) else { return Outcome::NoMatch };
    for op in made {
        let at = module.block(block).ops.len() - 1;
        module.insert(block, at, op);
    }
    module.set_operand(last, 0, outputs[0]);
    let expected = match evaluate::run(&instance.module, "main", &instance.inputs) {
        Ok(expected) => expected,
        Err(_) => return Outcome::NoMatch,
    };
    match evaluate::run(&module, "main", &instance.inputs) {
        Err(error) => Outcome::Differs(format!("the right side fails: {error}")),
        Ok(actual) => compare(&expected[0], &actual[0], rule.test.tolerance.unwrap_or(1e-4)),
    }
}

fn compare(expected: &Tensor, actual: &Tensor, tolerance: f64) -> Outcome {
    if expected.shape != actual.shape || expected.element != actual.element {
        return Outcome::Differs(format!("shapes {:?} and {:?}", expected.shape, actual.shape));
    }
    for index in 0..expected.len() {
        let (a, b) = (expected.float(index), actual.float(index));
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * (1.0 + a.abs());
        if !same {
            return Outcome::Differs(format!("element {index}: {a} on the left, {b} on the right"));
        }
    }
    Outcome::Agrees
}
