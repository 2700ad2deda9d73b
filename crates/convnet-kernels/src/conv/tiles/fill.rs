//! From `f32` images to frames of bfloat16 parts: as they are for rows of pixels, turned around for rows of channels, and in
//! pairs of pixels.

use super::frame::{Frame, Outputs};
use super::split::split;
use super::unit::{DEPTH, OPERAND, SIDE};
use crate::gemm::block::transposed;

/// Numbers that one piece of work converts.
const PIECE_NUMBERS: usize = 1 << 14;

/// Working memory for bfloat16 numbers that several threads write, each its own.
#[derive(Clone, Copy)]
pub(super) struct Halves(*mut u16);

// SAFETY: it is only a place; whoever writes through it says why nobody else writes there.
unsafe impl Send for Halves {}
// SAFETY: as above.
unsafe impl Sync for Halves {}

/// Numbers by which working memory is larger than what is kept in it, so that it can begin a cache line.
pub(super) const SPARE: usize = 16;

impl Halves {
    /// Two for each number, from the first cache line on that begins in it.
    ///
    /// # Panics
    /// If there is no room for `count` of them.
    pub fn aligned(numbers: &mut [f32], count: usize) -> Self {
        let first = numbers.as_ptr().align_offset(64).min(SPARE);
        assert!(2 * (numbers.len().saturating_sub(first)) >= count, "scratch of the wrong length");
        Self(numbers[first..].as_mut_ptr().cast())
    }

    /// Two for each number.
    pub fn new(numbers: &mut [f32]) -> Self {
        Self(numbers.as_mut_ptr().cast())
    }

    /// Those behind the first `count`.
    pub fn after(self, count: usize) -> Self {
        Self(self.at(count))
    }

    /// The place of number `index`.
    pub fn at(self, index: usize) -> *mut u16 {
        self.0.wrapping_add(index)
    }
}

/// Splits numbers into parts, each in its own place.
#[inline(always)]
fn split_all<const PARTS: usize>(x: &[f32], to: [&mut [u16]; PARTS]) {
    let to = to.map(|to| &mut to[..x.len()]);
    for (place, x) in x.iter().enumerate() {
        let parts = split::<PARTS>(*x);
        for part in 0..PARTS {
            to[part][place] = parts[part];
        }
    }
}

/// `count` numbers of each part from `index` on.
///
/// # Safety
/// They are inside the working memory, and nobody else uses them.
#[inline(always)]
pub(super) unsafe fn parts<'a, const PARTS: usize>(to: Halves, part_step: usize, index: usize, count: usize) -> [&'a mut [u16]; PARTS] {
    // SAFETY: by the contract; parts do not overlap.
    std::array::from_fn(|part| unsafe { std::slice::from_raw_parts_mut(to.at(part * part_step + index), count) })
}

/// The first `count` numbers, filled up with zeros.
#[inline(always)]
fn filled_up(from: &[f32], count: usize) -> [f32; SIDE] {
    match from.first_chunk::<SIDE>() {
        Some(whole) if count == SIDE => *whole,
        _ => {
            let mut row = [0.0; SIDE];
            row[..count].copy_from_slice(&from[..count]);
            row
        }
    }
}

/// Splits two rows of a right operand, those of its pair number `pair`, into parts.
#[inline(always)]
pub(super) fn split_pair<const PARTS: usize>(rows: [&[f32; SIDE]; 2], pair: usize, to: &mut [&mut [u16]; PARTS]) {
    for column in 0..SIDE {
        let members = rows.map(|row| split::<PARTS>(row[column]));
        for part in 0..PARTS {
            to[part][pair * DEPTH + 2 * column] = members[0][part];
            to[part][pair * DEPTH + 2 * column + 1] = members[1][part];
        }
    }
}

/// Conversion of some images to frames.
pub(super) struct Fill<'a> {
    pub frame: &'a Frame,
    /// The images.
    pub x: &'a [f32],
    /// How many.
    pub images: usize,
    pub to: Halves,
    /// Numbers from one part to the next.
    pub part_step: usize,
}

