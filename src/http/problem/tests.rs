use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;

async fn body(problem: Problem) -> (StatusCode, Value) {
    let response = problem.render(Uuid::nil());
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn every_member_of_the_contract_is_there() {
    let (status, body) = body(DomainError::field("/check_out", "interval_reversed", "no").into()).await;
    assert_eq!(status, 422);
    assert_eq!(
        body,
        json!({
            "type": "urn:daybook:problem:validation_failed",
            "title": "The request is not valid",
            "status": 422,
            "detail": "One or more fields are not valid.",
            "code": "validation_failed",
            "request_id": "00000000-0000-0000-0000-000000000000",
            "errors": [{"pointer": "/check_out", "code": "interval_reversed", "detail": "no"}],
        })
    );
}

#[tokio::test]
async fn each_refusal_has_its_status_and_code() {
    for (error, status, code) in [
        (DomainError::not_found("booking"), 404, "not_found"),
        (DomainError::SlotTaken, 409, "slot_taken"),
        (DomainError::HoldExpired, 410, "hold_expired"),
        (DomainError::wrong_state("cancelled", "it is over"), 409, "wrong_state"),
        (DomainError::AlreadyExists { what: "schedule".into() }, 409, "already_exists"),
        (DomainError::ReasonRequired, 422, "validation_failed"),
        (DomainError::VersionConflict, 412, "version_conflict"),
    ] {
        let (found, body) = body(StoreError::from(error).into()).await;
        assert_eq!((found.as_u16(), body["code"].as_str()), (status, Some(code)));
    }
    for (error, status, code) in [
        (StoreError::KeyReused, 422, "idempotency_key_reused"),
        (StoreError::KeyInFlight, 409, "idempotency_in_flight"),
        (StoreError::ShuttingDown, 503, "unavailable"),
        (StoreError::Sealing("x"), 500, "internal"),
    ] {
        let (found, body) = body(error.into()).await;
        assert_eq!((found.as_u16(), body["code"].as_str()), (status, Some(code)));
    }
}

#[tokio::test]
async fn a_missing_database_is_a_503_that_names_no_cause() {
    let error = StoreError::Database { attempted: "secret table", source: sqlx::Error::PoolTimedOut };
    let problem = Problem::from(error);
    let response = problem.render(Uuid::nil());
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    let (_, body) = body(problem).await;
    assert!(!body.to_string().contains("secret") && !body.to_string().contains("pool"));
}

#[test]
fn a_replayed_refusal_says_so() {
    let problem = Problem::from(StoreError::Refused { error: DomainError::SlotTaken, replayed: true });
    assert_eq!(problem.render(Uuid::nil()).headers()["idempotent-replayed"], "true");
}
