//! `order retry`, `resolve`, `skip`, …: for whoever must put an order right.

use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use super::order::Subject;
use super::{End, Misuse, open, print_json};
use crate::config::Config;
use crate::operate::{self, Answer, As, Ask, By, Deed, Mode, Outcome, Request};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Send what is out once more, now: the same command under the same id. What was answered
    /// with a final "no" is done anew, under a new id.
    Retry(Retry),
    /// Say how a step, or its compensation, came out, as if its participant had.
    Resolve(Resolve),
    /// Go on without a step.
    Skip(Skip),
    /// Cancel an order: undone before its pivot, refused after.
    Cancel(Plain),
    /// Send nothing new and stop all clocks, until it is released.
    Hold(Plain),
    /// Go on after a hold.
    Release(Plain),
    /// Clear attention that was looked at.
    Clear(Clear),
    /// End the saga as it stands: the last resort. Needs a second person.
    Abandon(Plain),
    /// List what waits for a second person.
    Requests(Requests),
    /// Agree to what another person asked for: it is done.
    Approve(Decide),
    /// Drop what waits for a second person.
    Withdraw(Decide),
}

impl Verb {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        match self {
            Verb::Retry(Retry { step, said }) => said.run(config, Ask::Retry { step }).await,
            Verb::Resolve(resolve) => resolve.run(config).await,
            Verb::Skip(Skip { step, said }) => said.run(config, Ask::Skip { step }).await,
            Verb::Cancel(Plain { said }) => said.run(config, Ask::Cancel {}).await,
            Verb::Hold(Plain { said }) => said.run(config, Ask::Hold {}).await,
            Verb::Release(Plain { said }) => said.run(config, Ask::Release {}).await,
            Verb::Clear(Clear { step, code, said }) => {
                said.run(config, Ask::Clear { step, code }).await
            }
            Verb::Abandon(Plain { said }) => said.run(config, Ask::Abandon {}).await,
            Verb::Requests(requests) => requests.run(config).await,
            Verb::Approve(decide) => decide.approve(config).await,
            Verb::Withdraw(decide) => decide.withdraw(config).await,
        }
    }
}

