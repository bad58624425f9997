//! Commits and loads on their way to the store and back.

use std::sync::Arc;

use flotilla_turn::rows::{Commit, CommitAnswer};
use flotilla_turn::{Input, LoadFailure};
use uuid::Uuid;

use crate::coverage::Happening;
use crate::planted::ShellMutant;
use crate::random::Random;
use crate::world::{LateCommit, World};

impl World {
    /// What becomes of the commit that a coordinator has sent.
    pub fn commit_step(&mut self, place: usize, random: &mut Random) -> bool {
        let held = self.coordinator(place);
        let Some(commit) = held.commits.pop_front() else {
            return false;
        };
        let sender = held.owner;
        let unknown = CommitAnswer::TryAgain {
            error: "nobody knows".to_owned(),
        };
        let answer = if self.goes_astray(random) {
            match random.below(3) {
                0 => {
                    self.note(Happening::CommitLost);
                    self.say(|| format!("a commit of coordinator {place} is lost"));
                }
                1 => {
                    self.note(Happening::CommitAnswerLost);
                    self.say(|| format!("the answer to the commit of coordinator {place} is lost"));
                    self.execute(sender, &commit, false);
                }
                _ => {
                    self.note(Happening::CommitLate);
                    self.say(|| format!("the commit of coordinator {place} is late"));
                    self.late.commits.push(LateCommit { commit, sender });
                }
            }
            unknown
        } else {
            let answer = self.execute(sender, &commit, true);
            self.say(|| {
                format!(
                    "the commit of coordinator {place}: {}",
                    show(&answer, &commit)
                )
            });
            answer
        };
        self.answer(place, Input::CommitAnswered(answer), random);
        true
    }

    /// A commit that was given up reaches the store after all.
    pub fn execute_late(&mut self, late: &LateCommit) {
        let commits = self.store.commits;
        let answer = self.execute(late.sender, &late.commit, false);
        self.say(|| format!("a late commit: {}", show(&answer, &late.commit)));
        if self.store.commits > commits {
            self.note(Happening::CommitLateExecuted);
        }
        if self.is_planted(ShellMutant::LateAnswerTaken) {
            let living = self.coordinators.iter_mut().flatten();
            for held in living.filter(|held| held.owner == late.sender) {
                held.mailbox
                    .push_back(Input::CommitAnswered(answer.clone()));
            }
        }
    }

    /// Executes a commit and checks what it does.
    fn execute(&mut self, sender: Uuid, commit: &Arc<Commit>, is_current: bool) -> CommitAnswer {
        let passing = self.passing_jobs(commit);
        let deadlines = self.deadlines_in(commit);
        let commits = self.store.commits;
        let answer = self.store.commit(commit);
        match &answer {
            CommitAnswer::Committed { .. } if self.store.commits > commits => {
                self.check_commit(sender, commit, &passing, &deadlines);
            }
            CommitAnswer::Committed { .. } | CommitAnswer::TryAgain { .. } => {}
            CommitAnswer::Fenced { lost } => {
                self.note(Happening::Fenced);
                if is_current {
                    self.check_fenced(sender, commit, lost);
                }
            }
            CommitAnswer::StartExists { .. } => self.note(Happening::StartExists),
            CommitAnswer::Refused { error } => {
                let error = error.clone();
                self.violate(|| format!("rows and memory have parted: {error}"));
            }
        }
        answer
    }

    /// Answers a load: all of it as of now, though it may arrive later.
    pub fn load_step(&mut self, place: usize, random: &mut Random) -> bool {
        let Some(request) = self.coordinator(place).loads.pop_front() else {
            return false;
        };
        let input = if self.goes_astray(random) {
            self.note(Happening::LoadFailed);
            self.say(|| format!("a load of coordinator {place} fails"));
            Input::LoadFailed(LoadFailure::Passing)
        } else {
            Input::Loaded(self.store.load(&request))
        };
        self.answer(place, input, random);
        true
    }
}

fn show(answer: &CommitAnswer, commit: &Commit) -> String {
    let fences = commit.partitions.iter().map(|fence| {
        format!(
            "{}:{} epoch {} through {}",
            fence.partition, fence.turn, fence.epoch, fence.dispatched_through
        )
    });
    let fences = fences.collect::<Vec<_>>().join(", ");
    let answer = match answer {
        CommitAnswer::Committed { .. } => "ok",
        CommitAnswer::Fenced { .. } => "fenced",
        CommitAnswer::TryAgain { .. } => "unknown",
        CommitAnswer::StartExists { .. } => "a start exists",
        CommitAnswer::Refused { .. } => "refused",
    };
    let log = commit.transitions.iter().map(|row| {
        let run = row.task_id.map_or(0, flotilla_protocol::TaskId::run);
        format!(
            "{}.{run}/{} {} {}",
            crate::message::show_id(row.execution_id),
            row.attempt.unwrap_or_default(),
            row.kind.word(),
            row.to_status.unwrap_or_default()
        )
    });
    format!("{answer} [{fences}] {}", log.collect::<Vec<_>>().join("; "))
}
