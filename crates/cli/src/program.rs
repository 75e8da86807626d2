//! From the command line to a command, and from what it says to an exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use longhaul_limiter::{Clock, SystemClock};
use longhaul_telemetry::Export;

use crate::args::{self, Cli, Command, ConfigCommand, ExplainArgs, LanesArgs, PlanArgs, QueueCommand};
use crate::commands;
use crate::config::{ConfigError, Configuration, Fault, Origin, SettingError};
use crate::exit::{Exit, UsageError};
use crate::output::{Console, Logging, number_of, print_help};
use crate::refusal;

/// How long the runtime waits for what still blocks; a read from a terminal never ends by itself.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// Everything.
pub(crate) fn main() -> ExitCode {
    // Wrong flags end here, with 2, as do --help and --version, with 0.
    let matches = parse(args::command());
    let cli = read(&matches);
    let (console, ended) = match &cli.command {
        Command::Queue(QueueCommand::Run(args)) if args.help_all => {
            let ended = print_help(&args::all_of_run()).map(|()| Exit::Success);
            (Console::new(cli.global.quiet), ended.map_err(Into::into))
        }
        // These work wherever they are called, whatever a file there says.
        Command::Completions(_) | Command::Man(_) | Command::Reference => {
            let console = Console::new(cli.global.quiet);
            let ended = print(&cli.command);
            (console, ended)
        }
        _ => configured(&matches),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            console.hide_bar();
            say(&error, &console);
            let usage = error.is::<UsageError>() || error.is::<ConfigError>() || error.is::<SettingError>();
            if usage { Exit::Usage.into() } else { Exit::Failure.into() }
        }
    }
}

/// Reads the command line.
fn parse(command: clap::Command) -> ArgMatches {
    let again = command.clone();
    command.try_get_matches().unwrap_or_else(|error| refusal::end(&again, error))
}

fn read(matches: &ArgMatches) -> Cli {
    Cli::from_arg_matches(matches).unwrap_or_else(|error| refusal::end(&args::command(), error))
}

/// What is only printed.
fn print(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Completions(args) => commands::completions(args, Cli::command()),
        Command::Man(args) => commands::man(args, Cli::command()),
        _ => commands::reference(Cli::command()),
    }
}

/// Reads the configuration and runs a command with it.
fn configured(matches: &ArgMatches) -> (Console, anyhow::Result<Exit>) {
    let configuration = Configuration::read(&Cli::command(), matches);
    let cli = read(matches);
    if let Command::Config(command) = &cli.command {
        let console = Console::new(cli.global.quiet);
        let ended = match command {
            ConfigCommand::Show(args) => commands::config_show(args, &configuration, matches),
            ConfigCommand::Check(args) => commands::config_check(args, &configuration, &console),
        };
        return (console, ended);
    }
    // A setting that is wrong is wrong for every command, also for those that would pass over it: the one that is going to
    // be called at night should not be the first to find out.
    let faults = configuration.all_faults();
    if !faults.is_empty() {
        let error = ConfigError(faults);
        return (Console::new(cli.global.quiet), Err(error.into()));
    }
    let amended = parse(configuration.amend(Cli::command()));
    let mut cli = read(&amended);
    match &mut cli.command {
        Command::Queue(QueueCommand::Run(args)) => configuration.complete(args, matches),
        Command::Queue(
            QueueCommand::Explain(ExplainArgs { limits, .. })
            | QueueCommand::Lanes(LanesArgs { limits, .. })
            | QueueCommand::Plan(PlanArgs { limits, .. }),
        ) => {
            configuration.complete_rates(&mut limits.rate, matches);
        }
        _ => {}
    }
    let console = Console::new(cli.global.quiet);
    if matches!(cli.command, Command::Queue(QueueCommand::Run(_)))
        && let Some(file) = configuration.file()
    {
        let set = number_of(configuration.set_in_file() as u64, "value", "values");
        console.note(&format!("settings {file}: {set}"));
    }
    let ended = run(cli, &console).map_err(|error| located(error, &configuration, matches));
    (console, ended)
}

/// Names the place of a wrong setting, if it is not on the command line.
fn located(error: anyhow::Error, configuration: &Configuration, matches: &ArgMatches) -> anyhow::Error {
    let Some(setting) = error.downcast_ref::<SettingError>() else { return error };
    match configuration.origin(matches, setting.flag) {
        Origin::Flag(_) | Origin::Default => error,
        origin => {
            let key = configuration.key(setting.flag);
            ConfigError(vec![Fault { place: origin, key, message: setting.message.clone() }]).into()
        }
    }
}

fn run(cli: Cli, console: &Console) -> anyhow::Result<Exit> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Only a run has something to send.
    let mut export = match &cli.command {
        Command::Queue(QueueCommand::Run(_)) => {
            Export::from_environment(Arc::clone(&clock)).map_err(|error| UsageError(error.to_string()))?
        }
        _ => None,
    };
    let logging = Logging::start(&cli.global, console, Arc::clone(&clock), export.as_ref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let opened = cli.global.opened.clone();
    let ended = runtime.block_on(async {
        let global = &cli.global;
        let Command::Queue(command) = cli.command else { return Ok(Exit::Success) };
        match command {
            QueueCommand::Import(args) => commands::import(global, args, console, clock).await,
            QueueCommand::Enqueue(args) => commands::enqueue(global, args, console, clock).await,
            QueueCommand::Run(args) => commands::run(global, *args, export.take(), console, clock).await,
            QueueCommand::Stats(args) => commands::stats(global, args, console, clock).await,
            QueueCommand::List(args) => commands::list(global, args, console, clock).await,
            QueueCommand::Show(args) => commands::show(global, args, console, clock).await,
            QueueCommand::Explain(args) => commands::explain(global, args, console, clock).await,
            QueueCommand::RetryFailed(args) => commands::retry_failed(global, args, console, clock).await,
            QueueCommand::Requeue(args) => commands::requeue(global, args, console, clock).await,
            QueueCommand::Cancel(args) => commands::cancel(global, args, console, clock).await,
            QueueCommand::Plan(args) => commands::plan(global, args, console, clock).await,
            QueueCommand::Pause(args) => commands::pause(global, args, console, clock).await,
            QueueCommand::Resume(args) => commands::resume(global, args, console, clock).await,
            QueueCommand::Lanes(args) => commands::lanes(global, args, console, clock).await,
            QueueCommand::Workers(args) => commands::workers(global, args, console, clock).await,
            QueueCommand::Prune(args) => commands::prune(global, args, console, clock).await,
            QueueCommand::Check(args) => commands::check(global, args, console, clock).await,
            QueueCommand::Manifest(args) => commands::manifest(&args, console),
        }
    });
    runtime.block_on(opened.close());
    runtime.shutdown_timeout(LAST_MOMENTS);
    logging.finish();
    ended
}

/// The error in one line, with what lies behind it as far as that says something new.
fn say(error: &anyhow::Error, console: &Console) {
    if let Some(ConfigError(faults)) = error.downcast_ref() {
        for fault in faults {
            console.error(&fault.to_string());
        }
        return;
    }
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
