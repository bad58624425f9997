//! The pack of reports: many files in batches, few at a time, and one report that adds up.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use flotilla_tests::binary::root;
use flotilla_tests::{Fleet, Start, foreign};
use serde_json::json;

/// Files, and how many are one job; the last job has one file.
const FILES: usize = 25;
const BATCHES: i64 = 9;

/// Adds up what is in the files.
fn sums(folder: &Path, skipped: &str) -> (usize, BTreeMap<String, i64>) {
    let (mut rows, mut regions) = (0, BTreeMap::new());
    for entry in fs::read_dir(folder).expect("the files are there") {
        let path = entry.expect("an entry").path();
        if path.ends_with(skipped) {
            continue;
        }
        let text = fs::read_to_string(path).expect("it is text");
        for line in text.lines().skip(1) {
            let mut cells = line.split(',').skip(1);
            let region = cells.next().expect("a region").to_owned();
            let amount: i64 = cells.next().expect("an amount").parse().expect("a number");
            *regions.entry(region).or_insert(0) += amount;
            rows += 1;
        }
    }
    (rows, regions)
}

#[tokio::test]
async fn a_report_adds_up_what_is_read_in_batches() {
    if !foreign::has_python3() {
        return;
    }
    let fleet = Fleet::new().await;
    fleet.register_pack("reports");
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let mut client = fleet.client().await;
    let (folder, report) = (fleet.folder.join("sales"), fleet.folder.join("report.md"));
    let sample = Command::new("python3")
        .arg(root().join("examples/packs/reports/sample.py"))
        .args([folder.as_os_str(), FILES.to_string().as_ref()])
        .status();
    assert!(sample.expect("python3 can be run").success());
    let broken = "sales-007.csv";
    fs::write(
        folder.join(broken),
        "day,region,amount\n2026-01-01,north,many\n",
    )
    .unwrap();
    let (rows, regions) = sums(&folder, broken);

    let parameters = json!({"folder": folder, "report": report});
    let start = Start::of("reports.nightly").parameters(&parameters);
    let finished = client.run(&start).await;
    assert_eq!(finished["status"], "succeeded", "{finished}");
    let expected = json!({
        "files": FILES, "rows": rows, "regions": regions, "unreadable": [broken], "missing_batches": 0
    });
    assert_eq!(finished["output"]["summary"], expected);
    let written = fs::read_to_string(&report).expect("the report is written");
    for (region, amount) in &regions {
        assert!(
            written.contains(&format!("| {region} | {amount} |\n")),
            "{written}"
        );
    }
    assert!(
        written.contains(&format!("\n{rows} rows of {FILES} files.\n")),
        "{written}"
    );
    assert!(
        written.contains("Not read: sales-007.csv (invalid literal"),
        "{written}"
    );

    let batches = "SELECT count(*) FROM workflow_task_detail
         WHERE task = 'read' AND item_index IS NOT NULL AND status = 'succeeded'";
    assert_eq!(fleet.database.number(batches).await, BATCHES);
    assert!(most_at_once(&fleet).await <= 2);
    fleet.rest([worker, coordinator]).await;
}

/// The most batches that were with workers at the same time, by the log.
async fn most_at_once(fleet: &Fleet) -> i64 {
    fleet
        .database
        .number(
            "SELECT coalesce(max(in_flight), 0)::bigint FROM (
               SELECT sum(CASE l.kind WHEN 'task_dispatched' THEN 1 ELSE -1 END) OVER (ORDER BY l.seq) AS in_flight
               FROM workflow_transition l JOIN workflow_task_detail t USING (task_id)
               WHERE t.task = 'read' AND t.item_index IS NOT NULL
                 AND l.kind IN ('task_dispatched', 'task_ended')) AS counted",
        )
        .await
}
