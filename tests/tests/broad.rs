//! Many hosts at once, each at its own pace: the run takes hardly longer than the pace alone would make it, and a start
//! that comes late costs no turn, no move and no charge.
//!
//! One case: `LONGHAUL_PROVE=1 cargo nextest run --release --profile prove -p longhaul-tests --test broad --no-capture NAME`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::Shape;
use longhaul_tests::{
    BusyLoops, Commits, Fleet, Measured, Program, beside_the_test, late_syncs, open_host, program_path,
    proving, size,
};

const LATENCY: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);
/// What a run may cost at most, beside its time.
const DEFERRALS_A_FILE: f64 = 0.02;
const COMMITS_A_FILE: f64 = 0.5;

/// One case, at its full size.
struct Case {
    name: &'static str,
    hosts: usize,
    files_each: usize,
    runs: usize,
    flags: &'static [&'static str],
    /// The most starts at a host in any second.
    most_in_a_second: usize,
    /// The time between two starts at a host, by the pace alone.
    interval: Duration,
    /// The makespan over the pace's own, at most, in each run and as the median.
    ratios: (f64, f64),
    /// The most that may be added to that.
    extra: Duration,
    /// Starts outside their bound at a host.
    beyond: usize,
    how: How,
}

/// How it is run.
#[derive(Clone, Copy)]
enum How {
    Plain,
    BesideBusyLoops,
    StartsDelayed(u64),
    SyncsDelayed(u64),
    TwoProcesses { frozen: bool },
    FewFiles,
}

