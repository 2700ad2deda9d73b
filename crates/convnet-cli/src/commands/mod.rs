//! One file for each command.

pub mod bench;
pub mod check;
pub mod eval;
pub mod explain;
pub mod look;
pub mod predict;
pub mod summary;
pub mod train;
