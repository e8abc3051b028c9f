//! Where elements lie: registers, buffers, constants, arguments, views. None of these becomes a command.
//!
//! ```text
//! "tile.register"() {minimum = 0, maximum = 511, name = "past_seq", role = "bound"} : () -> ()
//! %k = "tile.argument"() {capacity = array<i64: 1, 2, 512, 16>, name = "past.0.key", role = "state"} : () -> memref<..>
//! %v = "tile.view"(%k) {dims = [1, 2, "past_seq", 16], offset = 0, strides = array<i64: 16384, 8192, 16, 1>} : (..) -> memref<..>
//! ```

use crate::dim::Dim;
use crate::op_def::{AttributeRule, Infer, OpDef, Signature, TypeRule, attribute, optional_attribute, value};
use crate::types::ViewType;

/// A run-time number of the program.
pub static REGISTER: OpDef = OpDef {
    name: "tile.register",
    doc: "Declares a register by name: a symbol that expressions may use, with the range it may take. `bound` ones are set by the \
          caller before a run (a context length), `scratch` ones by `tile.set_register`.",
    attributes: &[
        attribute("name", AttributeRule::Str),
        attribute("minimum", AttributeRule::Int),
        attribute("maximum", AttributeRule::Int),
        attribute("role", AttributeRule::OneOf(&["bound", "scratch"])),
    ],
    ..OpDef::DEFAULT
};

/// A buffer of `dram`, `sram` or `acc`.
pub static BUFFER: OpDef = OpDef {
    name: "tile.buffer",
    doc: "Memory for the result's elements, laid out row-major by `capacity` (one length per dimension; the dimensions \
          themselves may be expressions that stay at or below it). Its contents are undefined until written. A \
          buffer lives in the block that declares it: inside a loop it does not carry over to the next iteration. \
          `offset_bytes` is its place in the space, once memory is planned.",
    results: &[value("buffer", TypeRule::View)],
    attributes: &[
        attribute("capacity", AttributeRule::Ints),
        optional_attribute("offset_bytes", AttributeRule::Int),
    ],
    infer: Infer::Explicit,
    verify: Some(verify_capacity),
    ..OpDef::DEFAULT
};

/// Constant elements in the artifact.
pub static CONSTANT: OpDef = OpDef {
    name: "tile.constant",
    doc: "Constant elements in space `const`: `value` itself, or result number `result` (0 when left out) of the private core function \
          `function`, which takes no arguments and is evaluated when the artifact is written (quantised or transposed weights).",
    results: &[value("constant", TypeRule::View)],
    attributes: &[
        optional_attribute("value", AttributeRule::Elements),
        optional_attribute("function", AttributeRule::Symbol),
        optional_attribute("result", AttributeRule::Int),
        optional_attribute("offset_bytes", AttributeRule::Int),
    ],
    verify: Some(verify_constant),
    ..OpDef::DEFAULT
};

/// An input, output or state of the program.
pub static ARGUMENT: OpDef = OpDef {
    name: "tile.argument",
    doc: "Memory that the caller sees, laid out row-major by `capacity`: an `input` or `output` of one run (space `io`), or a \
          `state` that stays between runs (space `state`): it is the model's input `name` before a run and its \
          output `output_name`, of dimensions `output_dims`, after; `growing_axis` is the dimension that gets \
          longer, if one does. `recent` = [ring, block, keep] marks a part of a cache that is quantised in blocks: tokens of its \
          ring of recent entries, tokens per block, tokens that stay unquantised.",
    results: &[value("argument", TypeRule::View)],
    attributes: &[
        attribute("name", AttributeRule::Str),
        attribute("role", AttributeRule::OneOf(&["input", "output", "state"])),
        attribute("capacity", AttributeRule::Ints),
        optional_attribute("output_name", AttributeRule::Str),
        optional_attribute("output_dims", AttributeRule::Dims),
        optional_attribute("growing_axis", AttributeRule::Int),
        optional_attribute("recent", AttributeRule::Ints),
        optional_attribute("offset_bytes", AttributeRule::Int),
    ],
    verify: Some(verify_capacity),
    ..OpDef::DEFAULT
};

/// A strided window.
pub static VIEW: OpDef = OpDef {
    name: "tile.view",
    doc: "Element (i0, i1, ..) of the result is element `offset + sum(i * strides)` of the buffer's memory, counted in the result's \
          elements (which may differ in type from the buffer's). Strides may be 0 (broadcast) or negative (reversal).",
    operands: &[value("buffer", TypeRule::View)],
    results: &[value("view", TypeRule::View)],
    attributes: &[
        attribute("offset", AttributeRule::Dim),
        attribute("dims", AttributeRule::Dims),
        attribute("strides", AttributeRule::Ints),
    ],
    verify: Some(verify_view),
    ..OpDef::DEFAULT
};

fn result_view<'a>(signature: &Signature<'a>) -> Result<&'a ViewType, String> {
    let ty = signature.results.first().ok_or("needs one result")?;
    ty.as_view().ok_or_else(|| format!("the result must be a memref, found {ty}"))
}

fn verify_capacity(signature: &Signature) -> Result<(), String> {
    let view = result_view(signature)?;
    let capacity = signature.ints("capacity");
    if capacity.len() != view.shape.len() {
        return Err(format!("capacity has {} lengths for rank {}", capacity.len(), view.shape.len()));
    }
    for (axis, (dim, capacity)) in view.shape.iter().zip(capacity).enumerate() {
        if dim.known().is_some_and(|known| known > *capacity) || *capacity < 0 {
            return Err(format!("dimension {axis} is {dim}, above its capacity {capacity}"));
        }
    }
    Ok(())
}

fn verify_constant(signature: &Signature) -> Result<(), String> {
    let view = result_view(signature)?;
    match (signature.attribute("value"), signature.attribute("function")) {
        (Some(_), None) | (None, Some(_)) => {}
        _ => return Err("needs either 'value' or 'function'".into()),
    }
    if view.shape.iter().any(|dim| dim.known().is_none()) {
        return Err("a constant's dimensions must be numbers".into());
    }
    match signature.attribute("value").and_then(|value| value.as_elements()) {
        Some(elements) if elements.ty().element != view.element || elements.ty().shape != view.shape => {
            Err(format!("value is {}, the result {}", elements.ty(), signature.results[0]))
        }
        _ => Ok(()),
    }
}

fn verify_view(signature: &Signature) -> Result<(), String> {
    let view = result_view(signature)?;
    let dims = signature.attribute("dims").and_then(|dims| dims.as_dims()).ok_or("dims are not readable")?;
    let strides = signature.ints("strides");
    if dims.as_slice() != view.shape.as_slice() {
        let found: Vec<String> = dims.iter().map(Dim::to_string).collect();
        return Err(format!("dims are [{}], the result is {}", found.join(", "), signature.results[0]));
    }
    if strides.len() != dims.len() {
        return Err(format!("{} strides for rank {}", strides.len(), dims.len()));
    }
    match signature.operands.first().and_then(|ty| ty.as_view()) {
        Some(buffer) if buffer.space != view.space => {
            Err(format!("the buffer is in space '{}', the view in '{}'", buffer.space, view.space))
        }
        _ => Ok(()),
    }
}
