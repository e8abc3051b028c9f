//! Reads the `axes` text of an op definition, and applies it to one op: which axes it iterates over, how each dimension of each
//! operand and result follows them, which are reduced and which a tile must hold whole.
//!
//! Tiling, fusion, quantisation and cost read this and so need no table of ops. Knows no op by name.
//!
//! ```text
//! .. m k, .. k n -> .. m n; reduce k
//! .. k, k n, n, @1, @1 -> .. n; reduce k | transpose_weight: .. k, n k, n, @1, @1 -> .. n; reduce k
//! b h s d, b g t d, b g t e, b h s t, h -> b h s e; reduce d t; group g of h
//! n c s*, o i w*, o -> n o s*; reduce i w*; window s* w*; spread c of i
//! .. -> ..; whole {axis}
//! ```
//!
//! Terms stand for operands and results in order, words of a term for dimensions, aligned at the end (numpy). `..` is the leading
//! axes that all terms with it share; `s*` a run of axes. `@1` is a scale or zero point of operand 1 by the attributes `axis` and
//! `block`. `{axis}` names axes of `..` by an attribute. After `|` follows what holds when a truth attribute is set. `window s* w*`:
//! operands are read around `s` at distances `w`. `group g of h`: g is h divided by a whole number. `spread c of i`: c is i times a
//! whole number, and which of the runs of i is read follows from another axis (the groups of a convolution).

use crate::dim::Dim;
use crate::op_def::{AttributeRule, OpDef, Signature, normalize_axis};

/// One word of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// `..`: leading axes.
    Leading,
    /// One axis.
    Axis(String),
    /// `s*`: a run of axes.
    Run(String),
}

/// How an operand or result is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// By axes.
    Words(Vec<Word>),
    /// As a scale or zero point of that operand.
    Parameters(usize),
}

/// What a clause names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An axis or a run, by name.
    Named(String),
    /// Axes of `..` given by an attribute.
    Attribute(String),
}

/// One reading of an op.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The truth attribute under which it holds; empty for the first pattern.
    pub condition: String,
    /// One term per operand definition.
    pub operands: Vec<Term>,
    /// One term per result.
    pub results: Vec<Term>,
    /// Axes summed (or otherwise folded) away.
    pub reduce: Vec<Target>,
    /// Axes that a tile must hold whole.
    pub whole: Vec<Target>,
    /// Runs of a sliding window: the places first, then the kernel if it is an operand.
    pub window: Vec<String>,
    /// `(g, h)`: axis g is axis h divided by a whole number.
    pub groups: Vec<(String, String)>,
    /// `(c, i)`: axis c is axis i times a whole number.
    pub spreads: Vec<(String, String)>,
}

fn words(text: &str) -> Result<Term, String> {
    let text = text.trim();
    if let Some(number) = text.strip_prefix('@') {
        return number.parse().map(Term::Parameters).map_err(|_| format!("'{text}' names no operand"));
    }
    let word = |word: &str| match (word, word.strip_suffix('*')) {
        ("..", _) => Ok(Word::Leading),
        (_, Some(run)) if is_name(run) => Ok(Word::Run(run.into())),
        (name, None) if is_name(name) => Ok(Word::Axis(name.into())),
        _ => Err(format!("'{word}' is no axis")),
    };
    text.split_whitespace().map(word).collect::<Result<_, _>>().map(Term::Words)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn targets(names: &[&str]) -> Result<Vec<Target>, String> {
    let target = |name: &&str| match name.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(attribute) if is_name(attribute) => Ok(Target::Attribute(attribute.into())),
        None if is_name(name.trim_end_matches('*')) => Ok(Target::Named(name.trim_end_matches('*').into())),
        _ => Err(format!("'{name}' is no axis")),
    };
    names.iter().map(target).collect()
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let mut clauses = text.split(';');
    let terms = clauses.next().unwrap_or_default();
    let (operands, results) = terms.split_once("->").ok_or_else(|| format!("'{terms}' has no '->'"))?;
    let list = |text: &str| text.split(',').map(words).collect::<Result<Vec<_>, _>>();
    let mut found = Pattern { operands: list(operands)?, results: list(results)?, ..Pattern::default() };
    for clause in clauses {
        let parts: Vec<&str> = clause.split_whitespace().collect();
        match parts.as_slice() {
            ["reduce", names @ ..] => found.reduce = targets(names)?,
            ["whole", names @ ..] => found.whole = targets(names)?,
            ["window", names @ ..] if (1..=2).contains(&names.len()) => {
                found.window = names.iter().map(|name| name.trim_end_matches('*').to_string()).collect();
            }
            ["group", part, "of", whole] => found.groups.push((part.to_string(), whole.to_string())),
            ["spread", wide, "of", run] => found.spreads.push((wide.to_string(), run.to_string())),
            _ => return Err(format!("cannot read the clause '{}'", clause.trim())),
        }
    }
    Ok(found)
}

