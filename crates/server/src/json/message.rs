//! From JSON, path and query to the bytes of a message.

use std::borrow::Cow;

use prost::Message as _;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions,
};
use serde_json::{Map, Value};

use super::{Fault, once, route::Rule};

/// What a binding takes from beside the body.
pub(super) struct Parts<'a> {
    pub(super) rule: &'a Rule,
    pub(super) variables: &'a [(String, String)],
    pub(super) query: Vec<(String, String)>,
}

/// The bytes of the message that is written here in JSON; nothing is the empty message.
pub(super) fn from_json(descriptor: &MessageDescriptor, json: &[u8]) -> Result<Vec<u8>, Fault> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    once::check(Some(descriptor.clone()), json).map_err(unreadable)?;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut reader, &strict());
    let message = read.and_then(|message| reader.end().map(|()| message)).map_err(unreadable)?;
    Ok(message.encode_to_vec())
}

/// A message in JSON.
pub(super) fn to_json(descriptor: &MessageDescriptor, message: &[u8]) -> Result<Vec<u8>, String> {
    let message = DynamicMessage::decode(descriptor.clone(), message).map_err(|error| error.to_string())?;
    write(&message)
}

/// A message that has been read already.
pub(super) fn write(message: &DynamicMessage) -> Result<Vec<u8>, String> {
    let mut json = Vec::with_capacity(256);
    let mut writer = serde_json::Serializer::new(&mut json);
    let written = message.serialize_with_options(&mut writer, &SerializeOptions::new());
    written.map_err(|error| error.to_string())?;
    Ok(json)
}

/// The names and values of a query.
pub(crate) fn query(query: &str) -> Result<Vec<(String, String)>, Fault> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned);
        decoded.map_err(|_| Fault::content("the query's percent encoding is not of UTF-8"))
    };
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The field at a path of names, with dots between.
pub(super) fn field_at(descriptor: &MessageDescriptor, path: &str) -> Result<FieldDescriptor, String> {
    let mut within = descriptor.clone();
    let mut names = path.split('.').peekable();
    loop {
        let name = names.next().unwrap_or_default();
        let field = field(&within, name)
            .ok_or_else(|| format!("{} has no field {name:?}", descriptor.full_name()))?;
        if names.peek().is_none() {
            return Ok(field);
        }
        match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => within = inner,
            _ => return Err(format!("{name:?} of {} has no fields", descriptor.full_name())),
        }
    }
}

fn field(descriptor: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name))
}

impl Parts<'_> {
    /// The bytes of the message that body, path and query are together.
    pub(super) fn message(self, descriptor: &MessageDescriptor, body: &[u8]) -> Result<Vec<u8>, Fault> {
        if self.rule.body == "*" && self.variables.is_empty() && self.query.is_empty() {
            return from_json(descriptor, body);
        }
        let mut whole = self.of_body(descriptor, body)?;
        if self.rule.body == "*" && !self.query.is_empty() {
            return Err(Fault::content("this path takes its fields from the body: send no query"));
        }
        for (path, text) in &self.query {
            let field = field_at(descriptor, path).map_err(|_| {
                Fault::field(path, &format!("the query names what {} does not have", descriptor.name()))
            })?;
            if self.variables.iter().any(|(known, _)| known == path) {
                return Err(Fault::field(path, "the path says it already: leave it out of the query"));
            }
            put(&mut whole, path, &field, text, "the query")?;
        }
        for (path, text) in self.variables {
            let field = field_at(descriptor, path).map_err(Fault::content)?;
            put(&mut whole, path, &field, text, "the path")?;
        }
        let read =
            DynamicMessage::deserialize_with_options(descriptor.clone(), Value::Object(whole), &strict());
        read.map(|message| message.encode_to_vec()).map_err(unreadable)
    }

    fn of_body(&self, descriptor: &MessageDescriptor, body: &[u8]) -> Result<Map<String, Value>, Fault> {
        if self.rule.body.is_empty() {
            if body.iter().all(u8::is_ascii_whitespace) {
                return Ok(Map::new());
            }
            return Err(Fault::content("this path takes no body: send its fields in the query"));
        }
        if body.is_empty() {
            return Ok(Map::new());
        }
        once::check(self.message_of_body(descriptor), body).map_err(unreadable)?;
        let value: Value = serde_json::from_slice(body).map_err(unreadable)?;
        match (self.rule.body.as_str(), value) {
            ("*", Value::Object(object)) => Ok(object),
            ("*", _) => Err(Fault::content("the body must be a JSON object")),
            (field, value) => Ok(Map::from_iter([(field.to_owned(), value)])),
        }
    }
}

