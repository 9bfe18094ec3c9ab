#!/usr/bin/env bash
# Prints where the source of Rust's standard library is, for the rustc in PATH: the folder `library`.
#
# That is the component rust-src of rustup if it is installed (`rustup component add rust-src`). Elsewhere, on a Debian
# machine that can reach a Debian mirror but not rustup's server, Debian's rust-src of the same version is unpacked once,
# below ${XDG_CACHE_HOME:-~/.cache}/covet/rust-src. Root is not needed.
#
# On stdout: the path. On stderr: everything else. It may run twice at once.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/backports.sh"

main() {
    command -v rustc >/dev/null || fail "there is no rustc in PATH"
    local installed
    installed=$(rustc --print sysroot)/lib/rustlib/src/rust/library
    if [[ -f $installed/std/Cargo.toml ]]; then
        echo "$installed"
        exit 0
    fi
    local release cache library
    release=$(rustc -vV | sed -n 's/^release: //p')
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/covet/rust-src
    library=$cache/$release/library
    if [[ ! -d $library ]]; then
        mkdir -p "$cache"
        exec 9>"$cache/lock"
        flock 9
        # Somebody else may have made it in the meantime.
        [[ -d $library ]] || fetch "$cache" "$release"
        exec 9>&-
    fi
    echo "$library"
}

# Unpacks the package for the release $2 below the folder $1.
fetch() {
    say "fetching Rust's source from Debian's packages (20 MB); \`rustup component add rust-src\` is the ordinary way"
    WORK=$1/fetching
    rm -rf "$WORK"
    mkdir -p "$WORK/library"
    trap 'rm -rf "$WORK"' EXIT
    open_backports "$WORK/apt"
    # `1.95.0+dfsg1-2~bpo13+1` for 1.95.0. std belongs to exactly one version of the compiler.
    local versions version
    versions=$(versions_of rust-src)
    version=$(grep -F "$2+" <<<"$versions" | tail -n1 || true)
    [[ -n $version ]] || fail "$SUITE has no rust-src for rustc $2; it has: ${versions//$'\n'/ }"
    download_package "$WORK" "rust-src=$version"
    # Only the library: 60 of 430 MB.
    dpkg-deb --fsys-tarfile "$WORK"/rust-src_*.deb |
        tar -x -C "$WORK/library" --strip-components=5 --wildcards './usr/src/rustc-*/library/*'
    rm -rf "${1:?}/$2"
    mkdir "$1/$2"
    mv "$WORK/library" "$1/$2/library"
    rm -rf "$WORK"
    trap - EXIT
}

say() {
    echo "rust-src: $*" >&2
}

fail() {
    say "error: $*"
    say "hint: with rustup and its server at hand, \`rustup component add rust-src\` is all that is needed"
    exit 1
}

main
