//! Everything of covet-host that touches wasmtime. It knows nothing of sockets, HTTP parsing or routing.
//!
//! The path of a component when it is loaded:
//! [`ArtifactCache`] compiles it or finds it compiled, [`App`] links it, starts it once and asks for its routes.
//!
//! The path of a request: [`Pool::call`] leases an [instance](instance), `call` runs the guest's `handle` in it,
//! `request` feeds it the body as it reads, `response` takes what it writes, `pool` decides what becomes of the instance,
//! and [`snapshot`] puts it back to the state after start-up. `limits` holds it to memory and processor time meanwhile, `interfaces` is what it may import.
#![deny(unsafe_code)]

mod app;
mod artifact;
mod bindings;
mod call;
mod chain;
mod engine;
mod instance;
mod interfaces;
mod isolation;
mod limits;
mod log_sink;
mod metrics;
mod pool;
mod request;
mod response;
mod shared;
mod snapshot;
mod stamps;
mod state;
mod statistics;
mod turns;

pub use app::{App, Description, LoadError, Route};
pub use artifact::{Artifact, ArtifactCache, ArtifactError};
pub use call::CallError;
pub use chain::Chain;
pub use engine::{Engine, EngineError, EngineOptions};
pub use instance::StartError;
pub use isolation::Isolation;
pub use limits::Limits;
pub use metrics::{Discard, PoolMetrics};
pub use pool::{Pool, PoolOptions};
pub use request::{BodyFault, BodySource, Request, RequestBody};
pub use response::{BodyCut, BodyStream, Frame, Headers, Response, ResponseBody};
pub use snapshot::ResetMethod;
pub use state::{Settings, Usage};
pub use statistics::{Exchange, Recorder, Statistics, Traffic};
