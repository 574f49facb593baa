//! The record of a claimed domain, against an endpoint that stands in for Route 53.

use daybook::dns::{
    hostname,
    records::{DnsRecords, Made},
    route53::{Route53, Route53Error},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinHandle,
};

const DONE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ChangeResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeInfo><Id>/change/C1</Id>
<Status>PENDING</Status><SubmittedAt>2026-11-21T10:00:00Z</SubmittedAt></ChangeInfo></ChangeResourceRecordSetsResponse>"#;
const REFUSED: &str = r#"<?xml version="1.0"?>
<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type>
<Code>NoSuchHostedZone</Code><Message>No hosted zone found with ID: ZX</Message></Error><RequestId>r</RequestId></ErrorResponse>"#;

const ZONE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<GetHostedZoneResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><HostedZone><Id>/hostedzone/Z1</Id>
<Name>daybook.example.</Name><CallerReference>c</CallerReference></HostedZone></GetHostedZoneResponse>"#;

struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

/// Answers one request, and gives it back.
async fn endpoint(status: &'static str, answer: &'static str) -> (String, JoinHandle<Request>) {
    let (url, task) = endpoint_of(vec![(status, answer)]).await;
    (url, tokio::spawn(async move { task.await.unwrap().remove(0) }))
}

/// Answers as many requests as there are answers, a connection each, and gives them back.
async fn endpoint_of(answers: Vec<(&'static str, &'static str)>) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for (status, answer) in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let mut request =
                Request { line: line.trim_end().to_owned(), headers: Vec::new(), body: String::new() };
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                request.headers.push((name.to_owned(), value.to_owned()));
            }
            let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
            stream.read_exact(&mut body).await.unwrap();
            request.body = String::from_utf8(body).unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            requests.push(request);
        }
        requests
    });
    (url, task)
}

fn client(url: &str) -> Route53 {
    let token = Some("session".to_owned());
    let credentials =
        aws_sdk_route53::config::Credentials::new("AKIDEXAMPLE", "hunter2", token, None, "test");
    Route53::new(credentials, Some(url))
}

#[tokio::test]
async fn a_record_is_asked_for_with_a_signature() {
    let (url, task) = endpoint("200 OK", DONE).await;
    let name = "_daybook-challenge.book.example";
    client(&url).upsert_txt("Z0123456789", name, "daybook-verification=abc").await.unwrap();
    let request = task.await.unwrap();
    assert_eq!(request.line, "POST /2013-04-01/hostedzone/Z0123456789/rrset HTTP/1.1");
    for part in [
        "<Action>UPSERT</Action>",
        "<Name>_daybook-challenge.book.example</Name>",
        "<Type>TXT</Type>",
        "<TTL>60</TTL>",
        "daybook-verification=abc",
    ] {
        assert!(request.body.contains(part), "{part} in {}", request.body);
    }
    let value = request.body.replace("&quot;", "\"");
    assert!(value.contains("<Value>\"daybook-verification=abc\"</Value>"), "{value}");
    let signature = request.header("authorization");
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
    assert!(signature.contains("/us-east-1/route53/aws4_request"), "{signature}");
    assert!(signature.contains("SignedHeaders=") && signature.contains("Signature="), "{signature}");
    assert_eq!(request.header("x-amz-security-token"), "session");
    assert!(!request.header("x-amz-date").is_empty());
    let all = format!("{} {:?} {}", request.line, request.headers, request.body);
    assert!(!all.contains("hunter2"));
}

#[tokio::test]
async fn a_refusal_says_its_code_and_silence_is_not_one() {
    let (url, task) = endpoint("404 Not Found", REFUSED).await;
    let error = client(&url).upsert_txt("ZX", "a.example", "v").await.unwrap_err();
    assert!(matches!(&error, Route53Error::Refused(code) if code == "NoSuchHostedZone"), "{error:?}");
    drop(task.await.unwrap());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&nobody).upsert_txt("ZX", "a.example", "v").await.unwrap_err();
    assert!(matches!(error, Route53Error::Unavailable), "{error:?}");
}

#[tokio::test]
async fn records_are_made_for_names_of_the_tenants_own_in_the_zone() {
    let answers = vec![("200 OK", ZONE), ("200 OK", DONE), ("404 Not Found", REFUSED)];
    let (url, task) = endpoint_of(answers).await;
    let records = DnsRecords::route53(client(&url), "Z1".to_owned());
    let make =
        async |host: &str| records.make("camp", &hostname(host).unwrap(), "daybook-verification=a").await;
    for foreign in
        ["camp.elsewhere.example", "daybook.example", "www.daybook.example", "hotel.daybook.example"]
    {
        assert_eq!(make(foreign).await, Made::NotOurs, "{foreign}");
    }
    assert_eq!(make("book.camp.daybook.example").await, Made::Yes);
    assert_eq!(make("camp.daybook.example").await, Made::Failed);
    let requests = task.await.unwrap();
    assert_eq!(requests[0].line, "GET /2013-04-01/hostedzone/Z1 HTTP/1.1", "the zone is asked for once");
    assert!(requests[1].body.contains("<Name>_daybook-challenge.book.camp.daybook.example</Name>"));
}
