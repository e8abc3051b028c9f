//! The figures of a run counted a second time, from the decoded stream alone: by brute force, sharing nothing with the timing model but
//! the machine's figures. Elements are enumerated one by one; slow, and as plain as can be.
//!
//! ```text
//! count(&program, &figures, &[("past_seq", 128)]).cycles
//! ```

mod operand;
mod work;

use operand::{Operand, operands, picked, touched, value};
use std::collections::BTreeMap;
use tilewright_runtime::commands::{Access, Command, Engine};
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{MachineFigures, Request, bound, estimate};
use tilewright_runtime::view::Space;
use work::{beats, lanes, product, types};

/// What was counted; per-command figures are indexed as the program's commands.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// End of the run.
    pub cycles: u64,
    /// Cycles the sequencer issued in.
    pub issue_cycles: u64,
    /// Waiting for first bytes, for bytes, for banks, for operands, for room in a queue, for the host, for the end; per command.
    pub stalls: Vec<[u64; 7]>,
    /// Per engine, by tag.
    pub busy_cycles: [u64; 5],
    /// Per engine, by tag.
    pub engine_pj: [f64; 5],
    /// Per command.
    pub elapsed: Vec<u64>,
    /// Per command.
    pub busy: Vec<u64>,
    /// Per command.
    pub executions: Vec<u64>,
    /// Per command.
    pub macs: Vec<u64>,
    /// Per command.
    pub energy_pj: Vec<f64>,
    /// Per command: off chip, on chip.
    pub bytes: Vec<[u64; 2]>,
    /// Cycles for banks in use.
    pub bank_cycles: u64,
    /// Read and written, per space.
    pub space_bytes: [[u64; 2]; 6],
    /// Distinct bytes of weights, inputs, outputs and states.
    pub compulsory_bytes: u64,
    /// At peak rates.
    pub mac_cycles: u64,
}

/// Work under way or done on an engine.
struct Job {
    engine: usize,
    /// When its own bytes begin to move, for the banks; and when it ends.
    span: (u64, u64),
    end: u64,
    beats: u64,
    touches: Vec<(Space, (i64, i64), bool)>,
}

struct Counter<'a> {
    program: &'a Program,
    figures: &'a MachineFigures,
    out: Counted,
    now: u64,
    frontier: u64,
    dram_free: u64,
    engine_free: [u64; 5],
    queues: [Vec<u64>; 5],
    jobs: Vec<Job>,
    /// Per token: ends of what came before, of operands, of the latency, of the bytes, of the banks' share.
    tokens: BTreeMap<u16, [u64; 5]>,
    seen: BTreeMap<Space, Vec<bool>>,
    rows: BTreeMap<(Space, i64, i64), u64>,
    peak: [f64; 2],
    depth_guard: u64,
}

/// Counts a run.
///
/// # Panics
/// On a program that the checker would refuse.
pub fn count(program: &Program, figures: &MachineFigures, registers: &[(&str, i64)]) -> Counted {
    let commands = program.commands.len();
    let out = Counted {
        stalls: vec![[0; 7]; commands],
        elapsed: vec![0; commands],
        busy: vec![0; commands],
        executions: vec![0; commands],
        macs: vec![0; commands],
        energy_pj: vec![0.0; commands],
        bytes: vec![[0; 2]; commands],
        ..Counted::default()
    };
    let mut values: Vec<i64> = program.registers.iter().map(|one| one.minimum).collect();
    for (name, given) in registers {
        values[usize::from(program.register(name).expect("a register").0)] = *given;
    }
    let mut counter = Counter {
        program,
        figures,
        out,
        now: 0,
        frontier: 0,
        dram_free: 0,
        engine_free: [0; 5],
        queues: Default::default(),
        jobs: Vec::new(),
        tokens: BTreeMap::new(),
        seen: BTreeMap::new(),
        rows: BTreeMap::new(),
        peak: [0.0; 2],
        depth_guard: 1 << 24,
    };
    counter.block(0, commands - 1, &mut values);
    counter.issue(commands - 1);
    let (last, end) = (commands - 1, counter.frontier);
    counter.stand(last, 6, end);
    counter.out.cycles = counter.now;
    counter.finish()
}