impl Parts<'_> {
    /// What the body is, where it is a message.
    fn message_of_body(&self, descriptor: &MessageDescriptor) -> Option<MessageDescriptor> {
        if self.rule.body == "*" {
            return Some(descriptor.clone());
        }
        match field(descriptor, &self.rule.body)?.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        }
    }
}

/// Puts what path or query say of a field where JSON would have it.
fn put(
    whole: &mut Map<String, Value>,
    path: &str,
    field: &FieldDescriptor,
    text: &str,
    place: &str,
) -> Result<(), Fault> {
    let value = scalar(path, field, text)?;
    let mut within = whole;
    let (stem, _) = path.rsplit_once('.').unwrap_or_default();
    for name in stem.split('.').filter(|name| !name.is_empty()) {
        let inner = within.entry(name).or_insert_with(|| Value::Object(Map::new()));
        within = inner.as_object_mut().ok_or_else(|| Fault::field(path, "the body says otherwise"))?;
    }
    if field.is_list() {
        let list = within.entry(field.name()).or_insert_with(|| Value::Array(Vec::new()));
        let list = list.as_array_mut().ok_or_else(|| Fault::field(path, "the body says otherwise"))?;
        list.push(value);
        return Ok(());
    }
    let known = within.remove(field.json_name());
    let known = within.insert(field.name().to_owned(), value.clone()).or(known);
    match known {
        Some(other) if other != value => {
            Err(Fault::field(path, &format!("it is said twice, and {place} says otherwise")))
        }
        _ => Ok(()),
    }
}

/// The JSON of a text that stands for a field's value.
fn scalar(path: &str, field: &FieldDescriptor, text: &str) -> Result<Value, Fault> {
    const TEXTUAL: [&str; 3] =
        ["google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"];
    let fault = |what: &str| Fault::field(path, what);
    if field.is_map() {
        return Err(fault("a map can't stand in a query"));
    }
    let checked = match field.kind() {
        Kind::Bool => return text.parse().map(Value::Bool).map_err(|_| fault("say true or false")),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse::<i32>().is_ok(),
        Kind::Uint32 | Kind::Fixed32 => text.parse::<u32>().is_ok(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse::<i64>().is_ok(),
        Kind::Uint64 | Kind::Fixed64 => text.parse::<u64>().is_ok(),
        Kind::Enum(values) if text.parse::<i32>().is_err() => {
            if values.get_value_by_name(text).is_some() {
                return Ok(Value::from(text));
            }
            let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
            return Err(fault(&format!("it is one of {}", names.join(", "))));
        }
        Kind::Message(message) if !TEXTUAL.contains(&message.full_name()) => {
            return Err(fault("a message can't stand in a query: name its fields"));
        }
        _ => true,
    };
    if checked { Ok(Value::from(text)) } else { Err(fault("it is no number that fits here")) }
}

fn strict() -> DeserializeOptions {
    DeserializeOptions::new().deny_unknown_fields(true)
}

fn unreadable(error: serde_json::Error) -> Fault {
    // A message reader reports through serde_json, which knows nothing of the field.
    Fault::content(format!("the JSON is not what the method takes: {error}"))
}