/// Reads an `axes` text; the first pattern holds when no condition of a later one does. None for an opaque op.
///
/// # Errors
/// The part that cannot be read.
pub fn parse(text: &str) -> Result<Vec<Pattern>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut patterns = Vec::new();
    for (at, part) in text.split('|').enumerate() {
        let (condition, rest) = match part.split_once(':') {
            Some((condition, rest)) if at > 0 => (condition.trim(), rest),
            None if at == 0 => ("", part),
            _ => return Err(format!("'{}': later patterns, and only they, have a condition", part.trim())),
        };
        patterns.push(Pattern { condition: condition.into(), ..pattern(rest)? });
    }
    Ok(patterns)
}

/// Checks the text of a definition: one term per operand and result, every name in use, attributes that exist.
///
/// # Errors
/// The first fault.
pub fn check(def: &OpDef) -> Result<(), String> {
    for pattern in parse(def.axes)? {
        let counts = (pattern.operands.len(), pattern.results.len());
        if counts != (def.operands.len(), def.results.len()) {
            return Err(format!(
                "{} operands and {} results, found {counts:?}",
                def.operands.len(),
                def.results.len()
            ));
        }
        let mut known = Vec::new();
        for term in &pattern.operands {
            match term {
                Term::Parameters(of) if *of >= def.operands.len() => {
                    return Err(format!("'@{of}' names no operand"));
                }
                Term::Parameters(_) => {}
                Term::Words(words) => known.extend(words.iter().cloned()),
            }
        }
        let knows = |name: &str| {
            known.iter().any(|word| matches!(word, Word::Axis(axis) | Word::Run(axis) if axis == name))
        };
        for term in &pattern.results {
            let Term::Words(words) = term else { return Err("a result cannot be parameters".into()) };
            if let Some(word) = words.iter().find(|word| !known.contains(word)) {
                return Err(format!("{word:?} is in a result but in no operand"));
            }
        }
        let attribute = |name: &str| def.attributes.iter().find(|attribute| attribute.name == name);
        for target in pattern.reduce.iter().chain(&pattern.whole) {
            match target {
                Target::Named(name) if !knows(name) => return Err(format!("no operand has axis '{name}'")),
                Target::Attribute(name) if attribute(name).is_none() => {
                    return Err(format!("no attribute '{name}'"));
                }
                _ => {}
            }
        }
        let pairs = pattern.groups.iter().chain(&pattern.spreads).flat_map(|(part, whole)| [part, whole]);
        for name in pattern.window.iter().chain(pairs) {
            if !knows(name) {
                return Err(format!("no operand has axis '{name}'"));
            }
        }
        let condition = pattern.condition.as_str();
        if !condition.is_empty() && attribute(condition).is_none_or(|found| found.rule != AttributeRule::Bool)
        {
            return Err(format!("'{condition}' is no truth attribute"));
        }
    }
    Ok(())
}

