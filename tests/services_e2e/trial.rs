//! A case over real services as a trial: ignored, with the reason, where they cannot be started.

use std::path::Path;
use std::time::Duration;

use libtest_mimic::{Completion, Trial};

use crate::instance;

/// `needs` finds what the case gets, beside the services, or why it cannot run. A case that takes
/// longer than `patience` hangs.
pub fn trial<T: 'static, F: Future<Output = ()>>(
    name: &str,
    patience: Duration,
    needs: fn(&Path) -> Result<T, String>,
    case: impl FnOnce(T) -> F + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        let needed = match instance::scripts().and_then(|scripts| needs(&scripts)) {
            Ok(needed) => needed,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return Ok(Completion::ignored_with(reason));
            }
        };
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let ran = runtime.block_on(async { tokio::time::timeout(patience, case(needed)).await });
        // What a case left running in the background does not hold up the next one.
        runtime.shutdown_background();
        ran.map(|()| Completion::Completed)
            .map_err(|_| format!("still not finished after {patience:?}").into())
    })
}
