//! The table from tile ops to commands: one row per command, one word per field that says how it is read. Views are read by the
//! operand's name, other fields by the attribute's.
//!
//! ```text
//! UNARY => Unary { engine: engine, function: name, destination: view, x: view, alpha: real, beta: real }
//! ```

use super::Emitter;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::tile;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::{OpId, ValueId};
use tilewright_runtime::commands::{
    ArgFunction, BinaryFunction, Command, CumulativeFunction, Engine, ExpressionId, KeyPart, NormalizeKind,
    PoolFunction, ReduceFunction, Register, Rounding, ScatterReduction, UnaryFunction, ViewId,
};

macro_rules! table {
    ($($op:ident => $variant:ident { $($field:ident: $reader:ident),* $(,)? };)*) => {
        /// The command of a tile op.
        pub(super) fn command(emitter: &mut Emitter, op: OpId) -> Result<Command, String> {
            let def = emitter.module.op(op).def;
            $(if def == &tile::$op {
                return Ok(Command::$variant {
                    $($field: Reader { emitter: &mut *emitter, op }.$reader(stringify!($field))?),*
                });
            })*
            Err("it is not in the table of commands".to_string())
        }
    };
}

table! {
    UNARY => Unary { engine: engine, function: name, destination: view, x: view, alpha: real, beta: real };
    BINARY => Binary { engine: engine, function: name, destination: view, a: view, b: view };
    TRANSFER => Transfer { engine: engine, token: token, destination: view, source: view };
    MATMUL => Matmul {
        engine: engine, destination: view, a: view, b: view, scale: maybe, zero_point: maybe, codebook: maybe,
        indices: maybe, block: number, accumulate: flag,
    };
    MATMUL_INTEGER => MatmulInteger {
        engine: engine, destination: view, a: view, b: view, a_zero: maybe, b_zero: maybe, accumulate: flag,
    };
    CONVOLUTION => Convolution {
        engine: engine, destination: view, x: view, w: view, strides: ones, dilations: ones, pads_low: zeros,
        groups: number, x_zero: zero, w_zero: zero, accumulate: flag,
    };
    CONV_TRANSPOSE => ConvTranspose {
        engine: engine, destination: view, x: view, w: view, strides: ones, dilations: ones, pads_low: zeros,
        groups: number, accumulate: flag,
    };
    POOL => Pool {
        engine: engine, function: name, destination: view, x: view, kernel: ones, strides: ones, dilations: ones,
        pads_low: zeros, pads_high: zeros, count_include_pad: flag,
    };
    ATTENTION => Attention {
        engine: engine, accumulator: view, running_maximum: view, running_sum: view, q: view, k: view, v: view,
        mask: maybe, scale: single, softcap: single, causal_offset: maybe_expression, window: number, group: positive,
        k_scale: maybe, k_offset: maybe, v_scale: maybe, v_offset: maybe, block: positive, part: part, keep: number,
        ahead: flag,
    };
    QUANTIZE_GROUPS => QuantizeGroups { engine: engine, destination: view, scale: view, offset: view, x: view };
    ATTENTION_FINISH => AttentionFinish { engine: engine, destination: view, accumulator: view, sum: view };
    SELECT => Select { engine: engine, destination: view, condition: view, a: view, b: view };
    CONVERT => Convert { engine: engine, destination: view, x: view, saturate: flag, rounding: rounding };
    QUANTIZE => Quantize { engine: engine, destination: view, x: view, scale: view, zero_point: maybe };
    DEQUANTIZE => Dequantize { engine: engine, destination: view, x: view, scale: view, zero_point: maybe };
    REDUCE => Reduce { engine: engine, function: name, destination: view, x: view, accumulate: flag };
    SOFTMAX => Softmax { engine: engine, destination: view, x: view, log: flag };
    NORMALIZE => Normalize {
        engine: engine, kind: name, destination: view, x: view, gain: maybe, bias: maybe, epsilon: single,
    };
    ROPE => Rope { engine: engine, destination: view, x: view, cos: view, sin: view, interleaved: flag };
    CUMULATIVE => Cumulative {
        engine: engine, function: name, destination: view, x: view, axis: axis, exclusive: flag, reverse: flag,
    };
    ARG_REDUCE => ArgReduce {
        engine: engine, function: name, destination: view, x: view, axis: axis, select_last: flag,
    };
    TOP_K => TopK { engine: engine, values: view, indices: view, x: view, axis: axis, largest: flag };
    GATHER => Gather { engine: engine, destination: view, source: view, indices: view, axis: axis };
    GATHER_ELEMENTS => GatherElements { engine: engine, destination: view, source: view, indices: view, axis: axis };
    SCATTER_ELEMENTS => ScatterElements {
        engine: engine, destination: view, indices: view, updates: view, axis: axis, reduction: name,
    };
    GATHER_ND => GatherNd { engine: engine, destination: view, source: view, indices: view, batch_dims: axis };
    SCATTER_ND => ScatterNd { engine: engine, destination: view, indices: view, updates: view, reduction: name };
    FILL => Fill { engine: engine, destination: view, value: real };
    IOTA => Iota { engine: engine, destination: view, axis: axis, start: expression, step: step };
    BREAK_UNLESS => BreakUnless { condition: view };
    SET_REGISTER => SetRegister { register: register, source: view };
    STORE_EXPRESSION => StoreExpression { destination: view, value: expression };
}

