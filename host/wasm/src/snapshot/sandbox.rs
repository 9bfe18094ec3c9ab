//! An instance's store together with its memories, which it takes snapshots of and puts back. What is in the store is
//! not its business.

use std::{
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    PAGE_BYTES,
    dirty::{ResetMethod, Restored, Watcher, Written},
    image::{Image, View},
    mapping::Mapping,
    memories::{self, Beginnings},
};

/// What instances of one component begin with, shared by all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Initial(Arc<Beginnings>);

impl Initial {
    /// The contents that stand in a file one after the other, in whole pages. The file must stay as it is.
    ///
    /// # Errors
    /// If the file is shorter.
    pub(crate) fn mapped(file: File, lengths: &[usize]) -> io::Result<Self> {
        let file = Arc::new(file);
        let mut offset = 0;
        let mut image = |length: usize| {
            let image = Image::part_of(&file, offset, length)?;
            offset += length;
            Ok((length > 0).then_some(image))
        };
        let images = lengths.iter().map(|&length| image(length)).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Beginnings { images })))
    }
}

/// Finds written pages; one for the process.
#[derive(Clone, Debug)]
pub(crate) struct Tracker(Arc<Watcher>);

impl Tracker {
    /// The best method that works here, or the one that is wanted.
    ///
    /// # Errors
    /// If the one that is wanted does not work here, or pages are not what this code was written for.
    pub(crate) fn new(wanted: Option<ResetMethod>) -> io::Result<Self> {
        if rustix::param::page_size() != PAGE_BYTES {
            return Err(io::Error::other(format!("memory pages have {} bytes here", rustix::param::page_size())));
        }
        Ok(Self(Watcher::new(wanted)?))
    }

    pub(crate) fn method(&self) -> ResetMethod {
        self.0.method()
    }
}

/// The memories of a started instance, to be given to any number of others.
#[derive(Debug)]
pub(crate) struct Snapshot {
    views: Vec<View>,
    /// What wasm thinks the memories' sizes are, in bytes.
    sizes: Vec<usize>,
    tracker: Tracker,
}

