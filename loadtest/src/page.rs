//! The report as one page that needs nothing else: plots, tables, the settings, the machine.

use std::fmt::Write;

use crate::chart::{Form, OverTime, Series, bars, escape, number};
use crate::costs::{Messages, Rows};
use crate::report::{Report, shown};
use crate::timeline::{Point, count};

/// What is around the parts.
const FRAME: &str = include_str!("page.html");
const PLACE: &str = "{{body}}";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut body = String::new();
    heading(&mut body, report);
    tiles(&mut body, report);
    body.push_str("<div class='plots'>");
    plots(&mut body, report);
    tables(&mut body, report);
    body.push_str("</div>");
    FRAME.replace(PLACE, &body)
}

fn heading(body: &mut String, report: &Report) {
    let settings = &report.settings;
    let load = match (settings.rate, settings.in_flight) {
        (Some(rate), _) => format!("open loop, {} starts/s", number(rate)),
        (None, in_flight) => format!("closed loop, {} in flight", in_flight.unwrap_or(0)),
    };
    let shape = match report.shape {
        "chain" => format!("chain of {}", settings.sizes.length),
        "fanout" => format!("fan-out 1 → {} → 1", settings.sizes.width),
        "items" => format!("{} items", settings.sizes.width),
        other => other.to_owned(),
    };
    add(
        body,
        format_args!(
            "<h1>Load test: {}</h1><p class='sub'>{load} · {:.1} s measured after {} s of warm-up · Flotilla {}</p>",
            escape(&shape),
            report.seconds,
            settings.warm_up,
            settings.version
        ),
    );
}

fn tiles(body: &mut String, report: &Report) {
    let latency = &report.latency_ms;
    let verdict = if report.is_clean() {
        ("nothing", "lost or doubled", "")
    } else {
        ("NOT CLEAN", "see the table", " bad")
    };
    body.push_str("<div class='tiles'>");
    let tiles = [
        (format!("{:.0}", report.tasks_per_s), "tasks/s"),
        (format!("{:.0}", report.executions_per_s), "executions/s"),
        (number(latency.p50), "ms latency p50"),
        (number(latency.p99), "ms latency p99"),
        (shown(report.cpu_ms_per_task, 3), "ms of CPU a task"),
    ];
    for (value, name) in tiles {
        add(
            body,
            format_args!("<div class='card'><b>{value}</b><span>{name}</span></div>"),
        );
    }
    let (value, name, class) = verdict;
    add(
        body,
        format_args!(
            "<div class='card verdict{class}'><b>{value}</b><span>{name}</span></div></div>"
        ),
    );
}

fn plots(body: &mut String, report: &Report) {
    let times: Vec<f64> = report.timeline.iter().map(|point| point.at_s).collect();
    let over_time = |title: &str, unit: &str, form, series: &[Series]| {
        let plot = OverTime {
            times: &times,
            series,
            form,
            unit,
            window: report.window_s,
        };
        card(title, &plot.draw())
    };
    let series = |name: &str, value: fn(&Point) -> Option<f64>| Series {
        name: name.to_owned(),
        values: report.timeline.iter().map(value).collect(),
    };
    let mut throughput = vec![series("tasks", |point| Some(point.tasks_per_s))];
    if report.tasks != report.executions {
        throughput.push(series("executions", |point| Some(point.executions_per_s)));
    }
    body.push_str(&over_time("Throughput", "1/s", Form::Lines, &throughput));
    let latency = [
        series("p50", |point| point.p50_ms),
        series("p99", |point| point.p99_ms),
    ];
    body.push_str(&over_time("Latency over time", "ms", Form::Lines, &latency));
    let buckets: Vec<(String, f64)> = report
        .distribution
        .iter()
        .map(|bucket| {
            (
                format!("{} ms", number(bucket.up_to_ms)),
                count(bucket.executions),
            )
        })
        .collect();
    body.push_str(&card(
        "Latency, distribution (up to)",
        &bars(&buckets, "executions"),
    ));
    body.push_str(&over_time(
        "CPU by kind of process",
        "cores",
        Form::Stacked,
        &cores(report),
    ));
    let in_flight = [series("in flight", |point| {
        Some(count(point.in_flight as u64))
    })];
    body.push_str(&over_time(
        "Under way",
        "executions",
        Form::Lines,
        &in_flight,
    ));
}

