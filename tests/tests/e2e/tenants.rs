//! Two applications on one thread of one process.

use std::{fs, path::Path, rc::Rc, sync::Arc};

use covet_tests::component;
use covet_wasm::{
    App, ArtifactCache, Chain, Engine, EngineOptions, Isolation, Limits, Pool, PoolOptions, Request, RequestBody,
    ResponseBody, Settings,
};
use serde_json::{Value, json};

#[test]
fn a_marker_in_the_memory_of_one_application_is_nowhere_in_that_of_another() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.expect("an event loop").block_on(async {
        for isolation in Isolation::ALL {
            // Both from one component, so they share its code, its initial memory and everything else that can be shared.
            let [one, other] = [start("one", isolation).await, start("other", isolation).await];
            let marker = "SECRET-00000000deadbeef";
            for _ in 0..3 {
                assert_eq!(call(&one, "POST", "/secret/{kb}", &["8192"], marker).await, json!({"seen": true}));
                for how in ["raw", "objects", "buffers"] {
                    let pattern = format!("/search/{how}");
                    let found = call(&other, "GET", &pattern, &[], "").await;
                    assert_eq!(found, json!([]), "{isolation}, {how}");
                }
            }
            let own = call(&one, "GET", "/search/raw", &[], "").await;
            let is_kept = own.as_array().is_some_and(|found| found.contains(&json!(marker)));
            assert_eq!(is_kept, isolation != Isolation::Fresh, "{isolation}: {own}");
            for pool in [one, other] {
                pool.shutdown(false).await;
            }
        }
    });
}

async fn start(name: &str, isolation: Isolation) -> Rc<Pool> {
    let engine = Engine::new(&EngineOptions::default()).expect("an engine");
    let cache = ArtifactCache::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tenants"));
    let wasm = fs::read(component("python/vandal")).expect("readable");
    let artifact = cache.compile(&engine, &wasm).expect("it compiles");
    let settings = Settings { name: name.into(), variables: Vec::new() };
    let app = App::load(&engine, &artifact, settings, Limits::default()).await.expect("it loads");
    Pool::start(Arc::new(app), PoolOptions { isolation, ..PoolOptions::default() })
}

async fn call(pool: &Pool, method: &str, pattern: &str, params: &[&str], body: &str) -> Value {
    let is_it = |route: &covet_wasm::Route| route.pattern == pattern && route.method == method;
    let route = pool.app().routes().iter().position(is_it).unwrap_or_else(|| panic!("no route {pattern}"));
    let request = Request {
        route: u32::try_from(route).expect("few routes"),
        method: method.into(),
        origin: "http://localhost".into(),
        target: "/".into(),
        params: params.iter().map(|&param| param.into()).collect(),
        headers: vec![("content-type".into(), "text/plain".into())],
        peer: "127.0.0.1:1".into(),
        body: if body.is_empty() { RequestBody::Empty } else { RequestBody::Text(body.to_owned()) },
    };
    let response = pool.call(request).await.unwrap_or_else(|error| panic!("no answer: {}", Chain(&error)));
    let ResponseBody::Full(content) = response.body else { panic!("a short body") };
    serde_json::from_slice(&content).expect("JSON")
}
