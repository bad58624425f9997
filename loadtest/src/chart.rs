//! Plots as SVG text, drawn by hand: lines and stacked areas over time, and bars. A point tells its
//! value when the mouse rests on it.

use std::fmt::Write;

/// The size of a plot, in its own units; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Lines of the grid that a scale aims at.
const GRID_LINES: f64 = 5.0;
/// Points that are marked one by one; more would hide the line.
const MARKED_POINTS: usize = 120;

/// The colours of series, in order; told apart also by people who see few colours.
pub const COLOURS: [&str; 5] = ["#2563eb", "#ea580c", "#059669", "#9333ea", "#ca8a04"];

/// Values over time.
#[derive(Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// A value for each time; none where nothing is known.
    pub values: Vec<Option<f64>>,
}

/// How series share a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each is a line from zero.
    Lines,
    /// Each is an area on top of the one before.
    Stacked,
}

/// A plot over time.
#[derive(Debug)]
pub struct OverTime<'a> {
    /// The times, in seconds.
    pub times: &'a [f64],
    /// What is drawn.
    pub series: &'a [Series],
    /// How.
    pub form: Form,
    /// The unit of the values.
    pub unit: &'a str,
    /// From when to when the measurement lasted.
    pub window: (f64, f64),
}

impl OverTime<'_> {
    /// The plot with its legend.
    pub fn draw(&self) -> String {
        let levels = self.levels();
        let highest = levels.iter().flatten().flatten().map(|(_, to)| *to);
        let scale = Scale::new(
            self.times.last().copied().unwrap_or(1.0),
            highest.fold(0.0, f64::max),
        );
        let mut svg = begin();
        scale.shade(&mut svg, self.window);
        scale.grid(&mut svg, self.unit);
        scale.times(&mut svg);
        for (index, (series, levels)) in self.series.iter().zip(&levels).enumerate() {
            self.draw_series(
                &mut svg,
                &scale,
                COLOURS[index % COLOURS.len()],
                series,
                levels,
            );
        }
        svg.push_str("</svg>");
        self.legend(&mut svg);
        svg
    }

    /// From where to where each value reaches.
    fn levels(&self) -> Vec<Vec<Option<(f64, f64)>>> {
        let mut below = vec![0.0; self.times.len()];
        let mut levels = Vec::with_capacity(self.series.len());
        for series in self.series {
            let reach = |(value, below): (&Option<f64>, &mut f64)| {
                let from = *below;
                let to = from + (*value)?;
                if self.form == Form::Stacked {
                    *below = to;
                }
                Some((from, to))
            };
            levels.push(series.values.iter().zip(&mut below).map(reach).collect());
        }
        levels
    }

    fn draw_series(
        &self,
        svg: &mut String,
        scale: &Scale,
        colour: &str,
        series: &Series,
        levels: &[Option<(f64, f64)>],
    ) {
        let points: Vec<(f64, f64, f64)> = self
            .times
            .iter()
            .zip(levels)
            .filter_map(|(time, level)| level.map(|(from, to)| (*time, from, to)))
            .collect();
        let line = path(points.iter().map(|(time, _, to)| scale.place(*time, *to)));
        let (Some((first, ..)), Some((last, ..))) = (points.first(), points.last()) else {
            return;
        };
        if self.form == Form::Stacked {
            let back = points.iter().rev();
            let back = back.map(|(time, from, _)| scale.place(*time, *from));
            let back = path(back).replacen('M', "L", 1);
            add(
                svg,
                format_args!("<path d='{line}{back}Z' fill='{colour}' fill-opacity='.75'/>"),
            );
        } else {
            add(
                svg,
                format_args!("<path d='{line}' fill='none' stroke='{colour}' stroke-width='2'/>"),
            );
        }
        // One point is no line.
        let is_marked = points.len() <= MARKED_POINTS || (last - first).abs() < f64::EPSILON;
        for (time, from, to) in points.iter().filter(|_| is_marked) {
            let (x, y) = scale.place(*time, *to);
            let value = number(to - from);
            add(
                svg,
                format_args!(
                    "<circle cx='{x:.1}' cy='{y:.1}' r='2.5' fill='{colour}'><title>{}: {value} {} at {time:.0} s</title></circle>",
                    escape(&series.name),
                    escape(self.unit),
                ),
            );
        }
    }

    fn legend(&self, svg: &mut String) {
        svg.push_str("<p class='legend'>");
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let name = escape(&series.name);
            add(
                svg,
                format_args!("<span><i style='background:{colour}'></i>{name}</span>"),
            );
        }
        svg.push_str("<span><i class='window'></i>measured</span></p>");
    }
}

