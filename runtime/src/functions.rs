//! The small closed sets that commands carry as one byte: engines, functions, reductions, rounding modes.
//!
//! Each is one table row: variant, wire tag, name in dumps, meaning. This file must not know how a function is computed
//! (that is `kernels`) nor what it costs (that is `timing`).

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $tag:literal $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $( $(#[$variant_doc])* $variant = $tag, )* }

        impl $name {
            /// Every variant, in wire order.
            pub const ALL: &'static [$name] = &[$( $name::$variant, )*];

            /// The variant with this wire tag.
            pub const fn from_tag(tag: u8) -> Option<$name> {
                match tag { $( $tag => Some($name::$variant), )* _ => None }
            }

            /// The name used in dumps.
            pub const fn name(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

named! {
    /// What executes a command.
    Engine {
        /// The host processor; reaches every space.
        Host = 0 "host",
        /// First DMA engine.
        Dma0 = 1 "dma0",
        /// Second DMA engine.
        Dma1 = 2 "dma1",
        /// The matrix engine; on-chip views only.
        Matrix = 3 "matrix",
        /// The vector engine; on-chip views only.
        Vector = 4 "vector",
    }
}

named! {
    /// One-operand functions. `x` is the operand, `alpha` and `beta` the command's constants.
    UnaryFunction {
        /// x
        Copy = 0 "copy",
        /// -x
        Negate = 1 "neg",
        /// |x|
        Absolute = 2 "abs",
        /// e^x
        Exp = 3 "exp",
        /// ln x
        Log = 4 "log",
        /// square root
        Sqrt = 5 "sqrt",
        /// 1 / sqrt(x)
        Rsqrt = 6 "rsqrt",
        /// 1 / x
        Reciprocal = 7 "reciprocal",
        /// x * x
        Square = 8 "square",
        /// hyperbolic tangent
        Tanh = 9 "tanh",
        /// 1 / (1 + e^-x)
        Sigmoid = 10 "sigmoid",
        /// Gauss error function
        Erf = 11 "erf",
        /// max(x, 0)
        Relu = 12 "relu",
        /// x * sigmoid(x)
        Silu = 13 "silu",
        /// 0.5 x (1 + erf(x / sqrt 2))
        Gelu = 14 "gelu",
        /// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
        GeluTanh = 15 "gelu_tanh",
        /// boolean not
        Not = 16 "not",
        /// all bits flipped
        BitwiseNot = 17 "bitwise_not",
        /// 1 where x is NaN; destination bool
        IsNan = 18 "is_nan",
        /// 1 where x is infinite; destination bool
        IsInfinite = 19 "is_inf",
        /// -1, 0 or 1
        Sign = 20 "sign",
        /// nearest, ties to even
        RoundHalfEven = 21 "round_half_even",
        /// towards minus infinity
        Floor = 22 "floor",
        /// towards plus infinity
        Ceil = 23 "ceil",
        /// towards zero
        Truncate = 24 "trunc",
        /// sine
        Sin = 25 "sin",
        /// cosine
        Cos = 26 "cos",
        /// tangent
        Tan = 27 "tan",
        /// inverse sine
        Asin = 28 "asin",
        /// inverse cosine
        Acos = 29 "acos",
        /// inverse tangent
        Atan = 30 "atan",
        /// hyperbolic sine
        Sinh = 31 "sinh",
        /// hyperbolic cosine
        Cosh = 32 "cosh",
        /// inverse hyperbolic sine
        Asinh = 33 "asinh",
        /// inverse hyperbolic cosine
        Acosh = 34 "acosh",
        /// inverse hyperbolic tangent
        Atanh = 35 "atanh",
        /// ln(1 + x)
        Log1p = 36 "log1p",
        /// e^x - 1
        Expm1 = 37 "expm1",
        /// ln(1 + e^x)
        Softplus = 38 "softplus",
        /// x / (1 + |x|)
        Softsign = 39 "softsign",
        /// x tanh(softplus(x))
        Mish = 40 "mish",
        /// x * clamp(x / 6 + 0.5, 0, 1)
        HardSwish = 41 "hard_swish",
        /// x where x >= 0, else alpha x
        LeakyRelu = 42 "leaky_relu",
        /// x where x >= 0, else alpha (e^x - 1)
        Elu = 43 "elu",
        /// clamp(alpha x + beta, 0, 1)
        HardSigmoid = 44 "hard_sigmoid",
        /// min(max(x, alpha), beta)
        Clamp = 45 "clamp",
        /// alpha x + beta
        Affine = 46 "affine",
    }
}

named! {
    /// Two-operand functions. Integers wrap; division by zero of integers gives 0.
    BinaryFunction {
        /// a + b
        Add = 0 "add",
        /// a - b
        Subtract = 1 "sub",
        /// a * b
        Multiply = 2 "mul",
        /// a / b; integers truncate
        Divide = 3 "div",
        /// a to the power b
        Power = 4 "pow",
        /// larger; NaN when either is
        Maximum = 5 "max",
        /// smaller; NaN when either is
        Minimum = 6 "min",
        /// remainder with the sign of b
        RemainderFloor = 7 "rem_floor",
        /// remainder with the sign of a
        RemainderTruncate = 8 "rem_trunc",
        /// a == b; destination bool
        Equal = 9 "eq",
        /// a != b; destination bool
        NotEqual = 10 "ne",
        /// a < b; destination bool
        Less = 11 "lt",
        /// a <= b; destination bool
        LessEqual = 12 "le",
        /// a > b; destination bool
        Greater = 13 "gt",
        /// a >= b; destination bool
        GreaterEqual = 14 "ge",
        /// bitwise (or boolean) and
        And = 15 "and",
        /// bitwise (or boolean) or
        Or = 16 "or",
        /// bitwise (or boolean) exclusive or
        Xor = 17 "xor",
        /// a << b; 0 when b is not less than the width
        ShiftLeft = 18 "shl",
        /// a >> b, arithmetic for signed elements
        ShiftRight = 19 "shr",
    }
}

impl BinaryFunction {
    /// Whether the result is a boolean whatever the operands are.
    pub const fn is_comparison(self) -> bool {
        use BinaryFunction::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }
}

named! {
    /// Reductions.
    ReduceFunction {
        /// sum
        Sum = 0 "sum",
        /// sum divided by the number of elements reduced
        Mean = 1 "mean",
        /// largest; NaN when any is
        Maximum = 2 "max",
        /// smallest; NaN when any is
        Minimum = 3 "min",
        /// product
        Product = 4 "prod",
        /// sum of squares
        SumSquare = 5 "sum_square",
    }
}

named! {
    /// How a scattered update meets what is there.
    ScatterReduction {
        /// replaces it
        None = 0 "none",
        /// is added
        Add = 1 "add",
        /// is multiplied
        Multiply = 2 "mul",
        /// the larger stays
        Maximum = 3 "max",
        /// the smaller stays
        Minimum = 4 "min",
    }
}

named! {
    /// Window functions of `pool`.
    PoolFunction {
        /// largest in the window; padding does not count
        Maximum = 0 "max",
        /// mean of the window
        Average = 1 "average",
    }
}

named! {
    /// Running functions of `cumulative`.
    CumulativeFunction {
        /// running sum
        Sum = 0 "sum",
        /// running product
        Product = 1 "prod",
    }
}

named! {
    /// Which element `arg_reduce` looks for.
    ArgFunction {
        /// the largest
        Maximum = 0 "max",
        /// the smallest
        Minimum = 1 "min",
    }
}

named! {
    /// Which keys a row of `attention` may see, where old keys are quantised in blocks and recent ones are not. A block is settled
    /// for a row when at least `keep` keys up to the row's own follow it.
    KeyPart {
        /// all of the tile
        All = 0 "all",
        /// the settled blocks only; the tile begins at a block
        Settled = 1 "settled",
        /// what is not settled; the tile begins at a block
        Recent = 2 "recent",
    }
}

named! {
    /// Kinds of `normalize`.
    NormalizeKind {
        /// x / sqrt(mean(x^2) + epsilon) (Zhang & Sennrich 2019, arXiv:1910.07467)
        Rms = 0 "rms",
        /// (x - mean) / sqrt(variance + epsilon) (Ba et al. 2016, arXiv:1607.06450)
        Layer = 1 "layer",
    }
}

named! {
    /// How `convert` brings a float to an integer. Float to float is always nearest, ties to even.
    Rounding {
        /// towards zero
        Truncate = 0 "trunc",
        /// nearest, ties to even
        HalfEven = 1 "half_even",
        /// towards minus infinity
        Floor = 2 "floor",
        /// towards plus infinity
        Ceil = 3 "ceil",
    }
}
