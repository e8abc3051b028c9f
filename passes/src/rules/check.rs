//! What a rule must not be: a pure reordering (commutativity, associativity), or growing without saying so.

use super::pattern::{NodePattern, Pattern, Rule, Template};
use std::collections::BTreeMap;

/// Checks a rule on its own.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn check(rule: &Rule) -> Result<(), String> {
    let mut left = Vec::new();
    ops_of(&rule.left, &mut left);
    let mut right = Vec::new();
    ops_of_template(&rule.right, &mut right);
    if right.len() > left.len() && !rule.expanding {
        return Err(format!(
            "the right side has {} ops and the left side {}: mark the rule 'expanding' if that is meant",
            right.len(),
            left.len()
        ));
    }
    let only = left.first().copied();
    let one_op = left.iter().chain(&right).all(|name| Some(*name) == only);
    if one_op && left.len() == right.len() && is_reordering(rule) {
        return Err("this rule only reorders operands (commutativity or associativity), which makes e-graphs explode: \
                    write the left side of each rule that needs it twice"
            .into());
    }
    Ok(())
}

fn ops_of(node: &NodePattern, into: &mut Vec<&'static str>) {
    into.push(node.def.name);
    for child in &node.children {
        if let Pattern::Node(child) = child {
            ops_of(child, into);
        }
    }
}

fn ops_of_template(template: &Template, into: &mut Vec<&'static str>) {
    if let Template::Node(node) = template {
        into.push(node.def.name);
        for child in &node.children {
            ops_of_template(child, into);
        }
    }
}

/// Both sides use the same variables equally often, and compute no new attribute.
fn is_reordering(rule: &Rule) -> bool {
    let mut count: BTreeMap<usize, i64> = BTreeMap::new();
    leaves(&rule.left, &mut |index| *count.entry(index).or_insert(0) += 1);
    let mut computes = false;
    leaves_of_template(&rule.right, &mut computes, &mut |index| *count.entry(index).or_insert(0) -= 1);
    !computes && count.values().all(|difference| *difference == 0)
}

fn leaves(node: &NodePattern, f: &mut impl FnMut(usize)) {
    for child in &node.children {
        match child {
            Pattern::Variable(index) => f(*index),
            Pattern::Node(child) => leaves(child, f),
            Pattern::Absent => {}
        }
    }
}

fn leaves_of_template(template: &Template, computes: &mut bool, f: &mut impl FnMut(usize)) {
    match template {
        Template::Variable(index) => f(*index),
        Template::Absent => {}
        Template::Constant(..) => *computes = true,
        Template::Node(node) => {
            *computes |= !node.attributes.is_empty();
            for child in &node.children {
                leaves_of_template(child, computes, f);
            }
        }
    }
}
