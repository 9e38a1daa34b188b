//! Whatever the core can build comes back as it was, small, and damage is noticed.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use uuid::Uuid;

use super::mirror::no_id;
use super::*;
use crate::saga::{
    Announcement, Attention, AttentionCode, CancelState, Cause, CommandId, Direction, EventId,
    Fact, FactSeen, Forward, OrderState, Origin, Outcome, Phase, ProbeState, Reply, StepState,
    Time, Wait, WhyRefused,
};

proptest! {
    #[test]
    fn a_saga_comes_back_as_it_was(saga in saga()) {
        let bytes = saga_to_bytes(&saga);
        prop_assert_eq!(saga_from_bytes(saga.id, &bytes).unwrap(), saga);
    }

    #[test]
    fn a_journal_entry_comes_back_as_it_was(
        moment in moment(),
        input in input(),
        effects in prop::collection::vec(effect(), 0..6),
    ) {
        let row = JournalRow { version: 7, moment, input, effects };
        let bytes = entry_to_bytes(&row);
        prop_assert_eq!(entry_from_bytes(7, moment.now, &bytes).unwrap(), row);
    }

    #[test]
    fn cut_bytes_are_unreadable(saga in saga(), cut in any::<prop::sample::Index>()) {
        let bytes = saga_to_bytes(&saga);
        let cut = &bytes[..cut.index(bytes.len())];
        let refused = saga_from_bytes(saga.id, cut).is_err();
        prop_assert!(refused);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = saga_from_bytes(no_id(), &bytes);
        let _ = entry_from_bytes(1, Time(0), &bytes);
    }
}

fn moment() -> impl Strategy<Value = Moment> {
    (any::<i64>(), any::<u64>(), any::<u64>()).prop_map(|(now, away, barred)| Moment {
        now: Time(now),
        away: StepSet::from_bits(away),
        barred: StepSet::from_bits(barred),
    })
}

#[test]
fn another_format_or_a_byte_too_many_is_unreadable() {
    let (moment, effects) = (Time(0).into(), Vec::new());
    let bytes = entry_to_bytes(&JournalRow { version: 1, moment, input: Input::Clock, effects });
    for damaged in [vec![], [&[FORMAT + 1], &bytes[1..]].concat(), [&bytes[..], &[0]].concat()] {
        let read = entry_from_bytes(1, Time(0), &damaged);
        assert!(matches!(read, Err(StoreError::Unreadable { what: "journal entry" })));
    }
}

