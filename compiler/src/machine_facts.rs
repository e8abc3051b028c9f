//! What the system tells of this machine: processor, caches, memory. Where it tells nothing there is nothing.
//!
//! Read from the files of Linux (proc(5), sysfs); it measures nothing.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tilewright_runtime::kernels::cpu::{Features, features};

/// A cache as the system lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u32,
    /// "Data", "Unified"
    pub kind: String,
    /// Size.
    pub bytes: u64,
    /// Which cores share it, as a list.
    pub shared_by: String,
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The processor's name; hypervisors may tell another.
    pub processor: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Features that kernels are written for and the processor has.
    pub detected: Features,
    /// Those that kernels use.
    pub used: Features,
    /// Data caches of the first core.
    pub caches: Vec<Cache>,
    /// Memory in all.
    pub memory_bytes: Option<u64>,
    /// Memory that can be had without swapping.
    pub available_bytes: Option<u64>,
}

impl Facts {
    /// Asks the system.
    pub fn read() -> Facts {
        let line = |file: &str, name: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        let memory = |name: &str| {
            let text = line("/proc/meminfo", name)?;
            Some(text.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Facts {
            processor: line("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            detected: Features::detected(),
            used: features(),
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            memory_bytes: memory("MemTotal:"),
            available_bytes: memory("MemAvailable:"),
        }
    }

    /// As rows of a table.
    pub fn rows(&self) -> Vec<[String; 2]> {
        let unknown = || "not told by the system".to_string();
        let gib = |bytes: Option<u64>| {
            bytes.map_or_else(unknown, |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)))
        };
        let mut rows = vec![
            ["processor".into(), self.processor.clone().unwrap_or_else(unknown)],
            ["architecture".into(), std::env::consts::ARCH.into()],
            ["cores".into(), self.cores.to_string()],
            ["features".into(), self.detected.to_string()],
        ];
        if self.used != self.detected {
            rows.push(["of them used".into(), self.used.to_string()]);
        }
        for Cache { level, kind, bytes, shared_by } in &self.caches {
            let kind = kind.to_lowercase();
            rows.push([format!("cache L{level} {kind}"), format!("{} KiB, cores {shared_by}", bytes / 1024)]);
        }
        rows.push(["memory".into(), gib(self.memory_bytes)]);
        rows.push(["available".into(), gib(self.available_bytes)]);
        rows
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let caches: Vec<Value> = self
            .caches
            .iter()
            .map(|cache| json!({ "level": cache.level, "kind": cache.kind, "bytes": cache.bytes, "shared_by": cache.shared_by }))
            .collect();
        let names = |features: Features| match features {
            Features::NONE => Vec::new(),
            some => some.to_string().split(',').map(String::from).collect(),
        };
        json!({
            "processor": self.processor,
            "architecture": std::env::consts::ARCH,
            "cores": self.cores,
            "features": names(self.detected),
            "features_used": names(self.used),
            "caches": caches,
            "memory_bytes": self.memory_bytes,
            "available_bytes": self.available_bytes,
        })
    }
}

/// The caches for data in a folder of sysfs, by level.
fn caches(folder: &Path) -> Vec<Cache> {
    let read = |index: usize, file: &str| {
        let text = fs::read_to_string(folder.join(format!("index{index}")).join(file)).ok()?;
        Some(text.trim().to_string())
    };
    let cache = |index: usize| {
        let bytes = match read(index, "size")? {
            size if size.ends_with('K') => size.trim_end_matches('K').parse::<u64>().ok()? * 1024,
            size if size.ends_with('M') => size.trim_end_matches('M').parse::<u64>().ok()? << 20,
            size => size.parse().ok()?,
        };
        let shared_by = read(index, "shared_cpu_list").unwrap_or_default();
        Some(Cache {
            level: read(index, "level")?.parse().ok()?,
            kind: read(index, "type")?,
            bytes,
            shared_by,
        })
    };
    let mut caches: Vec<Cache> =
        (0..8).map_while(cache).filter(|cache| cache.kind != "Instruction").collect();
    caches.sort_by_key(|cache| cache.level);
    caches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_from_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        for (index, [level, kind, size]) in
            [["1", "Data", "32K"], ["1", "Instruction", "32K"], ["2", "Unified", "1M"]].iter().enumerate()
        {
            let place = folder.path().join(format!("index{index}"));
            fs::create_dir(&place).expect("writable");
            for (file, text) in
                [("level", level), ("type", kind), ("size", size), ("shared_cpu_list", &"0-1")]
            {
                fs::write(place.join(file), format!("{text}\n")).expect("writable");
            }
        }
        let sizes: Vec<(u32, u64)> =
            caches(folder.path()).iter().map(|cache| (cache.level, cache.bytes)).collect();
        assert_eq!(sizes, [(1, 32 << 10), (2, 1 << 20)]);
        assert!(caches(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn every_system_gives_rows() {
        let facts = Facts::read();
        assert!(facts.cores >= 1 && facts.rows().len() >= 6);
        assert_eq!(Facts::default().rows()[0][1], "not told by the system");
    }
}
