//! Which element types and ranks each command takes, as far as they do not depend on registers.
//!
//! Extents are compared when they are plain numbers on both sides. One arm per command, in the table's order.

use crate::commands::{
    BinaryFunction, Command, ExpressionId, KeyPart, PoolFunction, ReduceFunction, UnaryFunction, ViewId,
};
use crate::element::Element;
use crate::kernels::packed::PACKED_DIMS;
use crate::stream::Program;
use crate::view::View;

/// The expressions a command evaluates, besides those of its views.
pub(super) fn expressions(command: &Command) -> impl Iterator<Item = ExpressionId> {
    let id = match command {
        Command::LoopBegin { end, .. } => Some(*end),
        Command::StoreExpression { value, .. } => Some(*value),
        Command::Iota { start, .. } => Some(*start),
        Command::Attention { causal_offset, .. } => *causal_offset,
        _ => None,
    };
    id.into_iter()
}

type Result = std::result::Result<(), String>;

fn require(condition: bool, message: &str) -> Result {
    if condition { Ok(()) } else { Err(message.to_owned()) }
}

/// Ranks agree, and extents where both are plain numbers.
fn same_shape(what: &str, left: &View, right: &View) -> Result {
    if left.rank() != right.rank() {
        return Err(format!("{what}: ranks {} and {} differ", left.rank(), right.rank()));
    }
    for (axis, (a, b)) in left.dims.iter().zip(&right.dims).enumerate() {
        if a.bound.is_none() && b.bound.is_none() && a.cap != b.cap {
            return Err(format!("{what}: extents {} and {} of dimension {axis} differ", a.cap, b.cap));
        }
    }
    Ok(())
}

fn same_element(what: &str, left: &View, right: &View) -> Result {
    if left.element == right.element {
        return Ok(());
    }
    Err(format!("{what}: elements {} and {} differ", left.element, right.element))
}

fn float(what: &str, view: &View) -> Result {
    if view.element.is_float() { Ok(()) } else { Err(format!("{what} must be float, not {}", view.element)) }
}

fn integer(what: &str, view: &View) -> Result {
    if view.element.is_integer() {
        Ok(())
    } else {
        Err(format!("{what} must be integer, not {}", view.element))
    }
}

fn axis_of(axis: u8, view: &View) -> Result {
    require(usize::from(axis) < view.rank(), "the axis is not less than the rank")
}

/// The parts of a compressed right operand.
fn compressed(b: &View, codebook: Option<&View>, indices: Option<&View>, destination: &View) -> Result {
    if let Some(codebook) = codebook {
        float("codebook", codebook)?;
        require(codebook.rank() == 1 && codebook.dims[0].cap >= 16, "a codebook has 16 entries")?;
        require(b.element == Element::U4, "codes of a codebook must be u4")?;
        require(destination.element.is_float(), "a coded product must be float")?;
    }
    indices.map_or(Ok(()), |indices| {
        require(indices.element == Element::U2, "indices of a sparse operand must be u2")?;
        same_shape("b and its indices", b, indices)
    })
}

/// Panels of a packed operand cover columns and k, where extents are plain numbers.
fn panels(destination: &View, a: &View, b: &View) -> Result {
    let fixed = |view: &View, from_end: usize| {
        let extent = &view.dims[view.rank() - from_end];
        extent.bound.is_none().then_some(extent.cap)
    };
    let [Some(columns), Some(rows), Some(groups)] = [2, 1, 3].map(|from_end| fixed(b, from_end)) else {
        return Err("the extents of a panel must be numbers".to_owned());
    };
    require(columns >= 1 && rows >= 1 && groups >= 1, "a panel is empty")?;
    let covers = |length: Option<u32>, of: u32, count: Option<u32>| match (length, count) {
        (Some(length), Some(count)) => length.div_ceil(of) == count,
        _ => true,
    };
    require(covers(fixed(destination, 1), columns, fixed(b, 5)), "panels do not cover the columns")?;
    require(covers(fixed(a, 1), groups.saturating_mul(rows), fixed(b, 4)), "panels do not cover k")
}

