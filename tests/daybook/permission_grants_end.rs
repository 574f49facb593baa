//! What ends a permission grant: its time, by the database's clock, and the accounts it is between.

use daybook_domain::permission::Tier;
use serde_json::json;
use uuid::Uuid;

use crate::{
    permission_grants::{House, UPDATE, a_second},
    support::app::{id, read},
};

/// The clock that counts is the database's, where a grant begins (`clock_timestamp()` under the lock of the log's head) and
/// where it ends (`now()` in the look-up). No node's own clock takes part: `daybook::clock` is not asked on either way,
/// and what is cached is measured by a monotonic one. So a node whose clock is an hour off changes nothing; here the row is
/// moved instead, past a clock that stands where it did for every node.
#[tokio::test]
async fn a_grant_runs_out_by_the_databases_clock() {
    let house = House::open().await;
    let node = house.app.second_node().await;
    let grant = id(&house.grant(&house.manager, UPDATE).await);
    assert!(house.may_update(&house.app).await && house.may_update(&node).await);
    let moved = async |by: &str| {
        let sql = format!("UPDATE {{s}}.permission_grants SET expires_at = now() {by} WHERE id = '{grant}'");
        assert_eq!(house.app.sql(&house.tenant.schema(), &sql).await, 1);
        a_second().await;
    };
    moved("").await;
    assert!(!house.may_update(&house.app).await && !house.may_update(&node).await);
    assert_eq!(house.state_of(grant).await, "expired");
    assert_eq!(house.app.get_as(&house.staff.token, "/me").await.expect(200).body["granted"], json!([]));
    assert_eq!(house.listed(&house.owner, "?state=expired").await, [grant]);
    let all = json!({"reason": "all", "grantee_id": house.staff.id});
    let none = house.app.post_as(&house.owner.token, "/permission-grants/revoke", &all).await.expect(200);
    assert_eq!(none.body["revoked"], 0);
    moved("+ interval '1 second 500 milliseconds'").await;
    assert!(house.may_update(&house.app).await && house.may_update(&node).await);
    a_second().await;
    assert!(!house.may_update(&house.app).await && !house.may_update(&node).await);

    // As the log has it: whoever revokes it is told by its events, not by a row that was tampered with.
    house.revoke(&house.manager, grant).await.expect(200);
    node.shut_down().await;
    let sql = format!(
        "UPDATE {{s}}.permission_grants SET expires_at = granted_at + interval '1 minute' WHERE id = '{grant}'"
    );
    house.app.sql(&house.tenant.schema(), &sql).await;
    house.close().await;
}

#[tokio::test]
async fn a_grant_counts_while_it_is_the_grantors_to_give() {
    let house = House::open().await;
    let colleague = house.app.person(&house.tenant, "colleague@example.org", Tier::TenantManager).await;
    house.grant(&colleague, UPDATE).await;
    let path = format!("/users/{}", colleague.id);
    let may = async || {
        a_second().await;
        house.may_update(&house.app).await
    };
    assert!(may().await);
    house.owner_does(&format!("{path}/role"), &json!({"role": "tenant_staff"})).await;
    assert!(!may().await, "the grantor is staff now");
    house.owner_does(&format!("{path}/modules"), &json!({"modules": ["reception"]})).await;
    assert!(!may().await, "who holds the permission, and manages nobody");
    house.owner_does(&format!("{path}/role"), &json!({"role": "tenant_manager"})).await;
    assert!(may().await);
    house.owner_does(&format!("{path}/deactivate"), &json!({})).await;
    assert!(!may().await, "the grantor may not sign in");
    house.owner_does(&format!("{path}/activate"), &json!({})).await;
    assert!(may().await);
    // The grantee rises above what the grantor manages.
    let staff = format!("/users/{}/role", house.staff.id);
    house.owner_does(&staff, &json!({"role": "tenant_manager"})).await;
    a_second().await;
    let me = house.app.get_as(&house.staff.token, "/me").await.expect(200);
    assert_eq!(me.body["granted"], json!([]));
    // What only a manager can be granted ends with being one.
    let settings = house.ask(&house.owner, house.staff.id, "settings:update:tenant").await.expect(201);
    a_second().await;
    let granted = &house.app.get_as(&house.staff.token, "/me").await.expect(200).body["granted"];
    assert_eq!(granted[0]["grant_id"], settings.body["id"]);
    house.owner_does(&staff, &json!({"role": "tenant_staff"})).await;
    a_second().await;
    let granted = &house.app.get_as(&house.staff.token, "/me").await.expect(200).body["granted"];
    assert!(!granted.to_string().contains("settings"), "{granted}");
    let gone = house.app.client.delete(house.app.url(&path)).bearer_auth(&house.owner.token);
    read(gone.header("If-Match", "*")).await.expect(204);
    assert!(!may().await, "the grantor is gone");
    house.close().await;
}

