//! That a body says nothing twice, and not too much. Readers of JSON disagree about which of two members of one name
//! counts (RFC 8259 section 4), so what one of them has checked another may not see; and a value of two bytes is
//! hundreds in memory. What the members mean is not looked at here.

use std::{cell::Cell, collections::BTreeSet, fmt};

use prost_reflect::{Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Values of a body at most, those in others counted too: more than any list of ours has.
const MAX_VALUES: u32 = 64 * 1024;

/// Checks the JSON of a message, or of what no descriptor describes.
///
/// # Errors
/// What the JSON reader says, with the place; also for a name that stands twice in one object, for a field that stands
/// there by both of its names, and for too many values.
pub(super) fn check(message: Option<MessageDescriptor>, json: &[u8]) -> serde_json::Result<()> {
    let shape = message.map_or(Shape::Open, Shape::Message);
    let (mut reader, left) = (serde_json::Deserializer::from_slice(json), Cell::new(MAX_VALUES));
    Check { shape, left: &left }.deserialize(&mut reader)?;
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

/// Checks one value.
struct Check<'a> {
    shape: Shape,
    /// How many values there may still be.
    left: &'a Cell<u32>,
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!(
                "it has more than {MAX_VALUES} values: send less at a time"
            )));
        };
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let (member, shape) = self.shape.member(&name);
            if !seen.insert(member) {
                return Err(A::Error::custom(format_args!("{name:?} is said twice")));
            }
            map.next_value_seed(Check { shape, left: self.left })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Check { shape: self.shape.clone(), left: self.left })?.is_some() {}
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

    #[test]
    fn a_body_has_so_many_values_and_no_more() {
        let enqueue = "airunner.job.v1.EnqueueJobsRequest";
        // The message and its list are two.
        let json = |count: u32| format!(r#"{{"jobs": [{}{{}}]}}"#, "{},".repeat(count as usize - 3));
        checked(enqueue, &json(MAX_VALUES)).unwrap();
        assert!(checked(enqueue, &json(MAX_VALUES + 1)).unwrap_err().contains("more than 65536 values"));
    }
}
