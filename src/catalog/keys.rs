//! Reading one TOML table key by key: every value comes out typed with its place in the file,
//! whatever is wrong becomes a problem, and what nobody asked for is refused.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, did_you_mean};
use crate::saga::Millis;

/// Shorter than a millisecond is no time to the core.
const SHORTEST: Duration = Duration::from_millis(1);
/// No promise about an order is worth waiting for longer than a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A value and the bytes of the file that it was read from.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// A table being read. `step` names the step in every problem that is found.
pub(super) struct Keys<'a> {
    table: &'a DeTable<'a>,
    /// Where to point when a key is missing: the header of the table.
    pub span: Range<usize>,
    pub step: Option<String>,
    pub problems: Vec<Problem>,
}

impl<'a> Keys<'a> {
    pub fn new(table: &'a DeTable<'a>, span: Range<usize>, step: Option<String>) -> Keys<'a> {
        Keys { table, span, step, problems: Vec::new() }
    }

    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem.in_step(self.step.as_deref()));
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where a key is written; the table's header where it is not.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        let pair = self.table.get_key_value(key);
        pair.map_or(self.span.clone(), |(key, _)| key.span())
    }

    pub fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// Refuses every key that is not one of these.
    pub fn only(&mut self, known: &[&str]) {
        let unknown: Vec<_> = self
            .table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .map(|key| (key.get_ref().to_string(), key.span()))
            .collect();
        for (key, span) in unknown {
            let help = format!(
                "{}known keys here: {}",
                did_you_mean(&key, known.iter().copied()),
                known.join(", ")
            );
            let message = format!("there is no key '{key}' here");
            self.problem(Problem::new("makegood::definition::unknown-key", span, message, help));
        }
    }

    pub fn missing(&mut self, key: &str, help: &str) {
        let (span, message) = (self.span.clone(), format!("'{key}' is missing"));
        self.problem(Problem::new("makegood::definition::missing-key", span, message, help));
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str) {
        let message =
            format!("'{key}' must be {wanted}, this is of type {}", value.get_ref().type_str());
        let help = format!("write {key} as {wanted}");
        self.problem(Problem::new("makegood::definition::type", value.span(), message, help));
    }

    pub fn text(&mut self, key: &str) -> Option<Found<String>> {
        let value = self.value(key)?;
        if let DeValue::String(text) = value.get_ref() {
            return Some(Found { value: text.to_string(), span: value.span() });
        }
        self.wrong_type(value, key, "a text");
        None
    }

    pub fn texts(&mut self, key: &str) -> Option<Found<Vec<Found<String>>>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(value, key, "a list of texts");
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    texts.push(Found { value: text.to_string(), span: item.span() });
                }
                _ => self.wrong_type(item, key, "a list of texts"),
            }
        }
        Some(Found { value: texts, span: value.span() })
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(value, key, "true or false");
        }
        flag
    }

    pub fn integer(&mut self, key: &str) -> Option<Found<i64>> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer();
        match number.and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok()) {
            Some(number) => Some(Found { value: number, span: value.span() }),
            None => {
                self.wrong_type(value, key, "a whole number");
                None
            }
        }
    }

    pub fn number(&mut self, key: &str) -> Option<Found<f64>> {
        let value = self.value(key)?;
        let parsed = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        match parsed {
            Some(number) => Some(Found { value: number, span: value.span() }),
            None => {
                self.wrong_type(value, key, "a number");
                None
            }
        }
    }

    /// A span of time, such as `"90s"`, between a millisecond and a year.
    pub fn duration(&mut self, key: &str) -> Option<Millis> {
        let found = self.text(key)?;
        match parse_duration(&found.value) {
            Ok(span) => Some(span),
            Err((message, help)) => {
                let message = format!("'{key}': {message}");
                let code = "makegood::definition::duration";
                self.problem(Problem::new(code, found.span, message, help));
                None
            }
        }
    }

    /// A table within this one.
    pub fn table(&mut self, key: &str) -> Option<Keys<'a>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Keys::new(table, value.span(), self.step.clone())),
            _ => {
                self.wrong_type(value, key, "a table: { … }");
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub fn tables(&mut self, key: &str) -> Vec<(&'a DeTable<'a>, Range<usize>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(value, key, "a list of tables");
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => tables.push((table, item.span())),
                _ => self.wrong_type(item, key, "a list of tables"),
            }
        }
        tables
    }
}

/// Reads `"10s"`, `"2m"`, `"14d"`; what is wrong comes with what to do about it.
pub(super) fn parse_duration(text: &str) -> Result<Millis, (String, String)> {
    let help = "write a number with its unit: 500ms, 10s, 2m, 8h, 14d";
    let span = humantime::parse_duration(text)
        .map_err(|_| (format!("'{text}' is no duration"), help.to_owned()))?;
    if span < SHORTEST {
        return Err((format!("'{text}' is shorter than 1ms"), "use at least 1ms".to_owned()));
    }
    if span > LONGEST {
        return Err((format!("'{text}' is longer than 365d"), "use at most 365d".to_owned()));
    }
    Ok(Millis(u64::try_from(span.as_millis()).expect("a year of milliseconds fits")))
}
