#!/usr/bin/env bash
# Builds the Python applications that the Rust tests run, into target/guests/python/. `covet build` itself knows what is
# unchanged only by content, so each has a stamp here: the digest of everything that goes into it.
set -euo pipefail
cd "$(dirname "$0")/.."
covet=$PWD/.venv/bin/covet
out=$PWD/target/guests/python
mkdir -p "$out"

build() { # NAME PROJECT TARGET
  local name=$1 project=$2 target=$3 digest
  digest=$({
    find "$project" guest-python/covet wit -type f -not -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum
    .venv/bin/pip show componentize-py 2>/dev/null | sed -n 's/^Version: //p'
  } | sha256sum)
  if [ -f "$out/$name.wasm" ] && [ "$(cat "$out/$name.stamp" 2>/dev/null)" = "$digest" ]; then
    return
  fi
  rm -f "$out/$name.stamp"
  echo "==> covet build $name" >&2
  "$covet" build "$target" --project "$project" --output "$out/$name.wasm" --quiet
  echo "$digest" >"$out/$name.stamp"
}

# For the extensions that have to be compiled.
COVET_RUST_SRC=${COVET_RUST_SRC:-$(scripts/rust-src.sh)}
export COVET_RUST_SRC

build hello-python examples/hello-python main:app
# The other folders there are meant to fail to build; guest-python's own tests try them.
for name in probe vandal isolations validation held-handle conflicting-routes invalid-pattern bad-startup; do
  build "$name" "tests/guests/python/$name" app:app
done
