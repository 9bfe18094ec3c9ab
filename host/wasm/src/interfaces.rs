//! The host's side of the `host` interface of `covet:app`, and the linker that offers it together with WASI 0.2.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use wasmtime::{
    Result,
    component::{Accessor, HasSelf, Linker},
};

use crate::{
    bindings::{
        Application,
        covet::app::{host, types},
    },
    state::GuestState,
};

/// Links everything a guest may import. Nothing else is linked, so that an unknown import is an error at load.
pub(crate) fn linker(engine: &wasmtime::Engine) -> Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    // One set of 0.2 interfaces serves every 0.2.x: wasi-libc asks for 0.2.6, CPython for 0.2.9.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Application::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    Ok(linker)
}

impl types::Host for GuestState {}

impl host::Host for GuestState {
    fn log(&mut self, level: host::Level, target: String, message: String) -> Result<()> {
        self.log.write(level, &target, &message);
        Ok(())
    }

    fn metrics(&mut self) -> Result<host::Usage> {
        Ok(host::Usage {
            in_flight: self.usage.in_flight(),
            requests: self.usage.requests(),
            memory: u64::try_from(self.usage.memory_bytes())?,
            cpu_us: self.usage.cpu_ns.load(Relaxed) / 1000,
        })
    }

    fn statistics(&mut self) -> Result<host::Traffic> {
        let traffic = self.usage.statistics().traffic();
        Ok(host::Traffic {
            active: u32::try_from(traffic.active).unwrap_or(u32::MAX),
            answered: traffic.answered,
            abandoned: traffic.abandoned,
            client_errors: traffic.client_errors,
            server_errors: traffic.server_errors,
            per_second: traffic.per_second,
            latency_mean_ms: milliseconds(traffic.latency_mean),
            latency_p50_ms: milliseconds(traffic.latency_p50),
            latency_p95_ms: milliseconds(traffic.latency_p95),
            latency_p99_ms: milliseconds(traffic.latency_p99),
        })
    }

    fn random_seed(&mut self) -> Result<Vec<u8>> {
        let mut seed = vec![0; 32];
        getrandom::fill(&mut seed)?;
        Ok(seed)
    }

    fn config(&mut self, key: String) -> Result<Option<String>> {
        Ok(self.settings.variables.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone()))
    }
}

impl host::HostWithStore<GuestState> for HasSelf<GuestState> {
    async fn sleep(_: &Accessor<GuestState, Self>, milliseconds: u64) -> Result<()> {
        // tokio's timer takes about two years at most; a guest that asks for more sleeps that long at a time.
        tokio::time::sleep(Duration::from_millis(milliseconds.min(SLEEP_MS_MAX))).await;
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

const SLEEP_MS_MAX: u64 = 365 * 24 * 3600 * 1000;
