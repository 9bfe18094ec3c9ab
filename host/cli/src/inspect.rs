//! `covet-host inspect`: shows what an application needs, offers and serves, without serving it.

use bytesize::ByteSize;
use covet_server::{Router, display_route};
use covet_wasm::{App, Artifact, Description, Isolation, Limits, Route};
use serde_json::json;

use crate::{component, failure::Failure, flags::InspectFlags, logging};

pub(crate) fn inspect(flags: &InspectFlags) -> Result<(), Failure> {
    let _log = logging::start(&flags.component)?;
    let (engine, artifact) = component::compile(&flags.component)?;
    let limits = Limits { memory_bytes_max: component::memory_bytes(&flags.component), ..Limits::default() };
    let app = component::load(&flags.component, &engine, &artifact, limits)?;
    let description = artifact.describe(&engine);
    if flags.json {
        println!("{}", as_json(&app, &artifact, &description));
    } else {
        print!("{}", as_text(&app, &artifact, &description));
    }
    Router::new(app.routes()).map_err(|e| Failure::usage(flags.component.file.display(), &e))?;
    Ok(())
}

fn as_json(app: &App, artifact: &Artifact, description: &Description) -> serde_json::Value {
    let route = |route: &Route| {
        json!({
            "method": route.method,
            "pattern": route.pattern,
            "name": route.name,
            "isolation": route.isolation.map(Isolation::name),
        })
    };
    json!({
        "name": app.name(),
        "blake3": artifact.digest,
        "compiled": artifact.path,
        "memory_bytes": { "initial": description.memory_bytes, "started": app.memory_bytes() },
        "imports": description.imports,
        "exports": description.exports,
        "routes": app.routes().iter().map(route).collect::<Vec<_>>(),
        "openapi": app.openapi().is_some(),
        "reset": match app.reset() {
            Ok(method) => json!({ "method": method.name() }),
            Err(obstacles) => json!({ "obstacles": obstacles }),
        },
    })
}

fn as_text(app: &App, artifact: &Artifact, description: &Description) -> String {
    let lines = |items: Vec<String>| items.iter().map(|item| format!("  {item}\n")).collect::<String>();
    let initial = description.memory_bytes.map_or("unknown".into(), |bytes| ByteSize(bytes).to_string());
    let started = ByteSize(app.memory_bytes() as u64);
    format!(
        "{} (blake3 {})\ncompiled: {}\nmemory: {initial} initial, {started} after start-up\nreset: {}\nopenapi: {}\n\
         routes:\n{}imports:\n{}exports:\n{}",
        app.name(),
        artifact.digest,
        artifact.path.display(),
        reset(app),
        if app.openapi().is_some() { "yes" } else { "no" },
        lines(app.routes().iter().map(line_of).collect()),
        lines(description.imports.clone()),
        lines(description.exports.clone()),
    )
}

fn line_of(route: &Route) -> String {
    let isolation = route.isolation.map_or(String::new(), |isolation| format!(" [{isolation}]"));
    format!("{}{isolation}", display_route(route))
}

/// How an instance gets ready for the next request in `fresh` isolation.
fn reset(app: &App) -> String {
    match app.reset() {
        Ok(method) => format!("to a snapshot after each request ({})", method.name()),
        Err(obstacles) => {
            let obstacles: String = obstacles.iter().map(|obstacle| format!("\n  {obstacle}")).collect();
            format!("none, each request gets a new instance, because:{obstacles}")
        }
    }
}