impl Fill<'_> {
    fn pixels_of_piece(&self) -> usize {
        PIECE_NUMBERS.div_ceil(self.frame.groups * self.frame.channels).next_multiple_of(DEPTH)
    }

    fn pieces_of_component(&self) -> usize {
        self.frame.plane_step().div_ceil(self.pixels_of_piece())
    }

    /// Pieces of work.
    pub fn pieces(&self) -> usize {
        self.frame.components() * self.pieces_of_component()
    }

    /// Component and pixels of a piece, of `end` that there are.
    fn piece(&self, piece: usize, end: usize) -> (usize, std::ops::Range<usize>) {
        let (component, piece) = (piece / self.pieces_of_component(), piece % self.pieces_of_component());
        let pixels = self.pixels_of_piece();
        (component, (piece * pixels).min(end)..((piece + 1) * pixels).min(end))
    }

    /// Numbers of one part of [`run`](Self::run)'s result, `[component][pixel][group][channel]`.
    pub fn len(frame: &Frame) -> usize {
        frame.components() * frame.pixels * frame.pixel_step()
    }

    /// Fills the pixels of one piece.
    ///
    /// # Safety
    /// There is room for all parts, and nobody else works on this piece.
    #[inline(always)]
    pub unsafe fn run<const PARTS: usize>(&self, piece: usize) {
        let (frame, step) = (self.frame, self.frame.pixel_step());
        let (component, pixels) = self.piece(piece, frame.pixels);
        let (all, channels, padded) = (frame.groups * frame.channels, frame.channels, frame.blocks() * DEPTH);
        frame.runs(component, pixels, self.images, |pixel, count, place| {
            let first = (component * frame.pixels + pixel) * step;
            // SAFETY: the pixels are inside the frame and this piece's own.
            let [to] = [unsafe { parts::<PARTS>(self.to, self.part_step, first, count * step) }];
            let Some(place) = place else {
                to.into_iter().for_each(|to| to.fill(0));
                return;
            };
            if step == all && frame.col_step() == 1 {
                return split_all(&self.x[place * all..(place + count) * all], to);
            }
            for number in 0..count {
                let x = &self.x[(place + number * frame.col_step()) * all..][..all];
                for (group, x) in x.chunks_exact(channels).enumerate() {
                    let first = first + number * step + group * padded;
                    // SAFETY: as above; `to` is not used any more.
                    let mut to = unsafe { parts::<PARTS>(self.to, self.part_step, first, padded) };
                    to.iter_mut().for_each(|to| to[channels..].fill(0));
                    split_all(x, to);
                }
                for part in 0..PARTS {
                    let padding = first + number * step + frame.groups * padded..first + (number + 1) * step;
                    // SAFETY: as above.
                    unsafe { std::slice::from_raw_parts_mut(self.to.at(part * self.part_step + padding.start), padding.len()) }.fill(0);
                }
            }
        });
    }

    /// Channels of a group with those that make it whole operands.
    fn plane_channels(frame: &Frame) -> usize {
        frame.channels.next_multiple_of(SIDE)
    }

    /// Where the pixels of a channel of [`run_planes`](Self::run_planes)'s result begin.
    pub fn plane(frame: &Frame, component: usize, group: usize, channel: usize) -> usize {
        ((component * frame.groups + group) * Self::plane_channels(frame) + channel) * frame.plane_step()
    }

    /// Numbers of one part of [`run_planes`](Self::run_planes)'s result, `[component][group][channel][pixel]`.
    pub fn planes_len(frame: &Frame) -> usize {
        Self::plane(frame, frame.components(), 0, 0)
    }

    /// Fills the pixels of one piece, in a plane for each channel.
    ///
    /// # Safety
    /// There is room for all parts, and nobody else works on this piece.
    #[inline(always)]
    pub unsafe fn run_planes<const PARTS: usize>(&self, piece: usize) {
        let (frame, all) = (self.frame, self.frame.groups * self.frame.channels);
        let (component, pixels) = self.piece(piece, frame.plane_step());
        for pixel in pixels.step_by(DEPTH) {
            // The numbers of each pixel, if it is not all zeros.
            let mut places = [None; DEPTH];
            frame.runs(component, pixel..(pixel + DEPTH).min(frame.pixels.max(pixel)), self.images, |first, count, place| {
                for (number, to) in places[first - pixel..][..count].iter_mut().enumerate() {
                    *to = place.map(|place| (place + number * frame.col_step()) * all);
                }
            });
            for group in 0..frame.groups {
                for channel in (0..frame.channels).step_by(SIDE) {
                    let count = SIDE.min(frame.channels - channel);
                    let mut rows = [[0.0f32; SIDE]; DEPTH];
                    for (row, place) in rows.iter_mut().zip(places) {
                        let Some(place) = place else { continue };
                        *row = filled_up(&self.x[place + group * frame.channels + channel..], count);
                    }
                    let lines = turned(&rows);
                    for (number, line) in lines.iter().enumerate() {
                        let first = Self::plane(frame, component, group, channel + number) + pixel;
                        // SAFETY: the pixels are inside the plane and this piece's own.
                        split_all(line, unsafe { parts::<PARTS>(self.to, self.part_step, first, DEPTH) });
                    }
                }
            }
        }
    }
}

