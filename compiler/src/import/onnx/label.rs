//! What a node is called in locations and messages: its layer path and name.
//!
//! ```text
//! m.model.layers.0.mlp/node_MatMul_12      /model/layers.0/mlp/MatMul      Gather -> x0
//! ```

use super::schema::NodeProto;

/// The layer path and name of a node. Paths come from the exporter's metadata, else the node's name carries one, else the operator
/// and its first output stand for it.
pub(crate) fn label(node: &NodeProto) -> String {
    let name = node.name.as_deref().unwrap_or_default();
    let fallback = || {
        let output = node.output.iter().find(|output| !output.is_empty()).map_or("", String::as_str);
        format!("{} -> {output}", node.op_type.as_deref().unwrap_or_default())
    };
    let name = if name.is_empty() { fallback() } else { name.to_string() };
    match layer_path(node) {
        Some(path) if !name.contains(&path) => format!("{path}/{name}"),
        _ => name,
    }
}

fn metadata<'a>(node: &'a NodeProto, key: &str) -> Option<&'a str> {
    let entry = node.metadata_props.iter().find(|entry| entry.key.as_deref() == Some(key))?;
    entry.value.as_deref()
}

/// The innermost module that the node belongs to.
fn layer_path(node: &NodeProto) -> Option<String> {
    let scopes: Vec<String> = if let Some(list) = metadata(node, "pkg.torch.onnx.name_scopes") {
        // A Python list of quoted names; the last one is the node's own.
        list.split('\'').skip(1).step_by(2).map(str::to_string).collect()
    } else {
        let list = metadata(node, "namespace")?;
        list.split('/').map(|part| part.split(':').next().unwrap_or_default().trim().to_string()).collect()
    };
    let (_, modules) = scopes.split_last()?;
    let innermost = modules.last()?;
    (!innermost.is_empty() && !innermost.starts_with('_')).then(|| innermost.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::onnx::schema::StringStringEntryProto;

    #[test]
    fn the_layer_path_leads() {
        let entry = |key: &str, value: &str| StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value.into()),
        };
        let mut node =
            NodeProto { op_type: Some("Pow".into()), output: vec!["pow_1".into()], ..NodeProto::default() };
        assert_eq!(label(&node), "Pow -> pow_1");
        node.name = Some("node_pow_1".into());
        node.metadata_props =
            vec![entry("namespace", ": M/m: Llama/m.layers.0: Layer/pow_1: aten.pow.Tensor_Scalar")];
        assert_eq!(label(&node), "m.layers.0/node_pow_1");
        node.metadata_props = vec![entry("pkg.torch.onnx.name_scopes", "['', 'm', 'm.norm', 'pow_1']")];
        assert_eq!(label(&node), "m.norm/node_pow_1");
    }
}
