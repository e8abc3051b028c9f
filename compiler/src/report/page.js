"use strict";
// Draws the report from the data in the page. Sections: helpers, summary, tables, time axis, timeline, SRAM map, roofline.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const machine = data.machine;
const CAUSES = ["latency", "bandwidth", "bank", "operand", "queue", "wait-host", "drain"];

// ---- helpers ----------------------------------------------------------------------------------------------------
let style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue("--" + name).trim() || "#888";
const number = (value) => Math.round(value).toLocaleString("en-US");
const percent = (part, whole) => (whole > 0 ? (part * 100) / whole : 0).toFixed(1) + " %";
function scaled(value, unit) {
  const steps = ["", "k", "M", "G", "T"];
  let at = 0;
  while (Math.abs(value) >= 1000 && at + 1 < steps.length) { value /= 1000; at += 1; }
  return (at === 0 && Number.isInteger(value) ? value : value.toPrecision(3)) + " " + steps[at] + unit;
}
function small(value, unit) {
  const steps = ["", "m", "µ", "n", "p"];
  let at = 0;
  while (value > 0 && value < 1 && at + 1 < steps.length) { value *= 1000; at += 1; }
  return value.toPrecision(3) + " " + steps[at] + unit;
}
const bytes = (value) => value < 1024 ? value + " B" : value < 1048576 ? (value / 1024).toFixed(1) + " KiB"
  : value < 2 ** 30 ? (value / 1048576).toFixed(2) + " MiB" : (value / 2 ** 30).toFixed(2) + " GiB";
const seconds = (cycles) => small(cycles / machine.clock_hz, "s");
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value; else if (key.startsWith("on")) made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
function swatch(name) {
  const made = element("span", { class: "swatch" });
  made.style.background = `var(--${name})`;
  return made;
}
function title(run) {
  const at = run.registers.map(([name, value]) => `${name}=${value}`).join(" ");
  return at ? `${run.program} ${at}` : run.program;
}
const tip = find("tip");
function showTip(event, text) {
  if (!text) { tip.hidden = true; return; }
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8)) + "px";
}

// ---- summary ----------------------------------------------------------------------------------------------------
let run = data.runs[0];
function summary() {
  const tokens = Math.max(run.tokens, 1);
  const peak = machine.macs_per_cycle * run.cycles;
  const tiles = [
    [number(run.cycles), "cycles"], [seconds(run.cycles), "per run"],
    [(tokens / run.seconds).toFixed(1), run.tokens ? "tokens/s" : "runs/s"],
    [bytes(run.dram_bytes), "DRAM traffic"], [small(run.joules / tokens, "J"), run.tokens ? "per token" : "per run"],
    [run.bounds.ratio.toFixed(2) + " ×", "of the lower bound"],
    [(run.dram_bytes / Math.max(run.bounds.compulsory_bytes, 1)).toFixed(3) + " ×", "of compulsory bytes"],
    [percent(run.macs, peak), "of peak MACs"],
  ];
  find("tiles").replaceChildren(...tiles.map(([value, what]) =>
    element("div", { class: "tile" }, element("b", {}, value), element("span", {}, what))));
  const parts = [["issue", "issuing", run.issue_cycles],
    ...run.stalls.map((stall, at) => [CAUSES[at], "waiting: " + stall.cause, stall.cycles])];
  const bar = element("div", { class: "bar" }, ...parts.filter((part) => part[2] > 0).map(([name, what, cycles]) => {
    const piece = element("i", { title: `${what}: ${number(cycles)} cycles` });
    piece.style.width = (cycles * 100) / run.cycles + "%";
    piece.style.background = `var(--${name})`;
    return piece;
  }));
  const rows = parts.map(([name, what, cycles]) => element("tr", {},
    element("td", { class: "left" }, swatch(name), what), element("td", {}, number(cycles)), element("td", {}, percent(cycles, run.cycles))));
  find("stalls").replaceChildren(bar, element("table", {}, head(["The sequencer", "cycles", "share"]), element("tbody", {}, ...rows)));
  const all = run.joules * 1e12;
  const engines = run.engines.map((one) => [one.engine, one.busy_cycles, one.energy_pj]);
  engines.push(["dram", Math.ceil(run.dram_bytes / machine.dram_bytes_per_cycle), run.dram_pj]);
  engines.push(["sram", Math.ceil(run.sram_bytes / machine.sram_bytes_per_cycle), run.sram_pj]);
  const lines = engines.map(([name, busy, energy]) => element("tr", {},
    element("td", { class: "left" }, swatch(data.engines.includes(name) ? name : "sequencer"), name),
    element("td", {}, number(busy)), element("td", {}, percent(busy, run.cycles)),
    element("td", {}, small(energy * 1e-12, "J")), element("td", {}, percent(energy, all))));
  find("engines").replaceChildren(element("table", {},
    head(["", "busy cycles", "utilisation", "energy", "share"]), element("tbody", {}, ...lines)));
}
function head(names) {
  return element("thead", {}, element("tr", {}, ...names.map((name, at) => element("th", at ? {} : { class: "left" }, name))));
}
function runsTable() {
  const rows = data.runs.map((one) => {
    const tokens = Math.max(one.tokens, 1);
    return element("tr", {}, element("td", { class: "left" }, title(one)), ...[
      one.tokens, number(one.cycles), seconds(one.cycles), (tokens / one.seconds).toFixed(1), bytes(one.dram_bytes),
      bytes(one.bounds.compulsory_bytes), small(one.joules / tokens, "J"), number(one.bounds.cycles), one.bounds.ratio.toFixed(2),
      one.bounds.dram_cycles >= one.bounds.mac_cycles ? "DRAM" : "MACs",
    ].map((text) => element("td", {}, String(text))));
  });
  find("runs").replaceChildren(element("table", {}, head(["run", "tokens", "cycles", "time", "tokens/s", "DRAM", "compulsory",
    "energy/token", "bound", "ratio", "bound by"]), element("tbody", {}, ...rows)));
}

