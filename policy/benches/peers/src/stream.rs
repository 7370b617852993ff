//! `countersign policy decide`: a stream of calls in, a stream of decisions out, over pipes, as people run it.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::json;

use crate::common::calls::{CONDITION, Call, calls};
use crate::common::rules::files;
use crate::scratch::Scratch;

/// As many as make the start, which is counted, too, a small part of the whole.
const CALLS: usize = 1_000_000;
/// Of one workload.
const RULES: usize = 1_000;

/// Decisions for each second of processor time: of calls that are allowed, and of calls that are denied. `None` if the
/// program is not there; `make bench-policy` builds it.
pub(crate) fn measure() -> io::Result<Option<[(&'static str, f64); 2]>> {
    let Some(program) = program() else {
        return Ok(None);
    };
    let directory = Scratch::new("stream")?;
    for (file, text) in files(RULES) {
        fs::write(directory.path().join(file), text)?;
    }
    let all = calls(RULES);
    let of = |allowed: bool| -> Vec<&Call> {
        let structured = all.iter().filter(|call| call.kind != CONDITION);
        structured.filter(|call| call.allowed == allowed).collect()
    };
    Ok(Some([
        (
            "allowed",
            throughput(&program, directory.path(), &of(true))?,
        ),
        (
            "denied",
            throughput(&program, directory.path(), &of(false))?,
        ),
    ]))
}

/// Beside this program: both are built into one target directory.
fn program() -> Option<PathBuf> {
    let found = env::current_exe().ok()?.with_file_name("countersign");
    found.is_file().then_some(found)
}

/// Decisions for each second of the program's processor time, its start included.
fn throughput(program: &Path, policy: &Path, calls: &[&Call]) -> io::Result<f64> {
    let lines: Vec<String> = calls.iter().map(|call| line(call)).collect();
    let expected: Vec<&str> = calls
        .iter()
        .map(|call| match call.allowed {
            true => r#"{"decision":"allow","#,
            false => r#"{"decision":"deny","#,
        })
        .collect();
    let before = cpu_of_children()?;
    let mut process = Command::new(program)
        .args([
            "policy",
            "decide",
            "--trust-domain",
            "shop.example",
            "--calls",
            "-",
        ])
        .arg(policy)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let input = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let writer = thread::spawn(move || -> io::Result<()> {
        let mut input = BufWriter::with_capacity(64 << 10, input);
        lines
            .iter()
            .cycle()
            .take(CALLS)
            .try_for_each(|line| input.write_all(line.as_bytes()))?;
        input.flush()
    });
    let mut output = BufReader::with_capacity(64 << 10, output);
    let mut decision = String::new();
    for expected in expected.iter().cycle().take(CALLS) {
        decision.clear();
        output.read_line(&mut decision)?;
        assert!(decision.starts_with(expected), "{decision}");
    }
    writer.join().expect("the writer does not panic")?;
    let status = process.wait()?;
    assert!(status.success(), "{status}");
    Ok(CALLS as f64 / (cpu_of_children()? - before))
}

/// The call as a line of input.
fn line(call: &Call) -> String {
    let mut json = json!({
        "peer": call.peer(),
        "source_ip": "10.0.0.7",
        "destination": {"namespace": "shop", "workload": "orders", "port": call.port},
        "request": {
            "method": call.method,
            "host": call.host,
            "path": call.path,
            "headers": {"accept": "*/*", "user-agent": "bench", "x-tenant": "acme"},
        },
        "time": "2026-11-23T10:00:00Z",
    });
    if call.token {
        json["subject"] = json!({
            "issuer": "corp",
            "claims": {"sub": "alice", "groups": ["staff", "buyer"], "tenant": "acme"},
        });
    }
    format!("{json}\n")
}

/// Seconds of processor time that ended children have used: proc(5), fields 16 and 17 of `stat`, in hundredths.
fn cpu_of_children() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may have spaces; it is field 2.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}
