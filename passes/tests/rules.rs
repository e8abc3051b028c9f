//! Every in-tree rule on random instances, and each of its guards by removal.

use tilewright_ir::registry::Registry;
use tilewright_passes::rules::{load, sample::check_rule};

/// Instances per rule on which both sides must agree.
const INSTANCES: usize = 64;

#[test]
fn every_rule_agrees_on_random_instances_and_needs_its_guards() {
    let rules = load(&Registry::builtin(), &[]).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(rules.len() >= 40, "only {} rules", rules.len());
    let only = std::env::var("RULE").ok();
    let mut problems = Vec::new();
    for (seed, rule) in rules.iter().enumerate() {
        if only.as_ref().is_some_and(|name| *name != *rule.name) {
            continue;
        }
        let checked = check_rule(rule, INSTANCES, seed as u64 + 1);
        for fault in checked.faults {
            problems.push(format!("{} ({}): {fault}", rule.name, rule.place));
        }
        for guard in checked.unneeded_guards {
            problems.push(format!("{} ({}): nothing fails without '{guard}'", rule.name, rule.place));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
