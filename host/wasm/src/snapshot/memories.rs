//! The linear memories of instances as wasmtime sees them, and which instance each belongs to.
//!
//! wasmtime asks a `MemoryCreator` for memories without saying for which instance. Instantiation runs on one thread, so
//! what is to be made of the memories asked for, and who is to know them, stands in a variable of that thread meanwhile.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
};

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::{image::Image, mapping::Mapping};

/// What the memories of a new instance begin with, in the order in which they are made.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    /// Content that is mapped at the beginning of each memory.
    pub(super) images: Vec<Option<Image>>,
}

/// Runs an instantiation. Returns its result and the memories that were made in it.
pub(super) async fn collect<F: Future>(
    beginnings: &Arc<Beginnings>,
    sizes: &[usize],
    instantiation: F,
) -> (F::Output, Vec<Arc<Mapping>>) {
    let mut instantiation = pin!(instantiation);
    let mut making = Some(Making { beginnings: beginnings.clone(), sizes: sizes.to_vec(), made: Vec::new() });
    let output = poll_fn(|context| {
        // Set for this poll only: between two polls another instantiation may run on this thread.
        let outer = MAKING.replace(making.take());
        let result = instantiation.as_mut().poll(context);
        making = MAKING.replace(outer);
        result
    })
    .await;
    (output, making.map(|making| making.made).unwrap_or_default())
}

struct Making {
    beginnings: Arc<Beginnings>,
    /// Sizes in bytes that the memories are to have, where that is more than their type says.
    sizes: Vec<usize>,
    made: Vec<Arc<Mapping>>,
}

thread_local! {
    static MAKING: RefCell<Option<Making>> = const { RefCell::new(None) };
}

/// Makes all memories of the engine.
pub(crate) struct Creator;

// SAFETY: `create` gives memories whose address space is reserved as wasmtime asks for (`Mapping`, invariants 1 and 2).
// Outside of wasmtime their bytes change only in `snapshot`, while the instance's store is held exclusively (invariant 3).
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if ty.is_shared() || ty.is_64() {
            return Err("shared and 64-bit memories are not supported".into());
        }
        let reserved = reserved.ok_or("memories must not move")?;
        MAKING.with_borrow_mut(|making| {
            let making = making.as_mut().ok_or("a memory is made outside of an instantiation")?;
            making.next(minimum, reserved, guard).map_err(|error| format!("cannot make a memory: {error}"))
        })
    }
}

impl Making {
    fn next(&mut self, minimum: usize, reserved: usize, guard: usize) -> io::Result<Box<dyn LinearMemory>> {
        let index = self.made.len();
        let size = self.sizes.get(index).copied().unwrap_or(0).max(minimum);
        let mapping = Arc::new(Mapping::reserve(size, reserved, guard)?);
        if let Some(Some(image)) = self.beginnings.images.get(index) {
            // SAFETY: nobody else has the mapping yet.
            unsafe { mapping.attach(image)? };
        }
        self.made.push(mapping.clone());
        Ok(Box::new(Memory(mapping)))
    }
}

/// A memory in wasmtime's hands.
struct Memory(Arc<Mapping>);

// SAFETY: the size, the capacity and the base are those of a mapping that stays where it is, with everything beyond the
// size inaccessible (`Mapping`, invariants 1 and 2).
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.0.size()
    }

    fn byte_capacity(&self) -> usize {
        self.0.capacity()
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        Ok(self.0.grow(size)?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base().as_ptr()
    }
}
