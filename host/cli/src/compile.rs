//! `covet-host compile`: fills the cache of compiled applications.

use crate::{component, failure::Failure, flags::CompileFlags, logging};

pub(crate) fn compile(flags: &CompileFlags) -> Result<(), Failure> {
    let _log = logging::start(&flags.component)?;
    let (_engine, artifact) = component::compile(&flags.component)?;
    match artifact.compiled_in {
        Some(time) => println!("compiled in {:.1} s: {}", time.as_secs_f64(), artifact.path.display()),
        None => println!("already compiled: {}", artifact.path.display()),
    }
    Ok(())
}
