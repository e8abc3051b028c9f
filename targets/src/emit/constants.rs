//! The constants of an artifact: equal ones once, by content, in the order of first use, and their bytes one after another.
//!
//! Nothing is copied or computed until a [`Maker`] is asked for it, tensor by tensor, while the artifact is written. It must not know
//! files.
//!
//! ```text
//! let mut maker = pool.maker();
//! for (index, constant) in pool.constants().iter().enumerate() { writer.constant(&constant.info, &maker.bytes(index)?)?; }
//! ```

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Elements};
use tilewright_ir::evaluate;
use tilewright_ir::module::{Module, OpId};
use tilewright_ir::types::{TensorType, Type};
use tilewright_runtime::stream::ConstantInfo;

/// Constants begin at multiples of this, so that the widest vector load is aligned.
pub const ALIGNMENT_BYTES: u64 = 64;

/// One constant of the artifact.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Name, type and place.
    pub info: ConstantInfo,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Elements(Elements),
    /// Result `.1` of recipe `.0` of the pool.
    Recipe(usize, usize),
}

/// A module that holds one function without arguments: its results, as far as programs use them, are constants and made together.
#[derive(Clone, Debug)]
struct Recipe {
    module: Arc<Module>,
    function: String,
    /// What it computes from.
    weights: Vec<Elements>,
    /// The constant of each result that is used.
    results: BTreeMap<usize, usize>,
}

/// Makes the bytes of constants. What a recipe gives is kept until each of its used results was asked for, so that it runs once when
/// constants are asked for in their order.
pub struct Maker<'a> {
    pool: &'a ConstantPool,
    waiting: BTreeMap<usize, Vec<Option<Bytes>>>,
}

impl Maker<'_> {
    /// The bytes of constant number `index`, little-endian and packed: shared with the mapped model where they stand there as they
    /// are.
    ///
    /// # Errors
    /// When its expression cannot be evaluated.
    pub fn bytes(&mut self, index: usize) -> Result<Bytes, String> {
        let (recipe, result) = match &self.pool.constants[index].source {
            Source::Elements(elements) => return Ok(elements.bytes().clone()),
            Source::Recipe(recipe, result) => (*recipe, *result),
        };
        let mut results = match self.waiting.remove(&recipe) {
            Some(results) => results,
            None => {
                let Recipe { module, function, results, .. } = &self.pool.recipes[recipe];
                let made = evaluate::run_packed(module, function).map_err(|error| error.to_string())?;
                let used = |(result, bytes)| results.contains_key(&result).then_some(bytes);
                made.into_iter().enumerate().map(used).collect()
            }
        };
        let bytes = results.get_mut(result).and_then(Option::take);
        if results.iter().any(Option::is_some) {
            self.waiting.insert(recipe, results);
        }
        bytes.ok_or_else(|| format!("constant {index} has no value, or was asked for twice"))
    }
}

/// The constants so far; shared by all programs of an artifact.
#[derive(Clone, Debug, Default)]
pub struct ConstantPool {
    constants: Vec<Constant>,
    recipes: Vec<Recipe>,
    /// Key of the contents to the constants that have it.
    by_key: BTreeMap<[u8; 32], Vec<usize>>,
    /// Key of what recipes compute to the recipes that have it.
    recipes_by_key: BTreeMap<[u8; 32], Vec<usize>>,
    end_bytes: u64,
}

impl ConstantPool {
    /// No constants.
    pub fn new() -> ConstantPool {
        ConstantPool::default()
    }

    /// The constants, ascending by place.
    pub fn constants(&self) -> &[Constant] {
        &self.constants
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        self.end_bytes
    }

