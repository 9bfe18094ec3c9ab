//! An application that does to its instance whatever it can (`guests/python/vandal`), and what later requests find of it.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use covet_tests::{Answer, Connection, Finished, Host, Started, component};
use serde_json::{Value, json};

#[test]
fn whatever_a_request_does_the_next_one_finds_the_state_after_start_up_by_write_protect() {
    in_fresh_nothing_is_left("write-protect");
}

#[test]
fn whatever_a_request_does_the_next_one_finds_the_state_after_start_up_by_scan() {
    in_fresh_nothing_is_left("scan");
}

#[test]
fn whatever_a_request_does_the_next_one_finds_the_state_after_start_up_by_decommit() {
    in_fresh_nothing_is_left("decommit");
}

fn in_fresh_nothing_is_left(method: &str) {
    let flags = [ALONE, &["--reset", method]].concat();
    let Some(host) = try_vandal(&flags) else {
        println!("skipped: this kernel does not let the host find written pages by {method}");
        return;
    };
    let pristine = state(&host);
    for deed in KEPT {
        commit(&host, deed);
        assert_same(&state(&host), &pristine, deed);
    }
    let instances = Instances::of(&host.stop());
    assert_eq!(instances.discarded, "", "{instances:?}");
    assert_eq!(instances.resets, instances.requests, "{instances:?}");
    // The one that the snapshot is of, the one that it was tried on, the one that has served everything, and the housekeeper's, where the first request
    // did not wait for that one.
    assert!(instances.started <= 4, "{instances:?}");

    let host = vandal(&flags);
    assert_same(&state(&host), &pristine, "another host");
    for deed in GROWING.iter().chain(BREAKING).chain(TRAPPING) {
        commit(&host, deed);
        assert_same(&state(&host), &pristine, deed);
    }
    let instances = Instances::of(&host.stop());
    let lost = instances.lost();
    assert_eq!(lost["grown"], GROWING.len(), "{instances:?}");
    assert_eq!(lost["broken"] + lost["handles"], BREAKING.len() + TRAPPING.len(), "{instances:?}");
    assert!(lost["handles"] >= BREAKING.len() / 2, "{instances:?}");
    assert_eq!(
        instances.resets,
        1 + GROWING.len() + BREAKING.len() + TRAPPING.len(),
        "one for each look: {instances:?}"
    );
}

#[test]
fn a_request_that_takes_too_long_costs_its_instance_and_nothing_else() {
    for isolation in ["fresh", "reuse"] {
        let limits = ["--timeout", "1s", "--cpu-timeout", "500ms", "--isolation", isolation];
        let host = vandal(&[ALONE, &limits].concat());
        let pristine = state_of_a_new_instance(&host);
        assert_eq!(commit(&host, "spin").status, 504);
        assert_same(&state_of_a_new_instance(&host), &pristine, "spin");
        assert_eq!(commit(&host, "block").status, 504);
        assert_same(&state_of_a_new_instance(&host), &pristine, "block");
        assert_eq!(commit(&host, "task-without-end").status, 200);
        assert_same(&state_of_a_new_instance(&host), &pristine, "task-without-end");
        // These three, and one to get a new instance after each look.
        let instances = Instances::of(&host.stop());
        assert_eq!(instances.lost(), [("broken", 3 + 4)].into(), "{isolation}");
    }
}

#[test]
fn what_fresh_hides_is_there_in_reuse_until_a_trap_replaces_the_instance() {
    let host = vandal(&[ALONE, &["--isolation", "reuse", "--cpu-timeout", "1s"]].concat());
    let pristine = state_of_a_new_instance(&host);
    for deed in KEPT {
        commit(&host, deed);
        // An application may well be unable to tell its state now.
        let answer = host.get("/state");
        let is_seen = answer.status != 200 || answer.json() != pristine;
        assert_eq!(is_seen, !TRACELESS.contains(deed), "{deed}: the report says what has changed");
        assert_eq!(commit(&host, "abort").status, 502, "{deed}");
        assert_same(&state_of_a_new_instance(&host), &pristine, deed);
    }
    for deed in BREAKING.iter().chain(TRAPPING) {
        commit(&host, deed);
        assert_same(&state_of_a_new_instance(&host), &pristine, deed);
    }
    for deed in GROWING {
        commit(&host, deed);
        assert_eq!(commit(&host, "abort").status, 502, "{deed}");
        assert_same(&state_of_a_new_instance(&host), &pristine, deed);
    }
    assert_eq!(host.stop().code, Some(0));
}

