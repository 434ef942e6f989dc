//! What every backend of the store must do: one suite, run unchanged against each. A backend that passes can replace
//! another.
//!
//! [`store_conformance!`](crate::store_conformance) emits a `#[tokio::test]` for each behaviour. Every behaviour gets
//! an empty store of its own, and names its own times: no backend may read a clock to decide anything.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    missing_docs,
    reason = "these are tests: they fail by panicking, and are named by what they demand"
)]

pub mod audit;
pub mod certificate;
pub mod change;
pub mod enrollment;
pub mod event;
pub mod input;
pub mod issuance;
pub mod issuer;
pub mod job;
pub mod job_certificate;
pub mod keyring;
pub mod lease;
pub mod output;
pub mod principal;
pub mod queue;
pub mod renewal;
pub mod server;
mod world;

use std::any::Any;

use airunner_core::Stores;

/// Bytes of output that the backend under test must keep of a job: open it with this limit.
pub const OUTPUT_LIMIT: u64 = 1024 * 1024;

/// An empty store, and what must live as long as it does: a directory, a server.
pub struct Fixture {
    /// The store.
    pub stores: Stores,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A store that needs `keep` to live.
    pub fn with(stores: Stores, keep: impl Any + Send + Sync) -> Self {
        Self { stores, _keep: Some(Box::new(keep)) }
    }
}

impl From<Stores> for Fixture {
    fn from(stores: Stores) -> Self {
        Self { stores, _keep: None }
    }
}

