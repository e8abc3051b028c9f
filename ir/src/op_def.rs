//! The definition of an op: what is true of it with no pass and no target in mind.
//!
//! An op is one `static OpDef` in its dialect's file. Passes, targets and the importer keep tables of their own that are keyed
//! by the static (`&core::MATMUL`), compared by address.
//!
//! ```text
//! "core.relu"(%x) : (tensor<4xf32>) -> tensor<4xf32>
//! ```

use crate::attribute::{Attribute, Attributes};
use crate::dim::Bindings;
use crate::module::{Module, OpId};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

/// How many values an operand or result stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// None or one.
    Optional,
    /// Any number.
    Variadic,
}

/// Which types are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeRule {
    /// Anything.
    Any,
    /// A tensor.
    Tensor,
    /// A tensor of floats.
    FloatTensor,
    /// A tensor of integers (not bool).
    IntegerTensor,
    /// A tensor of truth values.
    BoolTensor,
    /// A tensor of numbers: floats or integers.
    NumberTensor,
    /// A view of a memory space.
    View,
    /// `index`.
    Index,
    /// `!tile.token` and other opaque types.
    Opaque,
}

/// One operand or result.
#[derive(Clone, Copy, Debug)]
pub struct ValueDef {
    /// Its name in documentation and messages.
    pub name: &'static str,
    /// How many values.
    pub arity: Arity,
    /// Which types.
    pub rule: TypeRule,
}

/// A required operand or the like.
pub const fn value(name: &'static str, rule: TypeRule) -> ValueDef {
    ValueDef { name, arity: Arity::One, rule }
}
/// An operand that may be left out.
pub const fn optional(name: &'static str, rule: TypeRule) -> ValueDef {
    ValueDef { name, arity: Arity::Optional, rule }
}
/// Any number of operands.
pub const fn variadic(name: &'static str, rule: TypeRule) -> ValueDef {
    ValueDef { name, arity: Arity::Variadic, rule }
}

/// Which attribute values are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeRule {
    /// Anything.
    Any,
    /// An integer.
    Int,
    /// A float.
    Float,
    /// A truth value.
    Bool,
    /// Text.
    Str,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `array<i64: ..>`.
    Ints,
    /// An array of dimension expressions.
    Dims,
    /// One dimension expression.
    Dim,
    /// A type.
    Type,
    /// Constant elements.
    Elements,
    /// `@name`.
    Symbol,
    /// `[..]` of anything.
    Array,
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct AttributeDef {
    /// Its name.
    pub name: &'static str,
    /// Which values.
    pub rule: AttributeRule,
    /// Whether it must be there.
    pub required: bool,
}

/// A required attribute.
pub const fn attribute(name: &'static str, rule: AttributeRule) -> AttributeDef {
    AttributeDef { name, rule, required: true }
}
/// An attribute that may be left out.
pub const fn optional_attribute(name: &'static str, rule: AttributeRule) -> AttributeDef {
    AttributeDef { name, rule, required: false }
}

/// Facts that passes ask for. Combine with [`Traits::with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traits(u32);

impl Traits {
    /// No facts.
    pub const NONE: Traits = Traits(0);
    /// No effect but its results: may be removed, merged, moved, and enters the e-graph.
    pub const PURE: Traits = Traits(1);
    /// One result element from the operand elements at the same (numpy-broadcast) place.
    pub const ELEMENTWISE: Traits = Traits(2);
    /// Swapping the two operands changes nothing.
    pub const COMMUTATIVE: Traits = Traits(4);
    /// Last op of its block.
    pub const TERMINATOR: Traits = Traits(8);
    /// Only renames or moves elements: no arithmetic.
    pub const DATA_MOVEMENT: Traits = Traits(16);
    /// A compile-time constant.
    pub const CONSTANT: Traits = Traits(32);
    /// Its regions see no values from outside.
    pub const ISOLATED: Traits = Traits(64);
    /// Defines a symbol (`sym_name`).
    pub const SYMBOL: Traits = Traits(128);
    /// The blocks of its regions end without a terminator.
    pub const NO_TERMINATOR: Traits = Traits(256);

    /// Both.
    pub const fn with(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }

    /// True if all facts of `other` hold.
    pub const fn has(self, other: Traits) -> bool {
        self.0 & other.0 == other.0
    }
}

/// An op without its place in a module: what inference, verification and evaluation see.
pub struct Signature<'a> {
    /// The definition.
    pub def: &'static OpDef,
    /// Types of the operands given, in order.
    pub operands: &'a [Type],
    /// Attributes.
    pub attributes: &'a Attributes,
    /// Types of the results (for inference: what the maker asked for, may be empty).
    pub results: &'a [Type],
}

