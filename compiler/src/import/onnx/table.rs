//! The table of operators: which are known, for which opset versions, and what makes them.
//!
//! A new operator is one row in `rows/<family>.rs`.
//!
//! ```text
//! Row { domain: "", op: "Relu", versions: 1..=28, build: |node| .., takes: Takes::Tensors, refused: "" }
//! ```

use super::context::NodeContext;
use super::emit::WAY_WITHOUT_STRINGS;
use super::fault::{Fault, Outcome};
use super::operand::Operand;
use super::rows;
use std::ops::RangeInclusive;
use tilewright_ir::registry::edit_distance;

/// The oldest opset version that is taken.
pub const OPSET_MIN: i64 = 1;
/// The newest opset version that is taken.
pub const OPSET_MAX: i64 = 28;
/// The domain of ONNX Runtime's own operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// Makes the outputs of a node.
pub(crate) type Build = fn(&mut NodeContext) -> Outcome<Vec<Operand>>;

/// What the inputs of an operator may be, besides tensors of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing else.
    Tensors,
    /// Strings.
    Strings,
    /// Strings, which are moved and nothing else: the row sees their places, and its results are places.
    Places,
    /// Strings of which only the shape counts.
    Shapes,
    /// Whatever there is: strings, sequences, optionals.
    All,
}

impl Takes {
    /// Refuses an input that is something else.
    fn check(self, at: usize, input: &Operand) -> Outcome<()> {
        match self {
            _ if input.is_tensor() => Ok(()),
            Takes::All => Ok(()),
            Takes::Strings | Takes::Places | Takes::Shapes if input.as_strings().is_some() => Ok(()),
            Takes::Tensors if input.as_strings().is_some() => Err(Fault::unsupported(
                format!("input {at} holds strings, which this operator does not take here"),
                WAY_WITHOUT_STRINGS,
            )),
            _ => Err(Fault::model(format!(
                "input {at} is a sequence or an empty optional, a tensor is needed"
            ))),
        }
    }
}

/// One operator over a range of versions.
pub(crate) struct Row {
    /// Its domain; empty for ai.onnx.
    pub(crate) domain: &'static str,
    /// Its name.
    pub(crate) op: &'static str,
    /// Opset versions of its domain.
    pub(crate) versions: RangeInclusive<i64>,
    /// Makes it.
    pub(crate) build: Build,
    /// What its inputs may be.
    pub(crate) takes: Takes,
    /// What of it is refused, for the table of operators; empty when nothing is.
    pub(crate) refused: &'static str,
}

impl Row {
    /// Lets inputs be strings.
    pub(crate) const fn with_strings(self) -> Row {
        Row { takes: Takes::Strings, ..self }
    }

    /// Lets inputs be strings for an operator that moves elements and does not look at them.
    pub(crate) const fn moving_strings(self) -> Row {
        Row { takes: Takes::Places, ..self }
    }

    /// Lets inputs be strings for an operator that looks at shapes alone.
    pub(crate) const fn shape_of_strings(self) -> Row {
        Row { takes: Takes::Shapes, ..self }
    }

    /// Makes a node's outputs.
    pub(crate) fn make(&self, node: &mut NodeContext) -> Outcome<Vec<Operand>> {
        for (at, input) in node.inputs.iter().enumerate() {
            input.iter().try_for_each(|input| self.takes.check(at, input))?;
        }
        let mut given = node.inputs.iter().flatten();
        match self.takes {
            Takes::Places | Takes::Shapes if given.any(|input| input.as_strings().is_some()) => {
                rows::by_places(node, self.build, self.takes == Takes::Places)
            }
            _ => (self.build)(node),
        }
    }

    /// Says what of the operator is refused.
    pub(crate) const fn refuses(self, refused: &'static str) -> Row {
        Row { refused, ..self }
    }
}

/// A standard operator since an opset version.
pub(crate) const fn since(version: i64, op: &'static str, build: Build) -> Row {
    Row { domain: "", op, versions: version..=OPSET_MAX, build, takes: Takes::Tensors, refused: "" }
}

