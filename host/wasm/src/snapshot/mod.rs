//! Putting an instance back to the state after start-up, in place, for less than a call costs.
//!
//! # How it works
//! 1. [`Plan::of`] reads the component once, before it is compiled. `outline` takes it apart, `check` decides whether
//!    linear memory is all the state it has, `contents` takes the initial contents of the memories out of it.
//! 2. Memories come from [`Creator`], not from wasmtime: each is address space of ours (`mapping`), and what it begins
//!    with is mapped into it copy-on-write.
//! 3. One instance is started and warmed up. [`Snapshot::take`] copies its memories into sealed files (`image`).
//! 4. Every other instance is instantiated and then given the snapshot's memories: [`Snapshot::attach`].
//! 5. After a request [`Snapshot::restore`] asks the kernel which pages were ever written (`dirty`) and copies those back.
//!
//! # Why that is enough
//! After a request an instance consists of: its linear memories, which are put back; its globals, tables and segments,
//! which no code that can run in a request changes (`check`), except for the stack pointer, which is back at its place
//! when a function has returned normally; its handles, tasks and streams, of which there must be none (`Instance::reset`
//! looks); and the store's own state, which belongs to the host. Where one of these cannot be shown, the instance is
//! dropped: after a trap or a limit, when memory has grown, when a handle or task is left.
//!
//! What is not put back: the addresses in the host, and the order in which wasmtime hands out the numbers of handles. A
//! number that was given back last is given out first, so two requests whose code works together can pass a message on in
//! the order in which the first one closes its handles, and any request can learn how many others had open. No content of
//! memory is to be had that way. An instance is replaced after `PoolOptions::requests_max` requests.

mod check;
mod contents;
#[allow(unsafe_code, reason = "asks the kernel about memory, see its SAFETY comments")]
mod dirty;
#[allow(unsafe_code, reason = "asks the kernel for a count, see its SAFETY comments")]
mod faults;
#[allow(unsafe_code, reason = "maps memory, see its SAFETY comments")]
mod image;
#[allow(unsafe_code, reason = "owns address space, see its invariants")]
mod mapping;
#[allow(unsafe_code, reason = "implements wasmtime's unsafe traits for memories")]
mod memories;
mod outline;
#[allow(unsafe_code, reason = "holds the store whose memories it changes, see its SAFETY comments")]
mod sandbox;

pub use dirty::ResetMethod;
pub(crate) use memories::Creator;
pub(crate) use sandbox::{Initial, Reset, RestoreError, Sandbox, Snapshot, Tracker};

/// Both architectures can have other page sizes; the layout of a memory is checked against the system's at start.
const PAGE_BYTES: usize = 4096;

/// What a component's code says about putting its instances back.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The component as it is to be compiled: without the initial contents of its memories.
    pub(crate) wasm: Vec<u8>,
    /// Initial contents, in the order in which memories are made.
    pub(crate) contents: Vec<Vec<u8>>,
    /// Why instances cannot be put back, in words; none if they can.
    pub(crate) obstacles: Vec<String>,
}

impl Plan {
    /// Reads a component. None if it cannot be read, which wasmtime will say better.
    pub(crate) fn of(wasm: &[u8]) -> Option<Self> {
        let outline = outline::outline(wasm).ok()?;
        let obstacles = check::check(&outline).iter().map(ToString::to_string).collect();
        let split = contents::split(wasm, &outline);
        Some(Self { wasm: split.wasm, contents: split.memories, obstacles })
    }
}
