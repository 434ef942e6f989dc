//! From the wire form of a message straight to its canonical JSON, for messages as encoders write them: each singular
//! field and each key of a map once, the elements of a repeated one side by side. For anything else it says that it can't, and the caller
//! takes the way through a dynamic message; so it never has to guess.

use std::{collections::HashMap, str};

use data_encoding::BASE64;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// How deep messages may be in each other; deeper ones go the other way, which has a limit of its own.
const MAX_DEPTH: usize = 32;

/// The messages of a pool, as the writer needs them.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// By full name, where in `all` it is.
    places: HashMap<String, usize>,
    all: Vec<Option<Shape>>,
}

/// A message: its fields in order of number; none for one that can only be written the other way.
#[derive(Debug)]
struct Shape(Vec<Field>);

#[derive(Debug)]
struct Field {
    number: u32,
    /// The name as JSON has it before a value, quotes and colon included.
    name: String,
    /// Whether a value of zero or nothing is told apart from none.
    has_presence: bool,
    /// The bit of its oneof, of which one member is set at most.
    oneof: u64,
    many: Many,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Many {
    One,
    List,
    Map,
}

#[derive(Debug)]
enum Form {
    Bool,
    /// An `int32`, or an enum's number.
    Int32,
    Uint32,
    Int64,
    Uint64,
    Enum(Vec<(i32, String)>),
    Text,
    Bytes,
    Timestamp,
    Duration,
    /// A message, by its place.
    Message(usize),
}

/// The wire form is not as encoders write it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusual;

impl Shapes {
    /// The shapes of every message that methods of the pool answer with.
    pub(super) fn of_answers(pool: &DescriptorPool) -> Self {
        let mut shapes = Self::default();
        for service in pool.services() {
            for method in service.methods() {
                shapes.place(&method.output());
            }
        }
        shapes
    }

    /// The JSON of a message of the wire, if it is usual.
    pub(super) fn json(&self, descriptor: &MessageDescriptor, wire: &[u8]) -> Result<Vec<u8>, Unusual> {
        let place = self.places.get(descriptor.full_name()).ok_or(Unusual)?;
        let mut json = Vec::with_capacity(wire.len() * 2 + 64);
        self.message(*place, Wire(wire), MAX_DEPTH, &mut json)?;
        Ok(json)
    }

    fn place(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(place) = self.places.get(message.full_name()) {
            return *place;
        }
        let place = self.all.len();
        self.places.insert(message.full_name().to_owned(), place);
        self.all.push(None);
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let fields: Option<Vec<_>> = fields.iter().map(|field| self.field(field)).collect();
        self.all[place] = fields.filter(|fields| fields.len() <= 64).map(Shape);
        place
    }

    fn field(&mut self, field: &FieldDescriptor) -> Option<Field> {
        let many = match () {
            () if field.is_map() => Many::Map,
            () if field.is_list() => Many::List,
            () => Many::One,
        };
        let form = match field.kind() {
            Kind::Bool => Form::Bool,
            Kind::Int32 => Form::Int32,
            Kind::Uint32 => Form::Uint32,
            Kind::Int64 => Form::Int64,
            Kind::Uint64 => Form::Uint64,
            Kind::String => Form::Text,
            Kind::Bytes => Form::Bytes,
            Kind::Enum(kind) => Form::Enum(
                kind.values().map(|value| (value.number(), format!("\"{}\"", value.name()))).collect(),
            ),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Form::Timestamp,
                "google.protobuf.Duration" => Form::Duration,
                known if known.starts_with("google.protobuf.") => return None,
                _ => Form::Message(self.place(&message)),
            },
            Kind::Sint32 | Kind::Sint64 | Kind::Fixed32 | Kind::Fixed64 | Kind::Sfixed32 | Kind::Sfixed64 => {
                return None;
            }
            Kind::Float | Kind::Double => return None,
        };
        let oneof = field.containing_oneof().and_then(|oneof| {
            let place = field.parent_message().oneofs().position(|known| known == oneof);
            place.and_then(|place| 1u64.checked_shl(u32::try_from(place).ok()?))
        });
        Some(Field {
            number: field.number(),
            name: format!("\"{}\":", field.json_name()),
            has_presence: field.supports_presence(),
            oneof: oneof.unwrap_or(0),
            many,
            form,
        })
    }