/// Checks one command whose view ids are in range (others are accepted; they were found before).
pub(super) fn check(program: &Program, command: &Command) -> Result {
    use Command as C;
    let mut missing = false;
    command.for_each_view(|_, _, id| missing |= id.0 as usize >= program.views.len());
    if missing {
        return Ok(());
    }
    let v = |id: &ViewId| &program.views[id.0 as usize];
    let maybe = |id: &Option<ViewId>| id.map(|id| &program.views[id.0 as usize]);
    match command {
        C::End {} | C::LoopBegin { .. } | C::LoopEnd {} | C::Else {} | C::IfEnd {} | C::Wait { .. } => Ok(()),
        C::Target { .. } => Ok(()),
        C::BreakUnless { condition } | C::IfBegin { condition } => {
            require(v(condition).element == Element::Bool, "the condition must be bool")
        }
        C::SetRegister { source, .. } => integer("the source", v(source)),
        C::StoreExpression { destination, .. } => integer("the destination", v(destination)),
        C::Transfer { destination, source, .. } => {
            same_element("destination and source", v(destination), v(source))?;
            same_shape("destination and source", v(destination), v(source))
        }
        C::Gather { destination, source, indices, axis, .. } => {
            axis_of(*axis, v(source))?;
            integer("indices", v(indices))?;
            same_element("destination and source", v(destination), v(source))?;
            require(v(destination).rank() + 1 == v(source).rank() + v(indices).rank(), "ranks do not fit")
        }
        C::GatherElements { destination, source, indices, axis, .. } => {
            axis_of(*axis, v(source))?;
            integer("indices", v(indices))?;
            same_element("destination and source", v(destination), v(source))?;
            same_shape("destination and indices", v(destination), v(indices))
        }
        C::ScatterElements { destination, indices, updates, axis, .. } => {
            axis_of(*axis, v(destination))?;
            integer("indices", v(indices))?;
            same_element("destination and updates", v(destination), v(updates))?;
            same_shape("indices and updates", v(indices), v(updates))
        }
        C::GatherNd { destination, source, indices, batch_dims, .. } => {
            integer("indices", v(indices))?;
            same_element("destination and source", v(destination), v(source))?;
            require(usize::from(*batch_dims) < v(indices).rank(), "batch_dims does not fit")
        }
        C::ScatterNd { destination, indices, updates, .. } => {
            integer("indices", v(indices))?;
            same_element("destination and updates", v(destination), v(updates))
        }
        C::Fill { .. } => Ok(()),
        C::Iota { destination, axis, .. } => axis_of(*axis, v(destination)),
        C::Matmul { destination, a, b, scale, zero_point, codebook, indices, .. } => {
            let rank = v(destination).rank();
            compressed(v(b), maybe(codebook), maybe(indices), v(destination))?;
            let is_packed = v(b).rank() == rank + PACKED_DIMS;
            require(
                rank >= 2 && v(a).rank() == rank && (v(b).rank() == rank || is_packed),
                "ranks must be equal and at least 2; a packed b has 3 dimensions more",
            )?;
            require(!is_packed || indices.is_none(), "a packed b cannot be sparse")?;
            let quantised = scale.is_some() || zero_point.is_some();
            require(!quantised || v(destination).element.is_float(), "a scaled product must be float")?;
            for factor in [maybe(scale), maybe(zero_point)].into_iter().flatten() {
                let rank = rank + usize::from(is_packed);
                require(
                    factor.rank() == rank,
                    "scale and zero point must have b's rank; 2 less when it is packed",
                )?;
            }
            if is_packed {
                panels(v(destination), v(a), v(b))?;
            }
            maybe(scale).map_or(Ok(()), |scale| float("scale", scale))
        }
        C::MatmulInteger { destination, a, b, a_zero, b_zero, .. } => {
            let rank = v(destination).rank();
            require(
                rank >= 2 && v(a).rank() == rank && v(b).rank() == rank,
                "ranks must be equal and at least 2",
            )?;
            require(v(destination).element == Element::I32, "the destination must be i32")?;
            integer("a", v(a))?;
            integer("b", v(b))?;
            maybe(a_zero).map_or(Ok(()), |zero| same_shape("a and its zero point", v(a), zero))?;
            maybe(b_zero).map_or(Ok(()), |zero| same_shape("b and its zero point", v(b), zero))
        }
        C::Convolution { x, w, x_zero, w_zero, .. }
            if (*x_zero != 0 && v(x).element.is_float()) || (*w_zero != 0 && v(w).element.is_float()) =>
        {
            require(false, "floats have no zero point")
        }
        C::Convolution { destination, x, w, .. } | C::ConvTranspose { destination, x, w, .. } => {
            let rank = v(destination).rank();
            require((3..=5).contains(&rank), "1 to 3 spatial dimensions")?;
            require(v(x).rank() == rank && v(w).rank() == rank, "ranks must be equal")
        }
        C::Pool { function, destination, x, .. } => {
            require((3..=5).contains(&v(x).rank()), "1 to 3 spatial dimensions")?;
            require(*function == PoolFunction::Maximum || v(x).element.is_float(), "a mean needs floats")?;
            same_element("destination and x", v(destination), v(x))
        }
        C::Attention {
            accumulator,
            running_maximum,
            running_sum,
            q,
            k,
            v: values,
            mask,
            k_scale,
            k_offset,
            v_scale,
            v_offset,
            causal_offset,
            group,
            block,
            part,
            ..
        } => {
            float("q", v(q))?;
            let grouped = [("k", v(k), k_scale, k_offset), ("v", v(values), v_scale, v_offset)];
            for (what, view, scale, offset) in grouped {
                if scale.is_none() && offset.is_none() {
                    float(what, view)?;
                }
                for factor in [maybe(scale), maybe(offset)].into_iter().flatten() {
                    float("a scale or offset", factor)?;
                    require(factor.rank() == view.rank(), "scale and offset must have the rank of k or v")?;
                    if let (Some(width), Some(groups)) = (view.dims.last(), factor.dims.last())
                        && width.bound.is_none()
                        && groups.bound.is_none()
                    {
                        let divides = groups.cap >= 1 && width.cap.is_multiple_of(groups.cap);
                        require(divides, "groups must divide the width of k or v")?;
                    }
                }
            }
            for view in [v(q), v(k), v(values)] {
                require(
                    view.rank() == v(accumulator).rank() && view.rank() >= 2,
                    "ranks must be equal and at least 2",
                )?;
            }
            for view in [accumulator, running_maximum, running_sum] {
                require(v(view).element == Element::F32, "accumulator, maximum and sum must be f32")?;
            }
            same_shape("maximum and sum", v(running_maximum), v(running_sum))?;
            require(*group >= 1 && *block >= 1, "group and block must be at least 1")?;
            let knows_age = *part == KeyPart::All || causal_offset.is_some();
            require(knows_age, "a part of the keys needs an offset")?;
            maybe(mask).map_or(Ok(()), |mask| {
                require(
                    mask.element == Element::Bool || mask.element.is_float(),
                    "the mask must be bool or float",
                )
            })
        }
        C::AttentionFinish { destination, accumulator, sum, .. } => {
            float("destination", v(destination))?;
            require(v(sum).rank() + 1 == v(accumulator).rank(), "ranks do not fit")?;
            same_shape("destination and accumulator", v(destination), v(accumulator))
        }
        C::Unary { function, destination, x, .. } => {
            let tests =
                matches!(function, UnaryFunction::IsNan | UnaryFunction::IsInfinite | UnaryFunction::Not);
            let is_bool = v(destination).element == Element::Bool;
            require(
                !tests || is_bool || v(destination).element == v(x).element,
                "the destination must be bool",
            )?;
            same_shape("destination and x", v(destination), v(x))
        }
        C::Binary { function, destination, a, b, .. } => {
            same_element("a and b", v(a), v(b))?;
            let truth = function.is_comparison();
            require(!truth || v(destination).element == Element::Bool, "a comparison makes bool")?;
            let bitwise = matches!(
                function,
                BinaryFunction::And
                    | BinaryFunction::Or
                    | BinaryFunction::Xor
                    | BinaryFunction::ShiftLeft
                    | BinaryFunction::ShiftRight
            );
            require(!bitwise || !v(a).element.is_float(), "bitwise functions need integers")?;
            same_shape("destination and a", v(destination), v(a))?;
            same_shape("destination and b", v(destination), v(b))
        }
        C::Select { destination, condition, a, b, .. } => {
            require(v(condition).element == Element::Bool, "the condition must be bool")?;
            same_element("a and b", v(a), v(b))?;
            same_element("destination and a", v(destination), v(a))?;
            [condition, a, b].into_iter().try_for_each(|view| same_shape("operands", v(destination), v(view)))
        }
        C::Convert { destination, x, .. } => same_shape("destination and x", v(destination), v(x)),
        C::Quantize { destination, x, scale, zero_point, .. } => {
            require(v(x).element.is_float() || v(x).element == Element::I32, "x must be float or i32")?;
            same_shape("destination and x", v(destination), v(x))?;
            same_shape("x and scale", v(x), v(scale))?;
            maybe(zero_point).map_or(Ok(()), |zero| same_shape("x and zero point", v(x), zero))
        }
        C::Dequantize { destination, x, scale, zero_point, .. } => {
            float("destination", v(destination))?;
            same_shape("destination and x", v(destination), v(x))?;
            same_shape("x and scale", v(x), v(scale))?;
            maybe(zero_point).map_or(Ok(()), |zero| same_shape("x and zero point", v(x), zero))
        }
        C::QuantizeGroups { destination, scale, offset, x, .. } => {
            float("x", v(x))?;
            integer("destination", v(destination))?;
            same_shape("destination and x", v(destination), v(x))?;
            same_shape("scale and offset", v(scale), v(offset))?;
            float("scale", v(scale))?;
            float("offset", v(offset))?;
            require(v(scale).rank() == v(x).rank() && v(x).rank() >= 1, "scale must have x's rank")
        }
        C::Reduce { function, destination, x, accumulate, .. } => {
            require(!(*accumulate && *function == ReduceFunction::Mean), "a mean cannot accumulate")?;
            require(v(destination).rank() == v(x).rank(), "ranks must be equal")
        }
        C::Softmax { destination, x, .. } => {
            float("x", v(x))?;
            same_shape("destination and x", v(destination), v(x))
        }
        C::Normalize { destination, x, gain, bias, .. } => {
            float("x", v(x))?;
            same_shape("destination and x", v(destination), v(x))?;
            let factors = [maybe(gain), maybe(bias)].into_iter().flatten();
            factors.into_iter().try_for_each(|factor| same_shape("x and gain or bias", v(x), factor))
        }
        C::Rope { destination, x, cos, sin, .. } => {
            float("x", v(x))?;
            same_shape("destination and x", v(destination), v(x))?;
            require(v(cos).rank() == v(x).rank() && v(x).rank() >= 1, "cos and sin must have x's rank")?;
            same_shape("cos and sin", v(cos), v(sin))
        }
        C::Cumulative { destination, x, axis, .. } => {
            axis_of(*axis, v(x))?;
            same_shape("destination and x", v(destination), v(x))
        }
        C::ArgReduce { destination, x, axis, .. } => {
            axis_of(*axis, v(x))?;
            integer("destination", v(destination))?;
            require(v(destination).rank() == v(x).rank(), "ranks must be equal")
        }
        C::TopK { values, indices, x, axis, .. } => {
            axis_of(*axis, v(x))?;
            integer("indices", v(indices))?;
            same_element("values and x", v(values), v(x))?;
            same_shape("values and indices", v(values), v(indices))?;
            require(v(values).rank() == v(x).rank(), "ranks must be equal")
        }
    }
}