/// What is said with every verb.
#[derive(Debug, Args)]
struct Said {
    #[command(flatten)]
    subject: Subject,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
    /// Who; the operating system's user otherwise.
    #[arg(long, env = "USER", default_value = "unknown")]
    actor: String,
    /// The same key again is the same deed: safe to repeat when the answer was lost.
    #[arg(long, value_name = "UUID")]
    key: Option<Uuid>,
    /// Show what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Plain {
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
pub(super) struct Retry {
    /// Only this step; otherwise all that is out.
    #[arg(long)]
    step: Option<String>,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
pub(super) struct Resolve {
    #[arg(long)]
    step: String,
    /// How it came out.
    #[arg(long = "as")]
    outcome: CameOut,
    /// With `--as rejected`: the participant's code.
    #[arg(long)]
    code: Option<String>,
    /// With `--as success`: what later steps need of it, as JSON.
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CameOut {
    /// It was done; or its compensation was.
    Success,
    /// It was refused for good; or its compensation came too late.
    Rejected,
    /// Of a compensation: there was nothing to undo.
    NothingToDo,
}

impl From<CameOut> for As {
    fn from(outcome: CameOut) -> As {
        match outcome {
            CameOut::Success => As::Success,
            CameOut::Rejected => As::Rejected,
            CameOut::NothingToDo => As::NothingToDo,
        }
    }
}

impl Resolve {
    async fn run(self, config: &Config) -> anyhow::Result<End> {
        let Resolve { step, outcome, code, result, said } = self;
        let outcome = As::from(outcome);
        if code.is_some() && outcome != As::Rejected {
            return Err(Misuse("--code goes with --as rejected".to_owned()).into());
        }
        if result.is_some() && outcome != As::Success {
            return Err(Misuse("--result goes with --as success".to_owned()).into());
        }
        let data = result.as_deref().map(serde_json::from_str).transpose();
        let data = data.map_err(|error| Misuse(format!("--result is not JSON: {error}")))?;
        said.run(config, Ask::Resolve { step, outcome, code, data }).await
    }
}

#[derive(Debug, Args)]
pub(super) struct Skip {
    #[arg(long)]
    step: String,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
pub(super) struct Clear {
    /// Only what was raised about this step.
    #[arg(long)]
    step: Option<String>,
    /// Only this code, such as DEADLINE_PASSED.
    #[arg(long)]
    code: Option<String>,
    #[command(flatten)]
    said: Said,
}

impl Said {
    async fn run(self, config: &Config, ask: Ask) -> anyhow::Result<End> {
        if self.reason.trim().is_empty() {
            return Err(Misuse("--reason must say why".to_owned()).into());
        }
        let Subject { order, tenant, place, json } = self.subject;
        let by = By {
            actor: self.actor,
            reason: self.reason,
            key: self.key.unwrap_or_else(Uuid::new_v4),
            approver: None,
        };
        let source = config.worker().source;
        let subject = (order.as_str(), tenant.as_deref());
        let outcome = if self.dry_run {
            let store = place.look(config).await?;
            let mode = Mode::Rehearse;
            Outcome::Deeds(operate::perform(&*store, &source, subject, &ask, &by, mode).await?)
        } else {
            let store = place.change(config).await?;
            let policy = config.second_person();
            let outcome = operate::ask(&*store, &source, subject, &ask, &by, &policy).await?;
            store.close().await;
            outcome
        };
        tell(&outcome, json)
    }
}

fn tell(outcome: &Outcome, as_json: bool) -> anyhow::Result<End> {
    let deeds = match outcome {
        Outcome::Deeds(deeds) | Outcome::Waits { would: deeds, .. } => deeds,
    };
    if as_json {
        print_json(outcome)?;
    } else {
        deeds.iter().for_each(print_deed);
        if let Outcome::Waits { request, .. } = outcome {
            println!(
                "\nNothing was done yet: another person must agree.\n  makegood order approve {}",
                request.id
            );
        }
    }
    let is_good =
        deeds.iter().any(|deed| !matches!(deed.result, Answer::Illegal | Answer::Refused));
    Ok(if is_good { End::Good } else { End::Bad })
}

fn print_deed(deed: &Deed) {
    let Deed { order_id, definition, verb, result, status, .. } = deed;
    let result = match result {
        Answer::Done => "done",
        Answer::WouldBeDone => "would be done",
        Answer::DoneBefore => "done before under this key; nothing happened now",
        Answer::Illegal => "not possible as it stands",
        Answer::Accepted => "accepted",
        Answer::Waiting => "waits for the answer of the pivot that is under way",
        Answer::Refused => "refused: it is past its pivot",
    };
    println!("{order_id} ({definition}): {verb}: {result}; {status}");
    deed.effects.iter().for_each(|effect| println!("  → {effect}"));
    if !deed.leaves_behind.is_empty() {
        println!("  left as it is out in the world: {}", deed.leaves_behind.join(", "));
    }
    if !deed.legal.is_empty() {
        println!("  possible now: {}", deed.legal.join("; "));
    }
}

#[derive(Debug, Args)]
pub(super) struct Requests {
    #[command(flatten)]
    place: open::Place,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Requests {
    async fn run(self, config: &Config) -> anyhow::Result<End> {
        let store = self.place.look(config).await?;
        let requests = operate::requests(&*store).await?;
        if self.json {
            print_json(&requests)?;
            return Ok(End::Good);
        }
        requests.iter().for_each(print_request);
        println!("{} waiting for a second person", requests.len());
        Ok(End::Good)
    }
}

fn print_request(request: &Request) {
    let Request { id, order_id, ask, actor, reason, asked_at, .. } = request;
    println!("{id}  {asked_at}  {} {order_id}, asked by {actor}: {reason}", ask.verb());
}

#[derive(Debug, Args)]
pub(super) struct Decide {
    /// The request, as `order requests` lists it.
    request: Uuid,
    /// Who; the operating system's user otherwise.
    #[arg(long, env = "USER", default_value = "unknown")]
    actor: String,
    /// Show what it would do now, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: open::Place,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Decide {
    async fn approve(self, config: &Config) -> anyhow::Result<End> {
        let source = config.worker().source;
        let (store, mode) = match self.dry_run {
            true => (self.place.look(config).await?, Mode::Rehearse),
            false => (self.place.change(config).await?, Mode::Do),
        };
        let deeds = operate::approve(&*store, &source, self.request, &self.actor, mode).await?;
        store.close().await;
        tell(&Outcome::Deeds(deeds), self.json)
    }

    async fn withdraw(self, config: &Config) -> anyhow::Result<End> {
        if self.dry_run {
            return Err(Misuse("withdrawing sends nothing: leave --dry-run out".to_owned()).into());
        }
        let store = self.place.change(config).await?;
        let request = operate::withdraw(&*store, self.request).await?;
        store.close().await;
        if self.json {
            print_json(&request)?;
        } else {
            print!("withdrawn: ");
            print_request(&request);
        }
        Ok(End::Good)
    }
}
