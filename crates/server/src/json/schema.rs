//! JSON Schemas (2020-12) of messages, in the form that canonical proto3 JSON gives them.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};
use serde_json::{Map, Value, json};

use super::example::Examples;

/// The comments of the proto files, by full name.
pub(super) struct Comments(BTreeMap<String, String>);

impl Comments {
    /// The comments of every message, field, enum, service and method.
    pub(super) fn of(pool: &DescriptorPool) -> Self {
        let mut found = BTreeMap::new();
        for file in pool.files() {
            let written = by_path(&file);
            let mut note = |name: &str, path: &[i32]| {
                if let Some(comment) = written.get(path) {
                    found.insert(name.to_owned(), comment.clone());
                }
            };
            for message in file.messages() {
                note(message.full_name(), message.path());
                message.fields().for_each(|field| note(field.full_name(), field.path()));
            }
            file.enums().for_each(|kind| note(kind.full_name(), kind.path()));
            for service in file.services() {
                note(service.full_name(), service.path());
                service.methods().for_each(|method| note(method.full_name(), method.path()));
            }
        }
        Self(found)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn by_path(file: &FileDescriptor) -> BTreeMap<Vec<i32>, String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
    let comment = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned();
    locations
        .iter()
        .filter_map(|at| at.leading_comments.as_deref().map(|text| (at.path.clone(), comment(text))))
        .collect()
}

/// Collects the schemas that others refer to.
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    examples: &'a Examples,
    made: Map<String, Value>,
    begun: BTreeSet<String>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(comments: &'a Comments, examples: &'a Examples) -> Self {
        Self { comments, examples, made: Map::new(), begun: BTreeSet::new() }
    }

    /// All that were made, by name.
    pub(super) fn into_map(self) -> Map<String, Value> {
        self.made
    }

    /// A reference to a message's schema.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(known) = well_known(message.full_name()) {
            return known;
        }
        if self.begun.insert(message.full_name().to_owned()) {
            let schema = self.object(message, &[]);
            self.made.insert(message.full_name().to_owned(), schema);
        }
        refer(message.full_name())
    }

    /// The schema of a message without the fields that are given elsewhere.
    pub(super) fn message_without(&mut self, message: &MessageDescriptor, without: &[&str]) -> Value {
        if without.is_empty() { self.message(message) } else { self.object(message, without) }
    }

    fn object(&mut self, message: &MessageDescriptor, without: &[&str]) -> Value {
        let mut properties = Map::new();
        for field in message.fields().filter(|field| !without.contains(&field.name())) {
            properties.insert(field.json_name().to_owned(), self.field(&field));
        }
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        let together: Vec<_> =
            message.oneofs().filter(|oneof| !oneof.is_synthetic()).flat_map(pairs).collect();
        if !together.is_empty() {
            schema["not"] = json!({ "anyOf": together });
        }
        self.describe(&mut schema, message.full_name());
        schema
    }

    /// A field's schema.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let value = self.single(&entry.map_entry_value_field());
                json!({ "type": "object", "additionalProperties": value })
            }
            _ if field.is_list() => json!({ "type": "array", "items": self.single(field) }),
            _ => self.single(field),
        };
        self.describe(&mut schema, field.full_name());
        if let Some(example) = self.examples.field(field) {
            schema["examples"] = json!([example]);
        }
        schema
    }

    fn single(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "pattern": "^-?[0-9]{1,19}$" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "pattern": "^[0-9]{1,20}$" }),
            Kind::Float | Kind::Double => json!({ "type": "number" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.message(&message),
            Kind::Enum(kind) => self.choice(&kind),
        }
    }

    fn choice(&mut self, kind: &EnumDescriptor) -> Value {
        if self.begun.insert(kind.full_name().to_owned()) {
            let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
            let mut schema = json!({ "type": "string", "enum": names });
            self.describe(&mut schema, kind.full_name());
            self.made.insert(kind.full_name().to_owned(), schema);
        }
        refer(kind.full_name())
    }

    fn describe(&self, schema: &mut Value, name: &str) {
        if let Some(comment) = self.comments.get(name) {
            schema["description"] = comment.into();
        }
    }
}

/// Any two fields of a oneof, which never stand together.
fn pairs(oneof: OneofDescriptor) -> Vec<Value> {
    let names: Vec<_> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
    let of = |(n, one): (usize, &String)| {
        names[n + 1..].iter().map(|other| json!({ "required": [one, other] })).collect::<Vec<_>>()
    };
    names.iter().enumerate().flat_map(of).collect()
}

fn refer(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The types that have a JSON form of their own.
fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "google.protobuf.Duration" => {
            json!({ "type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["3600s"] })
        }
        "google.protobuf.FieldMask" => json!({ "type": "string", "examples": ["description,email"] }),
        _ => return None,
    })
}
