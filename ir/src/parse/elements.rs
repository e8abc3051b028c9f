//! Constants in text: lists, splats, hexadecimal bytes, and weights by name.
//!
//! ```text
//! dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>   dense<"0x0102"> : tensor<2xi8>   dense_resource<w$$0123456789abcdef> : tensor<64xf32>
//! ```

use super::attribute::int_value;
use super::cursor::{Cursor, Parsed};
use super::op::Parser;
use crate::attribute::{Attribute, Elements, Resource};
use crate::element::{Element, Family};
use crate::lex::{Kind, hex_pair};
use crate::print::{float_bits, split_resource_key};
use crate::types::TensorType;
use bytes::Bytes;
use std::sync::Arc;

/// Constants written in place may take this many bytes; larger ones are weights.
const DENSE_BYTES_MAX: usize = 64 << 20;
/// Stand-ins for weights may take this many bytes together.
const STAND_IN_BYTES_MAX: usize = 4 << 30;

/// One number of a list, before its type is known.
struct Literal<'a> {
    at: usize,
    kind: Kind,
    text: &'a str,
    negative: bool,
}

/// A nested list flattened: its sizes and its numbers.
#[derive(Default)]
struct List<'a> {
    shape: Vec<usize>,
    numbers: Vec<Literal<'a>>,
}

impl<'a> Parser<'a> {
    /// `dense<..> : type`.
    pub(super) fn dense(&mut self) -> Parsed<Attribute> {
        let start = self.cursor.token.start;
        self.cursor.take();
        self.cursor.expect(b'<')?;
        let mut list = List::default();
        let mut hex = None;
        let mut splat = false;
        match self.cursor.token.kind {
            Kind::Str => hex = Some(self.hex_bytes()?),
            Kind::Punctuation(b'>') => {}
            Kind::Punctuation(b'[') => self.number_list(&mut list, 0)?,
            _ => {
                splat = true;
                let number = self.literal()?;
                list.numbers.push(number);
            }
        }
        self.cursor.expect(b'>')?;
        self.cursor.expect(b':')?;
        let ty_at = self.cursor.token.start;
        let ty = self.tensor_type()?;
        let count = self.count_of(ty_at, &ty, DENSE_BYTES_MAX)?;
        let bytes = if let Some(raw) = hex {
            from_raw(&ty, count, &raw).map_err(|what| Cursor::fault(start, what))?
        } else if splat {
            let code = code_of(&list.numbers[0], ty.element)?;
            pack(ty.element, count, std::iter::repeat_n(code, count))
        } else {
            let expected: Vec<usize> = ty.shape.iter().map(|dim| dim.known().unwrap_or(0) as usize).collect();
            let same = list.numbers.len() == count && (count == 0 || list.shape == expected);
            if !same {
                let found = format!("{:?} ({} numbers)", list.shape, list.numbers.len());
                return Err(Cursor::fault(
                    start,
                    format!("the list does not fit its type {ty}: found sizes {found}"),
                ));
            }
            let codes: Vec<u64> =
                list.numbers.iter().map(|number| code_of(number, ty.element)).collect::<Parsed<_>>()?;
            pack(ty.element, count, codes.into_iter())
        };
        Ok(Attribute::Elements(Elements::Dense(ty, bytes)))
    }

    /// `#core.dense<type, "0x..">`: packed bytes of a type that MLIR's `dense` cannot hold.
    pub(super) fn packed_dense(&mut self) -> Parsed<Attribute> {
        let start = self.cursor.token.start;
        self.cursor.take();
        self.cursor.expect(b'<')?;
        let ty_at = self.cursor.token.start;
        let ty = self.tensor_type()?;
        let count = self.count_of(ty_at, &ty, DENSE_BYTES_MAX)?;
        self.cursor.expect(b',')?;
        let bytes = self.hex_bytes()?;
        self.cursor.expect(b'>')?;
        let expected = ty.element.bytes_of(count);
        if bytes.len() != expected {
            return Err(Cursor::fault(start, format!("{ty} takes {expected} bytes, found {}", bytes.len())));
        }
        Ok(Attribute::Elements(Elements::Dense(ty, bytes.into())))
    }

