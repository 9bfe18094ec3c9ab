//! The load: 64 connections, each sending its next requests when the answers to the last ones are there. wrk does it,
//! or the generator below, as a child process like wrk.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const CONNECTIONS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Wrk,
    Own,
}

impl Tool {
    /// wrk if it is installed.
    pub fn available() -> Self {
        let wrk = Command::new("wrk").arg("--version").output();
        if wrk.is_ok() { Self::Wrk } else { Self::Own }
    }

    /// Loads the server from core 1, with `depth` requests at a time on each connection. How many were answered.
    pub fn run(self, address: &str, depth: usize, seconds: u64) -> Result<u64, String> {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]);
        match self {
            Self::Wrk => {
                let script = std::env::temp_dir().join(format!("covet-bench-{}.lua", std::process::id()));
                std::fs::write(&script, PIPELINE).map_err(|error| error.to_string())?;
                command.args(["wrk", "-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"]);
                command.arg(script).arg(format!("http://{address}/")).args(["--", &depth.to_string()]);
            }
            Self::Own => {
                let own = std::env::current_exe().map_err(|error| error.to_string())?;
                command.arg(own).args(["load", address, &depth.to_string(), &seconds.to_string()]);
            }
        }
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("Socket errors") || text.contains("Non-2xx") {
            return Err(format!("the load met errors:\n{text}"));
        }
        let line = text.lines().find(|line| line.contains(" requests in "));
        // None at all means that something else had the core all the time.
        let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).filter(|count| *count > 0);
        count
            .ok_or_else(|| format!("no count in the load's output:\n{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

const PIPELINE: &str = "\
init = function(args)
  local depth = tonumber(args[1]) or 1
  local one = wrk.format('GET', '/')
  all = string.rep(one, depth)
end
request = function() return all end
";

/// The generator for machines without wrk. Prints what wrk prints.
pub fn generate(address: &str, depth: &str, seconds: &str) -> Result<(), String> {
    let depth: usize = depth.parse().map_err(|_| "the depth is no number")?;
    let seconds: u64 = seconds.parse().map_err(|_| "the seconds are no number")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| error.to_string())?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let answered = runtime.block_on(async {
        let tasks: Vec<_> =
            (0..CONNECTIONS).map(|_| tokio::task::spawn_local(client(address.to_owned(), depth, end))).collect();
        let mut answered = 0;
        for task in tasks {
            answered += task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        }
        Ok::<u64, String>(answered)
    })?;
    println!("  {answered} requests in {seconds}s");
    Ok(())
}

async fn client(address: String, depth: usize, end: Instant) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let requests = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(depth);
    let mut answers = vec![0; 64 * 1024];
    // All answers are alike; the first tells their length.
    stream.write_all(&requests.as_bytes()[..requests.len() / depth]).await?;
    let length = stream.read(&mut answers).await?;
    let mut answered = 1;
    while Instant::now() < end {
        stream.write_all(requests.as_bytes()).await?;
        let mut left = length * depth;
        while left > 0 {
            match stream.read(&mut answers).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => left -= read,
            }
        }
        answered += depth as u64;
    }
    Ok(answered)
}
