//! AMX: eight tile registers of 16 rows with 64 bytes each, and the sum of products of two of them.
//!
//! Everything here is stable inline assembly, since the compiler has no stable functions for it and never touches tile
//! registers by itself. Whether a process may use them is up to the processor, the operating system, and on Linux a
//! permission that the process has to ask for.

use std::arch::asm;

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;
/// Bytes of a row.
const ROW_BYTES: usize = 64;

/// Why this process has no tiles, if it has none.
pub(super) fn offered() -> Result<(), &'static str> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    if __cpuid(0).eax < 7 {
        return Err("the processor has no AMX");
    }
    // Leaf 7: AMX-BF16 is bit 22 and AMX-TILE bit 24 of EDX.
    let features = __cpuid_count(7, 0).edx;
    if features >> 22 & 1 == 0 || features >> 24 & 1 == 0 {
        return Err("the processor has no AMX");
    }
    if super::Avx512::detect().is_none() {
        return Err("the processor has AMX without AVX-512");
    }
    // OSXSAVE is bit 27 of ECX of leaf 1; without it XGETBV does not exist.
    if __cpuid(1).ecx >> 27 & 1 == 0 || enabled_states() >> 17 & 3 != 3 {
        return Err("the operating system does not keep tile registers");
    }
    permission()
}

/// Register XCR0: the states that the operating system keeps, tile configuration in bit 17 and tile data in bit 18.
fn enabled_states() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller saw OSXSAVE, so the instruction exists; it only reads a register.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Asks the kernel for the use of tile registers, for this process and those it starts.
#[cfg(target_os = "linux")]
fn permission() -> Result<(), &'static str> {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: the system call takes two numbers and touches no memory of the process; it destroys RCX and R11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    if result == 0 { Ok(()) } else { Err("the kernel refuses the use of tile registers") }
}

#[cfg(not(target_os = "linux"))]
fn permission() -> Result<(), &'static str> {
    Err("tile registers are only asked for on Linux")
}

/// What LDTILECFG reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of full size.
static FULL: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: full([ROW_BYTES as u16; 8]),
    rows: {
        let mut rows = [0; 16];
        let mut tile = 0;
        while tile < 8 {
            rows[tile] = ROWS as u8;
            tile += 1;
        }
        rows
    },
};

const fn full(tiles: [u16; 8]) -> [u16; 16] {
    let mut all = [0; 16];
    let mut tile = 0;
    while tile < tiles.len() {
        all[tile] = tiles[tile];
        tile += 1;
    }
    all
}

/// Configures eight tiles of 16 rows and 64 bytes, all zero.
///
/// # Safety
/// The CPU and the operating system offer AMX. The thread calls [`release`] before it does anything else of length.
#[inline(always)]
pub(crate) unsafe fn configure() {
    // SAFETY: by the contract; the configuration is 64 bytes of a palette that every processor with AMX has.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const FULL, options(readonly, nostack, preserves_flags)) }
}

/// Gives the tiles back: a switch of threads need not keep them any more.
///
/// # Safety
/// The CPU and the operating system offer AMX.
#[inline(always)]
pub(crate) unsafe fn release() {
    // SAFETY: by the contract; tiles are no memory, and the compiler keeps nothing in them.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
}

/// Tile `TILE` ← 0
///
/// # Safety
/// The tiles are configured.
#[inline(always)]
pub(crate) unsafe fn zero<const TILE: usize>() {
    // SAFETY: by the contract; only a tile changes, and the compiler keeps nothing there.
    unsafe { asm!("tilezero tmm{tile}", tile = const TILE, options(nomem, nostack, preserves_flags)) }
}

/// Tile `TILE` ← 16 rows of 64 bytes that begin `step` bytes apart.
///
/// # Safety
/// The tiles are configured, and the rows can be read.
#[inline(always)]
pub(crate) unsafe fn load<const TILE: usize>(from: *const u8, step: usize) {
    // SAFETY: by the contract; only a tile changes, and the compiler keeps nothing there.
    unsafe {
        asm!(
            "tileloadd tmm{tile}, [{from} + {step}*1]",
            tile = const TILE,
            from = in(reg) from,
            step = in(reg) step,
            options(readonly, nostack, preserves_flags)
        );
    }
}

/// 16 rows of 64 bytes that begin `step` bytes apart ← tile `TILE`
///
/// # Safety
/// The tiles are configured, and the rows can be written and are nobody else's.
#[inline(always)]
pub(crate) unsafe fn store<const TILE: usize>(to: *mut u8, step: usize) {
    // SAFETY: by the contract.
    unsafe {
        asm!(
            "tilestored [{to} + {step}*1], tmm{tile}",
            tile = const TILE,
            to = in(reg) to,
            step = in(reg) step,
            options(nostack, preserves_flags)
        );
    }
}

/// Sum s ← s + left l · right r: TDPBF16PS of tiles 2·l + r, 4 + l and 6 + r.
///
/// # Safety
/// The tiles are configured.
#[inline(always)]
pub(crate) unsafe fn dot<const LEFT: usize, const RIGHT: usize>() {
    // SAFETY: by the contract; only a tile changes, and the compiler keeps nothing there.
    unsafe {
        asm!(
            "tdpbf16ps tmm{sum}, tmm{left}, tmm{right}",
            sum = const 2 * LEFT + RIGHT,
            left = const 4 + LEFT,
            right = const 6 + RIGHT,
            options(nomem, nostack, preserves_flags)
        );
    }
}
