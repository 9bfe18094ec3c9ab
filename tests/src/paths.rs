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

/// Resident and virtual size of a process in bytes, from `/proc`.
///
/// # Panics
/// If the process is gone.
pub fn sizes_of(process: u32) -> (usize, usize) {
    let text = fs::read_to_string(format!("/proc/{process}/statm")).expect("the process runs");
    let mut pages = text.split(' ').map(|number| number.parse::<usize>().expect("statm has numbers"));
    let size = pages.next().expect("size");
    let resident = pages.next().expect("resident");
    (resident * 4096, size * 4096)
}
