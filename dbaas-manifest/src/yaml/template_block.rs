//! Templates over several lines: `content: f"`, lines, a line with `"` alone.
//!
//! In YAML the lines of a plain scalar are folded into one, and lines that are no deeper than their key are
//! an error. Here both mean what the eye sees: the lines, without the indentation that they share.

/// A text in which templates are block scalars.
pub(super) struct Rewritten {
    pub(super) text: String,
    /// The original line of each line.
    pub(super) lines: Vec<usize>,
}

/// Writes each template as a block scalar; `None` if there is none.
pub(super) fn rewrite(text: &str) -> Option<Rewritten> {
    let source: Vec<&str> = text.lines().collect();
    let (mut out, mut lines, mut any) = (String::with_capacity(text.len() + 64), Vec::new(), false);
    let mut put = |line: &str, number: usize| {
        out.push_str(line);
        out.push('\n');
        lines.push(number);
    };
    let mut at = 0;
    // Ends: `at` grows with each round.
    while at < source.len() {
        let line = source[at];
        let end = opens(line).and_then(|_| {
            let closing = |line: &&str| line.trim() == "\"";
            source[at + 1..].iter().position(closing).map(|n| at + 1 + n)
        });
        let (Some(head), Some(end)) = (opens(line), end) else {
            put(line, at + 1);
            at += 1;
            continue;
        };
        any = true;
        put(&format!("{head}|-"), at + 1);
        let depth = " ".repeat(line.len() - line.trim_start_matches([' ', '-']).len() + 2);
        put(&format!("{depth}f\""), at + 1);
        let body = dedent(&source[at + 1..end]);
        for (offset, line) in body.iter().enumerate() {
            put(&format!("{depth}{line}"), at + 2 + offset);
        }
        put(&format!("{depth}\""), end + 1);
        at = end + 1;
    }
    any.then_some(Rewritten { text: out, lines })
}

/// What stands before a template that begins at the end of the line.
fn opens(line: &str) -> Option<&str> {
    let head = line.trim_end().strip_suffix("f\"")?;
    let before = head.trim_end();
    let is_value = before.ends_with(':') || before.trim_start() == "-" || before.ends_with(" -");
    (is_value && head.len() > before.len()).then_some(head)
}

/// The lines of a plain scalar as it stands in the text: the first one begins in the middle of a line.
pub(super) fn dedented(raw: &str) -> String {
    let mut lines = raw.trim_end().lines();
    let first = lines.next().unwrap_or_default().trim_end().to_owned();
    let mut rest: Vec<&str> = lines.collect();
    let last = rest.pop_if(|line| line.trim() == "\"");
    let mut out = vec![first];
    out.extend(dedent(&rest).into_iter().map(str::to_owned));
    out.extend(last.map(|line| line.trim().to_owned()));
    out.join("\n")
}

/// The lines without the spaces that all of them begin with.
fn dedent<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let depth = |line: &&str| line.len() - line.trim_start_matches(' ').len();
    let shared = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(depth)
        .min()
        .unwrap_or(0);
    lines
        .iter()
        .map(|line| line.get(shared..).unwrap_or("").trim_end_matches('\r'))
        .collect()
}
