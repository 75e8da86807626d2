//! Reads one field of an object, and says what is wrong with it in the words of whoever wrote it.
//!
//! A field that is missing, `null` or (for texts) empty is `None`.

use serde_json::{Map, Value};
use url::Url;

use super::error::{RecordError, cut};

/// An object's fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// What stands there, unless it is `null`.
    pub(super) fn get(self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// A text, without the white space around it.
    pub(super) fn text(self, field: &str) -> Result<Option<&'a str>, RecordError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong_type(field, other, "text")),
        }
    }

    /// A text that may be written as a number, for identifiers that are numbers.
    pub(super) fn text_or_number(self, field: &str) -> Result<Option<String>, RecordError> {
        match self.get(field) {
            Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
            _ => Ok(self.text(field)?.map(str::to_owned)),
        }
    }

    /// A whole number; spreadsheets and data frames write `2020.0` and `"2020"` too.
    pub(super) fn whole(self, field: &'static str) -> Result<Option<Whole>, RecordError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let found = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => cut(text.trim()),
            other => return Err(wrong_type(field, other, "a number")),
        };
        let digits = found.strip_suffix(".0").unwrap_or(&found);
        Ok(Some(Whole { value: digits.parse().ok(), field, found: found.clone() }))
    }

    /// A URL.
    pub(super) fn url(self, field: &str) -> Result<Option<Url>, RecordError> {
        self.text(field)?.map(|text| url(field, text)).transpose()
    }

    /// A list of URLs; a lone one counts as a list of one.
    pub(super) fn urls(self, field: &str) -> Result<Vec<Url>, RecordError> {
        let texts = self.texts(field)?;
        texts.into_iter().map(|(name, text)| url(&name, text)).collect()
    }

    /// A list of texts, each with the name of its place.
    pub(super) fn texts(self, field: &str) -> Result<Vec<(String, &'a str)>, RecordError> {
        let items = match self.get(field) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec![(field.to_owned(), text.trim())]),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong_type(field, other, "a list")),
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_null()) {
            let name = format!("{field}[{index}]");
            match item {
                Value::String(text) => texts.push((name, text.trim())),
                other => return Err(wrong_type(&name, other, "text")),
            }
        }
        texts.retain(|(_, text)| !text.is_empty());
        Ok(texts)
    }
}

/// A number as it stands, and its value if it is a whole one.
#[derive(Debug)]
pub(super) struct Whole {
    value: Option<i128>,
    field: &'static str,
    pub(super) found: String,
}

impl Whole {
    /// The value, if it lies between these.
    pub(super) fn within(&self, least: i128, most: i128) -> Option<i128> {
        self.value.filter(|value| (least..=most).contains(value))
    }

    /// That it does not.
    pub(super) fn refuse(self, wanted: &'static str) -> RecordError {
        RecordError::BadNumber { field: self.field, found: self.found, wanted }
    }
}

fn url(field: &str, text: &str) -> Result<Url, RecordError> {
    Url::parse(text).map_err(|error| RecordError::BadUrl {
        field: field.to_owned(),
        url: cut(&crate::redact::unparsable(text)),
        why: error.to_string(),
    })
}

pub(super) fn wrong_type(field: &str, found: &Value, wanted: &'static str) -> RecordError {
    RecordError::WrongType { field: field.to_owned(), found: kind(found), wanted }
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
