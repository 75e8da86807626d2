//! Running other programs: each is announced as a person would type it, and its failure names it.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result, bail};

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs us; it is right even if several checkouts share a target folder, for
    // which the value from compile time may name another one.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(manifest);
    root.pop();
    root
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// `cargo ARGUMENTS` in the workspace's root, by the cargo that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs to the end, with the terminal as its output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let status = command.status().with_context(|| format!("`{line}` could not be started"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// As [`run`], and shows every line of output to `watch` too.
pub(crate) fn run_watched(command: &mut Command, mut watch: impl FnMut(&str)) -> Result<()> {
    let line = announce(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{line}` could not be started"))?;
    let (to_us, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, Stream::Out, to_us.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward(stderr, Stream::Err, to_us.clone());
    }
    drop(to_us);
    for (stream, line) in lines {
        match stream {
            Stream::Out => println!("{line}"),
            Stream::Err => eprintln!("{line}"),
        }
        watch(&line);
    }
    let status = child.wait().with_context(|| format!("`{line}` was lost"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// What the program prints on stdout. Its stderr goes to the terminal.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{line}` could not be started"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed what is not UTF-8"))
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Err,
}

fn forward(source: impl Read + Send + 'static, stream: Stream, to: Sender<(Stream, String)>) {
    thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n') {
            // A pipe that breaks ends the output; the exit status says what happened to the program.
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if to.send((stream, line)).is_err() {
                break;
            }
        }
    });
}

fn announce(command: &Command) -> String {
    let line = describe(command);
    eprintln!("$ {line}");
    line
}

/// The command as a person would type it.
fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let set = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), quote(&value.to_string_lossy())))
    });
    let arguments = command.get_args().map(|argument| quote(&argument.to_string_lossy()));
    set.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    if word.is_empty() || word.contains([' ', '"', '\'', '$', '(', ')', '*', '|']) {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_described_as_a_person_would_type_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["doc", "--filter", "package(a) | b"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(describe(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --filter 'package(a) | b'");
    }

    #[test]
    fn a_watched_program_shows_both_of_its_streams_and_its_failure() {
        let mut seen = Vec::new();
        let result = run_watched(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), |line| {
            seen.push(line.to_owned());
        });
        seen.sort();
        assert_eq!(seen, ["err", "out"]);
        let error = result.expect_err("exit code 3 is a failure").to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).expect_err("it is not there");
        assert!(error.to_string().contains("`no-such-program-here` could not be started"), "{error}");
    }
}
