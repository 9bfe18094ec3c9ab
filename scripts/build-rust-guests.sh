#!/usr/bin/env bash
# Builds every Rust guest, that is each crate in tests/guests/rust and in examples, to target/guests/rust/NAME.wasm.
# Quick when they are up to date. A file that did not change keeps its time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly OUT=target/guests/rust
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/$OUT/build}

main() {
    use_toolchain
    mkdir -p "$OUT"
    build tests/guests/rust/Cargo.toml
    local manifest
    for manifest in examples/*/Cargo.toml; do
        build "$manifest"
    done
    for manifest in tests/guests/rust/*/Cargo.toml examples/*/Cargo.toml; do
        deliver "$(basename "$(dirname "$manifest")")"
    done
}

# Sets the flags for the compiler.
use_toolchain() {
    # In a variable, since `eval` hides the script's failure.
    local exports
    exports=$(scripts/wasm-toolchain.sh)
    eval "$exports"
    local flags=()
    read -ra flags <<<"${CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS:-}"
    # Panic messages name source files; a guest that is passed on is not to tell where it was built.
    flags+=(
        --remap-path-prefix="${CARGO_HOME:-$HOME/.cargo}/registry/src=/cargo"
        --remap-path-prefix="$PWD=/covet"
    )
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}")
    export CARGO_ENCODED_RUSTFLAGS
}

build() {
    cargo build --quiet --locked --release --target wasm32-wasip2 --manifest-path "$1"
}

# Puts a guest where the tests look for it, at once and only if it is new.
deliver() {
    local from=$CARGO_TARGET_DIR/wasm32-wasip2/release/${1//-/_}.wasm to=$OUT/$1.wasm
    if ! cmp --silent "$from" "$to"; then
        cp "$from" "$to.$$"
        mv "$to.$$" "$to"
        echo "$to" >&2
    fi
}

main
