//! Services: instances of PostgreSQL, RabbitMQ, Kafka and Prometheus, by the project's own scripts.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock};

/// The folder with the scripts, or why no case can run.
pub fn scripts() -> Result<PathBuf, String> {
    match env::var_os("MAKEGOOD_TEST_SERVICES") {
        Some(folder) => Ok(folder.into()),
        None => Err("MAKEGOOD_TEST_SERVICES names no folder with scripts; tests/run does".into()),
    }
}

/// Where services, logs and ledgers are.
pub fn data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| match env::var_os("MAKEGOOD_TEST_DATA") {
        Some(folder) => std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.into()),
        None => {
            // Kept: it holds the logs. Its name is short because socket paths are.
            let folder = tempfile::Builder::new().prefix("makegood.").tempdir().expect("a folder");
            let folder = folder.keep();
            let others = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&folder, others).expect("the services' accounts get in");
            eprintln!("services and logs: {}", folder.display());
            folder
        }
    })
}

/// A running service. Dropped, it is stopped.
pub struct Instance {
    service: &'static str,
    name: String,
    values: BTreeMap<String, String>,
}

impl Instance {
    pub async fn start(service: &'static str, name: &str, arguments: &[&str]) -> Instance {
        Instance::begin(service, "start", name, arguments).await
    }

    /// Several that are one to those who use them: see [`Instance::tell_member`].
    #[cfg(feature = "kafka")]
    pub async fn cluster(service: &'static str, name: &str) -> Instance {
        Instance::begin(service, "cluster", name, &[]).await
    }

    async fn begin(service: &'static str, verb: &str, name: &str, arguments: &[&str]) -> Instance {
        let mut all = vec![verb, name];
        all.extend(arguments);
        let printed = script(service, &all).await;
        let pair = |line: &str| Some(line.split_once('=')?).map(|(k, v)| (k.into(), v.into()));
        let values = printed.lines().filter_map(pair).collect();
        Instance { service, name: name.to_owned(), values }
    }

    /// `rabbitmq`, `postgres`, …
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// One of the values that the start printed, without `MAKEGOOD_TEST_`.
    pub fn value(&self, key: &str) -> &str {
        &self.values[&format!("MAKEGOOD_TEST_{key}")]
    }

    /// `start` again, `stop`, `kill`, `freeze`, `thaw`, or a verb with arguments. Returns what
    /// it printed.
    pub async fn tell(&self, verb: &str, arguments: &[&str]) -> String {
        let mut all = vec![verb, self.name.as_str()];
        all.extend(arguments);
        script(self.service, &all).await
    }

    /// A verb for one of a cluster. They are numbered from 1.
    #[cfg(feature = "kafka")]
    pub async fn tell_member(&self, number: i32, verb: &str) {
        script(self.service, &[verb, &format!("{}-{number}", self.name)]).await;
    }

    pub fn folder(&self) -> PathBuf {
        data().join(format!("{}-{}", self.service, self.name))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = run(self.service, &["stop", &self.name]);
    }
}

/// The instances that cases share which do not disturb them.
static SHARED: RwLock<BTreeMap<&'static str, &'static Instance>> = RwLock::new(BTreeMap::new());

/// The shared instance of a service, started by the first who asks.
pub fn shared(service: &'static str) -> &'static Instance {
    if let Some(instance) = SHARED.read().unwrap_or_else(PoisonError::into_inner).get(service) {
        return instance;
    }
    let mut all = SHARED.write().unwrap_or_else(PoisonError::into_inner);
    all.entry(service).or_insert_with(|| {
        let started = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(Instance::start(service, "e2e", &[]))
        });
        Box::leak(Box::new(started.join().expect("it starts")))
    })
}

/// After all cases.
pub fn stop_shared() {
    for service in SHARED.read().unwrap_or_else(PoisonError::into_inner).keys() {
        let _ = run(service, &["stop", "e2e"]);
    }
}

async fn script(service: &'static str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(service, &arguments)
    });
    ran.await.expect("it ran").unwrap_or_else(|error| panic!("{error}"))
}

fn run(service: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(scripts()?.join(format!("{service}.sh")))
        .args(arguments)
        .env("MAKEGOOD_TEST_DATA", data())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{service}.sh: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{service}.sh {}: {}: {said}", arguments.join(" "), output.status))
}
