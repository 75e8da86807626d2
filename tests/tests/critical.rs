//! What bounds a run is never starved: one host's pace takes as long as all other hosts take the workers, so that the run
//! lasts no longer than either alone only if that host's turn comes whenever its pace lets it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::Shape;
use longhaul_tests::{Commits, Fleet, Measured, Starts, open_host, proving, size};

const WORKERS: usize = 8;
const LATENCY: Duration = Duration::from_millis(200);
const SLOW: &str = "slow";
/// Makespan over either bound, at most.
const RATIO: f64 = 1.12;
/// Rounds of the other lanes that a lane waits for its turn, at most.
const ROUNDS: f64 = 2.0;
/// What a lane may have started beyond twice another's starts.
const AHEAD: i64 = 2;

/// Where the slow host's records are in the input.
#[derive(Debug, Clone, Copy)]
enum Order {
    SlowFirst,
    SlowLast,
    Shuffled,
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_fair_a_slow_host_whose_records_come_first() {
    prove(Order::SlowFirst).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_fair_a_slow_host_whose_records_come_last() {
    prove(Order::SlowLast).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_fair_a_slow_host_whose_records_are_anywhere() {
    prove(Order::Shuffled).await;
}

async fn prove(order: Order) {
    let (hosts, files_each, slow_files) = size((12, 2, 4), (300, 20, 150));
    // The paced host needs a second a file, all others together their time over the workers.
    let ideal = (LATENCY * (hosts * files_each) as u32 / WORKERS as u32)
        .max(Duration::from_secs(slow_files as u64 - 1));
    let mut makespans = Vec::new();
    for _ in 0..size(1, 3) {
        let measured = run(order, hosts, files_each, slow_files).await;
        let waits = Waits::of(&measured.starts);
        let mut figures = measured.json(&format!("{order:?}"), ideal);
        let slow = &measured.starts.by_host()[SLOW];
        let first = measured.starts.by_host().values().flatten().min().unwrap();
        figures["slow_began_after_s"] = (((slow[0] - first) as f64) / 1e6).into();
        figures["slow_every_s"] =
            (((slow[slow.len() - 1] - slow[0]) as f64) / 1e6 / (slow.len() - 1) as f64).into();
        figures["most_rounds_waited"] = waits.rounds.into();
        figures["most_ahead"] = waits.ahead.into();
        println!("{figures}");
        assert_eq!(measured.done, hosts * files_each + slow_files);
        assert_eq!(measured.charged, 0);
        let slow = Starts::new([(SLOW.to_owned(), measured.starts.by_host()[SLOW].clone())].into());
        assert_eq!(slow.most_within(Duration::from_secs(1)), 1, "INV-PACE");
        if proving() {
            assert!(waits.rounds <= ROUNDS, "{waits:?}");
            assert!(waits.ahead <= AHEAD, "{waits:?}");
        }
        makespans.push(measured.starts.makespan());
    }
    makespans.sort_unstable();
    if proving() {
        let median = makespans[makespans.len() / 2];
        assert!(median.as_secs_f64() <= RATIO * ideal.as_secs_f64(), "{makespans:?}");
    }
}

async fn run(order: Order, hosts: usize, files_each: usize, slow_files: usize) -> Measured {
    let shape = Shape::pdf(4 * 1024);
    let names: Vec<String> = (0..hosts).map(|host| format!("h{host}")).collect();
    let all = names.iter().map(String::as_str).chain([SLOW]).zip(0..);
    let configs = all.map(|(name, seed)| open_host(name.to_owned(), seed, LATENCY, shape));
    let fleet = Fleet::start(configs.collect(), shape).await;
    let path = |file: usize| format!("/{file}.pdf");
    let slow: Vec<_> = (0..slow_files).map(|file| (SLOW.to_owned(), path(file))).collect();
    let others: Vec<_> =
        names.iter().flat_map(|name| (0..files_each).map(move |file| (name.clone(), path(file)))).collect();
    let files = match order {
        Order::SlowFirst => [slow, others].concat(),
        Order::SlowLast => [others, slow].concat(),
        Order::Shuffled => {
            let mut files = [slow, others].concat();
            fastrand::Rng::with_seed(13).shuffle(&mut files);
            files
        }
    };
    fleet.import(&files).await;
    let commits = Commits::of(fleet.queue_path());
    let (pace, workers) = (format!("{}=1/s", fleet.origin.address(SLOW)), WORKERS.to_string());
    let flags = ["--no-robots", "--workers", &workers, "--rate", "*=off", "--rate", &pace];
    let program = fleet.start_run(&flags, &[]);
    fleet.measure(vec![program], commits, &files, async {}).await
}

/// How long lanes without a pace waited for their turns. All of them have work from the beginning until their last start,
/// so only the others' starts can be in their way.
#[derive(Debug, PartialEq)]
struct Waits {
    /// The most rounds between two starts of a lane, or before its first: starts of the others, less the workers' own
    /// number, over how many of them had work. A round is one start for each; the workers may all be given out in whatever
    /// order when few lanes are left.
    rounds: f64,
    /// The most starts that a lane ever had beyond twice those of another that had work left.
    ahead: i64,
}

impl Waits {
    fn of(starts: &Starts) -> Self {
        let lanes: Vec<&Vec<u64>> =
            starts.by_host().iter().filter(|(name, _)| *name != SLOW).map(|(_, starts)| starts).collect();
        let mut order: Vec<(u64, usize)> = lanes
            .iter()
            .enumerate()
            .flat_map(|(lane, starts)| starts.iter().map(move |at| (*at, lane)))
            .collect();
        order.sort_unstable();
        let mut started = vec![0_usize; lanes.len()];
        // Behind which place in the order each lane last started, and how many lanes had work then.
        let mut last = vec![(0, lanes.len()); lanes.len()];
        let mut at_work = lanes.len();
        let mut waits = Self { rounds: 0.0, ahead: i64::MIN };
        for (place, (_, lane)) in order.iter().enumerate() {
            let (since, others) = last[*lane];
            let in_between = (place - since).saturating_sub(WORKERS);
            waits.rounds = waits.rounds.max(in_between as f64 / others.max(1) as f64);
            started[*lane] += 1;
            let fewest = (0..lanes.len()).filter(|other| started[*other] < lanes[*other].len());
            if let Some(fewest) = fewest.map(|other| started[other]).min() {
                waits.ahead = waits.ahead.max(started[*lane] as i64 - 2 * fewest as i64);
            }
            at_work -= usize::from(started[*lane] == lanes[*lane].len());
            last[*lane] = (place + 1, at_work);
        }
        waits
    }
}

#[test]
fn even_turns_wait_one_round_and_a_starved_lane_is_seen() {
    let lanes = |lanes: &[&[u64]]| {
        let lane = |(index, starts): (usize, &&[u64])| (format!("h{index}"), starts.to_vec());
        Waits::of(&Starts::new(lanes.iter().enumerate().map(lane).collect()))
    };
    let even: Vec<Vec<u64>> = (0..40).map(|lane| vec![lane, 40 + lane, 80 + lane]).collect();
    let even: Vec<&[u64]> = even.iter().map(Vec::as_slice).collect();
    let waits = lanes(&even);
    assert!(waits.rounds <= 1.0 && waits.ahead <= 1, "{waits:?}");
    let long: Vec<u64> = (0..30).collect();
    let starved = lanes(&[&long, &[100, 101]]);
    assert!(starved.rounds > ROUNDS && starved.ahead > AHEAD, "{starved:?}");
}
