#!/usr/bin/env bash
# Makes `cargo build --target wasm32-wasip2` work with the rustc in PATH:
#
#     eval "$(scripts/wasm-toolchain.sh)"
#
# Where the target is installed (`rustup target add wasm32-wasip2`) there is nothing to do. Elsewhere, on a Debian
# machine that can reach a Debian mirror but not rustup's server, std is built once from Debian's rust-src of the same
# version, into a sysroot of its own under ${XDG_CACHE_HOME:-~/.cache}/covet/wasm-sysroot. Neither the Rust toolchain
# nor the system's apt is changed, and root is not needed.
#
# On stdout: shell lines to eval, perhaps none. On stderr: everything else. It may run twice at once.
set -euo pipefail

readonly TARGET=wasm32-wasip2
source "$(dirname "${BASH_SOURCE[0]}")/backports.sh"

main() {
    command -v rustc >/dev/null || fail "there is no rustc in PATH"
    if is_installed; then
        exit 0
    fi
    # The std that is built here and the guests that use it must come from one compiler, whatever directory rustup is
    # asked in.
    if command -v rustup >/dev/null && [[ -z ${RUSTUP_TOOLCHAIN:-} ]]; then
        RUSTUP_TOOLCHAIN=$(rustup show active-toolchain | awk '{print $1}')
        export RUSTUP_TOOLCHAIN
    fi
    local verbose
    verbose=$(rustc -vV)
    RELEASE=$(field release "$verbose")
    COMMIT=$(field commit-hash "$verbose")
    readonly RELEASE COMMIT

    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/covet/wasm-sysroot
    # Cargo splits the variable below at spaces and knows no quoting.
    [[ $cache != *[[:space:]]* ]] || fail "the path $cache has a space in it; set XDG_CACHE_HOME to one without"

    local sysroot
    sysroot=$(find_sysroot "$cache")
    if [[ -z $sysroot ]]; then
        mkdir -p "$cache"
        exec 9>"$cache/lock"
        flock --nonblock 9 || { say "waiting for another build of the sysroot"; flock 9; }
        # Somebody else may have made it in the meantime.
        sysroot=$(find_sysroot "$cache")
        if [[ -z $sysroot ]]; then
            build "$cache"
            sysroot=$(find_sysroot "$cache")
        fi
        exec 9>&-
    fi
    if [[ -n ${RUSTFLAGS:-} || -n ${CARGO_ENCODED_RUSTFLAGS:-} ]]; then
        say "warning: RUSTFLAGS is set, and cargo then ignores CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS, which names the sysroot"
    fi
    echo "export CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS='--sysroot $sysroot'"
}

# Whether the compiler's own sysroot has the target.
is_installed() {
    local libdir
    libdir=$(rustc --print target-libdir --target "$TARGET") || fail "this rustc does not know $TARGET"
    compgen -G "$libdir/libstd-*.rlib" >/dev/null
}

# The finished sysroot for this compiler in $1, or nothing. Two builds of one release cannot share a std, so the commit
# belongs to its name; and so does a digest of its libraries: cargo does not notice when a sysroot has changed, but it
# does notice the new path, and compiles what it compiled against the old one again.
find_sysroot() {
    compgen -G "$1/$RELEASE-${COMMIT:0:9}-????????" | head -n1 || true
}

# Builds the sysroot in a directory inside $1 and renames it, so that nobody ever sees half of one.
build() {
    local cache=$1
    command -v cargo >/dev/null || fail "$TARGET is not installed and there is no cargo to build it with"
    say "$TARGET is not installed for rustc $RELEASE. \`rustup target add $TARGET\` is the ordinary way to get it;"
    say "building it from Debian's packages instead (half a minute, about 80 MB in $cache)"
    # Always the same path, since it is part of the identity that cargo gives to what it compiles; a second build is then
    # the same as the first. A build that was killed leaves it behind; the lock says that none is running.
    WORK=$cache/building
    rm -rf "$WORK"
    mkdir "$WORK"
    trap 'rm -rf "$WORK"' EXIT
    LIBRARY=$("$(dirname "${BASH_SOURCE[0]}")/rust-src.sh")
    readonly LIBRARY
    open_backports "$WORK/apt"
    download_package "$WORK" wasi-libc
    dpkg-deb -x "$WORK"/wasi-libc_*.deb "$WORK/wasi-libc"
    build_std
    assemble "$WORK/sysroot"
    local digest sysroot
    digest=$(cat "$WORK/sysroot/lib/rustlib/$TARGET/lib"/*.rlib | sha256sum)
    sysroot=$cache/$RELEASE-${COMMIT:0:9}-${digest:0:8}
    mv --no-target-directory "$WORK/sysroot" "$sysroot"
    rm -rf "$WORK"
    trap - EXIT
    say "made $sysroot"
}

# Compiles std for the target, in $WORK.
build_std() {
    mkdir -p "$WORK/std/src"
    echo '#![no_std]' >"$WORK/std/src/lib.rs"
    cat >"$WORK/std/Cargo.toml" <<'TOML'
[package]
name = "stdbuild"
version = "0.0.0"
edition = "2024"
[profile.release]
opt-level = 3
codegen-units = 1
[workspace]
TOML
    local flags=(
        # Without it a guest cannot be built with `lto = true`.
        -Cembed-bitcode=yes
        # Panic messages of std name its files; they are to name them as the official std does. The last prefix that
        # fits counts.
        --remap-path-prefix="$WORK=/build"
        --remap-path-prefix="${CARGO_HOME:-$HOME/.cargo}/registry/src=/cargo"
        --remap-path-prefix="$LIBRARY=/rustc/$COMMIT/library"
    )
    local joined
    joined=$(IFS=$'\x1f' && echo "${flags[*]}")
    # RUSTC_BOOTSTRAP lets a stable cargo build std. __CARGO_TESTS_ONLY_SRC_ROOT is cargo's own, undocumented way to
    # say where its sources are; if it goes, a copy of the toolchain by hard links with a symlink lib/rustlib/src does.
    (
        cd "$WORK/std"
        unset RUSTFLAGS CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS CARGO_BUILD_TARGET
        RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$LIBRARY \
            CARGO_ENCODED_RUSTFLAGS=$joined CARGO_TARGET_DIR=$WORK/target \
            cargo build --quiet --release --target "$TARGET" -Zbuild-std=std,panic_abort >&2
    ) || fail "std did not build"
}

# Puts the parts into the layout that `rustc --sysroot` reads.
assemble() {
    local libraries=$1/lib/rustlib/$TARGET/lib
    mkdir -p "$libraries/self-contained"
    cp "$WORK/target/$TARGET"/release/deps/*.rlib "$libraries/"
    rm "$libraries"/libstdbuild-*.rlib
    cp "$WORK/wasi-libc/usr/lib/$TARGET"/{crt1-command.o,crt1-reactor.o,libc.a} "$libraries/self-contained/"
}

# The value of the line `$1: value` in $2.
field() {
    sed -n "s/^$1: //p" <<<"$2"
}

say() {
    echo "wasm-toolchain: $*" >&2
}

fail() {
    say "error: $*"
    say "hint: with rustup and its server at hand, \`rustup target add $TARGET\` is all that is needed"
    exit 1
}

main
