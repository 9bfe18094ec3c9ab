//! An application that has been loaded: compiled, linked, asked for its routes and started once.

use std::{io, sync::Arc, time::Duration};

use wasmtime::component::{Component, InstancePre};

use crate::{
    artifact::Artifact,
    bindings::exports::covet::app::{
        app::{self, RouteKind},
        handler,
    },
    chain::Chain,
    engine::Engine,
    instance::{Instance, StartError},
    interfaces,
    isolation::Isolation,
    limits::Limits,
    snapshot::{Initial, ResetMethod, Snapshot, Tracker},
    state::{GuestState, Settings, Usage},
};

/// One application, shared by all threads.
pub struct App {
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) handler: handler::GuestIndices,
    pub(crate) app: app::GuestIndices,
    pub(crate) settings: Arc<Settings>,
    pub(crate) limits: Limits,
    pub(crate) usage: Arc<Usage>,
    pub(crate) initial: Initial,
    /// What every instance begins with, if instances can be put back to it.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    reset: Result<ResetMethod, Vec<String>>,
    routes: Vec<Route>,
    openapi: Option<String>,
    memory_bytes: usize,
}

/// A route as the application declared it. Its index is what a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// In upper case; empty for every method.
    pub method: String,
    /// In the syntax of `wit/app.wit`.
    pub pattern: String,
    /// For messages.
    pub name: String,
    /// The isolation that it needs, if it needs a certain one.
    pub isolation: Option<Isolation>,
}

/// What a component says of itself before it is instantiated.
#[derive(Clone, Debug)]
pub struct Description {
    /// Interfaces that it needs.
    pub imports: Vec<String>,
    /// Interfaces that it offers.
    pub exports: Vec<String>,
    /// Linear memory right after instantiation, in bytes; none if it cannot be told without instantiation.
    pub memory_bytes: Option<u64>,
}

