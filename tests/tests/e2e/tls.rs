//! TLS: certificates by name and by file, versions, clients with certificates of their own, and the way there.
#![expect(clippy::disallowed_methods, reason = "these are clients, on a runtime of their own")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use covet_tests::{Connection, Finished, Host, Started, command, component, run};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// What `covet-host dev-cert` makes, and a host that uses it.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        made.make(&["localhost", "127.0.0.1"]);
        made
    }

    /// Makes a certificate for these names, by the same authority.
    fn make(&self, names: &[&str]) -> Finished {
        let folder = self.0.path().to_str().unwrap();
        let finished = run(&[&["dev-cert", "--dir", folder, "--ca-dir", &format!("{folder}/ca")], names].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn flags(&self) -> Vec<String> {
        vec!["--tls-cert".into(), self.path("localhost.pem"), "--tls-key".into(), self.path("localhost.key")]
    }

    fn host(&self, more: &[&str]) -> Host {
        let flags = self.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Host::run("python/probe", &flags)
    }

    fn client(&self) -> ClientConfig {
        client(&self.path("ca/ca.pem"), rustls::DEFAULT_VERSIONS, None)
    }
}

fn client(ca: &str, versions: &[&'static rustls::SupportedProtocolVersion], own: Option<(&str, &str)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    }
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: ClientConfig, name: &str) -> std::io::Result<Secure> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = stream;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// What comes back for a `GET` over HTTP/1.1.
fn get(stream: &mut Secure, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if !text.is_empty() => eprintln!("{error}"),
        Err(error) => return Err(error),
    }
    Ok(text)
}

/// The names that the host's certificate is for.
fn names_at(address: SocketAddr, config: ClientConfig, name: &str) -> std::io::Result<Vec<u8>> {
    let stream = connect(address, config, name)?;
    Ok(stream.conn.peer_certificates().unwrap()[0].to_vec())
}

fn pem(path: impl AsRef<Path>) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

#[test]
fn http1_and_http2_are_served_behind_tls_as_the_client_prefers() {
    let certificates = Certificates::new();
    let host = certificates.host(&[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = client(&certificates.path("ca/ca.pem"), &[version], None);
        let mut stream = connect(host.address(), config, "localhost").unwrap();
        let answer = get(&mut stream, "/params/42/x").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"a":42,"b":"x"}"#), "{answer}");
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
    }
    let mut config = certificates.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(host.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("https://localhost/headers").body(()).unwrap();
        let mut client: h2::client::SendRequest<bytes::Bytes> = client.ready().await.unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
    let url = format!("https://localhost:{}/params/42/x", host.address().port());
    let resolve = format!("localhost:{}:127.0.0.1", host.address().port());
    let curl = Finished::of(
        "curl",
        [
            "--silent",
            "--cacert",
            &certificates.path("ca/ca.pem"),
            "--resolve",
            &resolve,
            "--write-out",
            " %{http_version}",
            &url,
        ],
    );
    assert_eq!(curl.stdout, r#"{"a":42,"b":"x"} 2"#, "{curl:?}");
}

#[test]
fn what_is_no_tls_is_turned_away_and_a_handshake_has_its_time() {
    let certificates = Certificates::new();
    let host = certificates.host(&["--handshake-timeout", "1s", "--tls-min-version", "1.3"]);
    let mut plain = TcpStream::connect(host.address()).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    let began = Instant::now();
    let mut silent = TcpStream::connect(host.address()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The beginning of a handshake and no more.
    silent.write_all(&[0x16, 3, 1]).unwrap();
    let _ = silent.read_to_end(&mut Vec::new());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let old = client(&certificates.path("ca/ca.pem"), &[&rustls::version::TLS12], None);
    assert!(connect(host.address(), old, "localhost").is_err(), "TLS 1.2 is refused");
    assert!(connect(host.address(), certificates.client(), "localhost").is_ok());
}

#[test]
fn a_certificate_is_chosen_by_name_and_read_again_when_it_changes() {
    let certificates = Certificates::new();
    certificates.make(&["other.test"]);
    let (cert, key) = (certificates.path("other.test.pem"), certificates.path("other.test.key"));
    let host = certificates.host(&["--tls-cert", &cert, "--tls-key", &key]);
    let first = pem(certificates.path("localhost.pem"));
    assert_eq!(names_at(host.address(), certificates.client(), "other.test").unwrap(), pem(&cert));
    assert_eq!(names_at(host.address(), certificates.client(), "localhost").unwrap(), first);
    assert!(
        names_at(host.address(), certificates.client(), "third.test").is_err(),
        "the client sees the first, and wants another"
    );

    let mut open = connect(host.address(), certificates.client(), "localhost").unwrap();
    certificates.make(&["localhost", "127.0.0.1"]);
    host.wait_for_log("were read again");
    let second = names_at(host.address(), certificates.client(), "localhost").unwrap();
    assert!(second != first && second == pem(certificates.path("localhost.pem")));
    assert!(get(&mut open, "/params/1/x").unwrap().starts_with("HTTP/1.1 200"), "open connections go on");

    fs::write(certificates.path("localhost.pem"), "half a file").unwrap();
    host.wait_for_log("the old ones stay");
    assert_eq!(names_at(host.address(), certificates.client(), "localhost").unwrap(), second);
}

#[test]
fn clients_can_be_asked_for_certificates_and_the_application_sees_whose_they_are() {
    let certificates = Certificates::new();
    certificates.make(&["client.test"]);
    let stranger = Certificates::new();
    let ca = certificates.path("ca/ca.pem");
    let own = (&*certificates.path("client.test.pem"), &*certificates.path("client.test.key"));
    let strange = (&*stranger.path("localhost.pem"), &*stranger.path("localhost.key"));
    let ask = |host: &Host, own| {
        let config = client(&ca, rustls::DEFAULT_VERSIONS, own);
        // In TLS 1.3 a client learns with the first answer whether its certificate was good.
        connect(host.address(), config, "localhost").and_then(|mut stream| get(&mut stream, "/headers"))
    };
    let required = certificates.host(&["--tls-client-ca", &ca]);
    let answer = ask(&required, Some(own)).unwrap();
    assert!(answer.contains("covet-client-subject") && answer.contains("CN=client.test"), "{answer}");
    assert!(ask(&required, None).is_err());
    assert!(ask(&required, Some(strange)).is_err());
    let optional = certificates.host(&["--tls-client-ca", &ca, "--tls-client-auth", "optional"]);
    assert!(ask(&optional, Some(own)).unwrap().contains("CN=client.test"));
    assert!(!ask(&optional, None).unwrap().contains("covet-client-subject"));
    assert!(ask(&optional, Some(strange)).is_err());
}

#[test]
fn a_plain_port_leads_to_the_secure_one() {
    let certificates = Certificates::new();
    let mut command = command();
    command.arg("run").arg(component("python/probe")).args(["--listen", "127.0.0.1:0"]).args(certificates.flags());
    // A port that is free now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    command.args(["--http-redirect", &free.to_string()]);
    let Started::Listening(host) = Host::spawn(command) else { panic!("it ended") };
    let mut connection = Connection::open(free);
    connection.send("GET /a?b=%20 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let answer = connection.answer();
    assert_eq!(answer.status, 308);
    let expected = format!("https://localhost:{}/a?b=%20", host.address().port());
    assert_eq!(answer.header("location"), Some(&*expected));
    assert_eq!(host.stop().code, Some(0));
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_at_once() {
    let certificates = Certificates::new();
    let missing = PathBuf::from(certificates.path("missing.pem"));
    let path = missing.to_str().unwrap();
    let key = certificates.path("localhost.key");
    for (flags, reason) in [
        (vec!["--tls-cert", path, "--tls-key", &key], "cannot be read"),
        (vec!["--tls-cert", &key, "--tls-key", &key], "no certificate"),
        (vec!["--tls-cert", path, "--tls-cert", path, "--tls-key", &key], "2 certificates and 1 keys"),
        (vec!["--tls-cert", path], "--tls-key"),
    ] {
        let Started::Ended(finished) = Host::try_run(&component("python/probe"), &flags) else { panic!("{flags:?}") };
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(reason), "{reason}: {finished:?}");
    }
    let refused = run(&["dev-cert", "--dir", "/proc/nowhere", "--ca-dir", &certificates.path("ca")]);
    assert!(refused.code == Some(2) && refused.stderr.contains("/proc/nowhere"), "{refused:?}");
}

#[test]
fn a_secure_connection_that_is_idle_or_slow_is_closed_too() {
    let certificates = Certificates::new();
    let host = certificates.host(&["--idle-timeout", "1s", "--head-timeout", "1s"]);
    for start in ["", "GET / HT"] {
        let mut stream = connect(host.address(), certificates.client(), "localhost").unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        let began = Instant::now();
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(began.elapsed() < Duration::from_secs(6), "{start:?}: {:?}", began.elapsed());
    }
    thread::sleep(Duration::from_millis(10));
    assert_eq!(host.stop().code, Some(0));
}