/// What an axis of an iteration means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisKind {
    /// Places along it are independent of each other.
    Parallel,
    /// Folded away: tiles along it are accumulated.
    Reduce,
    /// A tile holds all of it.
    Whole,
    /// Places of a sliding window: independent, but tiles of the operand overlap.
    Window,
}

/// One axis of an op's iteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Its name: as in the text, `..0`, `..1` for leading ones, `s0`, `s1` for those of a run.
    pub name: String,
    /// How many places.
    pub extent: Dim,
    /// What it means.
    pub kind: AxisKind,
}

/// How one dimension follows the axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimUse {
    /// Index = place on that axis.
    Axis(usize),
    /// Index = 0: repeated along that axis (a dimension of one, or a reduced one that is kept).
    Repeated(usize),
    /// Index = place on that axis divided by a whole number: members of a group share it.
    Group {
        /// The axis.
        axis: usize,
        /// Places per group; `None` when it cannot be told.
        members: Option<Dim>,
    },
    /// Index = place on that axis + its extent * a number that follows from another axis: the same when `runs` is 1.
    Spread {
        /// The axis.
        axis: usize,
        /// How many runs of the axis the dimension has; `None` when it cannot be told.
        runs: Option<Dim>,
    },
    /// Index = place on that axis divided by the block size.
    Block {
        /// The axis.
        axis: usize,
        /// Places per block, in elements.
        size: i64,
    },
    /// Index = place * stride + kernel place * dilation - padding, by the op's attributes.
    Window(usize),
}

/// An op seen as nested loops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iteration {
    /// The axes, in order of first appearance.
    pub axes: Vec<Axis>,
    /// For every operand given, how its dimensions follow the axes.
    pub operands: Vec<Vec<DimUse>>,
    /// The same for every result.
    pub results: Vec<Vec<DimUse>>,
}

impl Iteration {
    /// The axis of that name.
    pub fn axis(&self, name: &str) -> Option<usize> {
        self.axes.iter().position(|axis| axis.name == name)
    }
}

/// Applies the text to one op; `None` for an opaque op. Result types must be there.
///
/// # Errors
/// Extents of one axis that differ.
pub fn iteration(signature: &Signature) -> Result<Option<Iteration>, String> {
    let patterns = parse(signature.def.axes)?;
    let holds = |pattern: &&Pattern| signature.bool(&pattern.condition, pattern.condition.is_empty());
    let Some(pattern) = patterns.iter().rev().find(holds) else { return Ok(None) };
    Resolver::new(pattern, signature).run().map(Some)
}

struct Resolver<'a> {
    pattern: &'a Pattern,
    signature: &'a Signature<'a>,
    /// Number of axes that `..` stands for.
    leading: usize,
    axes: Vec<Axis>,
}

