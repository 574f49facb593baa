//! `POST /domains/{id}/verify`: the record is looked for now, and nothing is remembered of earlier times.

use axum::{extract::State, response::Response};
use daybook_domain::{DomainError, DomainId, Hostname, tenant::TenantCommand};
use daybook_projections::domains;

use super::{DomainBody, begin_read, done, execute};
use crate::{
    app::AppState,
    dns::{self, DnsError},
    http::{
        ReasonOnly,
        context::CommandContext,
        json::OptionalJson,
        path::Id,
        problem::{Code, Problem, ProblemBody, Result},
    },
};

/// Prove a domain by its record. 409 `wrong_state` while there is no such record, 409 `already_exists` when another tenant
/// has proved the host, 503 when DNS does not answer.
#[utoipa::path(
    post, path = "/api/v1/domains/{id}/verify", tag = "domains", operation_id = "verify_domain",
    params(
        ("id" = Uuid, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = DomainBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn verify(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<DomainId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let mut tx = begin_read(&state).await?;
    let row = domains::get(&mut tx, context.call.caller.tenant.0, id.0).await?;
    // DNS takes its time, and a connection is not held meanwhile.
    tx.release();
    let row = row.ok_or_else(|| DomainError::not_found("domain"))?;
    if row.verified_at.is_none() {
        look_up(&state, &Hostname::new(&row.hostname, "")?, &row.token).await?;
    }
    let command = TenantCommand::VerifyDomain { domain_id: id };
    let committed = execute(&state, context, command, value.reason, hash).await?;
    done(&committed, id)
}

async fn look_up(state: &AppState, hostname: &Hostname, token: &str) -> Result<()> {
    let name = dns::challenge_name(hostname);
    let records = state.txt_lookup().txt(&name).await.map_err(|error| match error {
        DnsError::Name(_) => Problem::internal(error),
        error => {
            tracing::warn!(%hostname, error = &error as &dyn std::error::Error, "a domain cannot be looked up");
            Problem::unavailable("DNS gave no answer about the record; try again in a moment.")
        }
    })?;
    if dns::proves(&records, token) {
        return Ok(());
    }
    let value = dns::challenge_value(token);
    let found = match records.len() {
        0 => "DNS has no TXT record of that name yet".to_owned(),
        1 => "DNS has one TXT record of that name, with another text".to_owned(),
        count => format!("DNS has {count} TXT records of that name, each with another text"),
    };
    Err(Problem::new(
        Code::WrongState,
        format!(
            "The record was not found: {found}. Publish a TXT record {name} with the text {value}; it can take minutes until it is seen."
        ),
    ))
}
