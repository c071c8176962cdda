//! Commands in containers, over an upgraded connection.

use crate::bench::Bench;
use api::{ExecEnd, ExecRequest, Frame, PROTOCOL};
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn exec(bench: &Bench, frames: &[Frame]) -> Result<Vec<Frame>, StatusCode> {
    let stream = TokioIo::new(bench.connect().await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection.with_upgrades());
    let request = Request::post("/api/v1/environments/pr-1/exec")
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {}", bench.token))
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(response.status());
    }
    let mut connection = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut wire = BytesMut::new();
    for frame in frames {
        frame.encode(&mut wire).unwrap();
    }
    connection.write_all(&wire).await.unwrap();
    let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
    while connection.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
        while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
            read.push(frame);
        }
    }
    driver.abort();
    Ok(read)
}

fn run(service: &str, argv: &[&str]) -> Frame {
    Frame::Request(ExecRequest {
        service: service.to_owned(),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        variables: BTreeMap::new(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reads_prints_and_ends_with_its_status() {
    let bench = Bench::new().await;
    bench.open("change").await;
    bench.reaches("pr-1", "live").await;
    let input = [
        run("web", &["cat"]),
        Frame::Stdin(Bytes::from_static(b"hello")),
        Frame::StdinEnd,
    ];
    let frames = exec(&bench, &input).await.unwrap();
    let printed: Vec<u8> = frames
        .iter()
        .filter_map(|frame| {
            if let Frame::Stdout(bytes) = frame {
                Some(bytes.to_vec())
            } else {
                None
            }
        })
        .flatten()
        .collect();
    assert_eq!(printed, b"hello", "{frames:?}");
    assert_eq!(frames.last(), Some(&Frame::End(ExecEnd::Status(0))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_run_is_said_in_words() {
    let bench = Bench::new().await;
    bench.open("change").await;
    bench.reaches("pr-1", "live").await;
    for frames in [
        vec![run("nobody", &["true"])],
        vec![run("../web", &["true"])],
        vec![run("web", &[])],
        vec![run("web", &["a\0b"])],
        vec![Frame::StdinEnd],
    ] {
        let answer = exec(&bench, &frames).await.unwrap();
        assert!(
            matches!(answer.as_slice(), [Frame::End(ExecEnd::Failed(reason))] if !reason.is_empty()),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_is_not_there_is_told_before_the_upgrade() {
    let bench = Bench::new().await;
    assert_eq!(exec(&bench, &[run("web", &["true"])]).await, Err(StatusCode::NOT_FOUND));
}