// ---- tables that sort and search --------------------------------------------------------------------------------
// A column: name, value of a row (number or text), how it is shown, class.
const tables = {};
function sorted(id, columns, rowsOf) {
  const table = { order: -1, descending: true, rows: [] };
  tables[id] = table;
  const search = find(id + "-search");
  const limit = 2000;
  table.draw = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = rowsOf().filter((row) => {
      const text = columns.map((column) => String(column.value(row))).join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (table.order >= 0) {
      const value = columns[table.order].value;
      const sign = table.descending ? -1 : 1;
      rows = rows.map((row, at) => [row, at]).sort(([a, i], [b, k]) => {
        const [x, y] = [value(a), value(b)];
        return (x < y ? -1 : x > y ? 1 : 0) * sign || i - k;
      }).map(([row]) => row);
    }
    const header = element("tr", {}, ...columns.map((column, at) => element("th", {
      class: column.class ? "left" : "",
      "aria-sort": table.order === at ? (table.descending ? "descending" : "ascending") : "none",
    }, element("button", { type: "button", onclick: () => {
      table.descending = table.order === at ? !table.descending : !column.class;
      table.order = at;
      table.draw();
    } }, column.name))));
    const body = rows.slice(0, limit).map((row) => element("tr", {}, ...columns.map((column) => {
      const cell = element("td", { class: column.class || "" });
      const shown = column.show ? column.show(row) : column.value(row);
      cell.append(...(Array.isArray(shown) ? shown : [String(shown)]));
      if (column.title) cell.title = column.title(row);
      return cell;
    })));
    if (rows.length > limit) {
      body.push(element("tr", {}, element("td", { class: "left", colspan: columns.length }, `${rows.length - limit} more rows: search to narrow`)));
    }
    find(id + "-table").replaceChildren(element("table", {}, element("thead", {}, header), element("tbody", {}, ...body)));
  };
  search.oninput = table.draw;
  table.draw();
}
// A name without the path of its layer, which has a column of its own.
const inLayer = (row) => row.name.startsWith(row.layer) && row.name.length > row.layer.length + 1 ? row.name.slice(row.layer.length + 1) : row.name;
const engineCell = (row) => [swatch(row.engine), row.engine];
const rowColumns = [
  { name: "cycles", value: (row) => row.cycles, show: (row) => number(row.cycles) },
  { name: "share", value: (row) => row.cycles / run.cycles, show: (row) => percent(row.cycles, run.cycles) },
  { name: "busy", value: (row) => row.busy_cycles, show: (row) => number(row.busy_cycles) },
  { name: "stalls", value: (row) => row.stall_cycles, show: (row) => number(row.stall_cycles) },
  { name: "DRAM bytes", value: (row) => row.dram_bytes, show: (row) => number(row.dram_bytes) },
  { name: "SRAM bytes", value: (row) => row.sram_bytes, show: (row) => number(row.sram_bytes) },
  { name: "MACs", value: (row) => row.macs, show: (row) => number(row.macs) },
  { name: "MAC util", value: (row) => row.macs / Math.max(row.cycles * row.peak_macs_per_cycle, 1),
    show: (row) => percent(row.macs, row.cycles * row.peak_macs_per_cycle) },
  { name: "energy nJ", value: (row) => row.energy_pj, show: (row) => (row.energy_pj / 1e3).toFixed(1) },
];
function allTables() {
  sorted("layers", [{ name: "layer", value: (row) => row.name, class: "left" }, ...rowColumns], () => run.layers);
  sorted("ops", [
    { name: "op", value: (row) => row.name, show: (row) => inLayer(row), class: "left wide", title: (row) => row.nodes.join("\n") },
    { name: "layer", value: (row) => row.layer, class: "left" },
    { name: "engine", value: (row) => row.engine, show: engineCell, class: "left" },
    { name: "command", value: (row) => row.command, class: "left" }, ...rowColumns,
  ], () => run.ops);
  sorted("placement", [
    { name: "node", value: (row) => row.node, class: "left wide" },
    { name: "op", value: (row) => row.op, class: "left" },
    { name: "runs on", value: (row) => row.target, class: "left",
      show: (row) => [element("span", { class: row.target === "host" ? "host" : "" }, row.target)] },
    { name: "commands", value: (row) => row.commands, show: (row) => number(row.commands) },
    { name: "MACs", value: (row) => row.macs, show: (row) => number(row.macs) },
    { name: "DRAM bytes", value: (row) => row.dram_bytes, show: (row) => number(row.dram_bytes) },
    { name: "reason", value: (row) => row.reason, class: "left wide" },
  ], () => data.placement);
  const host = data.placement.filter((row) => row.target === "host").length;
  find("placement-note").textContent = data.placement_note
    || `${data.placement.length} ops and kernels, ${host} of them on the host; work is that of the longest run.`;
}

// ---- time axis --------------------------------------------------------------------------------------------------
let detail = null;
const view = { from: 0, until: 1 };
const LEFT = 86, RIGHT = 10;
function prepared(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height };
}
const x = (cycle, width) => LEFT + ((cycle - view.from) / (view.until - view.from)) * (width - LEFT - RIGHT);
const cycleAt = (px, width) => view.from + ((px - LEFT) / (width - LEFT - RIGHT)) * (view.until - view.from);
function ticks(pen, width, bottom) {
  const span = view.until - view.from;
  const raw = span / 8, power = 10 ** Math.floor(Math.log10(Math.max(raw, 1)));
  const step = Math.max(1, [1, 2, 5, 10].map((by) => by * power).find((by) => by >= raw) || power * 10);
  pen.fillStyle = colour("dim");
  pen.strokeStyle = colour("line");
  pen.textAlign = "center";
  pen.beginPath();
  for (let cycle = Math.ceil(view.from / step) * step; cycle <= view.until; cycle += step) {
    const at = Math.round(x(cycle, width)) + 0.5;
    pen.moveTo(at, 0);
    pen.lineTo(at, bottom);
    if (at > LEFT + 10 && at < width - 40) pen.fillText(number(cycle), at, bottom + 14);
  }
  pen.stroke();
}
let wanted = false;
function redraw() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => { wanted = false; drawTimeline(); drawSram(); });
}
function zoomable(canvas, hit) {
  let drag = null;
  canvas.addEventListener("wheel", (event) => {
    if (!detail) return;
    event.preventDefault();
    const middle = cycleAt(event.offsetX, canvas.clientWidth);
    zoom(middle, Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 200) / 300));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    drag = { px: event.offsetX, from: view.from, until: view.until };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => showTip(null, ""));
  canvas.addEventListener("pointermove", (event) => {
    if (!detail) return;
    if (!drag) { showTip(event, hit(event.offsetX, event.offsetY, canvas.clientWidth, canvas.clientHeight)); return; }
    const by = ((drag.px - event.offsetX) / (canvas.clientWidth - LEFT - RIGHT)) * (drag.until - drag.from);
    move(drag.from + by, drag.until + by);
  });
  canvas.addEventListener("dblclick", whole);
  canvas.addEventListener("keydown", (event) => {
    const span = view.until - view.from, middle = view.from + span / 2;
    const keys = { "+": () => zoom(middle, 0.7), "-": () => zoom(middle, 1.4), ArrowLeft: () => move(view.from - span / 5, view.until - span / 5),
      ArrowRight: () => move(view.from + span / 5, view.until + span / 5), Home: whole };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
}
function zoom(middle, factor) {
  const end = data.runs[detail.run].cycles;
  const span = Math.min(Math.max((view.until - view.from) * factor, 50), end);
  const share = (middle - view.from) / (view.until - view.from);
  move(middle - span * share, middle + span * (1 - share));
}
function move(from, until) {
  const end = data.runs[detail.run].cycles, span = until - from;
  view.from = Math.max(0, Math.min(from, end - span));
  view.until = Math.min(end, view.from + span);
  redraw();
}
function whole() {
  if (!detail) return;
  view.from = 0;
  view.until = Math.max(data.runs[detail.run].cycles, 1);
  redraw();
}

// ---- timeline ---------------------------------------------------------------------------------------------------
const LANES = ["sequencer", ...data.engines];
const lane = (height, at) => ({ top: 6 + ((height - 30) / LANES.length) * at, size: (height - 30) / LANES.length - 6 });
function drawTimeline() {
  const { pen, width, height } = prepared(find("timeline-canvas"));
  if (!detail) { pen.fillStyle = colour("dim"); pen.fillText("No time lines were kept for this run.", 20, 30); return; }
  ticks(pen, width, height - 22);
  pen.textAlign = "left";
  LANES.forEach((name, at) => {
    const { top, size } = lane(height, at);
    pen.fillStyle = colour("text");
    pen.fillText(at ? name : "waits", 8, top + size / 2 + 4);
  });
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, width - LEFT - RIGHT, height);
  pen.clip();
  const fills = data.engines.map(colour), waits = CAUSES.map(colour), ground = colour("ground");
  const { spans, pauses } = detail;
  const columns = Math.ceil(width);
  // How much of each column of pixels something fills: thousands of short pieces show as a paler colour, not as a solid one.
  const cover = (into, from, until) => {
    const left = Math.max(x(from, width), LEFT), right = Math.min(x(until, width), width - RIGHT);
    for (let at = Math.floor(left); at < right; at += 1) into[at] += Math.min(right, at + 1) - Math.max(left, at);
  };
  const fill = (index, covered, paint, strength) => {
    const { top, size } = lane(height, index);
    pen.fillStyle = paint;
    for (let at = LEFT; at < columns; at += 1) {
      if (covered[at] <= 0) continue;
      pen.globalAlpha = strength * Math.min(1, Math.max(covered[at], 0.15));
      pen.fillRect(at, top, 1, size);
    }
  };
  const causes = waits.map(() => new Float32Array(columns));
  pauses.cause.forEach((cause, at) => {
    if (pauses.end[at] >= view.from && pauses.start[at] <= view.until) cover(causes[cause], pauses.start[at], pauses.end[at]);
  });
  // The causes of a column stand on each other.
  const first = lane(height, 0);
  for (let at = LEFT; at < columns; at += 1) {
    let below = first.top + first.size;
    causes.forEach((covered, cause) => {
      const part = Math.min(covered[at], 1) * first.size;
      if (part <= 0) return;
      pen.fillStyle = waits[cause];
      pen.fillRect(at, below - part, 1, part);
      below -= part;
    });
  }
  const visible = [];
  const work = fills.map(() => new Float32Array(columns)), pale = fills.map(() => new Float32Array(columns));
  spans.engine.forEach((engine, at) => {
    if (spans.end[at] < view.from || spans.start[at] - spans.latency[at] > view.until) return;
    visible.push(at);
    if (spans.latency[at]) cover(pale[engine], spans.start[at] - spans.latency[at], spans.start[at]);
    cover(work[engine], spans.start[at], spans.end[at]);
  });
  fills.forEach((paint, engine) => {
    fill(engine + 1, pale[engine], paint, 0.25);
    fill(engine + 1, work[engine], paint, 1);
  });
  pen.fillStyle = ground;
  for (const at of visible) {
    const left = x(spans.start[at], width);
    if (x(spans.end[at], width) - left < 4) continue;
    const { top, size } = lane(height, spans.engine[at] + 1);
    pen.globalAlpha = 0.8;
    pen.fillRect(left, top, 0.8, size);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = "#000";
  const ops = data.runs[detail.run].ops;
  for (const at of visible) {
    const left = Math.max(x(spans.start[at], width), LEFT), room = Math.min(x(spans.end[at], width), width - RIGHT) - left - 6;
    if (room < 60) continue;
    const { top, size } = lane(height, spans.engine[at] + 1);
    const name = short(ops[spans.op[at]].name);
    pen.fillText(name.length * 6.2 > room ? name.slice(0, Math.floor(room / 6.2)) : name, left + 3, top + size / 2 + 4);
  }
  pen.restore();
}
const short = (name) => name.replace(/^.*\/(?=[^/]+$)/, "");
function timelineHit(px, py, width, height) {
  const cycle = cycleAt(px, width), slack = (view.until - view.from) / width;
  const index = LANES.findIndex((_, at) => { const { top, size } = lane(height, at); return py >= top && py <= top + size; });
  if (index < 0 || px < LEFT) return "";
  if (index === 0) {
    const at = detail.pauses.start.findIndex((start, at) => start <= cycle + slack && detail.pauses.end[at] >= cycle - slack);
    if (at < 0) return "";
    return `waiting: ${data.causes[detail.pauses.cause[at]]}\n${number(detail.pauses.end[at] - detail.pauses.start[at])} cycles from ${number(detail.pauses.start[at])}`;
  }
  const { spans } = detail;
  for (let at = 0; at < spans.engine.length; at += 1) {
    if (spans.engine[at] + 1 !== index || spans.start[at] > cycle + slack || spans.end[at] < cycle - slack) continue;
    const op = data.runs[detail.run].ops[spans.op[at]];
    const moved = spans.dram_bytes[at] ? `\n${bytes(spans.dram_bytes[at])} of DRAM` : "";
    return `${op.name}\n${detail.commands[spans.command[at]]} (command ${spans.command[at]})\n${number(spans.end[at] - spans.start[at])} cycles from ${number(spans.start[at])}${moved}`;
  }
  return "";
}

// ---- SRAM map ---------------------------------------------------------------------------------------------------
// The highest byte that is drawn: what is used, rounded up to a half, a quarter, .. of all there is.
let sramShown = machine.sram_bytes;
function fitSram() {
  const used = detail ? detail.rectangles.offset.reduce((most, offset, at) => Math.max(most, offset + detail.rectangles.bytes[at]), 1) : 1;
  sramShown = machine.sram_bytes;
  while (sramShown / 2 >= used && sramShown > 4096) sramShown /= 2;
}
const y = (byte, height) => height - 24 - (byte / sramShown) * (height - 34);
function drawSram() {
  const { pen, width, height } = prepared(find("sram-canvas"));
  if (!detail) return;
  ticks(pen, width, height - 24);
  pen.fillStyle = colour("dim");
  pen.strokeStyle = colour("line");
  pen.textAlign = "right";
  pen.beginPath();
  for (let part = 0; part <= 4; part += 1) {
    const byte = (sramShown * part) / 4, at = Math.round(y(byte, height)) + 0.5;
    pen.moveTo(LEFT, at);
    pen.lineTo(width - RIGHT, at);
    pen.fillText(bytes(byte), LEFT - 6, at + 4);
  }
  pen.stroke();
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, width - LEFT - RIGHT, height - 24);
  pen.clip();
  const fills = data.engines.map(colour), ground = colour("ground");
  const { rectangles } = detail;
  pen.lineWidth = 0.7;
  pen.strokeStyle = ground;
  rectangles.start.forEach((start, at) => {
    if (rectangles.end[at] < view.from || start > view.until) return;
    const left = x(start, width), right = x(rectangles.end[at], width);
    const bottom = y(rectangles.offset[at], height), top = y(rectangles.offset[at] + rectangles.bytes[at], height);
    pen.fillStyle = fills[rectangles.engine[at]];
    pen.globalAlpha = 0.9 - 0.25 * (rectangles.op[at] % 2);
    pen.fillRect(left, top, Math.max(right - left, 0.8), Math.max(bottom - top, 0.8));
    if (right - left > 4 && bottom - top > 4) { pen.globalAlpha = 1; pen.strokeRect(left, top, right - left, bottom - top); }
  });
  pen.restore();
}
function sramHit(px, py, width, height) {
  const cycle = cycleAt(px, width), { rectangles } = detail;
  const byte = ((height - 24 - py) / (height - 34)) * sramShown;
  const [wide, high] = [(view.until - view.from) / width, sramShown / height];
  for (let at = rectangles.start.length - 1; at >= 0; at -= 1) {
    const inTime = rectangles.start[at] <= cycle + wide && rectangles.end[at] >= cycle - wide;
    if (!inTime || rectangles.offset[at] > byte + high || rectangles.offset[at] + rectangles.bytes[at] < byte - high) continue;
    const op = data.runs[detail.run].ops[rectangles.op[at]];
    return `${op.name}\n${number(rectangles.bytes[at])} bytes at ${number(rectangles.offset[at])}, written by ${data.engines[rectangles.engine[at]]}\nalive ${number(rectangles.end[at] - rectangles.start[at])} cycles from ${number(rectangles.start[at])}`;
  }
  return "";
}

