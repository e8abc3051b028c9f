//! `npu-gen3`: the open reference NPU. What the machine is, says `ISA.md` in this folder; how each op runs on it, the files here.
//!
//! [`nest`] is the double-buffered tile loop that everything runs in, [`tile_search`] finds tile sizes, [`tile_op`] computes one op on
//! tiles. On these stand the families: [`elementwise`] and [`group`] on the vector engine, [`cluster`] with [`matmul`], [`rows`] and
//! [`rows_schedule`] around matrix products.
//! [`convolution`] runs windows in row tiles, [`cascade`] chains of them through SRAM.
//!
//! ```text
//! core.linear -> transfer dma0, matmul matrix, binary vector, transfer dma1
//! ```

pub mod attention;
pub mod cached_attention;
pub mod cascade;
pub mod check;
pub mod cluster;
pub mod cluster_body;
pub mod cluster_plan;
pub mod convolution;
pub mod elementwise;
pub mod group;
pub mod kernel;
pub mod machine;
pub mod matmul;
pub mod movement;
pub mod nest;
pub mod product;
pub mod rows;
mod rows_parted;
pub mod rows_schedule;
pub mod rows_staged;
pub mod spatial;
pub mod tile_op;
pub mod tile_search;

use crate::lowering::{Lowering, engine};
use crate::target::{Figures, Target};

/// The target.
pub static NPU_GEN3: Target = Target {
    name: "npu-gen3",
    doc: "The open reference NPU: two DMA engines, a matrix and a vector engine on 1 MiB of SRAM. A model of a class of hardware \
          with figures from public sources, documented as an ISA page; it is no vendor's chip.",
    machine: Figures::Made(machine::machine),
    copy_engine: engine::DMA0,
    evidence: &[],
    lowerings: &LOWERINGS,
};

static PARTS: [&[Lowering]; 8] = [
    rows::LOWERINGS,
    matmul::LOWERINGS,
    attention::LOWERINGS,
    cached_attention::LOWERINGS,
    convolution::LOWERINGS,
    cascade::LOWERINGS,
    elementwise::LOWERINGS,
    movement::LOWERINGS,
];
static LOWERINGS: [Lowering; row_count()] = all_rows();

const fn row_count() -> usize {
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
}

const fn all_rows() -> [Lowering; row_count()] {
    let mut rows = [PARTS[0][0]; row_count()];
    let (mut at, mut part) = (0, 0);
    while part < PARTS.len() {
        let mut row = 0;
        while row < PARTS[part].len() {
            rows[at] = PARTS[part][row];
            at += 1;
            row += 1;
        }
        part += 1;
    }
    rows
}
