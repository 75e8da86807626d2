//! The flags of `queue run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use longhaul_pipeline::{HttpPipeline, Network};
use longhaul_telemetry::ReportTarget;

use super::{Format, HostHeader, HostRate, ResolverCap, duration, header, number, rate, resolver, size};

/// `queue run`.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line, not a state")]
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue run --drain --contact you@example.org")]
pub(crate) struct RunArgs {
    /// End when nothing is left that can start soon
    ///
    /// End when nothing is in progress and nothing can start within --drain-horizon
    #[arg(long, env = "LONGHAUL_DRAIN", value_parser = BoolishValueParser::new())]
    pub(crate) drain: bool,
    /// Import this file first (repeatable)
    #[arg(long, value_name = "FILE", env = "LONGHAUL_IMPORT")]
    pub(crate) import: Vec<PathBuf>,
    /// How the summary is printed
    #[arg(long, env = "LONGHAUL_FORMAT", default_value = "table")]
    pub(crate) format: Format,
    /// Print the help with all flags
    #[arg(long)]
    pub(crate) help_all: bool,
    /// Serve metrics there, like 127.0.0.1:9464
    ///
    /// Serve metrics for Prometheus on this address, like 127.0.0.1:9464: `/metrics`, and `/healthz` and `/readyz` for
    /// supervisors. Whoever can reach it can read it. OTLP is exported where the variables of OpenTelemetry ask for it,
    /// such as OTEL_EXPORTER_OTLP_ENDPOINT
    #[arg(long, value_name = "ADDRESS", env = "LONGHAUL_METRICS_LISTEN")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Hosts with a label of their own
    ///
    /// How many hosts, and how many resolvers, have a label of their own in metrics; all further ones are `other`
    #[arg(long, value_name = "N", env = "LONGHAUL_METRICS_LABEL_VALUES", default_value = "100",
        value_parser = number::whole::<u16>(0..=1000))]
    pub(crate) metrics_label_values: u16,

    /// Files and manifest.jsonl
    ///
    /// The folder for files and for their list, manifest.jsonl
    #[arg(
        long,
        value_name = "DIR",
        env = "LONGHAUL_OUTPUT_DIR",
        default_value = "downloads",
        help_heading = "Files"
    )]
    pub(crate) output_dir: PathBuf,
    /// flat, or sharded into folders
    ///
    /// Where files lie in it: `flat`, or `sharded` under two levels of folders (for more than 100,000 files)
    #[arg(
        long,
        env = "LONGHAUL_LAYOUT",
        default_value = "flat",
        help_heading = "Files",
        hide_possible_values = true
    )]
    pub(crate) layout: Layout,
    /// Store files of the same content once
    ///
    /// Store files of the same content (SHA-256) once: each further artifact's file is a hard link to the first, and has its
    /// line in the manifest. A file system that makes no hard links is refused. Files of runs without this are not looked at
    #[arg(long, env = "LONGHAUL_DEDUPE", help_heading = "Files", value_parser = BoolishValueParser::new())]
    pub(crate) dedupe: bool,
    /// In place of manifest.jsonl
    ///
    /// Append a JSON line for each ended job to this file instead of manifest.jsonl in --output-dir; one file a folder
    #[arg(long, value_name = "FILE", env = "LONGHAUL_MANIFEST", help_heading = "Files")]
    pub(crate) manifest: Option<PathBuf>,
    /// A line for each request, in .jsonl or .csv
    ///
    /// Append a line for each request to this file: comma-separated values if its name ends in .csv, else a JSON object
    /// each. Several processes may share it
    #[arg(long, value_name = "FILE", env = "LONGHAUL_ATTEMPTS", help_heading = "Files")]
    pub(crate) attempts: Option<PathBuf>,
    /// At this size a new one begins
    ///
    /// At this size the attempts file begins anew: attempts.jsonl becomes attempts.1.jsonl, and so on
    #[arg(long, value_name = "SIZE", env = "LONGHAUL_ATTEMPTS_MAX_SIZE", default_value = "1GiB", help_heading = "Files",
        value_parser = size::parse)]
    pub(crate) attempts_max_size: u64,
    /// So many full ones stay
    ///
    /// How many full attempts files stay beside the new one; the oldest is overwritten
    #[arg(long, value_name = "N", env = "LONGHAUL_ATTEMPTS_KEEP", default_value = "9", help_heading = "Files",
        value_parser = number::whole::<u32>(1..=1000))]
    pub(crate) attempts_keep: u32,
    /// A page about the run, written at its end
    ///
    /// Write a page about the run to this file when it ends, and the same as data beside it: report.html and
    /// report.json. A name that ends in .json gets the data alone. An earlier report is replaced
    #[arg(long, value_name = "FILE", env = "LONGHAUL_REPORT", help_heading = "Files")]
    pub(crate) report: Option<ReportTarget>,

    /// Jobs that run at once (1 to 256)
    ///
    /// How many jobs run at once, 1 to 256
    #[arg(long, value_name = "N", env = "LONGHAUL_WORKERS", default_value = "8", help_heading = "Politeness",
        value_parser = number::whole::<u16>(1..=256))]
    pub(crate) workers: u16,
    /// Requests in flight to one host
    ///
    /// How many requests to one host may be in flight at once
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_PER_HOST", default_value = "4", help_heading = "Politeness",
        value_parser = number::whole::<u32>(1..=1000))]
    pub(crate) max_per_host: u32,
    /// Jobs at once by resolver: unpaywall=2,arxiv=1
    ///
    /// How many jobs of a resolver run at once in this process: `a=2,b=3`. A resolver's place covers its own calls and the
    /// requests of its plans. A record's own URLs are counted under its `resolver_hint`, if it has one, else under `direct`
    #[arg(long, value_name = "NAME=N", env = "LONGHAUL_MAX_PER_RESOLVER", value_delimiter = ',', help_heading = "Politeness",
        value_parser = resolver::parse)]
    pub(crate) max_per_resolver: Vec<ResolverCap>,
    /// Pace: example.org=1/3s, *=2/s (repeatable)
    ///
    /// How often requests to a host may start: RATE is `2/s`, `1/3s`, `500/h`, several with `+`, or `off` (repeatable).
    /// The host `*` stands for all that have no limits of their own. `metadata:RATE`, `landing:RATE` and `artifact:RATE`
    /// are for one kind of request alone, and `cap:N` is how many may be in flight to that host. What a host itself asks
    /// for always holds
    #[arg(long, value_name = "HOST=RATE", env = "LONGHAUL_RATE", value_delimiter = ',', help_heading = "Politeness",
        value_parser = rate::parse)]
    pub(crate) rate: Vec<HostRate>,
    /// Your address, so that providers can reach you
    ///
    /// An address under which providers can reach you; sent with each request, and some grant more to those who give it
    #[arg(long, value_name = "EMAIL", env = "LONGHAUL_CONTACT", help_heading = "Politeness", value_parser = contact)]
    pub(crate) contact: Option<String>,
    /// Who is asked where an artifact is, in this order
    ///
    /// Which resolvers are asked where an artifact is, in this order, like `a,b,c`; this version has `direct` alone, which proposes
    /// the addresses in the artifact's own line [default: direct]
    #[arg(long, value_name = "NAME", env = "LONGHAUL_RESOLVERS", value_delimiter = ',', help_heading = "Requests",
        value_parser = resolver)]
    pub(crate) resolvers: Vec<String>,
    /// Like an API key, for one host (repeatable)
    ///
    /// A header for requests to one host alone, such as an API key (repeatable). It is never shown or logged. Better
    /// keep it in the configuration file's table `[headers]` or in the variable, one a line: everybody on this machine
    /// can see a command line
    #[arg(long, value_name = "HOST=NAME:VALUE", env = "LONGHAUL_HEADER", hide_env_values = true, value_delimiter = '\n',
        help_heading = "Politeness", value_parser = header::parse)]
    pub(crate) header: Vec<HostHeader>,
    /// Private addresses to allow, like 10.1.0.0/16
    ///
    /// Private addresses that may be contacted all the same, like 10.1.0.0/16 (repeatable)
    #[arg(
        long,
        value_name = "CIDR",
        env = "LONGHAUL_ALLOW_NETWORK",
        value_delimiter = ',',
        help_heading = "Politeness"
    )]
    pub(crate) allow_network: Vec<Network>,
    /// Ignore robots.txt
    ///
    /// Neither ask for robots.txt nor obey it. Without this flag each host's file is read before anything else there, and
    /// what it forbids to `longhaul` is skipped
    #[arg(long, env = "LONGHAUL_NO_ROBOTS", help_heading = "Politeness", value_parser = BoolishValueParser::new())]
    pub(crate) no_robots: bool,

    /// To look up a host, and to connect
    ///
    /// How long looking up a host's name may take, and connecting to it after that
    #[arg(long, value_name = "TIME", env = "LONGHAUL_CONNECT_TIMEOUT", default_value = "5s", help_heading = "Requests",
        value_parser = duration::parse)]
    pub(crate) connect_timeout: Duration,
    /// How long a host may stay silent
    ///
    /// How long a host may stay silent, before its answer and within it
    #[arg(long, value_name = "TIME", env = "LONGHAUL_READ_TIMEOUT", default_value = "30s", help_heading = "Requests",
        value_parser = duration::parse)]
    pub(crate) read_timeout: Duration,
    /// Bytes a second of all requests, like 10MiB
    ///
    /// How many bytes a second all requests of this process receive together
    #[arg(long, value_name = "SIZE", env = "LONGHAUL_MAX_BANDWIDTH", help_heading = "Requests", value_parser = size::parse)]
    pub(crate) max_bandwidth: Option<u64>,
    /// Followed from one address
    ///
    /// How many redirects are followed from one address
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_REDIRECTS", default_value = "10", help_heading = "Requests",
        value_parser = number::whole::<u32>(0..=50))]
    pub(crate) max_redirects: u32,
    /// Larger ones are skipped
    ///
    /// The largest file that is fetched; what is larger is skipped
    #[arg(long, value_name = "SIZE", env = "LONGHAUL_MAX_FILE_SIZE", default_value = "2GiB", help_heading = "Requests",
        value_parser = size::parse)]
    pub(crate) max_file_size: u64,

    /// Failed tries that a job gets
    ///
    /// How many failed tries a job gets, if it does not say itself
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_ATTEMPTS", default_value = "3", help_heading = "Tries",
        value_parser = number::whole::<u32>(1..=1000))]
    pub(crate) max_attempts: u32,
    /// Deaths of its process that a job gets
    ///
    /// After how many deaths of the process that held it a job is given up
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_LOSSES", default_value = "5", help_heading = "Tries",
        value_parser = number::whole::<u32>(1..=1000))]
    pub(crate) max_losses: u32,
    /// Wait after a failed try; it doubles
    ///
    /// How long a job waits after its first failed try; it doubles with each further one
    #[arg(long, value_name = "TIME", env = "LONGHAUL_RETRY_BACKOFF", default_value = "60s", help_heading = "Tries",
        value_parser = duration::parse)]
    pub(crate) retry_backoff: Duration,
    /// Random time added to such a wait
    ///
    /// A random time up to this is added to each such wait
    #[arg(long, value_name = "TIME", env = "LONGHAUL_JITTER", default_value = "15s", help_heading = "Tries",
        value_parser = duration::parse)]
    pub(crate) jitter: Duration,
    /// Until a silent process loses jobs
    ///
    /// How long jobs of a process that is not heard of stay claimed
    #[arg(long, value_name = "TIME", env = "LONGHAUL_LEASE_TTL", default_value = "120s", help_heading = "Tries",
        value_parser = duration::parse)]
    pub(crate) lease_ttl: Duration,
    /// How often it is heard of [default: 15s or ttl/4]
    ///
    /// How often this process is heard of, below a third of --lease-ttl [default: 15s, or a quarter of --lease-ttl if
    /// that is less]
    #[arg(long, value_name = "TIME", env = "LONGHAUL_HEARTBEAT", help_heading = "Tries", value_parser = duration::parse)]
    pub(crate) heartbeat: Option<Duration>,

    /// Time to finish once it is stopped
    ///
    /// How long running jobs may take to finish once the run is being stopped
    #[arg(long, value_name = "TIME", env = "LONGHAUL_GRACE", default_value = "30s", help_heading = "The end",
        value_parser = duration::parse)]
    pub(crate) grace: Duration,
    /// With --drain: how long to wait
    ///
    /// With --drain: how long to wait for what can only start later
    #[arg(long, value_name = "TIME", env = "LONGHAUL_DRAIN_HORIZON", default_value = "1h", help_heading = "The end",
        value_parser = duration::parse)]
    pub(crate) drain_horizon: Duration,
    /// End after so many jobs have ended
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_JOBS", help_heading = "The end",
        value_parser = number::whole::<u64>(1..=u64::MAX))]
    pub(crate) max_jobs: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "TIME", env = "LONGHAUL_MAX_RUNTIME", help_heading = "The end", value_parser = duration::parse)]
    pub(crate) max_runtime: Option<Duration>,
    /// End after so many jobs have ended in error
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_ERRORS", help_heading = "The end",
        value_parser = number::whole::<u64>(1..=u64::MAX))]
    pub(crate) max_errors: Option<u64>,
    /// End after so much was received, like 10GiB
    ///
    /// End after so much has been received, like 10GiB; files that are under way are finished
    #[arg(long, value_name = "SIZE", env = "LONGHAUL_MAX_BYTES", help_heading = "The end", value_parser = size::parse)]
    pub(crate) max_bytes: Option<u64>,
}

