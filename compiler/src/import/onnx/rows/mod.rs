//! What each operator becomes, by family. Add an operator as one row in the family that it belongs to.

mod arrays;
mod attention;
mod control;
mod convolution;
mod elementwise;
mod experts;
mod fused;
mod index;
mod integer;
mod learned;
mod linear;
mod lists;
mod look_up;
mod loss;
mod microsoft;
mod microsoft_attention;
mod microsoft_normalization;
mod movement;
mod normalization;
mod pooling;
mod quantization;
mod random;
mod recurrent;
mod reduction;
mod regions;
mod resize;
mod sampling;
mod scores;
mod selection;
mod sizes;
mod spectral;
mod stateful;
mod string_match;
mod string_split;
mod strings;
mod training;
mod trees;

use super::table::Row;
pub(super) use lists::Form;
pub(super) use strings::by_places;

/// All rows.
pub(crate) static FAMILIES: &[&[Row]] = &[
    arrays::ROWS,
    attention::ROWS,
    control::ROWS,
    convolution::ROWS,
    elementwise::ROWS,
    experts::ROWS,
    fused::ROWS,
    index::ROWS,
    integer::ROWS,
    learned::ROWS,
    linear::ROWS,
    lists::ROWS,
    look_up::ROWS,
    loss::ROWS,
    microsoft::ROWS,
    microsoft_attention::ROWS,
    microsoft_normalization::ROWS,
    movement::ROWS,
    normalization::ROWS,
    pooling::ROWS,
    quantization::ROWS,
    random::ROWS,
    recurrent::ROWS,
    reduction::ROWS,
    regions::ROWS,
    resize::ROWS,
    sampling::ROWS,
    scores::ROWS,
    selection::ROWS,
    sizes::ROWS,
    spectral::ROWS,
    stateful::ROWS,
    string_match::ROWS,
    string_split::ROWS,
    strings::ROWS,
    training::ROWS,
    trees::ROWS,
];
