//! A client so plain that a test can see every byte.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// One connection. Reads give up after ten seconds.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Fields with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Content, without its framing.
    pub body: Vec<u8>,
    /// Whether the body came to its end as its framing says.
    pub complete: bool,
}

impl Answer {
    /// A field's value, the first if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content as JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the host listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        stream.set_nodelay(true).expect("it is TCP");
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are. A connection that the host has closed already is not an error: what it said can be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// `GET` with nothing but `Host`.
    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// A request with a whole body.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send([head.as_bytes(), body].concat());
        self.answer_to(method)
    }

    /// Reads a response to anything but `HEAD`.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// Reads a response.
    ///
    /// # Panics
    /// If there is none.
    pub fn answer_to(&mut self, method: &str) -> Answer {
        let mut answer = self.head();
        if method == "HEAD" || answer.status == 204 || answer.status == 304 {
            return answer;
        }
        let length = answer.header("content-length").map(|length| length.parse::<u64>().expect("a number"));
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.complete = chunk.is_empty();
                if answer.complete {
                    break;
                }
                answer.body.extend(chunk);
            }
        } else {
            let limit = length.unwrap_or(u64::MAX);
            let read = (&mut self.stream).take(limit).read_to_end(&mut answer.body);
            answer.complete = read.is_ok() && length.is_none_or(|length| answer.body.len() as u64 == length);
        }
        answer
    }

    /// Reads the head of a response, and nothing of its body.
    ///
    /// # Panics
    /// If there is none.
    pub fn head(&mut self) -> Answer {
        let status_line = self.line().expect("a status line");
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Answer { status, headers, body: Vec::new(), complete: true }
    }

    /// Reads one chunk; empty is the last, none an end in the middle.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(self.line()?.split(';').next()?, 16).ok()?;
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).ok()?;
        let mut end = [0; 2];
        self.stream.read_exact(&mut end).ok()?;
        (end == *b"\r\n").then_some(chunk)
    }

    /// Whether the host has closed the connection, with nothing left to read.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Everything until the host closes the connection.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The socket, for what only it can do.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|&count| count > 0)?;
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
