//! The governor on simulated devices: what it holds, what that costs, and what it tells.

use super::*;
use std::sync::{Arc, Mutex};

/// A device that warms as a first-order system: `celsius` goes towards the ambient plus what it does, with one time constant.
#[derive(Debug)]
struct Heat {
    celsius: f64,
    ambient_celsius: f64,
    /// Above the ambient when always busy.
    busy_celsius: f64,
    time_constant_seconds: f64,
    seconds: f64,
    hottest: f64,
    busy_seconds: f64,
    is_broken: bool,
}

impl Heat {
    fn pass(&mut self, seconds: f64, power: f64) {
        let end = self.ambient_celsius + power * self.busy_celsius;
        self.celsius = end + (self.celsius - end) * (-seconds / self.time_constant_seconds).exp();
        self.hottest = self.hottest.max(self.celsius);
        self.seconds += seconds;
        self.busy_seconds += if power > 0.0 { seconds } else { 0.0 };
    }
}

#[derive(Clone)]
struct Simulated(Arc<Mutex<Heat>>);

impl Simulated {
    fn new(busy_celsius: f64, time_constant_seconds: f64) -> Simulated {
        Simulated(Arc::new(Mutex::new(Heat {
            celsius: 30.0,
            ambient_celsius: 30.0,
            busy_celsius,
            time_constant_seconds,
            seconds: 0.0,
            hottest: 30.0,
            busy_seconds: 0.0,
            is_broken: false,
        })))
    }

    fn heat(&self) -> std::sync::MutexGuard<'_, Heat> {
        self.0.lock().expect("no test panics with it")
    }
}

impl Device for Simulated {
    fn celsius(&mut self) -> Option<f64> {
        let heat = self.heat();
        // Sensors tell tenths of a degree.
        (!heat.is_broken).then(|| (heat.celsius * 10.0).round() / 10.0)
    }

    fn seconds(&self) -> f64 {
        self.heat().seconds
    }

    fn pause(&mut self, seconds: f64) {
        self.heat().pass(seconds, 0.0);
    }
}

/// Runs of `run_seconds` until `until`; the hottest, and the busy share of the second half.
fn simulate(device: &Simulated, governor: &mut Governor, run_seconds: f64, until: f64) -> (f64, f64) {
    let (mut from, mut busy_from) = (0.0, 0.0);
    while device.seconds() < until {
        if from == 0.0 && device.seconds() > until / 2.0 {
            (from, busy_from) = (device.seconds(), device.heat().busy_seconds);
        }
        governor.run_begins();
        device.heat().pass(run_seconds, if governor.drafts() { 0.2 } else { 1.0 });
        governor.run_ends(1);
    }
    let heat = device.heat();
    (heat.hottest, (heat.busy_seconds - busy_from) / (heat.seconds - from))
}

#[test]
fn the_limit_is_held_with_nearly_all_of_the_throughput_there_is() {
    // Settles at 90 to 150 degrees when always busy, within 20 seconds to 4 minutes.
    for busy_celsius in [60.0, 80.0, 120.0] {
        for time_constant in [20.0, 60.0, 240.0] {
            for run_seconds in [0.01, 0.05, 0.2] {
                let device = Simulated::new(busy_celsius, time_constant);
                let mut governor = Governor::new(Box::new(device.clone()), Limits::default());
                let (hottest, share) =
                    simulate(&device, &mut governor, run_seconds, 20.0 * time_constant + 300.0);
                let case = format!("+{busy_celsius} C, {time_constant} s, runs of {run_seconds} s");
                // Nobody looks during a run.
                let one_run = (30.0 + busy_celsius - 75.0) / time_constant * run_seconds;
                assert!(hottest <= 75.0 + one_run, "{case}: {hottest:.2} C");
                // No governor can be busy a larger share and stay below the limit for ever.
                let most = (75.0 - 30.0) / busy_celsius;
                assert!(share >= 0.95 * most, "{case}: busy {share:.3}, at most {most:.3}");
            }
        }
    }
}

#[test]
fn pauses_behind_slow_runs_are_as_long_as_they_must_be() {
    let device = Simulated::new(120.0, 240.0);
    let mut governor = Governor::new(Box::new(device.clone()), Limits::default());
    let (hottest, share) = simulate(&device, &mut governor, 5.0, 4000.0);
    let one_run = (30.0 + 120.0 - 75.0) / 240.0 * 5.0;
    assert!(hottest <= 75.0 + one_run, "{hottest:.2} C");
    assert!(share >= 0.9 * (75.0 - 30.0) / 120.0, "busy {share:.3}");
}

