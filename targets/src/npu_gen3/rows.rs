//! Kernels of kind `rows`, and single `linear`, `matmul` and `matmul_integer`: everything that computes row by row around matrix
//! products with weights.
//!
//! A kernel is parsed into three parts: the prologue (ops that no product feeds: norms), the products with what follows them,
//! in clusters, and per cluster whether its epilogue is elementwise (then it runs on column tiles) or needs rows whole. Rows are
//! the leading dimensions, merged where memory allows it and looped over where not. How parts are scheduled is [`super::rows_schedule`]'s
//! business.
//!
//! ```text
//! n = rms_norm(x, g); gate = linear(n, wg); up = linear(n, wu); y = glu(gate, up)
//!   =>   prologue [rms_norm], cluster { gate, up | glu }
//! ```

use super::kernel::Kernel;
use super::machine::place_product;
use super::product::Product;
use super::rows_schedule::schedule;
use crate::lowering::{Lowering, LoweringContext, PlaceContext, Subject};
use crate::op_command::activation_function;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits, normalize_axis};

/// Rows of this file.
pub static LOWERINGS: &[Lowering] = &[
    Lowering { subject: Subject::Kernel("rows"), place: place_kernel, lower },
    Lowering { subject: Subject::Op(&core::LINEAR), place, lower },
];

/// Ops that multiply matrices.
pub static PRODUCTS: &[&OpDef] = &[&core::LINEAR, &core::MATMUL, &core::MATMUL_INTEGER];

fn place_kernel(context: &PlaceContext) -> Result<(), String> {
    let block = context.module.entry(context.op, 0);
    for op in &context.module.block(block).ops {
        let def = context.module.op(*op).def;
        if def.is(Traits::TERMINATOR) || def.is(Traits::CONSTANT) {
            continue;
        }
        let inner = PlaceContext { op: *op, ..*context };
        if PRODUCTS.contains(&def) { place(&inner)? } else { super::elementwise::place(&inner)? }
    }
    Ok(())
}

/// Whether the matrix engine takes a product.
///
/// # Errors
/// The reason why not.
pub fn place(context: &PlaceContext) -> Result<(), String> {
    let operation = context.operation();
    let x = context.operand(0).ok_or("the left operand is no tensor")?;
    if operation.def == &core::MATMUL && !x.element.is_float() {
        return Err(format!("the matrix engine multiplies floats or 8-bit integers, not {}", x.element));
    }
    let w = context.operand(1).ok_or("the right operand is no tensor")?;
    place_product(context, x.element, w.element)?;
    if operation.def == &core::LINEAR
        && let (Some(w), Some(scale)) = (context.operand(1), context.operand(3))
        && scale.rank() == 2
    {
        let transposed = operation.attributes.get("transpose_weight").and_then(Attribute::as_bool);
        let axis = operation.attributes.get("axis").and_then(Attribute::as_int).unwrap_or(1);
        let k_axis = usize::from(transposed.unwrap_or(false));
        if normalize_axis(axis, w.rank()) != Some(k_axis) {
            return Err("blocks of a weight's scale along its columns".into());
        }
    }
    Ok(())
}

/// A value as rows: [rows, width].
#[derive(Clone, Debug)]
pub struct RowValue {
    /// Width.
    pub width: Dim,
    /// Element type.
    pub element: Element,
    /// Where it lies, [rows, width] (stride 0 along rows where it is the same for all); none inside the kernel.
    pub input: Option<View>,
    /// Where it goes, if it leaves the kernel.
    pub output: Option<View>,
}

/// An op on row values.
#[derive(Clone, Debug)]
pub struct RowNode {
    /// The core op.
    pub op: OpId,
    /// Values by slot.
    pub operands: Vec<Option<usize>>,
    /// Its result.
    pub result: usize,
    /// Whether it works along rows.
    pub is_along_rows: bool,
}

/// A matrix product on row values: the left operand by its index, zero points of an integer product as x [rows, 1] and w [1, n].
pub type RowProduct = Product<usize>;

