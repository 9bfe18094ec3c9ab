//! Reading, compiling and loading a component for any of the commands.

use covet_wasm::{
    App, Artifact, ArtifactCache, ArtifactError, Engine, EngineError, EngineOptions, Limits, LoadError, Settings,
};

use crate::{failure::Failure, flags::ComponentFlags};

/// An engine, and the compiled component.
pub(crate) fn compile(flags: &ComponentFlags) -> Result<(Engine, Artifact), Failure> {
    let file = flags.file.display();
    let options = EngineOptions { reset: flags.reset.method() };
    let engine = Engine::new(&options).map_err(|error| match &error {
        EngineError::Reset(_) => Failure::usage(format!("--reset {}", flags.reset), &error),
        _ => Failure::runtime("cannot start the engine", &error),
    })?;
    let directory = flags.cache_dir.clone().or_else(ArtifactCache::default_directory);
    let directory = directory.unwrap_or_else(|| std::env::temp_dir().join("covet-host"));
    let artifact = ArtifactCache::new(directory).compile_file(&engine, &flags.file).map_err(|error| match error {
        ArtifactError::Load { .. } | ArtifactError::Io { .. } => Failure::runtime(&file, &error),
        error => Failure::usage(&file, &error),
    })?;
    if let Some(time) = artifact.compiled_in {
        tracing::info!(seconds = time.as_secs_f64(), "compiled {file}");
    }
    Ok((engine, artifact))
}

/// Starts the application once and asks it for its routes.
pub(crate) fn load(
    flags: &ComponentFlags,
    engine: &Engine,
    artifact: &Artifact,
    limits: Limits,
) -> Result<App, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::runtime("cannot start the event loop", &e))?;
    let name = flags.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let settings = Settings { name, variables: flags.variables.clone() };
    let loaded = runtime.block_on(App::load(engine, artifact, settings, limits));
    loaded.map_err(|error| match error {
        LoadError::Start(_) => Failure::runtime(flags.file.display(), &error),
        error => Failure::usage(flags.file.display(), &error),
    })
}

/// The memory limit as a size on this machine.
pub(crate) fn memory_bytes(flags: &ComponentFlags) -> usize {
    usize::try_from(flags.memory.as_u64()).unwrap_or(usize::MAX).min(MEMORY_BYTES_MAX)
}

/// A 32-bit linear memory has no more.
const MEMORY_BYTES_MAX: usize = 4 << 30;
