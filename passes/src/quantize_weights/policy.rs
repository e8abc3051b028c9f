//! Which format a weight gets: a preset by role, then the user's own words, the last one that fits.
//!
//! ```text
//! mixed + "role:embedding=fp8_e4m3" + "*layers.0.*=int8" + "lm_head*=float"
//! ```

use super::prune::PrunePolicy;
use super::roles::Weight;
use tilewright_ir::module::Module;
use tilewright_ir::registry::edit_distance;
use tilewright_ir::weight_format::{FLOAT, Preset, ROLES, WeightFormat};

/// Who gets which format.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where it starts from.
    pub preset: &'static Preset,
    /// The user's exceptions, the last one that fits counts.
    pub overrides: Vec<Override>,
    /// Whether a weight that does not take its format may get the nearest one that it takes, instead of an error.
    pub allows_fallback: bool,
    /// Who is thinned before.
    pub prune: PrunePolicy,
}

/// An exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Whom it speaks of.
    pub pattern: Scope,
    /// The format; none for float.
    pub format: Option<WeightFormat>,
}

impl std::str::FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Override, String> {
        let (pattern, format) =
            text.rsplit_once('=').filter(|parts| !parts.0.is_empty()).ok_or_else(|| {
                format!("cannot read '{text}': expected PATTERN=FORMAT such as 'role:last=int8'")
            })?;
        let pattern = pattern.parse()?;
        let format = if format == FLOAT { None } else { Some(format.parse()?) };
        Ok(Override { pattern, format })
    }
}

impl std::fmt::Display for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.format {
            Some(format) => write!(f, "{}={format}", self.pattern),
            None => write!(f, "{}=float", self.pattern),
        }
    }
}

impl Override {
    /// Whether it speaks of a weight.
    pub fn fits(&self, weight: &Weight, module: &Module) -> bool {
        self.pattern.fits(weight, module)
    }
}

/// Some weights: `role:NAME`, or a glob (`*` and `?`) over a weight's name and the names of the nodes that use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        if let Some(role) = text.strip_prefix("role:")
            && !ROLES.iter().any(|row| row.0.is(role))
        {
            let names: Vec<&str> =
                ["attention", "feed_forward"].into_iter().chain(ROLES.iter().map(|row| row.1)).collect();
            let nearest =
                names.iter().min_by_key(|known| edit_distance(role, known)).copied().unwrap_or_default();
            return Err(format!(
                "unknown role '{role}': did you mean '{nearest}'? (known: {})",
                names.join(", ")
            ));
        }
        Ok(Scope(text.into()))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scope {
    /// Whether it takes in a weight.
    pub fn fits(&self, weight: &Weight, module: &Module) -> bool {
        if let Some(role) = self.0.strip_prefix("role:") {
            return weight.role.is(role);
        }
        glob(&self.0, &weight.name) || weight.location(module).names().iter().any(|name| glob(&self.0, name))
    }
}

impl Policy {
    /// A preset with exceptions.
    ///
    /// # Errors
    /// Unknown presets, roles and formats, each with the nearest known one.
    pub fn new(preset: &str, overrides: &[String], allows_fallback: bool) -> Result<Policy, String> {
        let overrides = overrides.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Policy {
            preset: Preset::find(preset)?,
            overrides,
            allows_fallback,
            prune: PrunePolicy::default(),
        })
    }

    /// The format that a weight should have, and who says so.
    pub fn wish(&self, weight: &Weight, module: &Module) -> (Option<WeightFormat>, String) {
        if let Some(found) = self.overrides.iter().rev().find(|one| one.fits(weight, module)) {
            return (found.format, format!("override {}", found.pattern));
        }
        let by_role = self.preset.by_role.iter().find(|row| weight.role.is(row.0));
        let format = by_role.map_or(self.preset.format, |row| row.1);
        (format.parse().ok(), format!("preset {}", self.preset.name))
    }

    /// Exceptions that no weight fits.
    pub fn unused<'p>(&'p self, weights: &[Weight], module: &Module) -> Vec<&'p Override> {
        let is_unused = |one: &&Override| !weights.iter().any(|weight| one.fits(weight, module));
        self.overrides.iter().filter(is_unused).collect()
    }
}

/// Whether a text fits a pattern in which `*` stands for any characters and `?` for one.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go back to: behind the last star, and how much text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, t) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(glob("*layers.?.mlp*", "model.layers.3.mlp.down"));
        assert!(glob("a*b*c", "aXbYbc") && glob("*", "") && glob("abc", "abc"));
        assert!(!glob("a*c", "ab") && !glob("?", "") && !glob("abc", "abcd"));
    }

    #[test]
    fn exceptions_are_read() {
        let one: Override = "role:last=nf4_g64".parse().unwrap();
        assert_eq!(one.to_string(), "role:last=nf4_g64");
        assert_eq!("*head*=float".parse::<Override>().unwrap().format, None);
        assert!("role:lost=int8".parse::<Override>().unwrap_err().contains("unknown role 'lost'"));
        assert!("head".parse::<Override>().unwrap_err().contains("expected PATTERN=FORMAT"));
        assert!("head=int3".parse::<Override>().unwrap_err().contains("unknown weight format"));
    }
}
