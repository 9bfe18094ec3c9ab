//! Compiled components on disk. Compiles on a miss; it never instantiates anything.
//!
//! A compiled artifact is machine code that the host trusts, so the cache directory belongs to the user alone (mode 0700,
//! checked at every use), and a file's name carries the digest of its own content, checked before it is mapped unless the
//! file is unchanged since the last check ([`stamps`](crate::stamps)). Beside it
//! lies what a look at the component's code has shown: the initial contents of its memories, which are not in the compiled
//! form, and whether its instances can be put back to a snapshot.

use std::{
    fs,
    hash::{Hash, Hasher},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;
use wasmtime::component::Component;

use crate::{
    engine::Engine,
    snapshot::{Initial, Plan},
    stamps::Stamps,
};

/// The directory of compiled artifacts.
#[derive(Clone, Debug)]
pub struct ArtifactCache {
    directory: PathBuf,
}

/// A component that is ready to be linked, and how it came to be.
pub struct Artifact {
    pub(crate) component: Component,
    /// Initial contents of its memories.
    pub(crate) initial: Initial,
    /// Why its instances cannot be put back to a snapshot after a request; empty if they can.
    pub obstacles: Vec<String>,
    /// Hexadecimal BLAKE3 of the component before compilation.
    pub digest: String,
    /// Where the compiled form lies.
    pub path: PathBuf,
    /// Time to compile, none if the cache had it.
    pub compiled_in: Option<Duration>,
}

/// Why no artifact could be had.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not WebAssembly at all.
    #[error("not a WebAssembly file (it does not begin with the bytes \\0asm)")]
    NotWasm,
    /// A core module where a component is wanted.
    #[error(
        "a WebAssembly core module, not a component; `covet build` and `cargo build --target wasm32-wasip2` make components"
    )]
    CoreModule,
    /// Broken, or using a proposal that is switched off.
    #[error("not a component that this host can compile")]
    Compile(#[source] wasmtime::Error),
    /// The cache has a file that wasmtime refuses although its digest is right.
    #[error("cannot load the compiled artifact {path}")]
    Load {
        /// The file.
        path: PathBuf,
        #[source]
        /// What wasmtime says.
        source: wasmtime::Error,
    },
    /// The directory could be changed by somebody else, and with it the code that the host runs.
    #[error("the cache directory {path} {problem}; give another one with --cache-dir")]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The component cannot be read.
    #[error("{0}")]
    Read(io::Error),
    /// Reading or writing failed.
    #[error("cannot use the cache at {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        #[source]
        /// The system's error.
        source: io::Error,
    },
}

