//! `dead replay`: rehearsed, or started as a campaign and followed until it is over.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use uuid::Uuid;

use super::{Chosen, Deed, campaign, plural};
use crate::cli::{End, open, print_json};
use crate::clock::wait;
use crate::config::Config;
use crate::operate::letters::{self, CampaignView, LetterError, Rehearsed};
use crate::store::{LetterFilter, Plan, Store};

/// The most letters a second that a campaign may be asked for.
const MAX_RATE: u32 = 1_000;
/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// After how many looks without any progress a hint is given.
const SILENT_LOOKS: u32 = 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct Replay {
    #[command(flatten)]
    chosen: Chosen,
    /// Send nothing: say what each letter would do to its saga as it is now.
    #[arg(long)]
    rehearse: bool,
    /// Waves of so many letters; each waits for all of the one before.
    #[arg(long, value_delimiter = ',', default_value = "1,5,20", value_name = "N,N,…",
          value_parser = clap::value_parser!(u32).range(1..))]
    ramp: Vec<u32>,
    /// Letters a second after the ramp, on all workers together.
    #[arg(long, default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    rate: u32,
    /// Stop when more than this share of the latest 100 results fails again, in percent.
    #[arg(long, default_value_t = 10, value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    stop_share: u8,
    /// … once there are so many results, 1 to 100.
    #[arg(long, default_value_t = 5, value_name = "RESULTS",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    stop_from: u32,
    /// The same key again is the same campaign: safe to repeat when the answer was lost.
    #[arg(long, value_name = "UUID")]
    key: Option<Uuid>,
    /// Start it, and do not wait for its end.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    deed: Deed,
}

impl Replay {
    pub async fn run(mut self, config: &Config) -> anyhow::Result<End> {
        let simulated = self.deed.place.folder(config);
        if self.rehearse {
            self.deed.dry_run = true;
            let store = self.deed.store(config).await?;
            let filter = self.chosen.filter(open::present(&*store, simulated.is_some()).await?)?;
            return self.rehearse(&*store, &filter, config).await;
        }
        let by = self.deed.by()?;
        let store = self.deed.store(config).await?;
        let filter = self.chosen.filter(open::present(&*store, simulated.is_some()).await?)?;
        let plan = Plan {
            filter,
            ramp: self.ramp.clone(),
            rate: self.rate,
            stop_percent: self.stop_share,
            stop_from: self.stop_from,
        };
        if self.deed.dry_run {
            let count = letters::count(&*store, &plan.filter).await?;
            match self.deed.json {
                true => print_json(&json!({ "letters": count, "plan": plan, "dry_run": true }))?,
                false => {
                    let letters = plural(count, "letter");
                    println!("{letters} would be replayed, {}", pace(count, &plan.ramp, plan.rate));
                    println!("nothing was written; --rehearse says what each would do");
                }
            }
            return Ok(End::Good);
        }
        let started = letters::start(&*store, plan, self.key, by).await?;
        store.close().await;
        let waits = !self.no_wait && simulated.is_none();
        if self.deed.json && !waits {
            print_json(&started)?;
        }
        if !self.deed.json {
            let (letters, id) = (plural(u64::from(started.letters), "letter"), started.campaign);
            println!(
                "campaign {id} replays {letters}, {}",
                pace(u64::from(started.letters), &self.ramp, self.rate)
            );
            if started.already_replaying > 0 {
                println!("{} in another campaign already", started.already_replaying);
            }
            match (waits, &simulated) {
                (true, _) => println!("^C leaves it going: makegood dead campaign show {id}"),
                (false, Some(_)) => println!("the next `makegood dev` in this folder replays them"),
                (false, None) => println!("how it goes: makegood dead campaign show {id}"),
            }
        }
        match waits {
            true => {
                follow(self.deed.place.look(config).await?, started.campaign, self.deed.json).await
            }
            false => Ok(End::Good),
        }
    }

    async fn rehearse(
        &self,
        store: &dyn Store,
        filter: &LetterFilter,
        config: &Config,
    ) -> anyhow::Result<End> {
        let total = letters::count(store, filter).await?;
        let bar = bar(total);
        let rehearsed = letters::rehearse(store, filter, config.max_message_bytes, |done| {
            bar.set_position(done)
        })
        .await?;
        bar.finish_and_clear();
        match self.deed.json {
            true => print_json(&rehearsed)?,
            false => tell(&rehearsed),
        }
        Ok(End::Good)
    }
}

fn pace(letters: u64, ramp: &[u32], rate: u32) -> String {
    if ramp.first().is_none_or(|first| letters <= u64::from(*first)) {
        return format!("at most {rate} a second");
    }
    let waves: Vec<String> = ramp.iter().map(ToString::to_string).collect();
    format!("in waves of {}, then {rate} a second", waves.join(", "))
}

/// What an outcome means, in the words of a rehearsal.
fn would(outcome: &str) -> &'static str {
    match outcome {
        "advanced" => "would advance their saga",
        "started" => "would start a saga",
        "compensating" => "would start compensation",
        "duplicate" => "are duplicates: nothing would change",
        "irrelevant" => "are facts that no definition waits for",
        "published" => "would be published again, for a participant or subscriber",
        "parked" => "would go on waiting for their order",
        "gone" => "are dealt with already",
        _ => "would be dead letters again",
    }
}

fn tell(rehearsed: &Rehearsed) {
    println!("Of {}, replayed now:", plural(rehearsed.letters, "letter"));
    for (outcome, count) in &rehearsed.outcomes {
        println!("  {count:>7} {}", would(outcome));
    }
    for letter in &rehearsed.compensating {
        println!("compensation: {letter}");
    }
    for again in &rehearsed.failures {
        let error = letters::escaped(again.error.as_bytes());
        println!(
            "dead again: {} of {}: {error}, such as {}",
            again.letters, again.reason, again.such_as
        );
    }
    println!("nothing was sent or written");
}

fn bar(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}");
    let bar = ProgressBar::new(total);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Looks at a campaign until it is over. Good when all of it went through.
async fn follow(store: Arc<dyn Store>, id: Uuid, json: bool) -> anyhow::Result<End> {
    let mut shown = None;
    let mut silent = 0;
    let (view, failures) = loop {
        let (view, failures) = match letters::campaign(&*store, id).await {
            // The campaign does not end with a database that is away, and nor does this.
            Err(LetterError::Store(error)) if error.is_transient() && shown.is_some() => {
                wait(LOOK).await;
                continue;
            }
            answer => answer?,
        };
        let bar = shown.get_or_insert_with(|| bar(u64::from(view.letters)));
        if bar.position() == u64::from(view.settled) {
            silent += 1;
        } else {
            silent = 0;
        }
        bar.set_position(u64::from(view.settled));
        bar.set_message(failed(&view));
        if silent == SILENT_LOOKS && view.state == "running" {
            bar.suspend(|| eprintln!("nothing was replayed in the last 10 s: does a worker run?"));
        }
        if view.state != "running" && view.under_way == 0 {
            bar.finish_and_clear();
            break (view, failures);
        }
        if view.state == "paused" {
            bar.finish_and_clear();
            break (view, failures);
        }
        wait(LOOK).await;
    };
    store.close().await;
    match json {
        true => print_json(&json!({ "campaign": view, "failures": failures }))?,
        false => campaign::tell(&view, &failures),
    }
    let is_good = view.state == "done" && failures.is_empty();
    Ok(if is_good { End::Good } else { End::Bad })
}

fn failed(view: &CampaignView) -> String {
    match view.outcomes.get("failed") {
        Some(failed) => format!("{failed} failed again"),
        None => String::new(),
    }
}
