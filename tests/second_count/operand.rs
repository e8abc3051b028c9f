//! Operands of a command, element by element.

use tilewright_runtime::commands::{Access, Command};
use tilewright_runtime::element::Element;
use tilewright_runtime::stream::Program;
use tilewright_runtime::view::{Expression, Space};

/// An operand: its field, how it is touched, where, and the elements' distances from its base.
pub(super) struct Operand {
    pub(super) name: &'static str,
    pub(super) access: Access,
    pub(super) space: Space,
    pub(super) element: Element,
    pub(super) base_bytes: i64,
    pub(super) dims: Vec<u64>,
    pub(super) offsets: Vec<i64>,
}

impl Operand {
    pub(super) fn count(&self) -> u64 {
        self.dims.iter().product()
    }

    pub(super) fn is_on_chip(&self) -> bool {
        matches!(self.space, Space::Sram | Space::Accumulator)
    }

    /// Length of the first stretch of neighbours.
    pub(super) fn run(&self) -> u64 {
        let neighbours = self.offsets.windows(2).take_while(|pair| pair[1] == pair[0] + 1).count();
        neighbours as u64 + 1
    }

    /// First byte and byte after the last.
    pub(super) fn bytes(&self) -> (i64, i64) {
        let bits = i64::from(self.element.bits());
        match (self.offsets.first(), self.offsets.last()) {
            (Some(first), Some(last)) => (
                self.base_bytes + (first * bits).div_euclid(8),
                self.base_bytes + ((last + 1) * bits + 7).div_euclid(8),
            ),
            _ => (0, 0),
        }
    }

    pub(super) fn dim(&self, from_end: usize) -> u64 {
        self.dims.len().checked_sub(from_end).map_or(1, |axis| self.dims[axis])
    }
}

pub(super) fn value(expression: &Expression, registers: &[i64]) -> i64 {
    let terms = expression.terms().iter();
    expression.constant_part()
        + terms.map(|(register, by)| by * registers[usize::from(register.0)]).sum::<i64>()
}

pub(super) fn operands(program: &Program, command: &Command, registers: &[i64]) -> Vec<Operand> {
    let mut found = Vec::new();
    command.for_each_view(|name, access, id| {
        let view = &program.views[id.0 as usize];
        let dims: Vec<u64> = view
            .dims
            .iter()
            .map(|dim| match &dim.bound {
                Some(bound) => value(bound, registers).clamp(0, i64::from(dim.cap)) as u64,
                None => u64::from(dim.cap),
            })
            .collect();
        let mut offsets = vec![0i64];
        for (dim, stride) in dims.iter().zip(&view.strides) {
            let step = |at: i64| offsets.iter().map(move |offset| offset + at * stride);
            // A repeat by a stride of 0 is the same elements.
            let times = if *stride == 0 { (*dim).min(1) } else { *dim };
            offsets = (0..times as i64).flat_map(step).collect();
        }
        offsets.sort_unstable();
        let (space, element) = (view.space, view.element);
        let base_bytes = value(&view.base_bytes, registers);
        found.push(Operand { name, access, space, element, base_bytes, dims, offsets });
    });
    found
}

/// The operand that few rows of are touched, and the one that tells how many elements.
pub(super) fn picked(command: &Command) -> Option<(&'static str, &'static str)> {
    match command {
        Command::Gather { .. } | Command::GatherElements { .. } | Command::GatherNd { .. } => {
            Some(("source", "destination"))
        }
        Command::ScatterElements { .. } | Command::ScatterNd { .. } => Some(("destination", "updates")),
        _ => None,
    }
}

pub(super) fn named<'o>(operands: &'o [Operand], name: &str) -> Option<&'o Operand> {
    operands.iter().find(|operand| operand.name == name)
}

pub(super) fn touched(command: &Command, operand: &Operand, operands: &[Operand]) -> u64 {
    let all = operand.offsets.len() as u64;
    match picked(command) {
        Some((few, by)) if few == operand.name => all.min(named(operands, by).map_or(all, Operand::count)),
        _ => all,
    }
}
