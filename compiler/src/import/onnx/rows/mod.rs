//! What each operator becomes, by family. Add an operator as one row in the family that it belongs to.

mod attention;
mod control;
mod convolution;
mod elementwise;
mod index;
mod integer;
mod linear;
mod microsoft;
mod movement;
mod normalization;
mod quantization;
mod recurrent;
mod reduction;
mod sizes;

use super::table::Row;

/// All rows.
pub(crate) static FAMILIES: &[&[Row]] = &[
    attention::ROWS,
    control::ROWS,
    convolution::ROWS,
    elementwise::ROWS,
    index::ROWS,
    integer::ROWS,
    linear::ROWS,
    microsoft::ROWS,
    movement::ROWS,
    normalization::ROWS,
    quantization::ROWS,
    recurrent::ROWS,
    reduction::ROWS,
    sizes::ROWS,
];
