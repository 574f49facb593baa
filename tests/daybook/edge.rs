//! The edge: headers on every answer, which pages may call, TLS.

use std::{fs, io::Read as _, sync::Arc, time::Duration};

use axum::{Router, middleware::from_fn_with_state, routing::get};
use daybook::{
    config::SettingsPatch,
    http::{cors::Origins, envelope},
};
use daybook_domain::TenantId;
use reqwest::Method;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, version},
};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::support::app::{Answer, TestApp, read};

const SECURITY: [(&str, &str); 6] = [
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "geolocation=(), microphone=(), camera=()"),
];

#[tokio::test]
async fn security_headers_stand_on_every_status() {
    let patch = SettingsPatch {
        read_limit_per_minute: Some(30),
        trusted_proxy_hops: Some(1),
        ..SettingsPatch::default()
    };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    let url = |path: &str| format!("http://{}{path}", app.address);
    let mut from = 0;
    let mut send = |method: Method, path: &str, headers: &[(&str, &str)], body: Option<String>| {
        from += 1;
        let mut request =
            app.client.request(method, url(path)).header("x-forwarded-for", format!("10.0.0.{from}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(match body {
            Some(body) => request.header("content-type", "application/json").body(body),
            None => request,
        })
    };
    let bearer = format!("Bearer {}", tenant.token);
    let auth = [("authorization", bearer.as_str())];
    let cookie = [("cookie", "__Host-refresh=x")];
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(1_100_000));
    let many: Vec<(String, String)> = (0..70).map(|n| (format!("x-many-{n}"), "1".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let wide = "x".repeat(20_000);
    let wide = [("x-wide-1", wide.as_str()), ("x-wide-2", wide.as_str())];
    let long = format!("/api/v1/resources?{}", "x".repeat(9_000));
    let mut answers = vec![
        (200, send(Method::GET, "/healthz", &[], None).await),
        (200, send(Method::GET, "/metrics", &[], None).await),
        (200, send(Method::GET, "/api/schema/", &cookie, None).await),
        (200, send(Method::GET, "/api/v1/resources", &auth, None).await),
        (
            201,
            send(Method::POST, "/api/v1/resources", &auth, Some("{\"name\":\"A\",\"kind\":\"unit\"}".into()))
                .await,
        ),
        (400, send(Method::POST, "/api/v1/resources", &auth, Some("{".into())).await),
        (401, send(Method::GET, "/api/v1/resources", &[], None).await),
        (404, send(Method::GET, "/nowhere", &cookie, None).await),
        (405, send(Method::DELETE, "/healthz", &[], None).await),
        (413, send(Method::POST, "/api/v1/resources", &auth, Some(large)).await),
        (414, send(Method::GET, &long, &auth, None).await),
        (422, send(Method::GET, "/api/v1/resources?limit=0", &auth, None).await),
        (431, send(Method::GET, "/healthz", &many, None).await),
        (431, send(Method::GET, "/healthz", &wide, None).await),
    ];
    for _ in 0..31 {
        let request = app.client.get(url("/healthz")).header("x-forwarded-for", "1.1.1.1");
        let answer = read(request).await;
        if answer.status == 429 {
            answers.push((429, answer));
        }
    }
    assert_eq!(answers.len(), 15);
    for (status, answer) in &answers {
        assert_eq!(answer.status.as_u16(), *status, "{}", answer.body);
        for (name, value) in SECURITY {
            assert_eq!(answer.header(name), Some(value), "{status}");
        }
        assert!(answer.header("x-request-id").is_some());
    }
    // What was answered with credentials is never stored, nor is a refusal.
    for (status, answer) in answers.iter().filter(|(status, _)| *status != 200) {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{status}");
    }
    assert_eq!(answers[3].1.header("cache-control"), Some("no-store"));
    app.shut_down().await;
}

#[tokio::test]
async fn security_headers_stand_on_what_a_panic_leaves() {
    let app = TestApp::start().await;
    #[expect(clippy::panic, reason = "it is what is tested")]
    async fn broken() {
        panic!("a handler that is broken");
    }
    let router: Router = Router::new()
        .route("/broken", get(broken))
        .layer(from_fn_with_state(app.state.clone(), envelope::envelope));
    let request = http::Request::get("/broken").body(axum::body::Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 500);
    for (name, value) in SECURITY {
        assert_eq!(answer.headers()[name], value);
    }
    assert_eq!(answer.headers()["cache-control"], "no-store");
    app.shut_down().await;
}

#[tokio::test]
async fn the_documentation_comes_from_this_server_alone() {
    let app = TestApp::start().await;
    let get = |path: &str| app.client.get(format!("http://{}/api/docs/{path}", app.address)).send();
    for (path, kind) in [
        ("", "text/html"),
        ("index.html", "text/html"),
        ("swagger-initializer.js", "text/javascript"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
    ] {
        let answer = get(path).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], kind, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("http"), "{policy}");
        let zipped = answer.headers().get("content-encoding").is_some();
        let bytes = answer.bytes().await.unwrap();
        let mut text = String::new();
        if zipped {
            flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(bytes.to_vec()).unwrap();
        }
        if kind == "text/html" {
            assert!(text.contains("swagger-ui-bundle.js"));
            assert!(!text.contains("<script>") && !text.contains("://"), "{text}");
        }
        if path == "swagger-initializer.js" {
            assert!(text.contains("/api/schema/") && text.contains("\"validatorUrl\": \"none\""), "{text}");
        }
    }
    for path in ["nothing.js", "../../etc/passwd", "%2e%2e/Cargo.toml"] {
        assert_eq!(get(path).await.unwrap().status(), 404, "{path}");
    }
    app.shut_down().await;
}

