//! Makegood takes over a paid order and makes it good.
//!
//! An order's *saga* follows a *definition*: steps that send commands to participants or wait
//! for facts, what undoes each, and the pivot after which there is no way back. The worker turns
//! whatever comes in into inputs, lets the pure core decide, commits, and only then acknowledges
//! and sends.
//!
//! ```text
//! broker ─► intake ─► lane (by saga) ─► load ─► decide ─► commit ─► acknowledge
//!                      ▲                 │       (pure)     │
//!        timers (due) ─┘                 │                  └─► relay ─► publish ─► confirmed:
//!                                        │                        ▲                 outbox row
//!        operator ─► same decide, same commit                  sweeper              deleted
//! ```
//!
//! # Rooms
//! Each imports only from those above it; `tests/tidy` enforces it.
//!
//! * [`saga`]: the pure core. `decide(definition, saga, input, now)` gives the next saga and the
//!   effects. No IO, no clock, no wire format.
//! * [`order`]: what a paid order is, parsed once at the border.
//! * [`catalog`]: definitions as their authors write them; checked, tested, drawn.
//! * [`store`]: where sagas are kept: PostgreSQL, SQLite; one conformance suite for both.
//! * [`broker`]: what carries messages: RabbitMQ, Kafka, memory; one conformance suite for all.
//! * [`worker`]: the pipeline in the picture. No SQL, no AMQP or Kafka, no rules.
//! * [`operate`]: what people ask and do: explain, timeline, the operator's verbs.
//! * [`http`]: the doors for signed orders and scans; health, readiness, metrics.
//! * [`telemetry`], [`clock`] and [`client`]: leaves that any room but the pure ones may use.
//! * [`fixture`]: the outside, simulated, and the auditor. It knows no worker.
//! * [`cli`] and [`config`]: wiring.
//!
//! # What is deliberately absent
//! * **Exactly-once delivery.** Everything may come twice; commands carry the same key each time.
//! * **An inbox table.** The saga knows which answer it waits for; the rest is counted.
//! * **Row locks across a round trip, and a table of locks.** Updates are fenced by the version,
//!   which also stops a paused worker that wakes up.
//! * **A queue in the database.** The outbox is claimed by lease and deleted; the broker queues.
//! * **The machine's clock.** Time is the database's, through one door, or simulated.
//! * **Randomness in decisions.** Jitter is a hash of ids, so a journal can be replayed.
//! * **An ORM, and serialisable core types.** Every border writes its own format.
//! * **A delay before a batch.** A lane takes what is there; batches grow by themselves under load.
//!
//! # Where the code improves on its design
//! * **Saga ids are derived** (UUIDv5 of tenant, order and definition). `order.created` needs no
//!   unique index, and a fact or a cancel request finds its sagas by primary key.
//! * **What changes nothing is counted, and not journalled.** A participant that repeats an answer
//!   a thousand times must not grow the journal a thousandfold; "later" counts once per attempt.
//! * **A fact or cancel request before its order is parked**, as a dead letter `unknown-order`, and
//!   taken in when the order comes, in the commit that deletes the letter. Whoever parks looks
//!   afterwards for the saga, whoever starts a saga looks afterwards for letters: one of them sees
//!   the other.
//! * **All inputs of a message go through one lane whole**, so that several sagas of one order
//!   begin in one transaction, and nobody sees half of them.
//! * **Due times are lazy.** A clock that moves later leaves the indexed column alone; the timer
//!   looks too early once and moves it on. A saga that runs through rewrites no index.
//! * **A compensation that was rejected is tried under a new id**, because participants repeat
//!   their first answer to an id they know.
//! * **Steps say what they `need` of an order** (data minimisation): a courier learns no loan.
//! * **Notices are not steps.** Whoever tells the customer gets one command, once for each state,
//!   that nothing waits for: a mail server that is down holds up neither goods nor money.
//! * **A push is answered from the lane that commits it**, so that many pushes share a commit, and
//!   its receipt is derived from the saga: it is the same for ever, with no table of receipts.
//! * **One worker at a time looks at what is stored, for the gauges**, and asks only indexes that
//!   hold what is not at rest: a scan per scrape, or per worker, grows with every order that ended.
//! * **The loan is reversed when everything else is back**, the stock included: a refused
//!   compensation lets the order go on, and money that is back already cannot.

// Clocks, sleeps and unseeded randomness have one door each: .clippy.toml names them.
#![deny(clippy::disallowed_methods)]
// expect() says why it cannot fail.
#![warn(clippy::unwrap_used)]
// Logs are named events (telemetry); only the command line prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod broker;
pub mod catalog;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod fixture;
pub mod http;
pub mod operate;
pub mod order;
pub mod saga;
pub mod store;
pub mod telemetry;
pub mod worker;
