//! `POST /public/leads`

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use daybook_domain::{
    LeadId, OfferingId,
    lead::{Lead, LeadCommand},
    permission::{Action, Resource},
    registry::Registered as _,
    text::Notes,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{context::PublicCall, count, within};
use crate::{
    app::AppState,
    eventstore::{Command, Committed},
    http::{
        customers::Person,
        json::Json,
        leads,
        problem::{Problem, ProblemBody, Result},
        respond::{self, subject, wrong_type},
    },
};

/// Somebody who asks to be contacted, with an e-mail address, a telephone number or both.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitLead {
    /// Their name.
    name: String,
    /// Their e-mail address; required without a telephone number.
    email: Option<String>,
    /// Their telephone number; required without an e-mail address.
    phone: Option<String>,
    /// What they ask.
    message: Option<String>,
    /// The offering they ask about.
    offering_id: Option<Uuid>,
}

/// That it was taken, and nothing of what it says.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubmittedLead {
    /// Its id.
    id: Uuid,
    /// `new`.
    #[schema(example = "new")]
    status: &'static str,
}

impl SubmittedLead {
    fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let lead = Lead::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self { id: changed.id, status: leads::status(lead.handled) })
    }
}

/// A call that leaves a lead. A house that takes no bookings from the public can be asked all the more.
#[derive(Clone, Debug)]
pub struct LeadCall(PublicCall);

impl FromRequestParts<AppState> for LeadCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let tenant = PublicCall::named(parts, state).await?.ok_or_else(Problem::not_found)?;
        PublicCall::of(parts, state, tenant).await.map(Self)
    }
}

/// Ask to be contacted.
#[utoipa::path(
    post, path = "/api/v1/public/leads", tag = "public", operation_id = "public_submit_lead", security(()),
    params(
        ("X-Tenant-Slug" = Option<String>, Header, description = "The tenant, unless a key or the page's domain says it"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = SubmitLead,
    responses(
        (status = 201, body = SubmittedLead),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn submit(
    State(state): State<AppState>,
    LeadCall(call): LeadCall,
    Json { value, hash }: Json<SubmitLead>,
) -> Result<Response> {
    call.allows(Resource::Leads, Action::Create)?;
    let allowance = count(&state, &call, &state.limits().policies().leads).await?;
    within(allowance, take(&state, call, value, hash).await)
}

async fn take(state: &AppState, call: PublicCall, value: SubmitLead, hash: [u8; 32]) -> Result<Response> {
    let SubmitLead { name, email, phone, message, offering_id } = value;
    let (name, email, phone) = Person { name, email, phone }.parse("")?;
    let command = LeadCommand::Submit {
        name,
        email,
        phone,
        message: message.map(|text| Notes::new(&text, "/message")).transpose()?,
        offering_id: offering_id.map(OfferingId),
    };
    let schema = call.schema();
    let command = Command::create(LeadId(Uuid::now_v7()), command).expecting(call.if_match.expected());
    let committed = state.store().execute(&schema, call.unit(vec![command], None, hash)?).await?;
    respond::created(&committed, "leads", &SubmittedLead::of(&committed)?)
}
