# Every target works from a clean clone; what it needs is installed by scripts/.
#
#   make run          build everything, serve examples/hello-python on 127.0.0.1:8000
#   make test         all tests, Rust and Python
#   make fuzz         the parsers of the Python framework, FUZZ_SECONDS (30) each
#   make compat       FastAPI's and Starlette's own test suites against the bridge (about 10 minutes)
#   make lint         formatting, clippy, ruff, mypy, licences
#   make fmt          format everything
#   make bench        measure against FastAPI + uvicorn (about 5 minutes)
#   make bench-all    the same beside `wasmtime serve` (builds it, about 10 minutes once)
#   make bench-net    measure the network layer alone
#   make bench-start  measure cold starts, and what idle instances and applications cost in memory
#   make bench-features  measure what each part of the framework costs, beside FastAPI in the guest and natively
#   make bench-cores  measure whether a request costs more when all cores serve
#   make bench-neighbours  measure how much busy requests delay another application
#   make clean        remove what was built here (the caches in ~/.cache/covet* stay)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-rust test-python fuzz compat guests lint lint-code lint-licences fmt bench bench-all bench-net \
	bench-app bench-features bench-start bench-cores bench-neighbours clean

VENV := .venv
LISTEN ?= 127.0.0.1:8000
JOBS ?= 2
HOST_RELEASE := target/release/covet-host
HOST_DEV := target/debug/covet-host
# Workspaces of their own, since they are built for wasm32-wasip2; their checks and unit tests run natively.
GUEST_WORKSPACES := guest-rust tests/guests/rust examples/hello-rust
GUEST_TARGET := target/guests/native

help:
	@sed -n 's/^#   //p' Makefile

# --- run -----------------------------------------------------------------------------------------------------------

run: $(VENV)/.user
	@scripts/need.sh cargo cc
	@echo "==> building covet-host (release; several minutes the first time)"
	cargo build --release --package covet-host
	@echo "==> building examples/hello-python into one component"
	$(VENV)/bin/covet build main:app --project examples/hello-python --output target/hello-python.wasm
	@echo "==> serving it; every request gets a sandbox of its own. Try:"
	@echo "      curl http://$(LISTEN)/users/42"
	@echo "    Stop with Ctrl-C."
	exec $(HOST_RELEASE) run target/hello-python.wasm --listen $(LISTEN)

# --- test ----------------------------------------------------------------------------------------------------------

test: test-rust test-python

test-rust: guests
	@echo "==> Rust tests"
	cargo test --workspace --jobs $(JOBS)
	@echo "==> tests of the SDK for Rust guests"
	cargo test --jobs $(JOBS) --manifest-path guest-rust/Cargo.toml --target-dir $(GUEST_TARGET)

test-python: $(VENV)/.dev $(HOST_DEV)
	@scripts/need.sh clang wasi-libc
	@echo "==> Python tests"
	export COVET_RUST_SRC=$${COVET_RUST_SRC:-$$(scripts/rust-src.sh)}; \
	cd guest-python && COVET_HOST=$(abspath $(HOST_DEV)) $(abspath $(VENV))/bin/python -m pytest --quiet

FUZZ_SECONDS ?= 30
fuzz:
	@scripts/need.sh python3
	guest-python/fuzz/run.sh $(FUZZ_SECONDS)

compat: $(VENV)/.dev
	tests/compat/run.sh

# The components that the tests run; each is built again only when its sources change.
guests: $(VENV)/.dev $(HOST_DEV)
	scripts/build-python-guests.sh
	scripts/build-rust-guests.sh

.PHONY: $(HOST_DEV)
$(HOST_DEV):
	@scripts/need.sh cargo cc curl
	@echo "==> building covet-host (dev) and the tests"
	# All targets at once: the host alone would be built with other features of its dependencies, and they twice.
	cargo build --workspace --all-targets --jobs $(JOBS)

# --- the Python environment ----------------------------------------------------------------------------------------

$(VENV)/.user: guest-python/pyproject.toml scripts/python-env.sh
	scripts/python-env.sh $(VENV) user

