//! Which weights are thinned, and how: 2:4, where the machine reads them sparse, or by magnitude, which leaves them dense. Thinning
//! comes before quantisation, so that scales fit what is left.
//!
//! ```text
//! %v, %i = "core.compress_weight"(%w) {scheme = "sparse_2_4"}   %q, %s = "core.quantize_weight"(%v)
//! %d = "core.dequantize"(core.sparse_expand(%q, %i), %s)
//! ```

use super::policy::Scope;
use super::roles::Weight;
use std::fmt;
use std::str::FromStr;
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::types::TensorType;
use tilewright_ir::weight_format::{Granularity, Role, WeightFormat};

/// How a weight is thinned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pruning {
    /// The two of largest magnitude of every four along the dimension that products sum over.
    Sparse24,
    /// All but this fraction of smallest magnitude; stored dense.
    Magnitude(f64),
}

impl fmt::Display for Pruning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pruning::Sparse24 => f.write_str("2:4"),
            Pruning::Magnitude(fraction) => write!(f, "magnitude:{fraction}"),
        }
    }
}

impl FromStr for Pruning {
    type Err = String;

    fn from_str(text: &str) -> Result<Pruning, String> {
        if text == "2:4" {
            return Ok(Pruning::Sparse24);
        }
        let fraction = text.strip_prefix("magnitude:").and_then(|fraction| fraction.parse::<f64>().ok());
        match fraction.filter(|fraction| (0.0..1.0).contains(fraction)) {
            Some(fraction) => Ok(Pruning::Magnitude(fraction)),
            None => Err(format!(
                "cannot read '{text}' as a pruning: expected 2:4, magnitude:F with F from 0 to below 1, or none"
            )),
        }
    }
}

/// An exception: `PATTERN=HOW`.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneOverride {
    /// Whom it speaks of.
    pub scope: Scope,
    /// How; none for not at all.
    pub pruning: Option<Pruning>,
}

impl FromStr for PruneOverride {
    type Err = String;

    fn from_str(text: &str) -> Result<PruneOverride, String> {
        let (scope, how) = text.rsplit_once('=').filter(|parts| !parts.0.is_empty()).ok_or_else(|| {
            format!("cannot read '{text}': expected PATTERN=HOW such as 'role:attention=none'")
        })?;
        let pruning = if how == "none" { None } else { Some(how.parse()?) };
        Ok(PruneOverride { scope: scope.parse()?, pruning })
    }
}

/// Who is thinned, and how.
#[derive(Clone, Debug, Default)]
pub struct PrunePolicy {
    /// What becomes of all weights but the embedding and the last product.
    pub pruning: Option<Pruning>,
    /// The user's exceptions, the last one that fits counts.
    pub overrides: Vec<PruneOverride>,
}

impl PrunePolicy {
    /// From the words of a user; `none` or nothing prunes only what exceptions name.
    ///
    /// # Errors
    /// Words that cannot be read.
    pub fn new(pruning: &str, overrides: &[String]) -> Result<PrunePolicy, String> {
        let pruning = if matches!(pruning, "" | "none") { None } else { Some(pruning.parse()?) };
        Ok(PrunePolicy {
            pruning,
            overrides: overrides.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        })
    }

    /// How a weight is to be thinned. Tables of token vectors and the last layer are not, unless an exception says so.
    pub fn wish(&self, weight: &Weight, module: &Module) -> Option<Pruning> {
        match self.overrides.iter().rev().find(|one| one.scope.fits(weight, module)) {
            Some(found) => found.pruning,
            None => self.pruning.filter(|_| !matches!(weight.role, Role::Embedding | Role::Last)),
        }
    }
}

