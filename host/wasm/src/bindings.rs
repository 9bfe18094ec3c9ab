//! What wasmtime generates from the `covet:app` package in `wit/`, and nothing else.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    unused_qualifications,
    reason = "generated code; the .wit files carry the documentation"
)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "application",
    imports: { default: trappable },
    exports: { default: async | store },
});
