//! A client that is still sending gets the answer that was given before its body was read.

mod world;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use dbaas_http::{Access, Caller, HttpOptions, TokenStore};
use world::{INSTANCES, World};

const MEGABYTE: usize = 1024 * 1024;
/// What a client sends that does not look for an answer before it has sent everything.
const SENT_MEGABYTES: usize = 50;
const DEADLINE: Duration = Duration::from_secs(60);

async fn serve(world: &World) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = world.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn head(method_and_path: &str, headers: &str) -> String {
    format!("{method_and_path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}

/// Reads one answer: its head, and as much of a body as it announces.
fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).unwrap();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    text + &String::from_utf8(body).unwrap()
}

/// Sends everything, reads then, and asks again on the same connection.
fn send_all_then_read(address: SocketAddr, head: String, chunked: bool) -> String {
    let mut stream = connect(address);
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'x'; MEGABYTE];
    for _ in 0..SENT_MEGABYTES {
        if chunked {
            stream.write_all(format!("{MEGABYTE:x}\r\n").as_bytes()).unwrap();
        }
        stream.write_all(&piece).expect("the server reads on");
        if chunked {
            stream.write_all(b"\r\n").unwrap();
        }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").unwrap();
    }
    let first = answer(&mut stream);
    stream
        .write_all(self::head("GET /healthz", "").as_bytes())
        .unwrap();
    let second = answer(&mut stream);
    assert!(second.starts_with("HTTP/1.1 200"), "{second}");
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_sends_gets_the_answer() {
    let world = World::new().await;
    let mut tokens = TokenStore::default();
    tokens.insert("0123456789abcdef", Caller::Admin);
    let guarded = World::with(HttpOptions::new(Access::Tokens(tokens))).await;
    let (address, guarded) = (serve(&world).await, serve(&guarded).await);
    let json = "content-type: application/json\r\n";
    let length = format!("content-length: {}\r\n", SENT_MEGABYTES * MEGABYTE);
    let chunked = "transfer-encoding: chunked\r\n";
    let post = format!("POST {INSTANCES}");
    for (to, line, headers, expected) in [
        (address, &*post, format!("{json}{length}"), "413"),
        // Without an announced length it is found while reading.
        (address, &*post, format!("{json}{chunked}"), "413"),
        (
            address,
            &*post,
            format!("content-type: text/plain\r\n{length}"),
            "415",
        ),
        (guarded, &*post, format!("{json}{length}"), "401"),
        (address, "POST /nowhere", format!("{json}{length}"), "404"),
        (address, "DELETE /healthz", format!("{json}{length}"), "405"),
    ] {
        let is_chunked = headers.contains(chunked);
        let head = head(line, &headers);
        let sent = tokio::task::spawn_blocking(move || send_all_then_read(to, head, is_chunked));
        let answer = sent.await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
        assert!(answer.contains("/problems/"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_is_bounded() {
    let world = World::new().await;
    let address = serve(&world).await;
    let endless = head("POST /nowhere", "content-length: 999999999999\r\n");
    let sent = tokio::task::spawn_blocking(move || {
        let mut stream = connect(address);
        stream.write_all(endless.as_bytes()).unwrap();
        let piece = vec![b'x'; MEGABYTE];
        (0..1000)
            .find(|_| stream.write_all(&piece).is_err())
            .expect("the server closes the connection at last")
    });
    assert!(sent.await.unwrap() > SENT_MEGABYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_before_it_sends_is_told_at_once() {
    let world = World::new().await;
    let address = serve(&world).await;
    let asked = tokio::task::spawn_blocking(move || {
        let headers = "content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n";
        let mut stream = connect(address);
        stream
            .write_all(head(&format!("POST {INSTANCES}"), headers).as_bytes())
            .unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    });
    let all = asked.await.unwrap();
    assert!(
        all.starts_with("HTTP/1.1 413") && !all.contains("100 Continue"),
        "{all}"
    );
}
