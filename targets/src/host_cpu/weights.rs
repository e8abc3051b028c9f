//! Weights of products, packed when the artifact is written: one recipe makes the values, scales and zero points of a weight together, and
//! whoever reads the weight (other products, programs of other lengths, a look-up in a table that is a weight too) shares it.
//!
//! ```text
//! %w, %s = core.quantize_weight(%c)   =>   func @constant_0 { quantize_weight; pad, reshape, transpose of both }
//! core.linear(%x, %w, %s)             =>   matmul b=const[..] i4<n1 x k1 x 2 x 16 x 4> scale=const[..] f16<n1 x blocks x 16>
//! ```

use super::layout::{COLUMNS, Layout, pack_factors};
use crate::host::{Parameters, Weight};
use crate::lowering::LoweringContext;
use crate::view::View;
use tilewright_ir::builder::Builder;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::types::TensorType;

/// The right side of a product and how it is packed.
#[derive(Clone, Copy)]
struct Packing {
    layout: Layout,
    is_turned: bool,
    k: i64,
    n: i64,
    values: ValueId,
    codebook: Option<ValueId>,
    scale: Option<(ValueId, Factors)>,
    zero_point: Option<(ValueId, Factors)>,
    /// Rows of k that share a scale; 0 for all.
    block: i64,
}

/// How scales or zero points lie over a matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Factors {
    /// One for all.
    One,
    /// One per row of k.
    Rows,
    /// One per column.
    Columns,
    /// One per block of rows and column.
    Blocks,
}

impl Packing {
    /// How the weight of a product is packed.
    ///
    /// # Errors
    /// Why it stays as it is.
    fn of(context: &LoweringContext, op: OpId) -> Result<Packing, String> {
        let operation = context.op(op);
        let weight = operation.operands.get(1).copied().ok_or("a product without a weight")?;
        let (values, codebook) = context.stored_values(weight)?;
        let factor = |slot: usize| {
            let value =
                (operation.def == &core::LINEAR).then(|| context.source.operand_at(op, slot)).flatten();
            value.map(|value| context.outer(value))
        };
        let (scale, zero_point) = (factor(3), factor(4));
        let all = [Some(values), codebook, scale, zero_point];
        if !all.into_iter().flatten().all(|value| context.is_constant(value)) {
            return Err("its weight is not known when the artifact is written".into());
        }
        let ty = context.ty(values)?;
        let layout =
            Layout::of(ty.element).ok_or_else(|| format!("weights of {} are not packed", ty.element))?;
        let shape = ty.known_shape().ok_or("its weight has no known size")?;
        let [rows, columns] = shape[..] else { return Err("its weight is no matrix".into()) };
        let is_turned = context.fields(op).flag("transpose_weight", false);
        let (k, n) = if is_turned { (columns, rows) } else { (rows, columns) };
        if k == 0 || 2 * n < COLUMNS {
            return Err(format!("{n} columns do not fill a vector register"));
        }
        let mut packing =
            Packing { layout, is_turned, k, n, values, codebook, scale: None, zero_point: None, block: 0 };
        packing.add_factors(context, op, scale, zero_point)?;
        Ok(packing)
    }

