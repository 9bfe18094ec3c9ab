//! Real clients: curl, and Python's httpx and requests.

use covet_tests::{Finished, Host, repository};

#[test]
fn curl_gets_posts_uploads_and_streams() {
    let host = Host::run("python/probe", &[]);
    let curl = |arguments: &[&str]| {
        let finished = Finished::of("curl", ["--silent", "--show-error", "--max-time", "20"].iter().chain(arguments));
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
        finished.stdout
    };
    assert_eq!(curl(&[&host.url("/params/42/x")]), r#"{"a":42,"b":"x"}"#);
    assert_eq!(curl(&["--data", "hello", &host.url("/echo")]), "hello");
    assert!(curl(&["--head", &host.url("/params/42/x")]).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(curl(&["--no-buffer", &host.url("/slow?count=3&ms=10")]), "0\n1\n2\n");
    let file = repository().join("Cargo.lock");
    let upload = format!("@{}", file.display());
    let echoed = curl(&["--data-binary", &upload, "--header", "expect: 100-continue", &host.url("/echo")]);
    assert_eq!(echoed, std::fs::read_to_string(&file).unwrap());
    let chunked = curl(&["--header", "transfer-encoding: chunked", "--data-binary", &upload, &host.url("/upload")]);
    assert!(chunked.contains(&format!("\"size\":{}", std::fs::metadata(&file).unwrap().len())), "{chunked}");
}

#[test]
fn httpx_and_requests_talk_to_it() {
    let host = Host::run("python/probe", &[]);
    let python = repository().join(".venv/bin/python");
    let script = repository().join("tests/clients/clients.py");
    let finished = Finished::of(python, [script.to_str().unwrap(), &host.url("")]);
    assert_eq!(finished.code, Some(0), "{}\n{}", finished.stdout, finished.stderr);
}
