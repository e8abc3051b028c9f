//! Signatures of artifacts, and the proof that weights are the ones that were signed.
//!
//! A signature is ed25519 (RFC 8032) over a fixed word and the artifact's identity: the hash of its header and section table, which has
//! the hash of every section. It stands beside the artifact as `OUT.npu.sig`, so that signing changes no byte of the artifact. Weights in
//! another file are vouched for by the hash of each tensor in the signed index; that file itself needs no signature.
//!
//! ```text
//! tilewright ed25519 v1
//! key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
//! signature 8f3c..
//! ```

use super::{Artifact, ArtifactError};
use ed25519_compact::{PublicKey, Signature};
use std::path::{Path, PathBuf};

/// First line of a signature file.
const FIRST_LINE: &str = "tilewright ed25519 v1";
/// What is signed begins with this, so that no other signature of the same key is taken for one of an artifact.
const DOMAIN: &[u8] = b"tilewright artifact v1\0";
/// The metadata key of the level of security that an artifact asks for.
pub const SECURITY_KEY: &str = "security_level";

/// The key in the text of a file: SubjectPublicKeyInfo in PEM (RFC 8410), as OpenSSL writes it. None when there is none.
pub fn public_key(text: &str) -> Option<TrustedKey> {
    PublicKey::from_pem(text).ok().map(|key| *key)
}

/// How carefully an artifact is to be handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityLevel {
    /// Hashes of all but the weights are compared.
    #[default]
    Standard,
    /// Signed by a trusted key, all hashes compared, in locked memory of its own, without core dumps.
    High,
}

impl SecurityLevel {
    /// All, by name.
    pub const NAMES: [(&'static str, SecurityLevel); 2] =
        [("standard", SecurityLevel::Standard), ("high", SecurityLevel::High)];

    /// Its name.
    pub fn name(self) -> &'static str {
        SecurityLevel::NAMES[self as usize].0
    }

    /// The level of that name.
    pub fn find(name: &str) -> Option<SecurityLevel> {
        SecurityLevel::NAMES.iter().find(|row| row.0 == name).map(|row| row.1)
    }
}

/// Why an artifact is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is no signature.
    #[error("it is not signed: there is no '{}'", .0.display())]
    Unsigned(PathBuf),
    /// The file of the signature cannot be read.
    #[error("its signature '{}' cannot be read: {source}", path.display())]
    Io {
        /// which file
        path: PathBuf,
        /// what the system said
        source: std::io::Error,
    },
    /// The file of the signature is none.
    #[error("'{}' is no signature: line {line}: {what}", path.display())]
    Malformed {
        /// which file
        path: PathBuf,
        /// line, from 1
        line: usize,
        /// what is wrong
        what: &'static str,
    },
    /// No trusted key made the signature.
    #[error("it is signed by the key {key}, which is not trusted")]
    UnknownKey {
        /// as hexadecimal digits
        key: String,
    },
    /// The signature is of other bytes.
    #[error("its signature is of another artifact: it was changed after it was signed")]
    Mismatch,
    /// The metadata names a level that this runtime does not know.
    #[error("it asks for the security level '{0}', which this runtime does not know")]
    UnknownLevel(String),
}

/// A key that artifacts are trusted by.
pub type TrustedKey = [u8; 32];

/// What is signed of an artifact.
pub fn signed_message(identity: &[u8; 32]) -> Vec<u8> {
    [DOMAIN, identity].concat()
}

/// The text of a signature file.
pub fn signature_text(key: &TrustedKey, signature: &[u8; 64]) -> String {
    format!("{FIRST_LINE}\nkey {}\nsignature {}\n", hex(key), hex(signature))
}

/// The file of an artifact's signature.
pub fn signature_path(artifact: &Path) -> PathBuf {
    let mut name = artifact.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads hexadecimal digits; `None` for another number of them, or anything else.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

impl Artifact {
    /// The level of security that it asks for.
    ///
    /// # Errors
    /// When it names one that is not known.
    pub fn security_level(&self) -> Result<SecurityLevel, TrustError> {
        let Some(name) = self.metadata.get(SECURITY_KEY) else { return Ok(SecurityLevel::Standard) };
        SecurityLevel::find(name).ok_or_else(|| TrustError::UnknownLevel(name.clone()))
    }

    /// Verifies the signature beside the artifact's file at `path` by one of some keys.
    ///
    /// # Errors
    /// When there is none, when it is of no trusted key, or of other bytes.
    pub fn verify_signature(&self, path: &Path, trusted: &[TrustedKey]) -> Result<(), TrustError> {
        let path = signature_path(path);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(TrustError::Unsigned(path));
            }
            Err(source) => return Err(TrustError::Io { path, source }),
        };
        let malformed = |line, what| TrustError::Malformed { path: path.clone(), line, what };
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed(1, "expected 'tilewright ed25519 v1'"));
        }
        let key = lines.next().and_then(|line| from_hex::<32>(line.strip_prefix("key ")?));
        let key = key.ok_or_else(|| malformed(2, "expected 'key' and 64 hexadecimal digits"))?;
        let signature = lines.next().and_then(|line| from_hex::<64>(line.strip_prefix("signature ")?));
        let signature =
            signature.ok_or_else(|| malformed(3, "expected 'signature' and 128 hexadecimal digits"))?;
        if !trusted.contains(&key) {
            return Err(TrustError::UnknownKey { key: hex(&key) });
        }
        let message = signed_message(&self.identity());
        let verified = PublicKey::new(key).verify(message, &Signature::new(signature));
        verified.map_err(|_| TrustError::Mismatch)
    }

    /// Compares the weights that its programs read with the hashes in its index, wherever their bytes are.
    ///
    /// # Errors
    /// Names the first that differs, or that is not there.
    pub fn verify_weights(&self) -> Result<(), ArtifactError> {
        let constants = self.constants();
        let places = self.constant_places()?;
        for ((info, hash), start) in self.constant_index.iter().zip(&self.constant_hashes).zip(places) {
            let range =
                usize::try_from(start).ok().zip(usize::try_from(start.saturating_add(info.bytes)).ok());
            let bytes = range.and_then(|(start, end)| constants.get(start..end));
            if bytes.is_none_or(|bytes| blake3::hash(bytes).as_bytes() != hash) {
                return Err(ArtifactError::Hash { what: format!("constant {:?}", info.name) });
            }
        }
        Ok(())
    }
}
