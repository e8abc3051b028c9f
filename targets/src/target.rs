//! What a target is: a machine and a table of lowerings. Targets are plain statics in an explicit list.
//!
//! A target that uses portable commands only is these two things and nothing else:
//!
//! ```text
//! pub static MINE: Target = Target { name: "mine", doc: "..", machine: Figures::Made(Machine::reference), copy_engine: engine::HOST, evidence: &[], lowerings: &[Lowering {
//!     subject: Subject::Op(&core::RELU), place: on_chip, lower: lower_relu }] };
//! let targets = Targets::builtin().with(&MINE);
//! ```

use crate::lowering::{Lowering, engine};
use tilewright_passes::machine::Machine;
use tilewright_runtime::hardware::Evidence;

/// A machine to compile for.
pub struct Target {
    /// Name at the command line.
    pub name: &'static str,
    /// One paragraph: what it is, and for a model of a class of hardware, that it is that.
    pub doc: &'static str,
    /// Its figures.
    pub machine: Figures,
    /// Who copies between places in memory when an op only moves elements.
    pub copy_engine: &'static str,
    /// What shows that a system has it, for deployments; one is enough. Empty where nothing can tell.
    pub evidence: &'static [Evidence],
    /// What it can do, in order of preference. What no row takes runs on the host, with the reasons of the rows.
    pub lowerings: &'static [Lowering],
}

/// A machine's figures: made by a function, or read from a description.
pub enum Figures {
    /// Made.
    Made(fn() -> Machine),
    /// Read.
    Given(Machine),
}

impl Target {
    /// The figures; a caller may change them (another SRAM size) before it compiles.
    pub fn machine(&self) -> Machine {
        match &self.machine {
            Figures::Made(make) => make(),
            Figures::Given(machine) => machine.clone(),
        }
    }

    /// Whether it is the processor itself: then what has no row of its own is still at home there.
    pub fn is_processor(&self) -> bool {
        let own = [HOST.lowerings, crate::host_cpu::HOST_CPU.lowerings];
        own.iter().any(|own| std::ptr::eq(*own, self.lowerings))
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Target) -> bool {
        std::ptr::eq(self, other)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Runs everything as portable commands on the host processor.
pub static HOST: Target = Target {
    name: "host",
    doc: "No NPU: every op runs as portable commands on the host, on whole tensors in DRAM. The yardstick for other targets.",
    machine: Figures::Made(Machine::reference),
    copy_engine: engine::HOST,
    evidence: &[Evidence::ALWAYS],
    lowerings: &[],
};

/// The known targets, in order.
#[derive(Clone, Default)]
pub struct Targets(Vec<&'static Target>);

impl Targets {
    /// None.
    pub fn empty() -> Targets {
        Targets::default()
    }

    /// All in-tree targets.
    pub fn builtin() -> Targets {
        let written =
            Targets::empty().with(&HOST).with(&crate::host_cpu::HOST_CPU).with(&crate::npu_gen3::NPU_GEN3);
        crate::machines::DESCRIBED.iter().fold(written, |targets, target| targets.with(target))
    }

    /// Adds a target.
    ///
    /// # Panics
    /// When the name is taken: a fault of the program, found at start.
    #[must_use]
    pub fn with(mut self, target: &'static Target) -> Targets {
        assert!(self.find(target.name).is_none(), "target '{}' is registered twice", target.name);
        self.0.push(target);
        self
    }

    /// The target of that name.
    pub fn find(&self, name: &str) -> Option<&'static Target> {
        self.0.iter().copied().find(|target| target.name == name)
    }

    /// All, in the order of registration.
    pub fn iter(&self) -> impl Iterator<Item = &'static Target> + '_ {
        self.0.iter().copied()
    }
}
