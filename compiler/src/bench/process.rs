//! Measures in this process: load, first result, rates, peak memory.
//!
//! Tokens and inputs are made up: only time is looked at. Language models are what has a program for tokens.

use super::{Decode, Network, Plan, Prompt, Run};
use crate::loaded::Loaded;
use crate::session::Session;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_runtime::generate::session::{ArtifactModel, GenerateError, TokenModel};
use tilewright_runtime::opening::Opening;
use tilewright_runtime::session::{Session as RuntimeSession, SessionError, Tensor};
use tilewright_runtime::stream::Program;
use tilewright_runtime::timing::{Request, bound, estimate};

/// Runs of each prompt length after the first of the process.
const PROMPT_RUNS: usize = 2;
/// Runs of a network that are not counted.
const WARM_UPS: usize = 5;

/// Measures an artifact. `started` is when the process was started.
///
/// # Errors
/// When it cannot be opened or run, or a prompt does not fit its context window.
pub fn measure(
    session: &Session,
    path: &Path,
    opening: &Opening,
    plan: &Plan,
    started: SystemTime,
) -> Result<Run, Diagnostics> {
    let begin = Instant::now();
    let loaded = Loaded::open_with(path, &Opening { threads: plan.threads, ..opening.clone() })?;
    let target = loaded.artifact.as_ref().map_or_else(String::new, |artifact| artifact.target.clone());
    let threads = loaded.session.threads();
    let load_s = begin.elapsed().as_secs_f64();
    let mut run = Run { target, threads, load_s, ..Run::default() };
    let takes_tokens = |program: &Program| {
        program.chunk_length != 0 && program.inputs.iter().any(|input| input.name == "input_ids")
    };
    if loaded.session.programs().iter().any(takes_tokens) {
        let model = ArtifactModel::new(loaded.session).map_err(|error| told(&error))?;
        language(session, model, plan, started, &mut run).map_err(|error| told(&error))?;
    } else {
        network(session, loaded.session, plan, started, &mut run).map_err(|error| told(&error))?;
    }
    run.peak_rss_bytes = peak_rss_bytes();
    Ok(run)
}

fn told(error: &dyn std::error::Error) -> Diagnostics {
    vec![Diagnostic::error(Location::Unknown, error.to_string())]
}

fn since(started: SystemTime) -> f64 {
    let zero = Duration::ZERO;
    SystemTime::now().duration_since(started).unwrap_or(zero).as_secs_f64()
}

/// Tokens that look random; the same every time.
fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % vocabulary.max(1) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// Runs a prompt after nothing; logits for what follows.
fn prefill(model: &mut ArtifactModel, prompt: &[u32]) -> Result<Vec<f32>, GenerateError> {
    let mut past = 0;
    loop {
        let count = model.chunk(past, prompt.len() - past).min(prompt.len() - past);
        let logits = model.forward(past, &prompt[past..past + count])?;
        past += count;
        if past == prompt.len() {
            return Ok(logits);
        }
    }
}

fn largest(logits: &[f32]) -> u32 {
    let better = |best: (u32, f32), (at, &logit): (usize, &f32)| {
        if logit > best.1 { (at as u32, logit) } else { best }
    };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
}

fn language(
    session: &Session,
    mut model: ArtifactModel,
    plan: &Plan,
    started: SystemTime,
    run: &mut Run,
) -> Result<(), GenerateError> {
    let vocabulary = model.vocabulary().unwrap_or(1);
    let longest = plan.prompt_tokens.iter().copied().max().unwrap_or(1);
    let first = plan.prompt_tokens.first().copied().unwrap_or(1);
    let needed = longest.max(first + plan.decode_tokens);
    if needed > model.context_window() {
        return Err(GenerateError::ContextFull { tokens: needed, window: model.context_window() });
    }
    let all = tokens(longest.max(first), vocabulary);
    for &count in &plan.prompt_tokens {
        let mut prompt =
            Prompt { tokens: count, macs: prompt_macs(session, run, &model, count), ..Prompt::default() };
        for _ in 0..=PROMPT_RUNS {
            model.reset();
            let begin = Instant::now();
            let token = largest(&prefill(&mut model, &all[..count])?);
            prompt.seconds.push(begin.elapsed().as_secs_f64());
            std::hint::black_box(token);
            if run.first_result_s == 0.0 {
                run.first_result_s = since(started);
            }
        }
        run.prompts.push(prompt);
    }
    if plan.decode_tokens == 0 {
        return Ok(());
    }
    model.reset();
    let mut token = largest(&prefill(&mut model, &all[..first])?);
    let middle = (first + plan.decode_tokens / 2) as i64;
    let mut decode =
        Decode { past_tokens: first, bytes: decode_bytes(session, run, &model, middle), ..Decode::default() };
    for past in first..first + plan.decode_tokens {
        let begin = Instant::now();
        token = largest(&model.forward(past, &[token])?);
        decode.seconds.push(begin.elapsed().as_secs_f64());
    }
    run.decode = Some(decode);
    Ok(())
}

