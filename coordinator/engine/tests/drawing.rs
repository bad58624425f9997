//! A workflow drawn for Mermaid and for Graphviz, to the letter.

use flotilla_engine::{compile, drawing};

const ALL: &str = r##"
ref: shop.order
start: [fetch, watch]
finally: clean_up
tasks:
  - name: fetch
    action: core.http
    when: "{{ parameters == {} }}"
    on_success: [price, stock]
    on_failure: fail
    on_timeout: [notify, noop]
  - {name: price, action: "shop.{{ 'price' }}", on_complete: charge}
  - name: stock
    action: shop.stock
    with_items: [1, 2]
    next:
      - when: '{{- succeeded() and result()[0] != "<b>#|`\\" -}}'
        do: charge
      - {when: false, do: charge}
      - {do: noop}
  - name: charge
    join: all
    decision:
      - when: |
          {{ task.price.result
             > 1000 }}
        next: notify
      - {default: true, next: [noop]}
  - {name: notify, join: 2}
  - {name: watch, on_success: seen}
  - {name: seen, join: active}
  - {name: report, needs: [charge, watch], rule: all_done, action: shop.report}
  - {name: clean_up, action: shop.clean}
"##;

#[test]
fn a_flowchart_of_mermaid_is_exactly_this() {
    let workflow = compile(ALL)
        .unwrap_or_else(|found| panic!("{found:#?}"))
        .workflow;
    let expected = r##"flowchart TD
    start((start))
    t0["fetch<br/>core.http<br/>when parameters == {}"]
    t1["price<br/>shop.{{ 'price' }}"]
    t2["stock<br/>shop.stock<br/>for each item"]
    t3{{"charge<br/>join: all"}}
    t4{{"notify<br/>join: 2"}}
    t5["watch"]
    t6{{"seen<br/>join: active"}}
    t7{{"report<br/>shop.report<br/>rule: all_done"}}
    fail((fail))
    noop((noop))
    subgraph finally
        t8["clean_up<br/>shop.clean"]
    end
    start --> t0
    start --> t5
    t0 -->|"on_success"| t1
    t0 -->|"on_success"| t2
    t0 -->|"on_failure"| fail
    t0 -->|"on_timeout"| t4
    t0 -->|"on_timeout"| noop
    t1 -->|"on_complete"| t3
    t2 -->|"when succeeded() and result()[0] != #34;#60;b#62;#35;#124;#96;#92;#92;#34;"| t3
    t2 -->|"when false"| t3
    t2 -->|"on_complete"| noop
    t3 -->|"when task.price.result #62; 1000"| t4
    t3 -->|"default"| noop
    t5 -->|"on_success"| t6
    t3 -.->|"needs"| t7
    t5 -.->|"needs"| t7"##;
    assert_eq!(drawing::mermaid(&workflow), expected);
}

#[test]
fn a_graph_of_graphviz_is_exactly_this() {
    let workflow = compile(ALL)
        .unwrap_or_else(|found| panic!("{found:#?}"))
        .workflow;
    let expected = r##"digraph "shop.order" {
    node [shape=box];
    start [shape=circle];
    t0 [label="fetch\ncore.http\nwhen parameters == {}"];
    t1 [label="price\nshop.{{ 'price' }}"];
    t2 [label="stock\nshop.stock\nfor each item"];
    t3 [label="charge\njoin: all", shape=hexagon];
    t4 [label="notify\njoin: 2", shape=hexagon];
    t5 [label="watch"];
    t6 [label="seen\njoin: active", shape=hexagon];
    t7 [label="report\nshop.report\nrule: all_done", shape=hexagon];
    fail [shape=circle];
    noop [shape=circle];
    subgraph cluster_finally {
        label="finally";
        t8 [label="clean_up\nshop.clean"];
    }
    start -> t0;
    start -> t5;
    t0 -> t1 [label="on_success"];
    t0 -> t2 [label="on_success"];
    t0 -> fail [label="on_failure"];
    t0 -> t4 [label="on_timeout"];
    t0 -> noop [label="on_timeout"];
    t1 -> t3 [label="on_complete"];
    t2 -> t3 [label="when succeeded() and result()[0] != \"<b>#|`\\\\\""];
    t2 -> t3 [label="when false"];
    t2 -> noop [label="on_complete"];
    t3 -> t4 [label="when task.price.result > 1000"];
    t3 -> noop [label="default"];
    t5 -> t6 [label="on_success"];
    t3 -> t7 [label="needs", style=dashed];
    t5 -> t7 [label="needs", style=dashed];
}"##;
    assert_eq!(drawing::dot(&workflow), expected);
}

/// A name may be a word of either form.
#[test]
fn names_of_tasks_are_labels_only() {
    let source = "ref: a.b\ntasks:\n  - {name: end, on_success: graph}\n  - {name: graph}\n";
    let workflow = compile(source).expect("accepted").workflow;
    assert_eq!(
        drawing::mermaid(&workflow),
        "flowchart TD\n    start((start))\n    t0[\"end\"]\n    t1[\"graph\"]\n    start --> t0\n    \
         t0 -->|\"on_success\"| t1"
    );
}
