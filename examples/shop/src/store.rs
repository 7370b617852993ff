//! `store`: lines by key over TCP, a protocol that the mesh knows nothing of.
//!
//! | sent | answered |
//! | --- | --- |
//! | `PUT key value…` | `OK` |
//! | `GET key` | `VALUE value…` or `NONE` |
//! | `DEL key` | `OK` |
//!
//! Anything else is answered `ERR` and what was wrong. A line has at most [`LINE_LIMIT`] bytes.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

const LINE_LIMIT: u64 = 128 * 1024;

type Lines = Arc<Mutex<HashMap<String, String>>>;

pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    let lines = Lines::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let lines = Arc::clone(&lines);
        tokio::spawn(async move {
            // How a connection ends concerns only its client.
            let _ = converse(stream, &lines).await;
        });
    }
}

async fn converse(stream: TcpStream, lines: &Lines) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(line) = read_line(&mut stream).await? {
        let reply = answer(&line, lines);
        stream.write_all(format!("{reply}\n").as_bytes()).await?;
    }
    Ok(())
}

/// One line without its end; `None` when the peer has closed.
async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    stream.take(LINE_LIMIT).read_line(&mut line).await?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(Some(whole.to_owned())),
        None if line.is_empty() => Ok(None),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn answer(line: &str, lines: &Lines) -> String {
    // A map of strings is whole after every operation, also where one panicked.
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("PUT"), Some(key), Some(value)) => {
            lines.insert(key.to_owned(), value.to_owned());
            "OK".to_owned()
        }
        (Some("GET"), Some(key), None) => lines
            .get(key)
            .map_or_else(|| "NONE".to_owned(), |value| format!("VALUE {value}")),
        (Some("DEL"), Some(key), None) => {
            lines.remove(key);
            "OK".to_owned()
        }
        _ => "ERR expected PUT key value, GET key or DEL key".to_owned(),
    }
}

/// The client's side. One connection for each question: to the mesh, each is one call.
pub(crate) struct Store {
    address: SocketAddr,
}

impl Store {
    pub(crate) const fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> io::Result<()> {
        match self.ask(&format!("PUT {key} {value}")).await?.as_str() {
            "OK" => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) async fn get(&self, key: &str) -> io::Result<Option<String>> {
        let reply = self.ask(&format!("GET {key}")).await?;
        match reply.strip_prefix("VALUE ") {
            Some(value) => Ok(Some(value.to_owned())),
            None if reply == "NONE" => Ok(None),
            None => Err(unexpected(&reply)),
        }
    }

    pub(crate) async fn delete(&self, key: &str) -> io::Result<()> {
        match self.ask(&format!("DEL {key}")).await?.as_str() {
            "OK" => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, line: &str) -> io::Result<String> {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await?);
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        read_line(&mut stream).await?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection was closed unanswered",
            )
        })
    }
}

fn unexpected(reply: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("unexpected answer {reply:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_kept_and_found_and_forgotten() {
        let lines = Lines::default();
        assert_eq!(answer("GET 1", &lines), "NONE");
        assert_eq!(answer("PUT 1 a kettle", &lines), "OK");
        assert_eq!(answer("GET 1", &lines), "VALUE a kettle");
        assert_eq!(answer("DEL 1", &lines), "OK");
        assert_eq!(answer("GET 1", &lines), "NONE");
        for wrong in ["", "PUT 1", "GET", "GET 1 2", "STOP"] {
            assert!(answer(wrong, &lines).starts_with("ERR "), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn client_and_server_understand_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Store::at(listener.local_addr().unwrap());
        tokio::spawn(serve(listener));
        store.put("7", "seven eight").await.unwrap();
        assert_eq!(
            store.get("7").await.unwrap().as_deref(),
            Some("seven eight")
        );
        store.delete("7").await.unwrap();
        assert_eq!(store.get("7").await.unwrap(), None);
    }
}
