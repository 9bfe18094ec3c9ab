//! The command line: what it prints, and how it fails.

use std::{fs, net::TcpListener};

use covet_tests::{Finished, Host, Started, command, component, run};

/// One message, exit code 2, and no panic.
fn assert_refused(finished: &Finished, message: &str) {
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains(message), "{message:?} in {finished:?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    let messages =
        finished.stderr.lines().filter(|line| line.starts_with("covet-host: ") || line.starts_with("error:"));
    assert_eq!(messages.count(), 1, "{finished:?}");
}

#[test]
fn a_file_that_is_not_there_or_not_a_component_is_named_with_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.wasm");
    let path = file.to_str().unwrap();
    for command in ["run", "compile", "inspect"] {
        assert_refused(&run(&[command, "/nowhere/app.wasm"]), "/nowhere/app.wasm: No such file");
        for (content, message) in [
            (&b"#!/bin/sh\n"[..], "not a WebAssembly file"),
            (b"", "not a WebAssembly file"),
            (b"\0asm\x01\0\0\0", "a WebAssembly core module, not a component"),
            (b"\0asm\x0d\0\x01\0garbage", "not a component that this host can compile"),
        ] {
            fs::write(&file, content).unwrap();
            assert_refused(&run(&[command, path]), message);
        }
    }
}

#[test]
fn a_component_of_another_world_is_refused_with_what_it_exports() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("other.wasm");
    // The smallest component: it has no exports.
    fs::write(&file, b"\0asm\x0d\0\x01\0").unwrap();
    let finished = run(&["run", file.to_str().unwrap()]);
    assert_refused(&finished, "it exports nothing, and what is needed is covet:app/handler@0.1.0");
    let middleware = run(&["run", component("rust/header").to_str().unwrap()]);
    assert_refused(&middleware, "covet:app/app@0.1.0");
}

#[test]
fn a_busy_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished = run(&["run", component("python/probe").to_str().unwrap(), "--listen", &address]);
    assert_refused(&finished, &address);
    let host = Host::run("python/probe", &[]);
    let finished = run(&["run", component("python/probe").to_str().unwrap(), "--listen", &host.address().to_string()]);
    assert_refused(&finished, &host.address().to_string());
}

#[test]
fn flags_and_values_that_do_not_exist_are_refused() {
    let app = component("python/probe");
    let app = app.to_str().unwrap();
    assert_refused(&run(&["run", app, "--no-such-flag"]), "--no-such-flag");
    assert_refused(&run(&["run", app, "--isolation", "none"]), "fresh");
    assert_refused(&run(&["run", app, "--timeout", "soon"]), "examples: 500ms, 30s, 5m");
    assert_refused(&run(&["run", app, "--memory", "much"]), "--memory");
    assert_refused(&run(&["run", app, "--log", "x=y=z"]), "--log");
    assert_refused(&run(&["serve-all", app]), "serve-all");
    assert_eq!(run(&[]).code, Some(2));
}

#[test]
fn every_flag_is_explained_with_its_variable() {
    let help = run(&["run", "--help"]);
    assert_eq!(help.code, Some(0));
    for flag in ["--listen", "--threads", "--isolation", "--timeout", "--memory", "--max-body", "--io", "--log-format"]
    {
        assert!(help.stdout.contains(flag), "{flag}");
        let variable = format!("COVET_{}", flag.trim_start_matches('-').to_uppercase().replace('-', "_"));
        assert!(help.stdout.contains(&variable), "{variable}");
    }
    assert!(run(&["--version"]).stdout.starts_with("covet-host 0."));
}

#[test]
fn variables_do_what_flags_do_and_flags_win() {
    let mut command = command();
    command.arg("run").arg(component("python/probe")).args(["--isolation", "fresh"]);
    command.env("COVET_LISTEN", "127.0.0.1:0").env("COVET_ISOLATION", "reuse").env("COVET_ACCESS_LOG", "false");
    command.env("COVET_ENV", "A=1,B=2").env("COVET_LOG_FORMAT", "json");
    let Started::Listening(host) = Host::spawn(command) else { panic!("it does not serve") };
    assert_eq!(host.get("/counter").json()["counter"], 1);
    assert_eq!(host.get("/counter").json()["counter"], 1);
    assert_eq!(host.get("/config/B").json()["value"], "2");
    let log = host.stop().stderr;
    assert!(!log.contains("/counter"), "no access log: {log}");
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn inspect_shows_routes_imports_exports_and_memory() {
    let app = component("python/hello-python");
    let text = run(&["inspect", app.to_str().unwrap()]);
    assert_eq!(text.code, Some(0), "{text:?}");
    for expected in ["GET /users/{user_id}", "covet:app/handler@0.1.0", "wasi:clocks/", "MiB initial"] {
        assert!(text.stdout.contains(expected), "{expected} in {}", text.stdout);
    }
    let json = run(&["inspect", "--json", app.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(json["routes"].as_array().unwrap().iter().any(|route| route["pattern"] == "/users/{user_id}"));
    assert!(json["memory_bytes"]["initial"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn compile_fills_the_cache_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    let app = component("rust/hello");
    let compile = || run(&["compile", app.to_str().unwrap(), "--cache-dir", cache.to_str().unwrap()]);
    assert!(compile().stdout.starts_with("compiled in "));
    assert!(compile().stdout.starts_with("already compiled: "));
}

#[test]
fn the_access_log_has_a_line_for_each_request() {
    let host = Host::run("python/probe", &["--log-format", "json"]);
    host.get("/params/1/b?x=y");
    host.get("/nope");
    host.wait_for_log("/nope");
    let log = host.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let access: Vec<_> = lines.iter().filter(|line| line["target"] == "access").collect();
    assert_eq!((access[0]["uri"].as_str(), access[0]["status"].as_u64()), (Some("/params/1/b?x=y"), Some(200)));
    assert_eq!((access[0]["bytes"].as_u64(), access[0]["complete"].as_bool()), (Some(15), Some(true)));
    assert_eq!(access[1]["status"], 404);
}

#[test]
fn output_of_a_guest_is_in_the_log_and_cannot_forge_lines() {
    let host = Host::run("python/probe", &[]);
    host.get("/print?text=one%0AINFO+forged");
    host.wait_for_log("forged");
    host.get("/log/warning?text=two%0AERROR+forged");
    host.wait_for_log("two");
    host.wait_for_log("ERROR forged");
    let log = host.log();
    assert!(!log.lines().any(|line| line.starts_with("ERROR forged")), "{log}");
}
