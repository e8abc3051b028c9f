//! A memory plan as a picture: time to the right, bytes upwards, one box per buffer, and above it what is alive at each moment.
//!
//! One SVG that stands alone, for light and dark; hovering over a box names the buffer, its life, its size and its place.
//!
//! ```text
//! <rect class="b" x="12" y="40" width="300" height="22" fill="hsl(137 ..)"><title>conv_3: 4096 bytes at 1024, alive 3 to 9</title></rect>
//! ```

use std::fmt::Write;
use tilewright_targets::memory_plan::{Buffer, Plan};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 640.0;
/// Left, top, right, bottom.
const MARGIN: [f64; 4] = [96.0, 44.0, 24.0, 44.0];
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.b{stroke:#fff;stroke-width:.5}.b:hover{stroke:#000;\
stroke-width:1.5}.axis{stroke:#888}.live{fill:none;stroke:#222;stroke-width:1.2;stroke-dasharray:4 3}.limit{stroke:#c00;\
stroke-dasharray:6 4}.ground{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#ddd}.b{stroke:#111}.b:hover{stroke:#fff}\
.live{stroke:#eee}.ground{fill:#161616}.limit{stroke:#f66}}";

/// Where time and bytes go on the picture.
struct Scale {
    from: u64,
    times: f64,
    bytes: f64,
}

impl Scale {
    fn x(&self, time: u64) -> f64 {
        let inside = WIDTH - MARGIN[0] - MARGIN[2];
        MARGIN[0] + inside * time.saturating_sub(self.from) as f64 / self.times
    }

    fn y(&self, byte: u64) -> f64 {
        let inside = HEIGHT - MARGIN[1] - MARGIN[3];
        HEIGHT - MARGIN[3] - inside * byte as f64 / self.bytes
    }
}

/// Draws a plan of `buffers`, named by `ids`; with a capacity its line is drawn too.
pub fn svg(ids: &[String], buffers: &[Buffer], plan: &Plan, capacity_bytes: Option<u64>) -> String {
    let lives = || buffers.iter().filter(|buffer| !buffer.is_empty());
    let from = lives().map(|buffer| buffer.start).min().unwrap_or(0);
    let until = lives().map(|buffer| buffer.end).max().unwrap_or(1);
    let top = plan.peak_bytes.max(capacity_bytes.unwrap_or(0)).max(1);
    let scale = Scale { from, times: (until.saturating_sub(from)).max(1) as f64, bytes: top as f64 };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n<text x=\"{}\" y=\"24\">{} buffers: peak {} bytes, at most {} \
         alive at once (dashed), {}</text>\n",
        MARGIN[0],
        buffers.len(),
        plan.peak_bytes,
        plan.live_bytes_max,
        plan.proof.name()
    );
    axes(&scale, from, until, top, &mut out);
    for (index, (buffer, offset)) in buffers.iter().zip(&plan.offsets).enumerate() {
        let title = format!(
            "{}: {} bytes at {offset}, alive {} to {}",
            escape(&ids[index]),
            buffer.bytes,
            buffer.start,
            buffer.end
        );
        for (start, end, low, high) in uses(buffer) {
            let (x, y) = (scale.x(start), scale.y(offset + high));
            let (width, height) = (scale.x(end) - x, scale.y(offset + low) - y);
            // Golden angle: neighbours in the list have hues far apart.
            let hue = (index as f64 * 137.508) % 360.0;
            // A fault of formatting into a string cannot be.
            let _ = writeln!(
                out,
                "<rect class=\"b\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"hsl({hue:.0} 55% \
                 60%)\"><title>{title}</title></rect>"
            );
        }
    }
    live_line(&scale, buffers, &mut out);
    if let Some(capacity) = capacity_bytes {
        let y = scale.y(capacity);
        let _ = writeln!(
            out,
            "<line class=\"limit\" x1=\"{}\" y1=\"{y:.2}\" x2=\"{}\" y2=\"{y:.2}\"><title>capacity {capacity} bytes</title></line>",
            MARGIN[0],
            WIDTH - MARGIN[2]
        );
    }
    out + "</svg>\n"
}

fn axes(scale: &Scale, from: u64, until: u64, top: u64, out: &mut String) {
    for quarter in 0..=4u64 {
        let byte = (top as u128 * u128::from(quarter) / 4) as u64;
        let time = from + ((until - from) as u128 * u128::from(quarter) / 4) as u64;
        let (x, y) = (scale.x(time), scale.y(byte));
        let (left, bottom) = (MARGIN[0], HEIGHT - MARGIN[3]);
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{}\" y1=\"{y:.1}\" x2=\"{left}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{byte}</text><line class=\"axis\" x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\"/><text \
             x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{time}</text>",
            left - 5.0,
            left - 9.0,
            y + 4.0,
            bottom + 5.0,
            bottom + 20.0
        );
    }
}

/// What a buffer needs over time: its whole life, or what gaps leave.
fn uses(buffer: &Buffer) -> Vec<(u64, u64, u64, u64)> {
    if buffer.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut from = buffer.start;
    for gap in &buffer.gaps {
        found.push((from, gap.time.start, 0, buffer.bytes));
        found.extend(
            gap.window.as_ref().map(|window| (gap.time.start, gap.time.end, window.start, window.end)),
        );
        from = gap.time.end;
    }
    found.push((from, buffer.end, 0, buffer.bytes));
    found.retain(|(start, end, low, high)| start < end && low < high);
    found
}

/// The bytes alive over time, as steps.
fn live_line(scale: &Scale, buffers: &[Buffer], out: &mut String) {
    let mut changes: Vec<(u64, bool, u64)> = Vec::new();
    for (start, end, low, high) in buffers.iter().flat_map(uses) {
        changes.push((start, true, high - low));
        changes.push((end, false, high - low));
    }
    changes.sort_unstable();
    let mut path = String::new();
    let (mut live, mut at) = (0u64, 0);
    while at < changes.len() {
        let time = changes[at].0;
        let x = scale.x(time);
        let _ = write!(path, "{}{x:.2} {:.2}", if path.is_empty() { "M" } else { "L" }, scale.y(live));
        while at < changes.len() && changes[at].0 == time {
            live = if changes[at].1 { live + changes[at].2 } else { live - changes[at].2 };
            at += 1;
        }
        let _ = write!(path, "L{x:.2} {:.2}", scale.y(live));
    }
    let _ = writeln!(out, "<path class=\"live\" d=\"{path}\"/>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
