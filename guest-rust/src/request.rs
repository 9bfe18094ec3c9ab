//! Looking things up in a request. Its fields are documented in `wit/types.wit`.

use crate::{Headers, Request};

impl Request {
    /// The first value of a header field, whatever the case of `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        lookup(&self.headers, name)
    }

    /// The decoded value of a placeholder, counted from 0 in the order of the route's pattern.
    pub fn param(&self, index: usize) -> Option<&str> {
        self.params.get(index).map(String::as_str)
    }

    /// The path as received, still percent-encoded.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query as received, without its `?`; none if there is no `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// The first value of a field.
pub(crate) fn lookup<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Body;

    /// A request with something in every field.
    pub(crate) fn request() -> Request {
        Request {
            route: 0,
            method: "GET".into(),
            origin: "http://localhost:8000".into(),
            target: "/x?y=1".into(),
            params: vec!["x".into()],
            headers: vec![("accept".into(), "a".into()), ("accept".into(), "b".into())],
            peer: "127.0.0.1:1".into(),
            body: Body::Empty,
        }
    }

    #[test]
    fn a_header_is_found_in_any_case_and_the_first_one_counts() {
        assert_eq!(request().header("Accept"), Some("a"));
        assert_eq!(request().header("cookie"), None);
    }

    #[test]
    fn a_target_is_split_at_the_first_question_mark() {
        let with = |target: &str| Request { target: target.into(), ..request() };
        assert_eq!((with("/a?b?c").path(), with("/a?b?c").query()), ("/a", Some("b?c")));
        assert_eq!((with("/a").path(), with("/a").query()), ("/a", None));
        assert_eq!((with("/a?").path(), with("/a?").query()), ("/a", Some("")));
    }

    #[test]
    fn a_placeholder_that_the_pattern_does_not_have_is_none() {
        assert_eq!((request().param(0), request().param(1)), (Some("x"), None));
    }
}
