//! Findings in a file as pictures: the line, what is wrong under it, and what would be right.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use flotilla_engine::diagnostic::{Diagnostic, Severity};

use crate::source::Source;

/// Draws all findings of a file.
pub fn draw(source: &Source, is_colourful: bool) -> Vec<String> {
    let renderer = if is_colourful {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    source
        .findings
        .iter()
        .map(|finding| renderer.render(&[group(source, finding)]))
        .collect()
}

fn group<'a>(source: &'a Source, finding: &'a Diagnostic) -> Group<'a> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&finding.message).id(finding.code);
    let mark = AnnotationKind::Primary.span(span(source, finding));
    let mark = if finding.path.is_empty() {
        mark
    } else {
        mark.label(&finding.path)
    };
    let snippet = Snippet::source(&source.text)
        .path(&source.file)
        .annotation(mark);
    let group = title.element(snippet);
    match &finding.hint {
        Some(hint) => group.element(Level::HELP.message(hint)),
        None => group,
    }
}

/// The marked place: within the text, on one line, and on the borders of characters.
fn span(source: &Source, finding: &Diagnostic) -> std::ops::Range<usize> {
    let text = &source.text;
    let start = text.floor_char_boundary(finding.span.start.min(text.len()));
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = text.floor_char_boundary(finding.span.end.clamp(start, line_end));
    start..end
}
