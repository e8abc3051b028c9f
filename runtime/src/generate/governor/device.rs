//! What is governed: a thermometer and a clock. Linux's thermal zones, or a list of temperatures.
//!
//! ```text
//! /sys/class/thermal/thermal_zone0/temp: 63250   =>   63.25 C
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is governed: a thermometer and a clock.
pub trait Device: Send {
    /// The temperature in degrees Celsius; none when it cannot be read now.
    fn celsius(&mut self) -> Option<f64>;

    /// Seconds since some beginning.
    fn seconds(&self) -> f64;

    /// Lets time pass.
    fn pause(&mut self, seconds: f64);
}

/// Linux's thermal zones: the warmest of those that can be read.
pub struct ThermalZones {
    files: Vec<PathBuf>,
    start: Instant,
}

impl ThermalZones {
    /// Where the kernel shows them (Documentation/driver-api/thermal/sysfs-api.rst): `temp` in thousandths of a degree.
    pub const FOLDER: &'static str = "/sys/class/thermal";

    /// The zones below `folder` that have a temperature; none when there is none.
    pub fn find(folder: &Path) -> Option<ThermalZones> {
        let entries = std::fs::read_dir(folder).ok()?;
        let zones = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let is_zone = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("thermal_zone"))
        };
        let mut files: Vec<PathBuf> = zones.filter(is_zone).map(|path| path.join("temp")).collect();
        files.retain(|file| read_zone(file).is_some());
        files.sort();
        (!files.is_empty()).then(|| ThermalZones { files, start: Instant::now() })
    }
}

fn read_zone(file: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let celsius = text.trim().parse::<f64>().ok()? / 1000.0;
    // Zones that are not powered read as 0 kelvin or far beyond.
    (-50.0..200.0).contains(&celsius).then_some(celsius)
}

impl Device for ThermalZones {
    fn celsius(&mut self) -> Option<f64> {
        self.files.iter().filter_map(|file| read_zone(file)).max_by(f64::total_cmp)
    }

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn pause(&mut self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
}

/// Temperatures from a list, one for each look, and the last for ever; time is the machine's. For rehearsals.
pub struct Scripted {
    readings: std::vec::IntoIter<f64>,
    last: Option<f64>,
    start: Instant,
}

impl Scripted {
    /// Tells these temperatures.
    pub fn new(celsius: Vec<f64>) -> Scripted {
        Scripted { readings: celsius.into_iter(), last: None, start: Instant::now() }
    }
}

impl Device for Scripted {
    fn celsius(&mut self) -> Option<f64> {
        self.last = self.readings.next().or(self.last);
        self.last
    }

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn pause(&mut self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
}
