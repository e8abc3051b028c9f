//! Weight formats and presets: one row each. What a format is in numbers says [`crate::quantizer`]; who gets which, a policy of the
//! passes.
//!
//! A format is written as its base and what differs from the base's defaults, joined by `_`: a group (`g32 g64 g128`), `channel` or
//! `tensor`, `sym` or `asym`, and the element of the scales (`f16 bf16 f32`). [`WeightFormat`] prints in the same way.
//!
//! ```text
//! int8   int4_g32   int4_g128_asym   nf4_g64   fp8_e4m3   int8_tensor   mxfp4   mxfp8
//! ```

use crate::compressor::PALETTE;
use crate::element::Element;
use crate::registry::edit_distance;
use std::fmt;
use std::str::FromStr;

/// How many weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Granularity {
    /// One scale for the whole tensor.
    Tensor,
    /// One per output channel.
    Channel,
    /// One per this many weights along the dimension that a product sums over.
    Group(u32),
}

/// A row of the table of base formats.
#[derive(Debug)]
pub struct Base {
    /// Its name.
    pub name: &'static str,
    /// What one weight is stored as.
    pub storage: Element,
    /// What it is stored as with zero points; `None` when it takes none.
    pub asymmetric: Option<Element>,
    /// The granularity when none is named.
    pub granularity: Granularity,
    /// The element of the scales when none is named; where it is none, f32 for few scales, f16 for groups, so that 4 bits stay near 4.
    pub scale: Option<Element>,
    /// True when scales and groups are part of the format (OCP MX).
    pub is_fixed: bool,
    /// One line.
    pub doc: &'static str,
}

const fn base(name: &'static str, storage: Element, granularity: Granularity, doc: &'static str) -> Base {
    Base { name, storage, asymmetric: None, granularity, scale: None, is_fixed: false, doc }
}

/// The largest FP8 numbers are large: scales that take weights to them would be subnormal in f16.
const fn float(name: &'static str, storage: Element, doc: &'static str) -> Base {
    Base { scale: Some(Element::F32), ..base(name, storage, Granularity::Channel, doc) }
}

/// Weights that share an 8-bit exponent in the OCP Microscaling formats (MX specification 1.0, table 1).
pub const MX_BLOCK: u32 = 32;

const fn microscaling(name: &'static str, storage: Element, doc: &'static str) -> Base {
    Base {
        scale: Some(Element::F8E8M0),
        is_fixed: true,
        ..base(name, storage, Granularity::Group(MX_BLOCK), doc)
    }
}

/// The base formats. A name that begins another one stands after it.
pub static BASES: &[Base] = &[
    Base {
        asymmetric: Some(Element::U8),
        ..base("int8", Element::I8, Granularity::Channel, "8-bit integers (asym: with zero points)")
    },
    Base {
        asymmetric: Some(Element::U4),
        ..base("int4", Element::I4, Granularity::Group(32), "4-bit integers (asym: with zero points)")
    },
    base("palette4", Element::U4, Granularity::Tensor, "16 levels per tensor, by k-means (arXiv:1510.00149)"),
    base("nf4", Element::NF4, Granularity::Group(64), "NormalFloat 4 (arXiv:2305.14314)"),
    float("fp8_e4m3", Element::F8E4M3FN, "OCP FP8, 3 bits of mantissa"),
    float("fp8_e5m2", Element::F8E5M2, "OCP FP8, 2 bits of mantissa"),
    microscaling("mxfp4", Element::F4E2M1, "OCP MX: FP4 with an 8-bit exponent per 32"),
    microscaling("mxfp8_e5m2", Element::F8E5M2, "OCP MX: FP8 e5m2 with an 8-bit exponent per 32"),
    microscaling("mxfp8", Element::F8E4M3FN, "OCP MX: FP8 e4m3 with an 8-bit exponent per 32"),
];

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightFormat {
    /// What one weight is stored as.
    pub storage: Element,
    /// What a scale is stored as.
    pub scale: Element,
    /// Whether there are zero points, of the storage's element.
    pub has_zero_point: bool,
    /// How many weights share a scale.
    pub granularity: Granularity,
}