/// As [`since`], for an operator whose inputs may be sequences, optionals or strings.
pub(crate) const fn listing(version: i64, op: &'static str, build: Build) -> Row {
    Row { domain: "", op, versions: version..=OPSET_MAX, build, takes: Takes::All, refused: "" }
}

/// An operator of another domain, in all its versions.
pub(crate) const fn of(domain: &'static str, op: &'static str, build: Build) -> Row {
    Row { domain, op, versions: 1..=i64::MAX, build, takes: Takes::Tensors, refused: "" }
}

/// A standard operator of all versions.
pub(crate) const fn standard(op: &'static str, build: Build) -> Row {
    since(1, op, build)
}

/// An operator of ONNX Runtime.
pub(crate) const fn microsoft(op: &'static str, build: Build) -> Row {
    of(MICROSOFT, op, build)
}

/// A standard operator's newest version under another domain.
pub(crate) fn newest(node: &mut NodeContext, build: Build) -> Outcome<Vec<Operand>> {
    node.version = OPSET_MAX;
    build(node)
}

/// One line of the list of operators.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// Its domain; empty for ai.onnx.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The first opset version of its domain that is taken.
    pub since: i64,
    /// The last one, if there is an end.
    pub until: Option<i64>,
    /// What of it is refused.
    pub refused: &'static str,
}

pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    rows::FAMILIES.iter().flat_map(|family| family.iter())
}

/// All operators that can be imported, sorted by domain and name.
pub fn operators() -> Vec<Operator> {
    let until = |end: i64| (end < OPSET_MAX).then_some(end);
    let mut list: Vec<Operator> = all()
        .map(|row| Operator {
            domain: row.domain,
            name: row.op,
            since: *row.versions.start(),
            until: until(*row.versions.end()),
            refused: row.refused,
        })
        .collect();
    list.sort();
    list
}

/// The row for an operator.
pub(crate) fn find(domain: &str, op: &str, version: i64) -> Option<&'static Row> {
    all().find(|row| row.domain == domain && row.op == op && row.versions.contains(&version))
}

/// The nearest way out for an operator without a row.
pub(crate) fn way_out(domain: &str, op: &str, version: i64) -> String {
    if let Some(row) = all().find(|row| row.domain == domain && row.op == op) {
        let (first, last) = (row.versions.start(), row.versions.end());
        return if version < *first {
            format!(
                "it is known since opset {first}, the model imports {version}: convert the model to opset {first}"
            )
        } else {
            format!("it is known up to opset {last}, the model imports {version}: export with opset {last}")
        };
    }
    if let Some(row) = all().find(|row| row.op == op) {
        let domain = if row.domain.is_empty() { "ai.onnx" } else { row.domain };
        return format!("an operator of that name is known in domain '{domain}'");
    }
    let limit = op.chars().count().div_ceil(3).max(1);
    let nearest = all()
        .map(|row| (edit_distance(op, row.op), row))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, row)| (*distance, row.op));
    match nearest {
        Some((_, row)) => format!("did you mean '{}'?", row.op),
        None => "export the model without it, or give it as a model-local function; 'tilewright ops --onnx' lists what is known".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_an_operator_do_not_overlap() {
        let rows: Vec<&Row> = all().collect();
        for (at, row) in rows.iter().enumerate() {
            for other in &rows[at + 1..] {
                let same = row.domain == other.domain && row.op == other.op;
                let apart = row.versions.end() < other.versions.start()
                    || other.versions.end() < row.versions.start();
                assert!(!same || apart, "{} {} overlaps", row.domain, row.op);
            }
        }
    }

    #[test]
    fn the_way_out_is_near() {
        assert!(way_out("", "Gelu", 18).contains("opset 20"));
        assert!(way_out("", "MatMull", 18).contains("'MatMul'"));
        assert!(way_out("", "MatMulNBits", 18).contains("com.microsoft"));
        assert!(way_out("", "ZipMapper", 18).contains("model-local function"));
    }
}