/// Emits the whole suite as the module `$name`. `$open` is an async closure that returns an empty store: [`Stores`],
/// or a [`Fixture`] where something must live beside it.
///
/// ```ignore
/// store_conformance!(memory, async || MemoryStore::new(OUTPUT_LIMIT).stores());
/// ```
#[macro_export]
macro_rules! store_conformance {
    ($name:ident, $open:expr) => {
        mod $name {
            use super::*;

            $crate::conformance_behaviours! { $open;
                principal:
                    what_is_created_is_read_back,
                    ids_are_found_whatever_their_case,
                    an_id_is_taken_in_every_case_and_for_ever,
                    of_many_that_create_one_id_one_wins,
                    a_dns_name_belongs_to_one_principal,
                    a_dns_name_that_is_given_up_is_free,
                    an_update_overwrites_what_it_names,
                    a_write_of_an_old_version_is_refused,
                    of_many_that_write_one_version_one_wins,
                    what_is_unknown_is_not_found,
                    roles_are_set_and_everyone_is_told,
                    the_last_admin_keeps_its_role,
                    suspension_says_when_and_why_until_it_is_over,
                    the_status_that_it_has_changes_nothing_but_is_audited,
                    what_is_deleted_stays_deleted,
                    the_last_admin_stays_where_that_is_asked_for,
                    admins_that_suspend_one_another_leave_one,
                    a_denial_can_revoke_in_the_same_act,
                    a_status_that_it_has_can_still_revoke,
                    lists_are_in_order_and_leave_out_what_is_deleted,
                    lists_are_cut_to_what_the_filter_names,
                    pages_lose_nothing_while_others_write,
                    a_page_token_of_no_list_is_refused;
                certificate:
                    what_is_recorded_is_read_back,
                    what_is_unknown_is_not_there,
                    an_identity_shows_what_its_principal_has_become,
                    identities_are_read_together_in_the_order_asked_for,
                    two_issuers_may_use_one_serial_number,
                    the_first_sight_is_noted_once,
                    what_is_revoked_is_never_first_seen,
                    revoking_says_when_and_why_and_tells_everyone_once,
                    every_reason_is_kept,
                    what_has_expired_is_not_revoked,
                    a_principal_loses_all_that_is_unexpired,
                    a_dry_run_changes_nothing_and_keeps_its_limit,
                    lists_run_from_the_newest,
                    lists_are_cut_to_what_the_filter_names,
                    what_expires_soon_includes_the_revoked_unless_they_are_left_out,
                    pages_lose_nothing_while_others_issue,
                    the_nearest_expiries_come_first,
                    a_suspension_revokes_nothing;
                issuance:
                    a_serial_number_is_used_once_by_an_issuer,
                    of_many_that_use_one_serial_number_one_wins,
                    only_an_active_principal_gets_one,
                    a_decision_on_an_old_version_is_refused,
                    a_principal_has_as_many_lineages_as_it_may,
                    what_expired_or_retired_takes_no_slot,
                    no_limit_is_no_limit,
                    of_many_that_want_the_last_slots_as_many_get_one,
                    a_request_that_is_repeated_gets_the_same_certificate,
                    a_request_is_forgotten_after_a_day,
                    of_many_with_one_request_one_is_new,
                    a_refused_request_is_not_kept,
                    a_token_is_used_once,
                    a_repeated_enrolment_works_after_the_token_expired,
                    a_token_that_does_not_count_enrols_nobody,
                    a_token_counts_while_its_creator_is_as_it_was,
                    an_enrolment_needs_a_slot_and_keeps_the_token_without,
                    of_many_keys_that_use_one_token_one_wins,
                    a_suspension_and_an_issuance_never_both_win;
                renewal:
                    a_successor_joins_the_lineage_and_its_predecessor_retires,
                    an_overlap_ends_at_expiry_at_the_latest,
                    what_is_over_is_not_renewed,
                    a_suspended_principal_renews_nothing,
                    the_same_key_gets_the_same_successor,
                    an_unseen_successor_is_replaced,
                    a_seen_successor_is_a_fork,
                    a_replacement_of_a_used_serial_number_replaces_nothing,
                    of_many_with_one_key_one_is_new,
                    of_many_with_their_own_keys_one_stays,
                    first_sight_and_replacement_never_both_win,
                    a_long_lineage_keeps_one_slot;
                enrollment:
                    what_is_created_is_read_back,
                    only_an_active_principal_gets_one,
                    a_token_id_is_used_once,
                    a_repeated_request_voids_the_earlier_token,
                    a_deleted_token_is_gone,
                    lists_run_from_the_newest_and_may_be_of_one_creator;
                issuer:
                    a_ca_is_founded_and_read_back_oldest_first,
                    before_it_there_is_none,
                    a_ca_is_founded_once,
                    a_ca_is_replaced_by_name,
                    of_many_that_found_a_ca_one_wins,
                    an_issuing_ca_has_a_successor,
                    of_many_successors_one_wins;
                keyring:
                    a_keyring_is_kept_as_it_was_made,
                    there_is_one_keyring,
                    a_keyring_has_one_active_key_of_a_purpose;
                audit:
                    what_is_recorded_is_read_back,
                    entries_are_numbered_in_order,
                    none_is_lost_when_many_write;
                change:
                    the_feed_begins_empty,
                    what_changes_no_authority_writes_nothing,
                    changes_are_read_from_any_place_in_any_number,
                    a_follower_ahead_of_the_store_is_told_to_load_anew,
                    numbers_have_no_gaps_when_many_write,
                    a_reader_never_overtakes_a_writer,
                    what_was_pruned_is_said_to_be,
                    what_a_hand_changed_is_told_by_whoever_finds_it,
                    waiting_ends_with_a_change,
                    waiting_ends_without_a_change_too,
                    a_snapshot_holds_every_denial_in_force,
                    a_snapshot_and_what_follows_it_are_the_whole;
                server:
                    a_heartbeat_brings_every_row,
                    the_highest_time_only_grows_and_only_when_it_may,
                    the_highest_time_is_set_back_unless_another_was_written_meanwhile,
                    who_leaves_or_falls_silent_is_gone,
                    housekeeping_is_one_servers_until_its_time_is_over,
                    who_leaves_gives_housekeeping_up,
                    of_many_that_want_housekeeping_one_gets_it;
                job:
                    what_is_enqueued_is_read_back,
                    jobs_are_enqueued_all_or_none,
                    only_an_active_owner_enqueues,
                    a_repeated_request_enqueues_once,
                    a_unique_job_has_no_like_while_it_lives,
                    of_many_unique_jobs_one_is_enqueued,
                    leases_go_to_the_oldest_in_order_of_the_queues,
                    a_lease_says_who_and_until_when,
                    only_an_active_worker_gets_a_lease,
                    of_many_workers_each_job_goes_to_one,
                    the_next_visible_job_is_known,
                    a_waiting_job_is_stopped_at_once,
                    a_running_job_is_asked_to_stop,
                    a_job_that_waits_for_another_attempt_is_stopped_too,
                    lists_run_from_the_newest_and_are_cut_by_the_filter,
                    pages_lose_nothing_while_others_enqueue,
                    jobs_are_counted_by_state;
                input:
                    standard_input_is_kept_in_order,
                    standard_input_has_a_limit,
                    what_has_ended_takes_no_input,
                    one_writes_at_a_time_and_what_is_sent_twice_is_written_once,
                    what_was_typed_at_a_terminal_is_never_typed_again;
                queue:
                    owners_take_turns,
                    an_owner_of_many_jobs_delays_anothers_by_one,
                    an_idle_past_is_neither_paid_for_nor_rewarded,
                    a_higher_priority_goes_first,
                    what_is_delayed_is_taken_at_its_time,
                    what_was_delayed_is_fair_too,
                    a_failed_attempt_waits_longer_each_time,
                    what_lost_its_worker_waits_for_nothing_and_keeps_its_place,
                    a_job_goes_to_a_worker_that_has_what_it_requires,
                    what_nobody_can_take_is_in_nobodys_way,
                    what_could_not_be_taken_for_long_is_caught_up_in_turns,
                    a_queue_tells_only_so_many_requirements_apart,
                    a_refused_lane_writes_nothing,
                    queues_are_served_in_turn_or_in_order,
                    of_many_that_lease_with_labels_each_job_goes_to_one;
                lease:
                    a_completed_job_says_how_it_ended,
                    what_an_attempt_used_is_told_until_the_next_begins,
                    a_lease_ends_once,
                    only_the_holder_of_this_lease_completes_it_in_time,
                    a_batch_is_judged_one_by_one,
                    a_late_completion_harms_nothing,
                    what_failed_is_tried_again_until_its_attempts_are_used_up,
                    an_exit_is_tried_again_where_the_job_asks_for_it,
                    what_is_handed_back_costs_no_attempt,
                    a_time_out_ends_the_job,
                    a_lease_is_extended_by_its_holder,
                    what_has_run_out_is_not_extended,
                    an_extension_tells_of_a_request_to_stop,
                    a_lease_that_ran_out_is_taken_back_two_seconds_later,
                    leases_are_taken_back_by_whoever_keeps_house_now,
                    leases_are_taken_back_a_bounded_number_at_a_time,
                    the_last_attempt_that_runs_out_fails_the_job,
                    a_denied_holder_loses_every_lease,
                    completing_and_taking_back_never_both_win,
                    controls_are_read_in_one_call;
                job_certificate:
                    what_the_holder_of_a_lease_gets_is_read_back,
                    only_the_holder_of_the_lease_gets_one_and_only_in_time,
                    it_takes_no_slot_and_is_revoked_with_all_of_its_owners,
                    every_end_of_an_attempt_revokes_what_it_was_given,
                    a_job_that_never_asked_for_one_ends_without_a_change,
                    what_has_expired_or_was_revoked_is_left_as_it_is,
                    a_job_is_given_only_so_many_at_a_time,
                    a_repeated_request_gets_the_same_one,
                    a_large_batch_of_ends_revokes_them_all,
                    a_suspended_owner_of_nothing_else_is_among_the_denials;
                event:
                    what_is_published_is_read_back_in_order,
                    what_is_there_already_is_dropped,
                    the_start_is_told_to_the_job,
                    only_the_holder_publishes_and_only_in_time,
                    a_worker_publishes_of_its_attempt_and_does_not_end_it,
                    attempts_follow_one_another,
                    jobs_do_not_share_events;
                output:
                    no_byte_is_changed,
                    reading_goes_on_where_it_was,
                    a_reader_follows_a_writer,
                    what_is_kept_already_is_dropped,
                    attempts_follow_one_another,
                    a_job_without_output_has_none,
                    jobs_do_not_share_output,
                    appends_to_one_job_do_not_mix,
                    the_oldest_goes_when_there_is_too_much,
                    large_batches_are_kept_whole,
                    what_no_worker_sends_is_refused;
            }
        }
    };
}

