//! Compiled components on disk. Compiles on a miss; it never instantiates anything.
//!
//! A compiled artifact is machine code that the host trusts, so the cache directory belongs to the user alone (mode 0700,
//! checked at every use), and a file's name carries the digest of its own content, checked before it is mapped. Beside it
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
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::{engine::Engine, snapshot::Plan};

/// The directory of compiled artifacts.
#[derive(Clone, Debug)]
pub struct ArtifactCache {
    directory: PathBuf,
}

/// A component that is ready to be linked, and how it came to be.
pub struct Artifact {
    pub(crate) component: Component,
    /// Initial contents of its memories.
    pub(crate) contents: Vec<Vec<u8>>,
    /// Why its instances cannot be put back to a snapshot after a request; empty if they can.
    pub obstacles: Vec<String>,
    /// Hexadecimal SHA-256 of the component before compilation.
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
        let digest = hex(&Sha256::digest(wasm));
        let key = key(engine, &digest);
        if let (Some((path, _)), Some((_, facts))) = (self.find(&key, CODE)?, self.find(&key, FACTS)?)
            && let Some((contents, obstacles)) = decode_facts(&facts)
        {
            let component = load(engine, &path)?;
            return Ok(Artifact { component, contents, obstacles, digest, path, compiled_in: None });
        }
        let began = Instant::now();
        let Plan { wasm, contents, obstacles } = Plan::of(wasm).unwrap_or_else(|| Plan {
            // wasmtime says better what is wrong with it.
            wasm: wasm.to_owned(),
            contents: Vec::new(),
            obstacles: vec!["its code cannot be read".into()],
        });
        let code = engine.wasmtime.precompile_component(&wasm).map_err(ArtifactError::Compile)?;
        self.store(&key, FACTS, &encode_facts(&contents, &obstacles))?;
        let path = self.store(&key, CODE, &code)?;
        let component = load(engine, &path)?;
        Ok(Artifact { component, contents, obstacles, digest, path, compiled_in: Some(began.elapsed()) })
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
    fn find(&self, key: &str, extension: &str) -> Result<Option<(PathBuf, Vec<u8>)>, ArtifactError> {
        let entries = fs::read_dir(&self.directory).map_err(|e| io_error(&self.directory, e))?;
        for entry in entries {
            let path = entry.map_err(|e| io_error(&self.directory, e))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(rest) = name.strip_prefix(key).and_then(|rest| rest.strip_prefix('-')) else { continue };
            let Some(digest) = rest.strip_suffix(extension).and_then(|rest| rest.strip_suffix('.')) else { continue };
            let content = fs::read(&path).map_err(|e| io_error(&path, e))?;
            if hex(&Sha256::digest(&content)) == digest {
                return Ok(Some((path, content)));
            }
            tracing::warn!(path = %path.display(), "removing a damaged file from the cache");
            fs::remove_file(&path).map_err(|e| io_error(&path, e))?;
        }
        Ok(None)
    }

    /// Writes beside the target and renames, so that no other process ever sees half a file.
    fn store(&self, key: &str, extension: &str, content: &[u8]) -> Result<PathBuf, ArtifactError> {
        let path = self.directory.join(format!("{key}-{}.{extension}", hex(&Sha256::digest(content))));
        let written = (|| {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(content)?;
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
/// Extension of what was found out about a component.
const FACTS: &str = "facts";

/// A line of JSON, then the contents of the memories one after the other.
fn encode_facts(contents: &[Vec<u8>], obstacles: &[String]) -> Vec<u8> {
    let lengths: Vec<usize> = contents.iter().map(Vec::len).collect();
    let mut facts = json!({ "obstacles": obstacles, "memories": lengths }).to_string().into_bytes();
    facts.push(b'\n');
    facts.extend(contents.iter().flatten());
    facts
}

/// None if they were written by another version.
fn decode_facts(facts: &[u8]) -> Option<(Vec<Vec<u8>>, Vec<String>)> {
    let end = facts.iter().position(|&byte| byte == b'\n')?;
    let (head, mut rest) = (&facts[..end], &facts[end + 1..]);
    let head: serde_json::Value = serde_json::from_slice(head).ok()?;
    let text = |obstacle: &serde_json::Value| obstacle.as_str().map(str::to_owned);
    let obstacles = head["obstacles"].as_array()?.iter().map(text).collect::<Option<_>>()?;
    let mut take = |length: &serde_json::Value| {
        let (content, after) = rest.split_at_checked(usize::try_from(length.as_u64()?).ok()?)?;
        rest = after;
        Some(content.to_vec())
    };
    let contents = head["memories"].as_array()?.iter().map(&mut take).collect::<Option<_>>()?;
    Some((contents, obstacles))
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
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("the whole digest is read instead")
        }
    }
    let mut sha = Sha(Sha256::new());
    digest.hash(&mut sha);
    WASMTIME_VERSION.hash(&mut sha);
    FACTS_VERSION.hash(&mut sha);
    engine.wasmtime.precompile_compatibility_hash().hash(&mut sha);
    std::env::consts::ARCH.hash(&mut sha);
    processor_features().hash(&mut sha);
    hex(&sha.0.finalize())[..32].to_owned()
}

/// To be raised when `snapshot` judges or splits components in another way.
const FACTS_VERSION: u32 = 1;

/// The version in Cargo.lock; a test holds them together.
const WASMTIME_VERSION: &str = "48.0.8";

/// The kernel's own list of what this processor can do, so that a cache on a shared disk serves different machines.
fn processor_features() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    line.unwrap_or_default().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
