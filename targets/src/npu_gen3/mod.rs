//! `npu-gen3`: the open reference NPU. What the machine is, says `ISA.md` in this folder; how each op runs on it, the files here.
//!
//! ```text
//! core.linear -> transfer dma0, matmul matrix, binary vector, transfer dma1
//! ```

pub mod cluster;
pub mod elementwise;
pub mod group;
pub mod kernel;
pub mod machine;
pub mod nest;
pub mod rows;
pub mod rows_schedule;
pub mod tile_op;
pub mod tile_search;
