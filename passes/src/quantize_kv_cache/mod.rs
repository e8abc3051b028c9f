//! Keeps key/value caches in f32 or f16, in 8 or in 4 bits: the state's type changes, new tokens are converted as they come, attention reads
//! what is kept.
//!
//! `f32` and `f16` convert. `kv8` quantises each token's keys and values per head. `kv4` quantises values per token in groups of 32, and
//! keys per channel over blocks of 32 tokens; the last tokens' keys stay in f16 (KIVI: Liu et al. 2024, arXiv:2402.02750). Exported
//! graphs rotate keys before they cache them, so it is rotated keys that are quantised. A state is a cache when it is `concat(past,
//! new)` along the tokens and nothing but attention reads it; others stay as they are, with a warning where one looks like a cache.
//!
//! ```text
//! %k = "core.concat"(%past, %new); "core.attention"(%q, %k, ..)
//! => %c, %s, %o = "core.quantize_groups"(%new); %k = "core.concat"(%past, %c); ..; "core.cached_attention"(%q, %k, .., %ks, %ko ..)
//! ```

mod find;

use crate::bind_symbols::update_function_type;
use crate::pass::{OptionDef, Options, Pass, PassContext, PassDef};
use find::{Cache, Role, find};
use std::collections::BTreeMap;
use std::sync::Arc;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::builder::Builder;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::types::{TensorType, Type};

/// The pass.
pub static DEF: PassDef = PassDef {
    name: "quantize-kv-cache",
    doc: "Keeps key/value caches in f32, f16, 8 or 4 bits; attention reads them as they are kept.",
    options: &[
        OptionDef { name: "format", default: "f16", doc: "f32, f16, kv8 or kv4" },
        OptionDef { name: "tokens", default: "2048", doc: "kv4: the longest context" },
        OptionDef { name: "chunk", default: "32", doc: "kv4: most tokens that any program adds in one run" },
        OptionDef { name: "keep", default: "32", doc: "kv4: keys that stay in f16 beyond the last block" },
    ],
    make,
};

/// Tokens of a block of keys, and elements of a group of values: KIVI's group size.
const BLOCK: i64 = 32;
/// Blocks in the ring beyond what one run needs, so that more tokens than those of the last run can be taken back.
const SPARE_BLOCKS: i64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Float(Element),
    Kv8,
    Kv4,
}

struct QuantizeKvCache {
    format: Format,
    tokens: i64,
    chunk: i64,
    keep: i64,
}

fn make(options: &Options) -> Result<Box<dyn Pass>, String> {
    let format = match options.get("format", "f16".to_string())?.as_str() {
        "f32" => Format::Float(Element::F32),
        "f16" => Format::Float(Element::F16),
        "kv8" => Format::Kv8,
        "kv4" => Format::Kv4,
        other => return Err(format!("option 'format': expected f32, f16, kv8 or kv4, found '{other}'")),
    };
    let (tokens, chunk) = (options.get("tokens", 2048)?, options.get("chunk", 32)?);
    let keep: i64 = options.get("keep", 32)?;
    if tokens < 1 || chunk < 1 {
        return Err("options 'tokens' and 'chunk' must be at least 1".into());
    }
    if keep < BLOCK || keep % BLOCK != 0 {
        return Err(format!("option 'keep' must be a multiple of {BLOCK} and at least that, found {keep}"));
    }
    Ok(Box::new(QuantizeKvCache { format, tokens, chunk, keep }))
}

impl Pass for QuantizeKvCache {
    fn run(&self, module: &mut Module, context: &mut PassContext) -> Result<(), Diagnostics> {
        for function in module.functions() {
            let found = find(module, function);
            for (name, reason) in found.refused {
                let location = module.op(function).location.clone();
                context.warn(
                    location,
                    format!("the cache '{name}' stays as it is: {reason}"),
                    "its memory and traffic do not shrink",
                );
            }
            self.rewrite(module, function, &found.caches).map_err(|what| {
                vec![Diagnostic::error(
                    module.op(function).location.clone(),
                    format!("quantize-kv-cache: {what}"),
                )]
            })?;
        }
        Ok(())
    }
}

/// A cache as it is kept.
#[derive(Clone, Copy)]
struct Kept {
    data: ValueId,
    scale: Option<ValueId>,
    offset: Option<ValueId>,
    recent: Option<ValueId>,
}

