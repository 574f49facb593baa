//! Customers: people who book. Their values are personal, and are answered only to callers of their tenant.

pub mod archive;
pub mod create;
pub mod erase;
pub mod get;
pub mod list;
pub mod update;

use chrono::{DateTime, Utc};
use daybook_domain::{
    Disclosed,
    customer::{Customer, CustomerCommand},
    permission::{Action, Resource},
    registry::Registered as _,
    text::{Email, Name, Phone},
};
use daybook_projections::customers::CustomerRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    context::CallContext,
    problem::Result,
    respond::{subject, wrong_type},
};
use crate::{app::AppState, eventstore::Committed};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, update::update, archive::archive))
        .routes(routes!(erase::erase))
}

/// A customer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Customer)]
pub struct CustomerBody {
    /// Their id.
    pub id: Uuid,
    /// Their name; null once erased.
    #[schema(value_type = Option<String>)]
    pub name: Disclosed<String>,
    /// Their e-mail address.
    #[schema(value_type = Option<String>)]
    pub email: Disclosed<String>,
    /// Their telephone number.
    #[schema(value_type = Option<String>)]
    pub phone: Disclosed<String>,
    /// Whether they take no more bookings.
    pub archived: bool,
    /// Where their erasure stands, once it was asked for: `requested`, `queued` (a legal hold stands against it; told to
    /// those who may see holds) or `done`. In reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<String>,
    /// The version, as in `ETag`.
    pub version: i64,
    /// When they were registered; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// When the record last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTime<Utc>>,
}

/// Who a person is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Their name.
    pub name: String,
    /// Their e-mail address.
    pub email: Option<String>,
    /// Their telephone number.
    pub phone: Option<String>,
}

impl Person {
    /// Their name, e-mail address and telephone number; `within` is where in the request they stand.
    ///
    /// # Errors
    /// `validation_failed` at the field that is wrong.
    pub fn parse(&self, within: &str) -> Result<(Name, Option<Email>, Option<Phone>)> {
        let at = |field: &str| format!("{within}/{field}");
        Ok((
            Name::new(&self.name, &at("name"))?,
            self.email.as_deref().map(|text| Email::new(text, &at("email"))).transpose()?,
            self.phone.as_deref().map(|text| Phone::new(text, &at("phone"))).transpose()?,
        ))
    }

    /// The command that registers them; `within` is where in the request they stand.
    ///
    /// # Errors
    /// `validation_failed` at the field that is wrong.
    pub fn register(&self, within: &str) -> Result<CustomerCommand> {
        let (name, email, phone) = self.parse(within)?;
        Ok(CustomerCommand::Register { name, email, phone })
    }
}

impl From<CustomerRow> for CustomerBody {
    fn from(row: CustomerRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            email: row.email,
            phone: row.phone,
            archived: row.archived,
            erasure: row.erasure,
            version: row.version,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }
    }
}

impl CustomerBody {
    /// The customer as this caller may read them. That an erasure waits for a legal hold is for those who may see holds: not
    /// for the customer whom one may be about.
    pub fn read_by(call: &CallContext, row: CustomerRow) -> Self {
        let sees_holds = call.caller.scope_of(Resource::LegalHolds, Action::Read).is_some();
        let mut body = Self::from(row);
        if body.erasure.as_deref() == Some("queued") && !sees_holds {
            body.erasure = Some("requested".into());
        }
        body
    }

    /// The customer as a command left them.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let customer = Customer::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            name: (&customer.name).into(),
            email: (&customer.email).into(),
            phone: (&customer.phone).into(),
            archived: customer.archived,
            erasure: None,
            version: changed.sequence,
            created_at: None,
            updated_at: None,
        })
    }
}
