//! Operator verbs, used alike by the command line and by HTTP.
//!
//! Looking changes nothing. What changes something goes through the same `decide` and the same
//! commit as every message, with an audit row in the same transaction.

mod approval;
mod ask;
mod explain;
pub mod letters;
mod line;
mod sequence;
mod timeline;
mod verbs;

use std::sync::Arc;

use uuid::Uuid;

pub use approval::{MONEY_AND_GOODS, Outcome, Policy, Request, approve, ask, requests, withdraw};
pub use ask::{As, Ask};
pub use explain::{Explanation, StepView, age, explain, span};
pub use line::{Line, line};
pub use sequence::diagrams;
pub use timeline::{Entry, timelines};
pub use verbs::{Answer, By, Deed, LegalVerb, Mode, perform};

use crate::catalog::{Catalog, LoadedDefinition};
use crate::store::{Store, StoreError, Stored};
use crate::worker::read_definitions;

#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("there is no order '{0}'")]
    NoSuchOrder(String),
    #[error("order '{order}' exists for several tenants ({tenants}): say which with --tenant")]
    SeveralTenants { order: String, tenants: String },
    #[error("definition {name} version {version} is not published, or cannot be read")]
    UnknownDefinition { name: String, version: u32 },
    #[error("the saga of order '{0}' does not fit its definition: its row is damaged")]
    Unreadable(String),
    #[error("the definition has no step '{step}'; it has {}", known.join(", "))]
    UnknownStep { step: String, known: Vec<String> },
    #[error("there is no attention code '{0}'")]
    UnknownCode(String),
    #[error(
        "nothing waits for a second person under {0}: `makegood order requests` lists what does"
    )]
    NoSuchRequest(Uuid),
    #[error("the request {0} cannot be read: it was written by a newer version")]
    UnreadableRequest(Uuid),
    #[error("'{0}' asked for it: another person must agree")]
    SamePerson(String),
    #[error("the saga changed under every attempt; try again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All published definitions of a store.
///
/// # Errors
/// When the store cannot be read. A definition that this version cannot read is left out.
pub async fn definitions(store: &dyn Store) -> Result<Catalog, StoreError> {
    Ok(read_definitions(&store.definitions().await?).0)
}

/// The sagas of one order, all of the same tenant.
///
/// # Errors
/// When there is none, or several tenants have an order of that id.
pub async fn sagas_of(
    store: &dyn Store,
    order_id: &str,
    tenant: Option<&str>,
) -> Result<Vec<Stored>, OperateError> {
    let found = store.find(order_id, tenant).await?;
    let Some(first) = found.first() else {
        return Err(OperateError::NoSuchOrder(order_id.to_owned()));
    };
    if found.iter().any(|stored| stored.order.tenant != first.order.tenant) {
        let mut tenants: Vec<&str> = found.iter().map(|s| s.order.tenant.as_str()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let order = order_id.to_owned();
        return Err(OperateError::SeveralTenants { order, tenants: tenants.join(", ") });
    }
    Ok(found)
}

fn definition_of(
    catalog: &Catalog,
    stored: &Stored,
) -> Result<Arc<LoadedDefinition>, OperateError> {
    let (name, version) = (&stored.order.definition, stored.order.definition_version);
    let Some(loaded) = catalog.get(name, version) else {
        return Err(OperateError::UnknownDefinition { name: name.clone(), version });
    };
    if !stored.saga.fits(&loaded.definition) {
        return Err(OperateError::Unreadable(stored.order.order_id.clone()));
    }
    Ok(loaded.clone())
}
