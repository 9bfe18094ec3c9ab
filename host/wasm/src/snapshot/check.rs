//! Decides from a component's code whether its linear memories are all the state that it has.
//!
//! Only linear memory is put back after a request. Whatever else a component could change after it was instantiated, and
//! a later request could see, is an obstacle: globals, tables, dropped segments, handles of its own resources, counters.
//! The check reads instructions and follows calls; it does not follow values. Where it cannot know, it says no.

use std::fmt;

use super::outline::{Builtin, Effect, Module, Outline};

/// Why a component cannot be put back to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A core module comes from outside, so its code is not known.
    ForeignModule,
    /// A canonical function keeps state in the instance.
    Builtin(Builtin),
    /// A memory that is shared, 64-bit or has odd pages.
    Memory { module: String },
    /// A table that is shared or 64-bit.
    Table { module: String },
    /// A function that may run in a request changes something that is not linear memory.
    Effect { module: String, function: String, what: String },
}

/// The obstacles; none if memory is all there is.
pub(super) fn check(outline: &Outline) -> Vec<Obstacle> {
    let mut obstacles: Vec<Obstacle> = outline.builtins.iter().copied().map(Obstacle::Builtin).collect();
    if outline.instantiations.contains(&None) {
        obstacles.push(Obstacle::ForeignModule);
    }
    for (index, module) in outline.modules.iter().enumerate() {
        if outline.instantiations.contains(&Some(index)) {
            check_module(index, module, &mut obstacles);
        }
    }
    obstacles
}

fn check_module(index: usize, module: &Module, obstacles: &mut Vec<Obstacle>) {
    let name = || if module.name.is_empty() { format!("module {index}") } else { module.name.clone() };
    if module.memories.iter().any(|memory| memory.is_odd) {
        obstacles.push(Obstacle::Memory { module: name() });
    }
    if module.has_odd_table {
        obstacles.push(Obstacle::Table { module: name() });
    }
    let suspicious = module.effects.iter().filter(|(_, effect)| !is_stack_pointer(module, *effect));
    let mut suspicious = suspicious.peekable();
    if suspicious.peek().is_none() {
        return;
    }
    // What only runs while the module is instantiated runs in every instance alike.
    let reachable = module.reachable();
    for (function, effect) in suspicious.filter(|(function, _)| reachable.contains(function)) {
        let what = match effect {
            Effect::Global(global) => match module.globals.get(*global as usize) {
                Some(global) if !global.name.is_empty() => format!("sets the global {}", global.name),
                _ => format!("sets global {global}"),
            },
            Effect::Table => "changes a table".into(),
            Effect::Drop => "drops a segment".into(),
            Effect::Exotic => "uses exceptions, garbage collection, threads or stack switching".into(),
        };
        obstacles.push(Obstacle::Effect { module: name(), function: module.function_name(*function), what });
    }
}

/// The stack pointer of the C ABI is back at its old value when a function returns normally; an instance whose function
/// did not is never used again. LLVM names it. Where names are stripped, it is the first global, and begins with the
/// address of the stack's end: a multiple of 16 and not zero, as a counter or a pointer to be set later would be.
fn is_stack_pointer(module: &Module, effect: Effect) -> bool {
    let Effect::Global(index) = effect else { return false };
    module.globals.get(index as usize).is_some_and(|global| {
        let is_stack_end = || global.initial.is_some_and(|initial| initial >= 1024 && initial % 16 == 0);
        let looks_like_it = || global.name.is_empty() && index == 0 && is_stack_end();
        global.is_mutable_i32 && (global.name == "__stack_pointer" || looks_like_it())
    })
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignModule => f.write_str("it instantiates a core module that comes from outside of it"),
            Self::Builtin(Builtin::ResourceNew) => f.write_str("it has resources of its own"),
            Self::Builtin(Builtin::Backpressure) => f.write_str("it uses backpressure"),
            Self::Builtin(Builtin::Threads) => f.write_str("it uses threads"),
            Self::Memory { module } => write!(f, "{module} has a shared or 64-bit memory"),
            Self::Table { module } => write!(f, "{module} has a shared or 64-bit table"),
            Self::Effect { module, function, what } => write!(f, "{function} in {module} {what}"),
        }
    }
}
