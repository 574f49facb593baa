//! The audit trail: the events of the log as they were fixed, each with the hash its proof is about.

pub mod api_calls;
pub mod booking_changes;
pub mod bundle;
pub mod checkpoint;
pub mod consistency;
pub mod erasures;
pub mod errors;
pub mod events;
pub mod export;
pub mod head;
pub mod holds;
pub mod inclusion;
pub mod item;
pub mod keys;
pub mod live;
pub mod logins;
pub mod messages;
pub mod retention;
mod sending;
pub mod stream;
pub mod support;
pub mod tile;

use daybook_projections::log::LogRow;
use http::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    cursor::{Cursors, Page},
    disclosure::{self, Disclosure},
    problem::{Code, Problem, Result},
};
use crate::{
    app::AppState,
    eventstore::StoreError,
    ledger::{LedgerError, tree::Hash},
};

pub use item::{AuditEvent, Text};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(events::events))
        .routes(routes!(api_calls::list))
        .routes(routes!(logins::list))
        .routes(routes!(booking_changes::list))
        .routes(routes!(messages::list))
        .routes(routes!(errors::list))
        .routes(routes!(export::export))
        .routes(routes!(bundle::bundle))
        .routes(routes!(retention::retention))
        .routes(routes!(live::live))
        .routes(routes!(stream::stream))
        .routes(routes!(support::list))
        .routes(routes!(support::one))
        .routes(routes!(checkpoint::checkpoint))
        .routes(routes!(inclusion::inclusion))
        .routes(routes!(consistency::consistency))
        .routes(routes!(tile::tile))
        .routes(routes!(keys::keys))
        .routes(routes!(head::head))
        .routes(routes!(erasures::list))
        .merge(holds::routes())
}

/// The content type of a note.
const NOTE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Refuses whoever is not shown personal data: what is hidden in a leaf is few enough values to be tried against its hash.
fn clear_only() -> Result<()> {
    match disclosure::current() {
        Disclosure::Clear => Ok(()),
        Disclosure::Masked => Err(Problem::new(
            Code::Forbidden,
            "A redacted support session is shown neither leaves nor hashes of them.",
        )),
    }
}

/// What is not signed yet, and will be.
fn not_yet() -> Problem {
    Problem::from(LedgerError::NotYet)
}

/// A number of leaves, or a position, that is given in a query.
fn leaves(name: &str, value: i64, least: u64) -> Result<u64> {
    u64::try_from(value).ok().filter(|value| *value >= least).ok_or_else(|| {
        Problem::field(format!("?{name}"), "out_of_range", format!("this is at least {least}"))
    })
}

fn all_hex(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

/// A page of events, by position.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage<'a> {
    items: Vec<AuditEvent<'a>>,
    next_cursor: Option<String>,
}

impl<'a> AuditPage<'a> {
    fn new(rows: &'a mut Vec<LogRow>, page: &Page, cursors: &Cursors<'_>) -> Result<Self> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).and_then(|last| cursors.encode(&last.position));
        let items = rows.iter().map(AuditEvent::read).collect::<Result<_, StoreError>>()?;
        Ok(Self { items, next_cursor })
    }
}
