//! Races with the end of a support session or a hijack: by the log, nothing of it comes after its end, and whatever was
//! answered is in the log. Half of the requests are another node's.

use std::time::Duration;

use daybook_domain::permission::Tier;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    masquerade_attacks::{hijack, log, position},
    support::{
        app::{Answer, id},
        site::Dice,
    },
    support_sessions::{begin, events, start, window},
};

/// How many requests race with an end.
const AT_ONCE: usize = 20;

/// Where the log has the one event of a type of an aggregate.
fn position_of(log: &[Value], event_type: &str, aggregate: Uuid) -> i64 {
    let found: Vec<i64> = log
        .iter()
        .filter(|event| event["type"] == event_type && event["aggregate_id"] == json!(aggregate))
        .map(position)
        .collect();
    assert_eq!(found.len(), 1, "{event_type} of {aggregate}");
    found[0]
}

/// Requests at once, and amid them the end of what they are in.
async fn race<T>(
    dice: &mut Dice,
    ask: impl AsyncFn(usize) -> T,
    end: impl AsyncFn() -> Answer,
) -> (Vec<T>, Answer) {
    let late = Duration::from_millis(dice.below(50));
    let end = async {
        tokio::time::sleep(late).await;
        end().await
    };
    tokio::join!(join_all((0..AT_ONCE).map(|n| ask(n))), end)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_in_a_window_after_it_was_revoked() {
    const ROUNDS: usize = 4;
    let mut dice = Dice::from_env("nothing_is_done_in_a_window_after_it_was_revoked");
    let (app, tenant, owner, sue) = start().await;
    let node = app.second_node().await;
    let mut done = [0; 4];
    for _ in 0..ROUNDS {
        let request = window(&app, &sue, &owner, "camp").await;
        let token = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201).text("access_token");
        // What there is to do: to begin another session, to write, to read.
        let ask = async |n: usize| {
            let app = if n.is_multiple_of(2) { &app } else { &node };
            match n % 4 {
                0 | 3 => begin(app, &sue, "camp", "real", Some(request)).await,
                1 => app.post_as(&token, "/customers", &json!({"name": "Bob"})).await,
                _ => app.get_as(&token, "/customers").await,
            }
        };
        let revoke = format!("/support/requests/{request}/revoke");
        let end = async || app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
        let (answers, _) = race(&mut dice, ask, end).await;
        for (n, answer) in answers.iter().enumerate() {
            assert!([200, 201, 401, 403].contains(&answer.status.as_u16()), "{n}: {}", answer.body);
            if answer.status.is_success() {
                done[n % 4] += 1;
            } else {
                assert!(answer.body.get("access_token").is_none());
            }
        }

        let log = log(&app, &owner).await;
        let revoked = position_of(&log, "support.revoked", request);
        let sessions: Vec<String> = log
            .iter()
            .filter(|event| event["type"] == "support.session_started")
            .filter(|event| event["payload"]["support_request_id"] == json!(request))
            .map(|event| event["aggregate_id"].as_str().unwrap().to_owned())
            .collect();
        let of_window = |event: &Value| {
            let aggregate = event["aggregate_id"].as_str().unwrap_or_default();
            let caused = event["causation_id"].as_str().and_then(|by| by.strip_prefix("support_session:"));
            sessions.iter().any(|session| session == aggregate || Some(session.as_str()) == caused)
        };
        // All of them end with it; nothing else of theirs comes after.
        let mut ended = 0;
        for event in log.iter().filter(|event| position(event) > revoked) {
            assert_ne!(event["support_mode"], "real", "{event}");
            if of_window(event) {
                assert!(
                    ["support.session_ended", "support.action_refused"].iter().any(|t| event["type"] == *t),
                    "{event}"
                );
                ended += usize::from(event["type"] == "support.session_ended");
            }
        }
        assert_eq!(ended, sessions.len());
    }
    println!("{done:?} were in time");
    let in_time: usize = done.iter().sum();
    assert!(0 < in_time && in_time < ROUNDS * AT_ONCE, "nothing raced");
    // Whatever was answered is in the log.
    let log = log(&app, &owner).await;
    let count = |event_type: &str| log.iter().filter(|event| event["type"] == event_type).count();
    assert_eq!(count("support.session_started"), ROUNDS + done[0] + done[3]);
    assert_eq!(count("customer.registered"), done[1]);
    assert_eq!(count("support.viewed"), done[2]);
    app.assert_gap_free(&tenant).await;
    node.shut_down().await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_in_a_hijack_after_it_was_stopped() {
    const ROUNDS: usize = 4;
    let mut dice = Dice::from_env("nothing_is_done_in_a_hijack_after_it_was_stopped");
    let (app, tenant, owner, sue) = start().await;
    let node = app.second_node().await;
    let manager = app.person(&tenant, "manager@camp.example", Tier::TenantManager).await;
    let request = window(&app, &sue, &owner, "camp").await;
    let mut done = [0; 2];
    for round in 0..ROUNDS {
        let body = json!({"user_id": manager.id, "tenant": "camp", "reason": "ticket 7"});
        let acting = app.post_as(&sue.token, "/hijack", &body).await.expect(201);
        let (hijack, token) = (id(&acting), acting.text("access_token"));
        let ask = async |n: usize| {
            let app = if n % 4 < 2 { &app } else { &node };
            match n % 2 {
                0 => app.post_as(&token, "/customers", &json!({"name": "Bob"})).await,
                _ => app.get_as(&token, "/customers").await,
            }
        };
        // By either of those who act, or by the house, or with the window.
        let end = async || {
            let (by, path) = match round % 3 {
                0 => (token.as_str(), "/hijack/stop".to_owned()),
                1 => (owner.token.as_str(), format!("/hijacks/{hijack}/stop")),
                _ => (sue.token.as_str(), "/hijack/stop".to_owned()),
            };
            if round + 1 == ROUNDS {
                let revoke = format!("/support/requests/{request}/revoke");
                return app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
            }
            app.post_as(by, &path, &json!({})).await.expect(200)
        };
        let (answers, _) = race(&mut dice, ask, end).await;
        for (n, answer) in answers.iter().enumerate() {
            assert!([200, 201, 401].contains(&answer.status.as_u16()), "{n}: {}", answer.body);
            done[n % 2] += usize::from(answer.status.is_success());
        }
        let log = log(&app, &owner).await;
        let ended = position_of(&log, "hijack.ended", hijack);
        for event in log.iter().filter(|event| position(event) > ended) {
            assert_ne!(event["causation_id"], json!(format!("hijack:{hijack}")), "{event}");
            assert_ne!(event["aggregate_id"], json!(hijack), "{event}");
        }
    }
    println!("{done:?} were in time");
    let in_time: usize = done.iter().sum();
    assert!(0 < in_time && in_time < ROUNDS * AT_ONCE, "nothing raced");
    let log = log(&app, &owner).await;
    let caused = |event: &&Value| {
        event["causation_id"].as_str().is_some_and(|by| by.starts_with("hijack:"))
            && event["on_behalf_of"] == json!(format!("user:{}", manager.id))
    };
    let written: Vec<&Value> = log.iter().filter(|event| event["type"] == "customer.registered").collect();
    assert!(written.iter().all(caused), "both names are on everything");
    assert_eq!(written.len(), done[0]);
    assert_eq!(log.iter().filter(|event| event["type"] == "hijack.viewed").count(), done[1]);
    app.assert_gap_free(&tenant).await;
    node.shut_down().await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_written_down_however_many_there_are_at_once() {
    const READS: usize = 60;
    let (app, tenant, owner, sue) = start().await;
    let node = app.second_node().await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let began = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let acting = hijack(&app, &owner, &staff).await;
    for (answer, kind, viewed, path) in [
        (&began, "support_session", "support.viewed", "/customers"),
        (&acting, "hijack", "hijack.viewed", "/me"),
    ] {
        let token = answer.text("access_token");
        let read = async |n: usize| {
            let app = if n.is_multiple_of(2) { &app } else { &node };
            app.get_as(&token, path).await.status.as_u16()
        };
        let seen = async || {
            let stream = events(&app, &owner, &format!("{kind}:{}", id(answer))).await;
            stream.iter().filter(|event| event["type"] == viewed).count()
        };
        let answered = join_all((0..READS).map(&read)).await;
        assert_eq!(answered, [200; READS]);
        assert_eq!(seen().await, READS);
        // And when it ends among them: no answer without its event, no event without its answer.
        let end = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if kind == "hijack" {
                app.post_as(&token, "/hijack/stop", &json!({})).await.expect(200);
            } else {
                let path = format!("/support/sessions/{}", id(answer));
                app.with_token(&owner.token, Method::DELETE, &path, None).await.expect(204);
            }
        };
        let (answered, ()) = tokio::join!(join_all((0..READS).map(&read)), end);
        assert!(answered.iter().all(|status| [200, 401].contains(status)), "{answered:?}");
        let more = answered.iter().filter(|status| **status == 200).count();
        assert_eq!(seen().await, READS + more);
    }
    node.shut_down().await;
    app.shut_down().await;
}
