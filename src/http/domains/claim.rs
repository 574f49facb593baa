//! `POST /domains`: whoever claims a host is told the record that proves it. A claim keeps nobody else from the host.

use axum::{extract::State, response::Response};
use daybook_domain::{DomainId, Hostname, tenant::TenantCommand};
use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{DomainBody, execute, note_replay, tenant_of};
use crate::{
    app::AppState,
    dns::{self, records::Made},
    http::{
        context::CommandContext,
        json::Json,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    random,
};

/// A host to be claimed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimDomain {
    /// The host, in any script.
    #[schema(example = "book.camping-river.example")]
    hostname: String,
    /// Why.
    reason: Option<String>,
}

/// A new claim.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimedBody {
    /// What it is.
    #[serde(flatten)]
    pub domain: DomainBody,
    /// Whether the record was made already, as can be where the zone is the platform's.
    pub record_created: bool,
    /// Why the record, which could have been made, was not: it is to be made by hand, or the platform's people asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<&'static str>,
}

/// Claim a host. Publish the record that the answer names, then verify the domain.
#[utoipa::path(
    post, path = "/api/v1/domains", tag = "domains", operation_id = "claim_domain",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = ClaimDomain,
    responses(
        (status = 201, body = ClaimedBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn claim(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<ClaimDomain>,
) -> Result<Response> {
    let hostname = dns::hostname(&value.hostname)?;
    let token = random::token("").map_err(Problem::internal)?;
    let command = TenantCommand::ClaimDomain {
        domain_id: DomainId(Uuid::now_v7()),
        hostname: hostname.clone(),
        token: token.expose_secret().to_owned(),
    };
    let committed = execute(&state, context, command, value.reason, hash).await?;
    // By its host, of which a tenant has one: a repetition brought an id and a token that were not used.
    let tenant = tenant_of(&committed)?;
    let (id, domain) = tenant
        .domains
        .iter()
        .find(|(_, domain)| domain.hostname == hostname)
        .ok_or_else(Problem::not_found)?;
    let made = make_record(&state, &tenant.slug, &hostname, &domain.token).await;
    let body = ClaimedBody {
        domain: DomainBody::new(*id, domain),
        record_created: made == Made::Yes,
        warning: (made == Made::Failed).then_some(
            "The record could not be made; make it by hand, or release the domain and claim it again.",
        ),
    };
    let mut response = respond::json(&body)?;
    *response.status_mut() = StatusCode::CREATED;
    note_replay(&mut response, &committed);
    Ok(response)
}

async fn make_record(state: &AppState, slug: &str, hostname: &Hostname, token: &str) -> Made {
    state.dns_records().make(slug, hostname, &dns::challenge_value(token)).await
}
