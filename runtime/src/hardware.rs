//! Which hardware a system has: for each piece, what shows that it is there. Targets bring the evidence; this file names no hardware.
//!
//! ```text
//! file /sys/firmware/devicetree/base/compatible    contains "rockchip,rk3588"
//! file /sys/class/accel/accel*/device/uevent       contains "DRIVER=rocket"
//! sysctl machdep.cpu.brand_string                  contains "Apple M5"
//! ```

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a word is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: what every system has, such as the host.
    Always,
    /// A file by its absolute path; `*` in a part of it stands for any letters.
    File,
    /// A name of `sysctl` (macOS).
    Sysctl,
}

impl Source {
    const NAMES: [(Source, &'static str); 3] =
        [(Source::Always, "always"), (Source::File, "file"), (Source::Sysctl, "sysctl")];

    fn name(self) -> &'static str {
        Source::NAMES[self as usize].1
    }
}

/// What shows that a piece of hardware is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where a word is looked for.
    pub source: Source,
    /// The path or the name there.
    pub name: Cow<'static, str>,
    /// The word; any content will do when it is empty.
    pub contains: Cow<'static, str>,
}

impl Evidence {
    /// What every system has.
    pub const ALWAYS: Evidence =
        Evidence { source: Source::Always, name: Cow::Borrowed(""), contains: Cow::Borrowed("") };

    /// One line of text, for [`Evidence::parse`].
    pub fn encode(&self) -> String {
        format!("{}\t{}\t{}", self.source.name(), self.name, self.contains)
    }

    /// Reads what [`Evidence::encode`] wrote; `None` for anything else.
    pub fn parse(line: &str) -> Option<Evidence> {
        let mut parts = line.split('\t').map(|part| Cow::Owned(part.to_owned()));
        let (source, name, contains) = (parts.next()?, parts.next()?, parts.next()?);
        let source = Source::NAMES.iter().find(|row| row.1 == source)?.0;
        parts.next().is_none().then_some(Evidence { source, name, contains })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Always => f.write_str("every system has it"),
            _ if self.contains.is_empty() => write!(f, "{}", self.name),
            _ => write!(f, "{} contains '{}'", self.name, self.contains),
        }
    }
}

/// The system that is asked.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// Paths begin here instead of at `/`; for tests.
    pub root: Option<PathBuf>,
    /// This hardware is there and no other, whatever the system shows.
    pub assumed: Option<String>,
}

impl System {
    /// Whether a piece of hardware is there, and why or why not.
    ///
    /// # Errors
    /// The reason why it is not.
    pub fn has(&self, hardware: &str, evidence: &[Evidence]) -> Result<String, String> {
        match &self.assumed {
            Some(assumed) if assumed == hardware => return Ok("assumed".into()),
            Some(assumed) => return Err(format!("'{assumed}' is assumed")),
            None => {}
        }
        if evidence.is_empty() {
            return Err("nothing tells how to detect it".into());
        }
        match evidence.iter().find(|one| self.shows(one)) {
            Some(one) => Ok(format!("detected: {one}")),
            None => {
                let sought: Vec<String> = evidence.iter().map(Evidence::to_string).collect();
                Err(format!("not detected: looked for {}", sought.join(" or ")))
            }
        }
    }

    fn shows(&self, evidence: &Evidence) -> bool {
        let has = |text: &[u8]| {
            let word = evidence.contains.as_bytes();
            word.is_empty() || text.windows(word.len()).any(|part| part == word)
        };
        match evidence.source {
            Source::Always => true,
            Source::File => {
                let root = self.root.as_deref().unwrap_or(Path::new("/"));
                let files = matching(root, &evidence.name);
                files.iter().any(|file| std::fs::read(file).is_ok_and(|text| has(&text)))
            }
            Source::Sysctl => {
                let asked =
                    std::process::Command::new("/usr/sbin/sysctl").args(["-n", &evidence.name]).output();
                asked.is_ok_and(|answer| answer.status.success() && has(&answer.stdout))
            }
        }
    }
}

/// The files that a pattern names, in order.
fn matching(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_path_buf()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let Some((before, after)) = part.split_once('*') else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let mut next = Vec::new();
        for folder in &found {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let fits = name.to_str().is_some_and(|name| {
                    name.len() >= before.len() + after.len()
                        && name.starts_with(before)
                        && name.ends_with(after)
                });
                if fits {
                    next.push(entry.path());
                }
            }
        }
        next.sort();
        found = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &'static str, contains: &'static str) -> Evidence {
        Evidence { source: Source::File, name: name.into(), contains: contains.into() }
    }

    #[test]
    fn hardware_is_known_by_files() {
        let folder = tempfile();
        let device = folder.join("sys/class/accel/accel3/device");
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(device.join("uevent"), "DRIVER=rocket\nMODALIAS=x\n").unwrap();
        let system = System { root: Some(folder.clone()), assumed: None };
        let evidence = file("/sys/class/accel/accel*/device/uevent", "DRIVER=rocket");
        assert!(system.has("npu", &[file("/none", ""), evidence.clone()]).unwrap().contains("DRIVER=rocket"));
        let why =
            system.has("npu", &[file("/sys/class/accel/accel*/device/uevent", "DRIVER=other")]).unwrap_err();
        assert!(why.contains("not detected") && why.contains("DRIVER=other"), "{why}");
        assert!(system.has("npu", &[]).is_err());
        assert!(system.has("host", &[Evidence::ALWAYS]).is_ok());
        let assumed = System { assumed: Some("other".into()), ..system };
        assert!(assumed.has("npu", &[evidence]).is_err() && assumed.has("other", &[]).is_ok());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn evidence_is_a_line() {
        for one in [file("/a/*", "b c"), file("/a", ""), Evidence::ALWAYS] {
            assert_eq!(Evidence::parse(&one.encode()), Some(one));
        }
        for wrong in ["", "file\ta", "socket\ta\tb", "file\ta\tb\tc"] {
            assert_eq!(Evidence::parse(wrong), None);
        }
    }

    fn tempfile() -> PathBuf {
        std::env::temp_dir().join(format!("tilewright-hardware-{}", std::process::id()))
    }
}