#[test]
fn a_running_saga_of_seven_steps_is_small() {
    let at = Time(1_764_000_000_000);
    let wait = Wait {
        attempt: 1,
        postponed: false,
        resend_at: Some(at),
        give_up_at: Some(at),
        deadline_at: Some(at),
    };
    let step = |phase, data: Option<&str>| StepState {
        phase,
        since: at,
        generation: 1,
        undo: 0,
        unsettled: Vec::new(),
        data: data.map(Into::into),
    };
    let saga = Saga {
        id: no_id(),
        status: Status::Running,
        reached: OrderState::Confirmed,
        cause: None,
        cancel: CancelState::None,
        steps: vec![
            step(Phase::Done, None),
            step(Phase::Done, Some(r#"{"reservation":"R-19","warehouse":"SP-3504c0cb"}"#)),
            step(Phase::Done, None),
            step(Phase::Sent(wait), None),
            StepState::idle(),
            StepState::idle(),
            StepState::idle(),
        ],
        facts: Vec::new(),
        attention: Vec::new(),
        started_at: at,
        ended_at: None,
    };
    let size = saga_to_bytes(&saga).len();
    assert!(size < 200, "{size} bytes");
}

#[test]
fn every_status_has_a_number_of_its_own() {
    for status in Status::ALL {
        assert_eq!(status_from_number(status_to_number(status)).unwrap(), status);
    }
    assert!(status_from_number(99).is_err());
}

fn order_state() -> impl Strategy<Value = OrderState> {
    select(OrderState::ALL.to_vec())
}

fn saga() -> impl Strategy<Value = Saga> {
    let cause = prop_oneof![
        Just(Cause::Cancel),
        (any::<usize>(), text()).prop_map(|(step, code)| Cause::Rejected { step, code }),
        any::<usize>().prop_map(|step| Cause::InDoubt { step }),
    ];
    let cancel = select(vec![
        CancelState::None,
        CancelState::Waiting,
        CancelState::Accepted,
        CancelState::Refused,
    ]);
    let fact = (text(), uuid(), time(), any::<bool>()).prop_map(|(kind, event, at, early)| Fact {
        kind,
        event: EventId(event),
        at,
        early,
    });
    let origin = select(vec![Origin::Clock, Origin::Decision]);
    let attention = (option::of(any::<usize>()), code(), time(), origin)
        .prop_map(|(step, code, since, origin)| Attention { step, code, since, origin });
    let standing = (select(Status::ALL.to_vec()), order_state());
    let head = (uuid(), standing, option::of(cause), cancel);
    let lists = (
        prop::collection::vec(step_state(), 0..8),
        prop::collection::vec(fact, 0..3),
        prop::collection::vec(attention, 0..3),
    );
    (head, lists, time(), option::of(time())).prop_map(
        |(
            (id, (status, reached), cause, cancel),
            (steps, facts, attention),
            started_at,
            ended_at,
        )| Saga {
            id: SagaId(id),
            status,
            reached,
            cause,
            cancel,
            steps,
            facts,
            attention,
            started_at,
            ended_at,
        },
    )
}

fn step_state() -> impl Strategy<Value = StepState> {
    let wait = || {
        let clock = || option::of(time());
        (any::<u16>(), any::<bool>(), clock(), clock(), clock()).prop_map(
            |(attempt, postponed, resend_at, give_up_at, deadline_at)| Wait {
                attempt,
                postponed,
                resend_at,
                give_up_at,
                deadline_at,
            },
        )
    };
    let forward = select(vec![Forward::Done, Forward::Unknown, Forward::DoneLate]);
    let phase = prop_oneof![
        Just(Phase::Idle),
        wait().prop_map(Phase::Sent),
        wait().prop_map(Phase::Asking),
        option::of(time()).prop_map(|deadline_at| Phase::Awaiting { deadline_at }),
        Just(Phase::Done),
        text().prop_map(|code| Phase::Failed { code }),
        (wait(), forward, any::<bool>()).prop_map(|(wait, forward, renew)| Phase::Undoing {
            wait,
            forward,
            renew
        }),
        text().prop_map(|code| Phase::Refused { code }),
        Just(Phase::Undone),
    ];
    let generations = (any::<u16>(), any::<u16>(), prop::collection::vec(any::<u16>(), 0..3));
    (phase, time(), generations, option::of(text())).prop_map(
        |(phase, since, (generation, undo, unsettled), data)| StepState {
            phase,
            since,
            generation,
            undo,
            unsettled,
            data,
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    let outcome = prop_oneof![
        Just(Outcome::Success),
        text().prop_map(|code| Outcome::Rejected { code }),
        Just(Outcome::Retry),
        text().prop_map(|code| Outcome::Refused { code }),
        Just(Outcome::NothingToDo),
    ];
    let state = select(vec![ProbeState::Applied, ProbeState::NotApplied, ProbeState::Unknown]);
    let command = || uuid().prop_map(CommandId);
    prop_oneof![
        Just(Input::Start),
        (command(), option::of(text()), outcome, option::of(text())).prop_map(
            |(command, from, outcome, data)| Input::Reply(Reply { command, from, outcome, data })
        ),
        (command(), option::of(text()), state, option::of(text()))
            .prop_map(|(command, from, state, data)| Input::Probed { command, from, state, data }),
        (text(), uuid())
            .prop_map(|(kind, event)| Input::Fact(FactSeen { kind, event: EventId(event) })),
        Just(Input::Clock),
        Just(Input::Cancel),
    ]
}

fn effect() -> impl Strategy<Value = Effect> {
    let direction = select(vec![Direction::Forward, Direction::Compensate]);
    let why = select(vec![WhyRefused::PastPivot, WhyRefused::TooLate]);
    let about = || (option::of(any::<usize>()), code());
    prop_oneof![
        (any::<usize>(), direction, any::<u16>(), any::<u16>()).prop_map(
            |(step, direction, generation, attempt)| Effect::Send {
                step,
                direction,
                generation,
                attempt
            }
        ),
        (any::<usize>(), any::<u16>())
            .prop_map(|(step, generation)| Effect::Probe { step, generation }),
        order_state().prop_map(|state| Effect::Announce(Announcement::Reached(state))),
        any::<usize>().prop_map(|notice| Effect::Notify { notice }),
        why.prop_map(|why| Effect::Announce(Announcement::CancelRefused { why })),
        about().prop_map(|(step, code)| Effect::Announce(Announcement::AttentionRaised {
            step,
            code
        })),
        about().prop_map(|(step, code)| Effect::Announce(Announcement::AttentionCleared {
            step,
            code
        })),
        any::<usize>().prop_map(|step| Effect::LateSuccess { step }),
    ]
}

fn code() -> impl Strategy<Value = AttentionCode> {
    select(AttentionCode::ALL.to_vec())
}

fn time() -> impl Strategy<Value = Time> {
    any::<i64>().prop_map(Time)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn text() -> impl Strategy<Value = Box<str>> {
    any::<String>().prop_map(Into::into)
}
