//! A group of elementwise and row-wise ops as one loop nest: inputs come into SRAM once, what is between stays there.
//!
//! Every value of a group is aligned to one iteration space: it has the space's length or 1 along each axis. Axes that an op
//! works along (softmax, a reduction) are whole in a tile. It must not know where ops came from.
//!
//! ```text
//! t = x * y; z = softmax(t)    =>    for rows: load x, y; binary mul; softmax; store z
//! ```

use super::machine::limits;
use super::nest::{Nest, Step, Tiled, Tiles};
use super::tile_op;
use super::tile_search::{Axis, Flow, Limits, Operand, Plan, Problem, Work, fit_inner, search};
use crate::lowering::{LoweringContext, space};
use crate::view::View;
use std::collections::BTreeSet;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::module::OpId;

/// Where a member of a group lives.
#[derive(Clone, Debug)]
pub enum Role {
    /// In memory, aligned to the iteration space; broadcast dimensions have stride 0.
    Input(View),
    /// In SRAM only.
    Inner,
    /// Goes to memory, aligned to the iteration space.
    Output(View),
    /// Stays in SRAM as a whole, aligned to the iteration space.
    Resident(View),
}

/// A value of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where it lives.
    pub role: Role,
    /// Whether it extends along each axis (else its length there is 1).
    pub extends: Vec<bool>,
    /// Element type.
    pub element: Element,
}

/// An op of a group.
#[derive(Clone, Debug)]
pub struct Node {
    /// The core op.
    pub op: OpId,
    /// Members by operand definition.
    pub operands: Vec<Option<usize>>,
    /// Its result.
    pub result: usize,
    /// Axes of the iteration space that it works along, as its last ones.
    pub along: Vec<usize>,
    /// The part of the last axis that it computes: first step and number of steps; all when none is given. Its result is as long.
    pub part: Option<[i64; 2]>,
}

/// A group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Lengths of the iteration space.
    pub extents: Vec<Dim>,
    /// Values.
    pub members: Vec<Member>,
    /// Ops in order.
    pub nodes: Vec<Node>,
    /// SRAM that others hold meanwhile.
    pub reserved_bytes: u64,
}

/// Exact search up to this many axes; beyond it, innermost whole.
const SEARCHED_AXES_MAX: usize = 3;

impl Group {
    /// Adds a value in memory that is broadcast to the iteration space.
    pub fn input(&mut self, view: &View) -> usize {
        let lead = self.extents.len() - view.rank();
        let one = Dim::Known(1);
        let extends = (0..self.extents.len())
            .map(|axis| {
                axis.checked_sub(lead).is_some_and(|from| view.dims[from] == self.extents[axis])
                    && self.extents[axis] != one
            })
            .collect();
        let aligned = view.broadcast_to(&self.extents);
        self.members.push(Member { role: Role::Input(aligned), extends, element: view.element });
        self.members.len() - 1
    }

    /// Adds a value in memory that is broadcast to the iteration space but for its last dimension, which it has whole with a length
    /// of its own (a table of half as many entries).
    pub fn table(&mut self, view: &View) -> usize {
        let member = self.input(view);
        let last = self.extents.len() - 1;
        let mut dims = self.extents.clone();
        dims[last] = view.dims[view.rank() - 1].clone();
        self.members[member].extends[last] = dims[last] == self.extents[last];
        self.members[member].role = Role::Input(view.broadcast_to(&dims));
        member
    }

    /// Adds a result in memory, of the iteration space's rank; its dimensions are whole or 1.
    pub fn output(&mut self, view: &View) -> usize {
        self.result(view, Role::Output(view.clone()))
    }

    /// As [`Group::output`], in SRAM as a whole.
    pub fn resident(&mut self, view: &View) -> usize {
        self.result(view, Role::Resident(view.clone()))
    }

    /// Adds a result as [`Group::output`] or [`Group::resident`] that has a part of the last axis only.
    pub fn part(&mut self, view: &View, is_resident: bool) -> usize {
        let member = if is_resident { self.resident(view) } else { self.output(view) };
        self.members[member].extends[view.rank() - 1] = false;
        member
    }

    fn result(&mut self, view: &View, role: Role) -> usize {
        let extends = (0..view.rank())
            .map(|axis| view.dims[axis] == self.extents[axis] && view.dims[axis] != Dim::Known(1));
        let extends = extends.collect();
        self.members.push(Member { role, extends, element: view.element });
        self.members.len() - 1
    }

    /// Adds a value that stays in SRAM.
    pub fn inner(&mut self, element: Element, extends: Vec<bool>) -> usize {
        self.members.push(Member { role: Role::Inner, extends, element });
        self.members.len() - 1
    }

