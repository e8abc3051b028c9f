//! Tree ensembles of ai.onnx.ml as matrix products: every comparison of every node at once, then which leaf all of them lead to
//! (Nakandala et al. 2020, "A Tensor Compiler for Unified Machine Learning Prediction Serving", section 4.1).
//!
//! ```text
//! bits [b, nodes] = x[:, feature] <= split;   reached [b, leaves] = (bits @ paths == steps to the right);   y = reached @ weights
//! ```

use super::super::context::NodeContext;
use super::super::fault::{Fault, Outcome};
use super::super::operand::Operand;
use super::super::table::{Row, of};
use super::learned::{Scores, Single, classified};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::dialects::core;
use tilewright_ir::element::Element;
use tilewright_ir::module::ValueId;
use tilewright_ir::tensor::Tensor;

type Made = Outcome<Vec<Operand>>;

const DOMAIN: &str = "ai.onnx.ml";

pub(super) static ROWS: &[Row] = &[
    of(DOMAIN, "TreeEnsemble", tree_ensemble).refuses("more than 65,536 leaves, or 67,108,864 pairs of leaves and nodes"),
    of(DOMAIN, "TreeEnsembleRegressor", |node| {
        let forest = old_forest(node, "target")?;
        let base = node.floats_attribute("base_values")?.map(<[f32]>::to_vec).unwrap_or_default();
        let aggregate = node.text("aggregate_function", "SUM")?;
        let transform = node.text("post_transform", "NONE")?;
        let (scores, _) = scores(node, &forest, &aggregate, &base)?;
        let y = super::learned::transformed(node, scores, &transform)?;
        node.one(y)
    })
    .refuses("post_transform SOFTMAX_ZERO and PROBIT; more than 65,536 leaves, or 67,108,864 pairs of leaves and nodes"),
    of(DOMAIN, "TreeEnsembleClassifier", |node| {
        let forest = old_forest(node, "class")?;
        let base = node.floats_attribute("base_values")?.map(<[f32]>::to_vec).unwrap_or_default();
        let (values, scored) = scores(node, &forest, "SUM", &base)?;
        let is_share = forest.leaves.iter().flatten().all(|(_, weight)| *weight >= 0.0);
        let single = if is_share { Single::Share } else { Single::Margin };
        let named: BTreeSet<usize> = forest.leaves.iter().flatten().map(|(target, _)| *target).collect();
        let is_second_alone = base.is_empty() && named == BTreeSet::from([1]);
        if base.len() > 1 && forest.targets == 1 {
            let what = "attribute 'base_values' has two values for one score: what it becomes is not defined";
            return Err(Fault::unsupported(what, "give one value"));
        }
        let scored = scored.filter(|_| base.is_empty());
        classified(node, &Scores { values, scored, single, is_second_alone })
    })
    .refuses("post_transform SOFTMAX_ZERO and PROBIT; more than 65,536 leaves, or 67,108,864 pairs of leaves and nodes"),
];

/// The most paths from a root to a leaf, of all trees together.
const PATHS_MAX: usize = 1 << 16;
/// The most entries of a matrix of an ensemble.
const ENTRIES_MAX: usize = 1 << 26;
/// How deep a tree may be.
const DEPTH_MAX: usize = 1 << 10;

/// How a node compares its feature, in the order of their numbers.
const MODES: [&str; 7] = ["le", "lt", "ge", "gt", "eq", "ne", "member"];

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Node(usize),
    Leaf(usize),
}

/// All trees.
#[derive(Default)]
struct Forest {
    features: Vec<i64>,
    modes: Vec<usize>,
    splits: Vec<f64>,
    /// Values of the nodes that ask for membership.
    members: BTreeMap<usize, Vec<f64>>,
    /// Whether NaN counts as true.
    missing: Vec<bool>,
    branches: Vec<[Next; 2]>,
    roots: Vec<Next>,
    /// Target and weight of each leaf; old leaves have several.
    leaves: Vec<Vec<(usize, f64)>>,
    targets: usize,
    is_double: bool,
}