    fn message(
        &self,
        place: usize,
        mut wire: Wire<'_>,
        depth: usize,
        json: &mut Vec<u8>,
    ) -> Result<(), Unusual> {
        let shape = self.all.get(place).and_then(Option::as_ref).ok_or(Unusual)?;
        let depth = depth.checked_sub(1).ok_or(Unusual)?;
        let (mut seen, mut chosen) = (0u64, 0u64);
        let mut open = None;
        json.push(b'{');
        while !wire.0.is_empty() {
            let (number, value) = wire.field()?;
            let Ok(at) = shape.0.binary_search_by_key(&number, |field| field.number) else { continue };
            let field = &shape.0[at];
            if open == Some(at) {
                json.push(b',');
                self.element(field, value, depth, json)?;
                continue;
            }
            close(shape, open.take(), json);
            if seen & (1 << at) != 0 || chosen & field.oneof != 0 {
                return Err(Unusual);
            }
            seen |= 1 << at;
            chosen |= field.oneof;
            let before = json.len();
            separate(json);
            json.extend_from_slice(field.name.as_bytes());
            match field.many {
                Many::One if field.has_presence || !value.is_nothing() => {
                    self.one(field, value, depth, json)?;
                }
                Many::One => json.truncate(before),
                Many::List | Many::Map => {
                    json.push(if field.many == Many::Map { b'{' } else { b'[' });
                    self.element(field, value, depth, json)?;
                    open = Some(at);
                }
            }
        }
        close(shape, open, json);
        json.push(b'}');
        Ok(())
    }

    /// What stands between the brackets of a list or a map.
    fn element(
        &self,
        field: &Field,
        value: Value<'_>,
        depth: usize,
        json: &mut Vec<u8>,
    ) -> Result<(), Unusual> {
        match (field.many, value) {
            (Many::Map, Value::Long(entry)) => self.entry(field, Wire(entry), depth, json),
            // Numbers packed together (encoding spec, "Packed Repeated Fields").
            (_, Value::Long(packed)) if field.form.is_number() => {
                let mut packed = Wire(packed);
                let mut is_first = true;
                while !packed.0.is_empty() {
                    if !std::mem::take(&mut is_first) {
                        json.push(b',');
                    }
                    self.one(field, Value::Number(packed.varint()?), depth, json)?;
                }
                if is_first { Err(Unusual) } else { Ok(()) }
            }
            _ => self.one(field, value, depth, json),
        }
    }

    /// An entry of a map, whose message has a key at 1 and a value at 2. Only texts are keys here.
    fn entry(
        &self,
        field: &Field,
        mut entry: Wire<'_>,
        depth: usize,
        json: &mut Vec<u8>,
    ) -> Result<(), Unusual> {
        let Form::Message(place) = field.form else { return Err(Unusual) };
        let shape = self.all.get(place).and_then(Option::as_ref).ok_or(Unusual)?;
        let [key, value] = shape.0.as_slice() else { return Err(Unusual) };
        let (mut name, mut content) = (Value::Long(&[]), None);
        while !entry.0.is_empty() {
            match entry.field()? {
                (1, found) => name = found,
                (2, found) => content = Some(found),
                _ => return Err(Unusual),
            }
        }
        if !matches!(key.form, Form::Text) {
            return Err(Unusual);
        }
        self.one(key, name, depth, json)?;
        json.push(b':');
        let nothing = if value.form.is_number() { Value::Number(0) } else { Value::Long(&[]) };
        self.one(value, content.unwrap_or(nothing), depth, json)
    }

