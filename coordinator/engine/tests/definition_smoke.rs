//! A definition with all that this version knows is accepted, and becomes what it says.

use flotilla_engine::expression::ValueTemplate;
use flotilla_engine::workflow::{Backoff, On, Routes, TaskIndex};
use flotilla_engine::{Json, compile};

const ORDER: &str = include_str!("definitions/order.yaml");

#[test]
fn accepts_the_whole_language_of_this_version() {
    let compiled = compile(ORDER).unwrap_or_else(|found| panic!("{found:#?}"));
    let workflow = compiled.workflow;
    assert_eq!(&*workflow.reference, "shop.order");
    assert_eq!(&*workflow.version, "1.2.0");
    assert_eq!(
        workflow.parameters.names().collect::<Vec<_>>(),
        ["order_id", "urgent"]
    );
    assert_eq!(workflow.starts, [TaskIndex(0)]);
    assert_eq!(
        workflow.watched.iter().copied().collect::<Vec<_>>(),
        [TaskIndex(0)]
    );
    let [fetch, price, approve, charge, give_up] = workflow.tasks.as_slice() else {
        panic!("five tasks")
    };
    assert_eq!(charge.predecessors, [price.index, approve.index]);
    assert_eq!(give_up.predecessors, [fetch.index, price.index]);
    assert!(charge.join.is_some() && charge.timeout.is_none());
    assert!(approve.action.is_none() && approve.timeout.is_none());
    let timeout = price
        .timeout
        .as_ref()
        .and_then(ValueTemplate::as_literal)
        .map(Json::text);
    assert_eq!(timeout, Some("300"));
    assert!(price.handles_timeout && !fetch.handles_timeout);
    assert_eq!((&*fetch.pool, fetch.max_redeliveries), ("web", 2));
    assert_eq!((&*charge.pool, charge.max_redeliveries), ("default", 5));
    assert!(fetch.publish[0].value.is_some() && fetch.publish[1].value.is_none());
    let retry = fetch.retry.as_ref().expect("a retry");
    assert_eq!(retry.backoff, Backoff::Exponential { factor: 2.0 });
    let Routes::All(routes) = &fetch.routes else {
        panic!("no decision")
    };
    assert!(matches!(
        (&routes[0].on, &routes[1].on),
        (On::Success, On::Failure)
    ));
    assert_eq!(routes[1].targets.tasks, [give_up.index]);
    assert!(routes[1].targets.noop && !routes[1].targets.fail);
    let Routes::First { branches, others } = &price.routes else {
        panic!("a decision")
    };
    assert!(branches[0].when.is_some() && branches[1].when.is_none());
    assert!(matches!(others[0].on, On::Timeout));
    let warned: Vec<_> = compiled
        .warnings
        .iter()
        .map(|w| (w.code, w.path.as_str()))
        .collect();
    assert_eq!(warned, [("unused_variable", "tasks[0].publish[1]"),]);
    assert_eq!(workflow.hash.to_string().len(), 64);
}

#[test]
fn takes_json() {
    let source = r#"{"ref": "a.b", "tasks": [{"name": "t", "action": "core.noop"}]}"#;
    assert!(compile(source).is_ok());
}
