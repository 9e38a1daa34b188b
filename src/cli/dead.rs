//! `dead …`: for whoever is on call, the messages that could not be processed.

mod campaign;
mod change;
mod replay;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::json;
use uuid::Uuid;

use super::{End, Misuse, open, print_json};
use crate::config::Config;
use crate::operate::letters::{self, GroupView, LetterSummary, LetterView};
use crate::operate::span;
use crate::saga::{Millis, Time};
use crate::store::LetterFilter;

/// The longest error in a table, in characters; `dead show` has all of it.
const MAX_ERROR: usize = 60;

#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List dead letters: in groups that failed alike, or one by one.
    List(List),
    /// Show one with all that is known of it: headers, body, history.
    Show(Show),
    /// Replay letters: all that is chosen goes through the worker again, slowly at first.
    Replay(replay::Replay),
    /// Make a corrected copy of a letter; the original is kept.
    Edit(change::Edit),
    /// Give letters up. They are kept, closed, for 30 days.
    Discard(change::Discard),
    /// Look at replay campaigns, pause, resume and cancel them.
    #[command(subcommand)]
    Campaign(campaign::Campaign),
}

impl Dead {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        match self {
            Dead::List(list) => list.run(config).await,
            Dead::Show(show) => show.run(config).await,
            Dead::Replay(replay) => replay.run(config).await,
            Dead::Edit(edit) => edit.run(config).await,
            Dead::Discard(discard) => discard.run(config).await,
            Dead::Campaign(campaign) => campaign.run(config).await,
        }
    }
}

/// Which letters are meant.
#[derive(Debug, Args)]
struct Which {
    /// Only letters of this group: the first column of `dead list`.
    #[arg(long)]
    group: Option<String>,
    /// Only letters with this reason code, such as unparseable.
    #[arg(long)]
    code: Option<String>,
    /// Only messages of this type, such as wms.pick.replied.v1.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only answers of, or commands to, this participant.
    #[arg(long)]
    participant: Option<String>,
    /// Only letters that came from this channel: orders, facts, replies, dead, …
    #[arg(long)]
    source: Option<String>,
    /// Only letters of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only letters about this order.
    #[arg(long)]
    order: Option<String>,
    /// Only letters last seen at least this long ago, such as 2h or 3d.
    #[arg(long, value_name = "AGE")]
    older_than: Option<humantime::Duration>,
}

impl Which {
    fn filter(&self, ids: &[Uuid], now: Time) -> LetterFilter {
        let earlier = |age: humantime::Duration| {
            now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
        };
        LetterFilter {
            ids: (!ids.is_empty()).then(|| ids.to_vec()),
            group: self.group.clone(),
            reason: self.code.clone(),
            kind: self.kind.clone(),
            participant: self.participant.clone(),
            source: self.source.clone(),
            tenant: self.tenant.clone(),
            order_id: self.order.clone(),
            seen_before: self.older_than.map(earlier),
            also_closed: false,
        }
    }

    /// Whether nothing is said about which.
    fn is_empty(&self) -> bool {
        self.filter(&[], Time(0)) == LetterFilter::default()
    }
}

/// Which letters something is done to: they have to be named, chosen, or all of them meant.
#[derive(Debug, Args)]
struct Chosen {
    /// The letters' ids.
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    which: Which,
    /// All open letters.
    #[arg(long)]
    all: bool,
}

impl Chosen {
    fn filter(&self, now: Time) -> anyhow::Result<LetterFilter> {
        let is_chosen = !self.ids.is_empty() || !self.which.is_empty();
        let wrong = match (is_chosen, self.all) {
            (false, false) => "which letters? Give ids, a filter such as --group, or --all",
            (true, true) => "--all goes with no ids and no filter",
            _ => return Ok(self.which.filter(&self.ids, now)),
        };
        Err(Misuse(wrong.to_owned()).into())
    }
}

/// Who does it, why, and whether at all.
#[derive(Debug, Args)]
struct Deed {
    /// Why; kept in the audit. Needed where something is written.
    #[arg(long)]
    reason: Option<String>,
    /// Who; the operating system's user otherwise.
    #[arg(long, env = "USER", default_value = "unknown")]
    actor: String,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: open::Place,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Deed {
    fn by(&self) -> anyhow::Result<letters::By<'_>> {
        let reason = self.reason.as_deref().unwrap_or_default();
        if reason.trim().is_empty() && !self.dry_run {
            return Err(Misuse("--reason must say why".to_owned()).into());
        }
        Ok(letters::By { actor: &self.actor, reason })
    }

    /// The store: for looking, where nothing is to be written.
    async fn store(
        &self,
        config: &Config,
    ) -> anyhow::Result<std::sync::Arc<dyn crate::store::Store>> {
        let store = match self.dry_run {
            true => self.place.look(config).await?,
            false => self.place.change(config).await?,
        };
        store.check().await?;
        Ok(store)
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
    /// One by one, oldest first, instead of in groups.
    #[arg(long)]
    each: bool,
    /// Also those that were replayed, corrected or discarded in the last 30 days.
    #[arg(long, requires = "each")]
    closed: bool,
    /// How many at most, 1 to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on after this letter: the last line of a page says which.
    #[arg(long, value_name = "ID", requires = "each")]
    after: Option<Uuid>,
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
        let now = open::present(&*store, self.place.folder(config).is_some()).await?;
        let mut filter = self.which.filter(&[], now);
        filter.also_closed = self.closed;
        let limit = usize::from(self.limit);
        if self.each {
            let (page, next) = letters::letters(&*store, &filter, self.after, limit).await?;
            if self.json {
                print_json(&json!({ "letters": page, "after": next }))?;
            } else {
                each(&page, next);
            }
            return Ok(End::Good);
        }
        let found = letters::groups(&*store, &filter, limit, now).await?;
        let total = store.letters().count(&filter).await?;
        if self.json {
            print_json(&json!({ "groups": found, "letters": total }))?;
        } else {
            groups(&found, total);
        }
        Ok(End::Good)
    }
}

