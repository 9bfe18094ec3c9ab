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

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::limits;

/// How long a guest runs before it has to let the event loop go on.
///
/// 1 ms keeps the p99 of a neighbour at 3.5 ms beside one busy guest; half of it costs 2 % more on busy guests.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// What the engine has to make room for.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Instances that live at once, over all applications and threads. Each reserves 4 GiB of address space and four
    /// memory mappings (`vm.max_map_count` is 65,530 by default, so at most about 10,000).
    pub instances_max: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { instances_max: 128 }
    }
}

/// A wasmtime engine with its epoch thread, which ends when the engine is dropped.
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    stop: Arc<AtomicBool>,
    ticker: Option<thread::JoinHandle<()>>,
}

impl Engine {
    /// Reserves the pool and starts the epoch thread.
    ///
    /// # Errors
    /// When the address space for the pool cannot be reserved (`ulimit -v`), or the thread cannot be started.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let wasmtime = wasmtime::Engine::new(&config(options)).map_err(EngineError::Pool)?;
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
        Ok(Self { wasmtime, stop, ticker: Some(ticker) })
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
    /// Mostly a limit on address space.
    #[error("cannot reserve memory for the instance pool")]
    Pool(#[source] wasmtime::Error),
    /// The system refused another thread.
    #[error("cannot start the epoch thread")]
    Ticker(#[source] std::io::Error),
}

/// The settings, each of which is part of the key of a compiled artifact where it changes the code.
fn config(options: &EngineOptions) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // CPython's memory image is 13-16 MiB; a bigger app must not silently fall back to copying its data in.
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(256 << 20)
        // With the default of 512 KiB a 2,000-deep JSON body overflows the stack, which traps. With this much CPython's
        // own recursion limit comes first and the guest sees a RecursionError. Untouched pages cost nothing.
        .max_wasm_stack(31 << 20 | 512 << 10)
        .async_stack_size(32 << 20)
        // A stack goes back to the system when its instance is dropped, so that no later guest finds what it held.
        .async_stack_zeroing(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(64));
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
    config
}

fn pool(options: &EngineOptions) -> PoolingAllocationConfig {
    let instances = options.instances_max;
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        // A componentize-py component is 14 core modules with one memory and two tables.
        .total_core_instances(instances.saturating_mul(64))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(8))
        // A store holds one stack that runs and one in reserve; each costs two memory mappings.
        .total_stacks(instances.saturating_mul(2))
        .async_stack_keep_resident(64 << 10)
        // Address space only, which is reserved anyway; what an instance may have is `Limits::memory_bytes_max`.
        .max_memory_size(4 << 30)
        .max_core_instances_per_component(256)
        .max_memories_per_component(8)
        .max_tables_per_component(32)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(16 << 20)
        .table_elements(limits::TABLE_ELEMENTS_MAX)
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(instances)
        // Its scan misses dirty pages that are swapped out (wasmtime pull request 14357): never for untrusted guests.
        .pagemap_scan(Enabled::No);
    pool
}
