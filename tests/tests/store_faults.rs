//! Faults of the disk under the store: each is said so that a person can mend it, loses nothing, and is over once it is
//! mended (`ErrorKind::Unavailable`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was not run is said")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use longhaul_limiter::SystemClock;
use longhaul_queue_core::{QueueAdmin as _, SqliteOptions, SqliteQueue, WorkQueue as _};
use serde_json::Value;

const CHILD: &str = env!("CARGO_BIN_EXE_store-child");
/// Nobody, where the tests are run by root, for whom no file is read-only.
const NOBODY: u32 = 65_534;

/// What a process that ran out of room said: all its answers, and then how many jobs there are.
fn check_ran_out_of_room(output: &Output, queue: &Path) -> u64 {
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let accepted = lines.iter().filter(|line| line.get("enqueued").is_some()).count() as u64;
    let refused: Vec<&Value> = lines.iter().filter(|line| line.get("failed").is_some()).collect();
    assert_eq!(refused.len(), 2, "{said}");
    for line in refused {
        assert_eq!((&line["kind"], &line["retryable"]), (&"Unavailable".into(), &true.into()), "{line}");
        let message = line["message"].as_str().unwrap();
        assert!(message.contains(queue.to_str().unwrap()), "it does not say where: {message}");
        assert!(message.contains("make room") || message.contains("see that"), "nor what to do: {message}");
    }
    let totals: Vec<u64> = lines.iter().filter_map(|line| line["total"].as_u64()).collect();
    assert_eq!(totals, [accepted - 1, accepted], "{said}");
    accepted
}

async fn check_store(path: &Path, jobs: u64) {
    let queue = SqliteQueue::open(SqliteOptions::new(path), Arc::new(SystemClock)).await.unwrap();
    assert_eq!(queue.stats().await.unwrap().counts.queued, jobs);
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn inv_no_loss_a_file_that_may_not_grow_refuses_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.sqlite");
    let output = Command::new(CHILD).arg(&path).args(["bounded", "1000000"]).output().unwrap();
    let accepted = check_ran_out_of_room(&output, &path);
    assert!(accepted > 10, "{accepted}");
    check_store(&path, accepted).await;
}

/// On a file system of its own, which only this process sees and which ends with it.
#[tokio::test]
async fn inv_no_loss_a_full_disk_refuses_and_goes_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, copy) = (folder.path().join("disk"), folder.path().join("copy"));
    std::fs::create_dir_all(&disk).unwrap();
    std::fs::create_dir_all(&copy).unwrap();
    let path = disk.join("queue.sqlite");
    let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" || exit 77; \
                  \"$2\" \"$3\" full-disk \"$1\" && cp -r \"$1\"/. \"$4\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]);
    command.arg(&disk).arg(CHILD).arg(&path).arg(&copy);
    let output = command.output();
    let may_not = |output: &Output| output.status.code() == Some(77) || output.stdout.is_empty();
    let Some(output) = output.ok().filter(|output| !may_not(output)) else {
        eprintln!(
            "a small file system may not be mounted here: the full disk was NOT shown, only a bounded file"
        );
        return;
    };
    let accepted = check_ran_out_of_room(&output, &path);
    check_store(&copy.join("queue.sqlite"), accepted).await;
}

#[tokio::test]
async fn what_is_read_only_is_said_and_works_again_once_it_is_writable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.sqlite");
    let run = |path: &Path, key| {
        let mut command = Command::new(CHILD);
        command.arg(path).args(["try", key]).stdout(Stdio::piped()).stderr(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY);
        }
        command.output().unwrap()
    };
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), None).unwrap();
    }
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o755);
    let said = run(&path, "first");
    assert!(String::from_utf8_lossy(&said.stdout).contains("enqueued"), "{said:?}");
    let new = folder.path().join("new.sqlite");
    for (queue, what, closed, open) in
        [(&path, path.as_path(), 0o444, 0o644), (&new, folder.path(), 0o555, 0o755)]
    {
        mode(what, closed);
        let said = run(queue, "second");
        mode(what, open);
        let line: Value =
            serde_json::from_slice(&said.stdout).unwrap_or_else(|_| Value::from(format!("{said:?}")));
        assert_eq!((&line["kind"], &line["retryable"]), (&"Unavailable".into(), &true.into()), "{line}");
        let message = line["message"].as_str().unwrap();
        assert!(message.contains(folder.path().to_str().unwrap()), "it does not say where: {message}");
        assert!(message.contains("see that"), "nor what to do: {message}");
    }
    for queue in [&path, &new] {
        let said = run(queue, "second");
        assert!(String::from_utf8_lossy(&said.stdout).contains("enqueued"), "{said:?}");
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(0), None).unwrap();
    }
    check_store(&path, 2).await;
}
