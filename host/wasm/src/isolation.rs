//! What a request can see of other requests.

use std::{fmt, str::FromStr};

/// What of other requests a request can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: each request starts from the state after start-up.
    Fresh,
    /// What the instance's earlier requests left; one request at a time.
    Reuse,
    /// The state of all requests that its instance serves, at the same time and before.
    Shared,
}

impl Isolation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Reuse, Self::Shared];

    /// What it is called in flags and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Reuse => "reuse",
            Self::Shared => "shared",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|isolation| isolation.name() == name);
        known.ok_or_else(|| format!("there is no isolation {name:?}: fresh, reuse, shared"))
    }
}
