//! `PATCH /me`

use axum::{extract::State, response::Response};
use daybook_domain::{
    text::{Email, Name},
    user::{By, UserCommand},
};
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        auth::{SignedInUser, signed_in},
        context::OwnCommand,
        json::Json,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// Changes to one's own account; what is left out stays. What one may do is for others to change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMe {
    /// A new name.
    name: Option<String>,
    /// A new e-mail address; needs the password, because with it the account can be taken over.
    email: Option<String>,
    /// The password.
    #[schema(value_type = Option<String>)]
    password: Option<SecretString>,
}

/// Change one's own name or e-mail address.
#[utoipa::path(
    patch, path = "/api/v1/me", tag = "me", operation_id = "update_me",
    request_body = UpdateMe,
    responses(
        (status = 200, body = SignedInUser),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    own: OwnCommand,
    Json { value, .. }: Json<UpdateMe>,
) -> Result<Response> {
    let name = value.name.map(|text| Name::new(&text, "/name")).transpose()?;
    let email = value.email.map(|text| Email::new(&text, "/email")).transpose()?;
    if email.is_some() {
        let Some(password) = value.password else {
            return Err(Problem::field(
                "/password",
                "required",
                "the password is needed to change the address",
            ));
        };
        super::prove_password(&state, &own, password, "/password").await?;
    }
    let by = By::User(own.user);
    let unit = own.unit(|user| Command::to(user, UserCommand::Update { email, name, by }));
    let committed = state.store().execute(&own.schema(), unit).await?;
    respond::done_to_many(&committed, &signed_in(&state, own.tenant, own.user, own.session).await?)
}
