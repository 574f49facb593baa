//! The audit trail: the events of the log as they were fixed, each with the hash its proof is about.

pub mod api_calls;
pub mod bundle;
pub mod events;
pub mod export;
pub mod item;
pub mod live;
pub mod retention;
mod sending;
pub mod stream;
pub mod support;

use daybook_projections::log::LogRow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    cursor::{Cursors, Page},
    problem::Result,
};
use crate::{app::AppState, eventstore::StoreError};

pub use item::AuditEvent;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(events::events))
        .routes(routes!(api_calls::list))
        .routes(routes!(export::export))
        .routes(routes!(bundle::bundle))
        .routes(routes!(retention::retention))
        .routes(routes!(live::live))
        .routes(routes!(stream::stream))
        .routes(routes!(support::list))
        .routes(routes!(support::one))
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
