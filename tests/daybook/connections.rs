//! Connections that take up room and give nothing for it.

use std::{future::pending, time::Duration};

use daybook::{
    config::SettingsPatch,
    serve::{ServeLimits, serve_with},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::app::TestApp;

/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn get(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn who_does_not_take_an_answer_is_left() {
    let app = TestApp::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServeLimits { write_timeout: Duration::from_millis(300), ..ServeLimits::default() };
    let server = tokio::spawn(serve_with(listener, app.state.clone(), limits, pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Far more than the buffers between the two hold, and nothing of it is read.
    for _ in 0..40 {
        get(&mut stream, "/api/docs/swagger-ui-bundle.js").await;
    }
    let mut one = vec![0; 1];
    // A while after the server has left, what it had sent can still be read; the rest never comes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut taken = 0_usize;
    let ended = timeout(PATIENCE, async {
        one.resize(1 << 20, 0);
        loop {
            match stream.read(&mut one).await {
                Ok(0) | Err(_) => return,
                Ok(read) => taken += read,
            }
        }
    });
    ended.await.expect("the server has closed the connection");
    let whole =
        app.client.get(format!("http://{address}/api/docs/swagger-ui-bundle.js")).send().await.unwrap();
    let whole = whole.bytes().await.unwrap().len();
    assert!(taken < 40 * whole, "{taken} of {}", 40 * whole);
    server.abort();
    app.shut_down().await;
}

#[tokio::test]
async fn an_address_has_only_so_many_connections() {
    let patch = SettingsPatch { connections_per_address: Some(3), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        get(&mut stream, "/healthz").await;
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        held.push(stream);
    }
    let mut more = TcpStream::connect(app.address).await.unwrap();
    let refused = timeout(PATIENCE, more.read(&mut [0; 64])).await.unwrap();
    assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
    held.pop();
    // Another one has room as soon as the server has seen that one is gone.
    let entered = timeout(PATIENCE, async {
        loop {
            let mut stream = TcpStream::connect(app.address).await.unwrap();
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
            if stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    entered.await.expect("there is room again");
    drop(held);
    app.shut_down().await;
}
