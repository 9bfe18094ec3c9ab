//! From a method and a path to a route: one radix tree per method. It also holds the only percent-decoding of paths.

use std::{borrow::Cow, collections::BTreeMap};

use covet_wasm::Route;

/// The routes of one application.
pub struct Router {
    /// Each tree has the routes of its method and those for every method.
    methods: BTreeMap<String, Tree>,
    /// The routes for every method, for methods that no route names.
    other: Tree,
}

type Tree = matchit::Router<Leaf>;
type Match<'tree, 'path> = matchit::Match<'tree, 'path, &'tree Leaf>;

#[derive(Clone, Copy)]
struct Leaf {
    route: u32,
    /// The route is for every method.
    any_method: bool,
    /// The path ended where a `{*rest}` begins, which therefore is empty.
    empty_rest: bool,
}

/// What a path and method lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A route, with the decoded values of its placeholders in the order of the pattern.
    Route {
        /// Its index.
        route: u32,
        /// The values.
        params: Vec<String>,
    },
    /// The path exists for other methods, which are listed for the `Allow` field.
    MethodNotAllowed {
        /// Comma-separated.
        allow: String,
    },
    /// No route has such a path.
    Nothing,
}

/// The path is not valid: a broken escape, an escaped NUL, or not UTF-8 after decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path is not validly percent-encoded UTF-8")]
pub struct BadPath;

/// Why a set of routes cannot be served. Each message names the routes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two routes match the same paths.
    #[error("route {new} conflicts with route {old}: both match the same paths")]
    Conflict {
        /// The later one.
        new: String,
        /// The earlier one.
        old: String,
    },
    /// A pattern that no tree can hold.
    #[error("route {route} has an invalid pattern: {problem}")]
    Pattern {
        /// The route.
        route: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A method that no request can have.
    #[error("route {route} has an invalid method")]
    Method {
        /// The route.
        route: String,
    },
}

impl Router {
    /// Builds the trees.
    ///
    /// # Errors
    /// See [`RouteError`].
    pub fn new(routes: &[Route]) -> Result<Self, RouteError> {
        let mut router = Self { methods: BTreeMap::new(), other: Tree::new() };
        for route in routes {
            check(route)?;
            if !route.method.is_empty() {
                router.methods.entry(route.method.clone()).or_default();
            }
        }
        let indexed = || (0u32..).zip(routes);
        for (index, route) in indexed() {
            match route.method.as_str() {
                "" => insert(&mut router.other, index, route, routes)?,
                method => {
                    if let Some(tree) = router.methods.get_mut(method) {
                        insert(tree, index, route, routes)?;
                    }
                }
            }
        }
        for (index, route) in indexed().filter(|(_, route)| route.method.is_empty()) {
            for tree in router.methods.values_mut() {
                // Where a method has a route of its own at the same place, that one is meant.
                let _ = tree.insert(route.pattern.clone(), Leaf { route: index, any_method: true, empty_rest: false });
            }
        }
        for tree in router.methods.values_mut().chain([&mut router.other]) {
            add_empty_rests(tree, routes);
        }
        Ok(router)
    }

    /// Finds the route for a request's method and its still encoded path.
    ///
    /// # Errors
    /// [`BadPath`] if the path cannot be decoded.
    pub fn find(&self, method: &str, path: &str) -> Result<Found, BadPath> {
        let path = decode(path)?;
        let matched = match method {
            "HEAD" => self.head(&path),
            _ => self.tree(method).at(&path).ok(),
        };
        Ok(match matched {
            Some(matched) => found(&matched),
            None => match self.allowed(&path) {
                allow if allow.is_empty() => Found::Nothing,
                allow => Found::MethodNotAllowed { allow },
            },
        })
    }

    fn tree(&self, method: &str) -> &Tree {
        self.methods.get(method).unwrap_or(&self.other)
    }

    /// A route for `HEAD`; else one for `GET`, if it is at least as close to the path as those for every method; else one
    /// of these.
    fn head<'tree, 'path>(&'tree self, path: &'path str) -> Option<Match<'tree, 'path>> {
        let own = self.tree("HEAD").at(path).ok();
        if own.as_ref().is_some_and(|own| !own.value.any_method) {
            return own;
        }
        // The tree of GET has the routes for every method too, so it knows which of both is closer.
        self.methods.get("GET").and_then(|tree| tree.at(path).ok()).or(own)
    }