#[test]
fn what_stays_cool_is_never_slowed() {
    let device = Simulated::new(43.0, 30.0);
    let mut governor = Governor::new(Box::new(device.clone()), Limits::default());
    let (hottest, share) = simulate(&device, &mut governor, 0.05, 600.0);
    assert!(hottest > 72.5, "{hottest}");
    assert_eq!((share, governor.paused_seconds()), (1.0, 0.0));
    assert!(governor.decisions().is_empty(), "{:?}", governor.decisions());
}

#[test]
fn decisions_are_few_and_told_in_order() {
    let device = Simulated::new(80.0, 30.0);
    let mut governor = Governor::new(Box::new(device.clone()), Limits::default());
    simulate(&device, &mut governor, 0.05, 600.0);
    let changes: Vec<Change> = governor.decisions().iter().map(|one| one.change).collect();
    assert_eq!(changes, [Change::Governed], "{changes:?}");
    // It gets cold outside.
    device.heat().ambient_celsius = -20.0;
    simulate(&device, &mut governor, 0.05, 1200.0);
    let last = governor.decisions().last().expect("a decision");
    assert_eq!(last.change, Change::Released);
    assert!(last.to_string().contains("pauses end (busy 100 % of the time)"), "{last}");
}

#[test]
fn the_draft_model_writes_alone_where_pauses_would_halve_the_speed() {
    let device = Simulated::new(180.0, 30.0);
    let limits = Limits { may_draft: true, ..Limits::default() };
    let mut governor = Governor::new(Box::new(device.clone()), limits);
    let (hottest, _) = simulate(&device, &mut governor, 0.05, 900.0);
    assert!(hottest <= 75.5, "{hottest}");
    let changes: Vec<Change> = governor.decisions().iter().map(|one| one.change).collect();
    assert!(changes.contains(&Change::Draft) && changes.contains(&Change::Model), "{changes:?}");
    // A fifth of the power settles at 66 degrees: they alternate, each for some time.
    assert!(changes.len() as f64 <= 900.0 / DWELL_SECONDS + 3.0, "{} changes", changes.len());
}

#[test]
fn a_long_run_is_cut_into_smaller_chunks() {
    let device = Simulated::new(120.0, 20.0);
    let mut governor = Governor::new(Box::new(device.clone()), Limits::default());
    let mut sizes = Vec::new();
    while device.seconds() < 120.0 {
        let tokens = 128.min(governor.chunk_tokens_max());
        sizes.push(tokens);
        governor.run_begins();
        device.heat().pass(tokens as f64 / 128.0 * 2.0, 1.0);
        governor.run_ends(tokens);
    }
    assert_eq!(sizes[0], 128);
    let last = *sizes.last().expect("runs");
    assert!((1..=32).contains(&last), "{sizes:?}");
    assert!(device.heat().hottest < 79.0, "{}", device.heat().hottest);
}

#[test]
fn a_broken_thermometer_is_told_and_slows_nothing() {
    let device = Simulated::new(120.0, 20.0);
    let mut governor = Governor::new(Box::new(device.clone()), Limits::default());
    simulate(&device, &mut governor, 0.05, 60.0);
    device.heat().is_broken = true;
    // It is seen at the next look.
    let now = device.seconds();
    simulate(&device, &mut governor, 0.05, now + 0.5);
    let paused = governor.paused_seconds();
    assert!(paused > 0.0);
    simulate(&device, &mut governor, 0.05, 70.0);
    assert_eq!(governor.paused_seconds(), paused);
    assert_eq!(governor.decisions().last().expect("a decision").change, Change::Blind);
}

#[test]
fn thermal_zones_are_read_and_the_warmest_counts() {
    let folder = std::env::temp_dir().join(format!("thermal-{}", std::process::id()));
    for (zone, text) in
        [("thermal_zone0", "41500\n"), ("thermal_zone1", "63250\n"), ("thermal_zone2", "-273000\n")]
    {
        std::fs::create_dir_all(folder.join(zone)).expect("a folder");
        std::fs::write(folder.join(zone).join("temp"), text).expect("a file");
    }
    std::fs::create_dir_all(folder.join("cooling_device0")).expect("a folder");
    let mut zones = ThermalZones::find(&folder).expect("two can be read");
    assert_eq!(zones.celsius(), Some(63.25));
    std::fs::remove_dir_all(&folder).expect("it was made here");
    assert_eq!(zones.celsius(), None);
    assert!(ThermalZones::find(&folder).is_none());
}