const PLAIN: Case = Case {
    name: "plain",
    hosts: 1_000,
    files_each: 20,
    runs: 5,
    flags: &[],
    most_in_a_second: 2,
    interval: Duration::from_millis(500),
    ratios: (1.25, 1.2),
    extra: Duration::ZERO,
    beyond: 0,
    how: How::Plain,
};

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_plain() {
    prove(&PLAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_beside_two_busy_loops() {
    prove(&Case { name: "busy", runs: 3, ratios: (2.2, 2.2), how: How::BesideBusyLoops, ..PLAIN }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_starts_late_by_100_ms() {
    let how = How::StartsDelayed(100);
    prove(&Case { name: "starts 0-100 ms late", runs: 3, ratios: (1.4, 1.4), how, ..PLAIN }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_starts_late_by_400_ms() {
    let how = How::StartsDelayed(400);
    prove(&Case { name: "starts 0-400 ms late", hosts: 500, runs: 3, ratios: (1.9, 1.9), how, ..PLAIN })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_commits_late_by_200_ms() {
    let how = How::SyncsDelayed(200);
    prove(&Case { name: "commits 0-200 ms late", runs: 3, ratios: (1.6, 1.6), how, ..PLAIN }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_ten_a_second() {
    let interval = Duration::from_millis(100);
    let flags = &["--rate", "*=10/s"];
    let ratios = (1.3, 1.3);
    prove(&Case {
        name: "10/s",
        hosts: 300,
        runs: 3,
        ratios,
        flags,
        interval,
        most_in_a_second: 10,
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_one_a_second_and_thirty_a_minute() {
    let flags = &["--rate", "*=1/s+30/min"];
    let (ratios, interval) = ((1.3, 1.3), SECOND);
    let name = "1/s+30/min";
    prove(&Case { name, hosts: 300, runs: 3, ratios, flags, interval, most_in_a_second: 1, ..PLAIN }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_two_processes() {
    let how = How::TwoProcesses { frozen: false };
    prove(&Case { name: "two processes", runs: 3, ratios: (1.3, 1.3), how, ..PLAIN }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_two_processes_one_frozen() {
    let how = How::TwoProcesses { frozen: true };
    let extra = Duration::from_secs(4);
    prove(&Case {
        name: "two processes, one frozen for 3 s",
        runs: 3,
        ratios: (1.3, 1.3),
        extra,
        beyond: 1,
        how,
        ..PLAIN
    })
    .await;
}

/// Neither connections nor memory grow with the hosts: `ulimit -n 1024` is enough for 10,000.
#[tokio::test(flavor = "multi_thread")]
async fn inv_bounded_ten_thousand_hosts() {
    let how = How::FewFiles;
    let ratios = (f64::INFINITY, f64::INFINITY);
    let case = Case { name: "10,000 hosts", hosts: 10_000, files_each: 2, runs: 3, ratios, how, ..PLAIN };
    for measured in prove(&case).await {
        if proving() {
            assert!(measured.peak_kib <= 96 * 1024, "{} KiB", measured.peak_kib);
            assert!(measured.starts.rate_after_a_second() >= 1_200.0);
        }
    }
}

async fn prove(case: &Case) -> Vec<Measured> {
    let (hosts, files_each, runs) = size((60, 4, 1), (case.hosts, case.files_each, case.runs));
    let ideal = case.interval * (files_each.max(2) as u32 - 1);
    let mut all = Vec::new();
    for _ in 0..runs {
        let measured = run(case, hosts, files_each).await;
        println!("{}", measured.json(case.name, ideal));
        all.push(measured);
    }
    for measured in &all {
        assert_eq!(measured.done, hosts * files_each);
        assert_eq!(measured.charged, 0, "nothing is charged");
        let beyond = measured.starts.worst_beyond(case.most_in_a_second, SECOND);
        assert!(beyond <= case.beyond, "{beyond} starts outside the bound of a host");
        let files = measured.done as f64;
        if proving() {
            assert!(
                measured.deferrals as f64 <= DEFERRALS_A_FILE * files,
                "{} deferrals",
                measured.deferrals
            );
            assert!(measured.commits as f64 <= COMMITS_A_FILE * files, "{} commits", measured.commits);
        }
    }
    if proving() {
        let mut makespans: Vec<Duration> = all.iter().map(|measured| measured.starts.makespan()).collect();
        makespans.sort_unstable();
        let (each, median) = case.ratios;
        let most = |ratio: f64| (ideal.as_secs_f64() * ratio) + case.extra.as_secs_f64();
        assert!(makespans[makespans.len() - 1].as_secs_f64() <= most(each), "{makespans:?}");
        assert!(makespans[makespans.len() / 2].as_secs_f64() <= most(median), "{makespans:?}");
    }
    all
}

async fn run(case: &Case, hosts: usize, files_each: usize) -> Measured {
    let shape = Shape::pdf(20 * 1024);
    let names: Vec<String> = (0..hosts).map(|host| format!("h{host}")).collect();
    let configs = names.iter().zip(0..).map(|(name, seed)| open_host(name.clone(), seed, LATENCY, shape));
    let fleet = Fleet::start(configs.collect(), shape).await;
    let files: Vec<(String, String)> = (0..files_each)
        .flat_map(|file| names.iter().map(move |name| (name.clone(), format!("/{file}.pdf"))))
        .collect();
    fleet.import(&files).await;
    let commits = Commits::of(fleet.queue_path());
    let workers = if matches!(case.how, How::TwoProcesses { .. }) { "128" } else { "256" };
    let flags = [&["--workers", workers], case.flags].concat();
    let nothing = async {};
    match case.how {
        How::Plain => {
            let program = fleet.start_run(&flags, &[]);
            fleet.measure(vec![program], commits, &files, nothing).await
        }
        How::BesideBusyLoops => {
            let _busy = BusyLoops::start(2);
            let program = fleet.start_run(&flags, &[]);
            fleet.measure(vec![program], commits, &files, nothing).await
        }
        How::StartsDelayed(most_ms) => {
            let most_ms = most_ms.to_string();
            let late_run = beside_the_test("late-run");
            let program = Program::start_other(&late_run, fleet.folder(), &[workers, &most_ms], &[]);
            fleet.measure(vec![program], commits, &files, nothing).await
        }
        How::SyncsDelayed(most_ms) => {
            let shim = late_syncs(fleet.folder());
            let most_ms = most_ms.to_string();
            let variables = [("LD_PRELOAD", shim.to_str().unwrap()), ("LATE_SYNC_MS", &most_ms)];
            let program = fleet.start_run(&flags, &variables);
            fleet.measure(vec![program], commits, &files, nothing).await
        }
        How::TwoProcesses { frozen } => {
            let programs = vec![fleet.start_run(&flags, &[]), fleet.start_run(&flags, &[])];
            let id = programs[0].id();
            let half = (files.len() / 2) as u64;
            let meanwhile = async {
                if frozen {
                    fleet.wait_for_requests(half).await;
                    longhaul_tests::freeze(id, Duration::from_secs(3)).await;
                }
            };
            fleet.measure(programs, commits, &files, meanwhile).await
        }
        How::FewFiles => {
            // Hard and soft: the program would raise a soft one.
            let script = "ulimit -n 1024; exec \"$0\" \"$@\"";
            let program = program_path().to_str().unwrap();
            let start = ["-c", script, program, "queue", "run", "--drain", "--allow-network", "127.0.0.0/8"];
            let arguments = [&start[..], &flags].concat();
            let program = Program::start_other("sh".as_ref(), fleet.folder(), &arguments, &[]);
            fleet.measure(vec![program], commits, &files, nothing).await
        }
    }
}