// ---- roofline ---------------------------------------------------------------------------------------------------
const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// A power of ten as an axis says it.
function tick(power) {
  if (power < -3 || power >= 5) return `1e${power}`;
  return power < 0 ? (10 ** power).toFixed(-power) : number(10 ** power);
}

function roofline() {
  const [width, height, left, bottom, top, right] = [1000, 420, 70, 46, 16, 20];
  const points = run.ops.filter((op) => op.macs > 0 && op.cycles > 0)
    .map((op) => ({ op, x: op.macs / Math.max(op.dram_bytes, 1), y: op.macs / op.cycles }));
  const holder = find("roofline-plot");
  if (!points.length) { holder.textContent = "No multiply-accumulates in this run."; return; }
  const slope = machine.dram_bytes_per_cycle;
  const peaks = [...new Set(points.map((point) => point.op.peak_macs_per_cycle))].sort((a, b) => a - b);
  const top10 = Math.ceil(Math.log10(Math.max(...peaks, ...points.map((one) => one.y)))) + 0.2;
  const xs = [...points.map((one) => one.x), ...peaks.map((peak) => peak / slope)];
  const [x0, x1] = [Math.floor(Math.log10(Math.min(...xs))), Math.ceil(Math.log10(Math.max(...xs))) + 0.3];
  const y0 = Math.floor(Math.log10(Math.min(...points.map((one) => one.y), slope * 10 ** x0)));
  const px = (value) => left + ((Math.log10(value) - x0) / (x1 - x0)) * (width - left - right);
  const py = (value) => height - bottom - ((Math.log10(value) - y0) / (top10 - y0)) * (height - bottom - top);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Roofline" });
  for (let power = x0; power <= x1; power += 1) {
    svg.append(shape("line", { class: "grid", x1: px(10 ** power), x2: px(10 ** power), y1: top, y2: height - bottom }),
      shape("text", { x: px(10 ** power), y: height - bottom + 16, "text-anchor": "middle" }, tick(power)));
  }
  for (let power = y0; power <= top10; power += 1) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: py(10 ** power), y2: py(10 ** power) }),
      shape("text", { x: left - 6, y: py(10 ** power) + 4, "text-anchor": "end" }, tick(power)));
  }
  svg.append(shape("text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }, "multiply-accumulates per byte of DRAM"),
    shape("text", { x: 14, y: height / 2, transform: `rotate(-90 14 ${height / 2})`, "text-anchor": "middle" }, "multiply-accumulates per cycle"));
  const highest = peaks[peaks.length - 1];
  const start = Math.max(10 ** x0, (10 ** y0) / slope);
  svg.append(shape("path", { class: "roof", d: `M${px(start)} ${py(start * slope)}L${px(highest / slope)} ${py(highest)}` }));
  for (const peak of peaks) {
    svg.append(shape("path", { class: "roof", d: `M${px(peak / slope)} ${py(peak)}L${width - right} ${py(peak)}` }),
      shape("text", { x: width - right - 4, y: py(peak) - 6, "text-anchor": "end" }, `${number(peak)} MACs/cycle`));
  }
  points.sort((a, b) => b.op.cycles - a.op.cycles);
  for (const { op, x: intensity, y: rate } of points) {
    const circle = shape("circle", { cx: px(intensity), cy: py(rate), r: 4 + 16 * Math.sqrt(op.cycles / run.cycles) });
    circle.style.fill = `var(--${op.engine})`;
    circle.onpointermove = (event) => showTip(event, `${op.name}\n${intensity.toPrecision(3)} MACs per byte, ${rate.toPrecision(3)} MACs per cycle\n${percent(op.cycles, run.cycles)} of the time`);
    circle.onpointerleave = () => showTip(null, "");
    svg.append(circle);
  }
  holder.replaceChildren(svg);
}

