//! Time lines as Chrome trace events, which Perfetto and `chrome://tracing` read.
//!
//! A process per run, a thread per engine and one for the sequencer's stalls, counters for SRAM in use and bytes moved off chip. Times are
//! microseconds of the machine's clock.
//!
//! ```text
//! {"traceEvents": [{"ph": "X", "name": "/layers.0/q_proj/MatMul", "cat": "matmul", "ts": 1.25, "dur": 0.5, "pid": 1, "tid": 4, ..}, ..]}
//! ```

use super::{Detail, Report, Run};
use serde_json::{Value, json};
use tilewright_runtime::commands::Engine;
use tilewright_runtime::timing::Stall;

/// The whole trace.
pub fn trace(report: &Report) -> String {
    let mut events = Vec::new();
    for (index, detail) in report.details.iter().enumerate() {
        let run = &report.runs[detail.run];
        let process = Process { pid: index + 1, microseconds: 1e6 / report.machine.clock_hz };
        process.names(run, &mut events);
        process.work(run, detail, &mut events);
        process.counters(detail, &mut events);
    }
    let told = json!({"tool": report.tool, "model": report.model, "machine": report.machine.name});
    let mut out = String::from("{\"displayTimeUnit\":\"ns\",\"otherData\":");
    out += &told.to_string();
    out += ",\"traceEvents\":[\n";
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    out + &lines.join(",\n") + "\n]}\n"
}

struct Process {
    pid: usize,
    microseconds: f64,
}

/// The thread of the sequencer; engines follow by tag.
const SEQUENCER: usize = 1;

impl Process {
    fn at(&self, cycle: u64) -> f64 {
        cycle as f64 * self.microseconds
    }

    fn names(&self, run: &Run, events: &mut Vec<Value>) {
        let pid = self.pid;
        events.push(json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": run.title()}}));
        let engines = Engine::ALL.iter().map(|engine| (thread(*engine), engine.name()));
        for (tid, name) in std::iter::once((SEQUENCER, "sequencer stalls")).chain(engines) {
            events.push(
                json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}),
            );
            events.push(json!({"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid,
                "args": {"sort_index": tid}}));
        }
    }

    fn work(&self, run: &Run, detail: &Detail, events: &mut Vec<Value>) {
        for span in &detail.spans {
            let op = &run.ops[span.op];
            events.push(json!({
                "ph": "X", "name": op.name, "cat": detail.commands[span.command as usize], "pid": self.pid,
                "tid": thread(span.engine), "ts": self.at(span.start), "dur": self.at(span.end - span.start),
                "args": {"command": span.command, "layer": op.layer, "requested_cycle": span.from,
                         "start_cycle": span.start, "cycles": span.end - span.start, "dram_bytes": span.dram_bytes},
            }));
        }
        for pause in &detail.pauses {
            events.push(json!({
                "ph": "X", "name": Stall::ALL[pause.cause].name(), "cat": "stall", "pid": self.pid, "tid": SEQUENCER,
                "ts": self.at(pause.start), "dur": self.at(pause.end - pause.start),
                "args": {"cycles": pause.end - pause.start},
            }));
        }
    }

    fn counters(&self, detail: &Detail, events: &mut Vec<Value>) {
        let mut changes: Vec<(u64, i64)> = Vec::new();
        for one in &detail.rectangles {
            changes.push((one.start, one.bytes as i64));
            changes.push((one.end, -(one.bytes as i64)));
        }
        let mut add = |name: &str, cycle: u64, bytes: i64| {
            events.push(json!({"ph": "C", "name": name, "pid": self.pid, "ts": self.at(cycle), "args": {"bytes": bytes}}));
        };
        steps(changes).into_iter().for_each(|(cycle, bytes)| add("SRAM in use", cycle, bytes));
        let moved = detail.spans.iter().filter(|span| span.dram_bytes > 0);
        let moved = moved.map(|span| (span.end, span.dram_bytes as i64)).collect();
        steps(moved).into_iter().for_each(|(cycle, bytes)| add("DRAM bytes moved", cycle, bytes));
    }
}

fn thread(engine: Engine) -> usize {
    SEQUENCER + 1 + engine as usize
}

/// The running sum, one value per moment.
fn steps(mut changes: Vec<(u64, i64)>) -> Vec<(u64, i64)> {
    changes.sort_unstable();
    let mut sum = 0;
    let mut out: Vec<(u64, i64)> = Vec::new();
    for (cycle, change) in changes {
        sum += change;
        match out.last_mut().filter(|last| last.0 == cycle) {
            Some(last) => last.1 = sum,
            None => out.push((cycle, sum)),
        }
    }
    out
}