impl QuantizeKvCache {
    fn rewrite(&self, module: &mut Module, function: OpId, caches: &[Cache]) -> Result<(), String> {
        let has =
            |cache: &Cache, element| module.tensor(cache.argument).is_some_and(|ty| ty.element == element);
        if let Format::Float(element) = self.format
            && caches.iter().all(|cache| has(cache, element))
        {
            return Ok(());
        }
        let mut kept: BTreeMap<ValueId, Kept> = BTreeMap::new();
        let mut states = States::open(module, function);
        for cache in caches {
            let now = match (self.format, cache.role) {
                (Format::Float(element), _) => convert(module, &mut states, cache, element)?,
                (Format::Kv8, _) => self.per_token(module, &mut states, cache, 8, cache.width)?,
                (Format::Kv4, Role::Key) => self.in_blocks(module, &mut states, cache)?,
                (Format::Kv4, Role::Value) => {
                    let group = if cache.width % BLOCK == 0 { BLOCK } else { cache.width };
                    self.per_token(module, &mut states, cache, 4, group)?
                }
            };
            kept.insert(cache.present, now);
        }
        let mut attentions: Vec<OpId> = caches.iter().flat_map(|cache| cache.attentions.clone()).collect();
        attentions.sort_unstable();
        attentions.dedup();
        for op in attentions {
            self.read(module, op, &kept)?;
        }
        for cache in caches {
            module.replace_all_uses(cache.present, kept[&cache.present].data);
            module.erase(cache.concat);
        }
        states.close(module, function);
        Ok(())
    }

    /// Codes, scales and offsets of each token side by side, three states that grow together.
    fn per_token(
        &self,
        module: &mut Module,
        states: &mut States,
        cache: &Cache,
        bits: i64,
        group: i64,
    ) -> Result<Kept, String> {
        let past = states.retype(module, cache, if bits == 4 { Element::U4 } else { Element::U8 });
        let op = Builder::before(module, cache.concat)
            .op(&core::QUANTIZE_GROUPS)
            .operand(cache.new)
            .attribute("bits", bits)
            .attribute("group", group)
            .build()?;
        let [codes, scale, offset] = [0, 1, 2].map(|index| module.op(op).results[index]);
        let data = concat(module, cache, past, codes)?;
        let mut grow = |what: &str, new: ValueId| {
            let mut shape = module.tensor(past).map(|ty| ty.shape.to_vec()).unwrap_or_default();
            if let Some(last) = shape.last_mut() {
                *last = Dim::Known(cache.width / group);
            }
            let argument =
                states.add_argument(module, cache, what, TensorType::new(Element::F16, shape), None);
            let present = concat(module, cache, argument, new)?;
            states.add_result(cache, what, present);
            Ok::<ValueId, String>(present)
        };
        let (scale, offset) = (grow("scale", scale)?, grow("offset", offset)?);
        Ok(Kept { data, scale: Some(scale), offset: Some(offset), recent: None })
    }

    /// Keys in blocks of tokens behind a ring of recent ones.
    fn in_blocks(&self, module: &mut Module, states: &mut States, cache: &Cache) -> Result<Kept, String> {
        let past = states.retype(module, cache, Element::U4);
        let new = cast(module, cache, Element::F16)?;
        let needed = self.keep + BLOCK - 1 + self.chunk.max(cache.count);
        let ring = ((needed + BLOCK - 1) / BLOCK + SPARE_BLOCKS) * BLOCK;
        let rows = (self.tokens + BLOCK - 1) / BLOCK;
        let shape = module.tensor(past).map(|ty| ty.shape.to_vec()).unwrap_or_default();
        let recent = Attribute::ints(&[ring, BLOCK, self.keep]);
        let mut argument = |module: &mut Module, what: &str, length: i64| {
            let mut shape = shape.clone();
            shape[2] = Dim::Known(length);
            let ty = TensorType::new(Element::F16, shape);
            states.add_argument(module, cache, what, ty, Some(recent.clone()))
        };
        let old = [
            argument(module, "scale", rows),
            argument(module, "offset", rows),
            argument(module, "recent", ring),
        ];
        states.mark(cache.index, recent.clone());
        let op = Builder::before(module, cache.concat)
            .op(&core::APPEND_BLOCKS)
            .operands(&[new, past, old[0], old[1], old[2]])
            .attribute("block", BLOCK)
            .attribute("keep", self.keep)
            .build()?;
        let results = module.op(op).results.to_vec();
        for (what, value) in ["scale", "offset", "recent"].into_iter().zip(&results[1..]) {
            states.add_result(cache, what, *value);
        }
        let [data, scale, offset, recent] = results[..] else { return Err("four results".into()) };
        Ok(Kept { data, scale: Some(scale), offset: Some(offset), recent: Some(recent) })
    }

    /// Replaces an attention over caches by one that reads them as they are kept.
    fn read(&self, module: &mut Module, op: OpId, kept: &BTreeMap<ValueId, Kept>) -> Result<(), String> {
        let at = |slot: usize| module.operand_at(op, slot);
        let of = |slot: usize| at(slot).and_then(|value| kept.get(&value)).copied();
        let (Some(q), Some(k), Some(v)) = (at(0), of(1), of(2)) else {
            return Err("an attention without its caches".into());
        };
        let (mask, sinks) = (at(3), at(4));
        let mut attributes = module.op(op).attributes.clone();
        attributes.remove("operandSegmentSizes");
        if k.recent.is_some() {
            attributes.insert("block".into(), BLOCK.into());
            attributes.insert("keep".into(), self.keep.into());
        }
        let ty = module.ty(module.result(op)).clone();
        let new = Builder::before(module, op)
            .op(&core::CACHED_ATTENTION)
            .operands(&[q, k.data, v.data])
            .maybe(mask)
            .maybe(sinks)
            .maybe(k.scale)
            .maybe(k.offset)
            .maybe(k.recent)
            .maybe(v.scale)
            .maybe(v.offset)
            .attributes(attributes)
            .result(ty)
            .value()?;
        let old = module.result(op);
        module.value_mut(new).name = module.value(old).name.clone();
        module.replace_all_uses(old, new);
        module.erase(op);
        Ok(())
    }
}

