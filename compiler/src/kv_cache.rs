//! How key/value caches are kept: the user's choice, and the pass that it stands for.
//!
//! Knows no IR: [`tilewright_passes::quantize_kv_cache`] does the work.
//!
//! ```text
//! --kv-cache kv4   =>   quantize-kv-cache{format=kv4 tokens=2048 chunk=32}
//! ```

use crate::plan::ProgramPlan;
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_passes::machine::Machine;

/// Formats of key/value caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KvCache {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// 8 bits: each token's keys and values with a scale per head
    Kv8,
    /// 4 bits: keys per channel in blocks of 32 tokens behind a window of recent ones in f16, values per token in groups of 32
    Kv4,
}

/// What is asked of a compilation's programs, decided once for all of them: they share the cache.
#[derive(Clone, Copy, Debug)]
pub struct CachePlan {
    format: KvCache,
    tokens: usize,
    chunk: usize,
}

impl KvCache {
    /// The format of that name.
    pub fn find(name: &str) -> Option<KvCache> {
        <KvCache as clap::ValueEnum>::value_variants().iter().copied().find(|format| format.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        ["f32", "f16", "kv8", "kv4"][self as usize]
    }

    /// What a machine wants where the user does not say: 16-bit floats where it computes in them.
    pub fn native(machine: &Machine) -> Option<KvCache> {
        machine.narrower_float().filter(|element| *element == Element::F16).map(|_| KvCache::F16)
    }

    /// What it means for these programs.
    ///
    /// # Errors
    /// When no program keeps a cache that grows with the context.
    pub fn plan(self, programs: &[ProgramPlan]) -> Result<CachePlan, Diagnostic> {
        let grows = programs.iter().filter(|program| !program.maxima.is_empty() && program.chunk_length > 0);
        let chunk = grows.clone().map(|program| program.chunk_length).max();
        let tokens = grows.filter_map(|program| {
            Some(usize::try_from(*program.maxima.values().max()?).ok()? + program.chunk_length)
        });
        match (chunk, tokens.max()) {
            (Some(chunk), Some(tokens)) => Ok(CachePlan { format: self, tokens, chunk }),
            _ => {
                let what =
                    format!("a {} cache is asked for, and the model keeps no key/value cache", self.name());
                Err(Diagnostic::error(Location::Unknown, what)
                    .with_help("leave --kv-cache out, or export the model with past key values"))
            }
        }
    }
}

impl CachePlan {
    /// The pass, as a pipeline.
    pub fn pipeline(&self) -> String {
        let CachePlan { format, tokens, chunk } = self;
        format!("quantize-kv-cache{{format={} tokens={tokens} chunk={chunk}}}", format.name())
    }
}
