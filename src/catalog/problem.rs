//! What is wrong with a definition file, shown so that its author can put it right: the line,
//! the key, a stable code, and what to do. All problems of a file are reported at once.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use serde_json::json;

/// The most problems of one file that are told: who looks at more has another file in hand. Each
/// is drawn with its line, which is looked for from the top of the file.
const MAX_PROBLEMS: usize = 50;

/// One thing that is wrong in a definition file.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The step it is about; `None` for the file as a whole.
    pub step: Option<String>,
    /// `makegood::definition::…`; stable, so that documentation can be keyed by it.
    pub code: &'static str,
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// The bytes of the file that show it best.
    pub span: Range<usize>,
    source: Option<Arc<NamedSource<String>>>,
}

impl Problem {
    #[must_use]
    pub fn new(
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        let (message, help) = (message.into(), help.into());
        Problem { step: None, code, message, help, span, source: None }
    }

    #[must_use]
    pub fn in_step(self, step: Option<&str>) -> Problem {
        Problem { step: step.map(str::to_owned), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "step '{step}': {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source.as_deref().map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// All problems of one file, in the order of its lines; never empty.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{file}: {} problem(s) in the definition", problems.len())]
pub struct CatalogErrors {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl CatalogErrors {
    #[must_use]
    pub fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> CatalogErrors {
        assert!(!problems.is_empty(), "errors are made from at least one problem");
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        leave_out_the_rest(&mut problems);
        let source = Arc::new(NamedSource::new(file, text.to_owned()).with_language("TOML"));
        for problem in &mut problems {
            // A span that reaches over several lines would drown its message in source text.
            let whole = text.get(problem.span.clone()).unwrap_or_default();
            let line = whole.lines().next().unwrap_or_default().len();
            problem.span.end = problem.span.start + line;
            problem.source = Some(Arc::clone(&source));
        }
        CatalogErrors { file: file.to_owned(), problems }
    }

    /// For a terminal: each problem with its line, the key underlined, and what to do.
    #[must_use]
    pub fn to_fancy(&self, colours: bool) -> String {
        let theme =
            if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false);
        let mut out = String::new();
        for problem in &self.problems {
            handler.render_report(&mut out, problem).expect("writing to a string cannot fail");
        }
        out
    }

    /// For editors and CI: `{file, line, column, step, code, message, help}`, lines and
    /// columns from 1, columns in characters.
    #[must_use]
    pub fn to_json(&self) -> Vec<serde_json::Value> {
        let describe = |problem: &Problem| {
            let (line, column) = self.position(problem);
            json!({
                "file": self.file, "line": line, "column": column, "step": problem.step,
                "code": problem.code, "message": problem.message, "help": problem.help,
            })
        };
        self.problems.iter().map(describe).collect()
    }

    /// Line and column of a problem, both from 1.
    #[must_use]
    pub fn position(&self, problem: &Problem) -> (usize, usize) {
        let text = problem.source.as_ref().map_or("", |source| source.inner().as_str());
        let before = text.get(..problem.span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Tells of those beyond the bound in one line, at the place of the first.
fn leave_out_the_rest(problems: &mut Vec<Problem>) {
    let Some(first) = problems.get(MAX_PROBLEMS) else { return };
    let (at, more) = (first.span.start, problems.len() - MAX_PROBLEMS);
    let message = format!("{more} more problems from here on");
    problems.truncate(MAX_PROBLEMS);
    let help = "put the others right first";
    problems.push(Problem::new("makegood::definition::more", at..at, message, help));
}

/// The known word that is most like a misspelt one, if any is close enough to be meant.
#[must_use]
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, best) = known.into_iter().map(|other| (edits(word, other), other)).min()?;
    (distance <= 1 + word.chars().count() / 3).then_some(best)
}

/// "did you mean 'x'? " or nothing.
#[must_use]
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or(String::new(), |best| format!("did you mean '{best}'? "))
}

/// Levenshtein's distance: insertions, removals and replacements of one character.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, here) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, there) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(here != *there);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{MAX_PROBLEMS, nearest};

    #[test]
    fn of_a_file_that_is_no_definition_at_all_only_the_beginning_is_told() {
        let text = format!("name = \"x\"\n{}", "= 1 = \n".repeat(10_000));
        let problems = crate::catalog::load("x.toml", &text).expect_err("no TOML").to_json();
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        assert_eq!(problems[0]["line"], 2);
        let last = &problems[MAX_PROBLEMS];
        assert_eq!(last["code"], "makegood::definition::more");
        assert!(last["message"].as_str().is_some_and(|said| said.ends_with("from here on")));
        assert!(problems[MAX_PROBLEMS - 1]["line"].as_u64() <= last["line"].as_u64());
    }

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_finds_none() {
        let known = ["give_up", "resend", "deadline"];
        assert_eq!(nearest("giveup", known), Some("give_up"));
        assert_eq!(nearest("dedline", known), Some("deadline"));
        assert_eq!(nearest("colour", known), None);
    }
}