    fn add_factors(
        &mut self,
        context: &LoweringContext,
        op: OpId,
        scale: Option<ValueId>,
        zero_point: Option<ValueId>,
    ) -> Result<(), String> {
        let Some(scale) = scale else { return Ok(()) };
        let zero = zero_point.map(|zero| context.ty(zero)).transpose()?;
        if zero.is_some_and(|zero| Ok(zero.element) != context.ty(self.values).map(|ty| ty.element)) {
            return Err("its zero points are of another type than its weight".into());
        }
        let scale_type = context.ty(scale)?;
        if !matches!(scale_type.element, Element::F32 | Element::F16 | Element::BF16) {
            return Err(format!("scales of {} are not packed", scale_type.element));
        }
        let fields = context.fields(op);
        let parameters = Parameters::of(fields, 2, &scale_type.shape, zero.map(|zero| &zero.shape[..]))?;
        let k_axis = usize::from(self.is_turned);
        let (factors, block) = match parameters {
            Parameters::Tensor => (Factors::One, 0),
            Parameters::Axis(axis) if axis == k_axis => (Factors::Rows, 1),
            Parameters::Axis(_) => (Factors::Columns, 0),
            Parameters::Blocks(axis, block) if axis == k_axis => (Factors::Blocks, block),
            Parameters::Blocks(..) => return Err("its scales come in blocks of columns".into()),
        };
        self.block = block;
        self.scale = Some((scale, factors));
        self.zero_point = zero_point.map(|zero| (zero, factors));
        Ok(())
    }

    /// Declares the packed constants: the values `[n1, k1, halves, columns, rows]`, scales and zero points `[n1, blocks, columns]`.
    fn declare(&self, context: &mut LoweringContext) -> Result<Weight, String> {
        let factors = [self.scale, self.zero_point];
        let given: Vec<ValueId> =
            std::iter::once(self.values).chain(factors.iter().flatten().map(|factor| factor.0)).collect();
        let kinds: Vec<Factors> = factors.iter().flatten().map(|factor| factor.1).collect();
        let function =
            context.constant_function(&given, |builder, copies| self.recipe(builder, &copies, &kinds))?;
        let ty = |shape: &[i64], element: Element| TensorType::of(element, shape);
        let own = self.layout.shape(self.k, self.n);
        let element = context.ty(self.values)?.element;
        let is_only = given.len() == 1;
        let values =
            context.constant_result(&function, (!is_only).then_some(0), &ty(&own, element), self.values)?;
        let mut at = 0;
        let mut factor = |context: &mut LoweringContext, one: Option<(ValueId, Factors)>| {
            let Some((value, kind)) = one else { return Ok::<_, String>(None) };
            at += 1;
            let stored = context.ty(value)?;
            let blocks = if kind == Factors::Blocks { (self.k + self.block - 1) / self.block } else { 1 };
            let shape = match kind {
                Factors::Rows => stored.known_shape().ok_or("scales of unknown shape")?.to_vec(),
                Factors::One | Factors::Columns | Factors::Blocks => vec![own[0], blocks, COLUMNS],
            };
            let view = context.constant_result(&function, Some(at), &ty(&shape, stored.element), value)?;
            Ok(Some(self.over_tiles(&view, kind)))
        };
        let scale = factor(context, self.scale)?;
        let zero_point = factor(context, self.zero_point)?;
        let codebook = self.codebook.map(|value| context.view(value)).transpose()?;
        Ok(Weight { w: values.permute(&[0, 1, 4, 2, 3]), scale, zero_point, codebook, block: self.block })
    }

    fn recipe(
        &self,
        builder: &mut Builder,
        copies: &[ValueId],
        kinds: &[Factors],
    ) -> Result<Vec<ValueId>, String> {
        let mut results = vec![self.layout.pack(builder, copies[0], self.is_turned)?];
        for (value, kind) in copies[1..].iter().zip(kinds) {
            results.push(match kind {
                Factors::Rows => *value,
                Factors::Blocks => pack_factors(builder, *value, self.is_turned)?,
                Factors::One | Factors::Columns => {
                    let element = builder.module.tensor(*value).ok_or("expected a tensor")?.element;
                    let row = TensorType::of(element, &[1, self.n]);
                    let (mut factors, mut spread) = (*value, &core::RESHAPE);
                    if *kind == Factors::One {
                        let one = TensorType::of(element, &[1, 1]);
                        factors = builder.op(&core::RESHAPE).operand(factors).result(one).value()?;
                        spread = &core::BROADCAST;
                    }
                    let row = builder.op(spread).operand(factors).result(row).value()?;
                    pack_factors(builder, row, false)?
                }
            });
        }
        Ok(results)
    }