/// Why a weight cannot be thinned in this way and stored in this format.
///
/// # Errors
/// The reason.
pub fn check(
    module: &Module,
    weight: &Weight,
    pruning: Pruning,
    format: Option<WeightFormat>,
) -> Result<(), String> {
    if pruning != Pruning::Sparse24 {
        return Ok(());
    }
    let (depth, _) = weight.extents(module);
    if !depth.is_multiple_of(4) {
        return Err(format!("4 does not divide the {depth} weights of a channel"));
    }
    if weight.is_gathered(module) {
        return Err("rows of it are looked up, and a sparse table has no rows".into());
    }
    match format {
        Some(format) if format.has_zero_point => {
            Err(format!("{format} has zero points, and what is left out must be 0"))
        }
        Some(WeightFormat { granularity: Granularity::Group(group), .. }) if group % 4 != 0 => {
            Err(format!("groups of {group} do not hold whole fours"))
        }
        _ => Ok(()),
    }
}

/// A weight after thinning: what is left, and where it stood when it is stored sparse.
#[derive(Clone, Copy, Debug)]
pub struct Thinned {
    /// What is stored.
    pub values: ValueId,
    /// The places of a 2:4 sparse one.
    pub indices: Option<ValueId>,
}

impl Thinned {
    /// A weight that is not thinned.
    pub fn whole(weight: &Weight) -> Thinned {
        Thinned { values: weight.constant, indices: None }
    }

    /// A block of the dense weight, counted in what is stored.
    pub fn block(&self, block: i64) -> i64 {
        if self.indices.is_some() { block / 2 } else { block }
    }
}

/// Thins a weight.
///
/// # Errors
/// When an op refuses its operands: a fault of ours.
pub fn thin(module: &mut Module, weight: &Weight, pruning: Pruning, before: OpId) -> Result<Thinned, String> {
    let ty = module.tensor(weight.constant).ok_or("it is no tensor")?.clone();
    let location = weight.location(module);
    let mut builder = Builder::before(module, before);
    builder.location = location;
    let op = builder.op(&core::COMPRESS_WEIGHT).operand(weight.constant);
    let (op, suffixes): (_, &[&str]) = match pruning {
        Pruning::Magnitude(fraction) => {
            (op.attribute("scheme", "prune").attribute("fraction", fraction).result(ty), &["", ""])
        }
        Pruning::Sparse24 => {
            let mut shape: Vec<Dim> = ty.shape.to_vec();
            let length = shape[weight.depth_axis].known().ok_or("it has no known shape")?;
            shape[weight.depth_axis] = Dim::Known(length / 2);
            let op = op.attribute("scheme", "sparse_2_4").attribute("axis", weight.depth_axis);
            let op = op.result(TensorType::new(ty.element, shape.iter().cloned()));
            (op.result(TensorType::new(Element::U2, shape)), &["", ".indices"])
        }
    };
    let op = op.build()?;
    let results = module.op(op).results.clone();
    for (result, suffix) in results.iter().zip(suffixes) {
        module.value_mut(*result).name = Some(format!("{}{suffix}", weight.name).into());
    }
    Ok(Thinned { values: results[0], indices: results.get(1).copied() })
}

/// The dense form of what was thinned, from the stored values in whatever element they have by now.
///
/// # Errors
/// As [`thin`].
pub fn expand(
    module: &mut Module,
    weight: &Weight,
    thinned: Thinned,
    values: ValueId,
    before: OpId,
) -> Result<ValueId, String> {
    let Some(indices) = thinned.indices else { return Ok(values) };
    let location = weight.location(module);
    let mut builder = Builder::before(module, before);
    builder.location = location;
    builder.op(&core::SPARSE_EXPAND).operands(&[values, indices]).attribute("axis", weight.depth_axis).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for text in ["2:4", "magnitude:0.5"] {
            assert_eq!(text.parse::<Pruning>().unwrap().to_string(), text);
        }
        for text in ["1:4", "magnitude:1", "magnitude:x", ""] {
            assert!(text.parse::<Pruning>().unwrap_err().contains("expected 2:4"), "{text}");
        }
        assert_eq!("*mlp*=none".parse::<PruneOverride>().unwrap().pruning, None);
        assert!("role:lost=2:4".parse::<PruneOverride>().unwrap_err().contains("unknown role"));
    }
}