// ---- all together -----------------------------------------------------------------------------------------------
function choose(index) {
  run = data.runs[index];
  detail = data.details.find((one) => one.run === index)
    || data.details.find((one) => data.runs[one.run].program === run.program) || data.details[0] || null;
  const drawn = detail ? data.runs[detail.run] : null;
  const other = drawn && drawn !== run ? ` Drawn is ${title(drawn)}.` : "";
  const joined = (kept, total, what) => kept < total ? ` ${number(total)} ${what} are drawn as ${number(kept)}.` : "";
  find("timeline-note").textContent = other + (detail ? joined(detail.spans.engine.length, detail.spans_total, "pieces of work") : "");
  fitSram();
  const shown = sramShown < machine.sram_bytes ? ` The lowest ${bytes(sramShown)} of ${bytes(machine.sram_bytes)} are drawn: nothing lies above.` : "";
  find("sram-note").textContent = other + shown + (detail ? joined(detail.rectangles.start.length, detail.rectangles_total, "buffers") : "");
  summary();
  Object.values(tables).forEach((table) => table.draw());
  roofline();
  whole();
}
find("about").textContent = `${machine.about} Modelled at ${machine.clock_hz / 1e6} MHz: ${bytes(machine.sram_bytes)} of SRAM in ${machine.sram_banks} banks, ${machine.sram_bytes_per_cycle} B/cycle; DRAM ${machine.dram_bytes_per_cycle} B/cycle. ${data.tool}.`;
find("engine-legend").append(...data.engines.map((name) => element("span", {}, swatch(name), name)), element("span", {}, "paler: only a part of that time is filled; palest: first bytes on their way from DRAM"));
find("cause-legend").append(element("span", {}, "waits of the sequencer:"), ...data.causes.map((name, at) => element("span", {}, swatch(CAUSES[at]), name)));
find("run").append(...data.runs.map((one, at) => element("option", { value: at }, title(one))));
find("run").onchange = (event) => choose(Number(event.target.value));
find("reset").onclick = whole;
zoomable(find("timeline-canvas"), timelineHit);
zoomable(find("sram-canvas"), sramHit);
new ResizeObserver(redraw).observe(find("timeline-canvas"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { style = getComputedStyle(document.documentElement); redraw(); });
runsTable();
allTables();
choose(0);