    /// Scales or zero points as products read them.
    fn over_tiles(&self, view: &View, kind: Factors) -> View {
        let n1 = Dim::Known(self.layout.shape(self.k, self.n)[0]);
        match kind {
            Factors::Rows => view.with_axis(1).broadcast_to(&[n1, view.dims[0].clone(), Dim::Known(COLUMNS)]),
            Factors::One | Factors::Columns | Factors::Blocks => view.clone(),
        }
    }
}

/// The packed weight of a product.
///
/// # Errors
/// Why it stays as it is.
pub(super) fn packed(context: &mut LoweringContext, op: OpId, _: bool) -> Result<Weight, String> {
    Packing::of(context, op)?.declare(context)
}

/// Rows of a table that is also the weight of a product: `[n1, columns, ..]`, of which row `j` is index `(j / columns, j % columns)`.
/// What follows are the elements of a row, in order.
///
/// # Errors
/// Why the table has to lie in rows.
pub(super) fn rows_of_table(context: &mut LoweringContext, table: ValueId) -> Result<View, String> {
    let table = context.outer(table);
    let (op, slot) = product_of_equal(context, table).ok_or("no product reads the table")?;
    let packing = Packing::of(context, op)?;
    // Rows behind the table's end must not be found, and a row's padding must not be seen.
    if !packing.is_turned || packing.n % COLUMNS != 0 || packing.k % packing.layout.depth() != 0 {
        return Err("its rows do not fill tiles".into());
    }
    let kind = |factor: Option<(ValueId, Factors)>| factor.map(|factor| factor.1);
    let weight = match slot {
        1 if packing.codebook.is_none() => packing.declare(context)?.w.permute(&[0, 3, 1, 2, 4]),
        3 if kind(packing.scale) == Some(Factors::Blocks) => blocks_last(packing.declare(context)?.scale)?,
        4 if kind(packing.zero_point) == Some(Factors::Blocks) => {
            blocks_last(packing.declare(context)?.zero_point)?
        }
        _ => return Err("it is no matrix of the product".into()),
    };
    Ok(weight)
}

/// `[n1, blocks, columns]` as `[n1, columns, blocks]`.
fn blocks_last(view: Option<View>) -> Result<View, String> {
    Ok(view.ok_or("a weight without scales")?.permute(&[0, 2, 1]))
}

/// The first product that reads a value, or a constant equal to it, as its weight.
fn product_of_equal(context: &LoweringContext, table: ValueId) -> Option<(OpId, usize)> {
    let module = context.source;
    product_of(module, table).or_else(|| {
        let elements = context.elements(table)?;
        let is_equal = |value: &ValueId| *value != table && context.elements(*value) == Some(elements);
        let constants = module.all_ops().into_iter().filter(|op| module.op(*op).def == &core::CONSTANT);
        constants.map(|op| module.result(op)).filter(is_equal).find_map(|value| product_of(module, value))
    })
}

/// The first product that reads a value as its weight, and as which operand; through the arguments of kernels.
fn product_of(module: &Module, value: ValueId) -> Option<(OpId, usize)> {
    module.value(value).users.iter().find_map(|user| {
        let operation = module.op(*user);
        if operation.def == &core::KERNEL {
            let arguments = &module.block(module.entry(*user, 0)).arguments;
            let given = operation.operands.iter().zip(arguments).filter(|pair| *pair.0 == value);
            return given.into_iter().find_map(|(_, argument)| product_of(module, *argument));
        }
        let slots: &[usize] = match operation.def {
            def if def == &core::LINEAR => &[1, 3, 4],
            def if def == &core::MATMUL => &[1],
            _ => &[],
        };
        let slot = slots.iter().find(|slot| module.operand_at(*user, **slot) == Some(value))?;
        Some((*user, *slot))
    })
}