/// Rows become columns. Not compiled for wider vectors, for which the compiler would gather the numbers one by one.
#[inline(never)]
fn turned(rows: &[[f32; SIDE]; DEPTH]) -> [[f32; DEPTH]; SIDE] {
    let mut lines = [[0.0; DEPTH]; SIDE];
    for row in (0..DEPTH).step_by(4) {
        for column in (0..SIDE).step_by(4) {
            let square = std::array::from_fn(|next| *rows[row + next][column..].first_chunk().expect("four columns"));
            for (next, numbers) in transposed(square).into_iter().enumerate() {
                lines[column + next][row..row + 4].copy_from_slice(&numbers);
            }
        }
    }
    lines
}

/// Conversion of the output's gradients to right operands, 32 positions and 16 filters each, with zeros where a position is
/// no output.
pub(super) struct Pairs<'a> {
    pub frame: &'a Frame,
    pub outputs: Outputs,
    /// The gradients.
    pub dy: &'a [f32],
    /// Steps of 32 positions.
    pub steps: usize,
    pub to: Halves,
    /// Numbers from one part to the next.
    pub part_step: usize,
}

impl Pairs<'_> {
    fn steps_of_piece(&self) -> usize {
        PIECE_NUMBERS.div_ceil(DEPTH * self.frame.groups * self.frame.filters)
    }

    /// Pieces of work.
    pub fn pieces(&self) -> usize {
        self.steps.div_ceil(self.steps_of_piece())
    }

    /// Numbers of one part, `[group][16 filters][step][pair][filter][member of the pair]`.
    pub fn len(frame: &Frame, steps: usize) -> usize {
        frame.groups * frame.filters.div_ceil(SIDE) * steps * OPERAND
    }

    /// Fills the steps of one piece.
    ///
    /// # Safety
    /// There is room for all parts, and nobody else works on this piece.
    #[inline(always)]
    pub unsafe fn run<const PARTS: usize>(&self, piece: usize) {
        let (filters, panels) = (self.frame.filters, self.frame.filters.div_ceil(SIDE));
        let all = self.frame.groups * filters;
        let first = piece * self.steps_of_piece();
        for step in first..(first + self.steps_of_piece()).min(self.steps) {
            let mut place = self.frame.place(step * DEPTH);
            let places: [Option<usize>; DEPTH] = std::array::from_fn(|_| self.outputs.next(&mut place));
            for panel in 0..self.frame.groups * panels {
                let (group, filter) = (panel / panels, panel % panels * SIDE);
                let count = SIDE.min(filters - filter);
                // SAFETY: the step is inside the operands and this piece's own.
                let mut to = unsafe { parts::<PARTS>(self.to, self.part_step, (panel * self.steps + step) * OPERAND, OPERAND) };
                for pair in 0..SIDE {
                    let mut rows = [[0.0f32; SIDE]; 2];
                    for (row, place) in rows.iter_mut().zip(&places[2 * pair..]) {
                        let Some(place) = place else { continue };
                        *row = filled_up(&self.dy[place * all + group * filters + filter..], count);
                    }
                    split_pair([&rows[0], &rows[1]], pair, &mut to);
                }
            }
        }
    }
}