impl ArtifactCache {
    /// A cache in `directory`, which is made when it is first needed.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// `$XDG_CACHE_HOME/covet-host`, else `~/.cache/covet-host`; none where neither variable is set.
    pub fn default_directory() -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
        Some(base.join("covet-host"))
    }

    /// The compiled form of a component, from the cache or made now (about 4 s of two cores for a Python application).
    ///
    /// # Errors
    /// See [`ArtifactError`].
    pub fn compile(&self, engine: &Engine, wasm: &[u8]) -> Result<Artifact, ArtifactError> {
        check_preamble(wasm)?;
        self.prepare()?;
        let digest = blake3::hash(wasm).to_hex().to_string();
        let key = key(engine, &digest);
        if let Some(artifact) = self.cached(engine, &key, &digest)? {
            return Ok(artifact);
        }
        let began = Instant::now();
        let Plan { wasm, contents, obstacles } = Plan::of(wasm).unwrap_or_else(|| Plan {
            // wasmtime says better what is wrong with it.
            wasm: wasm.to_owned(),
            contents: Vec::new(),
            obstacles: vec!["its code cannot be read".into()],
        });
        let code = engine.wasmtime.precompile_component(&wasm).map_err(ArtifactError::Compile)?;
        let facts = Facts { obstacles, memories: contents.iter().map(Vec::len).collect() };
        self.store(&key, FACTS, &[facts.to_json().as_bytes()])?;
        let memory = self.store(&key, MEMORY, &contents.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let path = self.store(&key, CODE, &[&code])?;
        facts.artifact(engine, digest, path, &memory, Some(began.elapsed()))
    }

    /// The same for a component in a file, which is not even read if it is as it was the last time.
    ///
    /// # Errors
    /// See [`ArtifactError`].
    pub fn compile_file(&self, engine: &Engine, file: &Path) -> Result<Artifact, ArtifactError> {
        self.prepare()?;
        let digest = Stamps::in_directory(&self.directory).digest_of(file).map_err(ArtifactError::Read)?;
        match self.cached(engine, &key(engine, &digest), &digest)? {
            Some(artifact) => Ok(artifact),
            None => self.compile(engine, &fs::read(file).map_err(ArtifactError::Read)?),
        }
    }

    fn cached(&self, engine: &Engine, key: &str, digest: &str) -> Result<Option<Artifact>, ArtifactError> {
        match (self.find(key, CODE)?, self.find(key, MEMORY)?, self.find(key, FACTS)?) {
            (Some(code), Some(memory), Some(facts)) => Facts::read(&facts)
                .map(|facts| facts.artifact(engine, digest.to_owned(), code, &memory, None))
                .transpose(),
            _ => Ok(None),
        }
    }

    /// Makes the directory, and refuses one that others can write to.
    fn prepare(&self) -> Result<(), ArtifactError> {
        let path = &self.directory;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| io_error(path, e))?;
        let meta = fs::metadata(path).map_err(|e| io_error(path, e))?;
        let untrusted = |problem| ArtifactError::Untrusted { path: path.clone(), problem };
        // The owner of the process's own files is its effective user, which std does not tell otherwise.
        let user = fs::metadata("/proc/self").map_err(|e| io_error(Path::new("/proc/self"), e))?.uid();
        if meta.uid() != user {
            return Err(untrusted("belongs to another user"));
        }
        if meta.permissions().mode() & 0o022 != 0 {
            return Err(untrusted("can be written to by other users"));
        }
        Ok(())
    }

    /// Looks for `KEY-DIGEST.EXTENSION` whose content has that digest; removes one that has not.
    fn find(&self, key: &str, extension: &str) -> Result<Option<PathBuf>, ArtifactError> {
        let entries = fs::read_dir(&self.directory).map_err(|e| io_error(&self.directory, e))?;
        for entry in entries {
            let path = entry.map_err(|e| io_error(&self.directory, e))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(rest) = name.strip_prefix(key).and_then(|rest| rest.strip_prefix('-')) else { continue };
            let Some(digest) = rest.strip_suffix(extension).and_then(|rest| rest.strip_suffix('.')) else { continue };
            let found = Stamps::in_directory(&self.directory).digest_of(&path).map_err(|e| io_error(&path, e))?;
            if found == digest {
                return Ok(Some(path));
            }
            tracing::warn!(path = %path.display(), "removing a damaged file from the cache");
            fs::remove_file(&path).map_err(|e| io_error(&path, e))?;
        }
        Ok(None)
    }

    /// Writes beside the target and renames, so that no other process ever sees half a file.
    fn store(&self, key: &str, extension: &str, pieces: &[&[u8]]) -> Result<PathBuf, ArtifactError> {
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            hasher.update(piece);
        }
        let path = self.directory.join(format!("{key}-{}.{extension}", hasher.finalize().to_hex()));
        let written = (|| {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            for piece in pieces {
                file.write_all(piece)?;
            }
            file.as_file().sync_data()?;
            file.persist(&path)?;
            Ok(())
        })();
        written.map_err(|e| io_error(&path, e))?;
        Ok(path)
    }
}

/// Extension of compiled code.
const CODE: &str = "cwasm";
/// Extension of the initial contents of memories, one after the other in whole pages.
const MEMORY: &str = "memory";
/// Extension of what else was found out about a component.
const FACTS: &str = "facts";

/// What a look at a component's code has shown.
struct Facts {
    obstacles: Vec<String>,
    /// Lengths of the contents in bytes.
    memories: Vec<usize>,
}

impl Facts {
    fn to_json(&self) -> String {
        json!({ "obstacles": self.obstacles, "memories": self.memories }).to_string()
    }

    /// None if they cannot be read or are not what is expected; then they are made again.
    fn read(path: &Path) -> Option<Self> {
        let facts: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let text = |obstacle: &serde_json::Value| obstacle.as_str().map(str::to_owned);
        let length = |length: &serde_json::Value| usize::try_from(length.as_u64()?).ok();
        Some(Self {
            obstacles: facts["obstacles"].as_array()?.iter().map(text).collect::<Option<_>>()?,
            memories: facts["memories"].as_array()?.iter().map(length).collect::<Option<_>>()?,
        })
    }