/// Products and the ops that follow from them.
#[derive(Clone, Debug, Default)]
pub struct RowCluster {
    /// Products.
    pub products: Vec<RowProduct>,
    /// Ops, in order.
    pub nodes: Vec<RowNode>,
    /// Whether all ops are elementwise on one width, so that columns may be cut.
    pub is_column_wise: bool,
}

/// A kernel as rows.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Number of rows.
    pub count: Dim1,
    /// Values.
    pub values: Vec<RowValue>,
    /// Ops that no product feeds.
    pub prologue: Vec<RowNode>,
    /// The rest.
    pub clusters: Vec<RowCluster>,
}

/// A dimension that starts at 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dim1(pub Dim);

impl Default for Dim1 {
    fn default() -> Dim1 {
        Dim1(Dim::Known(1))
    }
}

/// Lowers a rows kernel or a single product.
///
/// # Errors
/// When its smallest tiles do not fit SRAM.
pub fn lower(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let kernel = Kernel::open(context, op)?;
    let first = *kernel.ops.first().ok_or("a kernel without ops")?;
    let ty = context.ty(context.result(first, 0))?;
    let leading: Vec<Dim> = ty.shape[..ty.rank().saturating_sub(1)].to_vec();
    let rows = parse(context, &kernel, &leading)?;
    over_leading(context, &leading, rows, &|context, rows| schedule(context, rows))
}

/// Merges the leading dimensions of all views to one where their strides allow it; loops over the others.
fn over_leading(
    context: &mut LoweringContext,
    leading: &[Dim],
    mut rows: Rows,
    then: &dyn Fn(&mut LoweringContext, &Rows) -> Result<(), String>,
) -> Result<(), String> {
    if leading.contains(&Dim::Known(0)) {
        return Ok(());
    }
    let mut leading = leading.to_vec();
    let each = |rows: &mut Rows, change: &mut dyn FnMut(&mut View)| {
        for value in &mut rows.values {
            value.input.iter_mut().chain(value.output.iter_mut()).for_each(&mut *change);
        }
        for product in rows.clusters.iter_mut().flat_map(|cluster| &mut cluster.products) {
            if let Some([Some(zero), _]) = &mut product.integer_zeros {
                change(zero);
            }
        }
    };
    for axis in (0..leading.len()).rev() {
        if leading[axis] == Dim::Known(1) {
            leading.remove(axis);
            each(&mut rows, &mut |view| *view = view.without_axis(axis));
        }
    }
    if leading.is_empty() {
        each(&mut rows, &mut |view| *view = view.with_axis(0));
        leading.push(Dim::Known(1));
    }
    while leading.len() > 1 {
        let outer = leading.len() - 2;
        let mut merges = leading[outer + 1].known().is_some();
        let length = leading[outer + 1].known().unwrap_or(0);
        each(&mut rows, &mut |view| merges &= view.strides[outer] == view.strides[outer + 1] * length);
        if !merges {
            break;
        }
        leading[outer] = &leading[outer] * &Dim::Known(length);
        let merged = leading[outer].clone();
        leading.remove(outer + 1);
        each(&mut rows, &mut |view| {
            view.strides[outer] = view.strides[outer + 1];
            view.dims[outer] = merged.clone();
            *view = view.without_axis(outer + 1);
        });
    }
    if leading.len() == 1 {
        rows.count = Dim1(leading[0].clone());
        return then(context, &rows);
    }
    let rest = leading[1..].to_vec();
    context.for_loop(&leading[0].clone(), 1, |context, index| {
        let mut rows = rows.clone();
        each(&mut rows, &mut |view| *view = view.at(0, index));
        over_leading(context, &rest, rows, then)
    })
}