    fn one(&self, field: &Field, value: Value<'_>, depth: usize, json: &mut Vec<u8>) -> Result<(), Unusual> {
        match (&field.form, value) {
            (Form::Bool, Value::Number(number)) => {
                json.extend_from_slice(if number == 0 { b"false" } else { b"true" });
                Ok(())
            }
            (Form::Int32, Value::Number(number)) => plain(json, low(number)),
            (Form::Uint32, Value::Number(number)) => plain(json, number & u64::from(u32::MAX)),
            (Form::Int64, Value::Number(number)) => quoted(json, number.cast_signed()),
            (Form::Uint64, Value::Number(number)) => quoted(json, number),
            (Form::Enum(names), Value::Number(number)) => {
                let number = low(number);
                match names.iter().find(|(known, _)| *known == number) {
                    Some((_, name)) => json.extend_from_slice(name.as_bytes()),
                    None => plain(json, number)?,
                }
                Ok(())
            }
            (Form::Text, Value::Long(bytes)) => {
                let text = str::from_utf8(bytes).map_err(|_| Unusual)?;
                serde_json::to_writer(json, text).map_err(|_| Unusual)
            }
            (Form::Bytes, Value::Long(bytes)) => {
                json.push(b'"');
                let from = json.len();
                json.resize(from + BASE64.encode_len(bytes.len()), 0);
                BASE64.encode_mut(bytes, &mut json[from..]);
                json.push(b'"');
                Ok(())
            }
            (Form::Timestamp, Value::Long(bytes)) => timestamp(Wire(bytes), json),
            (Form::Duration, Value::Long(bytes)) => duration(Wire(bytes), json),
            (Form::Message(place), Value::Long(bytes)) => self.message(*place, Wire(bytes), depth, json),
            _ => Err(Unusual),
        }
    }
}

impl Form {
    fn is_number(&self) -> bool {
        matches!(self, Self::Bool | Self::Int32 | Self::Uint32 | Self::Int64 | Self::Uint64 | Self::Enum(_))
    }
}

fn close(shape: &Shape, open: Option<usize>, json: &mut Vec<u8>) {
    match open.map(|at| shape.0[at].many) {
        Some(Many::Map) => json.push(b'}'),
        Some(_) => json.push(b']'),
        None => {}
    }
}

fn separate(json: &mut Vec<u8>) {
    if json.last() != Some(&b'{') {
        json.push(b',');
    }
}

/// The 32 bits that are left of a longer number (encoding spec, "Standard Integer Types").
#[expect(clippy::cast_possible_truncation, reason = "what is cut off is the sign's extension")]
const fn low(number: u64) -> i32 {
    (number as u32).cast_signed()
}

fn plain(json: &mut Vec<u8>, number: impl serde::Serialize) -> Result<(), Unusual> {
    serde_json::to_writer(json, &number).map_err(|_| Unusual)
}

fn quoted(json: &mut Vec<u8>, number: impl serde::Serialize) -> Result<(), Unusual> {
    json.push(b'"');
    plain(json, number)?;
    json.push(b'"');
    Ok(())
}

/// The two numbers of a Timestamp or a Duration.
fn seconds_and_nanos(mut wire: Wire<'_>) -> Result<(i64, i32), Unusual> {
    let mut both = (0, 0);
    while !wire.0.is_empty() {
        match wire.field()? {
            (1, Value::Number(number)) => both.0 = number.cast_signed(),
            (2, Value::Number(number)) => both.1 = low(number),
            _ => return Err(Unusual),
        }
    }
    Ok(both)
}

/// RFC 3339 in UTC, with as many digits of a second as it takes: none, 3, 6 or 9.
fn timestamp(wire: Wire<'_>, json: &mut Vec<u8>) -> Result<(), Unusual> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let (seconds, nanos) = seconds_and_nanos(wire)?;
    if !YEARS_1_TO_9999.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return Err(Unusual);
    }
    json.push(b'"');
    json.extend_from_slice(prost_types::Timestamp { seconds, nanos }.to_string().as_bytes());
    json.push(b'"');
    Ok(())
}

