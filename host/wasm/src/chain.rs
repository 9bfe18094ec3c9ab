//! An error together with its causes, as one text for a log or a terminal.

use std::{error::Error, fmt};

/// Displays an error and its causes, outermost first, each told once.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // A transparent error shows what its cause shows.
            if !last.ends_with(&next) {
                write!(f, ": {next}")?;
            }
            last = next;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_in_order_and_are_told_once() {
        let inner = std::io::Error::other("disk full");
        let outer = crate::ArtifactError::Io { path: "/x".into(), source: inner };
        assert_eq!(Chain(&outer).to_string(), "cannot use the cache at /x: disk full");
        assert_eq!(Chain(&std::io::Error::other(outer)).to_string(), "cannot use the cache at /x: disk full");
    }
}
