//! Text generation above the interpreter: prompts in chunks, then token by token; sampling.
//!
//! [`session::Generation`] drives anything that is a [`session::TokenModel`]; [`session::ArtifactModel`] is one over a
//! [`crate::session::Session`]. Tokens are numbers here: tokenizers and text belong to the caller.

pub mod sample;
pub mod session;
