//! The binary under test, as a process.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The program: what `LONGHAUL_TEST_BINARY` names, else a fresh build in the profile of this test.
pub fn program_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("LONGHAUL_TEST_BINARY") {
            return PathBuf::from(path);
        }
        // target/PROFILE/deps/TEST-HASH
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap().to_owned();
        let release = profile.file_name() == Some(OsStr::new("release"));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "longhaul", "--target-dir"])
            .arg(profile.parent().unwrap());
        build.args(release.then_some("--release")).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success(), "the program cannot be built");
        profile.join("longhaul")
    })
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed as data.
    pub stdout: String,
    /// What it said to people.
    pub stderr: String,
}

impl Finished {
    /// The exit code; negative is the signal that killed it.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    /// The same, if it ended with this code.
    #[must_use]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdout: JoinHandle<()>,
    stderr: JoinHandle<()>,
    data: watch::Receiver<String>,
    said: watch::Receiver<String>,
}

impl Program {
    /// Starts it in a folder, without a terminal and without settings of whoever runs the test.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, &[])
    }

    /// The same with these environment variables.
    pub fn start_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_other(program_path(), folder, arguments, variables)
    }

    /// Another program, in the same manner.
    pub fn start_other(
        program: &Path,
        folder: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LONGHAUL_") {
                command.env_remove(name);
            }
        }
        // Nor of their configuration file.
        command.env("XDG_CONFIG_HOME", folder.join("no-settings"));
        command.envs(variables.iter().copied());
        let mut child = command.spawn().unwrap();
        let (stdout, data) = collect(child.stdout.take().unwrap());
        let (stderr, said) = collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr, data, said }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// Sends a signal by name: `INT`, `TERM`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent =
            std::process::Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has said this to people, on stderr. Fails if it ends without.
    pub async fn wait_until_it_says(&mut self, text: &str) {
        let ended = self.said.wait_for(|said| said.contains(text)).await.is_err();
        assert!(!ended, "it never said {text:?}, but:\n{}", *self.said.borrow());
    }

    /// What it has said to people so far.
    pub fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Waits for its end.
    pub async fn finish(mut self) -> Finished {
        let status = self.child.wait().await.unwrap();
        self.stdout.await.unwrap();
        self.stderr.await.unwrap();
        Finished { status, stdout: self.data.borrow().clone(), stderr: self.said.borrow().clone() }
    }

    /// Ends it as a power cut ends a program: at once, in the middle of whatever it does.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "awaited by `finish`; ends with the pipe")]
fn collect(pipe: impl AsyncRead + Unpin + Send + 'static) -> (JoinHandle<()>, watch::Receiver<String>) {
    let (text, reader) = watch::channel(String::new());
    let reading = tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            text.send_modify(|text| text.extend([line.as_str(), "\n"]));
        }
    });
    (reading, reader)
}