/// A way from a root to a leaf: nodes with the answers that lead on.
struct Path {
    steps: Vec<(usize, bool)>,
    leaf: usize,
}

impl Forest {
    fn paths(&self) -> Outcome<Vec<Path>> {
        let mut paths = Vec::new();
        for root in &self.roots {
            let mut open = vec![(*root, Vec::new())];
            while let Some((next, steps)) = open.pop() {
                match next {
                    Next::Leaf(leaf) if leaf < self.leaves.len() => paths.push(Path { steps, leaf }),
                    Next::Node(at) if at < self.branches.len() && steps.len() < DEPTH_MAX => {
                        for (side, answer) in [(1, false), (0, true)] {
                            let mut steps: Vec<(usize, bool)> = steps.clone();
                            steps.push((at, answer));
                            open.push((self.branches[at][side], steps));
                        }
                    }
                    _ => {
                        return Err(Fault::model(
                            "a tree has a branch to a node that is not there, or is too deep",
                        ));
                    }
                }
                if paths.len() + open.len() > PATHS_MAX {
                    return Err(Fault::unsupported(
                        format!("more than {PATHS_MAX} leaves"),
                        "split the ensemble",
                    ));
                }
            }
        }
        Ok(paths)
    }
}

fn ints(node: &NodeContext, name: &str) -> Outcome<Vec<i64>> {
    Ok(node.ints_attribute(name)?.map(<[i64]>::to_vec).unwrap_or_default())
}

fn tensor(node: &mut NodeContext, name: &str) -> Outcome<Option<Tensor>> {
    Ok(node.tensor_attribute(name)?.map(|elements| Tensor::from_elements(&elements)).transpose()?)
}

fn index(value: i64) -> Outcome<usize> {
    usize::try_from(value).map_err(|_| Fault::model(format!("a tree names node {value}")))
}

fn tree_ensemble(node: &mut NodeContext) -> Made {
    let required = |name: &str| Fault::model(format!("attribute '{name}' is missing"));
    let splits = tensor(node, "nodes_splits")?.ok_or_else(|| required("nodes_splits"))?;
    let modes = tensor(node, "nodes_modes")?.ok_or_else(|| required("nodes_modes"))?;
    let weights = tensor(node, "leaf_weights")?.ok_or_else(|| required("leaf_weights"))?;
    let count = splits.len();
    let side = |node: &NodeContext, ids: &str, leafs: &str| -> Outcome<Vec<Next>> {
        let (ids, leafs) = (ints(node, ids)?, ints(node, leafs)?);
        if ids.len() != count || leafs.len() != count {
            return Err(Fault::model(format!("{} branches for {count} nodes", ids.len())));
        }
        let next = |(id, leaf): (&i64, &i64)| {
            Ok(if *leaf != 0 { Next::Leaf(index(*id)?) } else { Next::Node(index(*id)?) })
        };
        ids.iter().zip(&leafs).map(next).collect()
    };
    let (yes, no) = (
        side(node, "nodes_truenodeids", "nodes_trueleafs")?,
        side(node, "nodes_falsenodeids", "nodes_falseleafs")?,
    );
    let mut forest = Forest {
        features: ints(node, "nodes_featureids")?,
        modes: modes.ints().iter().map(|mode| *mode as usize).collect(),
        splits: splits.floats(),
        branches: yes.iter().zip(&no).map(|(yes, no)| [*yes, *no]).collect(),
        targets: index(node.required_int("n_targets")?)?,
        missing: ints(node, "nodes_missing_value_tracks_true")?.iter().map(|flag| *flag != 0).collect(),
        is_double: splits.element == Element::F64,
        ..Forest::default()
    };
    for (target, weight) in ints(node, "leaf_targetids")?.iter().zip(weights.floats()) {
        forest.leaves.push(vec![(index(*target)?, weight)]);
    }
    for root in ints(node, "tree_roots")? {
        let root = index(root)?;
        // A tree that is one leaf is written as a node with that leaf on both sides.
        let lone = forest
            .branches
            .get(root)
            .filter(|sides| sides[0] == sides[1] && matches!(sides[0], Next::Leaf(_)));
        forest.roots.push(lone.map_or(Next::Node(root), |sides| sides[0]));
    }
    let members = tensor(node, "membership_values")?.map(|values| values.floats()).unwrap_or_default();
    let mut lists = members.split(|value| value.is_nan());
    for (at, _) in forest.modes.iter().enumerate().filter(|(_, mode)| **mode == 6) {
        let list =
            lists.next().ok_or_else(|| Fault::model("attribute 'membership_values' has too few lists"))?;
        forest.members.insert(at, list.to_vec());
    }
    let aggregate = match node.int("aggregate_function", 1)? {
        0 => "AVERAGE",
        1 => "SUM",
        2 => "MIN",
        3 => "MAX",
        other => return Err(Fault::model(format!("attribute 'aggregate_function' = {other} is not known"))),
    };
    let transform = match node.int("post_transform", 0)? {
        0 => "NONE",
        1 => "SOFTMAX",
        2 => "LOGISTIC",
        3 => "SOFTMAX_ZERO",
        _ => "PROBIT",
    };
    let (scores, _) = scores(node, &forest, aggregate, &[])?;
    let y = super::learned::transformed(node, scores, transform)?;
    node.one(y)
}

