//! Text generation above the interpreter: prompts in chunks, then token by token; sampling, speculation, grammars.
//!
//! [`generation::Generation`] drives anything that is a [`session::TokenModel`]; [`session::ArtifactModel`] is one over a
//! [`crate::session::Session`]. Tokens are numbers here, or at most bytes: tokenizers and text belong to the caller.

pub mod generation;
pub mod governor;
pub mod grammar;
pub mod pace;
pub mod sample;
pub mod session;
pub mod speculate;
pub mod vocabulary;
