//! Keys that sign artifacts and keys that they are trusted by: ed25519 in the PEM files of OpenSSL.
//!
//! What is signed, and how it is verified, stands in the runtime ([`tilewright_runtime::artifact::trust`]).
//!
//! ```text
//! tilewright keygen key.pem       or    openssl genpkey -algorithm ed25519 -out key.pem
//! key.pem.pub                     or    openssl pkey -in key.pem -pubout -out key.pem.pub
//! ```

use ed25519_compact::{KeyPair, Seed};
use std::path::{Path, PathBuf};
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::location::Location;
use tilewright_runtime::artifact::trust::{
    TrustedKey, public_key, signature_path, signature_text, signed_message,
};
use tilewright_runtime::artifact::{Artifact, Verify};

/// A key that signs.
pub struct SigningKey(KeyPair);

fn fault(what: String, help: &str) -> Diagnostic {
    Diagnostic::error(Location::Unknown, what).with_help(help)
}

impl SigningKey {
    /// Reads a private key: PKCS #8 in PEM.
    ///
    /// # Errors
    /// When the file cannot be read or holds no ed25519 key.
    pub fn read(path: &Path) -> Result<SigningKey, Diagnostic> {
        let text = crate::output::read_text(path)?;
        KeyPair::from_pem(&text).map(SigningKey).map_err(|_| {
            let what = format!("'{}' holds no private ed25519 key", path.display());
            fault(what, "make one with `tilewright keygen KEY.pem` or `openssl genpkey -algorithm ed25519`")
        })
    }

    /// Makes a key from the system's random numbers, and writes `path` (readable by its owner alone) and its public half beside it.
    ///
    /// # Errors
    /// When a file of that name is there, or one of the two cannot be written.
    pub fn generate(path: &Path) -> Result<(SigningKey, PathBuf), Diagnostic> {
        let pair = KeyPair::from_seed(Seed::generate());
        let public = public_path(path);
        for file in [path, &public] {
            if file.exists() {
                let what = format!("'{}' is there already", file.display());
                return Err(fault(what, "keys are never overwritten: choose another name"));
            }
        }
        write_private(path, pair.sk.to_pem().as_bytes())?;
        if let Err(problem) = crate::output::write(&public, pair.pk.to_pem().as_bytes()) {
            // One half alone is of no use.
            let _ = std::fs::remove_file(path);
            return Err(problem);
        }
        Ok((SigningKey(pair), public))
    }

    /// Its public half.
    pub fn public(&self) -> TrustedKey {
        *self.0.pk
    }

    /// Signs an artifact's file: writes `OUT.npu.sig` beside it, and gives that name.
    ///
    /// # Errors
    /// When the artifact is damaged, or the file cannot be written.
    pub fn sign(&self, path: &Path) -> Result<PathBuf, Diagnostic> {
        let artifact = Artifact::open(path, Verify::All).map_err(|error| {
            fault(format!("cannot sign '{}': {error}", path.display()), "give an .npu file")
        })?;
        // The same artifact and key give the same signature (RFC 8032, 5.1.6).
        let signature = self.0.sk.sign(signed_message(&artifact.identity()), None);
        let file = signature_path(path);
        crate::output::write(&file, signature_text(&self.public(), &signature).as_bytes())?;
        Ok(file)
    }
}

/// The file of a key's public half.
pub fn public_path(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Reads a public key: SubjectPublicKeyInfo in PEM.
///
/// # Errors
/// When the file cannot be read or holds no ed25519 key.
pub fn read_public(path: &Path) -> Result<TrustedKey, Diagnostic> {
    let text = crate::output::read_text(path)?;
    public_key(&text).ok_or_else(|| {
        let what = format!("'{}' holds no public ed25519 key", path.display());
        fault(what, "give the KEY.pem.pub that `tilewright keygen` wrote, or `openssl pkey -pubout`")
    })
}

/// Written so that nobody else can read it, not even for a moment.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        written
    });
    written.map_err(|error| {
        fault(format!("cannot write key '{}': {error}", path.display()), "choose a folder that is writable")
    })
}
