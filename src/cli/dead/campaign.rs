//! `dead campaign …`: replays that are under way, and those that were.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::json;
use uuid::Uuid;

use super::{Deed, plural};
use crate::cli::{End, open, print_json};
use crate::config::Config;
use crate::operate::letters::{self, CampaignView, Failure};

/// Different failures that are printed; `--json` has each.
const MAX_SHOWN: usize = 20;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Campaign {
    /// List campaigns, newest first.
    List(List),
    /// Show how far one is, and what failed again.
    Show(Show),
    /// Let nothing more go, until it is resumed.
    Pause(Turn),
    /// Go on with one that was paused or has stopped, slowly at first.
    Resume(Turn),
    /// End one; what was not replayed yet stays as it is.
    Cancel(Turn),
}

impl Campaign {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let (turn, verb) = match self {
            Campaign::List(list) => return list.run(config).await,
            Campaign::Show(show) => return show.run(config).await,
            Campaign::Pause(turn) => (turn, Verb::Pause),
            Campaign::Resume(turn) => (turn, Verb::Resume),
            Campaign::Cancel(turn) => (turn, Verb::Cancel),
        };
        turn.run(config, verb).await
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// How many at most, 1 to 1000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    place: open::Place,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self, config: &Config) -> anyhow::Result<End> {
        let store = self.place.look(config).await?;
        store.check().await?;
        let campaigns = letters::campaigns(&*store, None, usize::from(self.limit)).await?;
        if self.json {
            print_json(&json!({ "campaigns": campaigns }))?;
            return Ok(End::Good);
        }
        if campaigns.is_empty() {
            println!("no campaigns: `makegood dead replay` makes one");
            return Ok(End::Good);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "CAMPAIGN", "STATE", "LETTERS", "SETTLED", "FAILED", "STARTED", "BY", "REASON",
        ]);
        for campaign in &campaigns {
            let failed = campaign.outcomes.get("failed").copied().unwrap_or(0);
            table.add_row([
                campaign.campaign.to_string(),
                campaign.state.to_owned(),
                campaign.letters.to_string(),
                campaign.settled.to_string(),
                failed.to_string(),
                campaign.started_at.clone(),
                super::escaped(&campaign.actor),
                super::shortened(&campaign.reason),
            ]);
        }
        println!("{}", table.trim_fmt());
        Ok(End::Good)
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    /// The campaign's id.
    id: Uuid,
    #[command(flatten)]
    place: open::Place,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    async fn run(self, config: &Config) -> anyhow::Result<End> {
        let store = self.place.look(config).await?;
        store.check().await?;
        let (view, failures) = letters::campaign(&*store, self.id).await?;
        match self.json {
            true => print_json(&json!({ "campaign": view, "failures": failures }))?,
            false => tell(&view, &failures),
        }
        Ok(End::Good)
    }
}

/// A campaign as text.
pub(super) fn tell(view: &CampaignView, failures: &[Failure]) {
    let why = view.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    println!("campaign {} is {}{why}", view.campaign, view.state);
    let letters = plural(u64::from(view.letters), "letter");
    println!(
        "  {letters}: {} settled, {} under way, {} waiting",
        view.settled, view.under_way, view.waiting
    );
    for (outcome, count) in &view.outcomes {
        println!("  {count:>7} {outcome}");
    }
    println!(
        "  started {} by {} ({})",
        view.started_at,
        super::escaped(&view.actor),
        super::escaped(&view.reason)
    );
    let mut alike: Vec<(&Failure, u64)> = Vec::new();
    for failure in failures {
        let is_same = |(known, _): &&mut (&Failure, u64)| {
            known.reason == failure.reason && known.error == failure.error
        };
        match alike.iter_mut().find(is_same) {
            Some((_, count)) => *count += 1,
            None => alike.push((failure, 1)),
        }
    }
    for (failure, count) in alike.iter().take(MAX_SHOWN) {
        let Failure { letter, reason, error, .. } = failure;
        let error = super::escaped(error);
        println!("failed again: {count} of {reason}: {error}, such as {letter}");
    }
    if alike.len() > MAX_SHOWN {
        println!("and more: --json tells of each");
    }
    match view.state {
        "stopped" | "paused" => {
            println!("go on: makegood dead campaign resume {} --reason …", view.campaign);
            println!("or give it up: makegood dead campaign cancel {} --reason …", view.campaign);
        }
        "done" if !failures.is_empty() => println!("what failed again is in: makegood dead list"),
        _ => {}
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Turn {
    /// The campaign's id.
    id: Uuid,
    #[command(flatten)]
    deed: Deed,
}

enum Verb {
    Pause,
    Resume,
    Cancel,
}

impl Turn {
    async fn run(self, config: &Config, verb: Verb) -> anyhow::Result<End> {
        let by = self.deed.by()?;
        let store = self.deed.store(config).await?;
        let (id, dry_run) = (self.id, self.deed.dry_run);
        let view = match verb {
            Verb::Pause => letters::pause(&*store, id, dry_run, by).await?,
            Verb::Resume => letters::resume(&*store, id, dry_run, by).await?,
            Verb::Cancel => letters::cancel(&*store, id, dry_run, by).await?,
        };
        store.close().await;
        match (self.deed.json, dry_run) {
            (true, dry_run) => print_json(&json!({ "campaign": view, "dry_run": dry_run }))?,
            (false, true) => println!("campaign {id} would be {}; nothing was written", view.state),
            (false, false) => tell(&view, &[]),
        }
        Ok(End::Good)
    }
}
