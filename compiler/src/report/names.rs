//! Names of nodes in a model: which layer they belong to, and how several of them are told in one line.
//!
//! ```text
//! model.layers.0.mlp.up_proj/node_linear -> model.layers.0      /lm_head/MatMul -> /lm_head      "a + b + c" -> a (+2)
//! ```

/// What separates the names in a location of a kernel.
pub const SEPARATOR: &str = " + ";

/// The nodes that a location names.
pub fn nodes(location: &str) -> Vec<String> {
    location.split(SEPARATOR).filter(|name| !name.is_empty()).map(str::to_string).collect()
}

/// What names of nodes hold that do the work of their kernel, in any case of letters.
const HEAVY: [&str; 6] = ["matmul", "linear", "gemm", "conv", "attention", "proj"];

/// One line for the nodes of a kernel: the last that multiplies by its name, else the last, which gives the result; and how many more.
pub fn title(nodes: &[String]) -> String {
    let is_heavy = |node: &&String| {
        let own = node.rsplit('/').next().unwrap_or(node).to_ascii_lowercase();
        HEAVY.iter().any(|word| own.contains(word))
    };
    match (nodes.iter().rev().find(is_heavy).or(nodes.last()), nodes.len()) {
        (None, _) => "(no name)".into(),
        (Some(one), 1) => one.clone(),
        (Some(one), count) => format!("{one} (+{})", count - 1),
    }
}

/// The layer of a node: its path up to the first number that is a part of its own, else the folder it lies in.
pub fn layer(node: &str) -> String {
    let is_border = |c: char| c == '/' || c == '.';
    let mut start = 0;
    for (at, border) in node.match_indices(is_border).map(|(at, text)| (at, text.len())) {
        let part = &node[start..at];
        if start > 0 && !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()) {
            return node[..at].to_string();
        }
        start = at + border;
    }
    match node.rfind('/') {
        Some(0) | None => "(top)".into(),
        Some(end) => node[..end].to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_paths_up_to_their_number() {
        for (node, expected) in [
            ("model.model.layers.0.input_layernorm/node_pow_1", "model.model.layers.0"),
            ("/model/layers.12/attn/q_proj/MatMul", "/model/layers.12"),
            ("/encoder/layer/3/output/Add", "/encoder/layer/3"),
            ("model.model.rotary_emb/node_mul", "model.model.rotary_emb"),
            ("/lm_head/MatMul", "/lm_head"),
            ("node_12", "(top)"),
            ("/Add", "(top)"),
        ] {
            assert_eq!(layer(node), expected, "{node}");
        }
        assert_eq!(title(&nodes("a + b + c")), "c (+2)");
        assert_eq!(title(&nodes("a/Pow + a/MatMul + a/Add")), "a/MatMul (+2)");
        assert_eq!(title(&nodes("")), "(no name)");
    }
}
