//! Where an op came from: a node of the source model, a place in a file, or several of them fused.
//!
//! ```text
//! loc("/model/layers.0/mlp/MatMul")   loc("a.mlir":3:4)   loc(fused["a", "b"])   loc(fused<"rule">["a"])
//! ```

use std::fmt;
use std::sync::Arc;

/// Where an op came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Not known.
    #[default]
    Unknown,
    /// A named node of the source model; the name carries the layer path.
    Name(Arc<str>),
    /// A place in a text file: name, line and column from 1.
    File(Arc<str>, u32, u32),
    /// Made from several, optionally tagged (the tag names the rules that made the op).
    Fused(Option<Arc<str>>, Arc<[Location]>),
}

impl Location {
    /// A named location; empty names are unknown.
    pub fn name(name: &str) -> Location {
        if name.is_empty() { Location::Unknown } else { Location::Name(name.into()) }
    }

    /// A byte offset of a text file's text, which is called `file` in messages.
    pub fn in_text(file: &str, text: &str, offset: usize) -> Location {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1;
        Location::File(file.into(), line as u32, column as u32)
    }

    /// All named nodes inside, in order, without repeats.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        self.collect(&mut names);
        names
    }

    fn collect(&self, into: &mut Vec<Arc<str>>) {
        match self {
            Location::Name(name) if !into.contains(name) => into.push(name.clone()),
            Location::Fused(_, parts) => parts.iter().for_each(|part| part.collect(into)),
            _ => {}
        }
    }

    /// One location for several; flattens, drops unknowns and repeats.
    pub fn fuse(tag: Option<&str>, parts: impl IntoIterator<Item = Location>) -> Location {
        let mut flat: Vec<Location> = Vec::new();
        for part in parts {
            let inner = match part {
                Location::Unknown => continue,
                Location::Fused(None, inner) => inner.to_vec(),
                other => vec![other],
            };
            for location in inner {
                if !flat.contains(&location) {
                    flat.push(location);
                }
            }
        }
        match (tag, flat.len()) {
            (None, 0) => Location::Unknown,
            (None, 1) => flat.remove(0),
            _ => Location::Fused(tag.map(Into::into), flat.into()),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Unknown => f.write_str("unknown"),
            Location::Name(name) => write!(f, "\"{}\"", crate::attribute::escape(name)),
            Location::File(name, line, column) => {
                write!(f, "\"{}\":{line}:{column}", crate::attribute::escape(name))
            }
            Location::Fused(tag, parts) => {
                f.write_str("fused")?;
                if let Some(tag) = tag {
                    write!(f, "<\"{}\">", crate::attribute::escape(tag))?;
                }
                f.write_str("[")?;
                for (at, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}
