//! Random sequences of everything that a queue can be asked, with crashes and steps of the clock, on `SqliteQueue`
//! against `MemoryQueue`, which is the reference.
//!
//! Everyday some sequences; with `LONGHAUL_PROVE` set 2,000. A sequence that failed is kept in `proptest-regressions`
//! and run first ever after; what it showed gets a test of its own name in the conformance suite or in `sqlite.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the coverage is part of what the proof shows")]
#![allow(unreachable_pub, missing_docs, reason = "the parts of one test")]
#![cfg(all(feature = "conformance", feature = "sqlite"))]

#[path = "model/compare.rs"]
mod compare;
#[path = "model/coverage.rs"]
mod coverage;
#[path = "model/ops.rs"]
mod ops;
#[path = "model/steps.rs"]
mod steps;
#[path = "model/world.rs"]
mod world;

use std::cell::RefCell;
use std::time::Duration;

use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};

use coverage::Coverage;
use ops::{Op, Sequence, WORKERS};
use world::World;

const EVERYDAY: u32 = 80;
const FULL: u32 = 2_000;
const ROUNDS_MAX: u32 = 4;
/// A sequence that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// INV-IDEMPOTENT, INV-FENCE, INV-FINAL, INV-ATTEMPTS, INV-NO-LOSS, INV-CAP, INV-PACE, INV-COOLDOWN, INV-CONSERVE: the
/// store answers as the reference does, and holds what the reference holds.
#[test]
fn sqlite_does_what_the_reference_model_does() {
    let cases = if std::env::var_os("LONGHAUL_PROVE").is_some() { FULL } else { EVERYDAY };
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/model.txt");
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        max_shrink_iters: 400,
        ..Config::default()
    };
    let coverage = RefCell::new(Coverage::default());
    // A short run may by chance not meet something rare; then it goes on, and what is never met is a failure.
    for _ in 0..ROUNDS_MAX {
        let result = TestRunner::new(config.clone()).run(&ops::sequences(), |sequence| {
            run(&sequence, &mut coverage.borrow_mut());
            Ok(())
        });
        match result {
            Ok(()) if coverage.borrow().missing().is_empty() => break,
            Ok(()) => {}
            Err(TestError::Fail(why, sequence)) => panic!("{why}\n{sequence:#?}"),
            Err(error) => panic!("{error}"),
        }
    }
    coverage.borrow().check();
}

fn run(sequence: &Sequence, coverage: &mut Coverage) {
    coverage.sequences += 1;
    coverage.steps += sequence.steps.len();
    coverage.with_crash += usize::from(sequence.steps.iter().any(|step| matches!(step, Op::Crash { .. })));
    // One thread: see where the jitter is drawn.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sequence = tokio::time::timeout(LIMIT, carry_out(sequence, coverage));
        sequence.await.expect("a sequence takes less than its limit");
    });
}

async fn carry_out(sequence: &Sequence, coverage: &mut Coverage) {
    let mut world = World::new(sequence, coverage).await;
    for worker in 0..WORKERS {
        world.step(&Op::Join { worker, ttl: Duration::from_mins(1) }).await;
    }
    for step in &sequence.steps {
        world.step(step).await;
    }
    world.compare_all().await;
}
