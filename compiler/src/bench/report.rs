//! What several processes measured, as rates with their spread, beside the limits of the machine; as a table and as JSON.

use super::{Decode, Network, Plan, Run};
use serde_json::{Value, json};
use tilewright_runtime::kernels::limits::Limit;

/// Median, least and largest of some numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub minimum: f64,
    /// The largest.
    pub maximum: f64,
}

impl Spread {
    /// Of these; zeros of none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Spread { median: at(sorted.len() / 2), minimum: at(0), maximum: at(sorted.len().saturating_sub(1)) }
    }

    fn times(self, factor: f64) -> Spread {
        Spread {
            median: self.median * factor,
            minimum: self.minimum * factor,
            maximum: self.maximum * factor,
        }
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.minimum, "max": self.maximum })
    }

    fn text(self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}-{:.decimals$})", self.median, self.minimum, self.maximum)
    }
}

/// The number at a fraction of sorted ones.
fn quantile(numbers: &[f64], fraction: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * fraction) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// All that was measured of one model.
pub struct Report {
    /// Its name.
    pub model: String,
    /// What was asked for.
    pub plan: Plan,
    /// Seconds of compiling; none for an artifact.
    pub compile_s: Option<f64>,
    /// Size of the artifact's file.
    pub artifact_bytes: u64,
    /// One per process; at least one.
    pub runs: Vec<Run>,
    /// Of the machine: reading memory first, then its multipliers.
    pub limits: Vec<Limit>,
}

/// A row of the table: what, with its numbers, and how much that is of what the machine can do.
type Row = [String; 3];

impl Report {
    fn spread(&self, of: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(of))
    }

    fn limit(&self, name: &str) -> Option<f64> {
        self.limits.iter().find(|limit| limit.name == name).map(|limit| limit.median)
    }

    /// The fastest multiplier.
    fn peak(&self) -> Option<&Limit> {
        self.limits
            .iter()
            .filter(|limit| limit.name != "memory_read")
            .max_by(|a, b| a.median.total_cmp(&b.median))
    }

    fn share_of_memory(&self, bytes_per_second: f64) -> Option<f64> {
        self.limit("memory_read").map(|limit| bytes_per_second / limit)
    }

    fn peak_rss(&self) -> Option<u64> {
        self.runs.iter().filter_map(|run| run.peak_rss_bytes).max()
    }

    /// Tokens per second of one prompt length: the best run of each process, for the first pays for cold pages.
    fn prefill(&self, index: usize) -> Spread {
        self.spread(|run| {
            let prompt = &run.prompts[index];
            let best = prompt.seconds.iter().skip(1).chain(&prompt.seconds).copied().fold(f64::MAX, f64::min);
            prompt.tokens as f64 / best
        })
    }

    fn decode(&self) -> Option<(Spread, &Decode)> {
        let first = self.runs.first()?.decode.as_ref()?;
        let rate = |run: &Run| {
            let seconds = run.decode.as_ref().map_or(&[][..], |decode| &decode.seconds);
            seconds.len() as f64 / seconds.iter().sum::<f64>()
        };
        Some((self.spread(rate), first))
    }

    fn network(&self) -> Option<&Network> {
        self.runs.first()?.network.as_ref()
    }

    /// All seconds of networks' runs, of all processes.
    fn latencies(&self) -> Vec<f64> {
        self.runs
            .iter()
            .filter_map(|run| run.network.as_ref())
            .flat_map(|network| network.seconds.clone())
            .collect()
    }

    /// The rows of the table.
    pub fn rows(&self) -> Vec<Row> {
        let row = |name: &str, value: String, share: String| [name.to_string(), value, share];
        let percent = |share: Option<f64>, of: &str| {
            share.map_or_else(String::new, |share| format!("{:.0} % of {of}", share * 100.0))
        };
        let operations = |per_second: f64| {
            let peak = self.peak();
            let share = percent(peak.map(|peak| per_second / peak.median), peak.map_or("", |peak| peak.name));
            format!("{:.1} Gop/s {share}", per_second / 1e9)
        };
        let mut rows = Vec::new();
        if let Some(compile_s) = self.compile_s {
            rows.push(row("compile s", format!("{compile_s:.2}"), String::new()));
        }
        rows.push(row("load s", self.spread(|run| run.load_s).text(3), String::new()));
        let first =
            if self.network().is_some() { "start to first result s" } else { "start to first token s" };
        rows.push(row(first, self.spread(|run| run.first_result_s).text(3), String::new()));
        for (index, &tokens) in self.plan.prompt_tokens.iter().enumerate() {
            if self.runs[0].prompts.len() <= index {
                break;
            }
            let rate = self.prefill(index);
            let macs = self.runs[0].prompts[index].macs as f64 / tokens.max(1) as f64;
            let share = operations(2.0 * macs * rate.median);
            rows.push(row(&format!("prefill {tokens} tokens/s"), rate.text(1), share));
        }
        if let Some((rate, decode)) = self.decode() {
            let read = decode.bytes as f64 * rate.median;
            let share = percent(self.share_of_memory(read), "memory_read");
            let share = format!("{:.1} GB/s {share}", read / 1e9);
            rows.push(row(&format!("decode tokens/s after {}", decode.past_tokens), rate.text(2), share));
        }
        if let Some(network) = self.network() {
            let all = self.latencies();
            let p50 = quantile(&all, 0.5);
            rows.push(row(
                "first run ms",
                self.spread(|run| run.network.as_ref().map_or(0.0, |n| n.first_s * 1e3)).text(2),
                String::new(),
            ));
            let share = operations(2.0 * network.macs as f64 / p50);
            rows.push(row("latency p50 ms", format!("{:.3}", p50 * 1e3), share));
            let ends = [0.1, 0.9].map(|fraction| format!("{:.3}", quantile(&all, fraction) * 1e3));
            rows.push(row("latency p10-p90 ms", ends.join("-"), String::new()));
        }
        if let Some(bytes) = self.peak_rss() {
            rows.push(row(
                "peak RSS MiB",
                mebibytes(bytes),
                format!("artifact {}", mebibytes(self.artifact_bytes)),
            ));
        }
        rows
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let prompts = self.plan.prompt_tokens.iter().enumerate();
        let prefill: Vec<Value> = prompts
            .take_while(|(index, _)| *index < self.runs[0].prompts.len())
            .map(|(index, tokens)| {
                let rate = self.prefill(index);
                let macs = self.runs[0].prompts[index].macs;
                json!({
                    "tokens": tokens,
                    "tokens_per_second": rate.json(),
                    "macs": macs,
                    "operations_per_second": 2.0 * macs as f64 / *tokens as f64 * rate.median,
                    "first_s": self.spread(|run| run.prompts[index].seconds[0]).json(),
                })
            })
            .collect();
        let decode = self.decode().map(|(rate, decode)| {
            let all: Vec<f64> = self
                .runs
                .iter()
                .filter_map(|run| run.decode.as_ref())
                .flat_map(|one| one.seconds.clone())
                .collect();
            let read = decode.bytes as f64 * rate.median;
            json!({
                "tokens": decode.seconds.len(),
                "past_tokens": decode.past_tokens,
                "tokens_per_second": rate.json(),
                "p50_ms": quantile(&all, 0.5) * 1e3,
                "p90_ms": quantile(&all, 0.9) * 1e3,
                "bytes_per_token": decode.bytes,
                "bytes_per_second": read,
                "share_of_memory_read": self.share_of_memory(read),
            })
        });
        let latency = self.network().map(|network| {
            let all = self.latencies();
            json!({
                "first_ms": self.spread(|run| run.network.as_ref().map_or(0.0, |one| one.first_s)).times(1e3).json(),
                "p10_ms": quantile(&all, 0.1) * 1e3,
                "p50_ms": quantile(&all, 0.5) * 1e3,
                "p90_ms": quantile(&all, 0.9) * 1e3,
                "runs": all.len(),
                "macs": network.macs,
                "bytes": network.bytes,
                "operations_per_second": 2.0 * network.macs as f64 / quantile(&all, 0.5),
            })
        });
        json!({
            "model": self.model,
            "target": self.runs[0].target,
            "threads": self.runs[0].threads,
            "processes": self.runs.len(),
            "compile_s": self.compile_s,
            "artifact_bytes": self.artifact_bytes,
            "load_s": self.spread(|run| run.load_s).json(),
            "start_to_first_result_s": self.spread(|run| run.first_result_s).json(),
            "prefill": prefill,
            "decode": decode,
            "latency": latency,
            "peak_rss_bytes": self.peak_rss(),
            "limits": self.limits.iter().map(limit_json).collect::<Vec<_>>(),
        })
    }
}