/// The same cache in another float type.
fn convert(
    module: &mut Module,
    states: &mut States,
    cache: &Cache,
    element: Element,
) -> Result<Kept, String> {
    let past = states.retype(module, cache, element);
    let new = cast(module, cache, element)?;
    let data = concat(module, cache, past, new)?;
    Ok(Kept { data, scale: None, offset: None, recent: None })
}

/// The new tokens in another float type.
fn cast(module: &mut Module, cache: &Cache, element: Element) -> Result<ValueId, String> {
    let ty = module.tensor(cache.new).ok_or("new tokens are no tensor")?.clone();
    if ty.element == element {
        return Ok(cache.new);
    }
    let ty = TensorType { element, ..ty };
    Builder::before(module, cache.concat).op(&core::CAST).operand(cache.new).result(ty).value()
}

fn concat(module: &mut Module, cache: &Cache, past: ValueId, new: ValueId) -> Result<ValueId, String> {
    let name = module.value(cache.present).name.clone();
    let mut builder = Builder::before(module, cache.concat);
    let value = builder.op(&core::CONCAT).operands(&[past, new]).attribute("axis", 2i64).value()?;
    module.value_mut(value).name = name;
    Ok(value)
}

/// A function's border while states are added to it.
struct States {
    arguments: Vec<Attributes>,
    results: Vec<Attributes>,
    returned: Vec<ValueId>,
}

const ARGUMENTS: &str = "arg_attrs";
const RESULTS: &str = "res_attrs";

impl States {
    fn open(module: &Module, function: OpId) -> States {
        let block = module.entry(function, 0);
        let returned =
            module.terminator(block).map(|end| module.op(end).operands.to_vec()).unwrap_or_default();
        let list = |name: &str, count: usize| {
            let mut all: Vec<Attributes> = match module.op(function).attributes.get(name) {
                Some(Attribute::Array(items)) => items
                    .iter()
                    .map(|item| match item {
                        Attribute::Dict(entries) => (**entries).clone(),
                        _ => Attributes::new(),
                    })
                    .collect(),
                _ => Vec::new(),
            };
            all.resize(count, Attributes::new());
            all
        };
        let arguments = list(ARGUMENTS, module.block(block).arguments.len());
        States { arguments, results: list(RESULTS, returned.len()), returned }
    }

    /// The cache's argument, kept in another element type from now on.
    fn retype(&mut self, module: &mut Module, cache: &Cache, element: Element) -> ValueId {
        if let Some(ty) = module.tensor(cache.argument).cloned() {
            module.value_mut(cache.argument).ty = Type::Tensor(TensorType { element, ..ty });
        }
        cache.argument
    }

    fn mark(&mut self, argument: usize, recent: Attribute) {
        self.arguments[argument].insert("tw.recent".into(), recent);
    }

    fn add_argument(
        &mut self,
        module: &mut Module,
        cache: &Cache,
        what: &str,
        ty: TensorType,
        recent: Option<Attribute>,
    ) -> ValueId {
        let block = cache.block;
        let argument = module.add_argument(block, ty.into());
        let name = format!("{}.{what}", cache.name);
        module.value_mut(argument).name = Some(name.as_str().into());
        self.arguments.push(Attributes::from([
            ("tw.name".into(), Attribute::str(&name)),
            ("tw.state".into(), Attribute::str(&format!("{}.{what}", cache.output_name))),
        ]));
        if let Some(recent) = recent {
            self.mark(self.arguments.len() - 1, recent);
        }
        argument
    }

    fn add_result(&mut self, cache: &Cache, what: &str, value: ValueId) {
        self.returned.push(value);
        let name = Attribute::str(&format!("{}.{what}", cache.output_name));
        let state = Attribute::str(&format!("{}.{what}", cache.name));
        self.results.push(Attributes::from([("tw.name".into(), name), ("tw.state".into(), state)]));
    }

    fn close(self, module: &mut Module, function: OpId) {
        let block = module.entry(function, 0);
        if let Some(end) = module.terminator(block) {
            // Caches were replaced meanwhile; what was added comes after the function's own results.
            let mut operands = module.op(end).operands.to_vec();
            operands.extend(&self.returned[operands.len()..]);
            module.set_operands(end, &operands);
        }
        let array = |all: Vec<Attributes>| {
            Attribute::Array(all.into_iter().map(|entries| Attribute::Dict(Arc::new(entries))).collect())
        };
        let attributes = &mut module.op_mut(function).attributes;
        attributes.insert(ARGUMENTS.into(), array(self.arguments));
        attributes.insert(RESULTS.into(), array(self.results));
        update_function_type(module, function);
    }
}
