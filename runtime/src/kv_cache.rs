//! What a program keeps between runs, read from its state table: how long it can get, and what a token costs.
//!
//! The states themselves lie in the state space of a session; this file only describes them. It must not know how they are
//! updated.

use crate::stream::{Program, StateBinding};
use crate::view::Register;

/// The register that counts tokens already in the cache: the one that a growing state's input extent is.
pub fn past_register(program: &Program) -> Option<Register> {
    program.states.iter().find_map(|state| {
        let bound = state.input.view.dims.get(usize::from(state.growing_axis?))?.bound.as_ref()?;
        match bound.terms() {
            [(register, 1)] if bound.constant_part() == 0 => Some(*register),
            _ => None,
        }
    })
}

/// Most tokens that fit: the smallest capacity of a growing state; `None` when none grows.
pub fn context_window(program: &Program) -> Option<u64> {
    let capacity = |state: &StateBinding| {
        let axis = usize::from(state.growing_axis?);
        state.output.view.dims.get(axis).map(|dim| u64::from(dim.cap))
    };
    program.states.iter().filter_map(capacity).min()
}

/// Bytes that one more token adds, over all growing states.
pub fn bytes_per_token(program: &Program) -> u64 {
    program
        .states
        .iter()
        .filter_map(|state| {
            let view = &state.output.view;
            let capacity = view.dims.get(usize::from(state.growing_axis?))?.cap.max(1);
            let elements = view.elements_max() / u64::from(capacity);
            view.element.packed_bytes(elements)
        })
        .sum()
}

/// Bytes of states that do not grow (convolution windows, recurrent states).
pub fn fixed_bytes(program: &Program) -> u64 {
    let fixed = program.states.iter().filter(|state| state.growing_axis.is_none());
    fixed.filter_map(|state| state.output.view.element.packed_bytes(state.output.view.elements_max())).sum()
}

/// Whether a cache that holds `held` tokens, and has seen `written` since it was empty, can return to its first `tokens`.
pub fn can_return(program: &Program, written: u64, held: u64, tokens: u64) -> bool {
    tokens <= held
        && program.states.iter().all(|state| match (state.recent, state.growing_axis) {
            (Some(recent), _) => recent.reaches(written, tokens),
            (None, Some(_)) => true,
            (None, None) => tokens == held,
        })
}