/// A limit as JSON.
pub fn limit_json(limit: &Limit) -> Value {
    let Limit { name, threads, median, minimum, maximum } = limit;
    json!({ "name": name, "threads": threads, "per_second": { "median": median, "min": minimum, "max": maximum } })
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Prompt;

    fn report() -> Report {
        let run = |decode_s: f64| Run {
            target: "host".into(),
            threads: 2,
            load_s: 0.1,
            first_result_s: 0.5,
            prompts: vec![Prompt { tokens: 10, seconds: vec![1.0, 0.5, 0.25], macs: 1_000 }],
            decode: Some(Decode { past_tokens: 10, seconds: vec![decode_s; 4], bytes: 1_000_000 }),
            network: None,
            peak_rss_bytes: Some(3 << 20),
        };
        let limit = Limit { name: "memory_read", threads: 2, median: 1e7, minimum: 9e6, maximum: 2e7 };
        Report {
            model: "m".into(),
            plan: Plan { prompt_tokens: vec![10], decode_tokens: 4, runs: 1, threads: 2 },
            compile_s: None,
            artifact_bytes: 1 << 20,
            runs: vec![run(0.2), run(0.5), run(0.25)],
            limits: vec![limit],
        }
    }

    #[test]
    fn rates_are_medians_of_processes() {
        let json = report().to_json();
        assert_eq!(json["prefill"][0]["tokens_per_second"]["median"], 40.0);
        assert_eq!(json["prefill"][0]["first_s"]["max"], 1.0);
        let decode = &json["decode"];
        assert_eq!(decode["tokens_per_second"], json!({ "median": 4.0, "min": 2.0, "max": 5.0 }));
        assert_eq!(decode["bytes_per_second"], 4e6);
        assert_eq!(decode["share_of_memory_read"], 0.4);
        assert_eq!(json["peak_rss_bytes"], 3 << 20);
        assert!(report().rows().iter().any(|row| row[2].contains("40 % of memory_read")));
    }

    #[test]
    fn quantiles_and_spreads_of_few_numbers() {
        assert_eq!(Spread::of([]), Spread::default());
        assert_eq!(Spread::of([3.0, 1.0]), Spread { median: 3.0, minimum: 1.0, maximum: 3.0 });
        assert_eq!(quantile(&[5.0], 0.9), 5.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 3.0);
    }
}
