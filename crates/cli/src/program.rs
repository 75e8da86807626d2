//! From the command line to a command, and from what it says to an exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{Clock, SystemClock};

use crate::args::{self, Cli, Command, QueueCommand};
use crate::commands;
use crate::exit::{Exit, UsageError};
use crate::output::{Console, start_logging};

/// How long the runtime waits for what still blocks; a read from a terminal never ends by itself.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// Everything.
pub(crate) fn main() -> ExitCode {
    // Wrong flags end here, with 2, as do --help and --version, with 0.
    let cli = args::parse();
    let console = Console::new(cli.global.quiet);
    match run(cli, &console) {
        Ok(exit) => exit.into(),
        Err(error) => {
            console.hide_bar();
            say(&error, &console);
            if error.is::<UsageError>() { Exit::Usage.into() } else { Exit::Failure.into() }
        }
    }
}

fn run(cli: Cli, console: &Console) -> anyhow::Result<Exit> {
    start_logging(&cli.global, console)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ended = runtime.block_on(async {
        let Command::Queue(command) = cli.command;
        let global = &cli.global;
        match command {
            QueueCommand::Import(args) => commands::import(global, args, console, clock).await,
            QueueCommand::Enqueue(args) => commands::enqueue(global, args, console, clock).await,
            QueueCommand::Run(args) => commands::run(global, *args, console, clock).await,
            QueueCommand::Stats(args) => commands::stats(global, args, console, clock).await,
            QueueCommand::List(args) => commands::list(global, args, console, clock).await,
            QueueCommand::Show(args) => commands::show(global, args, console, clock).await,
            QueueCommand::Explain(args) => commands::explain(global, args, console, clock).await,
            QueueCommand::RetryFailed(args) => commands::retry_failed(global, args, console, clock).await,
            QueueCommand::Requeue(args) => commands::requeue(global, args, console, clock).await,
            QueueCommand::Cancel(args) => commands::cancel(global, args, console, clock).await,
            QueueCommand::Pause(args) => commands::pause(global, args, console, clock).await,
            QueueCommand::Resume(args) => commands::resume(global, args, console, clock).await,
            QueueCommand::Lanes(args) => commands::lanes(global, args, console, clock).await,
            QueueCommand::Workers(args) => commands::workers(global, args, console, clock).await,
            QueueCommand::Prune(args) => commands::prune(global, args, console, clock).await,
            QueueCommand::Check(args) => commands::check(global, args, console, clock).await,
        }
    });
    runtime.shutdown_timeout(LAST_MOMENTS);
    ended
}

/// The error in one line, with what lies behind it as far as that says something new.
fn say(error: &anyhow::Error, console: &Console) {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.contains(&cause) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&cause);
    }
    console.error(&said);
}
