//! `dead edit` and `dead discard`.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::{Chosen, Deed, plural};
use crate::cli::{End, Misuse, open, print_json};
use crate::config::Config;
use crate::operate::letters::{self, Change, Correction};

/// The largest corrected body that is read, in bytes: more than any broker carries.
const MAX_BODY: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct Edit {
    /// The letter's id.
    id: Uuid,
    /// The corrected body: a file, or - for standard input. `dead show ID --body` prints the
    /// original.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// A corrected header, as NAME=VALUE; with NAME= it is taken out. May be given often.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, Option<String>)>,
    /// Keep the copy although it would be dead again as it is.
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    deed: Deed,
}

fn header(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    let value = (!value.is_empty()).then(|| value.to_owned());
    (!name.is_empty()).then(|| (name.to_owned(), value)).ok_or("must be NAME=VALUE".to_owned())
}

impl Edit {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        if self.body.is_none() && self.headers.is_empty() {
            let wrong = "what is to be corrected? Give --body FILE or --header NAME=VALUE";
            return Err(Misuse(wrong.to_owned()).into());
        }
        let by = self.deed.by()?;
        let body = self.body.as_ref().map(read).transpose()?;
        let store = self.deed.store(config).await?;
        let change = Change { body, headers: self.headers.clone() };
        let how = (self.deed.dry_run, self.anyway, config.max_message_bytes);
        let corrected = letters::correct(&*store, self.id, &change, how, by).await?;
        store.close().await;
        match self.deed.json {
            true => print_json(&corrected)?,
            false => tell(&corrected),
        }
        Ok(End::Good)
    }
}

fn tell(corrected: &Correction) {
    let would = match corrected.error.as_str() {
        "" => corrected.outcome.to_owned(),
        error => format!("{} ({}: {error})", corrected.outcome, corrected.reason),
    };
    match corrected.copy {
        Some(copy) => {
            println!("{copy} is a corrected copy of {}, which is closed", corrected.original);
            println!("replayed now, it would come out as: {would}");
            println!("replay it: makegood dead replay {copy} --reason …");
        }
        None => println!("the copy, replayed now, would come out as: {would}\nnothing was written"),
    }
}

fn read(file: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let reading = || format!("cannot read the body from {}", file.display());
    let mut source: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(file).with_context(reading)?),
    };
    source.by_ref().take(MAX_BODY + 1).read_to_end(&mut body).with_context(reading)?;
    if body.len() as u64 > MAX_BODY {
        return Err(Misuse(format!("the body has more than {MAX_BODY} bytes")).into());
    }
    Ok(body)
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Discard {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    deed: Deed,
}

impl Discard {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let by = self.deed.by()?;
        let store = self.deed.store(config).await?;
        let simulated = self.deed.place.folder(config).is_some();
        let filter = self.chosen.filter(open::present(&*store, simulated).await?)?;
        let count = match self.deed.dry_run {
            true => letters::count(&*store, &filter).await?,
            false => letters::discard(&*store, &filter, by).await?,
        };
        store.close().await;
        let letters = plural(count, "letter");
        match (self.deed.json, self.deed.dry_run) {
            (true, dry_run) => print_json(&json!({ "letters": count, "dry_run": dry_run }))?,
            (false, true) => println!("{letters} would be discarded; nothing was written"),
            (false, false) => println!("{letters} discarded; kept for 30 days: dead list --closed"),
        }
        Ok(End::Good)
    }
}
