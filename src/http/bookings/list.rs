//! `GET /bookings`

use axum::{extract::State, response::Response};
use daybook_projections::bookings::{self, BookingFilter};
use uuid::Uuid;

use super::BookingBody;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, scope,
    },
};

const STATUSES: [&str; 9] = [
    "held",
    "pending",
    "confirmed",
    "checked_in",
    "completed",
    "cancelled",
    "rejected",
    "expired",
    "no_show",
];

/// Which bookings, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: BookingFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = BookingFilter {
            status: params.one_of("status", &STATUSES)?,
            resource_id: params.optional("resource_id")?,
            offering_id: params.optional("offering_id")?,
            customer_id: params.optional("customer_id")?,
            from: params.optional::<Moment>("from")?.map(|moment| moment.0),
            to: params.optional::<Moment>("to")?.map(|moment| moment.0),
            among: None,
        };
        Ok(Self { filter, page })
    }
}

/// List bookings, oldest first.
#[utoipa::path(
    get, path = "/api/v1/bookings", tag = "bookings", operation_id = "list_bookings",
    params(
        ("status" = Option<String>, Query, description = "Only of this status"),
        ("resource_id" = Option<Uuid>, Query, description = "Only on this resource"),
        ("offering_id" = Option<Uuid>, Query, description = "Only of this offering"),
        ("customer_id" = Option<Uuid>, Query, description = "Only of this customer"),
        ("from" = Option<String>, Query, description = "Only what ends after this date or instant"),
        ("to" = Option<String>, Query, description = "Only what begins before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<BookingBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { mut filter, page }): Query<List>,
) -> Result<Response> {
    scope::narrow_bookings(&call, &mut filter);
    let question = format!("bookings {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = bookings::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    respond::json_of_about(
        1_000 + rows.len() * 700,
        &cursors.page(&page, rows, |row| row.id, BookingBody::from),
    )
}
