//! The part of the interpreter that is compared with the engine, and how branches are merged.

use std::collections::BTreeMap;

use super::{Branch, Model, State};
use crate::spec::name;

/// What can be compared with the engine.
impl Model<'_> {
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn is_unclear(&self) -> bool {
        self.is_unclear
    }

    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Task, visit and attempt of each job that waits, sorted.
    pub fn waiting(&self) -> Vec<(String, u32, u32)> {
        let out = self.runs.iter().filter(|run| run.state == State::Out);
        let mut out: Vec<_> = out
            .map(|run| (name(run.task), run.visit, run.attempt))
            .collect();
        out.sort();
        out
    }

    /// Task, visit and status of what has ended, sorted.
    pub fn ends(&self) -> Vec<(String, u32, &'static str)> {
        let ended = self.runs.iter().filter_map(|run| match run.state {
            State::Ended(status) => Some((name(run.task), run.visit, status)),
            State::Join | State::Needs | State::Due | State::Out => None,
        });
        let mut ended: Vec<_> = ended.collect();
        ended.sort();
        ended
    }

    pub fn variables(&self) -> BTreeMap<String, i64> {
        let vars = self.ends.vars.iter();
        vars.map(|(name, (value, _))| ((*name).to_owned(), *value))
            .collect()
    }
}

impl Branch {
    pub(super) fn passes(&self, join: usize) -> u32 {
        self.passed.get(&join).copied().unwrap_or(0)
    }

    /// Takes in a branch that arrives later: only what it has written counts, and then it wins.
    pub(super) fn merge(&mut self, arriving: &Self) {
        for (name, (value, writes)) in &arriving.vars {
            let held = self.vars.get(name);
            let is_known =
                held.is_some_and(|(_, held)| writes.last().is_some_and(|last| held.contains(last)));
            if !is_known {
                self.vars.insert(name, (*value, writes.clone()));
            }
        }
        for (join, count) in &arriving.passed {
            let held = self.passed.entry(*join).or_default();
            *held = (*held).max(*count);
        }
    }
}