/// The form before version 5: nodes are named by tree and number, and leaves are nodes.
fn old_forest(node: &mut NodeContext, kind: &str) -> Outcome<Forest> {
    let (trees, ids) = (ints(node, "nodes_treeids")?, ints(node, "nodes_nodeids")?);
    let (yes, no) = (ints(node, "nodes_truenodeids")?, ints(node, "nodes_falsenodeids")?);
    let modes = node.texts_attribute("nodes_modes")?.unwrap_or_default();
    let features = ints(node, "nodes_featureids")?;
    let splits = node.floats_attribute("nodes_values")?.map(<[f32]>::to_vec).unwrap_or_default();
    let count = trees.len();
    if [ids.len(), yes.len(), no.len(), modes.len(), features.len(), splits.len()]
        .iter()
        .any(|length| *length != count)
    {
        return Err(Fault::model(
            "the lists of the nodes differ in length (tensors in place of lists are not supported)",
        ));
    }
    let places: BTreeMap<(i64, i64), usize> =
        trees.iter().copied().zip(ids).enumerate().map(|(at, key)| (key, at)).collect();
    let mut forest = Forest {
        missing: ints(node, "nodes_missing_value_tracks_true")?.iter().map(|flag| *flag != 0).collect(),
        leaves: vec![Vec::new(); count],
        ..Forest::default()
    };
    let next = |tree: i64, id: i64| -> Outcome<Next> {
        let at =
            *places.get(&(tree, id)).ok_or_else(|| Fault::model(format!("tree {tree} has no node {id}")))?;
        Ok(if modes[at] == "LEAF" { Next::Leaf(at) } else { Next::Node(at) })
    };
    for at in 0..count {
        let mode = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF"];
        let mode = mode.iter().position(|name| *name == modes[at]);
        let mode = mode.ok_or_else(|| Fault::model(format!("mode '{}' is not known", modes[at])))?;
        let is_leaf = mode == 6;
        let own = Next::Leaf(at);
        forest.branches.push(if is_leaf {
            [own, own]
        } else {
            [next(trees[at], yes[at])?, next(trees[at], no[at])?]
        });
        forest.modes.push(if is_leaf { 0 } else { mode });
        forest.features.push(if is_leaf { 0 } else { features[at] });
        forest.splits.push(f64::from(splits[at]));
        // The first node of a tree is its root.
        if at == 0 || trees[at] != trees[at - 1] {
            forest.roots.push(if is_leaf { own } else { Next::Node(at) });
        }
    }
    let part = |name: &str| format!("{kind}_{name}");
    let (leaf_trees, leaf_ids) = (ints(node, &part("treeids"))?, ints(node, &part("nodeids"))?);
    let targets = ints(node, &part("ids"))?;
    let weights = node.floats_attribute(&part("weights"))?.map(<[f32]>::to_vec).unwrap_or_default();
    for (at, weight) in weights.iter().enumerate() {
        let key = leaf_trees.get(at).copied().zip(leaf_ids.get(at).copied());
        let place = key.and_then(|key| places.get(&key)).copied();
        let target = targets.get(at).copied();
        let (Some(place), Some(target)) = (place, target) else {
            return Err(Fault::model(format!("weight {at} belongs to no leaf")));
        };
        forest.leaves[place].push((index(target)?, f64::from(*weight)));
    }
    let most = targets.iter().max().map_or(0, |last| last.saturating_add(1));
    forest.targets = index(if kind == "target" { node.int("n_targets", most)? } else { most })?;
    Ok(forest)
}