/// The cores of each kind of process that can be seen.
fn cores(report: &Report) -> Vec<Series> {
    let kinds = report.cpu_by_process.keys();
    kinds
        .map(|kind| Series {
            name: (*kind).to_owned(),
            values: report
                .timeline
                .iter()
                .map(|point| point.cores.get(kind).copied().flatten())
                .collect(),
        })
        .collect()
}

fn tables(body: &mut String, report: &Report) {
    let result = report.rows().into_iter();
    body.push_str(&card(
        "Result",
        &table(&[], result.map(|(name, value)| vec![name, value])),
    ));
    let stages = report.stages.stages.iter().map(|stage| {
        let name = format!("{} (from {}, to {})", stage.name, stage.from, stage.to);
        vec![name, shown(stage.p50_ms, 1), shown(stage.p99_ms, 1)]
    });
    let head = ["where the time goes", "p50 ms", "p99 ms"];
    body.push_str(&card("Stages", &table(&head, stages)));
    let messages = report.costs.messages.iter().map(|(kind, of)| {
        let of = of.map(
            |Messages {
                 published,
                 delivered,
             }| [published, delivered],
        );
        let side = |index: usize| shown(of.map(|of| of[index]), 2);
        vec![(*kind).to_owned(), side(0), side(1)]
    });
    let head = ["messages a task", "published", "delivered"];
    body.push_str(&card("Messages", &table(&head, messages)));
    let rows = report.costs.rows_by_table.iter().map(|(name, rows)| {
        let Rows {
            inserted,
            updated,
            updated_in_place,
            deleted,
        } = *rows;
        let numbers = [inserted, updated, updated_in_place, deleted];
        std::iter::once(name.clone())
            .chain(numbers.map(|number| format!("{number:.3}")))
            .collect()
    });
    let head = [
        "rows a task",
        "inserted",
        "updated",
        "of it in place",
        "deleted",
    ];
    body.push_str(&card("Rows", &table(&head, rows)));
    body.push_str(&card("Settings", &object(&report.settings)));
    body.push_str(&card("Machine and Postgres", &object(&report.machine)));
}

/// A table of the fields of something, those of objects within it one by one.
fn object<T: serde::Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).expect("a report has text keys");
    let mut rows = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Object(inner) => rows.extend(inner.iter().map(cells)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_)
            | serde_json::Value::Array(_) => rows.push(cells((name, value))),
        }
    }
    table(&[], rows.into_iter())
}

fn cells((name, value): (&String, &serde_json::Value)) -> Vec<String> {
    let shown = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "–".to_owned(),
        other @ (serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_)) => other.to_string(),
    };
    vec![name.replace('_', " "), shown]
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = "<table>".to_owned();
    if !head.is_empty() {
        line(&mut text, "th", head.iter());
    }
    for row in rows {
        line(&mut text, "td", row.iter());
    }
    text.push_str("</table>");
    text
}

fn line(text: &mut String, tag: &str, cells: impl Iterator<Item = impl AsRef<str>>) {
    text.push_str("<tr>");
    for cell in cells {
        add(
            text,
            format_args!("<{tag}>{}</{tag}>", escape(cell.as_ref())),
        );
    }
    text.push_str("</tr>");
}

fn card(title: &str, inner: &str) -> String {
    format!(
        "<section class='card'><h2>{}</h2>{inner}</section>",
        escape(title)
    )
}

/// Writing into a text cannot fail.
fn add(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_text_as_text() {
        let row = vec!["<a>".to_owned(), "1".to_owned()];
        assert_eq!(
            table(&["x", "y"], std::iter::once(row)),
            "<table><tr><th>x</th><th>y</th></tr><tr><td>&lt;a&gt;</td><td>1</td></tr></table>"
        );
    }

    #[test]
    fn an_object_is_a_line_for_each_field_and_those_within() {
        let value = serde_json::json!({"a_b": null, "inner": {"c": "d", "e": 1}});
        assert_eq!(
            object(&value),
            "<table><tr><td>a b</td><td>–</td></tr><tr><td>c</td><td>d</td></tr><tr><td>e</td><td>1</td></tr></table>"
        );
    }

    #[test]
    fn the_frame_has_one_place_and_loads_nothing() {
        assert_eq!(FRAME.matches(PLACE).count(), 1);
        assert!(!FRAME.contains("src=") && !FRAME.contains("href=") && !FRAME.contains("@import"));
    }
}