/// A closed set that a field names by word.
trait Named: Sized {
    fn from_word(word: &str) -> Option<Self>;
}

macro_rules! named {
    ($($type:ty),*) => { $(
        impl Named for $type {
            fn from_word(word: &str) -> Option<Self> {
                <$type>::ALL.iter().copied().find(|row| row.name() == word)
            }
        }
    )* };
}

named!(
    Engine,
    UnaryFunction,
    BinaryFunction,
    ReduceFunction,
    ScatterReduction,
    PoolFunction,
    CumulativeFunction,
    ArgFunction,
    NormalizeKind,
    KeyPart,
    Rounding
);

/// Reads one field of an op.
struct Reader<'e, 'a> {
    emitter: &'e mut Emitter<'a>,
    op: OpId,
}

impl<'a> Reader<'_, 'a> {
    fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.emitter.module.op(self.op).attributes.get(name)
    }

    fn value(&self, name: &str) -> Result<Option<ValueId>, String> {
        let def = self.emitter.module.op(self.op).def;
        let slot = def.operands.iter().position(|operand| operand.name == name);
        let slot = slot.ok_or_else(|| format!("it has no operand '{name}'"))?;
        Ok(self.emitter.module.operand_at(self.op, slot))
    }

    fn view(self, name: &str) -> Result<ViewId, String> {
        let value = self.value(name)?.ok_or_else(|| format!("operand '{name}' is missing"))?;
        self.emitter.view_id(value)
    }

    fn maybe(self, name: &str) -> Result<Option<ViewId>, String> {
        let value = self.value(name)?;
        value.map(|value| self.emitter.view_id(value)).transpose()
    }

    fn word<T: Named>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(attribute) = self.attribute(name) else { return Ok(None) };
        let word = attribute.as_str().ok_or_else(|| format!("'{name}' must be a word"))?;
        T::from_word(word).map(Some).ok_or_else(|| format!("'{name}' does not know '{word}'"))
    }

    fn name<T: Named>(self, name: &str) -> Result<T, String> {
        self.word(name)?.ok_or_else(|| format!("'{name}' is missing"))
    }

    fn engine(self, name: &str) -> Result<Engine, String> {
        self.name(name)
    }

    fn rounding(self, name: &str) -> Result<Rounding, String> {
        Ok(self.word(name)?.unwrap_or(Rounding::Truncate))
    }

    fn part(self, name: &str) -> Result<KeyPart, String> {
        Ok(self.word(name)?.unwrap_or(KeyPart::All))
    }

    fn real(self, name: &str) -> Result<f64, String> {
        Ok(self.attribute(name).and_then(Attribute::as_float).unwrap_or(0.0))
    }

    fn single(self, name: &str) -> Result<f32, String> {
        self.real(name).map(|value| value as f32)
    }

    fn flag(self, name: &str) -> Result<bool, String> {
        Ok(self.attribute(name).and_then(Attribute::as_bool).unwrap_or(false))
    }

    fn int(&self, name: &str) -> i64 {
        self.attribute(name).and_then(Attribute::as_int).unwrap_or(0)
    }

    fn number(self, name: &str) -> Result<u32, String> {
        u32::try_from(self.int(name)).map_err(|_| format!("'{name}' = {} does not fit", self.int(name)))
    }

    fn zero(self, name: &str) -> Result<i32, String> {
        i32::try_from(self.int(name)).map_err(|_| format!("'{name}' = {} does not fit", self.int(name)))
    }

    fn positive(self, name: &str) -> Result<u32, String> {
        self.number(name).map(|number| number.max(1))
    }

    fn axis(self, name: &str) -> Result<u8, String> {
        u8::try_from(self.int(name)).map_err(|_| format!("'{name}' = {} does not fit", self.int(name)))
    }

    fn step(self, name: &str) -> Result<i64, String> {
        Ok(self.attribute(name).and_then(Attribute::as_int).unwrap_or(1))
    }

    fn three(self, name: &str, rest: u32) -> Result<[u32; 3], String> {
        let given = self.attribute(name).and_then(Attribute::as_ints).unwrap_or(&[]);
        if given.len() > 3 {
            return Err(format!("'{name}' has {} entries; at most 3 spatial dimensions fit", given.len()));
        }
        let mut result = [rest; 3];
        for (to, from) in result.iter_mut().zip(given) {
            *to = u32::try_from(*from).map_err(|_| format!("'{name}' holds {from}, which does not fit"))?;
        }
        Ok(result)
    }

    fn ones(self, name: &str) -> Result<[u32; 3], String> {
        self.three(name, 1)
    }

    fn zeros(self, name: &str) -> Result<[u32; 3], String> {
        self.three(name, 0)
    }

    fn maybe_expression(self, name: &str) -> Result<Option<ExpressionId>, String> {
        let dim =
            self.attribute(name).map(|attribute| attribute.as_dim().ok_or("an expression is not readable"));
        dim.transpose()?.map(|dim| self.emitter.expression_id(&dim)).transpose()
    }

    fn expression(self, name: &str) -> Result<ExpressionId, String> {
        let dim = self.attribute(name).and_then(Attribute::as_dim).unwrap_or(Dim::Known(0));
        self.emitter.expression_id(&dim)
    }

    fn register(self, name: &str) -> Result<Register, String> {
        let word = self.attribute(name).and_then(Attribute::as_str).unwrap_or_default();
        self.emitter.registers.get(word).copied().ok_or_else(|| format!("'{word}' is no register"))
    }

    fn token(self, _: &str) -> Result<u16, String> {
        Ok(self.emitter.transfer_token(self.op))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_runtime::commands::Opcode;

    #[test]
    fn every_portable_command_has_a_tile_op() {
        let control = ["end", "loop_begin", "loop_end", "else", "if_begin", "if_end", "wait"];
        let known: Vec<&str> = tile::DIALECT.ops.iter().map(|op| op.short_name()).collect();
        let missing: Vec<&str> = Opcode::ALL
            .iter()
            .map(|opcode| opcode.name())
            .filter(|name| !control.contains(name) && !known.contains(name))
            .collect();
        assert!(missing.is_empty(), "no tile op for {missing:?}");
    }
}