/// Parses a kernel. Views keep all leading dimensions.
fn parse(context: &mut LoweringContext, kernel: &Kernel, leading: &[Dim]) -> Result<Rows, String> {
    let mut parser = Parser { kernel, leading, rows: Rows::default(), index: BTreeMap::new(), feeds: vec![] };
    let mut epilogue = Vec::new();
    let mut products = Vec::new();
    for op in &kernel.ops {
        let is_product = PRODUCTS.contains(&context.op(*op).def);
        let operands = Kernel::operands(context, *op);
        let reads = if is_product { &operands[..1] } else { &operands[..] };
        let mut members = Vec::new();
        for operand in reads {
            members.push(operand.map(|value| parser.value(context, value)).transpose()?);
        }
        let mut from: BTreeSet<usize> =
            members.iter().flatten().flat_map(|member| parser.feeds[*member].clone()).collect();
        let result = parser.value(context, context.result(*op, 0))?;
        if is_product {
            if !from.is_empty() {
                return Err("a product of a rows kernel depends on another one of it".into());
            }
            from.insert(products.len());
            let x = members[0].ok_or("a product without a left operand")?;
            products.push(parser.product(context, *op, x, result)?);
        } else {
            let is_along_rows = super::tile_op::ALONG_AXES.contains(&context.op(*op).def);
            let node = RowNode { op: *op, operands: members, result, is_along_rows };
            if from.is_empty() {
                parser.rows.prologue.push(node)
            } else {
                epilogue.push((node, from.clone()))
            }
        }
        parser.feeds[result] = from;
    }
    let mut rows = parser.rows;
    rows.clusters = cluster(context, &rows, products, epilogue);
    Ok(rows)
}

struct Parser<'k> {
    kernel: &'k Kernel,
    leading: &'k [Dim],
    rows: Rows,
    index: BTreeMap<ValueId, usize>,
    /// The products that each value depends on.
    feeds: Vec<BTreeSet<usize>>,
}

impl Parser<'_> {
    fn value(&mut self, context: &mut LoweringContext, value: ValueId) -> Result<usize, String> {
        if let Some(index) = self.index.get(&value) {
            return Ok(*index);
        }
        let ty = context.ty(value)?;
        let width = ty.shape.last().cloned().unwrap_or(Dim::Known(1));
        let dims: Vec<Dim> = self.leading.iter().chain([&width]).cloned().collect();
        let input = if self.kernel.makes(context, value) {
            None
        } else {
            let view = context.view(value)?;
            let view = if view.rank() == 0 { view.with_axis(0) } else { view };
            Some(view.broadcast_to(&dims))
        };
        let output = self.kernel.outputs.get(&value).map(|view| view.broadcast_to(&dims));
        self.rows.values.push(RowValue { width, element: ty.element, input, output });
        self.feeds.push(BTreeSet::new());
        self.index.insert(value, self.rows.values.len() - 1);
        Ok(self.rows.values.len() - 1)
    }

    fn product(
        &self,
        context: &mut LoweringContext,
        op: OpId,
        x: usize,
        result: usize,
    ) -> Result<RowProduct, String> {
        let operation = context.op(op);
        let text = |name: &str| operation.attributes.get(name).and_then(Attribute::as_str);
        let weight = context.weight(op, 1)?;
        let w = weight.w.clone();
        let mut product = RowProduct {
            x,
            w: w.clone(),
            scale: None,
            zero_point: None,
            codebook: weight.codebook.clone(),
            indices: weight.indices.clone(),
            block: 0,
            integer_zeros: None,
            bias: None,
            activation: None,
            result,
        };
        if operation.def == &core::LINEAR {
            let transposed = operation.attributes.get("transpose_weight").and_then(Attribute::as_bool);
            if transposed.unwrap_or(false) {
                let turned = weight.permute(&[1, 0]);
                (product.w, product.indices) = (turned.w, turned.indices);
            }
            product.bias = context.optional(op, 2)?;
            product.activation = text("activation").and_then(activation_function).map(String::from);
            if let Some(scale) = context.optional(op, 3)? {
                let zero_point = context.optional(op, 4)?;
                let weight =
                    Weight { dims: &product.w.dims.clone(), transposed: transposed.unwrap_or(false) };
                product.block = weight.block(context, op, &scale)?;
                product.scale = Some(weight.parameter(context, op, &scale)?);
                product.zero_point =
                    zero_point.map(|zero| weight.parameter(context, op, &zero)).transpose()?;
            }
        } else if operation.def == &core::MATMUL_INTEGER {
            let rows: Vec<Dim> = self.leading.iter().cloned().chain([w.dims[0].clone()]).collect();
            let x_zero = context.optional(op, 2)?.map(|zero| {
                // One per row, or one for all.
                let zero = if zero.rank() == 1 { zero.with_axis(1) } else { zero };
                zero.broadcast_to(&rows)
            });
            let w_zero = context.optional(op, 3)?.map(|zero| zero.broadcast_to(&w.dims));
            product.integer_zeros = Some([x_zero, w_zero]);
        }
        Ok(product)
    }
}