    fn artifact(
        self,
        engine: &Engine,
        digest: String,
        code: PathBuf,
        memory: &Path,
        compiled_in: Option<Duration>,
    ) -> Result<Artifact, ArtifactError> {
        let file = fs::File::open(memory).map_err(|e| io_error(memory, e))?;
        let initial = Initial::mapped(file, &self.memories).map_err(|e| io_error(memory, e))?;
        let component = load(engine, &code)?;
        Ok(Artifact { component, initial, obstacles: self.obstacles, digest, path: code, compiled_in })
    }
}

fn io_error(path: &Path, source: io::Error) -> ArtifactError {
    ArtifactError::Io { path: path.to_owned(), source }
}

#[allow(unsafe_code, reason = "mapping machine code cannot be safe; see the comment")]
fn load(engine: &Engine, path: &Path) -> Result<Component, ArtifactError> {
    // SAFETY: `deserialize_file` trusts the file to be machine code that wasmtime made. It was made by this host: the
    // directory belongs to this user and nobody else may write to it (`prepare`), the name holds the digest of the
    // content (`find`, `store`), and the key holds the exact version and settings of the compiler.
    let component = unsafe { Component::deserialize_file(&engine.wasmtime, path) };
    component.map_err(|source| ArtifactError::Load { path: path.to_owned(), source })
}

/// Names the kind of file in the reader's words before wasmtime does in its own.
fn check_preamble(wasm: &[u8]) -> Result<(), ArtifactError> {
    // The layer field after the version tells modules (0) and components (1) apart: component-model Binary.md.
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Err(ArtifactError::CoreModule),
        _ => Err(ArtifactError::NotWasm),
    }
}

/// What the compiled code depends on: the component, the exact wasmtime (which itself accepts artifacts of the same
/// major version), its settings and the features of the processor, which the compatibility hash covers.
fn key(engine: &Engine, digest: &str) -> String {
    struct Digest(blake3::Hasher);
    impl Hasher for Digest {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("the whole digest is read instead")
        }
    }
    let mut key = Digest(blake3::Hasher::new());
    digest.hash(&mut key);
    WASMTIME_VERSION.hash(&mut key);
    FACTS_VERSION.hash(&mut key);
    engine.wasmtime.precompile_compatibility_hash().hash(&mut key);
    std::env::consts::ARCH.hash(&mut key);
    processor_features().hash(&mut key);
    key.0.finalize().to_hex()[..32].to_owned()
}

/// To be raised when `snapshot` judges or splits components in another way.
const FACTS_VERSION: u32 = 2;

/// The version in Cargo.lock; a test holds them together.
const WASMTIME_VERSION: &str = "48.0.8";

/// The kernel's own list of what this processor can do, so that a cache on a shared disk serves different machines.
fn processor_features() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    line.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineOptions;

    /// The smallest component there is: its preamble.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn engine() -> Engine {
        Engine::new(&EngineOptions::default()).unwrap()
    }

    #[test]
    fn the_version_in_the_key_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"")));
    }

    #[test]
    fn a_second_load_comes_from_the_cache_and_a_damaged_file_is_compiled_again() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, engine) = (ArtifactCache::new(directory.path().join("cache")), engine());
        let first = cache.compile(&engine, EMPTY).unwrap();
        assert!(first.compiled_in.is_some());
        assert!(cache.compile(&engine, EMPTY).unwrap().compiled_in.is_none());
        let mut damaged = fs::read(&first.path).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        // A new file: the old one is mapped into this process.
        fs::remove_file(&first.path).unwrap();
        fs::write(&first.path, damaged).unwrap();
        assert!(cache.compile(&engine, EMPTY).unwrap().compiled_in.is_some());
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = ArtifactCache::new(directory.path()).compile(&engine(), EMPTY).err().unwrap();
        assert!(matches!(refused, ArtifactError::Untrusted { .. }), "{refused}");
    }

    #[test]
    fn files_that_are_not_components_are_named_for_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, engine) = (ArtifactCache::new(directory.path()), engine());
        let compile = |bytes| cache.compile(&engine, bytes).err().unwrap();
        assert!(matches!(compile(b"#!/bin/sh"), ArtifactError::NotWasm));
        assert!(matches!(compile(b""), ArtifactError::NotWasm));
        assert!(matches!(compile(b"\0asm\x01\0\0\0"), ArtifactError::CoreModule));
        assert!(matches!(compile(b"\0asm\x0d\0\x01\0garbage"), ArtifactError::Compile(_)));
    }
}
