//! Running the real binary.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Answer, Connection, repository};

/// A running `covet-host run`. Dropping it kills the process.
pub struct Host {
    child: Child,
    address: SocketAddr,
    log: Log,
}

/// How a host came up.
pub enum Started {
    /// It listens.
    Listening(Host),
    /// It ended before.
    Ended(Finished),
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error, which has the log.
    pub stderr: String,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

/// Compiling a Python application takes 10 s on two busy cores, and several tests may do it at once.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// For everything else that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// `covet-host`, with none of the caller's own settings.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COVET_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `covet-host` to its end.
///
/// # Panics
/// If it cannot be started, or prints what is not UTF-8.
pub fn run(arguments: &[&str]) -> Finished {
    let output = command().args(arguments).output().expect("the binary starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// The binary beside this test's own, in `target/<profile>/`.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let binary = profile.join("covet-host");
    assert!(binary.exists(), "{} is missing: run `make test`, or cargo build first", binary.display());
    binary
}

impl Host {
    /// Serves a component of `make guests` on a free port.
    ///
    /// # Panics
    /// If it does not come up; the message has its log.
    pub fn run(component: &str, flags: &[&str]) -> Self {
        match Self::try_run(&crate::component(component), flags) {
            Started::Listening(host) => host,
            Started::Ended(finished) => panic!("the host ended at once: {finished:?}"),
        }
    }

    /// The same for any file, where it may well not come up.
    ///
    /// # Panics
    /// If it neither listens nor ends.
    pub fn try_run(file: &Path, flags: &[&str]) -> Started {
        let mut command = command();
        command.arg("run").arg(file).args(["--listen", "127.0.0.1:0"]).args(flags);
        Self::spawn(command)
    }

    /// Starts a prepared command and waits for its ready line.
    ///
    /// # Panics
    /// If it neither listens nor ends.
    pub fn spawn(mut command: Command) -> Started {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = Log::default();
        log.follow(child.stderr.take().expect("piped"));
        let (lines, ready) = mpsc::channel();
        let stdout = child.stdout.take().expect("piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        match ready.recv_timeout(START_TIMEOUT) {
            Ok(line) => {
                let url = line.strip_prefix("listening on http").map(|url| url.trim_start_matches('s'));
                let address = url.and_then(|url| url.strip_prefix("://")).and_then(|address| address.parse().ok());
                let address = address.unwrap_or_else(|| panic!("not a ready line: {line}"));
                Started::Listening(Self { child, address, log })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let code = child.wait().expect("it can be waited for").code();
                thread::sleep(Duration::from_millis(50));
                Started::Ended(Finished { code, stdout: String::new(), stderr: log.text() })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                panic!("no ready line within {START_TIMEOUT:?}; log:\n{}", log.text());
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// `GET` on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.connect().get(path)
    }

    /// `POST` on a connection of its own.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.connect().request("POST", path, &[], body.as_ref())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the log has a text; the log is written by a thread of its own.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn wait_for_log(&self, text: &str) {
        self.wait_until(&format!("{text:?} in the log"), |host| host.log().contains(text));
    }

    /// Waits until something is true.
    ///
    /// # Panics
    /// If it does not become true.
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}; log:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn terminate(&self) {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(process, Signal::TERM).expect("the process runs");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(mut self) -> Finished {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end; log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        };
        // The thread that follows the log reads what is left in the pipe.
        thread::sleep(Duration::from_millis(50));
        Finished { code: status.code(), stdout: String::new(), stderr: self.log() }
    }

    /// SIGTERM, and wait.
    pub fn stop(self) -> Finished {
        self.terminate();
        self.wait()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the host ---\n{}", self.log());
        }
    }
}

impl Log {
    fn follow(&self, mut stream: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                log.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs a command of the repository's own Python environment, or of the system, to its end.
impl Finished {
    /// # Panics
    /// If the program cannot be started.
    pub fn of(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let output = Command::new(program).args(arguments).current_dir(repository()).stdin(Stdio::null()).output();
        let output = output.expect("the program starts");
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