    /// Writes the group's nest.
    ///
    /// # Errors
    /// When the smallest tiles do not fit SRAM, with the bytes needed and available.
    pub fn run(mut self, context: &mut LoweringContext) -> Result<(), String> {
        if self.extents.contains(&Dim::Known(0)) {
            return Ok(());
        }
        self.simplify();
        let tiles: Vec<i64> = self.plan(context)?.tiles.iter().map(|tile| *tile as i64).collect();
        let members_of = |wanted: fn(&Role) -> Option<&View>| -> Vec<(usize, View)> {
            let found =
                |(index, member): (usize, &Member)| wanted(&member.role).map(|view| (index, view.clone()));
            self.members.iter().enumerate().filter_map(found).collect()
        };
        let inputs = members_of(|role| if let Role::Input(view) = role { Some(view) } else { None });
        let outputs = members_of(|role| match role {
            Role::Output(view) | Role::Resident(view) => Some(view),
            _ => None,
        });
        let tiled = |(index, view): &(usize, View)| {
            let axes = self.members[*index].extends.iter().enumerate();
            let axes: Vec<Option<usize>> = axes.map(|(axis, extends)| extends.then_some(axis)).collect();
            // Along an axis that it does not extend along, an input repeats: one element is enough.
            let mut view = view.clone();
            for (axis, follows) in axes.iter().enumerate() {
                if follows.is_none() && view.strides[axis] == 0 {
                    view.dims[axis] = Dim::Known(1);
                }
            }
            Tiled::new(view, &axes)
        };
        let nest = Nest {
            extents: self.extents.clone(),
            tiles,
            order: (0..self.extents.len()).collect(),
            loads: inputs.iter().map(tiled).collect(),
            results: outputs.iter().map(tiled).collect(),
            result_axes: Vec::new(),
            is_pipelined: true,
            cut: None,
        };
        let place_of =
            |list: &[(usize, View)], member: usize| list.iter().position(|entry| entry.0 == member);
        nest.run(
            context,
            &mut Step(|context: &mut LoweringContext, tiles: &Tiles| {
                let mut views: Vec<Option<View>> = Vec::with_capacity(self.members.len());
                for member in 0..self.members.len() {
                    views.push(match (place_of(&inputs, member), place_of(&outputs, member)) {
                        (Some(load), _) => Some(tiles.load(load).clone()),
                        (_, Some(result)) => Some(tiles.result(result).clone()),
                        _ => Some(self.scratch(context, member, tiles)?),
                    });
                }
                for node in &self.nodes {
                    self.emit(context, node, &views)?;
                }
                Ok(())
            }),
        )
    }

    fn scratch(&self, context: &mut LoweringContext, member: usize, tiles: &Tiles) -> Result<View, String> {
        let member = &self.members[member];
        let (mut dims, mut capacity) = (Vec::new(), Vec::new());
        for (extends, place) in member.extends.iter().zip(tiles.places) {
            dims.push(if *extends { Dim::Known(place.capacity) } else { Dim::Known(1) });
            capacity.push(if *extends { place.capacity } else { 1 });
        }
        let mut view = context.buffer_with_capacity(space::SRAM, member.element, &dims, &capacity)?;
        for (axis, place) in tiles.places.iter().enumerate() {
            if member.extends[axis] {
                view.dims[axis] = place.length.clone();
            }
        }
        Ok(view)
    }

    fn emit(&self, context: &mut LoweringContext, node: &Node, views: &[Option<View>]) -> Result<(), String> {
        // The axes that an op works along go last, in the order given.
        let order: Vec<usize> = (0..self.extents.len())
            .filter(|axis| !node.along.contains(axis))
            .chain(node.along.iter().copied())
            .collect();
        let view = |member: usize| views[member].as_ref().expect("every member has a tile").permute(&order);
        let last = self.extents.len().saturating_sub(1);
        let read = |member: usize| match node.part {
            Some([start, length]) if self.members[member].extends[last] => {
                view(member).slice(last, &Dim::Known(start), &Dim::Known(length), 1)
            }
            _ => view(member),
        };
        let operands: Vec<Option<View>> = node.operands.iter().map(|operand| operand.map(read)).collect();
        tile_op::emit(context, node.op, &view(node.result), &operands)
    }

    /// How it would run.
    ///
    /// # Errors
    /// As [`Group::run`].
    pub fn planned(mut self, context: &LoweringContext) -> Result<Plan, String> {
        self.simplify();
        self.plan(context)
    }

    fn simplify(&mut self) {
        self.drop_unit_axes();
        if self.nodes.iter().all(|node| node.along.is_empty()) {
            self.collapse();
        }
    }