impl Snapshot {
    /// Bytes of all memories.
    pub(crate) fn bytes(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// A store and the memories of the instances in it. Whoever has it exclusively knows that no guest runs in it, which is
/// what makes it safe to change the memories.
pub(crate) struct Sandbox<T: 'static> {
    store: wasmtime::Store<T>,
    memories: Vec<Arc<Mapping>>,
    snapshot: Option<Arc<Snapshot>>,
    /// Of each memory, since the snapshot was attached. It keeps the store on its thread.
    written: Vec<Written>,
}

/// Why an instance could not be put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// It has no snapshot.
    #[error("there is no snapshot")]
    Unattached,
    /// Memory cannot shrink.
    #[error("its memory has grown")]
    Grown,
    /// The kernel refused.
    #[error("the kernel did not do its part")]
    System(#[from] io::Error),
}

impl<T: Send + 'static> Sandbox<T> {
    /// Instantiates a component in a store, with memories that begin as `initial` says. If it is to be given a snapshot
    /// later, its memories are as large as the snapshot's from the beginning.
    pub(crate) async fn instantiate<R>(
        mut store: wasmtime::Store<T>,
        initial: &Initial,
        snapshot: Option<&Snapshot>,
        instantiate: impl AsyncFnOnce(&mut wasmtime::Store<T>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<(Self, R)> {
        let sizes = snapshot.map_or(&[][..], |snapshot| &snapshot.sizes);
        let (result, memories) = memories::collect(&initial.0, sizes, instantiate(&mut store)).await;
        Ok((Self { store, memories, snapshot: None, written: Vec::new() }, result?))
    }

    pub(crate) fn store(&mut self) -> &mut wasmtime::Store<T> {
        &mut self.store
    }

    pub(crate) fn data(&self) -> &T {
        self.store.data()
    }

    /// Copies the memories.
    ///
    /// # Errors
    /// If the system refuses memory for the copy.
    pub(crate) fn take_snapshot(&mut self, tracker: &Tracker) -> io::Result<Snapshot> {
        // SAFETY: `&mut self` holds the store, so nobody writes to its memories.
        let view = |memory: &Arc<Mapping>| View::new(Image::of(unsafe { memory.bytes() })?);
        let views = self.memories.iter().map(view).collect::<io::Result<_>>()?;
        let sizes = self.memories.iter().map(|memory| memory.size()).collect();
        Ok(Snapshot { views, sizes, tracker: tracker.clone() })
    }

    /// Gives the instance the memories of a snapshot, to which [`Sandbox::restore`] puts it back from now on.
    ///
    /// # Errors
    /// If the snapshot is of another component, or the system refuses. The instance must not be used then.
    pub(crate) fn attach(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        if !self.memories.iter().map(|memory| memory.size()).eq(snapshot.sizes.iter().copied()) {
            return Err(io::Error::other("the instance's memories differ from the snapshot's in size"));
        }
        for (memory, view) in self.memories.iter().zip(&snapshot.views) {
            // SAFETY: `&mut self` holds the store, so nobody uses its memories.
            unsafe { memory.attach(view.image())? };
            snapshot.tracker.0.watch(memory, view.image().length())?;
        }
        self.snapshot = Some(snapshot.clone());
        self.written = self.memories.iter().map(|_| Written::default()).collect();
        Ok(())
    }

    /// Makes the memories equal to the snapshot again.
    ///
    /// # Errors
    /// See [`RestoreError`]. The instance must not be used then.
    pub(crate) fn restore(&mut self) -> Result<Reset, RestoreError> {
        let began = Instant::now();
        let snapshot = self.snapshot.as_ref().ok_or(RestoreError::Unattached)?;
        if self.memories.iter().any(|memory| memory.has_grown()) {
            return Err(RestoreError::Grown);
        }
        let mut pages = 0;
        for ((memory, view), written) in self.memories.iter().zip(&snapshot.views).zip(&mut self.written) {
            // SAFETY: `&mut self` holds the store, so nobody uses its memories; `attach` has attached the view and begun
            // to watch, and the memory has not grown since. A guest writes only while its store is polled, and since
            // `written` is not `Send`, neither is the store's owner: it was always polled by this thread.
            let Restored { pages: more, .. } = unsafe { snapshot.tracker.0.restore(memory, view, written)? };
            pages += more;
        }
        Ok(Reset { pages, time: began.elapsed() })
    }

    /// Gives the private pages of an unused instance that has just been put back to the system; it is the same as before.
    ///
    /// # Errors
    /// See [`RestoreError`]. The instance must not be used then.
    pub(crate) fn trim(&mut self) -> Result<(), RestoreError> {
        let snapshot = self.snapshot.as_ref().ok_or(RestoreError::Unattached)?;
        if self.memories.iter().any(|memory| memory.has_grown()) {
            return Err(RestoreError::Grown);
        }
        for ((memory, view), written) in self.memories.iter().zip(&snapshot.views).zip(&mut self.written) {
            // SAFETY: as in `restore`.
            unsafe { snapshot.tracker.0.trim(memory, view, written)? };
        }
        Ok(())
    }

    /// Whether the memories are those of the snapshot, byte by byte. Reads all of them, so it is for tests and audits.
    pub(crate) fn is_restored(&mut self) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| {
            self.memories.iter().zip(&snapshot.views).zip(&snapshot.sizes).all(|((memory, view), &size)| {
                // SAFETY: `&mut self` holds the store, so nobody writes to its memories.
                memory.size() == size && unsafe { memory.bytes() } == &view.bytes()[..size]
            })
        })
    }
}

/// What putting an instance back took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reset {
    /// Pages that were ever written to.
    pub(crate) pages: usize,
    pub(crate) time: Duration,
}