    fn allowed(&self, path: &str) -> String {
        let mut allow: Vec<&str> =
            self.methods.iter().filter(|(_, tree)| tree.at(path).is_ok()).map(|(method, _)| method.as_str()).collect();
        if allow.contains(&"GET") && !allow.contains(&"HEAD") {
            allow.push("HEAD");
        }
        allow.join(", ")
    }
}

fn found(matched: &Match<'_, '_>) -> Found {
    let mut params: Vec<String> = matched.params.iter().map(|(_, value)| value.replace(SLASH, "/")).collect();
    if matched.value.empty_rest {
        params.push(String::new());
    }
    Found::Route { route: matched.value.route, params }
}

/// How a route is called in messages: `GET /users/{id} (read_user)`.
pub fn display(route: &Route) -> String {
    let method = if route.method.is_empty() { "*" } else { &route.method };
    format!("{method} {} ({})", route.pattern, route.name)
}

fn check(route: &Route) -> Result<(), RouteError> {
    if !route.pattern.starts_with('/') {
        return Err(RouteError::Pattern { route: display(route), problem: "it must begin with /" });
    }
    // matchit panics at more of them.
    if route.pattern.replace("{{", "").matches('{').count() > PLACEHOLDERS_MAX {
        return Err(RouteError::Pattern { route: display(route), problem: "it has more than 25 placeholders" });
    }
    let valid = route.method.is_empty() || http::Method::from_bytes(route.method.as_bytes()).is_ok();
    if !valid || route.method.chars().any(|c| c.is_ascii_lowercase()) {
        return Err(RouteError::Method { route: display(route) });
    }
    Ok(())
}

fn insert(tree: &mut Tree, index: u32, route: &Route, routes: &[Route]) -> Result<(), RouteError> {
    use matchit::InsertError as E;
    let any_method = route.method.is_empty();
    let problem = match tree.insert(route.pattern.clone(), Leaf { route: index, any_method, empty_rest: false }) {
        Ok(()) => return Ok(()),
        Err(E::Conflict { with }) => {
            let old = routes.iter().find(|old| old.pattern == with && old.method == route.method);
            let old = old.map_or(with, display);
            return Err(RouteError::Conflict { new: display(route), old });
        }
        Err(E::InvalidParamSegment) => "a segment between two slashes can have one placeholder only",
        Err(E::InvalidParam) => "a placeholder is {name}; a literal brace is written twice",
        Err(E::InvalidCatchAll) => "{*name} is only allowed at the end",
        Err(_) => "the router does not accept it",
    };
    Err(RouteError::Pattern { route: display(route), problem })
}

/// `/files/{*rest}` is to match `/files/` too, as Starlette's `:path` does, unless another route does already.
fn add_empty_rests(tree: &mut Tree, routes: &[Route]) {
    for (index, route) in (0u32..).zip(routes) {
        let Some(start) = route.pattern.rfind("{*") else { continue };
        // The pattern must be in this very tree.
        let probe = format!("{}x", &route.pattern[..start]);
        if tree.at(&probe).is_ok_and(|found| found.value.route == index) {
            let any_method = route.method.is_empty();
            let _ = tree.insert(&route.pattern[..start], Leaf { route: index, any_method, empty_rest: true });
        }
    }
}

/// matchit gives each a letter and panics when there is none left after the last one.
const PLACEHOLDERS_MAX: usize = 25;

/// Stands for an escaped slash while the path is matched, so that `%2F` stays inside its segment and yet nothing is
/// decoded twice. A real NUL is refused.
const SLASH: char = '\0';

/// Decodes a path once.
fn decode(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err(BadPath) };
        rest = tail;
        match hex(*high)? << 4 | hex(*low)? {
            0 => return Err(BadPath),
            b'/' => decoded.push(SLASH as u8),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadPath)
}

