//! The load: wrk, and what it says.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// What one run of wrk saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) requests: u64,
    /// And how many that is each second.
    pub(crate) per_second: f64,
    /// Half of them took no longer than this.
    pub(crate) median_latency: Duration,
}

/// A run that measured nothing worth keeping.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// wrk did not run.
    #[error("wrk could not be run: {0}")]
    Run(#[from] io::Error),
    /// An answer that was not 2xx, or a broken connection: what was measured is not what was meant.
    #[error("wrk saw errors, so its numbers say nothing: {0}")]
    Errors(String),
    /// Its output was not as expected.
    #[error("wrk's output has no {missing}:\n{output}")]
    Output {
        /// What was looked for.
        missing: &'static str,
        /// All of it.
        output: String,
    },
}

/// Keeps `connections` connections busy for `seconds`.
pub(crate) fn run(
    wrk: &Path,
    target: SocketAddr,
    connections: u32,
    seconds: u32,
) -> Result<Load, LoadError> {
    let output = Command::new(wrk)
        .args(["--latency", "--threads", "1"])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        .arg(format!("http://{target}/"))
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(LoadError::Errors(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    read(&text)
}

fn read(output: &str) -> Result<Load, LoadError> {
    let missing = |missing| LoadError::Output {
        missing,
        output: output.to_owned(),
    };
    let lines = || output.lines().map(str::trim);
    if let Some(line) =
        lines().find(|line| line.starts_with("Non-2xx") || line.starts_with("Socket errors"))
    {
        return Err(LoadError::Errors(line.to_owned()));
    }
    let requests = lines()
        .find_map(|line| line.split_once(" requests in ")?.0.parse().ok())
        .filter(|requests| *requests > 0)
        .ok_or_else(|| missing("number of requests"))?;
    let per_second = lines()
        .find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok())
        .ok_or_else(|| missing("requests per second"))?;
    let median_latency = lines()
        .find_map(|line| duration(line.strip_prefix("50%")?.trim()))
        .ok_or_else(|| missing("median latency"))?;
    Ok(Load {
        requests,
        per_second,
        median_latency,
    })
}

/// A duration as wrk writes it: `76.00us`, `1.20ms`, `2.00s`.
fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// Whether somebody listens there.
pub(crate) fn listens(target: SocketAddr) -> bool {
    TcpStream::connect_timeout(&target, Duration::from_secs(2)).is_ok()
}

/// Whether one request is answered 200.
pub(crate) fn answers(target: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let timeout = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&target, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 5s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   716.66us  145.33us   4.12ms   85.29%
    Req/Sec    89.61k     2.26k   92.88k    74.00%
  Latency Distribution
     50%  690.00us
     75%    0.75ms
     90%    0.86ms
     99%    1.17ms
  445789 requests in 5.00s, 530.68MB read
Requests/sec:  89140.70
Transfer/sec:    106.11MB
";

    #[test]
    fn reads_what_wrk_says() {
        let load = read(OUTPUT).unwrap();
        assert_eq!(load.requests, 445_789);
        assert!((load.per_second - 89_140.70).abs() < 0.01);
        assert_eq!(load.median_latency, Duration::from_micros(690));
    }

    #[test]
    fn a_run_with_errors_counts_for_nothing() {
        for line in [
            "  Non-2xx or 3xx responses: 12",
            "  Socket errors: connect 0, read 3, write 0, timeout 0",
        ] {
            let output = OUTPUT.replace("Requests/sec", &format!("{line}\nRequests/sec"));
            assert!(matches!(read(&output), Err(LoadError::Errors(_))), "{line}");
        }
        assert!(matches!(read("nothing"), Err(LoadError::Output { .. })));
    }

    #[test]
    fn reads_durations() {
        assert_eq!(duration("76.00us"), Some(Duration::from_micros(76)));
        assert_eq!(duration("1.20ms"), Some(Duration::from_micros(1200)));
        assert_eq!(duration("2.00s"), Some(Duration::from_secs(2)));
        assert_eq!(duration("2.00"), None);
        assert_eq!(duration("2.00h"), None);
    }
}
