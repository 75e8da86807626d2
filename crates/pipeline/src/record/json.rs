//! A JSON reader that refuses what the usual one lets pass: a key that stands twice, and towers of brackets.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::{RecordError, cut};

/// How deep objects and lists may lie within each other.
const MOST_LEVELS: usize = 64;

/// Reads one JSON text.
pub(super) fn parse(text: &str) -> Result<Value, RecordError> {
    let fault = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Seed { levels: MOST_LEVELS, fault: &fault }.deserialize(&mut reader);
    value.and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let position = match error.line() {
            0 | 1 => format!("column {}", error.column()),
            line => format!("line {line}, column {}", error.column()),
        };
        match fault.take() {
            Some(Fault::Twice(key)) => RecordError::DuplicateKey { key, position },
            Some(Fault::Deep) => RecordError::TooDeep { limit: MOST_LEVELS, position },
            None => {
                let said = error.to_string();
                let what = said.split(" at line ").next().unwrap_or_default();
                RecordError::NotJson { what: cut(what), position }
            }
        }
    })
}

/// What the error type of the reader cannot carry.
enum Fault {
    Twice(String),
    Deep,
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    levels: usize,
    fault: &'a RefCell<Option<Fault>>,
}

impl Seed<'_> {
    fn fail<E: Error>(&self, fault: Fault) -> E {
        self.fault.replace(Some(fault));
        E::custom("refused")
    }

    fn deeper<E: Error>(mut self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => {
                self.levels = levels;
                Ok(self)
            }
            None => Err(self.fail(Fault::Deep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.fail(Fault::Twice(cut(&key))));
            }
            let value = entries.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