impl WeightFormat {
    /// The row that it varies.
    pub fn base(&self) -> &'static Base {
        let is_mx = self.scale == Element::F8E8M0;
        let fits = |base: &&Base| {
            base.is_fixed == is_mx
                && (base.storage == self.storage
                    || (self.has_zero_point && base.asymmetric == Some(self.storage)))
        };
        BASES.iter().find(fits).unwrap_or(&BASES[0])
    }

    /// Whether weights are codes of a palette: its levels stand where others have scales.
    pub fn is_palette(&self) -> bool {
        self.storage == Element::U4 && !self.has_zero_point
    }

    /// The same with another granularity. The scales follow the base's default.
    #[must_use]
    pub fn with_granularity(self, granularity: Granularity) -> WeightFormat {
        let scale = self.base().scale.unwrap_or_else(|| default_scale(granularity));
        WeightFormat { granularity, scale, ..self }
    }

    /// Bytes that a tensor takes: storage, scales and zero points. `depth` is how many weights an output channel has, `channels`
    /// how many channels there are.
    pub fn bytes(&self, depth: usize, channels: usize) -> usize {
        let scales = match self.granularity {
            Granularity::Tensor => 1,
            Granularity::Channel => channels,
            Granularity::Group(group) => depth.div_ceil(group as usize) * channels,
        };
        let scales = if self.is_palette() { PALETTE } else { scales };
        let zero_points = if self.has_zero_point { self.storage.bytes_of(scales) } else { 0 };
        self.storage.bytes_of(depth * channels) + self.scale.bytes_of(scales) + zero_points
    }

    /// Why a channel of `depth` weights cannot be stored so, with the groups that divide it.
    ///
    /// # Errors
    /// When the group does not divide the depth.
    pub fn check_depth(&self, depth: usize) -> Result<(), String> {
        let Granularity::Group(group) = self.granularity else { return Ok(()) };
        if depth.is_multiple_of(group as usize) {
            return Ok(());
        }
        let fitting: Vec<String> = GROUPS
            .iter()
            .filter(|other| depth.is_multiple_of(**other as usize) && !self.base().is_fixed)
            .map(|other| self.with_granularity(Granularity::Group(*other)).to_string())
            .chain((!self.base().is_fixed).then(|| self.with_granularity(Granularity::Channel).to_string()))
            .chain(self.base().is_fixed.then(|| "int4_channel, fp8_e4m3, int8".to_string()))
            .collect();
        Err(format!("groups of {group} do not divide {depth} (these fit: {})", fitting.join(", ")))
    }
}

/// The groups that formats name.
pub const GROUPS: [u32; 4] = [16, 32, 64, 128];

fn default_scale(granularity: Granularity) -> Element {
    if matches!(granularity, Granularity::Group(_)) { Element::F16 } else { Element::F32 }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base();
        f.write_str(base.name)?;
        if base.is_fixed {
            return Ok(());
        }
        match self.granularity {
            Granularity::Group(group) => write!(f, "_g{group}")?,
            other if other == base.granularity => {}
            Granularity::Tensor => f.write_str("_tensor")?,
            Granularity::Channel => f.write_str("_channel")?,
        }
        if self.has_zero_point {
            f.write_str("_asym")?;
        }
        if self.scale != base.scale.unwrap_or_else(|| default_scale(self.granularity)) {
            write!(f, "_{}", self.scale)?;
        }
        Ok(())
    }
}

impl FromStr for WeightFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<WeightFormat, String> {
        let starts = |base: &&Base| {
            text.strip_prefix(base.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        let base = BASES.iter().find(starts).ok_or_else(|| unknown_format(text))?;
        let mut granularity = base.granularity;
        let (mut scale, mut storage, mut has_zero_point) = (None, base.storage, false);
        for word in text[base.name.len()..].split('_').filter(|word| !word.is_empty()) {
            if base.is_fixed && word != format!("g{MX_BLOCK}") {
                return Err(format!("format '{text}': {} takes no '{word}'", base.name));
            }
            let group = word.strip_prefix('g').and_then(|count| count.parse::<u32>().ok());
            if base.storage == Element::U4 && (group.is_some() || word == "channel") {
                return Err(format!("format '{text}': a palette is for a whole tensor"));
            }
            match (word, group) {
                ("sym", _) => {}
                ("asym", _) => {
                    storage = base.asymmetric.ok_or_else(|| format!("{} takes no zero points", base.name))?;
                    has_zero_point = true;
                }
                ("channel", _) => granularity = Granularity::Channel,
                ("tensor", _) => granularity = Granularity::Tensor,
                ("f16", _) => scale = Some(Element::F16),
                ("bf16", _) => scale = Some(Element::BF16),
                ("f32", _) => scale = Some(Element::F32),
                (_, Some(group)) if (2..=1 << 16).contains(&group) => granularity = Granularity::Group(group),
                _ => {
                    return Err(format!(
                        "format '{text}': unknown part '{word}' (known: g32, g64, g128, channel, tensor, sym, asym, f16, bf16, f32)"
                    ));
                }
            }
        }
        let scale = scale.or(base.scale).unwrap_or_else(|| default_scale(granularity));
        Ok(WeightFormat { storage, scale, has_zero_point, granularity })
    }
}

fn unknown_format(text: &str) -> String {
    let names: Vec<&str> = BASES.iter().map(|base| base.name).collect();
    let nearest = names.iter().min_by_key(|name| edit_distance(text, name)).copied().unwrap_or_default();
    format!("unknown weight format '{text}': did you mean '{nearest}'? (known: {})", names.join(", "))
}

/// The part a weight plays in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Makes attention's queries.
    AttentionQuery,
    /// Makes its keys.
    AttentionKey,
    /// Makes its values.
    AttentionValue,
    /// Makes several of them at once.
    AttentionPacked,
    /// Takes what attention gives.
    AttentionOutput,
    /// Is activated and gates the other.
    FeedForwardGate,
    /// Widens.
    FeedForwardUp,
    /// Narrows again.
    FeedForwardDown,
    /// Table of token vectors.
    Embedding,
    /// The last product, whose results leave the model; also when it is tied to the embedding.
    Last,
    /// Anything else.
    Other,
}

