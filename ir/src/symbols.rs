//! The symbols of a module's shapes: which there are, and putting expressions in their place.
//!
//! ```text
//! substitute {seq -> 32}: tensor<1x?x64xf32, ["seq"]> becomes tensor<1x32x64xf32>
//! ```

use crate::attribute::{Attribute, Attributes};
use crate::dim::Dim;
use crate::module::{Module, OpId};
use crate::op_def::{AttributeRule, OpDef};
use crate::types::{Shape, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Expressions for symbols.
pub type Substitution = BTreeMap<Arc<str>, Dim>;

/// Every symbol in the types of values below `op`.
pub fn collect(module: &Module, op: OpId) -> BTreeSet<Arc<str>> {
    let mut symbols = BTreeSet::new();
    module.walk(op, &mut |op| {
        for value in &module.op(op).results {
            collect_type(module.ty(*value), &mut symbols);
        }
        for region in &module.op(op).regions {
            for block in &module.region(*region).blocks {
                for value in &module.block(*block).arguments {
                    collect_type(module.ty(*value), &mut symbols);
                }
            }
        }
    });
    symbols
}

/// Adds every symbol of a type.
pub fn collect_type(ty: &Type, into: &mut BTreeSet<Arc<str>>) {
    match ty {
        Type::Tensor(tensor) => tensor.shape.iter().for_each(|dim| dim.collect_symbols(into)),
        Type::View(view) => view.shape.iter().for_each(|dim| dim.collect_symbols(into)),
        Type::Function(inputs, results) => inputs.iter().chain(results).for_each(|ty| collect_type(ty, into)),
        Type::Index | Type::Scalar(_) | Type::Opaque(_) => {}
    }
}

/// Replaces symbols in the types of all values below `op` and in all attributes that hold dimensions or types.
pub fn substitute(module: &mut Module, op: OpId, with: &Substitution) {
    if with.is_empty() {
        return;
    }
    let mut ops = Vec::new();
    module.walk(op, &mut |op| ops.push(op));
    for op in ops {
        let mut values = module.op(op).results.to_vec();
        for region in module.op(op).regions.clone() {
            for block in &module.region(region).blocks {
                values.extend(&module.block(*block).arguments);
            }
        }
        for value in values {
            let ty = substitute_type(module.ty(value), with);
            module.value_mut(value).ty = ty;
        }
        let def = module.op(op).def;
        let attributes = std::mem::take(&mut module.op_mut(op).attributes);
        module.op_mut(op).attributes = substitute_attributes(def, attributes, with);
    }
}

/// A type with symbols replaced.
pub fn substitute_type(ty: &Type, with: &Substitution) -> Type {
    let shape = |shape: &Shape| shape.iter().map(|dim| dim.substitute(with)).collect::<Shape>();
    let list = |types: &[Type]| types.iter().map(|ty| substitute_type(ty, with)).collect::<Vec<_>>();
    let mut ty = ty.clone();
    match &mut ty {
        Type::Tensor(tensor) => tensor.shape = shape(&tensor.shape),
        Type::View(view) => view.shape = shape(&view.shape),
        Type::Function(inputs, results) => {
            *inputs = list(inputs);
            *results = list(results);
        }
        Type::Index | Type::Scalar(_) | Type::Opaque(_) => {}
    }
    ty
}

fn substitute_attributes(def: &OpDef, mut attributes: Attributes, with: &Substitution) -> Attributes {
    for row in def.attributes {
        let Some(attribute) = attributes.get_mut(row.name) else { continue };
        let new = match row.rule {
            AttributeRule::Dim => attribute.as_dim().map(|dim| Attribute::dim(&dim.substitute(with))),
            AttributeRule::Dims => attribute.as_dims().map(|dims| {
                Attribute::dims(&dims.iter().map(|dim| dim.substitute(with)).collect::<Vec<_>>())
            }),
            _ => match attribute {
                Attribute::Type(ty) => Some(Attribute::Type(substitute_type(ty, with))),
                _ => None,
            },
        };
        if let Some(new) = new {
            *attribute = new;
        }
    }
    attributes
}