/// Seconds with their fraction and an `s`.
fn duration(wire: Wire<'_>, json: &mut Vec<u8>) -> Result<(), Unusual> {
    let (seconds, nanos) = seconds_and_nanos(wire)?;
    if seconds < 0 || !(0..1_000_000_000).contains(&nanos) || seconds > 315_576_000_000 {
        return Err(Unusual);
    }
    json.push(b'"');
    json.extend_from_slice(prost_types::Duration { seconds, nanos }.to_string().as_bytes());
    json.push(b'"');
    Ok(())
}

/// Bytes of the wire that are still to be read.
struct Wire<'a>(&'a [u8]);

/// What a field holds.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Long(&'a [u8]),
    /// Four or eight bytes: of no kind that is written here.
    Fixed,
}

impl Value<'_> {
    fn is_nothing(self) -> bool {
        matches!(self, Self::Number(0) | Self::Long([]))
    }
}

impl<'a> Wire<'a> {
    /// The next field: its number and what it holds.
    fn field(&mut self) -> Result<(u32, Value<'a>), Unusual> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Unusual)?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Long(self.take(usize::try_from(length).map_err(|_| Unusual)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Unusual),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, Unusual> {
        let mut number = 0u64;
        for (n, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * n);
            if byte & 0x80 == 0 {
                self.0 = &self.0[n + 1..];
                return Ok(number);
            }
        }
        Err(Unusual)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unusual> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unusual)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use airunner_proto::DESCRIPTOR_SET;
    use proptest::{
        prelude::*,
        test_runner::{Config, TestRunner},
    };
    use prost::Message as _;
    use prost_reflect::{DynamicMessage, MapKey, Value as Reflected};

    use super::*;

    fn pool() -> DescriptorPool {
        DescriptorPool::decode(DESCRIPTOR_SET).unwrap()
    }

    /// Numbers, of which a message is made: what each decides does not matter, only that all is decided by them.
    struct Dice(Vec<u32>, usize);

    impl Dice {
        fn roll(&mut self) -> u32 {
            self.1 += 1;
            self.0[self.1 % self.0.len()].rotate_left(u32::try_from(self.1 % 31).unwrap())
        }
    }

    fn message(dice: &mut Dice, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if dice.roll().is_multiple_of(2) {
                continue;
            }
            let count = dice.roll() % 4;
            let value = if field.is_map() {
                let Kind::Message(entry) = field.kind() else { unreachable!() };
                let key = |n| MapKey::String(format!("k{n}"));
                let of = |n| (key(n), one(dice, &entry.map_entry_value_field(), depth));
                Reflected::Map((0..count).map(of).collect())
            } else if field.is_list() {
                Reflected::List((0..count).map(|_| one(dice, &field, depth)).collect())
            } else {
                one(dice, &field, depth)
            };
            message.set_field(&field, value);
        }
        message
    }

    fn one(dice: &mut Dice, field: &FieldDescriptor, depth: usize) -> Reflected {
        const TEXTS: [&str; 5] = ["", "builder-7", "\"quoted\\\n\u{1}", "\u{1F980} caf\u{e9}", "{"];
        let number = if dice.roll().is_multiple_of(3) { 0 } else { dice.roll() };
        match field.kind() {
            Kind::Bool => Reflected::Bool(number % 2 == 1),
            Kind::Int32 => Reflected::I32(number.cast_signed()),
            Kind::Uint32 => Reflected::U32(number),
            Kind::Int64 => Reflected::I64(-i64::from(number) * 7_919),
            Kind::Uint64 => Reflected::U64(u64::from(number) << (number % 32)),
            Kind::String => Reflected::String(TEXTS[number as usize % TEXTS.len()].to_owned()),
            Kind::Bytes => Reflected::Bytes(number.to_le_bytes()[..number as usize % 5].to_vec().into()),
            Kind::Enum(kind) => {
                let known = kind.values().nth(number as usize % (kind.values().len() + 1));
                Reflected::EnumNumber(known.map_or(4_711, |value| value.number()))
            }
            Kind::Message(inner) if inner.full_name().starts_with("google.protobuf.") => {
                let mut time = DynamicMessage::new(inner.clone());
                let fraction = [0, 5_000_000, 1_234_000, 123_456_789][number as usize % 4];
                if let Some(paths) = inner.get_field_by_name("paths") {
                    time.set_field(
                        &paths,
                        Reflected::List(vec![Reflected::String("max_certificates".to_owned())]),
                    );
                } else {
                    time.set_field_by_name("seconds", Reflected::I64(i64::from(number) * 50));
                    time.set_field_by_name("nanos", Reflected::I32(fraction));
                }
                Reflected::Message(time)
            }
            Kind::Message(inner) if depth > 0 => Reflected::Message(message(dice, &inner, depth - 1)),
            Kind::Message(inner) => Reflected::Message(DynamicMessage::new(inner)),
            kind => panic!("the API has no {kind:?}"),
        }
    }

    #[test]
    fn every_answer_is_written_as_through_a_dynamic_message() {
        let pool = pool();
        let shapes = Shapes::of_answers(&pool);
        let answers: Vec<_> =
            pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        let mut runner = TestRunner::new(Config::with_cases(64));
        let numbers = prop::collection::vec(any::<u32>(), 8..64);
        let written = runner.run(&numbers, |numbers| {
            for method in &answers {
                let output = method.output();
                let message = message(&mut Dice(numbers.clone(), 0), &output, 3);
                let json = shapes.json(&output, &message.encode_to_vec());
                let json = json.unwrap_or_else(|Unusual| panic!("{}: {message}", output.full_name()));
                let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
                let expected = serde_json::to_value(&message).unwrap();
                prop_assert_eq!(read, expected, "{}", output.full_name());
            }
            Ok(())
        });
        written.unwrap();
    }

    #[test]
    fn what_no_encoder_writes_is_left_to_others() {
        let pool = pool();
        let shapes = Shapes::of_answers(&pool);
        let of = |name: &str, wire: &[u8]| {
            let descriptor = pool.get_message_by_name(name).unwrap();
            shapes.json(&descriptor, wire).map(|json| String::from_utf8(json).unwrap())
        };
        let status = "airunner.job.v1.GetJobStatusResponse";
        assert_eq!(of(status, b"\x0a\x01a"), Ok("{\"jobId\":\"a\"}".to_owned()));
        assert_eq!(of(status, b"\x0a\x01a\x0a\x01b"), Err(Unusual), "a field twice");
        assert_eq!(of(status, b"\x0a\x02a"), Err(Unusual), "cut short");
        assert_eq!(of(status, b"\x0a\x01\xff"), Err(Unusual), "no text");
        assert_eq!(of(status, b"\x08\x01"), Err(Unusual), "another type");
        assert_eq!(of(status, b"\x0b"), Err(Unusual), "a group");
        assert_eq!(of(status, b"\xfa\x7f\x01x"), Ok("{}".to_owned()), "a field of a later version");
        let both = b"\x22\x04\x08\x01\x10\x02";
        assert_eq!(of(status, both), Err(Unusual), "two of a oneof");
        let apart = b"\x0a\x01a\x12\x00\x0a\x01b";
        assert_eq!(
            of("airunner.ca.v1.RevokeCertificatesResponse", apart),
            Err(Unusual),
            "a list in two parts"
        );
        assert_eq!(of("airunner.principal.v1.UpdatePrincipalRequest", b""), Err(Unusual), "no answer");
    }
}