#[test]
fn nothing_random_comes_twice_in_two_threads_and_chosen_seeds_stay_chosen() {
    let host = vandal(&["--threads", "2", "--audit", "1", "--access-log", "false"]);
    let mut seen = HashSet::new();
    for number in 0..200 {
        for (kind, value) in host.get("/random").json().as_object().unwrap() {
            assert!(seen.insert(format!("{kind} {value}")), "{kind} {value} came twice, at last in request {number}");
        }
        if number % 10 == 0 {
            assert_eq!(commit(&host, "seed-random").status, 200);
        }
    }
    let chosen = host.get("/chosen").json();
    let first_of_42 = 0.639_426_798_457_883_7;
    assert!((chosen[0].as_f64().unwrap() - first_of_42).abs() < 1e-12, "{chosen}");
    for _ in 0..20 {
        assert_eq!(host.get("/chosen").json(), chosen);
    }
    assert_intact(&host.stop());
}

#[test]
fn a_generator_that_nobody_seeded_does_not_repeat_itself_after_it_was_copied_or_restored() {
    let host = vandal(&["--threads", "1", "--access-log", "false"]);
    let first = host.get("/random/copies").json();
    let second = host.get("/random/copies").json();
    let repeated: Vec<_> = first.as_object().unwrap().iter().filter(|(kind, value)| second[*kind] == **value).collect();
    assert!(repeated.is_empty(), "the same in two requests: {repeated:?}");
}

#[test]
fn a_secret_of_one_request_is_nowhere_in_the_memory_of_the_next() {
    let host = vandal(ALONE);
    for (number, kib) in (0_u64..).zip([4, 16, 64, 256, 1024, 8192]) {
        for how in ["raw", "objects", "buffers"] {
            let secret = format!("SECRET-{:016x}", 0x1234_5678_9abc_def0 + number);
            let kept = host.post(&format!("/secret/{kib}"), &secret);
            assert_eq!(kept.json(), json!({"seen": true}), "a request finds its own");
            assert_eq!(host.get(&format!("/search/{how}")).json(), json!([]), "{how}, {kib} KiB");
        }
    }
    let instances = Instances::of(&host.stop());
    assert!(instances.resets >= 24, "most instances were used again: {instances:?}");
}

/// Without it the search above might be one that finds nothing ever.
#[test]
fn a_secret_is_found_where_an_instance_keeps_its_memory() {
    let host = vandal(&[ALONE, &["--isolation", "reuse"]].concat());
    assert_eq!(host.post("/secret/64", "SECRET-00000000000000ab").json(), json!({"seen": true}));
    for how in ["raw", "objects"] {
        let found = host.get(&format!("/search/{how}")).json();
        assert!(found.as_array().unwrap().contains(&json!("SECRET-00000000000000ab")), "{how}: {found}");
    }
}

