//! Schedules that once broke a rule, by what was wrong. Their seeds are only good for the simulation
//! as it is; what it must be able to find is kept in `mutants.rs`.

use flotilla_simulation::{Outcome, Planted, ShellMutant, run_seed};

fn assert_sound(outcome: &Outcome) {
    assert_eq!(outcome.failure, None);
}

/// A commit's answer that had waited for a process that stood still set its clock back; until that had
/// caught up, the process looked for no partitions.
#[test]
fn an_old_answer_does_not_stop_the_time() {
    let planted = Some(Planted::Shell(ShellMutant::OldAnswerSetsClockBack));
    let failing = (0..100_000).find(|seed| run_seed(*seed, planted).failure.is_some());
    let seed = failing.expect("the simulation finds it");
    assert_sound(&run_seed(seed, None));
}

/// The simulation itself took a completion for overlooked that a former owner had not given back.
#[test]
fn what_a_former_owner_holds_is_nobodys_backlog() {
    assert_sound(&run_seed(384, None));
}

/// A start was put into a partition that was being handed over in the same turn.
#[test]
fn a_start_and_a_hand_over_in_one_turn() {
    assert_sound(&run_seed(6, None));
}

/// A channel was opened while its last opening still held a completion: the probe came before it, and
/// its deadline acted.
#[test]
fn a_channel_is_opened_after_its_last_opening_has_ended() {
    assert_sound(&run_seed(1_989_393, None));
}

/// A command was delivered three times to coordinators that died, and became a dead letter, as any
/// message would; the simulation took it for eaten.
#[test]
fn a_command_may_become_a_dead_letter() {
    assert_sound(&run_seed(1_426_938, None));
}

/// The mark of a message that had become poison was left; where the message came again, others waited
/// for the process that had marked it, for as long as that lived.
#[test]
fn the_mark_of_poison_is_taken_back() {
    assert_sound(&run_seed(1_362_496, None));
}
