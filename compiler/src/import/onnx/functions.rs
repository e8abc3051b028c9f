//! Bodies of model-local functions with the caller's attributes put in.
//!
//! ```text
//! call: Scaled {factor = 2.0}    body: Constant {value_float = @factor}    becomes: Constant {value_float = 2.0}
//! ```

use super::schema::{AttributeProto, FunctionProto, NodeProto};
use std::collections::BTreeMap;

/// The nodes of a function as called by `node`.
pub(crate) fn body(function: &FunctionProto, node: &NodeProto) -> Vec<NodeProto> {
    let mut given: BTreeMap<&str, &AttributeProto> = BTreeMap::new();
    // Defaults first, so that the caller's win.
    for attribute in function.attribute_proto.iter().chain(&node.attribute) {
        given.insert(attribute.name.as_deref().unwrap_or_default(), attribute);
    }
    let mut nodes = function.node.clone();
    nodes.iter_mut().for_each(|node| fill(node, &given));
    nodes
}

/// Replaces references to the function's attributes; one that the caller left out and that has no default is dropped.
fn fill(node: &mut NodeProto, given: &BTreeMap<&str, &AttributeProto>) {
    node.attribute = std::mem::take(&mut node.attribute)
        .into_iter()
        .filter_map(|mut attribute| {
            let reference = attribute.ref_attr_name.as_deref().unwrap_or_default();
            if !reference.is_empty() {
                let value = given.get(reference)?;
                return Some(AttributeProto { name: attribute.name.clone(), ..(*value).clone() });
            }
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                graph.node.iter_mut().for_each(|node| fill(node, given));
            }
            Some(attribute)
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, value: Option<i64>, reference: &str) -> AttributeProto {
        AttributeProto {
            name: Some(name.into()),
            i: value,
            ref_attr_name: (!reference.is_empty()).then(|| reference.into()),
            ..AttributeProto::default()
        }
    }

    #[test]
    fn the_caller_wins_over_the_default() {
        let function = FunctionProto {
            attribute: vec!["b".into()],
            attribute_proto: vec![attribute("a", Some(1), "")],
            node: vec![NodeProto {
                attribute: vec![
                    attribute("x", None, "a"),
                    attribute("y", None, "b"),
                    attribute("z", Some(3), ""),
                ],
                ..NodeProto::default()
            }],
            ..FunctionProto::default()
        };
        let values = |call: &[AttributeProto]| {
            let call = NodeProto { attribute: call.to_vec(), ..NodeProto::default() };
            let node = body(&function, &call).remove(0);
            node.attribute.iter().map(|a| (a.name.clone().unwrap(), a.i.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(values(&[]), [("x".into(), 1), ("z".into(), 3)]);
        assert_eq!(
            values(&[attribute("a", Some(7), ""), attribute("b", Some(8), "")]),
            [("x".into(), 7), ("y".into(), 8), ("z".into(), 3)]
        );
    }
}
