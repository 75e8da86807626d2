//! The suite that every backend and every decorator of a queue must pass.
//!
//! A backend implements [`Backend`]; [`conformance_tests!`](crate::conformance_tests) then makes one test of each
//! case. Each case has a fresh store whose time is a clock that the case moves itself, so that nothing waits for real
//! time. After each case the store is compared with itself (INV-CONSERVE).
//!
//! ```
//! use std::sync::Arc;
//!
//! use longhaul_limiter::ManualClock;
//! use longhaul_queue_core::MemoryQueue;
//! use longhaul_queue_core::conformance::{Backend, QueueHandle, Store};
//!
//! #[derive(Debug)]
//! struct Memory;
//!
//! struct MemoryStore(MemoryQueue);
//!
//! #[async_trait::async_trait]
//! impl Backend for Memory {
//!     async fn fresh(&self, clock: ManualClock) -> Box<dyn Store> {
//!         Box::new(MemoryStore(MemoryQueue::new(Arc::new(clock))))
//!     }
//!     fn is_durable(&self) -> bool {
//!         false
//!     }
//!     fn handles(&self) -> usize {
//!         1
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl Store for MemoryStore {
//!     async fn open(&self) -> Arc<dyn QueueHandle> {
//!         Arc::new(self.0.clone())
//!     }
//! }
//!
//! longhaul_queue_core::conformance_tests!(Memory);
//! # fn main() {}
//! ```
//!
//! A store may round times up to whole milliseconds, and may visit lanes that opened at the same instant in any
//! order that is fair. What a store cannot do ([`Backend::is_durable`]) is declared, and said when a case is left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

mod admitting;
mod adopting;
mod ahead;
mod backend;
mod cancelling;
mod concurrency;
mod cooldowns;
mod counting;
mod critical;
mod deferring;
#[cfg(feature = "sqlite")]
mod docstokg;
mod durability;
mod enqueuing;
mod explaining;
mod fairness;
mod host_paces;
mod lanes;
mod leasing;
mod losses;
mod operating;
mod paces;
mod pauses;
mod pruning;
mod publishing;
mod reopening;
mod replies;
mod retrying;
mod rules;
mod settling;
mod slots;
mod staying_alive;
mod test_store;
mod waking;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use backend::{Backend, QueueHandle, Store};
#[cfg(feature = "sqlite")]
pub use docstokg::{DocsToKgFileRow, make_docstokg_file};
pub use test_store::TestStore;

/// What a case returns.
type Running<'s> = Pin<Box<dyn Future<Output = ()> + Send + 's>>;

/// One thing that must hold. Its name is the sentence that it proves.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name, unique in [`CASES`].
    pub name: &'static str,
    run: for<'s> fn(&'s TestStore) -> Running<'s>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Case {
    /// Runs the case on a fresh store, and compares the store with itself.
    pub async fn run(&self, backend: &dyn Backend) {
        let store = TestStore::fresh(backend).await;
        (self.run)(&store).await;
        store.compare_with_itself().await;
    }
}

/// Runs the case of that name.
///
/// # Panics
/// If there is none, or what it proves does not hold.
pub async fn run(backend: &dyn Backend, name: &str) {
    let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
    case.run(backend).await;
}

/// The list of cases, and from it the macro that makes tests of them. `$d` is a dollar sign: a macro that writes a macro
/// has no other way to say it.
macro_rules! cases {
    (($d:tt) $($concern:ident { $($name:ident,)* })*) => {
        /// Every case.
        pub const CASES: &[Case] = &[
            $($(Case { name: stringify!($name), run: |store| Box::pin($concern::$name(store)) },)*)*
        ];

        /// One `#[tokio::test]` for each case of the suite, on the backend that the expression makes. A case that waits
        /// in vain fails after two minutes.
        #[macro_export]
        macro_rules! conformance_tests {
            ($d backend:expr) => {
                $($(
                    #[tokio::test]
                    async fn $name() {
                        let backend = $d backend;
                        let run = $d crate::conformance::run(&backend, stringify!($name));
                        let limit = ::std::time::Duration::from_mins(2);
                        ::tokio::time::timeout(limit, run).await.expect("the case ends");
                    }
                )*)*
            };
        }
    };
}

