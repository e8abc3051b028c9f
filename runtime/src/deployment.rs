//! One model compiled for several NPUs: which of them a system has, and so which artifact is run.
//!
//! A deployment is a folder: an index, an artifact per target in order of preference, and weights that they share. The index is an `.npu`
//! file too, with metadata and nothing else, so that hashes and signatures are those of every artifact. It knows no hardware: the index
//! brings the evidence for each.
//!
//! ```text
//! assistant/deployment.npu   assistant/apple-m5-npu.npu   assistant/generic-linux-npu.npu   assistant/weights.npu
//! ```

use crate::artifact::trust::{SECURITY_KEY, SecurityLevel, from_hex, hex};
use crate::artifact::{Artifact, ArtifactError};
use crate::hardware::{Evidence, System};
use std::collections::BTreeMap;

/// Name of the index in a deployment's folder.
pub const INDEX_FILE: &str = "deployment.npu";
const KIND: (&str, &str) = ("kind", "deployment");

/// One target of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployedTarget {
    /// The target it was compiled for, and the hardware's name.
    pub hardware: String,
    /// What it computes in, as the manifest says it.
    pub precision: String,
    /// Sequences, or samples, that one run takes at most.
    pub max_batch_size: u64,
    /// The artifact's file, in the deployment's folder.
    pub artifact: String,
    /// [`Artifact::identity`] of that file.
    pub identity: [u8; 32],
    /// What shows that the hardware is there; one is enough.
    pub evidence: Vec<Evidence>,
    /// What the manifest says of libraries, by its keys. Not looked at: artifacts run in this runtime.
    pub libraries: BTreeMap<String, String>,
}

/// A deployment's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The model's name.
    pub model_name: String,
    /// The model's version.
    pub version: String,
    /// How carefully it is to be handled.
    pub security_level: SecurityLevel,
    /// Tokens that the cache holds; `None` when the manifest does not say.
    pub context_window: Option<u64>,
    /// Its targets, the preferred ones first.
    pub targets: Vec<DeployedTarget>,
}

/// Which target was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index into [`Deployment::targets`].
    pub target: usize,
    /// A line for each target that was looked at, the chosen one last.
    pub reasons: Vec<String>,
}

