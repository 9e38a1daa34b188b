//! The `makegood` binary as a user runs it: in a folder of its own, without any configuration
//! of this machine, never longer than it may take, and never left behind.
#![allow(dead_code)] // each suite has its own copy, and uses a part of it

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest that any run may take: the real orders in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_secs(420);
/// Between two looks at whether a run has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A folder for one case; gone with it.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Place {
        Place(TempDir::new().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("written");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A file of orders, one a line.
    pub fn orders(&self, name: &str, orders: &[Value]) {
        self.write(name, lines(orders));
    }

    /// The lines of a JSON file of one object a line.
    pub fn objects(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The ledgers of the default data folder, in one text.
    pub fn ledgers(&self) -> String {
        let folder = self.path(".makegood/ledgers");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .expect("ledgers")
            .map(|entry| entry.expect("a ledger").path())
            .collect();
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).expect("a ledger")).collect()
    }

    /// Runs to the end.
    pub fn makegood(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// Runs to the end with something on standard input.
    pub fn makegood_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut running = self.start(arguments);
        running.say(input);
        running.end()
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, &[])
    }

    pub fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::piped());
        Running::start(command, arguments)
    }

    /// Runs to the end with a standard output that nobody reads any more.
    pub fn unheard(&self, arguments: &[&str]) -> Ended {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = self.command(arguments);
        command.stdout(writer);
        Running::start(command, arguments).end()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_makegood"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MAKEGOOD_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::piped());
        command.stderr(Stdio::piped());
        command
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8(bytes).expect("the output is UTF-8")
    })
}

/// A run that has begun. Dropped, it is killed.
pub struct Running {
    child: Child,
    arguments: String,
    output: Option<(JoinHandle<String>, JoinHandle<String>)>,
}

impl Running {
    fn start(mut command: Command, arguments: &[&str]) -> Running {
        let mut child = command.spawn().expect("the binary is there");
        let stdout = match child.stdout.take() {
            Some(pipe) => drain(pipe),
            None => std::thread::spawn(String::new),
        };
        let stderr = drain(child.stderr.take().expect("piped"));
        Running { child, arguments: arguments.join(" "), output: Some((stdout, stderr)) }
    }

    fn say(&mut self, input: &str) {
        let mut pipe = self.child.stdin.take().expect("piped");
        // A run that refuses its arguments ends without reading.
        let _ = pipe.write_all(input.as_bytes());
    }

    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// SIGKILL, as a crash or the kernel would.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    pub fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            let arguments = &self.arguments;
            assert!(began.elapsed() < LONGEST, "makegood {arguments} ran for {LONGEST:?}");
            std::thread::sleep(LOOK);
        };
        let (stdout, stderr) = self.output.take().expect("taken only here");
        Ended {
            arguments: self.arguments.clone(),
            status: status.code(),
            stdout: stdout.join().expect("read"),
            stderr: stderr.join().expect("read"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    arguments: String,
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn exits(self, status: i32) -> Ended {
        let Ended { arguments, stdout, stderr, .. } = &self;
        let said = format!("makegood {arguments}\n{stdout}\n{stderr}");
        assert_eq!(self.status, Some(status), "{said}");
        self
    }

    /// The one JSON document on standard output.
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("{error} in: {}", self.stdout))
    }

    /// Fails unless all of these words are on standard output.
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stdout.contains(word), "'{word}' is missing in: {}", self.stdout);
        }
    }

    /// Fails unless all of these words are on standard error.
    pub fn complains(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is missing in: {}", self.stderr);
        }
    }
}

/// A scripted order of two lines.
pub fn order(order_id: &str, script: &Value) -> Value {
    json!({
        "order": {
            "order_id": order_id, "tenant_id": "acme", "placed_at": "2026-03-02T09:00:00Z",
            "currency": "EUR", "loan": { "loan_id": format!("L-{order_id}"), "amount_minor": 7_200 },
            "lines": [
                { "line_id": "1", "sku": "A-1", "quantity": 1, "unit_price_minor": 5_000 },
                { "line_id": "2", "sku": "B-2", "quantity": 2, "unit_price_minor": 1_100 },
            ],
            "ship_to": { "postal_code": "10115", "city": "Berlin", "region": "BE", "country": "DE" },
        },
        "script": script,
    })
}

pub fn lines(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("{object}\n")).collect()
}

/// A line of a report, or an order of a list, by its id.
pub fn of<'a>(objects: &'a [Value], order_id: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["order_id"] == order_id);
    found.unwrap_or_else(|| panic!("order {order_id} is not in the list"))
}
