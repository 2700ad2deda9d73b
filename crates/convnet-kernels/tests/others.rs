//! Every routine but the convolutions, with every instruction set of this computer and several numbers of threads, against
//! its formula computed plainly in `f64`.
//!
//! Shapes are random. Every buffer ends at an unreadable page in one run and begins behind one in the next.
//!
//! `CONVNET_OTHER_CASES` sets the number of random shapes of each test, `CONVNET_OTHER_SEED` where they begin.

#[path = "others/dropout.rs"]
mod dropout;
#[path = "others/elementwise.rs"]
mod elementwise;
mod guarded;
#[path = "others/large.rs"]
mod large;
#[path = "others/norm.rs"]
mod norm;
#[path = "others/pool.rs"]
mod pool;
mod random;
#[path = "others/runs.rs"]
mod runs;
#[path = "others/sums.rs"]
mod sums;
#[path = "others/update.rs"]
mod update;
