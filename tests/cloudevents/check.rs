//! The check of a participant while a worker is at work.

use std::time::Duration;

use serde_json::json;

use crate::instance::shared;
use crate::orders::scripted;
use crate::process::until;
use crate::stage::Stage;

/// For the worker to have read all answers.
const READ: Duration = Duration::from_secs(60);
const LETTERS: &str = "SELECT count(*) FROM dead_letter";
const OTHER_LETTERS: &str = "SELECT count(*) FROM dead_letter WHERE reason <> 'unknown-saga' \
                             OR headers::json ->> 'ce_tenantid' <> 'participant-check'";

/// Commands beside those of a worker, with a service that answers both.
pub async fn a_check_beside_a_running_worker_disturbs_nobody(broker: &'static str) {
    let mut stage = Stage::new("beside", shared("postgres"), shared(broker)).await;
    stage.cast((0..20).map(|n| scripted("b", n, json!({}), "completed")).collect());
    let _participants = stage.participants();
    let _worker = stage.ready_worker("worker").await;
    let check =
        async { stage.succeed(&["participant", "check", "--participant", "wms", "--probe"]).await };
    let (_, report) = tokio::join!(stage.submit(4), check);
    let mut letters = 0; // No worker hears of the check at RabbitMQ.
    if broker == "kafka" {
        // There is one topic of answers, and no address to judge.
        assert!(report.contains("19 passed, 0 failed, 2 skipped"), "{report}");
        until("empty queues", READ, async || stage.waiting().await == Some(0)).await;
        letters = stage.number(LETTERS).await.expect("a number");
        assert!(letters > 0, "answers to nobody are kept");
        assert_eq!(stage.number(OTHER_LETTERS).await, Some(0), "and nothing else is");
    } else {
        assert!(report.contains("20 passed, 0 failed, 1 skipped"), "{report}");
    }
    for order in 0..20 {
        let explain = format!("b-{order}");
        assert!(!report.contains(&explain), "other orders are none of its business");
    }
    stage.ends_well(letters).await;
}
