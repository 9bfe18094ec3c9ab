#!/usr/bin/env bash
# Checks licences, sources and duplicate versions of the dependencies with cargo-deny, which is built once and kept in the
# user's cache. Advisories need a database from the internet and are checked only where ADVISORIES=1 says so.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
tools=${XDG_CACHE_HOME:-$HOME/.cache}/covet/tools/cargo-deny-$version
if ! [ -x "$tools/bin/cargo-deny" ]; then
  echo "==> building cargo-deny $version (once)" >&2
  CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --version "$version" --root "$tools" cargo-deny
  rm -rf "$tools/build"
fi
checks=(bans licenses sources)
[ -n "${ADVISORIES:-}" ] && checks+=(advisories)
exec "$tools/bin/cargo-deny" check "${checks[@]}"
