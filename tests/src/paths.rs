//! Where the tests find what was built for them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// A component that `make guests` built, as in `python/probe`.
///
/// # Panics
/// If it is not there.
pub fn component(name: &str) -> PathBuf {
    let path = repository().join("target/guests").join(name).with_extension("wasm");
    assert!(path.exists(), "{} is missing: run `make guests`", path.display());
    path
}

/// Memory that belongs to a process alone, in bytes: `RssAnon` of `/proc/PID/status`. The images of components and their
/// compiled code are files that all instances share, and count once for each mapping in other figures.
///
/// # Panics
/// If the process is gone.
pub fn private_bytes(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel tells it");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kib << 10
}