#[tokio::test]
async fn grants_end_for_good_with_the_account_that_had_them() {
    let house = House::open().await;
    let path = format!("/users/{}", house.staff.id);
    let grant = id(&house.grant(&house.manager, UPDATE).await);
    house.owner_does(&format!("{path}/deactivate"), &json!({})).await;
    assert_eq!(house.state_of(grant).await, "revoked");
    house.owner_does(&format!("{path}/activate"), &json!({})).await;
    let back = house.app.sign_in(Some(&house.tenant), "staff@example.org").await;
    a_second().await;
    assert_eq!(house.app.get_as(&back.token, "/me").await.expect(200).body["granted"], json!([]));
    // The log says with what it ended, and who did that.
    let events = format!("/audit/events?aggregate=permission_grant:{grant}");
    let events = house.app.get_as(&house.owner.token, &events).await.expect(200);
    let ended = &events.body["items"][1];
    assert_eq!(ended["type"], "permission.grant_revoked");
    assert_eq!(ended["actor"], json!(format!("user:{}", house.owner.id)));
    assert!(ended["reason"].as_str().unwrap().contains("account"));

    // Likewise for who becomes an owner, and for who is deleted.
    let two = [UPDATE, "leads:read:tenant"];
    let mut grants = Vec::new();
    for permission in two {
        grants.push(id(&house.ask(&house.manager, house.staff.id, permission).await.expect(201)));
    }
    house.owner_does(&format!("{path}/role"), &json!({"role": "tenant_owner"})).await;
    house.owner_does(&format!("{path}/role"), &json!({"role": "tenant_staff"})).await;
    grants.push(id(&house.ask(&house.manager, house.staff.id, UPDATE).await.expect(201)));
    let gone = house.app.client.delete(house.app.url(&path)).bearer_auth(&house.owner.token);
    read(gone.header("If-Match", "*")).await.expect(204);
    for grant in grants {
        assert_eq!(house.state_of(grant).await, "revoked");
    }
    assert_eq!(house.listed(&house.owner, "?state=active").await, [] as [Uuid; 0]);
    house.close().await;
}

/// Whichever of the two is decided first, the account comes back without the grant.
#[tokio::test]
async fn of_a_grant_and_a_deactivation_at_once_no_grant_stays() {
    let house = House::open().await;
    let path = format!("/users/{}", house.staff.id);
    let (off, nothing) = (format!("{path}/deactivate"), json!({}));
    for _ in 0..8 {
        let (granted, deactivated) = tokio::join!(
            house.ask(&house.manager, house.staff.id, UPDATE),
            house.app.post_as(&house.owner.token, &off, &nothing),
        );
        deactivated.expect(200);
        match granted.status.as_u16() {
            201 => assert_eq!(house.state_of(id(&granted)).await, "revoked"),
            _ => drop(granted.expect_problem(422, "validation_failed")),
        }
        house.owner_does(&format!("{path}/activate"), &json!({})).await;
    }
    assert_eq!(house.listed(&house.owner, "?state=active").await, [] as [Uuid; 0]);
    house.close().await;
}
