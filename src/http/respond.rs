//! Answers to commands and reads, with the headers the contract gives each.

use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{
    disclosure,
    etag::etag,
    headers::{IDEMPOTENT_REPLAYED, X_LOG_POSITION, X_LOG_RECEIPT},
    problem::{Problem, Result},
};
use crate::eventstore::{Changed, Committed, Receipt};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON body, as the caller of the request in progress may read it ([`disclosure`]).
///
/// # Errors
/// `internal` when it does not serialise.
pub fn json<T: Serialize>(body: &T) -> Result<Response> {
    json_of_about(1_000, body)
}

/// The same, where it will be about so many bytes long: a long one is not copied again and again as it grows.
///
/// # Errors
/// `internal` when it does not serialise.
pub fn json_of_about<T: Serialize>(bytes: usize, body: &T) -> Result<Response> {
    let mut text = Vec::with_capacity(bytes);
    disclosure::serialising(|| serde_json::to_writer(&mut text, body)).map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, JSON)], text).into_response())
}

/// A JSON body of one aggregate, with its version as `ETag`.
///
/// # Errors
/// `internal` when it does not serialise.
pub fn versioned<T: Serialize>(body: &T, version: i64) -> Result<Response> {
    let mut response = json(body)?;
    response.headers_mut().insert(header::ETAG, etag(version));
    Ok(response)
}

/// The aggregate that the last command of a unit was for.
///
/// # Errors
/// `internal` when the unit was empty.
pub fn subject(committed: &Committed) -> Result<&Changed> {
    committed.changed.last().ok_or_else(|| Problem::internal(Surprise("a unit changed nothing it was for")))
}

/// 201 with where it is and what it is.
///
/// # Errors
/// `internal` when the body does not serialise.
pub fn created<T: Serialize>(committed: &Committed, collection: &str, body: &T) -> Result<Response> {
    let changed = subject(committed)?;
    let mut response = done(committed, body)?;
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/{collection}/{}", changed.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// 200 with what it is now.
///
/// # Errors
/// `internal` when the body does not serialise.
pub fn done<T: Serialize>(committed: &Committed, body: &T) -> Result<Response> {
    let mut response = versioned(body, subject(committed)?.sequence)?;
    command_headers(&mut response, committed);
    Ok(response)
}

/// 200 with what there is to say of several aggregates at once, or of none.
///
/// # Errors
/// `internal` when the body does not serialise.
pub fn done_to_many<T: Serialize>(committed: &Committed, body: &T) -> Result<Response> {
    let mut response = json(body)?;
    command_headers(&mut response, committed);
    Ok(response)
}

/// 204: it is gone from use.
///
/// # Errors
/// `internal` when the unit was empty.
pub fn archived(committed: &Committed) -> Result<Response> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::ETAG, etag(subject(committed)?.sequence));
    command_headers(&mut response, committed);
    Ok(response)
}

/// That an answer to a command tells of nothing new: nothing was changed, or it is that of an earlier request. In the
/// answer's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NothingNew;

/// 204 to a command that leaves nothing to be told.
pub fn silent(committed: &Committed) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    command_headers(&mut response, committed);
    response
}

/// What the answer to every command to the caller's log has: up to where the log went by it, and the receipts.
pub fn command_headers(response: &mut Response, committed: &Committed) {
    if committed.replayed || committed.first_position > committed.last_position {
        response.extensions_mut().insert(NothingNew);
    }
    let headers = response.headers_mut();
    headers.insert(X_LOG_POSITION, HeaderValue::from(committed.last_position));
    // A hash would let the addresses be tried that a redacted session hides.
    if let Some(receipts) = receipts(&committed.receipts).filter(|_| !disclosure::is_masked()) {
        headers.insert(X_LOG_RECEIPT, receipts);
    }
    if committed.replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
}

/// Each event's position and the hash of its leaf: `21:099e…, 22:5f08…`.
fn receipts(receipts: &[Receipt]) -> Option<HeaderValue> {
    let mut text = String::with_capacity(receipts.len() * 80);
    for Receipt { position, leaf_hash } in receipts {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{position}:{}", hex::encode(leaf_hash));
    }
    HeaderValue::try_from(text).ok().filter(|text| !text.is_empty())
}

/// Something that our own code excludes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Surprise(pub &'static str);

/// The state of an aggregate that is of another type than its command: our own code excludes it.
pub fn wrong_type() -> Problem {
    Problem::internal(Surprise("a command answered with another type of aggregate"))
}
