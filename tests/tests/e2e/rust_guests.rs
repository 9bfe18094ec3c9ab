//! Applications in Rust, alone and behind middleware that was composed in front of them.

use std::fs;

use covet_tests::{Host, Started, component, compose::compose};

#[test]
fn the_example_in_rust_answers() {
    for isolation in ["fresh", "reuse"] {
        let host = Host::run("rust/hello-rust", &["--isolation", isolation]);
        assert_eq!(host.get("/hello/w%C3%B6rld").text(), "Hello, wörld!\n");
        assert_eq!(host.post("/shout", "quiet").text(), "QUIET");
        assert_eq!(host.post("/shout", [0xff]).status, 400);
        assert_eq!(host.post("/shout", vec![b'a'; 80 << 10]).status, 413);
        assert_eq!(host.get("/nope").status, 404);
        assert_eq!(host.get("/shout").status, 405);
        assert_eq!(host.stop().code, Some(0));
    }
}

#[test]
fn a_route_in_rust_asks_for_its_isolation() {
    let host = Host::run("rust/hello", &["--threads", "1"]);
    let mut connection = host.connect();
    let mut counts = |path: &str| [0; 2].map(|_| connection.get(path).text());
    assert_eq!(counts("/count"), ["1", "1"]);
    assert_eq!(counts("/count/reuse"), ["1", "2"]);
}

#[test]
fn a_middleware_in_front_of_an_application_sees_both_ways_and_passes_bodies_through() {
    let layers = ["rust/header", "rust/header", "rust/hello"].map(|name| fs::read(component(name)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("composed.wasm");
    fs::write(&file, compose(&layers).unwrap()).unwrap();
    let Started::Listening(host) = Host::try_run(&file, &["--isolation", "reuse"]) else { panic!("it did not start") };
    // The application sends back the fields that it was given.
    let body = "text that is longer than what is read whole. ".repeat(2000);
    let answer = host.post("/echo", &body);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), body);
    let count = |name: &str| answer.headers.iter().filter(|(field, _)| field == name).count();
    assert_eq!((count("x-middleware"), count("x-middleware-out")), (2, 2));
    assert_eq!(host.get("/hello/you").text(), "Hello, you!\n");
}

#[test]
fn a_middleware_answers_in_the_place_of_the_application() {
    let layers = ["rust/refuse", "python/probe"].map(|name| fs::read(component(name)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("composed.wasm");
    fs::write(&file, compose(&layers).unwrap()).unwrap();
    let Started::Listening(host) = Host::try_run(&file, &[]) else { panic!("it did not start") };
    assert_eq!(host.get("/params/7/b").status, 200);
    let refused = host.connect().request("GET", "/params/7/b", &[("x-refuse", "1")], b"");
    assert_eq!(refused.status, 403);
}
