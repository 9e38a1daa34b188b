//! The binary under test as a process: started, signalled, asked over HTTP.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How often a state that is waited for is looked at.
const PACE: Duration = Duration::from_millis(50);
/// For one HTTP request.
const ANSWER: Duration = Duration::from_secs(5);

/// Looks again and again until it is so.
pub async fn until(what: &str, patience: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < patience, "after {patience:?} still waiting: {what}");
        sleep(PACE).await; // the pace of asking
    }
}

/// A process with its standard error in a file. Dropped, it is killed.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the binary. What it says is added to the log.
    pub fn start(mut command: Command, log: PathBuf) -> Process {
        let file = OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        Process { child: child.expect("the binary starts"), log }
    }

    /// `TERM`, `STOP` or `CONT`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "kill -{signal} {pid}");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it lived");
        self.child.wait().expect("it died");
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    pub async fn end(&mut self, what: &str, patience: Duration) -> ExitStatus {
        until(what, patience, async || self.has_ended().is_some()).await;
        self.has_ended().expect("just seen")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the binary to its end and returns its status, standard output and standard error.
pub async fn run(mut command: Command, patience: Duration) -> (ExitStatus, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let create = |name: &str| File::create(folder.path().join(name)).expect("a file");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a file");
    let child = command.stdin(Stdio::null()).stdout(create("out")).stderr(create("err")).spawn();
    let mut process = Process { child: child.expect("the binary starts"), log: PathBuf::new() };
    let status = process.end(&format!("{command:?} ends"), patience).await;
    (status, read("out"), read("err"))
}

/// A port that nobody has, below those that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = 10_000 + u16::try_from(std::process::id() % 8_000).expect("small");
    loop {
        let port = from + NEXT.fetch_add(1, Ordering::Relaxed) % 1_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Status and body, or `None` when nobody answers.
pub async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    timeout(ANSWER, ask).await.ok().flatten()
}
