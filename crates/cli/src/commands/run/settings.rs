//! From flags to the settings of the crates, with what flags mean only together.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::LaneRules;
use longhaul_orchestrator::{Budgets, OrchestratorConfig};
use longhaul_pipeline::{HttpOptions, SecretHeaders};

use crate::args::{Layout, RunArgs};
use crate::config::SettingError;
use crate::limits;
use crate::output::{Console, duration};

/// A lease that is shorter than this may end because a disk was slow.
const SHORT_LEASE: Duration = Duration::from_secs(30);

/// The heartbeat if none is named.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What is wrong with flags only when they are seen together, each named by the flag that should change.
pub(crate) fn faults(args: &RunArgs) -> Vec<SettingError> {
    let mut faults = Vec::new();
    let mut fault = |flag, message| faults.push(SettingError { flag, message });
    let ttl = args.lease_ttl;
    if ttl < Duration::from_secs(1) {
        fault("lease_ttl", format!("--lease-ttl {} is too short; 1s is the least", duration(ttl)));
    }
    let heartbeat = heartbeat(args);
    if heartbeat.is_zero() || heartbeat >= ttl / 3 {
        fault(
            "heartbeat",
            format!(
                "--heartbeat {} must be more than nothing and less than a third of --lease-ttl ({})",
                duration(heartbeat),
                duration(ttl)
            ),
        );
    }
    for (flag, name, time) in [
        ("connect_timeout", "--connect-timeout", args.connect_timeout),
        ("read_timeout", "--read-timeout", args.read_timeout),
    ] {
        if time.is_zero() {
            fault(flag, format!("{name} 0s leaves no time; no request could succeed"));
        }
    }
    for (index, name) in args.resolvers.iter().enumerate() {
        if args.resolvers[..index].contains(name) {
            fault(
                "resolvers",
                format!("--resolvers names {name} twice; name each once, in the order to ask them"),
            );
        }
    }
    if args.max_runtime == Some(Duration::ZERO) {
        fault("max_runtime", "--max-runtime 0s leaves no time; leave it out for no bound".to_owned());
    }
    faults
}

fn heartbeat(args: &RunArgs) -> Duration {
    args.heartbeat.unwrap_or(HEARTBEAT.min(args.lease_ttl / 4))
}

/// The settings of the orchestrator.
pub(super) fn orchestrator(
    args: &RunArgs,
    rules: LaneRules,
    console: &Console,
) -> Result<OrchestratorConfig, SettingError> {
    if let Some(fault) = faults(args).into_iter().next() {
        return Err(fault);
    }
    let ttl = args.lease_ttl;
    if ttl < SHORT_LEASE {
        console.warn(&format!(
            "--lease-ttl {} is short: a slow disk can make this process lose jobs that it is at work on",
            duration(ttl)
        ));
    }
    let rules = Arc::new(rules);
    let limits = limits::process(args, Arc::clone(&rules))?;
    Ok(OrchestratorConfig {
        workers: usize::from(args.workers),
        lease_ttl: ttl,
        heartbeat: heartbeat(args),
        max_job_attempts: args.max_attempts,
        max_losses: args.max_losses,
        retry_backoff: args.retry_backoff,
        jitter: args.jitter,
        grace: args.grace,
        drain: args.drain,
        drain_horizon: args.drain_horizon,
        budgets: Budgets {
            max_jobs: args.max_jobs,
            max_bytes: args.max_bytes,
            max_runtime: args.max_runtime,
            max_errors: args.max_errors,
        },
        rules,
        limits: Arc::new(limits),
        ..OrchestratorConfig::default()
    })
}

