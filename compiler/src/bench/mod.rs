//! How fast an artifact runs on this machine: each measurement in a process of its own, rates as the median of a few, beside what the
//! machine can do at most.
//!
//! [`process`] measures in the process it is called in; [`report`] puts what several processes measured together. Starting them is the
//! command line's business.
//!
//! ```text
//! process start -> open -> first token            load_s, first_result_s
//!   prompts of each length, three times each      prompts[].seconds
//!   tokens one by one after the first prompt      decode_s
//! ```

pub mod process;
pub mod report;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Lengths of prompts, for a language model; the first is the one whose first token is timed from the start.
    pub prompt_tokens: Vec<usize>,
    /// Tokens written one by one after it.
    pub decode_tokens: usize,
    /// Runs of a network without tokens, after warming up.
    pub runs: usize,
    /// Threads; 0 for as many as the process may use cores.
    pub threads: usize,
}

/// What one process measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The artifact's target.
    pub target: String,
    /// Threads of kernels.
    pub threads: usize,
    /// Opening the artifact, until it can take input.
    pub load_s: f64,
    /// From the start of the process to the first token, or the first result.
    pub first_result_s: f64,
    /// Prompts, for a language model.
    pub prompts: Vec<Prompt>,
    /// Each token after the first prompt.
    pub decode: Option<Decode>,
    /// The first run of a network without tokens, and those after it.
    pub network: Option<Network>,
    /// Most memory that the process ever had resident, mapped files with it; none where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// Runs of one prompt length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its length.
    pub tokens: usize,
    /// Seconds of each, with an empty cache; the first of the process apart.
    pub seconds: Vec<f64>,
    /// Multiply-accumulates of one.
    pub macs: u64,
}

/// Tokens one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decode {
    /// Tokens in the cache before.
    pub past_tokens: usize,
    /// Seconds of each, choosing the largest logit with it.
    pub seconds: Vec<f64>,
    /// Distinct bytes of weights and state that one must read.
    pub bytes: u64,
}

/// A network without tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The first run.
    pub first_s: f64,
    /// Those after warming up.
    pub seconds: Vec<f64>,
    /// Distinct bytes of weights, inputs and outputs that one must move.
    pub bytes: u64,
    /// Multiply-accumulates of one.
    pub macs: u64,
}