/// The aggregated weights of the leaves that rows of x `[b, features]` reach, `[b, targets]`; and which targets they name, where some
/// leaf does not name all.
fn scores(
    node: &mut NodeContext,
    forest: &Forest,
    aggregate: &str,
    base: &[f32],
) -> Outcome<(ValueId, Option<ValueId>)> {
    let x = node.value(0)?;
    let element =
        if forest.is_double || node.element(x) == Element::F64 { Element::F64 } else { Element::F32 };
    if node.rank(x) != 2
        || forest.features.len() != forest.splits.len()
        || forest.modes.len() != forest.splits.len()
    {
        return Err(Fault::model(format!("rows of features are needed, found {}", node.ty(x))));
    }
    let x = node.cast(x, element)?;
    let paths = forest.paths()?;
    let nodes = forest.splits.len();
    let floats = |node: &mut NodeContext, shape: &[usize], values: Vec<f64>| {
        node.tensor(&Tensor::from_floats(element, shape, values))
    };
    let bits = answers(node, forest, x, element)?;
    for (what, count) in [("nodes", nodes), ("targets", forest.targets)] {
        if count.checked_mul(paths.len()).is_none_or(|entries| entries > ENTRIES_MAX) {
            let what = format!("{} leaves of {count} {what} are too many", paths.len());
            return Err(Fault::unsupported(what, "split the ensemble"));
        }
    }
    let (mut matrix, mut rights) = (vec![0.0; nodes * paths.len()], vec![0.0; paths.len()]);
    for (column, path) in paths.iter().enumerate() {
        for (at, answer) in &path.steps {
            // The same question twice on one way counts twice.
            matrix[at * paths.len() + column] += if *answer { 1.0 } else { -1.0 };
            rights[column] += f64::from(u8::from(*answer));
        }
    }
    let matrix = floats(node, &[nodes, paths.len()], matrix)?;
    let rights = floats(node, &[paths.len()], rights)?;
    let sums = node.matmul(bits, matrix)?;
    let reached = node.compare("eq", sums, rights)?;
    let mut weights = vec![0.0; paths.len() * forest.targets];
    let mut has_weight = vec![0i64; paths.len() * forest.targets];
    for (row, path) in paths.iter().enumerate() {
        for (target, weight) in &forest.leaves[path.leaf] {
            let place = (*target < forest.targets).then_some(row * forest.targets + target);
            let place = place
                .ok_or_else(|| Fault::model(format!("a leaf names target {target} of {}", forest.targets)))?;
            weights[place] += weight;
            has_weight[place] = 1;
        }
    }
    let shape = [paths.len(), forest.targets];
    let scored = if has_weight.contains(&0) {
        let named = floats(node, &shape, has_weight.iter().map(|flag| *flag as f64).collect())?;
        let reached = node.cast(reached, element)?;
        let count = node.matmul(reached, named)?;
        let zero = node.scalar(element, 0.0)?;
        Some(node.compare("gt", count, zero)?)
    } else {
        None
    };
    let mut y = match aggregate {
        "SUM" | "AVERAGE" => {
            let weights = floats(node, &shape, weights)?;
            let reached = node.cast(reached, element)?;
            let sum = node.matmul(reached, weights)?;
            if aggregate == "SUM" { sum } else { node.scale(sum, 1.0 / forest.roots.len().max(1) as f64)? }
        }
        "MIN" | "MAX" => {
            let (def, nothing) = if aggregate == "MIN" {
                (&core::REDUCE_MIN, f64::MAX)
            } else {
                (&core::REDUCE_MAX, f64::MIN)
            };
            let nothing =
                if element == Element::F32 { nothing.signum() * f64::from(f32::MAX) } else { nothing };
            let weights = floats(node, &shape, weights)?;
            let flags = node.ints(Element::Bool, &shape.map(|size| size as i64), &has_weight)?;
            let nothing = node.scalar(element, nothing)?;
            let weights = node.select(flags, weights, nothing)?;
            let column = [node.shape(reached).as_slice(), &[tilewright_ir::dim::Dim::Known(1)]].concat();
            let reached = node.reshape(reached, &column)?;
            let found = node.select(reached, weights, nothing)?;
            node.reduce(def, found, &[1], false)?
        }
        other => {
            return Err(Fault::model(format!("attribute 'aggregate_function' = '{other}' is not known")));
        }
    };
    if !base.is_empty() {
        let base = floats(node, &[base.len()], base.iter().map(|value| f64::from(*value)).collect())?;
        y = node.add(y, base)?;
    }
    Ok((y, scored))
}

