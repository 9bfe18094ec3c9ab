//! The end of a server: told once, seen by every connection.

use tokio::sync::watch;

/// The side that tells.
#[derive(Debug)]
pub(crate) struct DrainSwitch(watch::Sender<bool>);

/// The side that is told.
#[derive(Clone, Debug)]
pub(crate) struct Drain(watch::Receiver<bool>);

pub(crate) fn drain() -> (DrainSwitch, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainSwitch(sender), Drain(receiver))
}

impl DrainSwitch {
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Resolves when the drain has begun, or when nobody is left who could begin it.
    pub(crate) async fn begun(&mut self) {
        let _ = self.0.wait_for(|&begun| begun).await;
    }
}
