#!/usr/bin/env bash
# Makes sure that commands are there, by their Debian packages where that is possible: need.sh COMMAND...
set -euo pipefail

package_of() {
  case $1 in
    cc) echo build-essential ;;
    curl | wrk | clang | wasi-libc) echo "$1" ;;
    python3) echo python3 ;;
    *) return 1 ;;
  esac
}

# wasi-libc is header files, and no command.
is_there() {
  if [ "$1" = wasi-libc ]; then
    [ -e /usr/include/wasm32-wasi/stdlib.h ] || [ -n "${WASI_SDK_PATH:-}" ]
  else
    command -v "$1" >/dev/null
  fi
}

missing=()
for command in "$@"; do
  is_there "$command" && continue
  if [ "$command" = cargo ]; then
    echo "need.sh: cargo is missing: install Rust 1.95 or newer (https://rustup.rs), then try again" >&2
    exit 1
  fi
  missing+=("$(package_of "$command")") || { echo "need.sh: $command is missing" >&2; exit 1; }
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "need.sh: please install: ${missing[*]}" >&2
  exit 1
fi
root=()
[ "$(id -u)" -eq 0 ] || root=(sudo)
echo "need.sh: installing ${missing[*]}" >&2
"${root[@]}" apt-get -qq update >&2
DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get -qq install --yes --no-install-recommends "${missing[@]}" >&2