/// Bars beside each other, each with the text under it and its value.
pub fn bars(bars: &[(String, f64)], unit: &str) -> String {
    let highest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let scale = Scale::new(1.0, highest);
    let mut svg = begin();
    scale.grid(&mut svg, unit);
    let number_of_bars = crate::timeline::count(bars.len().max(1) as u64);
    let step = (WIDTH - LEFT - RIGHT) / number_of_bars;
    let mut x = LEFT;
    let mut labelled_to = LEFT;
    for (label, value) in bars {
        let (_, y) = scale.place(0.0, *value);
        let height = HEIGHT - BOTTOM - y;
        add(
            &mut svg,
            format_args!(
                "<rect x='{:.1}' y='{y:.1}' width='{:.1}' height='{height:.1}' fill='{}'><title>{}: {} {}</title></rect>",
                step.mul_add(0.08, x),
                step * 0.84,
                COLOURS[0],
                escape(label),
                number(*value),
                escape(unit),
            ),
        );
        // A label only where it does not run into the one before.
        if x >= labelled_to {
            let middle = x + step / 2.0;
            let y = HEIGHT - BOTTOM + 16.0;
            let text = escape(label);
            add(
                &mut svg,
                format_args!("<text x='{middle:.1}' y='{y}' text-anchor='middle'>{text}</text>"),
            );
            labelled_to = x + step.max(52.0);
        }
        x += step;
    }
    svg.push_str("</svg>");
    svg
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&quot;")
}