/// Why a component cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It was made for something else.
    #[error(
        "the component is not an application for this host: it exports {}, and what is needed is {HANDLER} and {APP}",
        list(.exports)
    )]
    World {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// It needs something that is not given here.
    #[error("the component needs imports that this host does not offer: {}", list(.imports))]
    Imports {
        /// Their names.
        imports: Vec<String>,
    },
    /// The names are right, the types are not: built against another version of the package.
    #[error("the component was built for another version of covet:app; build it again")]
    Types(#[source] wasmtime::Error),
    /// It starts with more memory than it may have.
    #[error("the component starts with {needed} bytes of memory and its limit is {limit}; raise --memory")]
    Memory {
        /// What it starts with.
        needed: u64,
        /// What it may have.
        limit: usize,
    },
    /// No memory for the application's initial contents or its snapshot.
    #[error("cannot make memory for the application's snapshot")]
    System(#[source] io::Error),
    /// The first instance did not come up.
    #[error("the application did not start")]
    Start(#[from] StartError),
    /// A route of a kind that has no interface yet.
    #[error("route {pattern} ({name}) is a {kind} route, which this host does not serve yet")]
    Kind {
        /// Its pattern.
        pattern: String,
        /// Its name.
        name: String,
        /// The kind.
        kind: &'static str,
    },
}

/// The exports without which a component is not an application.
const HANDLER: &str = "covet:app/handler@0.1.0";
const APP: &str = "covet:app/app@0.1.0";

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

impl App {
    /// Links a compiled component, starts one instance of it, and asks it for its routes.
    ///
    /// # Errors
    /// See [`LoadError`]. An application whose start-up fails is an error here and not at the first request.
    pub async fn load(
        engine: &Engine,
        artifact: &Artifact,
        settings: Settings,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let component = &artifact.component;
        let description = describe(engine, component);
        check(&description, &limits)?;
        let linked = interfaces::linker(&engine.wasmtime).and_then(|linker| linker.instantiate_pre(component));
        let pre = linked.map_err(|error| match unknown_imports(&description.imports) {
            imports if imports.is_empty() => LoadError::Types(error),
            imports => LoadError::Imports { imports },
        })?;
        let mut app = Self {
            handler: handler::GuestIndices::new(&pre).map_err(LoadError::Types)?,
            app: app::GuestIndices::new(&pre).map_err(LoadError::Types)?,
            pre,
            settings: Arc::new(settings),
            limits,
            usage: Arc::new(Usage::default()),
            initial: artifact.initial.clone(),
            snapshot: None,
            reset: Err(artifact.obstacles.clone()),
            routes: Vec::new(),
            openapi: None,
            memory_bytes: 0,
        };
        let mut first = Instance::start(&app).await?;
        let (routes, openapi) = first.introspect().await?;
        app.routes = routes.into_iter().map(route).collect::<Result<_, _>>()?;
        app.openapi = openapi;
        let first_bytes = first.memory_bytes();
        if artifact.obstacles.is_empty() {
            app.take_snapshot(first, &engine.tracker).await?;
        }
        app.memory_bytes = app.snapshot.as_ref().map_or(first_bytes, |snapshot| snapshot.bytes());
        Ok(app)
    }

    /// Copies the state after start-up and some calls, from which every instance begins then.
    async fn take_snapshot(&mut self, mut started: Instance, tracker: &Tracker) -> Result<(), LoadError> {
        if let Err(error) = started.warm_up().await {
            // A guest that was not written for this; its calls will be dearer.
            tracing::debug!(app = self.name(), error = %Chain(&error), "no warm-up");
            started = Instance::start(self).await?;
        }
        match started.snapshot(tracker) {
            Some(snapshot) => {
                self.snapshot = Some(Arc::new(snapshot.map_err(LoadError::System)?));
                self.reset = Ok(tracker.method());
                // Code that runs in the instantiation itself may make an instance that the snapshot does not fit.
                if let Err(error) = Instance::start(self).await {
                    tracing::warn!(app = self.name(), error = %Chain(&error), "instances cannot begin with a snapshot");
                    self.snapshot = None;
                    self.reset = Err(vec![format!("its instances cannot begin with a snapshot: {}", Chain(&error))]);
                }
            }
            None => self.reset = Err(vec!["its start-up leaves handles or tasks open, which cannot be copied".into()]),
        }
        Ok(())
    }

    /// How instances are put back after a request, or why they are not and each request gets a new one.
    pub fn reset(&self) -> Result<ResetMethod, &[String]> {
        self.reset.as_ref().copied().map_err(Vec::as_slice)
    }

    /// The routes, in the order of their indices.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The OpenAPI document as JSON, if the application has one.
    pub fn openapi(&self) -> Option<&str> {
        self.openapi.as_deref()
    }

    /// Linear memory of an instance after its start-up.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What its operator called it.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Its counters.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}

impl Artifact {
    /// What the component needs and offers.
    pub fn describe(&self, engine: &Engine) -> Description {
        describe(engine, &self.component)
    }
}

fn describe(engine: &Engine, component: &Component) -> Description {
    const PAGE_BYTES: u64 = 64 << 10;
    let ty = component.component_type();
    let memory = component.resources_required().and_then(|resources| resources.max_initial_memory_size);
    Description {
        imports: ty.imports(&engine.wasmtime).map(|(name, _)| name.to_owned()).collect(),
        exports: ty.exports(&engine.wasmtime).map(|(name, _)| name.to_owned()).collect(),
        memory_bytes: memory.map(|pages| pages * PAGE_BYTES),
    }
}

/// What can be told before the component is linked, in words for whoever built it.
fn check(described: &Description, limits: &Limits) -> Result<(), LoadError> {
    if ![HANDLER, APP].iter().all(|wanted| described.exports.iter().any(|name| name == wanted)) {
        return Err(LoadError::World { exports: described.exports.clone() });
    }
    match described.memory_bytes {
        Some(needed) if needed > limits.memory_bytes_max as u64 => {
            Err(LoadError::Memory { needed, limit: limits.memory_bytes_max })
        }
        _ => Ok(()),
    }
}

/// Imports outside of what the linker has: `covet:app` and the WASI 0.2 packages below.
fn unknown_imports(imports: &[String]) -> Vec<String> {
    const OFFERED: [&str; 7] =
        ["covet:app/", "wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];
    let offered = |name: &str| {
        OFFERED.iter().any(|package| name.starts_with(package))
            && (name.starts_with("covet:") || name.contains("@0.2."))
    };
    imports.iter().filter(|name| !offered(name)).cloned().collect()
}

fn route(route: app::Route) -> Result<Route, LoadError> {
    let app::Route { method, pattern, name, kind, isolation } = route;
    let isolation = isolation.map(|asked| match asked {
        app::Isolation::Fresh => Isolation::Fresh,
        app::Isolation::Reuse => Isolation::Reuse,
        app::Isolation::Shared => Isolation::Shared,
    });
    let refused = |kind, pattern, name| Err(LoadError::Kind { pattern, name, kind });
    match kind {
        RouteKind::Http => Ok(Route { method, pattern, name, isolation }),
        RouteKind::Websocket => refused("websocket", pattern, name),
        RouteKind::Grpc => refused("grpc", pattern, name),
    }
}

/// How long `App::load` may take is bounded by the application's own limits, once for start-up and once for the routes.
pub(crate) const INTROSPECTION_DEADLINE: Duration = Duration::from_secs(10);