cases! {
    ($)
    enqueuing {
        inv_idempotent_enqueuing_again_changes_nothing,
        inv_idempotent_one_batch_may_name_an_artifact_twice,
        inv_idempotent_an_ended_job_stays_known,
        numbers_grow_in_the_order_of_the_batch,
        enqueuing_nothing_is_fine,
        a_delayed_job_waits_for_its_own_time,
        a_delayed_job_never_freezes_its_lane,
        what_was_enqueued_is_what_is_leased,
    }
    adopting {
        inv_conserve_jobs_are_adopted_in_their_states,
        what_was_adopted_is_what_is_kept,
        a_time_that_is_to_come_was_no_past,
        inv_idempotent_adopting_again_changes_nothing,
        inv_idempotent_of_two_with_one_key_the_first_is_adopted,
        inv_final_only_what_is_queued_is_leased,
        what_is_available_later_waits,
        inv_fair_age_counts_within_a_lane_only,
        what_ended_elsewhere_is_published_there,
        retry_failed_works_on_adopted_ones,
        inv_bounded_an_adopted_error_is_kept_up_to_2_kib,
        adopted_jobs_are_pruned_by_the_time_they_ended,
    }
    leasing {
        a_lease_gives_at_most_what_was_asked,
        within_a_lane_the_oldest_goes_first,
        a_leased_job_is_given_to_nobody_else,
        inv_fence_the_fence_grows_by_one_at_each_lease,
        a_process_that_never_joined_is_given_nothing,
        a_process_that_expired_or_left_is_given_nothing,
        repeating_a_request_returns_the_same_batch,
        a_repeated_request_returns_only_what_is_still_held,
        the_same_number_of_another_process_is_another_request,
        a_short_batch_never_says_to_ask_again_at_once,
        next_open_is_when_the_first_lane_opens,
        next_open_is_zero_while_more_could_be_had,
        next_open_says_when_another_process_expires,
        inv_cooldown_a_start_is_only_good_for_a_moment,
    }
    ahead {
        a_lane_without_cap_and_pace_gives_ahead,
        work_without_a_host_is_given_ahead,
        inv_cap_a_lane_with_a_cap_or_a_pace_gives_only_to_free_workers,
        inv_fair_ahead_never_passes_a_lane_that_waits_for_a_worker,
        a_lane_that_reopens_gives_nothing_ahead,
    }
    critical {
        a_critical_lane_gives_out_of_turn,
        inv_fair_no_more_come_out_of_turn_than_are_asked_for,
        a_critical_lane_whose_turn_it_is_gives_each_job_once,
        inv_cooldown_a_critical_lane_that_is_closed_gives_nothing,
        inv_pace_a_worker_may_wait_for_a_critical_lane,
        the_lanes_that_bound_a_run_are_found,
    }
    fairness {
        inv_fair_a_long_backlog_keeps_nobody_waiting,
        inv_fair_a_round_visits_every_lane_once,
        inv_fair_what_is_wanted_is_shared_out,
        inv_fair_uneven_batches_reach_every_lane,
        inv_fair_what_one_lane_cannot_give_others_do,
        inv_fair_a_returned_job_does_not_bring_its_lane_forward,
        inv_fair_work_without_a_host_takes_turns_too,
        inv_fair_lanes_that_are_blocked_delay_nobody,
        inv_fair_many_lanes_each_give_once_before_any_gives_twice,
        the_highest_class_goes_first,
        inv_fair_every_class_moves,
        inv_fair_every_class_moves_in_large_batches_too,
        inv_fair_no_class_between_the_highest_and_the_lowest_starves,
        asking_for_many_does_not_favour_the_lowest_class,
    }
    slots {
        inv_cap_a_lane_gives_at_most_its_cap,
        inv_cap_counts_over_all_processes,
        inv_cap_holds_over_all_classes,
        every_way_to_end_a_try_frees_its_slot,
        settling_leases_for_the_freed_slot_in_the_same_step,
        inv_cap_a_dead_process_keeps_its_slots_until_its_leases_end,
        work_without_a_host_has_neither_cap_nor_slot,
        inv_cap_a_process_with_a_smaller_cap_waits_for_all_slots,
        a_host_may_have_a_cap_of_its_own,
        leaving_and_reconciling_free_slots,
        inv_fair_a_freed_slot_is_given_though_a_delayed_job_came_meanwhile,
    }
    admitting {
        admitting_moves_the_slot,
        inv_cap_a_full_lane_admits_nobody_and_the_old_slot_is_free,
        inv_cap_an_admitted_slot_counts_for_leases,
        a_job_is_not_in_its_own_way,
        a_job_that_was_refused_may_ask_again,
        inv_fence_only_the_current_claim_is_admitted,
        an_expired_process_starts_nothing,
        inv_pace_an_admission_is_counted,
        inv_pace_leases_and_admissions_share_one_count,
        inv_cooldown_a_closed_lane_admits_nobody,
        a_pause_admits_nobody,
        what_presses_on_nobody_is_admitted_and_holds_no_slot,
        a_wait_that_is_known_is_said_rather_than_full,
        inv_pace_a_refused_admission_is_not_counted,
    }
    paces {
        inv_pace_a_lane_gives_one_at_a_time,
        inv_pace_no_window_holds_more_than_its_limit,
        inv_pace_holds_over_all_processes,
        inv_pace_outlives_the_leases,
        a_paced_lane_says_when_it_gives_next,
        inv_pace_each_role_has_a_count_of_its_own,
        work_without_a_host_has_no_pace,
        a_start_that_was_not_used_is_given_back,
        inv_pace_a_start_that_was_told_is_not_given_back,
        inv_pace_a_late_holder_starts_when_it_is_ready,
        inv_pace_what_was_used_is_not_counted_anew,
        a_lane_waits_to_hear_of_a_start_before_it_gives_another,
        inv_pace_a_start_is_granted_ahead_for_its_own_time,
    }
    staying_alive {
        a_stranger_has_no_heart,
        a_heartbeat_keeps_all_leases_alive,
        a_heartbeat_says_how_much_is_held,
        joining_again_renews,
        a_heartbeat_after_the_end_starts_afresh,
        joining_after_the_end_starts_afresh,
        a_late_heartbeat_does_not_touch_what_others_hold_now,
        leaving_releases_everything_and_charges_nothing,
        leaving_as_a_stranger_is_fine,
        workers_lists_who_has_joined,
        workers_shows_the_limits_that_each_has_said,
        joining_again_for_a_shorter_time_is_for_that_time,
    }
    losses {
        inv_no_loss_a_dead_process_gives_its_jobs_back,
        inv_fence_a_late_settlement_of_a_dead_process_is_lost,
        one_loss_does_not_single_a_job_out,
        inv_attempts_after_two_losses_a_job_runs_alone,
        alone_is_for_one_job_and_only_for_such,
        a_job_that_waits_to_run_alone_does_not_keep_others_busy,
        what_must_run_alone_waits_for_its_lane_like_all,
        inv_attempts_losses_end_in_error,
        inv_no_loss_a_sweep_leaves_the_living_alone,
        what_runs_alone_or_is_dead_is_not_told_to_ask_at_once,
        what_must_run_alone_is_asked_for_when_a_pause_ends,
        history_names_a_process_that_came_back_late,
    }
    settling {
        done_records_its_outcome_and_its_file,
        inv_final_what_has_ended_is_never_leased_again,
        skipped_and_error_record_why,
        inv_attempts_only_retry_and_error_charge,
        inv_fence_stale_ack_changes_nothing,
        inv_fence_a_token_that_never_was_is_lost,
        inv_fence_a_batch_with_a_stale_one_settles_all_others,
        settling_nothing_is_fine,
        a_path_belongs_to_one_job_of_its_store,
        a_path_is_taken_within_one_batch_too,
        a_path_is_free_again_once_its_job_is_not_done_any_more,
        inv_bounded_what_went_wrong_is_kept_up_to_2_kib,
        a_first_try_that_succeeds_leaves_no_history,
        inv_bounded_history_keeps_the_last_32_newest_first,
        history_says_the_reason_of_what_happened_and_of_nothing_before,
        a_checkpoint_is_a_change_of_the_row_and_admitting_in_place_is_none,
        inv_bounded_operators_acts_do_not_make_history_grow,
    }
    retrying {
        a_retry_waits_as_long_as_it_was_told,
        a_retry_may_go_elsewhere,
        releasing_keeps_age_and_place,
        a_checkpoint_is_what_the_next_try_knows,
        what_comes_back_wakes_a_lane_that_was_put_off,
    }
    deferring {
        deferring_keeps_the_age,
        deferring_for_a_while_waits,
        inv_attempts_deferring_charges_nothing_however_often,
        deferring_frees_the_slot_that_was_held,
        a_deferred_job_waits_for_its_new_lane,
        deferring_into_another_role_or_to_nobody,
        deferring_leaves_no_turn_behind,
    }
    replies {
        inv_fence_repeating_a_settlement_is_answered_the_same,
        inv_fence_a_different_settlement_with_a_settled_token_is_lost,
        inv_fence_the_same_token_twice_in_one_batch_settles_once,
        a_lost_reply_to_settling_and_leasing_strands_nothing,
        a_repeated_settlement_reports_its_hosts_once,
        inv_fence_a_lost_settlement_reports_no_hosts,
    }
    publishing {
        everything_that_ended_is_to_be_published_once,
        each_store_publishes_what_its_own_processes_ended,
        what_a_process_without_a_store_ended_needs_no_publishing,
        what_the_sweep_ended_is_published_by_the_store_that_swept,
        what_an_operator_ended_is_published_by_whoever_finds_it_first,
        a_new_end_is_to_be_published_again,
    }
    cooldowns {
        inv_cooldown_throttling_closes_the_lane_in_the_same_step,
        inv_cooldown_a_throttled_host_blocks_no_other,
        inv_cooldown_what_any_verdict_reports_closes,
        inv_cooldown_is_never_shortened,
        no_host_closes_its_lane_for_more_than_a_day,
        without_a_time_the_penalty_box_decides_and_doubles,
        five_failures_in_a_row_are_a_strike,
        a_settlement_says_which_lanes_it_closed,
        an_answer_between_failures_forgives_them,
        inv_attempts_a_throttling_is_charged_if_the_lane_served_others,
        work_without_a_host_cannot_be_throttled,
        a_closed_lane_is_seen_with_its_cause,
        an_operator_may_close_a_lane,
        inv_attempts_an_answer_in_the_same_batch_counts_for_later_throttlings,
        an_operator_closes_for_days_and_the_lane_reopens_with_one_slot,
    }
    reopening {
        a_reopened_lane_gives_one_slot_and_one_more_for_each_answer,
        a_reopened_lane_without_a_cap_is_narrow_too,
        after_64_answers_a_lane_gives_what_is_configured,
        answers_during_the_closure_do_not_widen,
        a_strike_narrows_the_lane_as_well,
        a_lane_that_was_closed_by_hand_reopens_step_by_step,
        inv_cooldown_a_failure_after_the_closure_closes_again,
        a_lane_that_answers_again_is_not_closed_by_one_failure,
        failures_during_the_closure_do_not_prolong_it,
        a_wider_lane_is_leased_from_though_no_slot_was_freed,
    }
    host_paces {
        inv_pace_a_host_gets_the_pace_that_it_asks_for,
        inv_pace_admissions_keep_a_hosts_pace_as_well,
        what_a_host_takes_back_holds_nothing_up,
        the_slowest_that_a_host_asks_for_holds,
        inv_pace_a_refusal_teaches_what_a_host_bears,
        of_many_that_are_refused_at_once_one_is_judged,
        inv_pace_what_was_learned_outlives_a_restart,
        what_is_learned_after_a_closure_holds_from_the_first_answer_on,
        inv_cooldown_a_host_that_names_too_short_a_time_is_left_alone_for_longer,
        inv_cooldown_a_strike_in_a_closed_lane_prolongs_nothing,
        inv_fair_a_throttled_job_goes_to_the_back_of_its_lane,
        inv_attempts_a_job_that_throttles_for_ever_is_counted_each_time,
        inv_pace_the_stricter_of_two_processes_binds_both,
        work_without_a_host_has_no_pace_of_its_own,
    }
    pauses {
        while_the_queue_is_paused_nothing_is_leased,
        a_pause_with_an_end_ends_by_itself,
        a_paused_lane_stops_and_others_go_on,
        a_lane_pause_with_an_end_ends_by_itself,
        a_shorter_pause_replaces_a_longer_one,
        what_a_pause_holds_back_is_not_among_what_opens_next,
        a_pause_leaves_held_jobs_alone_and_gives_no_next,
        a_lane_may_be_paused_before_it_is_known,
        a_pause_does_not_shorten_a_cool_down,
    }
    operating {
        retry_failed_starts_afresh,
        retry_failed_minds_its_filter_and_its_limit,
        requeue_takes_whatever_has_ended,
        a_requeued_job_forgets_its_losses,
        cancelling_takes_queued_and_held_jobs,
        inv_final_cancelling_leaves_what_has_ended,
        reconciling_releases_what_the_process_does_not_know_of,
        listing_pages_by_number_and_filters,
        the_cache_keeps_values_for_their_time,
        a_check_of_a_sound_store_mends_nothing,
        retry_failed_with_another_state_means_nothing,
        inv_fence_cancelling_takes_no_number,
    }
    pruning {
        inv_idempotent_pruning_slims_and_keeps_the_key,
        pruning_touches_only_what_has_ended,
        what_had_an_empty_payload_is_pruned_as_well,
        each_state_has_its_own_retention,
        age_counts_from_the_end_to_the_millisecond,
        one_call_prunes_all_that_are_old,
        inv_final_a_slim_job_never_runs_again,
        a_slim_jobs_path_stays_taken,
        a_job_that_ran_again_is_as_old_as_its_last_end,
        inv_fence_a_settlement_is_answered_the_same_after_pruning,
    }
    lanes {
        lanes_are_listed_by_name_a_page_at_a_time,
        pages_end,
        inv_bounded_a_lanes_queued_jobs_are_counted_up_to_1_001,
        each_lane_is_listed_once_whatever_is_known_of_it,
        work_without_a_host_is_in_no_lane,
        inv_bounded_a_lane_that_has_served_its_last_is_forgotten,
        a_row_says_when_its_lane_may_give_next,
        a_full_lane_opens_by_an_event_alone,
        a_row_forgets_what_is_over,
    }
    explaining {
        explains_the_stages_of_a_life,
        explains_that_the_process_has_died,
        explains_a_cool_down,
        explains_caps_and_paces_by_the_rules_it_is_given,
        explains_pauses,
        explains_by_the_cause_that_ends_last,
        explains_a_full_lane_only_where_nothing_else_holds,
    }
    counting {
        inv_conserve_counts_follow_every_transition,
        an_empty_queue_has_empty_stats,
        stats_tell_ready_from_delayed,
        stats_tell_ready_from_what_waits_for_a_closed_lane,
        stats_say_when_something_could_be_leased,
        stats_count_live_processes,
        stats_say_how_much_has_ended_lately,
        inv_bounded_ready_and_delayed_are_counted_up_to_10_001,
    }
    concurrency {
        inv_fence_no_job_is_given_twice,
        inv_cap_holds_when_all_ask_at_once,
        inv_idempotent_producers_may_race,
        inv_no_loss_processes_drain_a_queue_together,
        inv_fence_of_two_that_settle_at_once_one_wins,
    }
    waking {
        what_happened_before_the_wait_is_not_missed,
        a_waiter_is_woken_from_another_handle,
        several_waiters_are_all_woken,
        where_nothing_happens_nobody_is_woken_for_long,
        the_epoch_of_a_batch_misses_nothing_that_came_after,
        a_closure_of_a_closed_lane_wakes_as_well,
    }
    cancelling {
        inv_no_loss_a_dropped_lease_strands_nothing,
        inv_fence_a_dropped_settlement_may_be_repeated,
        inv_idempotent_a_dropped_enqueue_may_be_repeated,
        inv_cap_a_dropped_admission_takes_no_second_slot,
        inv_idempotent_a_dropped_pruning_may_be_repeated,
        a_dropped_wait_leaves_others_waiting,
    }
    durability {
        inv_durable_reply_everything_answered_outlives_the_handles,
        inv_cooldown_outlives_a_restart,
        inv_pace_outlives_a_restart,
        inv_cooldown_outlives_a_reboot,
        a_step_of_the_wall_clock_changes_nothing,
        times_are_shown_as_wall_times,
    }
}
