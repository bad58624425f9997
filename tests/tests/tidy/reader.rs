//! A small reader of Rust: where functions begin and end, and what is code and what is not.

pub fn function_name(line: &str) -> Option<&str> {
    let (at, _) = line
        .match_indices("fn ")
        .find(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))?;
    let rest = line[at + 3..].trim_start();
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// The line on which the item that begins on `start`, at the given name, closes its braces.
/// None if it ends without a body.
pub fn function_end(lines: &[&str], start: usize, name: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0, 0);
    for (index, line) in lines.iter().enumerate().skip(start) {
        let skipped = if index == start {
            line.find(&format!("fn {name}")).unwrap_or(0)
        } else {
            0
        };
        for c in line[skipped..].chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                '{' => braces += 1,
                '}' => braces -= 1,
                ';' if braces == 0 && brackets == 0 => return None,
                _ => continue,
            }
            if c == '}' && braces == 0 {
                return Some(index);
            }
        }
    }
    None
}

/// Replaces comments, strings and characters by blanks, and keeps every newline.
pub fn blank_rust(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    code
}

/// Where the comment, string or character that begins here ends; the place itself if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let ahead = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    let in_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], ahead(1)) {
        ('/', '/') => (at..chars.len())
            .find(|i| chars[*i] == '\n')
            .unwrap_or(chars.len()),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('r', '"' | '#') if !in_name => raw_string_end(chars, at + 1).unwrap_or(at),
        ('b' | 'c', 'r') if !in_name => raw_string_end(chars, at + 2).unwrap_or(at),
        ('\'', '\\') => (at + 3..chars.len())
            .find(|i| chars[*i] == '\'')
            .map_or(chars.len(), |i| i + 1),
        ('\'', _) if ahead(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    let opening = start + hashes;
    if chars.get(opening) != Some(&'"') {
        return None;
    }
    let closes = |at: usize| {
        chars[at] == '"'
            && chars[at + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
    };
    let closing = (opening + 1..chars.len()).find(|at| closes(*at));
    Some(closing.map_or(chars.len(), |at| at + 1 + hashes))
}
