//! tilewright's compiler: from an ONNX file to an artifact, and the command line around it.
//!
//! The only crate that knows files, ONNX, terminals and YAML. The way of a model is [`driver`]; what is known (dialects, passes,
//! rules, targets) is a [`session::Session`], which is also the entry for tools with parts of their own:
//!
//! ```no_run
//! use tilewright::session::Session;
//! let code: std::process::ExitCode = Session::new().run_cli();
//! ```

pub mod bench;
pub mod calibrate;
pub mod cases;
pub mod chat;
mod cli;
pub mod dates;
pub mod deploy;
pub mod driver;
pub mod execute;
pub mod exit;
pub mod generation_config;
pub mod import;
pub mod instruments;
pub mod json_schema;
pub mod keys;
pub mod kv_cache;
pub mod loaded;
pub mod machine_facts;
pub mod manifest;
pub mod memory_csv;
pub mod memory_picture;
pub mod metrics;
pub mod model;
pub mod modelled;
pub mod npy;
pub mod output;
pub mod placement_file;
pub mod plan;
pub mod policy_file;
pub mod precision;
pub mod quantize;
pub mod render;
pub mod report;
pub mod session;
pub mod signature;
pub mod stop_text;
pub mod stored_formats;
pub mod story;
pub mod strings;
pub mod synthesize;
pub mod text_parity;
pub mod token_bytes;
pub mod tokens;