/// Emits the part of the suite that is about output as the module `$name`, for a store of output that goes with several
/// backends.
#[macro_export]
macro_rules! output_conformance {
    ($name:ident, $open:expr) => {
        mod $name {
            use super::*;

            $crate::conformance_behaviours! { $open;
                output:
                    no_byte_is_changed,
                    reading_goes_on_where_it_was,
                    a_reader_follows_a_writer,
                    what_is_kept_already_is_dropped,
                    attempts_follow_one_another,
                    a_job_without_output_has_none,
                    jobs_do_not_share_output,
                    appends_to_one_job_do_not_mix,
                    the_oldest_goes_when_there_is_too_much,
                    large_batches_are_kept_whole,
                    what_no_worker_sends_is_refused;
            }
        }
    };
}

/// Emits a module for each noun with a test for each behaviour.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_behaviours {
    ($open:expr; $($noun:ident: $($behaviour:ident),+;)+) => { $(
        mod $noun {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let fixture = $crate::conformance::Fixture::from(($open)().await);
                    $crate::conformance::$noun::$behaviour(fixture.stores.clone()).await;
                }
            )+
        }
    )+ };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_behaviour_is_in_the_macro() {
        let listed = include_str!("mod.rs");
        for source in [
            include_str!("audit.rs"),
            include_str!("job_certificate.rs"),
            include_str!("certificate.rs"),
            include_str!("change.rs"),
            include_str!("enrollment.rs"),
            include_str!("event.rs"),
            include_str!("issuance.rs"),
            include_str!("issuer.rs"),
            include_str!("job.rs"),
            include_str!("keyring.rs"),
            include_str!("lease.rs"),
            include_str!("output.rs"),
            include_str!("principal.rs"),
            include_str!("queue.rs"),
            include_str!("renewal.rs"),
            include_str!("server.rs"),
        ] {
            let behaviours = source.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            for behaviour in behaviours.filter_map(|rest| rest.split('(').next()) {
                assert!(listed.contains(behaviour), "{behaviour} is run against no backend");
            }
        }
    }
}
