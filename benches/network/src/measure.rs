//! The measurement: rounds, CPU time, and the table.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime};

use crate::load::{CONNECTIONS, Tool};
use crate::server::Kind;

pub struct Plan {
    rounds: usize,
    seconds: u64,
    tool: Tool,
    record: bool,
}

/// What one server did under one load, round by round.
struct Series {
    kind: Kind,
    cpu_us_per_request: Vec<f64>,
    requests_per_second: Vec<f64>,
}

impl Plan {
    pub fn parse(options: &[&str]) -> Result<Self, String> {
        let mut plan = Self { rounds: 7, seconds: 2, tool: Tool::available(), record: false };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut value = || options.next().ok_or_else(|| format!("{option} needs a value"));
            match *option {
                "--rounds" => plan.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?,
                "--seconds" => plan.seconds = value()?.parse().map_err(|_| "--seconds needs a number")?,
                "--load" => {
                    plan.tool = match *value()? {
                        "wrk" => Tool::Wrk,
                        "own" => Tool::Own,
                        other => return Err(format!("unknown load {other:?}")),
                    }
                }
                "--record" => plan.record = true,
                _ => return Err(format!("unknown option {option:?}")),
            }
        }
        if plan.rounds == 0 || plan.seconds == 0 {
            return Err("--rounds and --seconds must not be 0".to_owned());
        }
        Ok(plan)
    }

    pub fn run(&self) -> Result<(), String> {
        let mut report = self.header();
        for (title, depth) in [("keep-alive", 1), ("pipelined x16", 16)] {
            let series = self.rounds(depth)?;
            let _ = writeln!(report, "\n## {title}, {CONNECTIONS} connections\n\n{}", table(&series));
        }
        println!("{report}");
        if self.record {
            let path = format!("{}/results/{}-{}.md", env!("CARGO_MANIFEST_DIR"), today(), slug(&machine()));
            std::fs::write(&path, report).map_err(|error| format!("{path}: {error}"))?;
            println!("written to {path}");
        }
        Ok(())
    }

    /// wrk on a crowded machine sometimes ends without a single answer, whatever the server: that says nothing, so
    /// the round is repeated, a few times.
    fn measure(&self, kind: Kind, depth: usize) -> Result<(f64, f64), String> {
        let mut result = self.measure_once(kind, depth);
        for _ in 0..2 {
            if let Err(error) = &result {
                eprintln!("{}: again, because: {error}", kind.name());
                result = self.measure_once(kind, depth);
            }
        }
        result
    }

    /// CPU microseconds per request, and requests per second.
    fn measure_once(&self, kind: Kind, depth: usize) -> Result<(f64, f64), String> {
        let server = Server::start(kind)?;
        // A short one first, so that connections, caches and branch predictors are the warm ones.
        self.tool.run(&server.address, depth, 1)?;
        let before = server.cpu_ns()?;
        let start = Instant::now();
        let requests = self.tool.run(&server.address, depth, self.seconds)? as f64;
        let seconds = start.elapsed().as_secs_f64();
        let cpu_us = (server.cpu_ns()? - before) as f64 / 1000.0;
        Ok((cpu_us / requests, requests / seconds))
    }

    fn rounds(&self, depth: usize) -> Result<Vec<Series>, String> {
        let mut series: Vec<Series> = Kind::ALL
            .into_iter()
            .map(|kind| Series { kind, cpu_us_per_request: Vec::new(), requests_per_second: Vec::new() })
            .collect();
        for round in 1..=self.rounds {
            for series in &mut series {
                let (cpu_us, rate) = self.measure(series.kind, depth)?;
                series.cpu_us_per_request.push(cpu_us);
                series.requests_per_second.push(rate);
                eprintln!("round {round}, x{depth}, {}: {cpu_us:.2} us", series.kind.name());
            }
        }
        Ok(series)
    }

    fn header(&self) -> String {
        let tool = if self.tool == Tool::Wrk { "wrk" } else { "the bench's own generator" };
        format!(
            "# hyper's HTTP/1.1 hello: CPU per request\n\n{}, Linux {}, {}. {} interleaved rounds of {} s, load by \
             {tool} on another core. Server on one core; CPU is that of all its threads (schedstat). Load averages \
             before: {}. Above 1 the machine had other work, and only the ratios say something.\n",
            machine(),
            read("/proc/sys/kernel/osrelease"),
            today(),
            self.rounds,
            self.seconds,
            read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        )
    }
}

/// A server in a child process on core 0, killed when this is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(kind: Kind) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(own)
            .args(["server", kind.name()])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("taskset: {error}"))?;
        let mut address = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut address).map_err(|error| error.to_string())?;
        let server = Self { child, address: address.trim().to_owned() };
        if server.address.is_empty() {
            return Err(format!("the server {} did not start", kind.name()));
        }
        Ok(server)
    }

    /// CPU time of all threads so far: the first number of schedstat is nanoseconds on a CPU.
    fn cpu_ns(&self) -> Result<u64, String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut sum = 0;
        for task in std::fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))? {
            let path = task.map_err(|error| error.to_string())?.path().join("schedstat");
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            sum += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn table(series: &[Series]) -> String {
    let rival = median(&series[0].cpu_us_per_request);
    let mut table = String::from(
        "| server | us CPU/request, median | min | requests/s, median | CPU, ratio to tokio-epoll |\n|---|---|---|---|---|\n",
    );
    for series in series {
        let cpu = median(&series.cpu_us_per_request);
        let least = series.cpu_us_per_request.iter().copied().fold(f64::INFINITY, f64::min);
        let rate = median(&series.requests_per_second);
        let _ = writeln!(table, "| {} | {cpu:.2} | {least:.2} | {rate:.0} | {:.2} |", series.kind.name(), cpu / rival);
    }
    table
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn machine() -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    format!("{}, {cores} cores", model.map_or("unknown CPU", |(_, name)| name.trim()))
}

fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Year, month and day in UTC (Howard Hinnant's `civil_from_days`).
fn today() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
