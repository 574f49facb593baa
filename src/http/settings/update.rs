//! `PATCH /settings`

use axum::{extract::State, response::Response};
use daybook_domain::{permission::Tier, settings::SettingsCommand, text::Name};
use serde::Deserialize;
use utoipa::ToSchema;

use super::SettingsBody;
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        etag::RequiredIfMatch,
        json::Json,
        nullable,
        problem::{Code, Problem, ProblemBody, Result},
        respond,
    },
};

/// Changes to the settings; what is left out stays, null removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSettings {
    /// Whether guests may see what is free and book without an account.
    public_bookings: Option<bool>,
    /// What stands in mails as the name of the house.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    display_name: Option<Option<String>>,
    /// Whether the platform's support may act as a user of this tenant without an approved window.
    hijack_without_approval: Option<bool>,
    /// Why.
    reason: Option<String>,
}

/// Change the tenant's settings.
#[utoipa::path(
    patch, path = "/api/v1/settings", tag = "settings", operation_id = "update_settings",
    params(("If-Match" = String, Header, description = "The version that is changed; 0 before any change")),
    request_body = UpdateSettings,
    responses(
        (status = 200, body = SettingsBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    context: CommandContext,
    RequiredIfMatch(version): RequiredIfMatch,
    Json { value, hash }: Json<UpdateSettings>,
) -> Result<Response> {
    // Who is let in without asking is not for whoever was let in to say.
    if value.hijack_without_approval.is_some() && context.call.caller.principal.within().is_some() {
        return Err(Problem::not_in_masquerade());
    }
    // It stands in for an approval for good, which is a person's to give: an owner's, signed in, and not by a grant.
    let principal = &context.call.caller.principal;
    if value.hijack_without_approval == Some(true)
        && (principal.session().is_none() || principal.tier != Tier::TenantOwner)
    {
        return Err(Problem::new(
            Code::Forbidden,
            "That the platform's people act as yours without asking is for an owner to allow, signed in.",
        ));
    }
    let name = |text: Option<String>| text.map(|text| Name::new(&text, "/display_name")).transpose();
    let command = SettingsCommand::Change {
        public_bookings: value.public_bookings,
        display_name: value.display_name.map(name).transpose()?,
        hijack_without_approval: value.hijack_without_approval,
    };
    let schema = context.call.schema.clone();
    let command = Command::to(context.call.caller.tenant, command).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    state.masquerade_log().ended_by(state.store(), &schema, &committed, None).await;
    respond::done(&committed, &SettingsBody::of(&committed)?)
}
