//! JSON bodies of Connect's unary calls, packed and not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Write as _,
};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method as Verb, Uri, header};
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::transcoded::{LIMIT, METHODS, TRANSCODER, is_told, message, path};

/// A byte for the method, one that says (odd) that the body is packed, and the body. What is read is JSON in which no
/// name stands twice, and its message written in JSON is the same message again.
pub fn run(input: &[u8]) {
    let [which, packed, body @ ..] = input else { return };
    let method = &METHODS[usize::from(*which) % METHODS.len()];
    match call(method, packed & 1 == 1, body) {
        Ok(message) => {
            let text = if packed & 1 == 1 { None } else { Some(body) };
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                let value: Value = serde_json::from_slice(text).expect("JSON");
                let Names(names) = serde_json::from_slice(text).expect("JSON");
                assert_eq!(names, count(&value), "a name that stands twice was taken");
                let fields: Vec<_> =
                    value.as_object().into_iter().flatten().map(|(name, _)| folded(name)).collect();
                let once: BTreeSet<_> = fields.iter().collect();
                assert_eq!(once.len(), fields.len(), "a field that stands twice was taken");
            }
            let mut json = Vec::new();
            let mut writer = serde_json::Serializer::new(&mut json);
            message.serialize_with_options(&mut writer, &SerializeOptions::new()).expect("its JSON");
            if json.len() <= LIMIT {
                assert_eq!(call(method, false, &json).expect("its own JSON"), message);
                let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
                packer.write_all(&json).expect("memory");
                assert_eq!(call(method, true, &packer.finish().expect("memory")).expect("packed"), message);
            }
        }
        Err(fault) => is_told(&fault),
    }
}

/// A field goes by two names, `page_size` and `pageSize`.
fn folded(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

fn call(
    method: &MethodDescriptor,
    packed: bool,
    body: &[u8],
) -> Result<DynamicMessage, airunner_server::json::Fault> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let uri: Uri = path(method).parse().expect("a path");
    let call = TRANSCODER.resolve(&Verb::POST, &uri, &headers).expect("a method of ours");
    message(call, Verb::POST, &uri, headers, body.to_vec())
}

/// A body for each method, and what JSON readers disagree about.
pub fn seeds() -> Vec<Vec<u8>> {
    let bodies: [&[u8]; 13] = [
        b"{}",
        br#"{"principalId":"alice","type":"PRINCIPAL_TYPE_USER","metadata":{"a":"b"}}"#,
        br#"{"principal_id":"alice","version":"18446744073709551615","principal":{"email":"a@b.de"},"updateMask":"email"}"#,
        br#"{"jobs":[{"command":"true","args":["a","b"],"timeout":"1.5s","labels":{"x":"y"}}],"requestId":"r"}"#,
        br#"{"pageSize":1000,"pageToken":"cA","expiresBefore":"2026-11-22T00:00:00.123456789Z"}"#,
        br#"{"csr":"MIIBAA==","validity":"3600s","labels":{}}"#,
        br#"{"roles":["ROLE_ADMIN",1],"principalId":null}"#,
        br#"{"principalId":"a","principalId":"b"}"#,
        br#"{"labels":{"a":"1","a":"2"},"metadata":{"a":"1","a":"2"}}"#,
        br#"{"principalId":"a","principal_id":"b"}"#,
        br#"{"principalId":"\ud800","x":"\u202e\u0000"}"#,
        br#"{"pageSize":1e400,"version":-0,"count":1.0}"#,
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ];
    let mut seeds: Vec<Vec<u8>> = (0..METHODS.len())
        .map(|n| [&[u8::try_from(n).expect("few methods"), 0], bodies[n % bodies.len()]].concat())
        .collect();
    seeds.extend(bodies.iter().flat_map(|body| (0..32).map(move |n| [&[n, 0], *body].concat())));
    seeds
}

/// The names of a JSON text's objects, each as often as it stands there.
struct Names(BTreeMap<String, usize>);

fn count(value: &Value) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => {
                for (name, value) in members {
                    *names.entry(name.clone()).or_default() += 1;
                    rest.push(value);
                }
            }
            _ => {}
        }
    }
    names
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counter)
    }
}

struct Counter;

impl<'de> Visitor<'de> for Counter {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let mut names = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            *names.entry(name).or_default() += 1;
            add(&mut names, map.next_value()?);
        }
        Ok(Names(names))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Names, A::Error> {
        let mut names = BTreeMap::new();
        while let Some(inner) = items.next_element()? {
            add(&mut names, inner);
        }
        Ok(Names(names))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Names, E> {
        Ok(Names(BTreeMap::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Names, E> {
        Ok(Names(BTreeMap::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Names, E> {
        Ok(Names(BTreeMap::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Names, E> {
        Ok(Names(BTreeMap::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Names, E> {
        Ok(Names(BTreeMap::new()))
    }

    fn visit_unit<E>(self) -> Result<Names, E> {
        Ok(Names(BTreeMap::new()))
    }
}

fn add(names: &mut BTreeMap<String, usize>, inner: Names) {
    for (name, times) in inner.0 {
        *names.entry(name).or_default() += times;
    }
}
