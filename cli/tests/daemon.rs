//! The daemon as clients see it, over a socket and a data root of its own.

#![expect(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running daemon; killed and collected at the end of the test.
struct Daemon {
    process: Child,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let socket = at("husk.sock");
        let mut process = Command::new(env!("CARGO_BIN_EXE_husk"))
            .args(["daemon", "--ready-fd", "1", "--log-level", "warn", "--host"])
            .arg(format!("unix://{}", socket.display()))
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .env_remove("HUSK_CONFIG")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        let announced = process.stdout.take().unwrap().read(&mut ready).unwrap();
        assert_eq!(announced, 1, "the daemon died before it was ready");
        Self { process, socket, _directory: directory }
    }

    /// Sends a request without body and reads the whole answer.
    fn ask(&self, method: &str, path: &str) -> (u16, Vec<String>, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_ascii_lowercase());
        }
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = String::new();
        reader.read_to_string(&mut body).unwrap();
        (status, head, body)
    }

    fn stop(mut self) -> PathBuf {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
        self.socket.clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail if the test has stopped it already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn ping_says_what_clients_negotiate_with() {
    let daemon = Daemon::start();
    for method in ["GET", "HEAD"] {
        let (status, head, body) = daemon.ask(method, "/_ping");
        assert_eq!((status, body.as_str()), (200, if method == "GET" { "OK" } else { "" }));
        for header in ["api-version: 1.51", "ostype: linux", "swarm: inactive"] {
            assert!(head.iter().any(|line| line == header), "{header} in {head:?}");
        }
    }
}

#[test]
fn errors_are_json_with_dockers_status() {
    let daemon = Daemon::start();
    for (method, path, status, message) in [
        ("GET", "/nonsense", 404, "page not found"),
        ("GET", "/v1.99/info", 400, "Maximum supported API version is 1.51"),
        ("GET", "/v1.12/info", 400, "Minimum supported API version is 1.24"),
        ("POST", "/v1.51/containers/x/pause", 501, "pausing containers: not supported yet by husk"),
        ("GET", "/services", 503, "not a swarm manager"),
        ("GET", "/containers/nope/json", 404, "No such container: nope"),
        ("POST", "/containers/nope/wait?condition=later", 400, "invalid condition"),
        ("GET", "/containers/json?filters=x", 400, "invalid filter"),
        ("POST", "/containers/create", 400, "invalid JSON"),
    ] {
        let (got, head, body) = daemon.ask(method, path);
        assert_eq!(got, status, "{path}: {body}");
        assert!(head.iter().any(|line| line == "content-type: application/json"), "{head:?}");
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        let text = document["message"].as_str().unwrap();
        assert!(text.contains(message), "{path}: {text}");
    }
}

#[test]
fn a_head_that_is_too_large_ends_the_connection_and_nothing_else() {
    let daemon = Daemon::start();
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    let long = "a".repeat(1 << 20);
    // The daemon may close while we still write.
    let _ = write!(stream, "GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    assert_eq!(daemon.ask("GET", "/_ping").0, 200);
}

#[test]
fn sigterm_removes_the_socket() {
    let daemon = Daemon::start();
    assert!(!daemon.stop().exists());
}

#[test]
fn the_stock_client_gets_on_with_it() {
    let Some(docker) = find_docker() else {
        eprintln!("skipped: no docker client on the search path");
        return;
    };
    let daemon = Daemon::start();
    let run = |arguments: &[&str]| {
        let output = Command::new(&docker)
            .env("DOCKER_HOST", format!("unix://{}", daemon.socket.display()))
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (ok, version, stderr) = run(&["version", "--format", "{{.Server.APIVersion}}"]);
    assert!(ok && version.trim() == "1.51", "{version} {stderr}");
    let (ok, _, stderr) = run(&["info", "--format", "{{.ServerVersion}}"]);
    assert!(ok, "{stderr}");
    let (ok, _, stderr) = run(&["ps", "-a"]);
    assert!(ok, "{stderr}");
    let (ok, _, stderr) = run(&["images"]);
    assert!(ok, "{stderr}");
    let (ok, _, stderr) = run(&["inspect", "--type", "container", "nope"]);
    assert!(!ok && stderr.contains("No such container: nope"), "{stderr}");
    let (ok, _, stderr) = run(&["network", "ls"]);
    assert!(!ok && stderr.contains("networks: not supported yet by husk"), "{stderr}");
}

/// Finds `docker` on the search path.
fn find_docker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory: PathBuf| directory.join("docker"))
        .find(|path: &PathBuf| Path::is_file(path))
}