/// How scale and zero point of a weight become [blocks, n].
struct Weight<'d> {
    /// [k, n].
    dims: &'d [Dim],
    transposed: bool,
}

impl Weight<'_> {
    /// The quantised axis, counted in [k, n].
    fn axis(&self, context: &LoweringContext, op: OpId) -> usize {
        let axis = context.op(op).attributes.get("axis").and_then(Attribute::as_int).unwrap_or(1);
        normalize_axis(axis, 2).unwrap_or(1) ^ usize::from(self.transposed)
    }

    fn block(&self, context: &LoweringContext, op: OpId, scale: &View) -> Result<i64, String> {
        let block = context.op(op).attributes.get("block").and_then(Attribute::as_int).unwrap_or(0);
        Ok(match scale.rank() {
            2 => block,
            // A scale per row of k is blocks of one.
            1 if self.axis(context, op) == 0 && scale.dims[0] != Dim::Known(1) => 1,
            _ => 0,
        })
    }

    fn parameter(&self, context: &LoweringContext, op: OpId, view: &View) -> Result<View, String> {
        let n = self.dims[1].clone();
        Ok(match view.rank() {
            0 => view.with_axis(0).with_axis(0).broadcast_to(&[Dim::Known(1), n]),
            1 if view.dims[0] == Dim::Known(1) => view.with_axis(0).broadcast_to(&[Dim::Known(1), n]),
            1 if self.axis(context, op) == 0 => view.with_axis(1).broadcast_to(&[view.dims[0].clone(), n]),
            1 => view.with_axis(0),
            _ if self.transposed => view.permute(&[1, 0]),
            _ => view.clone(),
        })
    }
}

/// Joins products that an op reads together, and decides which clusters may cut columns.
fn cluster(
    context: &LoweringContext,
    rows: &Rows,
    products: Vec<RowProduct>,
    epilogue: Vec<(RowNode, BTreeSet<usize>)>,
) -> Vec<RowCluster> {
    // The cluster of each product; the smallest product names it.
    let mut of: Vec<usize> = (0..products.len()).collect();
    for (_, from) in &epilogue {
        let least = from.iter().map(|product| of[*product]).min().unwrap_or(0);
        let joined: BTreeSet<usize> = from.iter().map(|product| of[*product]).collect();
        for entry in &mut of {
            if joined.contains(entry) {
                *entry = least;
            }
        }
    }
    let names: BTreeSet<usize> = of.iter().copied().collect();
    let mut clusters: Vec<RowCluster> = names.iter().map(|_| RowCluster::default()).collect();
    let place = |name: usize| names.iter().position(|other| *other == name).unwrap_or(0);
    for (index, product) in products.into_iter().enumerate() {
        clusters[place(of[index])].products.push(product);
    }
    for (node, from) in epilogue {
        let name = of[*from.iter().next().unwrap_or(&0)];
        clusters[place(name)].nodes.push(node);
    }
    for cluster in &mut clusters {
        let width = &rows.values[cluster.products[0].result].width;
        let one = Dim::Known(1);
        let fits = |value: &usize| rows.values[*value].width == *width || rows.values[*value].width == one;
        cluster.is_column_wise =
            cluster.products.iter().all(|product| rows.values[product.result].width == *width)
                && cluster.nodes.iter().all(|node| {
                    context.op(node.op).def.is(Traits::ELEMENTWISE)
                        && rows.values[node.result].width == *width
                        && node.operands.iter().flatten().all(fits)
                });
    }
    clusters
}