/// Roles with their names. `attention` and `feed_forward` stand for all of theirs.
pub static ROLES: &[(Role, &str)] = &[
    (Role::AttentionQuery, "attention.query"),
    (Role::AttentionKey, "attention.key"),
    (Role::AttentionValue, "attention.value"),
    (Role::AttentionPacked, "attention.packed"),
    (Role::AttentionOutput, "attention.output"),
    (Role::FeedForwardGate, "feed_forward.gate"),
    (Role::FeedForwardUp, "feed_forward.up"),
    (Role::FeedForwardDown, "feed_forward.down"),
    (Role::Embedding, "embedding"),
    (Role::Last, "last"),
    (Role::Other, "other"),
];

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|row| row.0 == self).map_or("other", |row| row.1)
    }

    /// Whether a role's name, or the family it belongs to, is `text`.
    pub fn is(self, text: &str) -> bool {
        let name = self.name();
        name == text || name.split_once('.').is_some_and(|parts| parts.0 == text)
    }
}

/// How products take activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActivationFormat {
    /// As they are.
    #[default]
    Float,
    /// Rounded to 8-bit integers.
    Int8,
}

/// A named policy.
#[derive(Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Other names of it.
    pub aliases: &'static [&'static str],
    /// The format of every weight that no rule below names.
    pub format: &'static str,
    /// Formats by role (or family of roles), the first that fits.
    pub by_role: &'static [(&'static str, &'static str)],
    /// How scales are chosen: a method of [`crate::quantizer`].
    pub method: &'static str,
    /// How products take activations.
    pub activations: ActivationFormat,
    /// One line.
    pub doc: &'static str,
}

const fn preset(name: &'static str, format: &'static str, doc: &'static str) -> Preset {
    Preset {
        name,
        aliases: &[],
        format,
        by_role: &[],
        method: "max",
        activations: ActivationFormat::Float,
        doc,
    }
}

/// The last product is the most sensitive one (on the story model int4 costs 2.3 % of perplexity with it, 0.8 % without), and few bytes
/// of a large model: presets of 4 bits keep it at 8, as llama.cpp does.
const fn four_bits(name: &'static str, format: &'static str, doc: &'static str) -> Preset {
    Preset { by_role: &[("last", "int8")], ..preset(name, format, doc) }
}

/// The word for weights that stay as they are.
pub const FLOAT: &str = "float";

/// The presets.
pub static PRESETS: &[Preset] = &[
    Preset {
        aliases: &["default"],
        by_role: &[("feed_forward", "int4_g32")],
        ..preset("mixed", "int8", "feed-forward 4 bits in groups of 32, all else 8 bits per channel")
    },
    Preset {
        aliases: &["int4", "Q4_0"],
        ..four_bits("w4a16_g32_sym", "int4_g32", "4 bits in groups of 32, the last product 8 bits")
    },
    Preset {
        method: "squared_error",
        ..four_bits("int4_weighted", "int4_g32", "the same with scales that minimise the squared error")
    },
    four_bits("w4a16_g128_sym", "int4_g128", "4 bits in groups of 128, the last product 8 bits"),
    four_bits(
        "w4a16_g32_asym",
        "int4_g32_asym",
        "4 bits in groups of 32 with zero points, the last product 8 bits",
    ),
    Preset {
        activations: ActivationFormat::Int8,
        ..four_bits("w4a8_g32", "int4_g32", "4 bits in groups of 32, the last product and activations 8 bits")
    },
    Preset {
        activations: ActivationFormat::Int8,
        ..four_bits(
            "w4a8_g128",
            "int4_g128",
            "4 bits in groups of 128, the last product and activations 8 bits",
        )
    },
    Preset { aliases: &["int8"], ..preset("w8a16", "int8", "8 bits per channel") },
    Preset {
        activations: ActivationFormat::Int8,
        ..preset("w8a8", "int8", "8 bits per channel, activations 8 bits")
    },
    Preset {
        aliases: &["nf4"],
        ..four_bits("nf4_g64", "nf4_g64", "NormalFloat 4 in groups of 64, the last product 8 bits")
    },
    Preset { aliases: &["fp8"], ..preset("fp8_e4m3", "fp8_e4m3", "FP8 e4m3 per channel") },
    preset("fp8_e5m2", "fp8_e5m2", "FP8 e5m2 per channel"),
    Preset {
        aliases: &["palette"],
        by_role: &[("embedding", "int8"), ("last", "int8")],
        ..preset("palette4", "palette4", "16 levels per tensor by k-means; embedding and last product 8 bits")
    },
    preset("float", FLOAT, "as they are, for --prune alone"),
    four_bits("mxfp4", "mxfp4", "OCP MX FP4, the last product 8 bits"),
    preset("mxfp8", "mxfp8", "OCP MX FP8 e4m3"),
];