async fn verify(app: &TestApp, hostname: &str, tenant: TenantId) {
    sqlx::query(
        "INSERT INTO daybook_platform.tenant_domains (hostname, tenant_id, domain_id, verified_at) VALUES ($1, $2, $3, now())",
    )
    .bind(hostname)
    .bind(tenant.0)
    .bind(Uuid::now_v7())
    .execute(app.store.database().owner())
    .await
    .unwrap();
}

#[tokio::test]
async fn only_listed_pages_may_call_and_none_is_reflected() {
    let origins: Origins = "https://app.example.com,http://localhost:5173".parse().unwrap();
    let app =
        TestApp::start_with(SettingsPatch { cors_origins: Some(origins), ..SettingsPatch::default() }).await;
    let tenant = app.tenant("camp").await;
    verify(&app, "book.camp.example", tenant.id).await;
    verify(&app, "nobodys.example", TenantId(Uuid::now_v7())).await;
    let ask = async |origin: &str| -> Answer {
        app.request(&tenant, Method::GET, "/resources", &[("Origin", origin)], None).await.expect(200)
    };
    let preflight = async |origin: &str| -> Answer {
        let url = format!("http://{}/api/v1/resources", app.address);
        let request = app
            .client
            .request(Method::OPTIONS, url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,idempotency-key");
        read(request).await
    };
    for origin in ["https://app.example.com", "http://localhost:5173", "https://book.camp.example"] {
        for answer in [ask(origin).await, preflight(origin).await] {
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
            assert!(answer.header("vary").unwrap().to_lowercase().contains("origin"));
            assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        }
        let exposed = ask(origin).await.header("access-control-expose-headers").unwrap().to_lowercase();
        for name in [
            "etag",
            "x-log-position",
            "x-log-receipt",
            "x-request-id",
            "retry-after",
            "ratelimit",
            "ratelimit-policy",
            "location",
        ] {
            assert!(exposed.split(',').any(|found| found.trim() == name), "{name}");
        }
        let before = preflight(origin).await.expect(200);
        assert_eq!(before.header("access-control-max-age"), Some("600"));
        assert_eq!(before.header("access-control-allow-methods"), Some("GET,POST,PUT,PATCH,DELETE"));
        let allowed = before.header("access-control-allow-headers").unwrap();
        assert!(!allowed.contains('*') && allowed.contains("if-match") && allowed.contains("x-tenant-slug"));
    }
    for origin in [
        "null",
        "*",
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com:443",
        "https://app.example.com/",
        "https://app.example.com.",
        "https://APP.example.com",
        "HTTPS://app.example.com",
        "https://app.example.com.evil.example",
        "https://evilapp.example.com",
        "https://app.example.co",
        "https://x.app.example.com",
        "https://example.com",
        "https://app.example.com@evil.example",
        "https://evil.example#https://app.example.com",
        "https://app.example.com, https://evil.example",
        "http://localhost:5174",
        "http://localhost",
        "http://book.camp.example",
        "https://book.camp.example:8443",
        "https://Book.camp.example",
        "https://x.book.camp.example",
        "https://camp.example",
        "https://book.camp.example.evil.example",
        "https://xbook.camp.example",
        "https://book_camp.example",
        "https://nobodys.example",
        "file://",
    ] {
        for answer in [ask(origin).await, preflight(origin).await] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
            assert!(answer.header("vary").unwrap().to_lowercase().contains("origin"));
        }
    }
    let allowlist = app.state.origins();
    assert_eq!(allowlist.tenant_of("https://book.camp.example").await.unwrap(), Some(tenant.id));
    assert_eq!(allowlist.tenant_of("https://app.example.com").await.unwrap(), None);
    assert!(allowlist.allows("https://app.example.com").await && !allowlist.allows("null").await);

    // A refusal can be read by the page that caused it.
    let url = format!("http://{}/api/v1/resources", app.address);
    let refused = read(app.client.get(url).header("origin", "https://app.example.com")).await.expect(401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example.com"));

    sqlx::query("DELETE FROM daybook_platform.tenant_domains")
        .execute(app.store.database().owner())
        .await
        .unwrap();
    sleep(Duration::from_millis(600)).await;
    assert_eq!(ask("https://book.camp.example").await.header("access-control-allow-origin"), None);
    app.shut_down().await;
}

type Versions = &'static [&'static SupportedProtocolVersion];
const ONLY_12: Versions = &[&version::TLS12];
const ONLY_13: Versions = &[&version::TLS13];

#[tokio::test]
async fn a_certificate_makes_the_listener_a_tls_one() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let patch = SettingsPatch {
        tls_certificate: Some(certificate),
        tls_key: Some(key),
        header_timeout: Some("500ms".parse().unwrap()),
        ..SettingsPatch::default()
    };
    let app = TestApp::start_with(patch).await;

    let connect = async |versions: Versions, alpn: &[u8]| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(app.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    for versions in [ONLY_12, ONLY_13] {
        let mut stream = connect(versions, b"http/1.1").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("strict-transport-security"), "{text}");
    }
    assert!(connect(ONLY_13, b"h2").await.is_err(), "no protocol in common");

    // Plain HTTP gets no answer, and who says nothing is not waited for.
    let mut plain = TcpStream::connect(app.address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    let mut silent = TcpStream::connect(app.address).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "the handshake has no time limit");
    app.shut_down().await;
}
