//! One client connection: which protocol it speaks, and how long it may keep the host waiting.

mod h1;
mod patience;

pub(crate) use h1::serve;
pub(crate) use patience::Busy;
