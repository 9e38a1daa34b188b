//! The house rules, as tests. Each message says where, and what to do instead.
//!
//! A rule lives in one of the files beside this one, as a function from texts to findings, with
//! samples that it must refuse: a rule that cannot fail is none. Nothing here tests behaviour.

mod dependencies;
mod image;
mod rooms;
mod rust;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project, its path relative to the project's root.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

#[test]
fn rooms_import_in_one_direction() {
    refuse(rust_files().iter().flat_map(rooms::imports));
}

#[test]
fn every_folder_in_src_is_a_room_of_the_design() {
    refuse(rust_files().iter().flat_map(rooms::known));
}

#[test]
fn the_core_is_pure() {
    refuse(rust_files().iter().flat_map(rooms::purity));
}

#[test]
fn each_outside_library_stays_in_its_room() {
    refuse(rust_files().iter().flat_map(rooms::libraries));
}

#[test]
fn metric_names_live_in_telemetry() {
    refuse(rust_files().iter().flat_map(rooms::metric_names));
    refuse(rooms::repeated_metrics(&rust_files()));
}

#[test]
fn dashboards_alerts_and_runbooks_name_metrics_that_exist() {
    let files = rust_files();
    for folder in ["grafana/", "alerts/", "docs/runbooks/"] {
        let ours: Vec<File> =
            project().into_iter().filter(|file| file.path.starts_with(folder)).collect();
        assert!(!ours.is_empty(), "there is nothing in {folder}");
        refuse(ours.iter().flat_map(|file| rooms::unknown_metrics(file, &files)));
    }
}

#[test]
fn every_file_opens_with_what_lives_in_it() {
    refuse(rust_files().iter().flat_map(texts::opening));
}

#[test]
fn no_file_outgrows_one_thing_with_one_name() {
    refuse(rust_files().iter().flat_map(texts::length));
}

#[test]
fn file_names_come_from_the_field() {
    refuse(project().iter().flat_map(texts::name));
}

#[test]
fn nothing_is_left_for_later() {
    refuse(project().iter().flat_map(texts::unfinished));
}

#[test]
fn no_path_of_somebodys_machine() {
    refuse(project().iter().flat_map(texts::private_paths));
}

#[test]
fn every_rust_file_is_compiled() {
    refuse(rust::orphans(&rust_files()));
}

#[test]
fn every_dependency_has_its_reason_in_the_readme() {
    refuse(dependencies::explained(&read("Cargo.toml"), &read("README.md")));
}

#[test]
fn the_image_can_be_built_without_the_tests() {
    refuse(image::tests_have_paths(&read("Cargo.toml")));
    let dockerignore = read(".dockerignore");
    refuse(
        rust_files().iter().flat_map(|file| image::includes_are_let_through(file, &dockerignore)),
    );
}

fn refuse(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files() -> Vec<File> {
    let files: Vec<File> = project().into_iter().filter(File::is_rust).collect();
    assert!(files.len() > 20, "the walk through the project found only {} files", files.len());
    files
}

/// Every text file of the project, but what is built, downloaded or generated, and what git
/// ignores: a configuration with somebody's paths and passwords is no part of it.
fn project() -> Vec<File> {
    let mut files = Vec::new();
    let gitignore = read(".gitignore");
    let ignored = ignored(&gitignore);
    walk(&root(), &ignored, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The names that `.gitignore` ends its lines with; `*.suffix` is the only pattern it knows.
fn ignored(gitignore: &str) -> Vec<&str> {
    let lines = gitignore.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.trim_end_matches('/').rsplit('/').next()).collect()
}

fn walk(folder: &Path, ignored: &[&str], files: &mut Vec<File>) {
    const NOT_OURS: [&str; 3] = [".git", "Cargo.lock", "LICENSE"];
    for entry in fs::read_dir(folder).expect("the project can be read") {
        let path = entry.expect("the project can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let is_ignored = |pattern: &&str| match pattern.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => name == *pattern,
        };
        if NOT_OURS.contains(&name.as_str()) || ignored.iter().any(is_ignored) {
            continue;
        }
        if path.is_dir() {
            walk(&path, ignored, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("below the root").display().to_string();
            files.push(File { path, text });
        }
    }
}

#[test]
fn what_git_ignores_is_not_read() {
    let names = ignored("/target\n.makegood/\n# a remark\n\n*.profraw\n/compose/.env\n");
    assert_eq!(names, ["target", ".makegood", "*.profraw", ".env"]);
    let paths: Vec<String> = project().into_iter().map(|file| file.path).collect();
    assert!(paths.iter().all(|path| !path.starts_with("target/") && !path.starts_with(".git/")));
    assert!(paths.contains(&"README.md".to_owned()));
}
