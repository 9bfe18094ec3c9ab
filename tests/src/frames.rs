//! HTTP/2 by hand: frames as bytes, for what no client library sends.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A connection that has sent the preface and settings. Reads give up after ten seconds.
pub struct Frames {
    stream: TcpStream,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type, see the constants here.
    pub kind: u8,
    /// What they mean depends on the type.
    pub flags: u8,
    /// Zero for the connection.
    pub stream: u32,
    /// The rest.
    pub payload: Vec<u8>,
}

/// Types of frames (RFC 9113 section 6).
pub const DATA: u8 = 0;
/// The head of a message.
pub const HEADERS: u8 = 1;
/// The end of a stream.
pub const RST_STREAM: u8 = 3;
/// What the other side has to keep to.
pub const SETTINGS: u8 = 4;
/// To be answered.
pub const PING: u8 = 6;
/// The end of the connection.
pub const GOAWAY: u8 = 7;
/// More room.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a head.
pub const CONTINUATION: u8 = 9;

/// Flag of `DATA` and `HEADERS`.
pub const END_STREAM: u8 = 1;
/// Flag of `SETTINGS` and `PING`.
pub const ACK: u8 = 1;
/// Flag of `HEADERS` and `CONTINUATION`.
pub const END_HEADERS: u8 = 4;

/// Error code (RFC 9113 section 7).
pub const ENHANCE_YOUR_CALM: u32 = 11;

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame is short").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// A number in the payload, an error code for example.
    pub fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }
}

/// A head without compression: each field literal, and not indexed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(0, name, value)).collect()
}

/// The fields of a `GET`.
pub fn get(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")])
}

/// A field with a new name (RFC 7541 section 6.2); `pattern` 0x40 puts it into the table.
pub fn field(pattern: u8, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![pattern];
    for text in [name, value] {
        bytes.extend(length(text.len()));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

impl Frames {
    /// Connects, and sends the preface with these settings.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).expect("the host listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        stream.set_nodelay(true).expect("it is TCP");
        let mut frames = Self { stream };
        frames.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let pair = |&(name, value): &(u16, u32)| [name.to_be_bytes().to_vec(), value.to_be_bytes().to_vec()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(pair).collect();
        frames.send(&Frame::new(SETTINGS, 0, 0, payload));
        frames
    }

    /// Sends a frame. Returns whether the host still takes something.
    pub fn send(&mut self, frame: &Frame) -> bool {
        self.send_bytes(&frame.bytes())
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; none at the end of the connection or after ten seconds of silence. Pings are answered.
    pub fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        if kind == PING && flags & ACK == 0 {
            self.send(&Frame::new(PING, ACK, 0, payload.clone()));
        }
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Reads until there is such a frame.
    pub fn wait_for(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.receive()?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Whether the host answers a ping within ten seconds.
    pub fn is_alive(&mut self) -> bool {
        self.send(&Frame::new(PING, 0, 0, *b"testping"));
        loop {
            match self.receive() {
                Some(frame) if frame.kind == PING && frame.payload == b"testping" => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }
}
