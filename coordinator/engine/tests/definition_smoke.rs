//! A definition with all that this version knows is accepted, and becomes what it says.

use flotilla_engine::expression::ValueTemplate;
use flotilla_engine::{Json, compile};
use flotilla_engine::workflow::{Backoff, On, Routes, TaskIndex};

const ORDER: &str = r#"
ref: shop.order
label: Order
version: "1.2.0"
description: Takes an order
tags: [shop]
parameters:
  order_id: {type: integer, required: true}
  urgent: {type: boolean, default: false, description: Skips the approval}
vars:
  charged: false
  url: "https://shop.local/orders/{{ parameters.order_id }}"
tasks:
  - name: fetch
    type: action
    action: core.http
    input: {url: "{{ vars.url }}", headers: [{a: 1.0, z: 2, b: null}]}
    retry: {count: 3, delay: 1, backoff: exponential, max_delay: 30, jitter: 0.2, when: "{{ error().kind != 'bad' }}"}
    timeout: 30
    pool: web
    max_redeliveries: 2
    publish:
      - order: "{{ result().body }}"
      - raw
    on_success: price
    on_failure: [give-up, noop]
  - name: price
    action: shop.price
    decision:
      - when: "{{ vars.order.total > 1000 or parameters.urgent }}"
        publish: [{approved: false}]
        next: approve
      - default: true
        next: charge
    on_timeout: give-up
  - name: approve
    next:
      - when: "{{ succeeded() and not vars.approved }}"
        publish: [{approved: true}]
        do: charge
      - when: "{{ failed() }}"
        do: fail
  - name: charge
    when: "{{ not vars.charged }}"
    action: "shop.{{ 'charge' }}"
    join: all
    timeout: null
  - name: give-up
output_map:
  total: "{{ vars.order.total | default(0) }}"
  fetched: "{{ task.fetch.result }}"
  twice: "{{ vars.total * 2 }}"
"#;

#[test]
fn accepts_the_whole_language_of_this_version() {
    let compiled = compile(ORDER).unwrap_or_else(|found| panic!("{found:#?}"));
    let workflow = compiled.workflow;
    assert_eq!(&*workflow.reference, "shop.order");
    assert_eq!(&*workflow.version, "1.2.0");
    assert_eq!(workflow.parameters.names().collect::<Vec<_>>(), ["order_id", "urgent"]);
    assert_eq!(workflow.starts, [TaskIndex(0)]);
    assert_eq!(workflow.watched.iter().copied().collect::<Vec<_>>(), [TaskIndex(0)]);
    let [fetch, price, approve, charge, give_up] = workflow.tasks.as_slice() else {
        panic!("five tasks")
    };
    assert_eq!(charge.predecessors, [price.index, approve.index]);
    assert_eq!(give_up.predecessors, [fetch.index, price.index]);
    assert!(charge.join.is_some() && charge.timeout.is_none());
    assert!(approve.action.is_none() && approve.timeout.is_none());
    let timeout = price.timeout.as_ref().and_then(ValueTemplate::as_literal).map(Json::text);
    assert_eq!(timeout, Some("300"));
    assert!(price.handles_timeout && !fetch.handles_timeout);
    assert_eq!((&*fetch.pool, fetch.max_redeliveries), ("web", 2));
    assert_eq!((&*charge.pool, charge.max_redeliveries), ("default", 5));
    assert!(fetch.publish[0].value.is_some() && fetch.publish[1].value.is_none());
    let retry = fetch.retry.as_ref().expect("a retry");
    assert_eq!(retry.backoff, Backoff::Exponential { factor: 2.0 });
    let Routes::All(routes) = &fetch.routes else { panic!("no decision") };
    assert!(matches!((&routes[0].on, &routes[1].on), (On::Success, On::Failure)));
    assert_eq!(routes[1].targets.tasks, [give_up.index]);
    assert!(routes[1].targets.noop && !routes[1].targets.fail);
    let Routes::First { branches, others } = &price.routes else { panic!("a decision") };
    assert!(branches[0].when.is_some() && branches[1].when.is_none());
    assert!(matches!(others[0].on, On::Timeout));
    let warned: Vec<_> = compiled.warnings.iter().map(|w| (w.code, w.path.as_str())).collect();
    assert_eq!(warned, [("several_entries", "tasks[4]")]);
    assert_eq!(workflow.hash.to_string().len(), 64);
}

#[test]
fn takes_json() {
    let source = r#"{"ref": "a.b", "tasks": [{"name": "t", "action": "core.noop"}]}"#;
    assert!(compile(source).is_ok());
}