    /// `"0x.."`.
    fn hex_bytes(&mut self) -> Parsed<Vec<u8>> {
        let at = self.cursor.token.start;
        let text = self.cursor.expect_kind(Kind::Str, "a string of hexadecimal digits")?;
        let wrong = || Cursor::fault(at, "expected \"0x\" and an even number of hexadecimal digits");
        let digits = text[1..text.len() - 1].strip_prefix("0x").ok_or_else(wrong)?.as_bytes();
        if digits.len() % 2 != 0 {
            return Err(wrong());
        }
        digits.chunks(2).map(|pair| hex_pair(pair).ok_or_else(wrong)).collect()
    }

    /// How many elements a type of known dimensions has.
    fn count_of(&self, at: usize, ty: &TensorType, bytes_max: usize) -> Parsed<usize> {
        let shape = ty
            .known_shape()
            .ok_or_else(|| Cursor::fault(at, format!("a constant has known dimensions, found {ty}")))?;
        let count =
            shape.iter().try_fold(1usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?));
        // One spare factor keeps the count of bits from overflowing.
        let count = count
            .filter(|count| count.checked_mul(64).is_some_and(|_| ty.element.bytes_of(*count) <= bytes_max));
        count.ok_or_else(|| {
            let mut fault = Cursor::fault(at, format!("{ty} takes more than {} MiB", bytes_max >> 20));
            fault.help = "constants this large are weights: dense_resource<name>".into();
            fault
        })
    }

    fn number_list(&mut self, list: &mut List<'a>, depth: usize) -> Parsed<()> {
        self.cursor.enter()?;
        let at = self.cursor.token.start;
        self.cursor.expect(b'[')?;
        let mut length = 0;
        if !self.cursor.eat(b']') {
            loop {
                if self.cursor.at(b'[') {
                    self.number_list(list, depth + 1)?;
                } else {
                    let number = self.literal()?;
                    list.numbers.push(number);
                }
                length += 1;
                if !self.cursor.eat(b',') {
                    break;
                }
            }
            self.cursor.expect(b']')?;
        }
        // Inner lists end first, so a depth that has no size yet gets it from its first list.
        if list.shape.len() <= depth {
            list.shape.resize(depth + 1, usize::MAX);
        }
        match list.shape[depth] {
            usize::MAX => list.shape[depth] = length,
            known if known != length => {
                return Err(Cursor::fault(at, format!("expected a list of {known}, found {length}")));
            }
            _ => {}
        }
        self.cursor.leave();
        Ok(())
    }

    fn literal(&mut self) -> Parsed<Literal<'a>> {
        let at = self.cursor.token.start;
        let negative = self.cursor.eat(b'-');
        let kind = self.cursor.token.kind;
        let word = kind == Kind::Bare && !negative && matches!(self.cursor.token_text(), "true" | "false");
        if !word && !matches!(kind, Kind::Integer | Kind::Float) {
            return Err(self.cursor.unexpected("a number"));
        }
        Ok(Literal { at, kind, text: self.cursor.take(), negative })
    }

    /// `dense_resource<key> : type`.
    pub(super) fn dense_resource(&mut self) -> Parsed<Attribute> {
        self.cursor.take();
        self.cursor.expect(b'<')?;
        let at = self.cursor.token.start;
        let key = match self.cursor.token.kind {
            Kind::Str => self.cursor.string("a weight's name")?,
            _ => self.cursor.expect_kind(Kind::Bare, "a weight's name")?.to_string(),
        };
        self.cursor.expect(b'>')?;
        self.cursor.expect(b':')?;
        let ty_at = self.cursor.token.start;
        let ty = self.tensor_type()?;
        if key == crate::print::ELIDED {
            let mut fault =
                Cursor::fault(at, "the numbers of this constant were left out when the text was printed");
            fault.help = "print without eliding".into();
            return Err(fault);
        }
        let (name, hash) = split_resource_key(&key);
        let resource = match self.known_resource(at, &name, hash, &ty)? {
            Some(resource) => resource,
            None => self.stand_in(at, ty_at, &name, hash, ty)?,
        };
        Ok(Attribute::Elements(Elements::Resource(resource)))
    }

    fn known_resource(
        &self,
        at: usize,
        name: &str,
        hash: Option<&str>,
        ty: &TensorType,
    ) -> Parsed<Option<Arc<Resource>>> {
        let named = self.options.resources.map_or(&[][..], |resources| resources.find(name));
        if named.is_empty() {
            return Ok(None);
        }
        let of_type: Vec<&Arc<Resource>> = named.iter().filter(|resource| resource.ty == *ty).collect();
        if of_type.is_empty() {
            return Err(Cursor::fault(
                at,
                format!("weight '{name}' differs in type: expected {}, found {ty}", named[0].ty),
            ));
        }
        let is_wanted = |resource: &&Arc<Resource>| {
            hash.is_none_or(|hash| hash_start(resource).eq_ignore_ascii_case(hash))
        };
        match of_type.iter().copied().find(is_wanted) {
            Some(resource) => Ok(Some(resource.clone())),
            None => {
                let expected = hash.unwrap_or_default();
                let found = hash_start(of_type[0]);
                Err(Cursor::fault(
                    at,
                    format!(
                        "the content of weight '{name}' differs: expected hash {expected}, found {found}"
                    ),
                ))
            }
        }
    }

    fn stand_in(
        &mut self,
        at: usize,
        ty_at: usize,
        name: &str,
        hash: Option<&str>,
        ty: TensorType,
    ) -> Parsed<Arc<Resource>> {
        let Some(seed) = self.options.stand_in_seed else {
            let mut fault = Cursor::fault(at, format!("weight '{name}' is not known"));
            fault.help = "read the text together with the model it was printed from".into();
            return Err(fault);
        };
        let key = (name.to_string(), hash.map(str::to_string), ty);
        if let Some(resource) = self.stand_ins.get(&key) {
            return Ok(resource.clone());
        }
        let ty = &key.2;
        let count =
            self.count_of(ty_at, ty, STAND_IN_BYTES_MAX - self.stand_in_bytes.min(STAND_IN_BYTES_MAX))?;
        self.stand_in_bytes += ty.element.bytes_of(count);
        let bytes = Bytes::from(stand_in_bytes(ty, count, seed, name));
        let resource = match hash {
            Some(hash) => {
                let mut known = [0u8; 32];
                known
                    .iter_mut()
                    .zip(hash.as_bytes().chunks(2))
                    .for_each(|(byte, pair)| *byte = hex_pair(pair).unwrap_or(0));
                Resource::with_hash(name, ty.clone(), bytes, known)
            }
            None => Resource::new(name, ty.clone(), bytes),
        };
        let resource = Arc::new(resource);
        self.stand_ins.insert(key, resource.clone());
        Ok(resource)
    }
}

