//! The order in which the nodes of a graph are imported.
//!
//! ONNX demands producers before consumers; a file that has them in another order is sorted, and a cycle is named.

use super::label::label;
use super::schema::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// Names that a node reads: its inputs, what its subgraphs take from outside, and what a gradient is of.
fn reads<'a>(node: &'a NodeProto, into: &mut BTreeSet<&'a str>) {
    into.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            captures(graph, into);
        }
        if node.op_type.as_deref() == Some("Gradient") && attribute.name.as_deref() == Some("y") {
            into.extend(attribute.s.as_deref().and_then(|name| std::str::from_utf8(name).ok()));
        }
    }
}

/// Names that a subgraph reads and does not define.
fn captures<'a>(graph: &'a GraphProto, into: &mut BTreeSet<&'a str>) {
    let mut read = BTreeSet::new();
    graph.node.iter().for_each(|node| reads(node, &mut read));
    read.extend(graph.output.iter().filter_map(|output| output.name.as_deref()));
    let mut defined: BTreeSet<&str> = graph.input.iter().filter_map(|input| input.name.as_deref()).collect();
    defined.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()));
    defined.extend(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
    into.extend(read.difference(&defined));
}

/// Positions of the nodes in an order where producers come first, as near to the file's order as can be.
///
/// # Errors
/// The labels of the nodes of a cycle, in order.
pub(crate) fn order(nodes: &[NodeProto]) -> Result<Vec<usize>, Vec<String>> {
    let producers: BTreeMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .rev()
        .flat_map(|(at, node)| node.output.iter().map(move |name| (name.as_str(), at)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let needs: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| {
            let mut names = BTreeSet::new();
            reads(node, &mut names);
            names.into_iter().filter_map(|name| producers.get(name).copied()).collect()
        })
        .collect();
    if needs.iter().enumerate().all(|(at, producers)| producers.iter().all(|producer| *producer < at)) {
        return Ok((0..nodes.len()).collect());
    }
    sort(nodes, &needs)
}

/// Depth first with a stack of our own: a long chain must not exhaust the thread's.
fn sort(nodes: &[NodeProto], needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<String>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; nodes.len()];
    let mut result = Vec::with_capacity(nodes.len());
    for root in 0..nodes.len() {
        let mut stack: Vec<(usize, usize)> =
            if states[root] == State::New { vec![(root, 0)] } else { Vec::new() };
        while let Some((node, next)) = stack.pop() {
            states[node] = State::Open;
            let Some(need) = needs[node].get(next) else {
                states[node] = State::Done;
                result.push(node);
                continue;
            };
            stack.push((node, next + 1));
            match states[*need] {
                State::New => stack.push((*need, 0)),
                State::Done => {}
                State::Open => {
                    let from = stack.iter().position(|row| row.0 == *need).unwrap_or(0);
                    return Err(stack[from..].iter().map(|row| label(&nodes[row.0])).collect());
                }
            }
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            name: Some(name.into()),
            op_type: Some("Op".into()),
            input: inputs.iter().map(|input| input.to_string()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    #[test]
    fn unsorted_nodes_are_sorted() {
        let nodes = [node("c", &["b"], "y"), node("a", &["x"], "a"), node("b", &["a", "x"], "b")];
        assert_eq!(order(&nodes), Ok(vec![1, 2, 0]));
        assert_eq!(order(&nodes[1..]), Ok(vec![0, 1]));
    }

    #[test]
    fn a_cycle_is_named() {
        let nodes = [node("start", &["x"], "s"), node("a", &["s", "d"], "b"), node("b", &["b"], "d")];
        let mut cycle = order(&nodes).unwrap_err();
        cycle.sort();
        assert_eq!(cycle, ["a", "b"]);
        assert_eq!(order(&[node("own", &["x"], "x")]).unwrap_err(), ["own"]);
    }
}