    fn drop_unit_axes(&mut self) {
        let along: BTreeSet<usize> = self.nodes.iter().flat_map(|node| node.along.iter().copied()).collect();
        for axis in (0..self.extents.len()).rev() {
            if self.extents[axis] == Dim::Known(1) && !along.contains(&axis) && self.extents.len() > 1 {
                self.remove_axis(axis);
            }
        }
    }

    fn remove_axis(&mut self, axis: usize) {
        self.extents.remove(axis);
        for member in &mut self.members {
            member.extends.remove(axis);
            if let Role::Input(view) | Role::Output(view) | Role::Resident(view) = &mut member.role {
                *view = view.without_axis(axis);
            }
        }
        for node in &mut self.nodes {
            for along in &mut node.along {
                *along -= usize::from(*along > axis);
            }
        }
    }

    /// Merges neighbouring axes that all values walk through alike.
    fn collapse(&mut self) {
        let mut axis = self.extents.len().saturating_sub(1);
        while axis > 0 {
            if self.merges(axis - 1) {
                let inner = self.extents[axis].clone();
                self.extents[axis - 1] = &self.extents[axis - 1] * &inner;
                for member in &mut self.members {
                    member.extends.remove(axis);
                    if let Role::Input(view) | Role::Output(view) | Role::Resident(view) = &mut member.role {
                        view.strides[axis - 1] = view.strides[axis];
                        view.dims[axis - 1] = &view.dims[axis - 1] * &view.dims[axis];
                        *view = view.without_axis(axis);
                    }
                }
                self.extents.truncate(self.extents.len().max(1));
                self.extents.remove(axis);
            }
            axis -= 1;
        }
    }

    fn merges(&self, outer: usize) -> bool {
        let Some(length) = self.extents[outer + 1].known() else { return false };
        self.members.iter().all(|member| {
            member.extends[outer] == member.extends[outer + 1]
                && match &member.role {
                    Role::Input(view) | Role::Output(view) | Role::Resident(view)
                        if member.extends[outer] =>
                    {
                        view.strides[outer] == view.strides[outer + 1] * length
                    }
                    _ => true,
                }
        })
    }

    /// A member as the tile search sees it.
    fn operand(&self, context: &LoweringContext, member: &Member) -> Result<Operand, String> {
        let flow = match member.role {
            Role::Input(_) => Flow::Load,
            Role::Inner | Role::Resident(_) => Flow::Hold,
            Role::Output(_) => Flow::Store,
        };
        let follows: Vec<usize> = (0..self.extents.len()).filter(|axis| member.extends[*axis]).collect();
        let mut operand = Operand::new(flow, &follows, member.element.bits() as u64);
        if let Role::Input(view) | Role::Output(view) = &member.role {
            for axis in (0..view.rank()).filter(|axis| !member.extends[*axis] && view.strides[*axis] != 0) {
                operand.fixed *= context.maximum(&view.dims[axis])?.max(1) as u64;
            }
        }
        Ok(operand)
    }

    fn plan(&self, context: &LoweringContext) -> Result<Plan, String> {
        let whole: BTreeSet<usize> = self.nodes.iter().flat_map(|node| node.along.iter().copied()).collect();
        let limits = limits(context);
        let limits = Limits { sram_bytes: limits.sram_bytes.saturating_sub(self.reserved_bytes), ..limits };
        let mut axes = Vec::new();
        for (axis, extent) in self.extents.iter().enumerate() {
            let extent = context.maximum(extent)?.max(1) as u64;
            // Packed elements begin at whole bytes when tiles are multiples of 16.
            let granule = if whole.contains(&axis) {
                extent
            } else if axis + 1 == self.extents.len() {
                16
            } else {
                1
            };
            axes.push(Axis::new("axis", extent, granule));
        }
        let moving = self.members.iter().filter(|member| !matches!(member.role, Role::Resident(_)));
        let operands = moving.map(|member| self.operand(context, member));
        let problem = Problem {
            operands: operands.collect::<Result<_, String>>()?,
            work: vec![Work {
                axes: (0..axes.len()).collect(),
                factor: self.nodes.len() as u64,
                per_cycle: context.machine.vector_lanes,
            }],
            orders: vec![(0..axes.len()).collect()],
            fixed_sram_bytes: 0,
            keeps: None,
            axes,
        };
        let open = problem.axes.iter().filter(|axis| axis.extent > axis.granule).count();
        let plan =
            if open <= SEARCHED_AXES_MAX { search(&problem, limits) } else { fit_inner(&problem, limits) };
        plan.map_err(|error| error.to_string())
    }
}
