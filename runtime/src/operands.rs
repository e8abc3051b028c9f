//! What command fields refer to: table ids, how a view is touched, and the kinds of work.
//!
//! This file must not know any particular command.

use crate::functions::Engine;

/// Index into a program's view table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u32);

/// Index into a program's expression table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpressionId(pub u32);

/// What a command does with a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes all of it.
    Write,
    /// Reads it and writes it.
    Update,
}

impl Access {
    /// Whether bytes may change.
    pub const fn writes(self) -> bool {
        !matches!(self, Access::Read)
    }
    /// Whether earlier contents matter.
    pub const fn reads(self) -> bool {
        !matches!(self, Access::Write)
    }
}

/// What kind of work a command is; decides which engines may run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The sequencer itself: loops, conditions, waits.
    Control,
    /// Moves bytes: a DMA engine, or the host.
    Movement,
    /// Multiply-accumulate: the matrix engine, or the host.
    Matrix,
    /// Elementwise and row-wise work: the vector engine, or the host.
    Vector,
    /// Matrix and vector work in one step: either of the two engines, or the host.
    Fused,
    /// A target's own.
    Target,
}

impl Kind {
    /// Whether an engine may run commands of this kind.
    pub fn runs_on(self, engine: Engine) -> bool {
        match self {
            Kind::Control | Kind::Target => true,
            Kind::Movement => matches!(engine, Engine::Dma0 | Engine::Dma1 | Engine::Vector | Engine::Host),
            Kind::Matrix => matches!(engine, Engine::Matrix | Engine::Host),
            Kind::Vector => matches!(engine, Engine::Vector | Engine::Host),
            Kind::Fused => matches!(engine, Engine::Matrix | Engine::Vector | Engine::Host),
        }
    }
}
