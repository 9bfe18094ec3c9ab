//! The wasmtime engine: its settings, and the thread that ticks its epoch. It knows no component.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use wasmtime::{Config, InstanceAllocationStrategy, OptLevel};

use crate::snapshot::{Creator, ResetMethod, Tracker};

/// How long a guest runs before it has to let the event loop go on.
///
/// 1 ms keeps the p99 of a neighbour at 3.5 ms beside one busy guest; half of it costs 2 % more on busy guests.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// How the engine isolates.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// How instances are put back after a request; the best way that works here if none is given.
    pub reset: Option<ResetMethod>,
}

/// A wasmtime engine with its epoch thread, which ends when the engine is dropped.
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) tracker: Tracker,
    stop: Arc<AtomicBool>,
    ticker: Option<thread::JoinHandle<()>>,
}

impl Engine {
    /// Sets the engine up and starts the epoch thread.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let tracker = Tracker::new(options.reset).map_err(EngineError::Reset)?;
        let wasmtime = wasmtime::Engine::new(&config()).map_err(EngineError::Settings)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = {
            let (engine, stop) = (wasmtime.weak(), stop.clone());
            thread::Builder::new().name("covet-epoch".into()).spawn(move || {
                while !stop.load(Relaxed) {
                    thread::sleep(TICK);
                    match engine.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => break,
                    }
                }
            })
        };
        let ticker = ticker.map_err(EngineError::Ticker)?;
        Ok(Self { wasmtime, tracker, stop, ticker: Some(ticker) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime does not work with these settings on this machine.
    #[error("cannot set up the WebAssembly engine")]
    Settings(#[source] wasmtime::Error),
    /// The way to put instances back does not work here.
    #[error("instances cannot be put back in this way on this system")]
    Reset(#[source] std::io::Error),
    /// The system refused another thread.
    #[error("cannot start the epoch thread")]
    Ticker(#[source] std::io::Error),
}

/// The settings, each of which is part of the key of a compiled artifact where it changes the code.
fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // Memories are ours, see `snapshot`: mapped copy-on-write, and put back after a request. wasmtime's own pool of
        // instances would save 0.1 ms of the 2 ms that a new instance costs for each request; this saves nearly all.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .with_host_memory(Arc::new(Creator))
        .memory_init_cow(false)
        // No bounds checks in compiled code, and no memory that moves: a 32-bit index cannot leave 4 GiB and the guard.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        // With the default of 512 KiB a 2,000-deep JSON body overflows the stack, which traps. With this much CPython's
        // own recursion limit comes first and the guest sees a RecursionError. Untouched pages cost nothing.
        .max_wasm_stack(31 << 20 | 512 << 10)
        .async_stack_size(32 << 20)
        .wasm_backtrace_max_frames(NonZeroUsize::new(64));
    config
}
