//! `GET /audit/logins`

use std::net::IpAddr;

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::Disclosed;
use daybook_projections::logins::{self, KINDS, LoginFilter, LoginRow, OUTCOMES};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, retained,
    },
};

/// Which logins, and which page of them.
#[derive(Debug)]
pub struct Question {
    filter: LoginFilter,
    page: Page,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        // However it is written, it is compared as it is kept.
        let ip = match params.personal("ip")? {
            None => None,
            Some(text) => {
                let ip: IpAddr = text
                    .parse()
                    .map_err(|_| Problem::field("?ip", "invalid_value", "expected an IP address"))?;
                Some(ip.to_canonical().to_string())
            }
        };
        let filter = LoginFilter {
            user_id: params.optional("user_id")?,
            kind: params.one_of("kind", &KINDS)?,
            outcome: params.one_of("outcome", &OUTCOMES)?,
            ip,
            from: params.optional::<Moment>("from")?.map(|moment| moment.0),
            to: params.optional::<Moment>("to")?.map(|moment| moment.0),
        };
        Ok(Self { filter, page })
    }
}

/// A sign-in, a sign-out, the end of a session, a new password; or a try at one that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct Login {
    /// When; of several that were refused, the first.
    at: DateTime<Utc>,
    /// `sign_in`, `sign_out`, `session_end`, `password_change`, `password_reset` or `reset_request`.
    kind: String,
    /// `succeeded`, `failed` or `locked_out`.
    outcome: String,
    /// By which means (`password`, `link`, `code`), or why a session ended (`logout`, `revoked`, `cap`, `expired`, `reuse`,
    /// `password_changed`, `account_closed`).
    how: Option<String>,
    /// The account; null where what was typed is none.
    user_id: Option<Uuid>,
    /// Who did it; null for nobody who is known.
    actor: Option<String>,
    /// For whom, while hijacking.
    on_behalf_of: Option<String>,
    /// The session.
    session_id: Option<Uuid>,
    /// From where.
    #[schema(value_type = Option<String>)]
    ip: Disclosed<String>,
    /// With what.
    #[schema(value_type = Option<String>)]
    user_agent: Disclosed<String>,
    /// The request it came with, as in `X-Request-Id`.
    request_id: Option<Uuid>,
    /// Its position in the log; null for what was refused, which is not in the log.
    position: Option<i64>,
    /// How many tries it stands for: when there are many in a minute, those that are alike are counted together, and those
    /// beyond telling apart have neither account nor address.
    times: i32,
}

impl From<LoginRow> for Login {
    fn from(row: LoginRow) -> Self {
        Self {
            at: row.at,
            kind: row.kind,
            outcome: row.outcome,
            how: row.how,
            user_id: row.user_id,
            actor: row.actor,
            on_behalf_of: row.on_behalf_of,
            session_id: row.session_id,
            ip: row.ip,
            user_agent: row.user_agent,
            request_id: row.request_id,
            position: row.position,
            times: row.times,
        }
    }
}

/// Sign-ins and sign-outs, ends of sessions, new passwords, and tries that were refused, newest first, as far back as the
/// plan keeps history. What was refused is listed about a second later, and where it is counted, within two minutes. Refreshes
/// of access tokens are no logins.
#[utoipa::path(
    get, path = "/api/v1/audit/logins", tag = "audit", operation_id = "audit_logins",
    params(
        ("user_id" = Option<Uuid>, Query, description = "Only of this account"),
        ("kind" = Option<String>, Query, description = "Only about this (`sign_in`)"),
        ("outcome" = Option<String>, Query, description = "`succeeded`, `failed` or `locked_out`"),
        ("ip" = Option<String>, Query, description = "Only from this address"),
        ("from" = Option<String>, Query, description = "Only at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<Login>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(Question { mut filter, page }): Query<Question>,
) -> Result<Response> {
    let scope = format!("logins {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let past: Option<(DateTime<Utc>, Uuid)> = cursors.decode(&page)?;
    let cut = retained::cut(&state, &call).await?;
    filter.from = Some(filter.from.map_or(cut, |from| from.max(cut)));
    let mut tx = position::read_followed(&state, &call, min, "logins").await?;
    retained::reaches(&mut tx, filter.to, cut).await?;
    let rows = logins::page(&mut tx, &filter, past, page.fetch()).await?;
    tx.release();
    let answer = respond::json(&cursors.page(&page, rows, |last| (last.at, last.id), Login::from))?;
    Ok(retained::mark(answer, cut))
}
