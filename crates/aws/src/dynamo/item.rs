//! Items: how attributes are written and read. What they mean is for the files by noun beside this one.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    str::FromStr,
};

use airunner_core::{Error, Result, Timestamp};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use serde::{Serialize, de::DeserializeOwned};

/// One row's attributes.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Counts the writes of a row: what was decided on one count is not written over another.
pub(super) const REVISION: &str = "rev";

/// Builds an item.
#[derive(Default)]
pub(super) struct Fields(Item);

impl Fields {
    pub(super) fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, AttributeValue::S(value.into()))
    }

    /// A value by its word.
    pub(super) fn word(self, name: &str, value: impl Display) -> Self {
        self.text(name, value.to_string())
    }

    pub(super) fn word_or_none(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.word(name, value),
            None => self,
        }
    }

    pub(super) fn number(self, name: &str, value: impl Display) -> Self {
        self.set(name, AttributeValue::N(value.to_string()))
    }

    pub(super) fn number_or_none(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    pub(super) fn time(self, name: &str, at: Timestamp) -> Self {
        self.number(name, at.as_millis())
    }

    pub(super) fn time_or_none(self, name: &str, at: Option<Timestamp>) -> Self {
        self.number_or_none(name, at.map(Timestamp::as_millis))
    }

    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        self.set(name, AttributeValue::Bool(value))
    }

    pub(super) fn bytes(self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.set(name, AttributeValue::B(Blob::new(value)))
    }

    /// A list of words, which a hand can write.
    pub(super) fn words(self, name: &str, values: impl IntoIterator<Item = impl Display>) -> Self {
        let words = values.into_iter().map(|value| AttributeValue::S(value.to_string())).collect();
        self.set(name, AttributeValue::L(words))
    }

    /// Labels, which a hand can write.
    pub(super) fn labels(self, name: &str, labels: &BTreeMap<String, String>) -> Self {
        let entry = |(key, value): (&String, &String)| (key.clone(), AttributeValue::S(value.clone()));
        self.set(name, AttributeValue::M(labels.iter().map(entry).collect()))
    }

    pub(super) fn json<T: Serialize + ?Sized>(self, name: &str, value: &T) -> Result<Self> {
        Ok(self.text(name, serde_json::to_string(value).map_err(Error::internal)?))
    }

    pub(super) fn json_or_none<T: Serialize>(self, name: &str, value: Option<&T>) -> Result<Self> {
        match value {
            Some(value) => self.json(name, value),
            None => Ok(self),
        }
    }

    pub(super) fn done(self) -> Item {
        self.0
    }

    fn set(mut self, name: &str, value: AttributeValue) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }
}

/// Reads attributes; what is not as it must be is our failure, which names the attribute.
pub(super) struct Row<'i>(pub(super) &'i Item);

impl Row<'_> {
    pub(super) fn text(&self, name: &str) -> Result<&str> {
        self.text_or_none(name)?.ok_or_else(|| missing(name))
    }

    pub(super) fn text_or_none(&self, name: &str) -> Result<Option<&str>> {
        match self.0.get(name) {
            None | Some(AttributeValue::Null(_)) => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(unreadable(name, "it is no text")),
        }
    }

    /// Text that a hand may have left out.
    pub(super) fn text_or_empty(&self, name: &str) -> Result<String> {
        Ok(self.text_or_none(name)?.unwrap_or_default().to_owned())
    }

    pub(super) fn word<T: FromStr<Err = Error>>(&self, name: &str) -> Result<T> {
        self.text(name)?.parse().map_err(|error: Error| unreadable(name, &error))
    }

    pub(super) fn word_or_none<T: FromStr<Err = Error>>(&self, name: &str) -> Result<Option<T>> {
        let read = |text: &str| text.parse().map_err(|error: Error| unreadable(name, &error));
        self.text_or_none(name)?.map(read).transpose()
    }

    pub(super) fn words<T: FromStr<Err = Error>>(&self, name: &str) -> Result<Vec<T>> {
        let texts: Vec<&String> = match self.0.get(name) {
            None | Some(AttributeValue::Null(_)) => Vec::new(),
            Some(AttributeValue::Ss(texts)) => texts.iter().collect(),
            Some(AttributeValue::L(values)) => values
                .iter()
                .map(|value| value.as_s().map_err(|_| unreadable(name, "it holds more than texts")))
                .collect::<Result<_>>()?,
            Some(_) => return Err(unreadable(name, "it is no list")),
        };
        texts.into_iter().map(|text| text.parse().map_err(|error: Error| unreadable(name, &error))).collect()
    }

    pub(super) fn labels(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let Some(AttributeValue::M(labels)) = self.0.get(name) else { return Ok(BTreeMap::new()) };
        let read = |(key, value): (&String, &AttributeValue)| match value {
            AttributeValue::S(value) => Ok((key.clone(), value.clone())),
            _ => Err(unreadable(name, "a label is text")),
        };
        labels.iter().map(read).collect()
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<T> {
        self.number_or_none(name)?.ok_or_else(|| missing(name))
    }

    pub(super) fn number_or_none<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        match self.0.get(name) {
            None | Some(AttributeValue::Null(_)) => Ok(None),
            Some(AttributeValue::N(text)) => {
                text.parse().map(Some).map_err(|_| unreadable(name, "its number is out of range"))
            }
            Some(_) => Err(unreadable(name, "it is no number")),
        }
    }

    pub(super) fn time(&self, name: &str) -> Result<Timestamp> {
        self.number(name).map(Timestamp::from_millis)
    }

    pub(super) fn time_or_none(&self, name: &str) -> Result<Option<Timestamp>> {
        Ok(self.number_or_none(name)?.map(Timestamp::from_millis))
    }

    /// Whether it is set: a hand may write `true` as a text, or 1.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.0.get(name) {
            Some(AttributeValue::Bool(flag)) => *flag,
            Some(AttributeValue::S(text)) => !matches!(text.as_str(), "" | "0" | "false"),
            Some(AttributeValue::N(number)) => number != "0",
            _ => false,
        }
    }

    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        match self.0.get(name) {
            Some(AttributeValue::B(bytes)) => Ok(bytes.as_ref().to_vec()),
            Some(_) => Err(unreadable(name, "it is not binary")),
            None => Err(missing(name)),
        }
    }

    /// Exactly as many bytes as are wanted.
    pub(super) fn array<const N: usize>(&self, name: &str) -> Result<[u8; N]> {
        self.bytes(name)?.try_into().map_err(|_| unreadable(name, "it has another length"))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_str(self.text(name)?).map_err(|error| unreadable(name, &error))
    }

    pub(super) fn json_or_none<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let read = |text: &str| serde_json::from_str(text).map_err(|error| unreadable(name, &error));
        self.text_or_none(name)?.map(read).transpose()
    }
}

fn missing(name: &str) -> Error {
    Error::internal(format!("a row has no {name}"))
}

fn unreadable(name: &str, why: impl Display) -> Error {
    Error::internal(format!("a row's {name} can't be read: {why}"))
}
