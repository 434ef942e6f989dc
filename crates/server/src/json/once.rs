//! That a body says nothing twice. Readers of JSON disagree about which of two members of one name counts (RFC 8259
//! section 4), so what one of them has checked another may not see. What the members mean is not looked at here.

use std::{collections::BTreeSet, fmt};

use prost_reflect::{Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Checks the JSON of a message, or of what no descriptor describes.
///
/// # Errors
/// What the JSON reader says, with the place; also for a name that stands twice in one object, and for a field that
/// stands there by both of its names.
pub(super) fn check(message: Option<MessageDescriptor>, json: &[u8]) -> serde_json::Result<()> {
    let shape = message.map_or(Shape::Open, Shape::Message);
    let mut reader = serde_json::Deserializer::from_slice(json);
    shape.deserialize(&mut reader)?;
    reader.end()
}

/// What a value may be, as far as names go.
#[derive(Clone)]
enum Shape {
    /// An object whose names are fields.
    Message(MessageDescriptor),
    /// An object whose names are keys, with values of this shape.
    Map(Box<Shape>),
    /// Anything.
    Open,
}

impl Shape {
    fn of(kind: Kind) -> Self {
        match kind {
            // Google's own types are written in forms of their own.
            Kind::Message(message) if !message.full_name().starts_with("google.protobuf.") => {
                Self::Message(message)
            }
            _ => Self::Open,
        }
    }

    /// What `name` stands for: by what it is told from others, and the shape of its value.
    fn member(&self, name: &str) -> (Member, Self) {
        let key = || Member::Key(name.to_owned());
        match self {
            Self::Open => (key(), Self::Open),
            Self::Map(inner) => (key(), (**inner).clone()),
            Self::Message(message) => {
                let field = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
                let Some(field) = field else { return (key(), Self::Open) };
                let shape = match field.kind() {
                    Kind::Message(entry) if field.is_map() => {
                        Self::Map(Box::new(Self::of(entry.map_entry_value_field().kind())))
                    }
                    kind => Self::of(kind),
                };
                (Member::Field(field.number()), shape)
            }
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Field(u32),
    Key(String),
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let (member, shape) = self.member(&name);
            if !seen.insert(member) {
                return Err(A::Error::custom(format_args!("{name:?} is said twice")));
            }
            map.next_value_seed(shape)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.clone())?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, json: &str) -> Result<(), String> {
        let pool = prost_reflect::DescriptorPool::decode(airunner_proto::DESCRIPTOR_SET).unwrap();
        let message = pool.get_message_by_name(name).unwrap();
        check(Some(message), json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_field_is_said_once_by_one_of_its_names() {
        let get = "airunner.principal.v1.GetPrincipalRequest";
        checked(get, r#"{"principalId": "a"}"#).unwrap();
        for twice in [
            r#"{"principalId": "a", "principalId": "a"}"#,
            r#"{"principalId": "a", "principal_id": "b"}"#,
            r#"{"x": {"y": 1, "y": 2}}"#,
            r#"{"x": 1, "x": 2}"#,
        ] {
            assert!(checked(get, twice).unwrap_err().contains("is said twice"), "{twice}");
        }
    }

    #[test]
    fn messages_in_lists_and_keys_of_maps_too() {
        let enqueue = "airunner.job.v1.EnqueueJobsRequest";
        checked(enqueue, r#"{"jobs": [{"labels": {"a_b": "1", "aB": "2"}}, {"command": "x"}]}"#).unwrap();
        for twice in [
            r#"{"jobs": [{}, {"workingDir": "a", "working_dir": "b"}]}"#,
            r#"{"jobs": [{"labels": {"a": "1", "a": "1"}}]}"#,
        ] {
            assert!(checked(enqueue, twice).unwrap_err().contains("is said twice"), "{twice}");
        }
    }
}