impl<'a> Resolver<'a> {
    fn new(pattern: &'a Pattern, signature: &'a Signature<'a>) -> Resolver<'a> {
        let leading = pattern.operands.iter().enumerate().filter_map(|(slot, term)| match term {
            Term::Words(words) if words.contains(&Word::Leading) => {
                Some(signature.tensor(slot)?.rank().saturating_sub(words.len() - 1))
            }
            _ => None,
        });
        let leading = leading.max().unwrap_or(0);
        Resolver { pattern, signature, leading, axes: Vec::new() }
    }

    fn run(mut self) -> Result<Iteration, String> {
        let mut operands = vec![Vec::new(); self.signature.operands.len()];
        for (slot, term) in self.pattern.operands.iter().enumerate() {
            let (Some(ty), Term::Words(words)) = (self.signature.tensor(slot), term) else { continue };
            let names = self.names(words);
            operands[self.signature.slot(slot).start] = self.follow(&names, &ty.shape, false)?;
        }
        let mut results = Vec::new();
        for (term, ty) in self.pattern.results.iter().zip(self.signature.results) {
            let (Some(ty), Term::Words(words)) = (ty.as_tensor(), term) else { continue };
            let mut names = self.names(words);
            if ty.rank() < names.len() {
                names.retain(|name| self.kind(name) != AxisKind::Reduce);
            }
            results.push(self.follow(&names, &ty.shape, true)?);
        }
        for (slot, term) in self.pattern.operands.iter().enumerate() {
            let (Some(ty), Term::Parameters(of)) = (self.signature.tensor(slot), term) else { continue };
            let uses = self.parameters(ty.rank(), &operands[self.signature.slot(*of).start])?;
            operands[self.signature.slot(slot).start] = uses;
        }
        Ok(Iteration { axes: self.axes, operands, results })
    }

    /// Axis names of a term's dimensions. A run is as long as the first operand has dimensions after the first two.
    fn names(&self, words: &[Word]) -> Vec<String> {
        let run = self.signature.tensor(0).map_or(0, |ty| ty.rank().saturating_sub(2));
        words
            .iter()
            .flat_map(|word| match word {
                Word::Leading => (0..self.leading).map(|at| format!("..{at}")).collect(),
                Word::Axis(name) => vec![name.clone()],
                Word::Run(name) => (0..run).map(|at| format!("{name}{at}")).collect(),
            })
            .collect()
    }

    fn kind(&self, name: &str) -> AxisKind {
        let base = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let named = |target: &Target| match target {
            Target::Named(target) => target == name || target == base,
            Target::Attribute(attribute) => {
                let one = self.signature.attribute(attribute).and_then(|value| value.as_int());
                let axes = one.as_slice().iter().chain(self.signature.ints(attribute));
                let mut axes = axes.filter_map(|axis| normalize_axis(*axis, self.leading));
                axes.any(|axis| name == format!("..{axis}"))
            }
        };
        if self.pattern.window.first().is_some_and(|window| window == base) {
            AxisKind::Window
        } else if self.pattern.reduce.iter().any(named) {
            AxisKind::Reduce
        } else if self.pattern.whole.iter().any(named) {
            AxisKind::Whole
        } else {
            AxisKind::Parallel
        }
    }

    /// How the dimensions of a shape follow the axes of these names, aligned at the end; new axes are added.
    fn follow(&mut self, names: &[String], shape: &[Dim], is_result: bool) -> Result<Vec<DimUse>, String> {
        let skip = names.len().saturating_sub(shape.len());
        let mut uses = Vec::new();
        for (name, dim) in names[skip..].iter().zip(shape) {
            if let Some((_, whole)) = self.pattern.groups.iter().find(|(part, _)| part == name) {
                let axis = self.axes.iter().position(|axis| axis.name == *whole);
                let axis = axis.ok_or_else(|| format!("axis '{whole}' must come before '{name}'"))?;
                uses.push(DimUse::Group { axis, members: self.axes[axis].extent.divide_exactly(dim) });
                continue;
            }
            if let Some((_, run)) = self.pattern.spreads.iter().find(|(wide, _)| wide == name) {
                let axis = self.spread_axis(run)?;
                uses.push(match dim.divide_exactly(&self.axes[axis].extent) {
                    Some(Dim::Known(1)) => DimUse::Axis(axis),
                    runs => DimUse::Spread { axis, runs },
                });
                continue;
            }
            let kind = self.kind(name);
            let axis = self.axes.iter().position(|axis| axis.name == *name).unwrap_or_else(|| {
                self.axes.push(Axis { name: name.clone(), extent: dim.clone(), kind });
                self.axes.len() - 1
            });
            let extent = &mut self.axes[axis].extent;
            uses.push(match kind {
                AxisKind::Window if !is_result => DimUse::Window(axis),
                AxisKind::Window => {
                    *extent = dim.clone();
                    DimUse::Axis(axis)
                }
                AxisKind::Reduce if is_result => DimUse::Repeated(axis),
                AxisKind::Whole if is_result => DimUse::Axis(axis),
                _ if dim == extent => DimUse::Axis(axis),
                _ if *dim == Dim::Known(1) => DimUse::Repeated(axis),
                _ if *extent == Dim::Known(1) => {
                    *extent = dim.clone();
                    DimUse::Axis(axis)
                }
                _ if matches!(&*extent - dim, Dim::Known(distance) if distance != 0) => {
                    return Err(format!("axis '{name}' has extents {extent} and {dim}"));
                }
                _ => DimUse::Axis(axis),
            });
        }
        Ok(uses)
    }

    /// The axis that a wider dimension has runs of; its extent is that of the first operand that shows it plainly.
    fn spread_axis(&mut self, name: &str) -> Result<usize, String> {
        if let Some(axis) = self.axes.iter().position(|axis| axis.name == name) {
            return Ok(axis);
        }
        let extent = self.pattern.operands.iter().enumerate().find_map(|(slot, term)| {
            let Term::Words(words) = term else { return None };
            let at = words.iter().position(|word| *word == Word::Axis(name.into()))?;
            self.signature.tensor(slot)?.shape.get(at).cloned()
        });
        let extent = extent.ok_or_else(|| format!("no operand has axis '{name}'"))?;
        self.axes.push(Axis { name: name.into(), extent, kind: self.kind(name) });
        Ok(self.axes.len() - 1)
    }

    /// A scale or zero point of an operand whose dimensions follow `of`.
    fn parameters(&self, rank: usize, of: &[DimUse]) -> Result<Vec<DimUse>, String> {
        let axis_of = |place: &DimUse| match place {
            DimUse::Axis(axis) | DimUse::Repeated(axis) => Ok(*axis),
            other => Err(format!("parameters cannot follow {other:?}")),
        };
        let block = self.signature.int("block", 0);
        if rank == 0 {
            return Ok(Vec::new());
        }
        let along = self.signature.axis("axis", 1, of.len())?;
        if block == 0 {
            return Ok(vec![DimUse::Axis(axis_of(&of[along])?)]);
        }
        let each = of.iter().enumerate().map(|(at, place)| match at == along {
            true => Ok(DimUse::Block { axis: axis_of(place)?, size: block }),
            false => Ok(place.clone()),
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{Attribute, Attributes};
    use crate::dialects::core;
    use crate::element::Element;
    use crate::types::{TensorType, Type};

    fn resolve(
        def: &'static OpDef,
        operands: &[&[i64]],
        attributes: &[(&'static str, Attribute)],
        results: &[&[i64]],
    ) -> Iteration {
        let types = |shapes: &[&[i64]]| -> Vec<Type> {
            shapes.iter().map(|shape| Type::Tensor(TensorType::of(Element::F32, shape))).collect()
        };
        let attributes: Attributes =
            attributes.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        let (operands, results) = (types(operands), types(results));
        let signature = Signature { def, operands: &operands, attributes: &attributes, results: &results };
        iteration(&signature).unwrap().unwrap()
    }

    fn axes(iteration: &Iteration) -> String {
        let text = |axis: &Axis| format!("{}={} {:?}", axis.name, axis.extent, axis.kind);
        iteration.axes.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_definition_is_well_formed() {
        for def in crate::registry::Registry::builtin().ops() {
            check(def).unwrap_or_else(|what| panic!("{}: {what}", def.name));
        }
    }

    #[test]
    fn matmul_reduces_the_inner_axis_and_repeats_batches() {
        let found = resolve(&core::MATMUL, &[&[2, 3, 4, 8], &[1, 8, 5]], &[], &[&[2, 3, 4, 5]]);
        assert_eq!(axes(&found), "..0=2 Parallel, ..1=3 Parallel, m=4 Parallel, k=8 Reduce, n=5 Parallel");
        assert_eq!(found.operands[1], [DimUse::Repeated(1), DimUse::Axis(3), DimUse::Axis(4)]);
        assert_eq!(found.results[0], [0, 1, 2, 4].map(DimUse::Axis));
    }

    #[test]
    fn a_blocked_scale_follows_the_weight() {
        let attributes = [
            ("axis", Attribute::Int(1)),
            ("block", Attribute::Int(32)),
            ("transpose_weight", Attribute::Bool(true)),
            ("operandSegmentSizes", Attribute::Segments([1, 1, 0, 1, 0].into())),
        ];
        let found = resolve(&core::LINEAR, &[&[4, 64], &[16, 64], &[16, 2]], &attributes, &[&[4, 16]]);
        assert_eq!(axes(&found), "..0=4 Parallel, k=64 Reduce, n=16 Parallel");
        assert_eq!(found.operands[1], [DimUse::Axis(2), DimUse::Axis(1)]);
        assert_eq!(found.operands[2], [DimUse::Axis(2), DimUse::Block { axis: 1, size: 32 }]);
    }

    #[test]
    fn attention_shares_key_heads() {
        let shapes: [&[i64]; 3] = [&[1, 4, 2, 8], &[1, 2, 6, 8], &[1, 2, 6, 16]];
        let attributes = [("operandSegmentSizes", Attribute::Segments([1, 1, 1, 0, 0].into()))];
        let found = resolve(&core::ATTENTION, &shapes, &attributes, &[&[1, 4, 2, 16]]);
        assert_eq!(
            axes(&found),
            "b=1 Parallel, h=4 Parallel, s=2 Parallel, d=8 Reduce, t=6 Reduce, e=16 Parallel"
        );
        assert_eq!(found.operands[1][1], DimUse::Group { axis: 1, members: Some(Dim::Known(2)) });
    }

    #[test]
    fn windows_reductions_and_whole_axes() {
        let attributes = [("operandSegmentSizes", Attribute::Segments([1, 1, 0].into()))];
        let found =
            resolve(&core::CONVOLUTION, &[&[1, 3, 8, 8], &[16, 3, 3, 3]], &attributes, &[&[1, 16, 6, 6]]);
        let [_, channels, rows, columns] = &found.operands[0][..] else { panic!("rank 4") };
        assert_eq!((channels, rows), (&DimUse::Axis(found.axis("i").unwrap()), &DimUse::Window(2)));
        assert_eq!(columns, &DimUse::Window(3));
        assert_eq!(found.axes[2], Axis { name: "s0".into(), extent: Dim::Known(6), kind: AxisKind::Window });
        let attributes = [("axes", Attribute::ints(&[-1])), ("keep_dims", Attribute::Bool(false))];
        let found = resolve(&core::REDUCE_SUM, &[&[2, 5]], &attributes, &[&[2]]);
        assert_eq!(axes(&found), "..0=2 Parallel, ..1=5 Reduce");
        assert_eq!(found.results[0], [DimUse::Axis(0)]);
        let found = resolve(&core::SOFTMAX, &[&[2, 5]], &[("axis", Attribute::Int(-1))], &[&[2, 5]]);
        assert_eq!(axes(&found), "..0=2 Parallel, ..1=5 Whole");
    }

    #[test]
    fn grouped_channels_are_counted_once() {
        let attributes =
            [("operandSegmentSizes", Attribute::Segments([1, 1, 0].into())), ("groups", Attribute::Int(2))];
        let found = resolve(&core::CONVOLUTION, &[&[1, 6, 8], &[16, 3, 3]], &attributes, &[&[1, 16, 6]]);
        assert_eq!(axes(&found), "n=1 Parallel, i=3 Reduce, s0=6 Window, o=16 Parallel, w0=3 Reduce");
        assert_eq!(found.operands[0][1], DimUse::Spread { axis: 1, runs: Some(Dim::Known(2)) });
    }

    #[test]
    fn bad_text_is_an_error() {
        for text in ["a b", "a -> b; fold a", "a: b -> b", "a -> b | b -> a", "A -> A", "@x -> a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