fn hex(digit: u8) -> Result<u8, BadPath> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(BadPath)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, pattern: &str) -> Route {
        Route { method: method.into(), pattern: pattern.into(), name: format!("f{}", pattern.len()), isolation: None }
    }

    fn router(routes: &[(&str, &str)]) -> Router {
        let routes: Vec<_> = routes.iter().map(|(method, pattern)| route(method, pattern)).collect();
        Router::new(&routes).unwrap()
    }

    fn found(route: u32, params: &[&str]) -> Found {
        Found::Route { route, params: params.iter().map(|&p| p.to_owned()).collect() }
    }

    #[test]
    fn a_path_leads_to_its_route_and_literal_text_wins_over_a_placeholder() {
        let router = router(&[("GET", "/users/{id}"), ("GET", "/users/me"), ("POST", "/users/{name}")]);
        assert_eq!(router.find("GET", "/users/42").unwrap(), found(0, &["42"]));
        assert_eq!(router.find("GET", "/users/me").unwrap(), found(1, &[]));
        assert_eq!(router.find("POST", "/users/x").unwrap(), found(2, &["x"]));
        assert_eq!(router.find("GET", "/users/").unwrap(), Found::Nothing);
        assert_eq!(router.find("GET", "/users/1/2").unwrap(), Found::Nothing);
    }

    #[test]
    fn params_come_in_the_order_of_the_pattern() {
        let router = router(&[("GET", "/{z}/{a}/{*m}")]);
        assert_eq!(router.find("GET", "/1/2/3/4").unwrap(), found(0, &["1", "2", "3/4"]));
    }

    #[test]
    fn another_method_is_answered_with_those_that_are_allowed() {
        let router = router(&[("GET", "/a"), ("PUT", "/a"), ("POST", "/b")]);
        let allow = |method, path| router.find(method, path).unwrap();
        assert_eq!(allow("POST", "/a"), Found::MethodNotAllowed { allow: "GET, PUT, HEAD".into() });
        assert_eq!(allow("BREW", "/b"), Found::MethodNotAllowed { allow: "POST".into() });
        assert_eq!(allow("HEAD", "/b"), Found::MethodNotAllowed { allow: "POST".into() });
    }

    #[test]
    fn head_uses_the_route_for_get_unless_it_has_its_own() {
        let router = router(&[("GET", "/a"), ("GET", "/b"), ("HEAD", "/b")]);
        assert_eq!(router.find("HEAD", "/a").unwrap(), found(0, &[]));
        assert_eq!(router.find("HEAD", "/b").unwrap(), found(2, &[]));
    }

    #[test]
    fn head_prefers_the_route_for_get_to_one_for_every_method_that_is_no_closer_to_the_path() {
        let router = router(&[
            ("", "/{*rest}"),
            ("GET", "/users/{id}"),
            ("GET", "/"),
            ("GET", "/both"),
            ("", "/both"),
            ("", "/users/me"),
            ("POST", "/users/{id}"),
            ("GET", "/files/{*path}"),
        ]);
        let head = |path| router.find("HEAD", path).unwrap();
        assert_eq!(head("/users/42"), found(1, &["42"]), "a placeholder before a rest");
        assert_eq!(head("/"), found(2, &[]), "literal text before an empty rest");
        assert_eq!(head("/both"), found(3, &[]), "at the same place");
        assert_eq!(head("/users/me"), found(5, &[]), "literal text before a placeholder, for every method");
        assert_eq!(head("/files/a/b"), found(7, &["a/b"]), "the longer prefix");
        assert_eq!(head("/files/"), found(7, &[""]));
        assert_eq!(head("/users/42/x"), found(0, &["users/42/x"]), "no route for GET");
        for path in ["/users/42", "/", "/both", "/users/me", "/files/a", "/users/42/x"] {
            assert_eq!(head(path), router.find("GET", path).unwrap(), "{path}");
        }
        assert_eq!(router.find("OPTIONS", "/users/42").unwrap(), found(0, &["users/42"]), "other methods do not");
    }

    #[test]
    fn head_prefers_its_own_route_to_those_for_get_and_for_every_method() {
        let router = router(&[
            ("", "/{*rest}"),
            ("GET", "/a/{x}"),
            ("HEAD", "/a/{y}"),
            ("GET", "/a/b"),
            ("GET", "/c"),
            ("", "/a/any"),
            ("GET", "/a/any"),
        ]);
        let head = |path| router.find("HEAD", path).unwrap();
        assert_eq!(head("/a/1"), found(2, &["1"]));
        assert_eq!(head("/a/b"), found(2, &["b"]), "a route of its own, although that for GET is closer");
        assert_eq!(head("/c"), found(4, &[]));
        assert_eq!(
            head("/a/any"),
            found(6, &[]),
            "closer than its own: one for every method, and at its place one for GET"
        );
        assert_eq!(head("/d"), found(0, &["d"]));
    }

    #[test]
    fn head_without_any_route_for_get_is_for_a_route_for_every_method() {
        let router = router(&[("", "/a/{x}"), ("POST", "/a/b")]);
        assert_eq!(router.find("HEAD", "/a/b").unwrap(), found(0, &["b"]));
        assert_eq!(router.find("HEAD", "/b").unwrap(), Found::Nothing);
    }

    #[test]
    fn a_route_for_every_method_gives_way_to_a_route_for_one() {
        let router = router(&[("", "/a"), ("GET", "/a"), ("", "/b")]);
        assert_eq!(router.find("GET", "/a").unwrap(), found(1, &[]));
        assert_eq!(router.find("POST", "/a").unwrap(), found(0, &[]));
        assert_eq!(router.find("GET", "/b").unwrap(), found(2, &[]));
        assert_eq!(router.find("PROPFIND", "/b").unwrap(), found(2, &[]));
    }

    #[test]
    fn the_rest_of_a_path_may_be_empty_unless_another_route_is_there() {
        let open = router(&[("GET", "/files/{*path}"), ("POST", "/files/{*path}")]);
        assert_eq!(open.find("GET", "/files/").unwrap(), found(0, &[""]));
        assert_eq!(open.find("POST", "/files/").unwrap(), found(1, &[""]));
        assert_eq!(open.find("GET", "/files").unwrap(), Found::Nothing);
        let taken = router(&[("GET", "/files/{*path}"), ("GET", "/files/")]);
        assert_eq!(taken.find("GET", "/files/").unwrap(), found(1, &[]));
        let with_param = router(&[("GET", "/{owner}/{*path}")]);
        assert_eq!(with_param.find("GET", "/me/").unwrap(), found(0, &["me", ""]));
    }

    #[test]
    fn a_path_is_decoded_once_and_an_escaped_slash_separates_nothing() {
        let router = router(&[("GET", "/a b/{x}"), ("GET", "/{x}")]);
        assert_eq!(router.find("GET", "/a%20b/%C3%A4").unwrap(), found(0, &["ä"]));
        assert_eq!(router.find("GET", "/a%20b/1%2f2%2F3").unwrap(), found(0, &["1/2/3"]));
        assert_eq!(router.find("GET", "/%252F").unwrap(), found(1, &["%2F"]));
        assert_eq!(router.find("GET", "/a+b").unwrap(), found(1, &["a+b"]));
    }

    #[test]
    fn a_path_that_cannot_be_decoded_is_refused() {
        let router = router(&[("GET", "/{x}")]);
        for path in ["/%", "/%4", "/%zz", "/%ff", "/%C3%28", "/a%00b", "/%+1"] {
            assert_eq!(router.find("GET", path), Err(BadPath), "{path}");
        }
    }

    #[test]
    fn a_conflict_names_both_routes() {
        let routes = [route("GET", "/a/{x}"), route("POST", "/a/{y}"), route("GET", "/a/{y}")];
        let error = Router::new(&routes).err().unwrap().to_string();
        assert_eq!(error, "route GET /a/{y} (f6) conflicts with route GET /a/{x} (f6): both match the same paths");
        assert!(Router::new(&[route("GET", "/a"), route("GET", "/a")]).is_err(), "a route that is there twice");
    }

    #[test]
    fn too_many_placeholders_are_refused() {
        let pattern = |count: usize| (0..count).map(|number| format!("/{{p{number}}}")).collect::<String>();
        assert!(Router::new(&[route("GET", &pattern(PLACEHOLDERS_MAX))]).is_ok());
        for count in [PLACEHOLDERS_MAX + 1, 100] {
            let error = Router::new(&[route("GET", &pattern(count))]).err().unwrap().to_string();
            assert!(error.ends_with("it has more than 25 placeholders"), "{error}");
        }
    }

    #[test]
    fn an_invalid_pattern_or_method_names_its_route() {
        let refused = |method, pattern| Router::new(&[route(method, pattern)]).err().unwrap().to_string();
        assert_eq!(refused("GET", "a"), "route GET a (f1) has an invalid pattern: it must begin with /");
        for pattern in ["/{", "/{}", "/{a}{b}", "/{*a}/b", "/a}"] {
            assert!(refused("GET", pattern).contains(pattern), "{pattern}");
        }
        assert_eq!(refused("get", "/a"), "route get /a (f2) has an invalid method");
        assert!(refused("G T", "/a").contains("invalid method"));
    }

    #[test]
    fn every_escape_that_encodes_a_path_decodes_to_it() {
        for text in ["/", "/x/y", "/ä/ö", "/%41", "/a%2Fb", "/\u{10ffff}", "/a?b#c"] {
            let encoded: String =
                text.bytes().map(|b| if b == b'/' { "/".to_owned() } else { format!("%{b:02x}") }).collect();
            assert_eq!(decode(&encoded).unwrap(), text);
        }
    }
}