impl Preset {
    /// The preset of that name or alias.
    ///
    /// # Errors
    /// Says the nearest one and all there are.
    pub fn find(name: &str) -> Result<&'static Preset, String> {
        let fits = |preset: &&Preset| preset.name == name || preset.aliases.contains(&name);
        PRESETS.iter().find(fits).ok_or_else(|| {
            let names: Vec<&str> = PRESETS
                .iter()
                .flat_map(|preset| std::iter::once(preset.name).chain(preset.aliases.iter().copied()))
                .collect();
            let nearest =
                names.iter().min_by_key(|known| edit_distance(name, known)).copied().unwrap_or_default();
            format!("unknown preset '{name}': did you mean '{nearest}'? (known: {})", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in [
            "int8",
            "int8_tensor",
            "int8_g64_asym",
            "int4_g32",
            "int4_channel",
            "int4_g128_asym",
            "int4_g32_f32",
            "palette4",
            "palette4_f16",
            "nf4_g64",
            "nf4_g32_bf16",
            "fp8_e4m3",
            "fp8_e5m2_g128",
            "mxfp4",
            "mxfp8",
            "mxfp8_e5m2",
        ] {
            let format: WeightFormat = name.parse().unwrap();
            assert_eq!(format.to_string(), name);
        }
        let short: WeightFormat = "int4".parse().unwrap();
        assert_eq!(short, "int4_g32_sym_f16".parse().unwrap());
        let error = "int5".parse::<WeightFormat>().unwrap_err();
        assert!(error.contains("did you mean 'int8'") || error.contains("did you mean 'int4'"), "{error}");
        assert!("int4_gg".parse::<WeightFormat>().unwrap_err().contains("unknown part 'gg'"));
        assert_eq!("nf4_asym".parse::<WeightFormat>().unwrap_err(), "nf4 takes no zero points");
        assert_eq!(
            "mxfp4_g64".parse::<WeightFormat>().unwrap_err(),
            "format 'mxfp4_g64': mxfp4 takes no 'g64'"
        );
    }

    #[test]
    fn presets_name_formats_and_roles_that_exist() {
        for preset in PRESETS {
            assert!(preset.format == FLOAT || preset.format.parse::<WeightFormat>().is_ok());
            for (role, format) in preset.by_role {
                assert!(ROLES.iter().any(|row| row.0.is(role)), "{role}");
                format.parse::<WeightFormat>().unwrap();
            }
            for name in std::iter::once(&preset.name).chain(preset.aliases) {
                assert_eq!(Preset::find(name).unwrap().name, preset.name);
            }
        }
        assert!(Preset::find("w4a16").unwrap_err().contains("did you mean"));
    }

    #[test]
    fn bytes_count_scales() {
        let int4: WeightFormat = "int4_g32".parse().unwrap();
        assert_eq!(int4.bytes(64, 10), 320 + 2 * 10 * 2);
        let asymmetric: WeightFormat = "int4_g32_asym".parse().unwrap();
        assert_eq!(asymmetric.bytes(64, 10), 320 + 40 + 10);
        assert_eq!("int8".parse::<WeightFormat>().unwrap().bytes(64, 10), 640 + 40);
        assert_eq!("mxfp4".parse::<WeightFormat>().unwrap().bytes(64, 10), 320 + 20);
        let error = int4.check_depth(80).unwrap_err();
        assert_eq!(error, "groups of 32 do not divide 80 (these fit: int4_g16, int4_channel)");
    }
}
