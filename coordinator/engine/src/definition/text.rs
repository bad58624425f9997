//! Helpers for what diagnostics say: places within a text, and what was probably meant.

use std::ops::Range;

use super::tree::Place;

/// The place of `range` of a text within the source; of the whole text where YAML has rewritten it
/// (escapes, folded lines) beyond recognition.
pub(super) fn locate(source: &str, whole: &Place, text: &str, range: &Range<usize>) -> Place {
    let start = whole.span.start;
    // Spans of texts in blocks end where the parser stood; what follows does no harm.
    let written = &source[start..whole.span.end.max(start)];
    let found = match written.find(text) {
        Some(at) => Some(at + range.start),
        None => line_of(written, text, range.start),
    };
    let Some(begin) = found.map(|at| at + start) else {
        return whole.clone();
    };
    let length = range
        .len()
        .max(1)
        .min(source.len() - begin.min(source.len()));
    if !source.is_char_boundary(begin) {
        return whole.clone();
    }
    let mut end = (begin + length).min(source.len());
    while !source.is_char_boundary(end) {
        end += 1;
    }
    place_at(source, begin..end)
}

/// Where the line of `text` that holds `at` stands in what was written, if only the indentation
/// differs.
fn line_of(written: &str, text: &str, at: usize) -> Option<usize> {
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next()?;
    let found = written.find(line)?;
    Some(found + at - line_start)
}

fn place_at(source: &str, span: Range<usize>) -> Place {
    let before = &source[..span.start];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        span,
    }
}

/// The candidate that is closest to `word`, if it is close.
#[must_use]
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`
#[must_use]
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean {candidate}?"))
}

/// How many characters have to be inserted, removed, replaced or swapped.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).collect();
    let right: Vec<char> = right.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = row[j] + usize::from(a != b);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(
            closest("on_sucess", ["on_success", "on_failure"]),
            Some("on_success")
        );
        assert_eq!(
            closest("paramters", ["parameters", "vars"]),
            Some("parameters")
        );
        assert_eq!(closest("nxet", ["next", "name"]), Some("next"));
        assert_eq!(closest("banana", ["next", "name"]), None);
    }
}