fn hash_start(resource: &Resource) -> String {
    resource.hash()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The code of one number in the element type.
fn code_of(number: &Literal, element: Element) -> Parsed<u64> {
    let wrong = || Cursor::fault(number.at, format!("{} is not a number of type {element}", number.text));
    match (element.family(), number.kind) {
        (Family::Bool, Kind::Bare) => Ok(u64::from(number.text == "true")),
        (Family::Bool, Kind::Integer) => match (number.text, number.negative) {
            ("0", _) => Ok(0),
            ("1", _) => Ok(1),
            _ => Err(wrong()),
        },
        (Family::Float, Kind::Integer) => {
            let hex = number.text.strip_prefix("0x").filter(|_| !number.negative);
            let bits = match hex {
                Some(hex) => u64::from_str_radix(hex, 16).map_err(|_| wrong())?,
                // A whole number is taken for a float, as people write it.
                None => {
                    let value: f64 = number.text.parse().map_err(|_| wrong())?;
                    float_bits(if number.negative { -value } else { value }, element)
                }
            };
            if element.bits() < 64 && bits >> element.bits() != 0 { Err(wrong()) } else { Ok(bits) }
        }
        (Family::Float, Kind::Float) => {
            let sign = if number.negative { "-" } else { "" };
            let text = format!("{sign}{}", number.text);
            // Read as f32 at once, since rounding by way of f64 can differ in the last bit.
            match element {
                Element::F32 => {
                    text.parse().map(|value: f32| u64::from(value.to_bits())).map_err(|_| wrong())
                }
                _ => text.parse().map(|value: f64| float_bits(value, element)).map_err(|_| wrong()),
            }
        }
        (Family::Signed | Family::Unsigned, Kind::Integer) => {
            let value = int_value(number.text, number.negative, Some(element)).ok_or_else(wrong)?;
            let bits = element.bits();
            let (low, high) = element.integer_range().unwrap_or((i64::MIN, i64::MAX));
            let fits = bits == 64 || (low..=high).contains(&value);
            let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            if fits { Ok(value as u64 & mask) } else { Err(wrong()) }
        }
        _ => Err(wrong()),
    }
}

/// Packed little-endian bytes of codes.
fn pack(element: Element, count: usize, codes: impl Iterator<Item = u64>) -> Bytes {
    let bits = element.bits();
    let mut bytes = vec![0u8; element.bytes_of(count)];
    for (index, code) in codes.enumerate() {
        if bits < 8 {
            let at = index * bits;
            bytes[at / 8] |= (code as u8) << (at % 8);
        } else {
            let width = bits / 8;
            bytes[index * width..(index + 1) * width].copy_from_slice(&code.to_le_bytes()[..width]);
        }
    }
    bytes.into()
}

/// The bytes of MLIR's hexadecimal form: a byte per element below 8 bits, truth values as bits (or as bytes in later versions),
/// one element for all when only one is there.
fn from_raw(ty: &TensorType, count: usize, raw: &[u8]) -> Result<Bytes, String> {
    let element = ty.element;
    let width = element.bits().div_ceil(8);
    if element == Element::Bool && raw.len() != count && raw.len() == count.div_ceil(8) {
        let bit = |index: usize| u64::from(raw[index / 8] >> (index % 8) & 1);
        return Ok(pack(element, count, (0..count).map(bit)));
    }
    if raw.len() != count * width && raw.len() != width {
        return Err(format!("{ty} takes {} bytes, found {}", count * width, raw.len()));
    }
    let mask = if element.bits() >= 64 { u64::MAX } else { (1 << element.bits()) - 1 };
    let code = |index: usize| {
        let start = if raw.len() == width { 0 } else { index * width };
        let code =
            raw[start..start + width].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
                & mask;
        if element == Element::Bool { u64::from(code != 0) } else { code }
    };
    Ok(pack(element, count, (0..count).map(code)))
}

/// Numbers that stand for a weight: gains (rank at most 1) around one, others around zero and scaled by the number of rows, so
/// that a network of them keeps its values near one; integers over their whole narrow range.
fn stand_in_bytes(ty: &TensorType, count: usize, seed: u64, name: &str) -> Vec<u8> {
    let digest = blake3::hash(name.as_bytes());
    let mut state =
        digest.as_bytes()[..8].iter().fold(seed, |state, byte| state.rotate_left(8) ^ u64::from(*byte));
    // SplitMix64 (Steele, Lea and Flood 2014).
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let element = ty.element;
    let rows = ty.shape.iter().rev().nth(1).and_then(crate::dim::Dim::known).unwrap_or(0);
    let (centre, spread) = if rows > 0 { (0.0, (3.0 / rows as f64).sqrt()) } else { (1.0, 0.25) };
    let uniform = |random: u64| centre + spread * ((random >> 11) as f64 / (1u64 << 52) as f64 - 1.0);
    let small_floats: Vec<u64> = if element.is_float() && element.bits() <= 8 {
        (0..256u64).map(|step| float_bits(uniform(step << 56), element)).collect()
    } else {
        Vec::new()
    };
    let codes = (0..count).map(|_| {
        let random = next();
        match element.family() {
            Family::Float if element.bits() <= 8 => small_floats[(random >> 56) as usize],
            Family::Float => float_bits(uniform(random), element),
            Family::Bool => random & 1,
            _ if element.bits() <= 8 => random & ((1 << element.bits()) - 1),
            // Wide integers are mostly indices: small and never negative.
            _ => random & 7,
        }
    });
    pack(element, count, codes).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_depend_on_name_and_seed_alone() {
        let ty = TensorType::of(Element::F32, &[4, 4]);
        assert_eq!(stand_in_bytes(&ty, 16, 1, "a"), stand_in_bytes(&ty, 16, 1, "a"));
        assert_ne!(stand_in_bytes(&ty, 16, 1, "a"), stand_in_bytes(&ty, 16, 2, "a"));
        assert_ne!(stand_in_bytes(&ty, 16, 1, "a"), stand_in_bytes(&ty, 16, 1, "b"));
    }
}
