//! `order …` and `explain`: for whoever asks what is wrong with an order.

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use serde_json::json;
use uuid::Uuid;

use super::{End, open, print_json};
use crate::config::Config;
use crate::operate::{self, Line};
use crate::saga::{Millis, SagaId, Status, Time};
use crate::store::Filter;

#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// List orders, a page at a time.
    List(List),
    /// Show an order with its journal as a timeline.
    Show(Show),
    /// Publish orders on the configured broker, as a shop would.
    Submit(super::participants::Submit),
    /// Sign orders and push them over HTTP, as a shop would.
    Push(super::push::Push),
    #[command(flatten)]
    Verb(super::verbs::Verb),
}

impl Order {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        match self {
            Order::List(list) => list.run(config).await,
            Order::Show(show) => show.run(config).await,
            Order::Submit(submit) => submit.run(config).await,
            Order::Push(push) => push.run(config).await,
            Order::Verb(verb) => verb.run(config).await,
        }
    }
}

/// Which order is meant, and how to answer about it.
#[derive(Debug, Args)]
pub(super) struct Subject {
    /// The order's id, as the shop gave it.
    pub order: String,
    /// Whose order, where several shops use the same ids.
    #[arg(long)]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub place: open::Place,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    subject: Subject,
    /// Draw what happened as a Mermaid sequence diagram instead.
    #[arg(long, conflicts_with = "json")]
    diagram: bool,
}

impl Explain {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let Subject { order, tenant, place, json } = self.subject;
        let store = place.look(config).await?;
        if self.diagram {
            let diagrams = operate::diagrams(&*store, &order, tenant.as_deref()).await?;
            print!("{}", diagrams.join("\n"));
            return Ok(End::Good);
        }
        let explained = operate::explain(&*store, &order, tenant.as_deref()).await?;
        if json {
            print_json(&explained)?;
        } else {
            let texts: Vec<String> = explained.iter().map(ToString::to_string).collect();
            print!("{}", texts.join("\n"));
        }
        Ok(End::Good)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatusArgument {
    Running,
    Compensating,
    Completed,
    Compensated,
    Abandoned,
}

impl From<StatusArgument> for Status {
    fn from(status: StatusArgument) -> Status {
        match status {
            StatusArgument::Running => Status::Running,
            StatusArgument::Compensating => Status::Compensating,
            StatusArgument::Completed => Status::Completed,
            StatusArgument::Compensated => Status::Compensated,
            StatusArgument::Abandoned => Status::Abandoned,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only orders in this status.
    #[arg(long)]
    status: Option<StatusArgument>,
    /// Only orders that need attention.
    #[arg(long)]
    attention: bool,
    /// Only orders of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only orders of this definition.
    #[arg(long)]
    definition: Option<String>,
    /// Only orders taken in at least this long ago, such as 2h or 3d.
    #[arg(long, value_name = "AGE")]
    older_than: Option<humantime::Duration>,
    /// How many at most, 1 to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on after this saga: the last line of a page says which.
    #[arg(long, value_name = "SAGA_ID")]
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
        let now = open::present(&*store, self.place.folder(config).is_some()).await?;
        let earlier = |age: humantime::Duration| {
            Time(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
        };
        let filter = Filter {
            status: self.status.map(Status::from),
            attention: self.attention.then_some(true),
            tenant: self.tenant,
            definition: self.definition,
            received_before: self.older_than.map(earlier),
        };
        let limit = usize::from(self.limit);
        // One more than is shown says whether there is another page.
        let mut page = store.list(&filter, self.after.map(SagaId), limit + 1).await?;
        let is_full = page.len() > limit;
        page.truncate(limit);
        let next = if is_full { page.last().map(|last| last.saga.id.0) } else { None };
        let lines: Vec<Line> = page.iter().map(|stored| operate::line(stored, now)).collect();
        if self.json {
            print_json(&json!({ "orders": lines, "after": next }))?;
            return Ok(End::Good);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["ORDER", "TENANT", "STATUS", "ATTENTION", "AGE", "DEFINITION"]);
        for line in &lines {
            table.add_row([
                line.order_id.clone(),
                line.tenant_id.clone(),
                line.status.to_owned(),
                line.attention.join(", "),
                operate::span(Millis(line.age_seconds * 1_000)),
                format!("{} v{}", line.definition, line.definition_version),
            ]);
        }
        println!("{}", table.trim_fmt());
        match next {
            Some(saga) => println!("\nmore: --after {saga}"),
            None if lines.len() == 1 => println!("\n1 order"),
            None => println!("\n{} orders", lines.len()),
        }
        Ok(End::Good)
    }
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    subject: Subject,
}

impl Show {
    async fn run(self, config: &Config) -> anyhow::Result<End> {
        let Subject { order, tenant, place, json: as_json } = self.subject;
        let store = place.look(config).await?;
        let tenant = tenant.as_deref();
        let explained = operate::explain(&*store, &order, tenant).await?;
        let timelines = operate::timelines(&*store, &order, tenant).await?;
        if as_json {
            let sagas: Vec<_> = explained
                .iter()
                .zip(&timelines)
                .map(|(explained, timeline)| json!({ "saga": explained, "timeline": timeline }))
                .collect();
            print_json(&sagas)?;
            return Ok(End::Good);
        }
        for (explained, timeline) in explained.iter().zip(timelines) {
            println!("{explained}\nTimeline");
            for entry in timeline {
                if let Some(quiet) = entry.quiet_before {
                    println!("       ⋮ {quiet}");
                }
                let by = entry.by.map_or(String::new(), |by| format!("  ({by})"));
                println!("  {:>3}  {}  {}{by}", entry.version, entry.at, entry.happened);
                for done in entry.done {
                    println!("       {:24}    → {done}", "");
                }
            }
        }
        Ok(End::Good)
    }
}