impl Counter<'_> {
    /// The commands `from..until`, which hold whole loops and conditions.
    fn block(&mut self, from: usize, until: usize, registers: &mut [i64]) {
        let mut at = from;
        while at < until {
            self.depth_guard = self.depth_guard.checked_sub(1).expect("a short program");
            let program = self.program;
            match &program.commands[at] {
                Command::LoopBegin { register, end, step } => {
                    let close = self.closing(at);
                    self.issue(at);
                    let end = value(&program.expressions[end.0 as usize], registers);
                    let mut counter = 0;
                    while counter < end {
                        registers[usize::from(register.0)] = counter;
                        self.block(at + 1, close, registers);
                        self.issue(close);
                        counter += i64::from(*step).max(1);
                    }
                    at = close + 1;
                }
                Command::Else {} => {
                    self.issue(at);
                    at = self.closing(at) + 1;
                }
                Command::IfEnd {} => {
                    self.issue(at);
                    at += 1;
                }
                command => {
                    if let Command::SetRegister { register, .. } = command {
                        let at = usize::from(register.0);
                        registers[at] = program.registers[at].maximum;
                    }
                    self.one(at, command, registers);
                    at += 1;
                }
            }
        }
    }

    /// The end of the loop, or of the condition whose `else` this is.
    fn closing(&self, begin: usize) -> usize {
        let mut depth = 0;
        for (at, command) in self.program.commands.iter().enumerate().skip(begin) {
            match command {
                Command::LoopBegin { .. } | Command::IfBegin { .. } => depth += 1,
                Command::Else {} if at == begin => depth += 1,
                Command::LoopEnd {} | Command::IfEnd {} => {
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                _ => {}
            }
        }
        panic!("nothing closes command {begin}")
    }

    fn issue(&mut self, at: usize) {
        self.now += self.figures.issue_cycles;
        self.out.issue_cycles += self.figures.issue_cycles;
        self.put_off(at, self.now);
    }

    fn put_off(&mut self, at: usize, until: u64) {
        self.out.elapsed[at] += until.saturating_sub(self.frontier);
        self.frontier = self.frontier.max(until);
    }

    fn stand(&mut self, at: usize, cause: usize, until: u64) {
        self.out.stalls[at][cause] += until.saturating_sub(self.now);
        self.now = self.now.max(until);
    }

    fn one(&mut self, at: usize, command: &Command, registers: &[i64]) {
        if let Command::Wait { token } = command {
            self.issue(at);
            self.out.executions[at] += 1;
            for (until, cause) in
                self.tokens.remove(token).unwrap_or_default().into_iter().zip([1, 3, 0, 1, 2])
            {
                self.stand(at, cause, until);
            }
            return;
        }
        // Issued, but charged with the rest below: the end moves once.
        self.now += self.figures.issue_cycles;
        self.out.issue_cycles += self.figures.issue_cycles;
        let operands = operands(self.program, command, registers);
        let engine = command.engine().unwrap_or(Engine::Host);
        let e = engine as usize;
        let is_dma = matches!(engine, Engine::Dma0 | Engine::Dma1);
        let (cycles, dram, beats) = self.work(at, command, engine, &operands);
        while self.queues[e].len() >= self.figures.queue_commands {
            let first = self.queues[e].remove(0);
            self.stand(at, 4, first);
        }
        let free = self.engine_free[e].max(self.now);
        let held =
            self.jobs.iter().filter(|job| job.engine != e && ![1, 2].contains(&job.engine)).filter(|job| {
                job.touches.iter().any(|(space, (from, until), writes)| {
                    operands.iter().any(|one| {
                        let (start, end) = one.bytes();
                        one.space == *space
                            && start < *until
                            && *from < end
                            && (*writes || !matches!(one.access, Access::Read))
                    })
                })
            });
        let start = held.map(|job| job.end).max().unwrap_or(0).max(free);
        let latency = if is_dma { self.figures.dma_latency_cycles } else { 0 };
        let mut end = start + cycles;
        if dram > 0 {
            let service = (dram as f64 / self.figures.dram_bytes_per_cycle).ceil() as u64;
            self.dram_free = self.dram_free.max(start) + service;
            end = end.max(self.dram_free + latency);
        }
        let span = (start + latency.min(end - start), end);
        let lost = self.lost(e, span, beats);
        let busy = span.1 - span.0 + lost;
        end += lost;
        self.out.bank_cycles += lost;
        self.out.busy[at] += busy;
        self.out.busy_cycles[e] += busy;
        self.engine_free[e] = start + busy;
        self.queues[e].push(end);
        let now = self.now;
        self.jobs.retain(|job| job.end > now);
        let touches = operands
            .iter()
            .map(|one| (one.space, one.bytes(), !matches!(one.access, Access::Read)))
            .collect();
        self.jobs.push(Job { engine: e, span: (end - busy, end), end, beats, touches });
        if let Command::Transfer { token, .. } = command {
            let first = (start + self.figures.dma_latency_cycles).min(end - lost);
            self.tokens.insert(*token, [free, start, first, end - lost, end]);
        }
        self.put_off(at, end.max(self.now));
        if engine == Engine::Host {
            self.stand(at, 3, start);
            self.stand(at, 5, end);
        }
    }

    /// Cycles that are missing to `beats` in a span, with what the other engines take meanwhile.
    fn lost(&self, engine: usize, span: (u64, u64), beats: u64) -> u64 {
        if beats == 0 {
            return 0;
        }
        let mut wanted = beats;
        for job in self.jobs.iter().filter(|job| job.engine != engine && job.beats > 0) {
            let shared = span.1.min(job.span.1).saturating_sub(span.0.max(job.span.0));
            if job.span.1 > job.span.0 {
                wanted += (job.beats * shared).div_ceil(job.span.1 - job.span.0);
            }
        }
        wanted.saturating_sub(span.1 - span.0)
    }

    /// Counts bytes, products and energy; gives cycles, bytes off chip and beats.
    fn work(
        &mut self,
        at: usize,
        command: &Command,
        engine: Engine,
        operands: &[Operand],
    ) -> (u64, u64, u64) {
        let figures = self.figures;
        let (mut off, mut on, mut all_beats) = (0, 0, 0);
        for operand in operands {
            let elements = touched(command, operand, operands);
            let bits = u64::from(operand.element.bits());
            let ways = match operand.access {
                Access::Read => [1, 0],
                Access::Write => [0, 1],
                Access::Update => [1, 1],
            };
            let bytes = if operand.is_on_chip() {
                (elements * bits).div_ceil(8)
            } else if elements == 0 {
                0
            } else {
                let run = operand.run();
                let bursts = (run.min(elements) * bits).div_ceil(8).div_ceil(figures.dram_burst_bytes);
                elements.div_ceil(run) * bursts * figures.dram_burst_bytes
            };
            let moved = bytes * (ways[0] + ways[1]);
            if operand.is_on_chip() {
                on += moved
            } else {
                off += moved
            }
            for (sum, times) in self.out.space_bytes[operand.space as usize].iter_mut().zip(ways) {
                *sum += bytes * times;
            }
            if operand.space == Space::Sram && elements > 0 {
                all_beats += (ways[0] + ways[1]) * beats(operand, elements, figures);
            }
            self.see(command, operand, elements);
        }
        let shape = product(command, operands);
        let macs = shape.map_or(0, |[m, n, k, count]| m * n * k * count);
        let rate = types(operands).and_then(|(a, b)| figures.matrix_rate(a, b));
        let slow = u64::from(figures.vector.transcendental_cycles);
        let (lanes, passes) = lanes(command, operands, slow);
        let cycles = match engine {
            Engine::Dma0 | Engine::Dma1 => {
                figures.dma_latency_cycles
                    + (off.max(on / 2) as f64 / figures.dma_bytes_per_cycle).ceil() as u64
            }
            Engine::Matrix => {
                let blocks = shape.zip(rate).map_or(0, |([m, n, k, count], rate)| {
                    let [rows, columns, depth] = rate.block.map(u64::from);
                    m.div_ceil(rows) * n.div_ceil(columns) * k.div_ceil(depth) * count
                });
                figures.matrix_latency_cycles + blocks
            }
            Engine::Vector => {
                let widest = operands.iter().map(|one| one.element.bits()).max().unwrap_or(32);
                let per_cycle = u64::from(figures.vector.lanes);
                let per_cycle = if widest <= 16 { per_cycle * 2 } else { per_cycle };
                let per_cycle = if widest > 32 { per_cycle / 2 } else { per_cycle };
                figures.vector_latency_cycles + (lanes * passes).div_ceil(per_cycle.max(1))
            }
            Engine::Host => match command {
                Command::BreakUnless { .. }
                | Command::IfBegin { .. }
                | Command::SetRegister { .. }
                | Command::StoreExpression { .. } => 1,
                _ => {
                    let work = (macs + lanes * passes) as f64 / figures.host_lanes_per_cycle;
                    let bytes = (off + on) as f64 / figures.host_bytes_per_cycle;
                    figures.host_latency_cycles + work.max(bytes).ceil() as u64
                }
            },
        };
        let own_pj = match engine {
            Engine::Host => (macs + lanes) as f64 * figures.host_pj_per_lane,
            Engine::Matrix => macs as f64 * rate.map_or(0.0, |rate| rate.pj_per_mac),
            _ => (lanes * passes) as f64 * figures.vector.pj_per_lane,
        };
        match engine {
            Engine::Matrix => {
                let peak = |rate: [u32; 3]| rate.iter().map(|one| f64::from(*one)).product::<f64>();
                self.peak[0] += rate.map_or(0.0, |rate| macs as f64 / peak(rate.block));
            }
            Engine::Host => self.peak[1] += macs as f64 / figures.host_lanes_per_cycle,
            _ => {}
        }
        let out = &mut self.out;
        out.executions[at] += 1;
        out.macs[at] += macs;
        out.bytes[at][0] += off;
        out.bytes[at][1] += on;
        out.engine_pj[engine as usize] += own_pj;
        out.energy_pj[at] +=
            off as f64 * figures.dram_pj_per_byte + on as f64 * figures.sram_pj_per_byte + own_pj;
        (cycles, off, all_beats)
    }

    /// Remembers bytes that the run cannot do without.
    fn see(&mut self, command: &Command, operand: &Operand, elements: u64) {
        if !matches!(operand.space, Space::Constant | Space::Io | Space::State) {
            return;
        }
        let bits = i64::from(operand.element.bits());
        if picked(command).is_some_and(|(few, _)| few == operand.name) {
            let (start, end) = operand.bytes();
            *self.rows.entry((operand.space, start, end)).or_default() +=
                (elements * bits as u64).div_ceil(8);
            return;
        }
        let seen = self.seen.entry(operand.space).or_default();
        for offset in &operand.offsets {
            let first = operand.base_bytes + (offset * bits).div_euclid(8);
            let last = operand.base_bytes + ((offset + 1) * bits + 7).div_euclid(8);
            if seen.len() < last as usize {
                seen.resize(last as usize, false);
            }
            seen[first as usize..last as usize].fill(true);
        }
    }

    fn finish(mut self) -> Counted {
        let all: usize = self.seen.values().map(|seen| seen.iter().filter(|byte| **byte).count()).sum();
        let mut compulsory = all as u64;
        for ((space, start, end), bytes) in &self.rows {
            let range = (*start as usize)..(*end as usize);
            let seen = self
                .seen
                .get(space)
                .map_or(&[][..], |seen| &seen[range.start.min(seen.len())..range.end.min(seen.len())]);
            let there = seen.iter().filter(|byte| **byte).count() as u64;
            compulsory += (*bytes).min(range.len() as u64).saturating_sub(there);
        }
        self.out.compulsory_bytes = compulsory;
        self.out.mac_cycles = self.peak[0].max(self.peak[1]) as u64;
        self.out
    }
}