#[test]
fn a_native_extension_is_put_back_like_everything_else() {
    let host = Host::run("python/validation", &["--threads", "1", "--audit", "1", "--access-log", "false"]);
    let pristine = host.get("/state").json();
    let good = json!({"name": "tea", "price": 2.5, "tags": ["hot"], "parent": {"name": "drinks", "price": 1}});
    for number in 1..=20 {
        let made = host.get(&format!("/adapter/{number}")).json();
        assert_eq!(made, json!({"kept": 2, "sum": number * (number - 1) / 2, "fields": number}));
        assert_eq!(host.get("/fail").status, 500);
        assert_eq!(host.get("/change").text(), "changed");
        let answer = host.post("/items", good.to_string());
        assert_eq!((answer.status, &answer.json()["parent"]["name"]), (200, &json!("drinks")));
        let refused = host.post("/items", r#"{"name":"","price":"dear","parent":{"price":0}}"#);
        assert_eq!(refused.status, 422);
        let places: Vec<_> = refused.json().as_array().unwrap().iter().map(|error| error["loc"].to_string()).collect();
        assert_eq!(places, [r#"["name"]"#, r#"["price"]"#, r#"["parent","name"]"#, r#"["parent","price"]"#]);
        assert_eq!(host.get("/state").json(), pristine);
    }
    let finished = host.stop();
    let instances = Instances::of(&finished);
    assert_eq!((instances.discarded.as_str(), instances.resets), ("", instances.requests), "{instances:?}");
    assert_intact(&finished);
}

#[test]
fn beside_vandals_everybody_else_sees_the_pristine_state_and_his_own_data() {
    const NASTY: usize = 8;
    const INNOCENT: usize = 12;
    let host = vandal(&["--threads", "2", "--memory", "64MiB", "--audit", "1", "--access-log", "false"]);
    let address = host.address();
    let pristine = host.get("/pristine").json();
    let (is_over, innocent) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for first in 0..NASTY {
            let is_over = &is_over;
            scope.spawn(move || {
                let deeds = KEPT.iter().chain(GROWING).chain(BREAKING).chain(TRAPPING).cycle().skip(first * 9);
                for deed in deeds.take_while(|_| !is_over.load(Relaxed)) {
                    commit_at(address, deed);
                }
            });
        }
        let clients: Vec<_> = (0..INNOCENT)
            .map(|client| {
                let (is_over, innocent, pristine) = (&is_over, &innocent, &pristine);
                scope.spawn(move || {
                    for number in (0..).take_while(|_| !is_over.load(Relaxed)) {
                        let answer = Connection::open(address).get("/pristine");
                        assert_eq!((answer.status, answer.json()), (200, pristine.clone()), "{client}/{number}");
                        let own = format!("data of {client}, number {number}");
                        let answer = Connection::open(address).request("POST", "/mine", &[], own.as_bytes());
                        assert_eq!((answer.status, answer.json()), (200, only(&own)), "{client}/{number}");
                        innocent.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        // Ends early where one of them has failed, and not before the vandals have had their time.
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(100));
            if clients.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        is_over.store(true, Relaxed);
    });
    let innocent = innocent.load(Relaxed);
    assert!(innocent >= INNOCENT, "only {innocent} innocent requests of each kind");
    let instances = Instances::of(&host.stop());
    assert!(instances.resets > 2 * innocent && instances.discarded.contains("broken"), "{instances:?}");
}

/// What `/mine` says in an instance that has never seen anything else.
fn only(own: &str) -> Value {
    json!({"counter": 1, "journal": [own], "owner": own, "tenant": own, "cache": {own: own.to_uppercase()}})
}

/// One instance, which has to serve the next request as well, and is compared with the snapshot after each.
const ALONE: &[&str] =
    &["--threads", "1", "--instances", "1", "--audit", "1", "--env", "GREETING=hello", "--access-log", "false"];

/// Deeds that leave nothing but changed memory behind: the instance is put back.
const KEPT: &[&str] = &[
    "set-globals",
    "set-class-attributes",
    "patch-modules",
    "patch-builtins",
    "leak-lists",
    "fill-caches",
    "sync-and-async-tasks",
    "open-generators",
    "pending-futures",
    "stream-a-little",
    ABANDONED,
    "stream-that-fails",
    "raise-exception",
    "raise-base-exception",
    "raise-system-exit",
    "raise-keyboard-interrupt",
    "raise-in-task",
    "raise-http-exception",
    "recurse",
    "write-files",
    "keep-temporary-file",
    "change-environment",
    "change-locale",
    "change-signals",
    "change-warnings",
    "change-logging",
    "change-decimal",
    "change-context",
    "seed-random",
    "change-gc",
    "change-interpreter",
    "set-trace",
    "replace-streams",
    "patch-loop",
    "patch-framework",
    "intern-strings",
    "change-code",
    "deep-json",
    "warm-everything",
    "half-lines",
    "overwrite-objects",
    "touch-every-page",
    "scribble-on-free-memory",
    "use-many-handles",
    "leak-socket",
    "leak-descriptors",
];

/// Those of them whose traces a request cannot see even in the same instance.
const TRACELESS: &[&str] = &[
    "write-files",
    "half-lines",
    "touch-every-page",
    "scribble-on-free-memory",
    "use-many-handles",
    "leak-descriptors",
];

/// Deeds after which memory is larger than the snapshot.
const GROWING: &[&str] = &["grow-by-8-mb", "grow-by-64-mb", "exhaust-memory", "exhaust-memory-and-keep-it"];

/// Deeds that are answered, and leave a handle or a task behind or trap afterwards.
const BREAKING: &[&str] = &[
    "leak-streams",
    "leak-stream-objects",
    "leak-half-a-stream",
    "leak-waitable-set",
    "leak-sleep",
    "leak-short-sleep",
    "leak-wasi-output",
    "leak-wasi-half-a-line",
    "leak-wasi-input",
    "set-raw-context",
    "patch-runtime",
];

/// Deeds that are not.
const TRAPPING: &[&str] = &[
    "abort",
    "exit-at-once",
    "raise-signal",
    "patch-what-everything-needs",
    "crash",
    "corrupt-everything",
    "return-twice",
    "end-without-answer",
    "exhaust-handles",
];

/// The deed whose client goes away.
const ABANDONED: &str = "stream-without-end";

fn vandal(flags: &[&str]) -> Host {
    try_vandal(flags).expect("it works with these flags")
}

/// None if this kernel does not have the method of `--reset`.
fn try_vandal(flags: &[&str]) -> Option<Host> {
    /// The first one compiles the application, for all of them.
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    match Host::try_run(&component("python/vandal"), flags) {
        Started::Listening(host) => Some(host),
        Started::Ended(finished) => {
            assert!(finished.stderr.contains("instances cannot be put back in this way"), "{finished:?}");
            None
        }
    }
}

fn commit(host: &Host, deed: &str) -> Answer {
    let answer = commit_at(host.address(), deed);
    // 502, or 504 where the guest ran on without sense.
    let expected = if TRAPPING.contains(&deed) { 502..=504 } else { 200..=500 };
    let is_slow = ["spin", "block"].contains(&deed);
    assert!(is_slow || expected.contains(&answer.status), "{deed}: {} {}", answer.status, answer.text());
    answer
}

fn commit_at(address: SocketAddr, deed: &str) -> Answer {
    let mut connection = Connection::open(address);
    if deed == ABANDONED {
        connection.send(format!("GET /do/{deed} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let answer = connection.head();
        assert_eq!(answer.status, 200);
        connection.chunk().expect("the beginning of a body");
        return answer;
    }
    connection.get(&format!("/do/{deed}"))
}

fn state(host: &Host) -> Value {
    let answer = host.get("/state");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The state, which an instance that is kept tells only once: the report itself leaves traces.
fn state_of_a_new_instance(host: &Host) -> Value {
    let state = state(host);
    assert_eq!(commit(host, "abort").status, 502);
    state
}

fn assert_same(state: &Value, pristine: &Value, deed: &str) {
    let (state, pristine) = (state.as_object().unwrap(), pristine.as_object().unwrap());
    let changed: Vec<_> = pristine.iter().filter(|(key, value)| state.get(*key) != Some(*value)).collect();
    let now: Vec<_> = changed.iter().map(|(key, _)| state.get(*key)).collect();
    assert!(changed.is_empty() && state.len() == pristine.len(), "{deed}: {changed:?} became {now:?}");
}

/// What the host says of its instances at its end.
#[derive(Debug)]
struct Instances {
    requests: usize,
    started: usize,
    resets: usize,
    discarded: String,
}

impl Instances {
    /// Also holds that it ended well and never found an instance that was not put back rightly.
    fn of(finished: &Finished) -> Self {
        assert_intact(finished);
        let line = finished.stderr.lines().rfind(|line| line.contains(" instances ") && line.contains("resets="));
        let line = line.unwrap_or_else(|| panic!("nothing about instances: {finished:?}"));
        let field = |name: &str| line.split_once(&format!(" {name}=")).map(|(_, rest)| rest).expect("the field");
        let number = |name| field(name).split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        let discarded = field("discarded").trim_matches('"').split('"').next().unwrap_or_default().to_owned();
        Self { requests: number("requests"), started: number("started"), resets: number("resets"), discarded }
    }

    /// How many were given up, and why.
    fn lost(&self) -> HashMap<&str, usize> {
        let causes = self.discarded.split(' ').filter_map(|cause| cause.split_once('='));
        causes.map(|(cause, count)| (cause, count.parse().expect("a number"))).collect()
    }
}

fn assert_intact(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("differs from the snapshot"), "{finished:?}");
}