$(VENV)/.dev: guest-python/pyproject.toml guest-python/requirements-dev.txt scripts/python-env.sh
	scripts/python-env.sh $(VENV) dev

# --- quality -------------------------------------------------------------------------------------------------------

lint: lint-code lint-licences

lint-code: $(VENV)/.dev
	@scripts/need.sh cargo cc
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --jobs $(JOBS) -- -D warnings
	for workspace in $(GUEST_WORKSPACES); do \
		cargo fmt --all --check --manifest-path $$workspace/Cargo.toml; \
		cargo clippy --all-targets --target-dir $(GUEST_TARGET) --manifest-path $$workspace/Cargo.toml -- -D warnings; \
	done
	cd guest-python && ../$(VENV)/bin/ruff check . && ../$(VENV)/bin/ruff format --check . && ../$(VENV)/bin/mypy

lint-licences:
	@scripts/need.sh cargo cc
	scripts/cargo-deny.sh

fmt: $(VENV)/.dev
	cargo fmt --all
	for workspace in $(GUEST_WORKSPACES); do cargo fmt --all --manifest-path $$workspace/Cargo.toml; done
	cd guest-python && ../$(VENV)/bin/ruff check --fix . && ../$(VENV)/bin/ruff format .

# --- benches -------------------------------------------------------------------------------------------------------

# The host, and the application that is measured.
bench-app: $(VENV)/.user
	@scripts/need.sh cargo cc wrk
	cargo build --release --package covet-host
	$(VENV)/bin/covet build main:app --project benches/app --output target/bench-app.wasm

bench: bench-app
	scripts/python-env.sh target/bench-venv bench
	$(VENV)/bin/python benches/apps.py --host $(HOST_RELEASE) --component target/bench-app.wasm \
		--rival target/bench-venv/bin/python $(BENCH_FLAGS)

# The same with `wasmtime serve` in the table, which is built from crates.io once.
bench-all: target/bench-wasi-http.wasm
	$(MAKE) bench BENCH_FLAGS="--wasmtime $$(scripts/wasmtime-cli.sh) --wasi-http $< $(BENCH_FLAGS)"

target/bench-wasi-http.wasm: benches/wasi-http/app.py $(VENV)/.user
	mkdir -p target/bench-wasi-http
	cp $< target/bench-wasi-http/app.py
	$(VENV)/bin/componentize-py -d benches/wasi-http/wit -w wasi:http/service@0.3.0 componentize \
		-p target/bench-wasi-http app -o $@

# With the host, so that the dependencies are not built once more with fewer features.
bench-neighbours: guests
	cargo bench --package covet-host --package covet-wasm --bench neighbours -- $(abspath target/guests/python/probe.wasm)

bench-start: guests
	cargo build --release --package covet-host
	$(VENV)/bin/python benches/start.py --host $(HOST_RELEASE) --component target/guests/python/probe.wasm $(BENCH_FLAGS)

bench-cores: bench-app
	$(VENV)/bin/python benches/cores.py --host $(HOST_RELEASE) --component target/bench-app.wasm $(BENCH_FLAGS)

bench-features: $(VENV)/.user
	@scripts/need.sh cargo cc wrk
	cargo build --release --package covet-host
	for app in raw main; do $(COVET_BUILD) $$app:app --no-deps --output target/bench-$$app.wasm; done
	for app in covet_pydantic fastapi_app; do $(COVET_BUILD) $$app:app --output target/bench-$$app.wasm; done
	scripts/python-env.sh target/bench-venv bench
	$(VENV)/bin/python benches/features.py --host $(HOST_RELEASE) --raw target/bench-raw.wasm \
		--covet target/bench-main.wasm --pydantic target/bench-covet_pydantic.wasm \
		--fastapi target/bench-fastapi_app.wasm --rival target/bench-venv/bin/python $(BENCH_FLAGS)

bench-features: COVET_BUILD = $(VENV)/bin/covet build --project benches/framework

bench-net:
	@scripts/need.sh cargo cc wrk
	cd benches/network && cargo run --release -- run $(BENCH_FLAGS)

clean:
	rm -rf target $(VENV) benches/network/target tests/guests/rust/target guest-rust/target