fn groups(groups: &[GroupView], total: u64) {
    if groups.is_empty() {
        println!("no dead letters");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["GROUP", "LETTERS", "REASON", "TYPE", "PARTICIPANT", "AGE", "ERROR"]);
    for group in groups {
        let letters = match group.replaying {
            0 => group.letters.to_string(),
            replaying => format!("{} ({replaying} replaying)", group.letters),
        };
        table.add_row([
            group.group.clone(),
            letters,
            group.reason.clone(),
            text(group.kind.as_deref()),
            text(group.participant.as_deref()),
            ages(group),
            shortened(&group.error),
        ]);
    }
    println!("{}", table.trim_fmt());
    let shown: u64 = groups.iter().map(|group| group.letters).sum();
    let of = if shown < total { format!(" of {total}: more with --limit") } else { String::new() };
    println!("\n{}, {}{of}", plural(groups.len() as u64, "group"), plural(shown, "letter"));
    println!("one group: --each --group {}", groups[0].group);
}

/// From the oldest letter of a group to its newest.
fn ages(group: &GroupView) -> String {
    let age = |seconds: u64| span(Millis(seconds * 1_000));
    let (oldest, newest) = (age(group.oldest_seconds), age(group.newest_seconds));
    if oldest == newest { oldest } else { format!("{oldest} to {newest}") }
}

fn each(page: &[LetterSummary], next: Option<Uuid>) {
    if page.is_empty() {
        println!("no dead letters");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "STATE", "REASON", "TYPE", "ORDER", "TRIED", "LAST SEEN", "ERROR"]);
    for letter in page {
        table.add_row([
            letter.id.to_string(),
            letter.state.to_owned(),
            letter.reason.clone(),
            text(letter.kind.as_deref()),
            text(letter.order_id.as_deref()),
            letter.attempts.to_string(),
            letter.last_seen.clone(),
            shortened(&letter.error),
        ]);
    }
    println!("{}", table.trim_fmt());
    match next {
        Some(letter) => println!("\nmore: --after {letter}"),
        None => println!("\n{}", plural(page.len() as u64, "letter")),
    }
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The letter's id.
    id: Uuid,
    #[command(flatten)]
    place: open::Place,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    /// Print nothing but the body, byte for byte: for a file, to correct it there.
    #[arg(long, conflicts_with = "json")]
    body: bool,
}

impl Show {
    async fn run(self, config: &Config) -> anyhow::Result<End> {
        let store = self.place.look(config).await?;
        store.check().await?;
        if self.body {
            let body = letters::body(&*store, self.id).await?;
            super::print::bytes(&body);
            return Ok(End::Good);
        }
        let letter = letters::show(&*store, self.id).await?;
        match self.json {
            true => print_json(&letter)?,
            false => show(&letter),
        }
        Ok(End::Good)
    }
}

fn show(letter: &LetterView) {
    let LetterView { summary, .. } = letter;
    println!("Dead letter {} is {}.", summary.id, state(letter));
    let line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            println!("  {name:<12}{}", letters::escaped(value.as_bytes()));
        }
    };
    line("reason", Some(&format!("{}: {}", summary.reason, summary.error)));
    line("group", Some(&summary.group));
    line("type", summary.kind.as_deref());
    line("participant", summary.participant.as_deref());
    line("tenant", summary.tenant_id.as_deref());
    line("order", summary.order_id.as_deref());
    line("came from", Some(&summary.source));
    line("belongs to", letter.destination.as_deref().or(Some("nobody knows")));
    line("trace", letter.traceparent.as_deref());
    line("first seen", Some(&summary.first_seen));
    line("last seen", Some(&summary.last_seen));
    line("tried", Some(&summary.attempts.to_string()));
    line("corrects", summary.corrects.map(|id| id.to_string()).as_deref());
    println!("Headers");
    for (name, value) in &letter.headers {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        println!("  {}: {}", escaped(name), escaped(&value));
    }
    println!("Body, {} bytes", letter.body_bytes);
    for text in letter.body.lines() {
        println!("  {text}");
    }
    if !letter.history.is_empty() {
        println!("History");
    }
    for event in &letter.history {
        let outcome = event.outcome.as_deref().map(|o| format!(": {o}")).unwrap_or_default();
        let actor = event.actor.as_deref().map(|a| format!(" by {a}")).unwrap_or_default();
        let reason = match event.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({})", escaped(reason)),
        };
        let copy = event.copy.map(|id| format!(", corrected copy {id}")).unwrap_or_default();
        println!("  {}  {}{outcome}{actor}{reason}{copy}", event.at, event.what);
    }
}

fn state(letter: &LetterView) -> String {
    match (letter.replaying, &letter.closed_at) {
        (Some(campaign), _) => format!("being replayed by campaign {campaign}"),
        (None, Some(at)) => format!("{} since {at}", letter.summary.state),
        (None, None) => "open".to_owned(),
    }
}

fn escaped(text: &str) -> String {
    letters::escaped(text.as_bytes())
}

fn text(value: Option<&str>) -> String {
    value.map_or_else(|| "-".to_owned(), escaped)
}

fn shortened(error: &str) -> String {
    let error = escaped(error);
    match error.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error,
    }
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
