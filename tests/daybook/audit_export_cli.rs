//! Exports and bundles from the command line: the same files, continued where they were torn, and for their owner alone.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::json;

use crate::{
    audit_export::{cells, grow, items, lines, rows},
    ledger::hack,
    retention::{clock, date},
    support::{
        app::{TestApp, TestTenant},
        people::generous,
        process::Host,
    },
};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// How many exports were begun, and how each ended.
async fn ends(app: &TestApp, tenant: &TestTenant) -> Vec<Option<bool>> {
    let sql = tenant.schema().sql("SELECT complete FROM {s}.audit_exports ORDER BY started_at");
    sqlx::query_scalar(&sql).fetch_all(app.store.database().owner()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_writes_the_same_file_and_continues_a_torn_one() {
    let app = TestApp::start_with(generous()).await;
    // Not in its plan: that is between the tenant and the platform.
    let tenant = app.tenant("camp").await;
    grow(&app, &tenant, 1_500).await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let until = app.head(&tenant).await;
    let expected = items(&app, &tenant.token, "", until).await;
    for format in ["ndjson", "csv", "parquet"] {
        let out = host.directory().join(format!("camp.{format}"));
        let until_text = until.to_string();
        let path = out.to_str().unwrap();
        let base = [
            "audit",
            "export",
            "--tenant",
            "camp",
            "--format",
            format,
            "--out",
            path,
            "--until",
            &until_text,
        ];
        let summary = host.json(&[&base[..], &["--json"]].concat());
        assert_eq!((&summary["rows"], &summary["until"]), (&json!(until), &json!(until)));
        assert_eq!(mode(&out), 0o600);
        let bytes = Bytes::from(std::fs::read(&out).unwrap());
        let found = match format {
            "ndjson" => lines(&bytes),
            "csv" => cells(&bytes),
            _ => rows(&bytes),
        };
        assert_eq!(found, expected, "{format}");
        let own = items(
            &app,
            &tenant.token,
            &format!("&aggregate=audit_export:{}", summary["export_id"].as_str().unwrap()),
            i64::MAX,
        )
        .await;
        assert_eq!((own.len(), &own[0]["actor"]), (2, &json!("cli:audit")));

        // As an interrupted run leaves it: beside, and torn.
        let resume = [&base[..], &["--resume", "--json"]].concat();
        assert!(!host.output(&resume).status.success(), "there is nothing to continue");
        if format == "parquet" {
            continue;
        }
        let name = std::fs::read_dir(host.directory()).unwrap();
        assert!(
            name.map(|entry| entry.unwrap().file_name())
                .all(|name| !name.to_string_lossy().ends_with(".part"))
        );
        let part = part_of(&host, &base, &out);
        for at in [0, 3, 200, 260, 300_000, bytes.len() - 1] {
            std::fs::write(&part, &bytes[..at]).unwrap();
            std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o644)).unwrap();
            std::fs::remove_file(&out).unwrap();
            let summary = host.json(&resume);
            assert_eq!(mode(&out), 0o600);
            assert!(std::fs::read(&out).unwrap() == bytes, "{format} torn at {at}");
            assert!(summary["rows"].as_i64().unwrap() <= until);
        }
    }
    // What is asked stays in the log, so it is no place for a name.
    let begun = ends(&app, &tenant).await.len();
    let out = host.directory().join("wrong.csv");
    for wrong in [["--actor", "Ada"], ["--type", "ada.came"], ["--aggregate", "ada:x"]] {
        let base = ["audit", "export", "--tenant", "camp", "--format", "csv", "--out", out.to_str().unwrap()];
        assert!(!host.output(&[&base[..], &wrong[..]].concat()).status.success(), "{wrong:?}");
    }
    assert_eq!(ends(&app, &tenant).await.len(), begun);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_keeps_no_more_is_not_passed_over() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    grow(&app, &tenant, 300).await;
    let until = app.head(&tenant).await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let out = host.directory().join("camp.ndjson");
    let path = out.to_str().unwrap().to_owned();
    let base = ["audit", "export", "--tenant", "camp", "--format", "ndjson", "--out", &path];
    let since = [&base[..], &["--from", "2001-01-01"]].concat();
    host.run(&since);
    let bytes = std::fs::read(&out).unwrap();
    let part = part_of(&host, &since, &out);
    let torn: Vec<u8> = bytes.split_inclusive(|byte| *byte == b'\n').take(100).flatten().copied().collect();
    let begun = ends(&app, &tenant).await.len();

    date(&app, &tenant, 200, clock(&app).await - TimeDelta::days(91), TimeDelta::seconds(1)).await;
    std::fs::write(&part, &torn).unwrap();
    let resume = [&since[..], &["--resume"]].concat();
    let refused = |more: &[&str]| {
        let output = host.output(&[&base[..], more].concat());
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("past what the plan keeps"), "{more:?}: {said}");
    };
    refused(&resume[base.len()..]);
    assert_eq!(std::fs::read(&part).unwrap(), torn);
    std::fs::remove_file(&part).unwrap();
    for more in [&["--after", "199"][..], &["--after", "50", "--from", "2001-01-01"], &["--until", "200"]] {
        refused(more);
    }
    refused(&["--to", "2001-01-01"]);
    assert_eq!(ends(&app, &tenant).await.len(), begun);
    // What is there is written, wherever it begins.
    for (more, first) in [(&[][..], 201), (&["--after", "200"], 201), (&["--after", "250"], 251)] {
        let summary = host.json(&[&base[..], more, &["--until", &until.to_string(), "--json"]].concat());
        assert_eq!(summary["rows"], until - first + 1, "{more:?}");
        assert_eq!(lines(&std::fs::read(&out).unwrap())[0]["position"], first);
    }
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_whole_is_noted_as_over() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    grow(&app, &tenant, 50).await;
    let gone = "DELETE FROM {s}.events WHERE position = 30";
    hack(app.store.database().owner(), &tenant.schema(), &["events"], gone).await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let out = host.directory().join("camp");
    let path = out.to_str().unwrap();
    for asked in [&["export", "--format", "csv"][..], &["bundle"]] {
        let output = host.output(&[&["audit"], asked, &["--tenant", "camp", "--out", path]].concat());
        assert_eq!(output.status.code(), Some(1), "{asked:?}");
        assert!(!out.exists());
    }
    assert_eq!(ends(&app, &tenant).await, [Some(false); 2]);
    app.shut_down().await;
}

/// Where a run of these arguments writes before it is whole: the file that one leaves that is stopped half-way.
fn part_of(host: &Host, arguments: &[&str], out: &Path) -> PathBuf {
    // A directory in the place of the file: the run writes all of it, and cannot move it there.
    let aside = out.with_extension("aside");
    std::fs::rename(out, &aside).unwrap();
    std::fs::create_dir_all(out.join("x")).unwrap();
    assert!(!host.output(arguments).status.success());
    std::fs::remove_dir_all(out).unwrap();
    std::fs::rename(&aside, out).unwrap();
    let found = std::fs::read_dir(out.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    found.into_iter().find(|path| path.extension().is_some_and(|end| end == "part")).unwrap()
}
