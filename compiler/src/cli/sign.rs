//! `tilewright keygen` and `tilewright sign`: keys, and signatures of artifacts.

use crate::exit::Failure;
use crate::keys::{SigningKey, public_path};
use std::path::PathBuf;
use tilewright_runtime::artifact::trust::hex;

/// Arguments of `keygen`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright keygen key.pem\n\n\
    Writes the private key KEY.pem, which only its owner may read, and the public one, KEY.pem.pub: ed25519 in PEM, as\n\
    `openssl genpkey -algorithm ed25519` makes it. Whoever runs artifacts is given the public one.")]
pub(crate) struct KeygenArguments {
    /// The file of the private key
    #[arg(value_name = "KEY.pem")]
    key: PathBuf,
}

/// Arguments of `sign`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  tilewright sign story.npu --key key.pem\n  \
    tilewright run story.npu --public-key key.pem.pub --input input_ids=1,2,3\n\n\
    Writes OUT.npu.sig beside each artifact; the artifact stays as it is. Weights in another file are vouched for by their hashes.")]
pub(crate) struct SignArguments {
    /// The artifacts
    #[arg(value_name = "OUT.npu", required = true)]
    artifacts: Vec<PathBuf>,
    /// The private key (PKCS #8 PEM, ed25519)
    #[arg(long, value_name = "KEY.pem")]
    key: PathBuf,
}

/// Makes a key.
pub(crate) fn keygen(arguments: &KeygenArguments) -> Result<(), Failure> {
    let (key, _) = SigningKey::generate(&arguments.key)?;
    say!("{}: {}", public_path(&arguments.key).display(), hex(&key.public()));
    Ok(())
}

/// Signs artifacts.
pub(crate) fn sign(arguments: &SignArguments) -> Result<(), Failure> {
    let key = SigningKey::read(&arguments.key)?;
    let problems: Vec<_> = arguments
        .artifacts
        .iter()
        .filter_map(|artifact| match key.sign(artifact) {
            Ok(file) => {
                say!("{}", file.display());
                None
            }
            Err(problem) => Some(problem),
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
}