    /// What makes their bytes.
    pub fn maker(&self) -> Maker<'_> {
        Maker { pool: self, waiting: BTreeMap::new() }
    }

    /// All bytes in one piece, for tests and for programs that are run without an artifact.
    ///
    /// # Errors
    /// As [`Maker::bytes`].
    pub fn image(&self) -> Result<Vec<u8>, String> {
        let mut image = vec![0; self.end_bytes as usize];
        let mut maker = self.maker();
        for (index, constant) in self.constants.iter().enumerate() {
            let start = constant.info.offset_bytes as usize;
            let bytes = maker.bytes(index)?;
            image[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(image)
    }

    /// A constant of the same contents.
    fn find(&self, key: &[u8; 32], elements: &Elements) -> Option<usize> {
        let is_same = |at: &&usize| match &self.constants[**at].source {
            Source::Elements(known) => known.bytes() == elements.bytes(),
            Source::Recipe(..) => false,
        };
        self.by_key.get(key)?.iter().find(is_same).copied()
    }

    /// The place of a `tile.constant`, in bytes.
    pub(crate) fn add(&mut self, module: &Module, op: OpId) -> Result<u64, String> {
        let attributes = &module.op(op).attributes;
        let value = module.result(op);
        let Type::View(ty) = module.ty(value) else { return Err("a constant is not a memref".into()) };
        let name = module.value(value).name.as_ref().map_or(String::new(), |name| name.to_string());
        let Some(elements) = attributes.get("value").and_then(Attribute::as_elements) else {
            let Some(Attribute::Symbol(function)) = attributes.get("function") else {
                return Err("a constant has neither a value nor a function".into());
            };
            let result = attributes.get("result").and_then(Attribute::as_int).unwrap_or(0);
            return self.add_result(module, function, &name, usize::try_from(result).unwrap_or(0));
        };
        let key = sample(elements.bytes());
        if let Some(known) = self.find(&key, elements) {
            return Ok(self.constants[known].info.offset_bytes);
        }
        let ty = TensorType { element: ty.element, shape: ty.shape.clone() };
        let place = self.push(name, &ty, Source::Elements(elements.clone()))?;
        self.by_key.entry(key).or_default().push(self.constants.len() - 1);
        Ok(place)
    }

    /// The place of a result of a function. Functions that do the same to equal weights are one.
    fn add_result(
        &mut self,
        module: &Module,
        function: &str,
        name: &str,
        result: usize,
    ) -> Result<u64, String> {
        let op = module.function(function).ok_or_else(|| format!("there is no function @{function}"))?;
        let recipe = self.recipe(module, op, function);
        if let Some(known) = self.recipes[recipe].results.get(&result) {
            return Ok(self.constants[*known].info.offset_bytes);
        }
        let end = module.terminator(module.entry(op, 0)).ok_or("a constant function has no end")?;
        let value = module.op(end).operands.get(result);
        let value = *value.ok_or_else(|| format!("@{function} has no result {result}"))?;
        let ty = module.tensor(value).ok_or("a constant function gives no tensor")?.clone();
        let own = module.value(value).name.as_ref().map(ToString::to_string);
        let place =
            self.push(own.unwrap_or_else(|| name.to_string()), &ty, Source::Recipe(recipe, result))?;
        self.recipes[recipe].results.insert(result, self.constants.len() - 1);
        Ok(place)
    }

    /// The recipe that does what a function does.
    fn recipe(&mut self, module: &Module, op: OpId, function: &str) -> usize {
        let (key, weights) = fingerprint(module, op);
        let known = self.recipes_by_key.entry(key).or_default();
        let is_same = |at: &&usize| {
            let others = &self.recipes[**at].weights;
            others.iter().zip(&weights).all(|(a, b)| a.bytes() == b.bytes())
        };
        if let Some(at) = known.iter().find(is_same) {
            return *at;
        }
        known.push(self.recipes.len());
        let module = Arc::new(extract(module, op));
        self.recipes.push(Recipe { module, function: function.into(), weights, results: BTreeMap::new() });
        self.recipes.len() - 1
    }

    fn push(&mut self, name: String, ty: &TensorType, source: Source) -> Result<u64, String> {
        let shape: Vec<u64> = ty.shape.iter().map(|dim| dim.known().unwrap_or(0).max(0) as u64).collect();
        let bytes = (shape.iter().product::<u64>() * ty.element.bits() as u64).div_ceil(8);
        let element = super::runtime_element(ty.element)
            .ok_or_else(|| format!("element type {} is not known to the command set", ty.element))?;
        let offset_bytes = self.end_bytes.next_multiple_of(ALIGNMENT_BYTES);
        self.constants
            .push(Constant { info: ConstantInfo { name, element, shape, offset_bytes, bytes }, source });
        self.end_bytes = offset_bytes + bytes;
        Ok(offset_bytes)
    }
}

/// Bytes at each of the places that [`sample`] reads.
const SAMPLE_BYTES: usize = 256;
/// Places that [`sample`] reads.
const SAMPLES: usize = 16;

/// A key that equal bytes share, and different ones hardly ever: length and some places. Weights that have it in common are then
/// compared in full, so that the others need not be read.
fn sample(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    if bytes.len() <= SAMPLES * SAMPLE_BYTES {
        hasher.update(bytes);
    } else {
        for at in 0..SAMPLES {
            let start = (bytes.len() - SAMPLE_BYTES) * at / (SAMPLES - 1);
            hasher.update(&bytes[start..start + SAMPLE_BYTES]);
        }
    }
    *hasher.finalize().as_bytes()
}

/// A key of what a constant function computes (its ops in order, their operands by position, samples of its weights), and the weights.
fn fingerprint(module: &Module, function: OpId) -> ([u8; 32], Vec<Elements>) {
    let mut hasher = blake3::Hasher::new();
    let mut numbers = BTreeMap::new();
    let mut weights = Vec::new();
    for op in &module.block(module.entry(function, 0)).ops {
        let operation = module.op(*op);
        hasher.update(operation.def.name.as_bytes());
        for operand in &operation.operands {
            let number: u64 = numbers.get(operand).copied().unwrap_or(u64::MAX);
            hasher.update(&number.to_le_bytes());
        }
        for (name, attribute) in &operation.attributes {
            hasher.update(name.as_bytes());
            if let Attribute::Elements(elements) = attribute {
                hasher.update(&sample(elements.bytes()));
                weights.push(elements.clone());
            } else {
                hasher.update(format!("{attribute:?}").as_bytes());
            }
        }
        for result in &operation.results {
            hasher.update(module.ty(*result).to_string().as_bytes());
            numbers.insert(*result, numbers.len() as u64);
        }
    }
    (*hasher.finalize().as_bytes(), weights)
}

/// A module that holds a copy of one function.
fn extract(module: &Module, function: OpId) -> Module {
    let mut copy = Module::new();
    let operation = module.op(function);
    let body = copy.body();
    let target =
        copy.create_op(operation.def, &[], operation.attributes.clone(), &[], operation.location.clone());
    let region = copy.add_region(target);
    let block = copy.add_block(region, &[]);
    copy.append(body, target);
    let mut values = BTreeMap::new();
    copy_block(module, module.entry(function, 0), &mut copy, block, &mut values);
    copy
}

/// Copies the ops of a block (which have no regions) to the end of another module's block.
pub(crate) fn copy_block(
    from: &Module,
    block: tilewright_ir::module::BlockId,
    to: &mut Module,
    target: tilewright_ir::module::BlockId,
    values: &mut BTreeMap<tilewright_ir::module::ValueId, tilewright_ir::module::ValueId>,
) {
    for op in &from.block(block).ops {
        copy_op(from, *op, to, target, values);
    }
}

/// Copies one op without regions whose operands are in `values`.
pub(crate) fn copy_op(
    from: &Module,
    op: OpId,
    to: &mut Module,
    target: tilewright_ir::module::BlockId,
    values: &mut BTreeMap<tilewright_ir::module::ValueId, tilewright_ir::module::ValueId>,
) {
    let operation = from.op(op);
    let operands: Vec<_> = operation.operands.iter().map(|operand| values[operand]).collect();
    let types: Vec<Type> = operation.results.iter().map(|result| from.ty(*result).clone()).collect();
    let copied = to.create_op(
        operation.def,
        &operands,
        operation.attributes.clone(),
        &types,
        operation.location.clone(),
    );
    to.append(target, copied);
    for (old, new) in operation.results.iter().zip(to.op(copied).results.clone()) {
        to.value_mut(new).name = from.value(*old).name.clone();
        values.insert(*old, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_tell_lengths_and_ends_apart() {
        let zeros = vec![0u8; 100_000];
        let mut other = zeros.clone();
        assert_eq!(sample(&zeros), sample(&other));
        *other.last_mut().expect("not empty") = 1;
        assert_ne!(sample(&zeros), sample(&other));
        assert_ne!(sample(&zeros), sample(&zeros[1..]));
        assert_ne!(sample(b""), sample(b"a"));
    }
}
