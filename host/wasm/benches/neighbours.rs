//! How much do eight busy requests of one application delay another application on the same core?
//!
//! `make bench-neighbours` prints it. Two applications are loaded into one process, each a tenant of its own, with their
//! pools on one thread. One of them gets a request every few milliseconds, first alone and then beside eight requests of
//! the other that compute without end. No sockets, so that nothing but the host's own order of things is measured.

use std::{
    fs,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use covet_wasm::{
    App, ArtifactCache, CallError, Engine, EngineOptions, Isolation, Limits, Pool, PoolOptions, Request, RequestBody,
    Settings,
};

const BUSY: usize = 8;
const SECONDS: u64 = 4;
const PAUSE: Duration = Duration::from_millis(3);

fn main() {
    // cargo runs the targets of benches when it tests everything; there is nothing to measure then.
    let Some(file) = std::env::args().nth(1).filter(|argument| argument.ends_with(".wasm")) else { return };
    let wasm = fs::read(&file).expect("the component can be read");
    let directory = std::env::temp_dir().join("covet-bench-neighbours");
    println!("| isolation | busy requests | p50 ms | p99 ms | max ms | stopped with |");
    println!("|---|---|---|---|---|---|");
    for isolation in [Isolation::Fresh, Isolation::Reuse, Isolation::Shared] {
        for busy in [0, BUSY] {
            measure(&wasm, &directory, isolation, busy);
        }
    }
}

fn measure(wasm: &[u8], directory: &Path, isolation: Isolation, busy: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.expect("an event loop").block_on(async {
        let engine = Engine::new(&EngineOptions::default()).expect("an engine");
        let artifact = ArtifactCache::new(directory).compile(&engine, wasm).expect("it compiles");
        let limits = Limits { cpu_max: Duration::from_secs(SECONDS) / 12, ..Limits::default() };
        let mut pools = Vec::new();
        for name in ["neighbour", "busy"] {
            let settings = Settings { name: name.into(), variables: Vec::new() };
            let app = App::load(&engine, &artifact, settings, limits.clone()).await.expect("it starts");
            pools.push(Pool::start(Arc::new(app), PoolOptions { isolation, ..PoolOptions::default() }));
        }
        let [neighbour, other] = [pools[0].clone(), pools[1].clone()];
        for _ in 0..50 {
            call(&neighbour, "/params/{a}/{b}", &["1", "b"]).await.expect("an answer");
        }
        let spinners: Vec<_> = (0..busy)
            .map(|_| {
                let other = other.clone();
                tokio::task::spawn_local(async move {
                    // Each is stopped at its limit, and another one comes.
                    let began = Instant::now();
                    let mut last = None;
                    while began.elapsed() < Duration::from_secs(SECONDS) {
                        last = call(&other, "/spin", &[]).await.err();
                    }
                    last
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Asked for by another thread: a timer of this one would be as late as its event loop, and the delay not be seen.
        let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(SECONDS - 1) {
                std::thread::sleep(PAUSE);
                if ask.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        // Nobody waits for an earlier answer before he asks.
        let mut answers = Vec::new();
        while let Some(asked) = asked.recv().await {
            let neighbour = neighbour.clone();
            answers.push(tokio::task::spawn_local(async move {
                call(&neighbour, "/params/{a}/{b}", &["1", "b"]).await.expect("an answer");
                asked.elapsed()
            }));
        }
        let mut times = Vec::new();
        for answer in answers {
            times.push(answer.await.expect("it ends"));
        }
        let mut ends = Vec::new();
        for spinner in spinners {
            ends.extend(spinner.await.expect("it ends"));
        }
        let stopped = match ends.first() {
            Some(error @ CallError::Cpu(_)) => error.to_string(),
            Some(error) => format!("something else: {error}"),
            None => "-".into(),
        };
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        println!("| {isolation:?} | {busy} | {:.2} | {:.2} | {:.2} | {stopped} |", at(0.5), at(0.99), at(1.0));
        for pool in pools {
            pool.shutdown(false).await;
        }
    });
}

async fn call(pool: &Rc<Pool>, pattern: &str, params: &[&str]) -> Result<(), CallError> {
    let route = pool.app().routes().iter().position(|route| route.pattern == pattern).expect("the route exists");
    let request = Request {
        route: u32::try_from(route).expect("few routes"),
        method: "GET".into(),
        origin: "http://localhost".into(),
        target: "/".into(),
        params: params.iter().map(|&param| param.into()).collect(),
        headers: vec![("host".into(), "localhost".into())],
        peer: "127.0.0.1:1".into(),
        body: RequestBody::Empty,
    };
    pool.call(request).await.map(|_| ())
}