/// Where files lie in the output folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    Flat,
    Sharded,
}

/// The name of a resolver that there is.
fn resolver(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase().replace('-', "_");
    if HttpPipeline::RESOLVERS.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(format!(
        "there is no resolver {name:?} in this version; there is {}",
        HttpPipeline::RESOLVERS.join(", ")
    ))
}

/// An address that can stand in a header.
pub(super) fn contact(text: &str) -> Result<String, String> {
    let text = text.trim();
    let shaped = text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    let plain = text.chars().all(|c| c.is_ascii_graphic() && !"<>()[],;:\\\"".contains(c));
    if shaped && plain && text.matches('@').count() == 1 {
        return Ok(text.to_owned());
    }
    Err("an e-mail address like you@example.org is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_is_not_there_is_refused_with_those_that_are() {
        assert_eq!(resolver(" Direct "), Ok("direct".to_owned()));
        assert_eq!(
            resolver("unpaywall").unwrap_err(),
            "there is no resolver \"unpaywall\" in this version; there is direct"
        );
    }

    #[test]
    fn a_contact_is_an_address_that_a_header_can_hold() {
        assert_eq!(contact(" you@example.org "), Ok("you@example.org".to_owned()));
        for bad in
            ["", "you", "you@", "@example.org", "a b@example.org", "a@b.c\r\nX: y", "a@b@c.d", "<a@b.c>"]
        {
            assert!(contact(bad).is_err(), "{bad}");
        }
    }
}