/// What every node answers for every row, 1 for true: `[b, nodes]`.
fn answers(node: &mut NodeContext, forest: &Forest, x: ValueId, element: Element) -> Outcome<ValueId> {
    let nodes = forest.splits.len();
    let count = [nodes as i64];
    let features = node.ints(Element::I64, &count, &forest.features)?;
    let given = node.gather(x, features, 1)?;
    let splits = node.tensor(&Tensor::from_floats(element, &[nodes], forest.splits.clone()))?;
    let mut answer: Option<ValueId> = None;
    let mut join = |node: &mut NodeContext, flags: ValueId, of: Vec<i64>| -> Outcome<()> {
        let of = node.ints(Element::Bool, &count, &of)?;
        let flags = node.logical("and", flags, of)?;
        answer = Some(match answer {
            Some(answer) => node.logical("or", answer, flags)?,
            None => flags,
        });
        Ok(())
    };
    for (mode, predicate) in MODES.iter().enumerate() {
        let of: Vec<i64> = forest.modes.iter().map(|one| i64::from(*one == mode)).collect();
        if of.contains(&1) {
            let flags = if mode == 6 {
                membership(node, forest, x, element)?
            } else {
                node.compare(predicate, given, splits)?
            };
            join(node, flags, of)?;
        }
    }
    if forest.missing.contains(&true) && forest.missing.len() == nodes {
        let flags = node.unary(&core::IS_NAN, given)?;
        join(node, flags, forest.missing.iter().map(|flag| i64::from(*flag)).collect())?;
    }
    match answer {
        Some(answer) => node.cast(answer, element),
        None => Err(Fault::model("the nodes have modes that are not known")),
    }
}

/// Whether a node's feature is one of its members: `[b, nodes]`.
fn membership(node: &mut NodeContext, forest: &Forest, x: ValueId, element: Element) -> Outcome<ValueId> {
    let pairs: Vec<(usize, f64)> = forest
        .members
        .iter()
        .flat_map(|(at, values)| values.iter().map(move |value| (*at, *value)))
        .collect();
    let nodes = forest.splits.len();
    let features: Vec<i64> = pairs.iter().map(|(at, _)| forest.features[*at]).collect();
    let features = node.ints(Element::I64, &[pairs.len() as i64], &features)?;
    let given = node.gather(x, features, 1)?;
    let values = pairs.iter().map(|(_, value)| *value).collect();
    let values = node.tensor(&Tensor::from_floats(element, &[pairs.len()], values))?;
    let same = node.compare("eq", given, values)?;
    let same = node.cast(same, element)?;
    let mut owners = vec![0.0; pairs.len() * nodes];
    pairs.iter().enumerate().for_each(|(row, (at, _))| owners[row * nodes + at] = 1.0);
    let owners = node.tensor(&Tensor::from_floats(element, &[pairs.len(), nodes], owners))?;
    let found = node.matmul(same, owners)?;
    let zero = node.scalar(element, 0.0)?;
    node.compare("gt", found, zero)
}
