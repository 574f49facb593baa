//! Proof of a domain, against a DNS server whose records change.

use std::{net::SocketAddr, time::Duration};

use daybook::dns::{DnsError, TxtLookup, challenge_name, challenge_value, hostname, proves};
use tokio::net::UdpSocket;

use super::support::dns::DnsServer;

const TOKEN: &str = "5f2c9a";

fn lookup(server: SocketAddr) -> TxtLookup {
    TxtLookup::new(Some(server)).with_timeout(Duration::from_millis(500))
}

#[tokio::test]
async fn a_domain_is_proved_by_the_record_asked_for_and_by_no_other() {
    let server = DnsServer::start().await;
    let lookup = lookup(server.address);
    let name = challenge_name(&hostname("Bücher.example").unwrap());
    assert_eq!(name, "_daybook-challenge.xn--bcher-kva.example");
    assert!(lookup.txt(&name).await.unwrap().is_empty(), "no such name is an answer");

    server.set_txt(&name, &[&["daybook-verification=another"]]).await;
    let found = lookup.txt(&name).await.unwrap();
    assert_eq!(found, ["daybook-verification=another"], "nothing is remembered of the name's absence");
    assert!(!proves(&found, TOKEN));

    server.set_txt(&name, &[&[&challenge_value(TOKEN)]]).await;
    assert!(proves(&lookup.txt(&name).await.unwrap(), TOKEN), "a fresh record is seen");

    server.set_txt(&name, &[&["v=spf1 -all"], &[&challenge_value(TOKEN)], &["other"]]).await;
    let found = lookup.txt(&name).await.unwrap();
    assert_eq!(found.len(), 3);
    assert!(proves(&found, TOKEN));

    server.set_txt(&name, &[&["daybook-verifi", "cation=", TOKEN]]).await;
    assert!(proves(&lookup.txt(&name).await.unwrap(), TOKEN), "the parts of a record are one text");

    server.set_txt(&name, &[]).await;
    assert!(lookup.txt(&name).await.unwrap().is_empty(), "a record that was taken away proves nothing");
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_comes_by_tcp() {
    let server = DnsServer::start().await;
    let part = "x".repeat(255);
    let parts = vec![part.as_str(); 20];
    let value = challenge_value(TOKEN);
    server.set_txt("long.example", &[&parts, &[&value]]).await;
    let found = lookup(server.address).txt("long.example").await.unwrap();
    assert!(found.iter().any(|text| text.len() == 20 * 255));
    assert!(proves(&found, TOKEN));
}

#[tokio::test]
async fn a_server_that_is_down_or_cannot_answer_says_nothing_of_the_record() {
    let server = DnsServer::start().await;
    let lookup = lookup(server.address);
    let name = challenge_name(&hostname("book.example").unwrap());
    server.set_txt(&name, &[&[&challenge_value(TOKEN)]]).await;
    let refused = lookup.txt("name.another-zone").await.unwrap_err();
    assert!(matches!(refused, DnsError::Unavailable(_)), "{refused:?}");
    let impossible = lookup.txt(&format!("{}.example", "a".repeat(64))).await.unwrap_err();
    assert!(matches!(impossible, DnsError::Name(_)), "{impossible:?}");
    server.stop().await;
    let down = lookup.txt(&name).await.unwrap_err();
    assert!(matches!(down, DnsError::Unavailable(_) | DnsError::Timeout), "{down:?}");
}

#[tokio::test]
async fn a_server_failure_is_no_answer_nor_is_silence() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let failing = lookup(socket.local_addr().unwrap());
    tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            // A response, recursion available, SERVFAIL; the question as it came.
            buffer[2] |= 0x80;
            buffer[3] = 0x82;
            socket.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let error = failing.txt("book.example").await.unwrap_err();
    assert!(matches!(error, DnsError::Unavailable(_)), "{error:?}");

    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let error = lookup(silent.local_addr().unwrap()).txt("book.example").await.unwrap_err();
    assert!(matches!(error, DnsError::Unavailable(_) | DnsError::Timeout), "{error:?}");
}