/// Every bound register, with a number for it.
fn registers(program: &Program, value: i64) -> Vec<(&str, i64)> {
    let bound = program.registers.iter().filter(|register| register.is_bound);
    bound.map(|register| (register.name.as_str(), value.clamp(register.minimum, register.maximum))).collect()
}

/// [bytes that must move, multiply-accumulates] of a run; zeros for a program that the timing model cannot follow.
fn work(session: &Session, target: &str, program: &Program, registers: &[(&str, i64)]) -> [u64; 2] {
    let known = session.targets.find(target).unwrap_or(&tilewright_targets::target::HOST);
    let figures = tilewright_targets::figures::of(&known.machine());
    let request = Request { registers, ..Request::default() };
    let bytes = bound(program, &figures, &request).map_or(0, |bound| bound.compulsory_bytes);
    [bytes, estimate(program, &figures, &request).map_or(0, |timing| timing.total.macs)]
}

/// Multiply-accumulates of a prompt, chunk by chunk.
fn prompt_macs(session: &Session, run: &Run, model: &ArtifactModel, tokens: usize) -> u64 {
    let (mut past, mut macs) = (0, 0);
    while past < tokens {
        let count = model.chunk(past, tokens - past).clamp(1, tokens - past);
        let programs = model.session().programs();
        if let Some(program) = crate::modelled::program_for(programs, count) {
            macs += work(session, &run.target, program, &registers(program, past as i64))[1];
        }
        past += count;
    }
    macs
}

fn decode_bytes(session: &Session, run: &Run, model: &ArtifactModel, past: i64) -> u64 {
    let program = crate::modelled::program_for(model.session().programs(), 1);
    program.map_or(0, |program| work(session, &run.target, program, &registers(program, past))[0])
}

fn network(
    session: &Session,
    mut model: RuntimeSession,
    plan: &Plan,
    started: SystemTime,
    run: &mut Run,
) -> Result<(), SessionError> {
    let program = model.program().clone();
    let bound = registers(&program, i64::MAX);
    for (name, value) in &bound {
        model.bind(name, *value)?;
    }
    for input in &program.inputs {
        if let Some((element, shape)) = model.input_shape(&input.name) {
            // 1 is a token, a mask's true and a fair number, of every element type.
            let ones = vec![1i64; shape.iter().product()];
            model.set_input(&input.name, &shape, &Tensor::from_i64(element, &shape, &ones).bytes)?;
        }
    }
    let mut once = || -> Result<f64, SessionError> {
        let begin = Instant::now();
        model.run()?;
        for output in &program.outputs {
            std::hint::black_box(model.output(&output.name)?);
        }
        Ok(begin.elapsed().as_secs_f64())
    };
    let first_s = once()?;
    run.first_result_s = since(started);
    for _ in 0..WARM_UPS {
        once()?;
    }
    let seconds = (0..plan.runs.max(1)).map(|_| once()).collect::<Result<Vec<f64>, _>>()?;
    let [bytes, macs] = work(session, &run.target, &program, &bound);
    run.network = Some(Network { first_s, seconds, bytes, macs });
    Ok(())
}

/// Most memory that this process had resident (Linux, proc(5): VmHWM).
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// When a process was started, from the number that its parent passed on.
pub fn started(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}