impl Deployment {
    /// As metadata of the index.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::from([
            (KIND.0.to_owned(), KIND.1.to_owned()),
            ("model_name".to_owned(), self.model_name.clone()),
            ("version".to_owned(), self.version.clone()),
            (SECURITY_KEY.to_owned(), self.security_level.name().to_owned()),
        ]);
        entries.extend(self.context_window.map(|tokens| ("context_window".to_owned(), tokens.to_string())));
        for (index, target) in self.targets.iter().enumerate() {
            let mut put =
                |key: &str, value: String| entries.insert(format!("target.{index:03}.{key}"), value);
            let evidence: Vec<String> = target.evidence.iter().map(Evidence::encode).collect();
            put("hardware", target.hardware.clone());
            put("precision", target.precision.clone());
            put("max_batch_size", target.max_batch_size.to_string());
            put("artifact", target.artifact.clone());
            put("identity", hex(&target.identity));
            put("evidence", evidence.join("\n"));
            for (key, value) in &target.libraries {
                put(&format!("library.{key}"), value.clone());
            }
        }
        entries
    }

    /// Reads the index.
    ///
    /// # Errors
    /// When the artifact is no index of a deployment, with the first key that is missing or wrong.
    pub fn of(artifact: &Artifact) -> Result<Deployment, ArtifactError> {
        let entries = &artifact.metadata;
        let wrong =
            |key: &str| super::artifact::malformed(format!("the deployment's '{key}' is missing or wrong"));
        let text = |key: &str| entries.get(key).cloned().ok_or_else(|| wrong(key));
        if text(KIND.0)? != KIND.1 {
            return Err(wrong(KIND.0));
        }
        let context_window = match entries.get("context_window") {
            None => None,
            Some(tokens) => Some(tokens.parse().map_err(|_| wrong("context_window"))?),
        };
        let mut targets = Vec::new();
        loop {
            let prefix = format!("target.{:03}.", targets.len());
            if !entries.contains_key(&format!("{prefix}hardware")) {
                break;
            }
            let field = |key: &str| text(&format!("{prefix}{key}"));
            let fault = |key: &str| wrong(&format!("{prefix}{key}"));
            let evidence = field("evidence")?;
            let evidence = evidence.lines().map(Evidence::parse).collect::<Option<_>>();
            let artifact = field("artifact")?;
            // A file of the deployment's own folder: an index must not lead elsewhere.
            if artifact.is_empty() || artifact.contains(['/', '\\']) || artifact.starts_with('.') {
                return Err(fault("artifact"));
            }
            let libraries = entries.iter().filter_map(|(key, value)| {
                Some((key.strip_prefix(&prefix)?.strip_prefix("library.")?.to_owned(), value.clone()))
            });
            targets.push(DeployedTarget {
                hardware: field("hardware")?,
                precision: field("precision")?,
                max_batch_size: field("max_batch_size")?.parse().map_err(|_| fault("max_batch_size"))?,
                artifact,
                identity: from_hex(&field("identity")?).ok_or_else(|| fault("identity"))?,
                evidence: evidence.ok_or_else(|| fault("evidence"))?,
                libraries: libraries.collect(),
            });
        }
        if targets.is_empty() {
            return Err(wrong("target.000.hardware"));
        }
        Ok(Deployment {
            model_name: text("model_name")?,
            version: text("version")?,
            security_level: SecurityLevel::find(&text(SECURITY_KEY)?).ok_or_else(|| wrong(SECURITY_KEY))?,
            context_window,
            targets,
        })
    }

    /// Whether an artifact is the index of a deployment.
    pub fn is_index(artifact: &Artifact) -> bool {
        artifact.metadata.get(KIND.0).is_some_and(|kind| kind == KIND.1)
    }

    /// The first target whose hardware the system has. Where it has none of them, the last one, which the interpreter runs on the host.
    ///
    /// # Errors
    /// Hardware is assumed that the deployment has no artifact for: names what it has.
    pub fn choose(&self, system: &System) -> Result<Choice, String> {
        let mut reasons = Vec::new();
        for (target, one) in self.targets.iter().enumerate() {
            match system.has(&one.hardware, &one.evidence) {
                Ok(why) => {
                    reasons.push(format!("{}: {why}", one.hardware));
                    return Ok(Choice { target, reasons });
                }
                Err(why) => reasons.push(format!("{}: {why}", one.hardware)),
            }
        }
        if let Some(assumed) = &system.assumed {
            let names: Vec<&str> = self.targets.iter().map(|one| one.hardware.as_str()).collect();
            return Err(format!("nothing is deployed for '{assumed}': there are {}", names.join(", ")));
        }
        let target = self.targets.len().saturating_sub(1);
        let last = self.targets.last().map_or("", |one| one.hardware.as_str());
        reasons.push(format!("{last}: the last one, run by the interpreter on the host"));
        Ok(Choice { target, reasons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{ArtifactWriter, Verify};
    use crate::hardware::Source;

    fn deployment() -> Deployment {
        let target = |hardware: &str, evidence: Vec<Evidence>| DeployedTarget {
            hardware: hardware.into(),
            precision: "fp16".into(),
            max_batch_size: 1,
            artifact: format!("{hardware}.npu"),
            identity: [7; 32],
            evidence,
            libraries: BTreeMap::from([("backend".into(), "openvino-2026.1".into())]),
        };
        let absent = Evidence { source: Source::File, name: "/no/such/file".into(), contains: "a b".into() };
        Deployment {
            model_name: "m".into(),
            version: "1".into(),
            security_level: SecurityLevel::High,
            context_window: Some(64),
            targets: vec![target("first", vec![absent.clone()]), target("second", vec![absent])],
        }
    }

    fn read(metadata: &BTreeMap<String, String>) -> Result<Deployment, ArtifactError> {
        let path = std::env::temp_dir().join(format!("tilewright-deployment-{}.npu", std::process::id()));
        let mut writer = ArtifactWriter::create(&path, "", "test").unwrap();
        writer.metadata(metadata).unwrap();
        writer.finish().unwrap();
        let artifact = Artifact::open(&path, Verify::All).unwrap();
        std::fs::remove_file(path).unwrap();
        Deployment::of(&artifact)
    }

    #[test]
    fn an_index_is_read_back_and_its_faults_are_named() {
        let metadata = deployment().to_metadata();
        assert_eq!(read(&metadata).unwrap(), deployment());
        for key in metadata.keys().filter(|key| !key.contains("library") && *key != "context_window") {
            let mut without = metadata.clone();
            without.remove(key);
            let told = read(&without);
            // Without its name the second target is not there at all.
            assert!(
                key == "target.001.hardware" || told.unwrap_err().to_string().contains(key.as_str()),
                "{key}"
            );
        }
        for (key, value) in
            [("target.000.artifact", "../x.npu"), ("target.001.identity", "00"), ("kind", "model")]
        {
            let mut wrong = metadata.clone();
            wrong.insert(key.into(), value.into());
            assert!(read(&wrong).unwrap_err().to_string().contains(key));
        }
    }

    #[test]
    fn the_first_that_is_there_is_chosen() {
        let mut deployment = deployment();
        let choice = deployment.choose(&System::default()).unwrap();
        assert_eq!((choice.target, choice.reasons.len()), (1, 3), "{choice:?}");
        let assumed = |name: &str| System { assumed: Some(name.into()), ..System::default() };
        assert_eq!(deployment.choose(&assumed("first")).unwrap().target, 0);
        assert_eq!(deployment.choose(&assumed("second")).unwrap().target, 1);
        assert!(deployment.choose(&assumed("third")).unwrap_err().contains("first, second"));
        deployment.targets[0].evidence = vec![Evidence::ALWAYS];
        assert_eq!(deployment.choose(&System::default()).unwrap().target, 0);
    }
}
