//! Weights that stay compressed in the artifact and in SRAM: 2:4 sparse ones and codes of a palette, where products alone take them.
//! Their lowering reads the parts; what they stand for is never made.
//!
//! ```text
//! %w = core.sparse_expand(%v, %i); %y = core.linear(%x, %w)   =>   matmul x, v, indices i
//! %w = core.gather(%levels, %codes); %y = core.matmul(%x, %w)   =>   matmul x, codes, codebook levels
//! ```

use super::constant_fold::is_constant;
use crate::lowering::LoweringContext;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};

/// The parts of a compressed weight.
#[derive(Clone, Debug)]
pub(crate) struct Compressed {
    /// What is stored per weight that is kept.
    values: ValueId,
    /// What the stored codes stand for.
    codebook: Option<ValueId>,
    /// Places of the kept weights, and the axis along which others are left out.
    indices: Option<(ValueId, usize)>,
}

/// The same as views, as products take them.
pub(crate) struct Stored {
    /// Values or codes.
    pub(crate) w: View,
    /// What codes stand for.
    pub(crate) codebook: Option<View>,
    /// Places of the kept weights.
    pub(crate) indices: Option<View>,
}

impl Stored {
    /// With the two axes in another order.
    pub(crate) fn permute(self, order: &[usize]) -> Stored {
        Stored {
            w: self.w.permute(order),
            indices: self.indices.map(|view| view.permute(order)),
            codebook: self.codebook,
        }
    }
}

/// The compressed values below `function`. `takes_sparse` says whether the target runs an op that reads 2:4 sparse weights.
pub(super) fn compressed(
    module: &Module,
    function: OpId,
    folded: &BTreeSet<ValueId>,
    takes_sparse: &dyn Fn(OpId) -> bool,
) -> BTreeMap<ValueId, Compressed> {
    let mut found = BTreeMap::new();
    module.walk(function, &mut |op| {
        let parts = if module.op(op).def == &core::SPARSE_EXPAND {
            sparse(module, op, folded, &found)
        } else {
            palette(module, op, folded)
        };
        if let Some(parts) = parts {
            found.insert(module.result(op), parts);
        }
    });
    // Codes may be thinned too: then their palette is a part of the sparse weight.
    let mut kept = BTreeMap::new();
    for (value, parts) in &found {
        let fits = match parts.indices {
            Some((_, axis)) => products_only(module, *value, Some(axis), takes_sparse),
            None => products_only(module, *value, None, &|_| true),
        };
        if fits {
            kept.insert(*value, parts.clone());
            let of = module.producer(*value).and_then(|op| module.op(op).operands.first().copied());
            // A palette that others use too is a folded constant for this weight.
            if let Some((inner, own)) = of.and_then(|inner| found.get_key_value(&inner))
                && own.values == parts.values
            {
                kept.insert(*inner, own.clone());
            }
        }
    }
    kept
}

fn sparse(
    module: &Module,
    op: OpId,
    folded: &BTreeSet<ValueId>,
    found: &BTreeMap<ValueId, Compressed>,
) -> Option<Compressed> {
    let [values, indices] = module.op(op).operands[..] else { return None };
    if module.tensor(values)?.rank() != 2 || !is_constant(module, folded, indices) {
        return None;
    }
    let axis = module.op(op).attributes.get("axis").and_then(Attribute::as_int)?.rem_euclid(2) as usize;
    let indices = Some((indices, axis));
    match found.get(&values) {
        Some(inner) if module.value(values).users.len() == 1 => Some(Compressed { indices, ..inner.clone() }),
        _ => is_constant(module, folded, values).then_some(Compressed { values, codebook: None, indices }),
    }
}