impl<'a> Signature<'a> {
    /// Index range in the given operands of the operand definition at `slot`; empty when an optional one is left out.
    pub fn slot(&self, slot: usize) -> std::ops::Range<usize> {
        slot_range(self.def, self.operands.len(), self.attributes, slot)
    }

    /// The tensor type of operand definition `slot`; `None` when left out or not a tensor.
    pub fn tensor(&self, slot: usize) -> Option<&'a TensorType> {
        self.operands.get(self.slot(slot))?.first()?.as_tensor()
    }

    /// The tensor type of a required operand, or a message.
    pub fn require_tensor(&self, slot: usize) -> Result<&'a TensorType, String> {
        self.tensor(slot).ok_or_else(|| {
            format!(
                "operand '{}' must be a tensor",
                self.def.operands.get(slot).map_or("?", |operand| operand.name)
            )
        })
    }

    /// An attribute by name.
    pub fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.attributes.get(name)
    }

    /// An integer attribute, or the default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(Attribute::as_int).unwrap_or(default)
    }

    /// A float attribute, or the default.
    pub fn float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).and_then(Attribute::as_float).unwrap_or(default)
    }

    /// A truth attribute, or the default.
    pub fn bool(&self, name: &str, default: bool) -> bool {
        self.attribute(name).and_then(Attribute::as_bool).unwrap_or(default)
    }

    /// A text attribute, or the default.
    pub fn str(&self, name: &str, default: &'a str) -> &'a str {
        self.attribute(name).and_then(Attribute::as_str).unwrap_or(default)
    }

    /// An `array<i64: ..>` attribute; empty when left out.
    pub fn ints(&self, name: &str) -> &'a [i64] {
        self.attribute(name).and_then(Attribute::as_ints).unwrap_or(&[])
    }

    /// An axis attribute counted from 0, checked against `rank`.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, String> {
        normalize_axis(self.int(name, default), rank).ok_or_else(|| {
            format!("attribute '{name}' = {} is out of range for rank {rank}", self.int(name, default))
        })
    }
}

/// Counts a negative axis from the end; `None` when out of range.
pub fn normalize_axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = rank as i64;
    let index = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&index).then_some(index as usize)
}

/// Index range in the given operands for operand definition `slot`. Ops with optional or several variadic operands carry
/// `operandSegmentSizes`; without it every definition before a single variadic stands for one value.
pub fn slot_range(
    def: &OpDef,
    operand_count: usize,
    attributes: &Attributes,
    slot: usize,
) -> std::ops::Range<usize> {
    if slot >= def.operands.len() {
        return 0..0;
    }
    if let Some(Attribute::Segments(sizes)) = attributes.get("operandSegmentSizes") {
        let size = |at: usize| sizes.get(at).copied().unwrap_or(0).max(0) as usize;
        let start = (0..slot).map(size).sum::<usize>().min(operand_count);
        return start..(start + size(slot)).min(operand_count);
    }
    let mut start = 0;
    for (at, operand) in def.operands.iter().enumerate() {
        let later_required = def.operands[at + 1..].iter().filter(|later| later.arity == Arity::One).count();
        let available = operand_count.saturating_sub(start);
        let size = match operand.arity {
            Arity::One => 1.min(available),
            Arity::Optional => usize::from(available > later_required),
            Arity::Variadic => available.saturating_sub(later_required),
        };
        if at == slot {
            return start..start + size;
        }
        start += size;
    }
    0..0
}

/// What an op's evaluation sees: operand values by definition slot, attributes, result types with their symbols bound.
pub struct Invocation<'a> {
    /// The op.
    pub signature: Signature<'a>,
    /// Values of the operands given, in order.
    pub values: &'a [&'a Tensor],
    /// Values of the symbols.
    pub bindings: &'a Bindings,
}