/// The settings of the download.
pub(super) fn http(args: &RunArgs, queue: &str, run_id: &str) -> HttpOptions {
    let mut headers = SecretHeaders::default();
    for header in &args.header {
        headers.insert(&header.origin, header.name.as_str(), header.value.as_str());
    }
    let defaults = HttpOptions::default();
    HttpOptions {
        dedupe: args.dedupe,
        resolvers: if args.resolvers.is_empty() {
            defaults.resolvers.clone()
        } else {
            args.resolvers.clone()
        },
        output_dir: args.output_dir.clone(),
        manifest: args.manifest.clone(),
        connect_timeout: args.connect_timeout,
        first_byte_timeout: args.read_timeout,
        idle_timeout: args.read_timeout,
        max_redirects: args.max_redirects,
        max_bytes: args.max_file_size,
        headers,
        queue_id: Some(queue.to_owned()),
        run_id: Some(run_id.to_owned()),
        layout: match args.layout {
            Layout::Flat => longhaul_pipeline::Layout::Flat,
            Layout::Sharded => longhaul_pipeline::Layout::Sharded,
        },
        contact: args.contact.clone(),
        robots: !args.no_robots,
        allow_networks: args.allow_network.clone(),
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, QueueCommand};

    fn run_args(flags: &[&str]) -> Result<RunArgs, String> {
        let line = ["longhaul", "queue", "run"].iter().chain(flags);
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Queue(QueueCommand::Run(args)) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn read(flags: &[&str]) -> Result<OrchestratorConfig, String> {
        let config = orchestrator(&run_args(flags)?, LaneRules::default(), &Console::new(true));
        config.map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = read(&[]).unwrap();
        let documented = OrchestratorConfig::default();
        assert_eq!(config.workers, 8);
        assert_eq!((config.lease_ttl, config.heartbeat), (Duration::from_mins(2), Duration::from_secs(15)));
        assert_eq!((config.max_job_attempts, config.max_losses), (3, 5));
        assert_eq!((config.retry_backoff, config.jitter), (documented.retry_backoff, documented.jitter));
        assert_eq!((config.grace, config.drain_horizon), (documented.grace, documented.drain_horizon));
        let http = http(&run_args(&[]).unwrap(), "q", "r");
        let documented = HttpOptions::default();
        assert_eq!(
            (http.connect_timeout, http.idle_timeout),
            (documented.connect_timeout, documented.idle_timeout)
        );
        assert_eq!(http.first_byte_timeout, documented.first_byte_timeout);
        assert_eq!((http.max_bytes, http.max_redirects), (documented.max_bytes, documented.max_redirects));
        assert!(!config.drain && config.budgets.max_jobs.is_none());
        config.validate().unwrap();
    }

    #[test]
    fn a_shorter_lease_brings_a_shorter_heartbeat() {
        let config = read(&["--lease-ttl", "20s"]).unwrap();
        assert_eq!(config.heartbeat, Duration::from_secs(5));
        config.validate().unwrap();
        read(&["--lease-ttl", "1s"]).unwrap().validate().unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_flag() {
        let refused = |flags: &[&str]| read(flags).unwrap_err();
        assert!(refused(&["--lease-ttl", "0.5s"]).contains("--lease-ttl 0.5s is too short"));
        assert!(refused(&["--heartbeat", "40s"]).contains("--heartbeat 40s must be"));
        assert!(refused(&["--heartbeat", "0s"]).contains("--heartbeat 0s must be"));
        assert!(refused(&["--read-timeout", "0s"]).contains("--read-timeout 0s leaves no time"));
        assert!(refused(&["--max-runtime", "0s"]).contains("--max-runtime"));
        assert!(refused(&["--workers", "0"]).contains("--workers"));
        assert!(refused(&["--workers", "257"]).contains("--workers"));
        assert!(refused(&["--resolvers", "direct,direct"]).contains("--resolvers names direct twice"));
        assert!(refused(&["--resolvers", "unpaywall"]).contains("--resolvers"));
        assert!(refused(&["--max-jobs", "0"]).contains("--max-jobs"));
        assert!(refused(&["--rate", "example.org=2"]).contains("--rate"));
        assert!(refused(&["--allow-network", "10.0.0.0/99"]).contains("--allow-network"));
        assert!(refused(&["--contact", "me"]).contains("--contact"));
    }
}
