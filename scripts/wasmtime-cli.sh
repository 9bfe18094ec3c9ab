#!/usr/bin/env bash
# Builds the wasmtime command from crates.io for `make bench-all`, once, into the user's cache; prints its path.
set -euo pipefail
version=48.0.8
tools=${XDG_CACHE_HOME:-$HOME/.cache}/covet/tools/wasmtime-cli-$version
if ! [ -x "$tools/bin/wasmtime" ]; then
  echo "==> building wasmtime $version (once, about 10 minutes)" >&2
  CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --version "$version" --root "$tools" wasmtime-cli \
    --no-default-features --features \
    run,serve,compile,cranelift,parallel-compilation,pooling-allocator,component-model-async,wasi-http >&2
  rm -rf "$tools/build"
fi
echo "$tools/bin/wasmtime"
