//! Names that never change: saga ids and command ids, both computed, never drawn.

use std::fmt;

use uuid::Uuid;

use super::Notice;

/// Namespace of all ids that Makegood derives (a random UUID, fixed for ever).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_5d0e_3f0b_4c53_9a0e_7d2b_8c41_e6a5);

/// Identifies a saga: UUIDv5 of (tenant, order id, definition name).
///
/// Derived, so that a repeated `order.created` finds the saga it already started by primary
/// key, on whichever worker it lands, and a fact that only knows the order finds it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SagaId(pub Uuid);

impl SagaId {
    #[must_use]
    pub fn of(tenant: &str, order_id: &str, definition: &str) -> SagaId {
        // Lengths are part of the name, so ("a", "bc") and ("ab", "c") stay apart.
        let name =
            format!("saga/{}:{tenant}/{}:{order_id}/{definition}", tenant.len(), order_id.len());
        SagaId(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }

    /// Which of `count` equal shares of all sagas this one is in: a number below `count`.
    /// The id is a hash, so its low bits are as good as any.
    #[must_use]
    pub fn share_of(self, count: usize) -> usize {
        let (_, low) = self.0.as_u64_pair();
        usize::try_from(low % count.max(1) as u64).unwrap_or(0)
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which way a command works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Forward,
    Compensate,
}

impl Direction {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Forward => "forward",
            Direction::Compensate => "compensate",
        }
    }
}

/// A command's idempotency key: UUIDv5 of (saga, step, direction, generation), so that every
/// resend carries the same one and a participant can apply it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub Uuid);

impl CommandId {
    #[must_use]
    pub fn of(saga: SagaId, step: &str, direction: Direction, generation: u16) -> CommandId {
        let name = format!("{step}/{}/{generation}", direction.as_str());
        CommandId(Uuid::new_v5(&saga.0, name.as_bytes()))
    }
}

impl CommandId {
    /// The id of a notice, which is sent once: no step's name has a slash in it.
    #[must_use]
    pub fn of_notice(saga: SagaId, notice: &Notice) -> CommandId {
        let name = format!("notice/{}/{}", notice.on.as_str(), notice.command);
        CommandId(Uuid::new_v5(&saga.0, name.as_bytes()))
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies an event that came from outside, for telling a repeated one from a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(pub Uuid);

impl EventId {
    /// A CloudEvent is identified by its source and id together.
    #[must_use]
    pub fn of(source: &str, id: &str) -> EventId {
        let name = format!("event/{}:{source}/{id}", source.len());
        EventId(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }
}

/// Spreads the bits of ids over a u64, for jitter: as good as random to look at, yet the same
/// on every replay (splitmix64's finisher).
#[must_use]
pub(super) fn spread(saga: SagaId, salt: u64) -> u64 {
    let (high, low) = saga.0.as_u64_pair();
    let mut z = high ^ low.rotate_left(32) ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
