//! The signed link of a guest to their own booking, and the extractors that open it.

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{
    BookingId, TenantId,
    permission::{Action, Resource},
};
use http::{HeaderValue, header};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::context::PublicCall;
use crate::{
    app::AppState,
    auth::link::{self, Purpose},
    http::{
        headers::X_GUEST_TOKEN,
        path::Id,
        problem::{Code, Problem, Result},
        query::{FromParams, Params, Query},
    },
    keys::Keys,
};

/// How long after the end of the stay a link works.
const AFTERWARDS: TimeDelta = TimeDelta::days(30);

/// What a link is for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    tenant: uuid::Uuid,
    booking: uuid::Uuid,
}

/// The link to a booking whose stay ends then.
///
/// # Errors
/// `internal` when it does not serialise.
pub fn sign(keys: &Keys, tenant: TenantId, booking: BookingId, end: DateTime<Utc>) -> Result<SecretString> {
    let payload = Payload { tenant: tenant.0, booking: booking.0 };
    let until = end.checked_add_signed(AFTERWARDS).unwrap_or(end);
    link::sign(keys, Purpose::GuestBooking, &payload, until).map_err(Problem::internal)
}

/// A guest who reads their own booking: with the link in the header, or in the query, as a page is opened.
#[derive(Clone, Debug)]
pub struct GuestRead {
    /// The call.
    pub call: PublicCall,
    /// Their booking.
    pub booking: BookingId,
}

/// A guest who changes their own booking: with the link in the header.
#[derive(Clone, Debug)]
pub struct GuestCommand {
    /// The call.
    pub call: PublicCall,
    /// Their booking.
    pub booking: BookingId,
}

struct Token(Option<String>);

impl FromParams for Token {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self(params.text("token")?))
    }
}

impl FromRequestParts<AppState> for GuestRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let Query(Token(in_query)) = Query::from_request_parts(parts, state).await?;
        let (call, booking) = open(parts, state, in_query).await?;
        Ok(Self { call, booking })
    }
}

impl FromRequestParts<AppState> for GuestCommand {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let (call, booking) = open(parts, state, None).await?;
        Ok(Self { call, booking })
    }
}

async fn open(
    parts: &mut Parts,
    state: &AppState,
    in_query: Option<String>,
) -> Result<(PublicCall, BookingId)> {
    let Id(booking) = Id::<BookingId>::from_request_parts(parts, state).await?;
    let token = match parts.headers.get(X_GUEST_TOKEN) {
        Some(value) => value.to_str().ok().map(ToOwned::to_owned),
        None => in_query,
    };
    let payload: Option<Payload> = token.and_then(|token| {
        link::open(state.store().keys(), Purpose::GuestBooking, token.trim(), crate::clock::now())
    });
    let Some(payload) = payload else {
        let challenge = HeaderValue::from_static(r#"GuestLink realm="daybook""#);
        return Err(Problem::new(Code::Unauthenticated, "Send the booking's own link as X-Guest-Token.")
            .with_header(header::WWW_AUTHENTICATE, challenge));
    };
    // A page opened from a mail names no tenant; the link does.
    let tenant = PublicCall::named(parts, state).await?.unwrap_or(TenantId(payload.tenant));
    // Whether the other booking exists is not told.
    if payload.tenant != tenant.0 || payload.booking != booking.0 {
        return Err(Problem::not_found());
    }
    let call = PublicCall::of(parts, state, tenant).await?;
    call.allows(Resource::Bookings, Action::Create)?;
    Ok((call, booking))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret as _;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_link_works_until_thirty_days_after_the_stay() {
        let end = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let keys = Keys::generate(Path::new("keys.toml"), end).unwrap();
        let (tenant, booking) = (TenantId(Uuid::now_v7()), BookingId(Uuid::now_v7()));
        let token = sign(&keys, tenant, booking, end).unwrap();
        let read = |at| link::open::<Payload>(&keys, Purpose::GuestBooking, token.expose_secret(), at);
        let payload = read(end + TimeDelta::days(29)).unwrap();
        assert_eq!((payload.tenant, payload.booking), (tenant.0, booking.0));
        assert!(read(end + TimeDelta::days(30)).is_none());
    }
}
