//! `GET /support/counts`

use axum::{extract::State, response::Response};
use daybook_projections::{
    Schema,
    support_counts::{self as counts, PersonCount, StateCount, TenantCount},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Viewer;
use crate::{
    app::AppState,
    http::{
        problem::{ProblemBody, Result},
        respond,
    },
    tenancy::{Access, TenantTx},
};

/// How many there are.
#[derive(Debug, Serialize, ToSchema)]
pub struct SupportCounts {
    /// By kind and state.
    by_state: Vec<StateCountBody>,
    /// By kind and person: the hundred with the most.
    by_person: Vec<PersonCountBody>,
    /// By kind and tenant: the hundred with the most. For the platform's people.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_tenant: Option<Vec<TenantCountBody>>,
}

/// How many of a kind are in a state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SupportStateCount)]
pub struct StateCountBody {
    /// `requests`, `sessions`, `hijacks` or, in a tenant, `grants`.
    kind: String,
    /// Their state; requests whose window is open are `open`, no longer so `approved`.
    state: String,
    /// How many.
    count: i64,
}

/// How many of a kind are somebody's.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SupportPersonCount)]
pub struct PersonCountBody {
    /// As in `by_state`.
    kind: String,
    /// Who asks, is in it, acts, or was granted it.
    user_id: Uuid,
    /// How many.
    count: i64,
}

/// How many of a kind are in a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SupportTenantCount)]
pub struct TenantCountBody {
    /// As in `by_state`.
    kind: String,
    /// The tenant's slug.
    tenant: String,
    /// How many.
    count: i64,
}

/// Count support requests, support sessions, hijacks and permission grants: a tenant's people their tenant's, the platform's
/// people those of the platform's people in all active tenants.
#[utoipa::path(
    get, path = "/api/v1/support/counts", tag = "support", operation_id = "support_counts",
    responses(
        (status = 200, body = SupportCounts),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn counts(State(state): State<AppState>, viewer: Viewer) -> Result<Response> {
    let pool = state.store().database().app();
    let (by_state, by_person, by_tenant) = match viewer {
        Viewer::Tenant(call) => {
            let mut tx = TenantTx::begin(pool, &call.schema, Access::ReadConsistent).await?;
            let found = (counts::by_state(&mut tx).await?, counts::by_person(&mut tx).await?, None);
            tx.release();
            found
        }
        Viewer::Platform(_) => {
            let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::ReadConsistent).await?;
            let found = (
                counts::of_all_by_state(&mut tx).await?,
                counts::of_all_by_person(&mut tx).await?,
                Some(counts::of_all_by_tenant(&mut tx).await?),
            );
            tx.release();
            found
        }
    };
    let state = |StateCount { kind, state, count }| StateCountBody { kind, state, count };
    let person = |PersonCount { kind, user_id, count }| PersonCountBody { kind, user_id, count };
    let tenant = |TenantCount { kind, tenant, count }| TenantCountBody { kind, tenant, count };
    respond::json(&SupportCounts {
        by_state: by_state.into_iter().map(state).collect(),
        by_person: by_person.into_iter().map(person).collect(),
        by_tenant: by_tenant.map(|rows| rows.into_iter().map(tenant).collect()),
    })
}
