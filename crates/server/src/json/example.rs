//! Examples of messages, put together from what the proto files give as examples of their fields.

use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

/// How deep messages are followed into each other.
const MAX_DEPTH: usize = 4;

/// The examples that a pool's fields carry in an option.
pub(super) struct Examples {
    option: Option<ExtensionDescriptor>,
}

impl Examples {
    /// Those that stand in the option of fields with this full name. Its text is the JSON of the field's value; the
    /// quotes around what is a JSON string are left out.
    pub(super) fn of(pool: &DescriptorPool, option: &str) -> Self {
        Self { option: pool.get_extension_by_name(option) }
    }

    /// An example of a field.
    pub(super) fn field(&self, field: &FieldDescriptor) -> Option<Value> {
        self.field_at(field, MAX_DEPTH)
    }

    /// An example of a message: every field that has one, and of a oneof the first; but none of the fields `without`.
    pub(super) fn message(&self, message: &MessageDescriptor, without: &[&str]) -> Map<String, Value> {
        self.message_at(message, without, MAX_DEPTH)
    }

    fn message_at(&self, message: &MessageDescriptor, without: &[&str], depth: usize) -> Map<String, Value> {
        let mut example = Map::new();
        let mut chosen = Vec::new();
        for field in message.fields().filter(|field| !without.contains(&field.name())) {
            let choice = field.containing_oneof().map(|oneof| oneof.full_name().to_owned());
            if choice.as_ref().is_some_and(|choice| chosen.contains(choice)) {
                continue;
            }
            if let Some(value) = self.field_at(&field, depth) {
                example.insert(field.json_name().to_owned(), value);
                chosen.extend(choice);
            }
        }
        example
    }

    fn field_at(&self, field: &FieldDescriptor, depth: usize) -> Option<Value> {
        if let Some(written) = self.written(field) {
            return Some(written);
        }
        let Kind::Message(message) = field.kind() else { return None };
        if field.is_map() || depth == 0 {
            return None;
        }
        let inner = self.message_at(&message, &[], depth - 1);
        let one = (!inner.is_empty()).then_some(Value::Object(inner))?;
        Some(if field.is_list() { vec![one].into() } else { one })
    }

    fn written(&self, field: &FieldDescriptor) -> Option<Value> {
        let (option, options) = (self.option.as_ref()?, field.options());
        if !options.has_extension(option) {
            return None;
        }
        let value = options.get_extension(option);
        let text = value.as_str()?;
        if field.is_list() || !is_text(&field.kind()) {
            return serde_json::from_str(text).ok();
        }
        Some(text.into())
    }
}

/// Whether the JSON form of one value is a string.
fn is_text(kind: &Kind) -> bool {
    match kind {
        Kind::String
        | Kind::Bytes
        | Kind::Enum(_)
        | Kind::Int64
        | Kind::Sint64
        | Kind::Sfixed64
        | Kind::Uint64
        | Kind::Fixed64 => true,
        Kind::Message(message) => {
            matches!(message.name(), "Timestamp" | "Duration" | "FieldMask")
                && message.package_name() == "google.protobuf"
        }
        _ => false,
    }
}