/// A number as short as people like it.
pub fn number(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 => return format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Where values lie on a plot.
struct Scale {
    longest: f64,
    highest: f64,
    step: f64,
}

impl Scale {
    fn new(longest: f64, highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = round_step(highest / GRID_LINES);
        Self {
            longest: if longest > 0.0 { longest } else { 1.0 },
            highest: (highest / step).ceil() * step,
            step,
        }
    }

    fn place(&self, time: f64, value: f64) -> (f64, f64) {
        let x = time / self.longest * (WIDTH - LEFT - RIGHT) + LEFT;
        let y = HEIGHT - BOTTOM - value / self.highest * (HEIGHT - TOP - BOTTOM);
        (x, y)
    }

    fn grid(&self, svg: &mut String, unit: &str) {
        let mut value = 0.0;
        while value <= self.highest + self.step / 2.0 {
            let (x, y) = self.place(0.0, value);
            let (right, text_x, text_y) = (WIDTH - RIGHT, x - 6.0, y + 4.0);
            let text = number(value);
            add(
                svg,
                format_args!(
                    "<path class='grid' d='M{x:.1} {y:.1}H{right:.1}'/><text x='{text_x:.1}' y='{text_y:.1}' text-anchor='end'>{text}</text>"
                ),
            );
            value += self.step;
        }
        add(
            svg,
            format_args!(
                "<text x='{}' y='{}'>{}</text>",
                LEFT + 4.0,
                TOP + 2.0,
                escape(unit)
            ),
        );
    }

    fn times(&self, svg: &mut String) {
        let step = round_step(self.longest / GRID_LINES).max(1.0);
        let mut time = 0.0;
        while time <= self.longest {
            let (x, _) = self.place(time, 0.0);
            let y = HEIGHT - BOTTOM + 16.0;
            let text = number(time);
            add(
                svg,
                format_args!("<text x='{x:.1}' y='{y}' text-anchor='middle'>{text} s</text>"),
            );
            time += step;
        }
    }

    /// Marks from when to when was measured.
    fn shade(&self, svg: &mut String, (from, to): (f64, f64)) {
        let (left, _) = self.place(from, 0.0);
        let (right, _) = self.place(to.min(self.longest), 0.0);
        let (width, height) = ((right - left).max(0.0), HEIGHT - TOP - BOTTOM);
        add(
            svg,
            format_args!(
                "<rect class='window' x='{left:.1}' y='{TOP}' width='{width:.1}' height='{height:.1}'/>"
            ),
        );
    }
}

/// 1, 2 or 5 times a power of ten, at least as much as asked.
fn round_step(wanted: f64) -> f64 {
    let power = 10_f64.powf(wanted.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| factor * power >= wanted);
    factor.unwrap_or(10.0) * power
}

fn begin() -> String {
    format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>")
}

fn path(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in places {
        let letter = if path.is_empty() { 'M' } else { 'L' };
        add(&mut path, format_args!("{letter}{x:.1} {y:.1}"));
    }
    path
}

/// Writing into a text cannot fail.
fn add(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        Series {
            name: name.to_owned(),
            values: values.iter().map(|value| Some(*value)).collect(),
        }
    }

    fn over_time<'a>(series: &'a [Series], form: Form) -> OverTime<'a> {
        OverTime {
            times: &[1.0, 2.0],
            series,
            form,
            unit: "1/s",
            window: (1.0, 2.0),
        }
    }

    #[test]
    fn the_highest_value_lies_within_the_plot() {
        let scale = Scale::new(10.0, 4321.0);
        assert!(scale.highest >= 4321.0 && scale.highest <= 5000.0);
        assert_eq!(scale.place(10.0, scale.highest), (WIDTH - RIGHT, TOP));
        assert_eq!(scale.place(0.0, 0.0), (LEFT, HEIGHT - BOTTOM));
    }

    #[test]
    fn stacked_values_lie_on_those_below() {
        let series = [series("a", &[1.0, 2.0]), series("b", &[10.0, 20.0])];
        let stacked = over_time(&series, Form::Stacked).levels();
        assert_eq!(stacked[1], [Some((1.0, 11.0)), Some((2.0, 22.0))]);
        let lines = over_time(&series, Form::Lines).levels();
        assert_eq!(lines[1], [Some((0.0, 10.0)), Some((0.0, 20.0))]);
    }

    #[test]
    fn unknown_values_leave_a_gap_and_nothing_breaks_without_any() {
        let mut gap = series("a", &[1.0, 2.0]);
        gap.values[1] = None;
        let drawn = over_time(&[gap], Form::Lines).draw();
        assert_eq!(drawn.matches("<circle").count(), 1);
        let none = Series {
            name: "none".to_owned(),
            values: vec![None, None],
        };
        let drawn = over_time(&[none], Form::Stacked).draw();
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert!(!bars(&[], "x").contains("NaN"));
    }

    #[test]
    fn names_cannot_break_the_page() {
        let drawn = over_time(&[series("<b>'&", &[1.0, 2.0])], Form::Lines).draw();
        assert!(drawn.contains("&lt;b&gt;&#39;&amp;"));
        assert!(!drawn.contains("<b>"));
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 5.0, 10.0, 0.25, 12.34, 1234.5].map(number);
        assert_eq!(shown, ["0", "5", "10", "0.25", "12.3", "1234"]);
    }

    #[test]
    fn steps_are_round() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(round_step(0.03), 0.05) && near(round_step(12.0), 20.0));
        assert!(near(round_step(100.0), 100.0) && near(round_step(7.0), 10.0));
    }
}