/// A look-up of 4-bit codes in 16 levels.
fn palette(module: &Module, op: OpId, folded: &BTreeSet<ValueId>) -> Option<Compressed> {
    let operation = module.op(op);
    if operation.def != &core::GATHER {
        return None;
    }
    let [levels, codes] = operation.operands[..] else { return None };
    let (levels_type, codes_type) = (module.tensor(levels)?, module.tensor(codes)?);
    let is_palette = levels_type.element.is_float() && levels_type.known_shape()?[..] == [16];
    let is_coded = codes_type.element == Element::U4 && codes_type.rank() == 2;
    let is_known = is_constant(module, folded, levels) && is_constant(module, folded, codes);
    let parts = Compressed { values: codes, codebook: Some(levels), indices: None };
    (is_palette && is_coded && is_known).then_some(parts)
}

/// Whether all that uses a value are products that have it on the right, sums running along `axis`.
fn products_only(module: &Module, value: ValueId, axis: Option<usize>, takes: &dyn Fn(OpId) -> bool) -> bool {
    let users = &module.value(value).users;
    !users.is_empty()
        && users.iter().all(|user| {
            let operation = module.op(*user);
            let is_right = operation.operands.get(1) == Some(&value)
                && operation.operands.iter().filter(|operand| **operand == value).count() == 1;
            if operation.def == &core::KERNEL {
                let arguments = &module.block(module.entry(*user, 0)).arguments;
                let given = operation.operands.iter().zip(arguments).filter(|pair| *pair.0 == value);
                return takes(*user)
                    && given.into_iter().all(|pair| products_only(module, *pair.1, axis, &|_| true));
            }
            let transposed = operation.attributes.get("transpose_weight").and_then(Attribute::as_bool);
            let sums_along = usize::from(transposed.unwrap_or(false));
            let is_product = operation.def == &core::LINEAR || operation.def == &core::MATMUL;
            is_product && is_right && axis.is_none_or(|axis| axis == sums_along) && takes(*user)
        })
}

impl LoweringContext<'_> {
    /// The weight of a product: operand definition `slot`, in the form it is stored in.
    ///
    /// # Errors
    /// When it was not lowered.
    pub(crate) fn weight(&mut self, op: OpId, slot: usize) -> Result<Stored, String> {
        let value = self.source.operand_at(op, slot).ok_or("a product without a weight")?;
        let Some(parts) = self.compressed.get(&value).cloned() else {
            return Ok(Stored { w: self.view(value)?, codebook: None, indices: None });
        };
        let codebook = parts.codebook.map(|value| self.view(value)).transpose()?;
        let indices = parts.indices.map(|(value, _)| self.view(value)).transpose()?;
        Ok(Stored { w: self.view(parts.values)?, codebook, indices })
    }

    /// Makes an argument of a kernel stand for an operand: its view, or the parts of a compressed weight.
    ///
    /// # Errors
    /// When it was not lowered.
    pub(crate) fn pass_argument(&mut self, argument: ValueId, operand: ValueId) -> Result<(), String> {
        if let Some(parts) = self.compressed.get(&operand).cloned() {
            self.compressed.insert(argument, parts);
            return Ok(());
        }
        let view = self.view(operand)?;
        self.views.insert(argument, view);
        Ok(())
    }

    /// The constant that an argument of a kernel stands for; any other value itself.
    pub(crate) fn outer(&self, value: ValueId) -> ValueId {
        self.constant_arguments.get(&value).copied().unwrap_or(value)
    }

    /// Whether a value is known when the artifact is written.
    pub(crate) fn is_constant(&self, value: ValueId) -> bool {
        is_constant(self.source, &self.folded, self.outer(value))
    }

    /// What a weight is stored as, before it is anyone's view: its values, and the levels that codes stand for.
    pub(crate) fn stored_values(&self, value: ValueId) -> Result<(ValueId, Option<ValueId>), String> {
        match self.compressed.get(&value) {
            Some(parts) if parts.indices.is_some() => Err("a sparse weight is not packed".into()),
            Some(parts) => Ok((parts.values, parts.codebook)),
            None => Ok((self.outer(value), None)),
        }
    }
}