/// Which op each command belongs to, as its location's text; commands without one belong to what came before.
pub fn locations(program: &Program) -> Vec<String> {
    let mut last = String::new();
    let mut found = Vec::new();
    for at in 0..program.commands.len() {
        let symbol = program.symbols.iter().rev().find(|symbol| symbol.first_command as usize <= at);
        if let Some(symbol) = symbol.filter(|symbol| !symbol.location.is_empty()) {
            last = symbol.location.clone();
        }
        found.push(last.clone());
    }
    found
}

/// Asserts that the timing model counts the same, and that no bound is above what it counts.
///
/// # Panics
/// When a figure differs.
pub fn check(what: &str, program: &Program, figures: &MachineFigures, registers: &[(&str, i64)]) -> Counted {
    let request = Request { registers, ..Request::default() };
    let timing = estimate(program, figures, &request).unwrap_or_else(|error| panic!("{what}: {error}"));
    let bound = bound(program, figures, &request).unwrap_or_else(|error| panic!("{what}: {error}"));
    let counted = count(program, figures, registers);
    for (at, command) in program.commands.iter().enumerate() {
        let one = &timing.commands[at];
        let model = (one.executions, one.busy_cycles, one.elapsed_cycles, one.stalls, one.macs);
        let second = (
            counted.executions[at],
            counted.busy[at],
            counted.elapsed[at],
            counted.stalls[at],
            counted.macs[at],
        );
        assert_eq!(model, second, "{what}: command {at}: {command}");
        assert_eq!([one.dram_bytes, one.sram_bytes], counted.bytes[at], "{what}: command {at}: {command}");
        assert!(close(one.energy_pj, counted.energy_pj[at]), "{what}: command {at}: {command}");
    }
    assert_eq!((timing.cycles, timing.issue_cycles), (counted.cycles, counted.issue_cycles), "{what}");
    assert_eq!(timing.engine_busy_cycles, counted.busy_cycles, "{what}");
    assert_eq!(timing.total.bank_cycles, counted.bank_cycles, "{what}");
    assert_eq!(timing.space_bytes, counted.space_bytes, "{what}");
    assert_eq!(bound.compulsory_bytes, counted.compulsory_bytes, "{what}");
    assert_eq!(bound.mac_cycles, counted.mac_cycles, "{what}");
    for (model, second) in timing.engine_pj.iter().zip(counted.engine_pj) {
        assert!(close(*model, second), "{what}: {model} pJ, counted {second}");
    }
    check_bound(what, program, figures, registers);
    counted
}

/// Asserts that a run takes at least its lower bounds, and that its parts add up.
///
/// # Panics
/// When it does not.
pub fn check_bound(what: &str, program: &Program, figures: &MachineFigures, registers: &[(&str, i64)]) {
    let request = Request { registers, ..Request::default() };
    let timing = estimate(program, figures, &request).unwrap_or_else(|error| panic!("{what}: {error}"));
    let bound = bound(program, figures, &request).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(timing.cycles >= bound.cycles(), "{what}: {} cycles, below {bound:?}", timing.cycles);
    assert!(timing.total.dram_bytes >= bound.compulsory_bytes, "{what}: {bound:?}");
    let stalls: u64 = timing.total.stalls.iter().sum();
    assert_eq!(timing.issue_cycles + stalls, timing.cycles, "{what}");
    assert_eq!(timing.total.elapsed_cycles, timing.cycles, "{what}");
}

/// Sums of floats in another order.
pub fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}
