//! What wit-bindgen generates from `wit/`, one module for each world, and nothing else.
//!
//! Two `generate!` with `pub_export_macro` cannot export one interface from one crate: the macros would have the same
//! name. So only `application` has it, and `export_middleware!` uses its macro with the functions of `middleware`. The
//! price is that the description of the world `middleware` ends up in every guest; it asks for an export `handler`,
//! which every guest has, and for imports that are left out where they are not used.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::use_self,
    reason = "generated code; the .wit files carry the documentation"
)]

pub mod application {
    wit_bindgen::generate!({
        path: "../wit",
        world: "application",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
    });
}

pub mod middleware {
    wit_bindgen::generate!({
        path: "../wit",
        world: "middleware",
        // One `Request` for both worlds.
        with: {
            "covet:app/types@0.1.0": crate::bindings::application::covet::app::types,
            "covet:app/host@0.1.0": crate::bindings::application::covet::app::host,
        },
        generate_all,
    });
}
