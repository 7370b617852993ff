//! Plain HTTP: a GET for the programs' operator endpoints, and whatever else a test asks of servers beside them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Gets `path`: the status code and the body.
///
/// # Errors
/// When there is no answer.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer)
}

/// What is sent with a request.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Nothing.
    None,
    /// A form, encoded (`a=b&c=d`).
    Form(&'a str),
    /// JSON.
    Json(&'a serde_json::Value),
}

/// Posts to `path`, with an `Authorization` header if there is one: the status code and the body.
///
/// # Errors
/// When there is no answer.
pub fn post(
    address: SocketAddr,
    path: &str,
    authorization: Option<&str>,
    body: Body<'_>,
) -> io::Result<(u16, String)> {
    let (kind, text) = match body {
        Body::None => ("text/plain", String::new()),
        Body::Form(form) => ("application/x-www-form-urlencoded", form.to_owned()),
        Body::Json(json) => ("application/json", json.to_string()),
    };
    let authorization = authorization
        .map(|value| format!("Authorization: {value}\r\n"))
        .unwrap_or_default();
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    // Of HTTP/1.0, so that the answer is not in chunks.
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {address}\r\n{authorization}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer)
}

fn parse(answer: &str) -> io::Result<(u16, String)> {
    let malformed = || io::Error::other(format!("expected an HTTP answer, got {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(malformed)?, body.to_owned()))
}
