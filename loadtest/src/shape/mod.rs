//! What an execution looks like: workflows in the real language, with a parameter, templated input
//! and a publish for each task.

mod random;
mod source;

use clap::ValueEnum;
use serde::Serialize;

use source::{chain, diamond, fanout, items};

/// How many different graphs a load of random ones has.
const RANDOM_GRAPHS: u64 = 8;

/// A shape of executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One task.
    Single,
    /// Tasks one after another, each taking what the one before has published.
    Chain,
    /// One task, two beside each other, then one that joins them.
    Diamond,
    /// One task, then many beside each other, then one that joins them.
    Fanout,
    /// One task with many items.
    Items,
    /// Graphs without cycles, made of a seed: each task joins one to three of those before it.
    Random,
    /// Of 20 executions 14 single, 4 chains, one fan-out and one with items.
    Mixed,
}

/// How large it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sizes {
    /// Tasks of a chain, and of a random graph.
    pub length: u32,
    /// Width of a fan-out, or number of items.
    pub width: u32,
    /// Items in flight at a time, if bounded.
    pub concurrency: Option<u32>,
    /// Bytes of text that each task carries beside its number.
    pub payload: u32,
    /// Share of attempts that fail.
    pub failures: f64,
    /// What random graphs are made of.
    pub seed: u64,
}

/// A workflow of a shape.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// Its reference.
    pub reference: String,
    /// Its version.
    pub version: String,
    /// Its text.
    pub source: String,
    /// How many jobs an execution gives to workers, if none fails: each counts as a task.
    pub tasks: u32,
    /// How many runs of tasks its row counts in the end.
    pub runs: u32,
}

/// The workflows of a load, and which of them comes when.
#[derive(Debug, Clone)]
pub struct Mix {
    /// The workflows.
    pub workflows: Vec<Workflow>,
    /// Bytes of text that each start carries.
    pub payload: u32,
    /// Indices of them, one for each start, over and over.
    order: Vec<usize>,
}

impl Shape {
    /// The name that the report shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Chain => "chain",
            Self::Diamond => "diamond",
            Self::Fanout => "fanout",
            Self::Items => "items",
            Self::Random => "random",
            Self::Mixed => "mixed",
        }
    }

    /// What is started.
    pub fn mix(self, sizes: &Sizes) -> Mix {
        let one = |workflow| (vec![workflow], vec![0]);
        let (workflows, order) = match self {
            Self::Single => one(chain("single", 1, sizes)),
            Self::Chain => one(chain("chain", sizes.length, sizes)),
            Self::Diamond => one(diamond(sizes)),
            Self::Fanout => one(fanout(sizes)),
            Self::Items => one(items(sizes)),
            Self::Random => {
                let graphs = (0..RANDOM_GRAPHS).map(|number| random::graph(number, sizes));
                (graphs.collect(), (0..8).collect())
            }
            Self::Mixed => {
                let all = vec![
                    chain("single", 1, sizes),
                    chain("chain", sizes.length, sizes),
                    fanout(sizes),
                    items(sizes),
                ];
                let order = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3];
                (all, order)
            }
        };
        Mix {
            workflows,
            payload: sizes.payload,
            order,
        }
    }
}

impl Mix {
    /// The index of the workflow of a start.
    pub fn index(&self, start: usize) -> usize {
        self.order[start % self.order.len()]
    }
}

#[cfg(test)]
impl Sizes {
    /// Small ones, for tests.
    pub fn small() -> Self {
        Self {
            length: 3,
            width: 4,
            concurrency: None,
            payload: 0,
            failures: 0.0,
            seed: 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Shape; 6] = [
        Shape::Single,
        Shape::Chain,
        Shape::Diamond,
        Shape::Fanout,
        Shape::Items,
        Shape::Random,
    ];

    fn source(shape: Shape) -> String {
        shape.mix(&Sizes::small()).workflows[0].source.clone()
    }

    #[test]
    fn a_chain_links_its_tasks() {
        let chain = source(Shape::Chain);
        assert_eq!(chain.matches("action:").count(), 3);
        assert_eq!(chain.matches("on_success:").count(), 2);
        assert!(chain.contains("on_success: step_3"));
        assert!(chain.contains("{value: \"{{ vars.value + 1 }}\"}"));
    }

    #[test]
    fn a_single_has_one_task_whatever_the_length() {
        assert_eq!(Shape::Single.mix(&Sizes::small()).workflows[0].tasks, 1);
    }

    #[test]
    fn a_fan_out_splits_and_joins() {
        let fanout = source(Shape::Fanout);
        assert!(fanout.contains("on_success: [part_1, part_2, part_3, part_4]"));
        assert_eq!(fanout.matches("on_success: merge").count(), 4);
        assert!(fanout.contains("    join: all\noutput_map:"));
        assert_eq!(Shape::Fanout.mix(&Sizes::small()).workflows[0].tasks, 6);
    }

    #[test]
    fn every_shape_of_every_kind_is_a_workflow_that_the_engine_takes() {
        let plain = Sizes::small();
        let loaded = Sizes {
            payload: 10,
            failures: 0.2,
            concurrency: Some(2),
            width: 200_000,
            ..plain
        };
        for (shape, sizes) in ALL
            .iter()
            .flat_map(|shape| [(shape, plain), (shape, loaded)])
        {
            if *shape == Shape::Fanout && sizes.width > 998 {
                continue;
            }
            for workflow in shape.mix(&sizes).workflows {
                let compiled = flotilla_engine::compile(&workflow.source);
                assert!(compiled.is_ok(), "{shape:?}: {:?}", compiled.err());
                let tasks = compiled.map(|compiled| compiled.workflow.tasks.len());
                let is_items = *shape == Shape::Items;
                let expected = if is_items { 1 } else { workflow.tasks as usize };
                assert_eq!(tasks.unwrap_or(0), expected);
            }
        }
    }

    #[test]
    fn a_mix_has_all_shapes_in_their_shares() {
        let mix = Shape::Mixed.mix(&Sizes::small());
        let mut shares = [0; 4];
        (0..40).for_each(|start| shares[mix.index(start)] += 1);
        assert_eq!(shares, [28, 8, 2, 2]);
        let names: Vec<&str> = mix.workflows.iter().map(|w| w.reference.as_str()).collect();
        assert_eq!(
            names,
            [
                "loadtest.single",
                "loadtest.chain",
                "loadtest.fanout",
                "loadtest.items"
            ]
        );
    }
}