impl<'a> Invocation<'a> {
    /// The value of operand definition `slot`, if given.
    pub fn get(&self, slot: usize) -> Option<&'a Tensor> {
        self.values.get(self.signature.slot(slot))?.first().copied()
    }

    /// The value of a required operand; the verifier has made sure it is there.
    pub fn operand(&self, slot: usize) -> &'a Tensor {
        self.get(slot).expect("the verifier guarantees required operands")
    }

    /// All values of a variadic operand.
    pub fn all(&self, slot: usize) -> &'a [&'a Tensor] {
        &self.values[self.signature.slot(slot)]
    }

    /// Element type of result `index`.
    pub fn result_element(&self, index: usize) -> crate::element::Element {
        self.signature.results[index]
            .as_tensor()
            .map_or(crate::element::Element::F32, |tensor| tensor.element)
    }

    /// The shape of result `index` under the bindings.
    pub fn result_shape(&self, index: usize) -> Result<Vec<usize>, String> {
        let ty = self.signature.results[index].as_tensor().ok_or("result is not a tensor")?;
        ty.shape
            .iter()
            .map(|dim| {
                let value =
                    dim.evaluate(self.bindings).ok_or_else(|| format!("dimension '{dim}' has no value"))?;
                usize::try_from(value).map_err(|_| format!("dimension '{dim}' is {value}"))
            })
            .collect()
    }
}

/// How result types follow from operands and attributes.
#[derive(Clone, Copy)]
pub enum Infer {
    /// The maker says them (reshape, cast, constant ...); `verify` checks.
    Explicit,
    /// All results have the type of one operand.
    LikeOperand(usize),
    /// numpy broadcasting of all operands; the element type of the first.
    Broadcast,
    /// Computed.
    With(fn(&Signature) -> Result<Vec<Type>, String>),
}

/// Reference semantics.
#[derive(Clone, Copy)]
pub enum Evaluate {
    /// None: the op is a marker, or below the core level.
    None,
    /// Values to values, obvious and unhurried.
    With(fn(&Invocation) -> Result<Vec<Tensor>, String>),
    /// Control flow: handled by the evaluator through the op's regions.
    Region(fn(&mut crate::evaluate::RegionCall) -> Result<Vec<Tensor>, String>),
}

/// Reference semantics on packed elements: the bytes of each result, by the op's signature and its operands in order.
pub type EvaluatePacked = fn(&Signature, &[&crate::attribute::Elements]) -> Result<Vec<bytes::Bytes>, String>;

/// An op's own rule on its signature.
pub type VerifySignature = fn(&Signature) -> Result<(), String>;

/// An op's own rule on its regions.
pub type VerifyRegions = fn(&Module, OpId) -> Result<(), String>;

/// The single definition of an op.
pub struct OpDef {
    /// `dialect.name`.
    pub name: &'static str,
    /// Formula, shapes and source.
    pub doc: &'static str,
    /// Operands in order.
    pub operands: &'static [ValueDef],
    /// Results in order.
    pub results: &'static [ValueDef],
    /// Attributes; others are refused unless their name holds a dot (discardable, as in MLIR).
    pub attributes: &'static [AttributeDef],
    /// Number of regions.
    pub regions: usize,
    /// Einsum-like iteration axes, `operand, operand -> result; reduce axis`, or empty when opaque. Tiling, fusion,
    /// quantisation and cost read it. `..` stands for leading axes shared by all that show it.
    pub axes: &'static str,
    /// Facts.
    pub traits: Traits,
    /// Result types.
    pub infer: Infer,
    /// Rules beyond operands, attributes and inference.
    pub verify: Option<VerifySignature>,
    /// Rules on regions: what their blocks take and their terminators give. Asked by [`crate::verify::verify`] when the op and
    /// its regions are right in themselves.
    pub verify_regions: Option<VerifyRegions>,
    /// Reference semantics.
    pub evaluate: Evaluate,
    /// The same on packed bytes, for ops on weights that should not be widened to [`Tensor`]s.
    pub evaluate_packed: Option<EvaluatePacked>,
}

impl OpDef {
    /// What a definition starts from: `OpDef { name: .., ..OpDef::DEFAULT }`.
    pub const DEFAULT: OpDef = OpDef {
        name: "",
        doc: "",
        operands: &[],
        results: &[],
        attributes: &[],
        regions: 0,
        axes: "",
        traits: Traits::NONE,
        infer: Infer::Explicit,
        verify: None,
        verify_regions: None,
        evaluate: Evaluate::None,
        evaluate_packed: None,
    };

    /// The part after the dot.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |parts| parts.1)
    }

    /// True if operands need `operandSegmentSizes`.
    pub fn needs_segments(&self) -> bool {
        self.operands.iter().any(|operand| operand.arity == Arity::Optional)
            || self.operands.iter().filter(|operand| operand.arity == Arity::Variadic).count() > 1
    }

    /// True if all facts hold.
    pub fn is(&self, traits: Traits) -> bool {
        self.traits.has(traits)
    }
}

impl PartialEq for OpDef {
    fn eq(&self, other: &OpDef) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for OpDef {}

impl std::fmt::Debug for OpDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
