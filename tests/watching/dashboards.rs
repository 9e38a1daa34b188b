//! Dashboards are what the code makes of the definitions, and what Grafana takes.

use std::path::Path;
use std::process::{Command, Stdio};

use makegood::catalog;
use makegood::saga::Definition;
use makegood::telemetry::dashboards::{Dashboard, of_definition, of_every_worker};
use serde_json::Value;

use crate::{names, project, read};

fn definitions() -> Vec<Definition> {
    let load = |name: String| {
        let path = format!("sagas/{name}");
        catalog::load(&path, &read(&path)).expect("it ships").definition
    };
    names("sagas", ".toml").into_iter().map(load).collect()
}

fn all() -> Vec<Dashboard> {
    let of_definitions = definitions();
    of_every_worker().into_iter().chain(of_definitions.iter().map(of_definition)).collect()
}

pub fn they_are_as_they_are_made() {
    let mut made: Vec<String> = Vec::new();
    for (name, dashboard) in all() {
        let committed = read(&format!("grafana/{name}"));
        let again = "make it again: makegood dashboards grafana sagas/*.toml";
        assert!(committed == format!("{dashboard:#}\n"), "grafana/{name} is another; {again}");
        made.push(name);
    }
    made.sort();
    assert_eq!(names("grafana", ".json"), made, "a dashboard that nobody makes");
}

/// Whoever adds a definition makes its dashboard; one that is flawed makes none.
pub fn the_verb_writes_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |definition: &Path| {
        Command::new(env!("CARGO_BIN_EXE_makegood"))
            .args([Path::new("dashboards"), &folder.path().join("made"), definition])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts")
    };
    let made = write(&project("sagas/order-fulfilment.toml"));
    assert!(made.status.success(), "{made:?}");
    for name in ["overview.json", "saga-order-fulfilment.json"] {
        let said = String::from_utf8_lossy(&made.stdout);
        assert!(said.contains(name), "{said}");
        let written = std::fs::read_to_string(folder.path().join("made").join(name));
        assert_eq!(written.expect("a dashboard"), read(&format!("grafana/{name}")));
    }
    let flawed = folder.path().join("flawed.toml");
    std::fs::write(&flawed, "name = \"flawed\"\n").expect("written");
    assert_eq!(write(&flawed).status.code(), Some(1), "a finding");
    assert_eq!(write(Path::new("nowhere.toml")).status.code(), Some(2), "a wrong name");
}

/// The row of each step is there, and asks about that step.
pub fn no_step_is_forgotten() {
    for definition in definitions() {
        let (_, dashboard) = of_definition(&definition);
        let panels = dashboard["panels"].as_array().expect("panels");
        let mut rows = 0;
        for step in definition.steps() {
            let is_row = |panel: &&Value| panel["type"] == "row";
            let title = |panel: &Value| panel["title"].as_str().unwrap_or_default().to_owned();
            let row = panels.iter().position(|panel| {
                is_row(&panel) && title(panel).split([':', ' ']).next() == Some(step.name.as_str())
            });
            let row = row.unwrap_or_else(|| panic!("{} has no row", step.name));
            let inside: Vec<String> = panels[row + 1..]
                .iter()
                .take_while(|panel| panel["type"] != "row")
                .flat_map(|panel| panel["targets"].as_array().expect("targets"))
                .map(|target| target["expr"].as_str().expect("an expression").to_owned())
                .collect();
            assert!(inside.len() >= 2, "{}: {inside:?}", step.name);
            let label = format!("step=\"{}\"", step.name);
            assert!(inside.iter().all(|query| query.contains(&label)), "{inside:?}");
            rows += 1;
        }
        assert_eq!(panels.iter().filter(|panel| panel["type"] == "row").count(), rows);
    }
}

pub fn panels_do_not_overlap() {
    for (name, dashboard) in all() {
        let mut taken = std::collections::BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let of = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(of("x") + of("w") <= 24, "{name}: {panel}");
            for x in of("x")..of("x") + of("w") {
                for y in of("y")..of("y") + of("h") {
                    assert!(taken.insert((x, y)), "{name}: two panels at {x}, {y}: {panel}");
                }
            }
        }
    }
}

/// Each dashboard is a `Dashboard` to TypeScript, and one with a number missing is none.
pub fn they_are_of_grafanas_types() -> Result<(), String> {
    let services = std::env::var_os("MAKEGOOD_TEST_SERVICES")
        .ok_or("MAKEGOOD_TEST_SERVICES names no folder with scripts; tests/run does")?;
    let found = Command::new(Path::new(&services).join("node.sh"))
        .arg("path")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !found.status.success() {
        return Err(format!("node.sh: {}", String::from_utf8_lossy(&found.stderr).trim()));
    }
    let packages = std::path::PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let folder = tempfile::tempdir_in(&packages).expect("a folder beside the packages");
    for (name, dashboard) in all() {
        write(folder.path(), &name, &dashboard);
    }
    let good = check(&packages, folder.path());
    assert!(good.is_ok(), "{good:?}");
    let (name, mut broken) = of_every_worker().into_iter().next().expect("one");
    broken["panels"][0]["gridPos"]["x"] = Value::from("zero");
    write(folder.path(), &name, &broken);
    let refused = check(&packages, folder.path()).expect_err("a position that is no number");
    assert!(refused.contains("TS2322"), "{refused}");
    Ok(())
}

/// What JSON can say of a type: an enumeration is one of its values.
const PLAIN: &str = "type Plain<T> = T extends string ? `${T}` : \
                     T extends (infer U)[] ? Plain<U>[] : \
                     T extends object ? { [K in keyof T]: Plain<T[K]> } : T;";

fn write(folder: &Path, name: &str, dashboard: &Value) {
    let program = format!(
        "import type {{ Dashboard }} from '@grafana/schema';\n{PLAIN}\n\
         export const dashboard = ({dashboard:#}) satisfies Plain<Partial<Dashboard>>;\n"
    );
    std::fs::write(folder.join(name).with_extension("ts"), program).expect("written");
}

fn check(packages: &Path, folder: &Path) -> Result<(), String> {
    let files = std::fs::read_dir(folder).expect("a folder");
    let files = files.map(|file| file.expect("readable").path());
    let output = Command::new("node")
        .arg(packages.join("node_modules/typescript/bin/tsc"))
        .args(["--strict", "--noEmit", "--skipLibCheck", "--module", "esnext"])
        .args(["--moduleResolution", "bundler", "--target", "es2022"])
        .args(files)
        .current_dir(project("."))
        .stdin(Stdio::null())
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}
