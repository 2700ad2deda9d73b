#!/usr/bin/env bash
# Builds the kernels for 64-bit ARM and runs their tests with an emulator: `tools/neon.sh [arguments of cargo test]`.
#
# Needs the standard library for that target (`rustup target add aarch64-unknown-linux-gnu`, or a compiler that has it in RUSTC), and,
# by Debian's names, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user. The usual variables of cargo name another linker or
# runner. Few random cases are run unless CONVNET_CONV_CASES and CONVNET_OTHER_CASES say how many, since an emulator is slow: the
# larger problems alone, which are always run, take it some fifteen minutes. A computer with such a processor needs `cargo test` only.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER:-qemu-aarch64 -L /usr/aarch64-linux-gnu}"
export CONVNET_CONV_CASES="${CONVNET_CONV_CASES:-20}" CONVNET_OTHER_CASES="${CONVNET_OTHER_CASES:-10}"
exec cargo test --release --package convnet-kernels --target "$target" "$@"
