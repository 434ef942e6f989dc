//! Paths and queries of REST, against the bindings that there are.

use std::collections::BTreeSet;

use airunner_server::{job_rest::JobCall, json::Translate};
use http::{HeaderMap, Method as Verb, Uri};
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use crate::transcoded::{METHODS, POOL, TRANSCODER, is_told, message, method_at};

const VERBS: [Verb; 7] =
    [Verb::GET, Verb::POST, Verb::PUT, Verb::PATCH, Verb::DELETE, Verb::HEAD, Verb::OPTIONS];

/// A byte for the verb, and a path with its query. Whatever text ends up in a message is a segment of the path or a
/// part of the query, decoded once and no more; nothing is resolved, cut or folded on the way.
pub fn run(input: &[u8]) {
    let Some((which, text)) = input.split_first() else { return };
    let verb = &VERBS[usize::from(*which) % VERBS.len()];
    let Ok(uri) = Uri::try_from(text) else { return };
    if uri.authority().is_some() || !uri.path().starts_with('/') {
        return;
    }
    let headers = HeaderMap::new();
    match JobCall::resolve(verb, &uri, &headers) {
        Some(Ok(call)) => {
            assert!(uri.path().starts_with("/jobs/"));
            return means(call, verb, &uri);
        }
        Some(Err(unresolved)) => return is_told(&unresolved.fault),
        None => {}
    }
    match TRANSCODER.resolve(verb, &uri, &headers) {
        Ok(call) => means(call, verb, &uri),
        Err(unresolved) => {
            is_told(&unresolved.fault);
            assert!(unresolved.there.iter().all(|path| method_at(path).is_some()));
        }
    }
}

/// Every binding with each of its variables filled in.
pub fn seeds() -> Vec<Vec<u8>> {
    let extension = POOL.get_extension_by_name("google.api.http").expect("the extension");
    let mut seeds: Vec<Vec<u8>> =
        ["/jobs/start", "/jobs/stop/a", "/jobs/status/%61", "/jobs/output/x?offset=1"]
            .map(|path| [b"\x01", path.as_bytes()].concat())
            .into();
    for method in METHODS.iter() {
        let rule = method.options().get_extension(&extension).into_owned();
        let rule = rule.as_message().expect("a rule");
        for (place, verb) in ["get", "post", "put", "patch", "delete"].iter().enumerate() {
            let path = rule.get_field_by_name(verb).and_then(|path| path.as_str().map(str::to_owned));
            let Some(path) = path.filter(|path| !path.is_empty()) else { continue };
            let path = path.replace('{', "").replace('}', "%2F..%252e");
            let place = u8::try_from(place).expect("few verbs");
            seeds.push([&[place], path.as_bytes(), b"?page_size=2&id_prefix=a+b%26"].concat());
            seeds.push([&[place], path.as_bytes()].concat());
        }
    }
    seeds
}

fn means(call: impl Translate, verb: &Verb, uri: &Uri) {
    let rpc = call.path().to_owned();
    assert!(method_at(&rpc).is_some(), "{rpc} is no RPC of ours");
    match message(call, verb.clone(), uri, HeaderMap::new(), Vec::new()) {
        Ok(message) => {
            let said = said(uri);
            for text in texts(&message) {
                assert!(said.contains(&text), "{text:?} is not in {uri}");
            }
        }
        Err(fault) => is_told(&fault),
    }
}

/// Every text that the request holds: segments of its path, with and without a verb, and values of its query.
fn said(uri: &Uri) -> BTreeSet<String> {
    let segments = uri.path().split('/').flat_map(|segment| {
        let stem = segment.rsplit_once(':').map_or(segment, |(stem, _)| stem);
        [decoded(segment), decoded(stem)]
    });
    let job = uri.path().splitn(4, '/').nth(3).and_then(decoded);
    let query = uri.query().unwrap_or_default().split('&');
    let values = query.map(|pair| decoded(&pair.split_once('=').unwrap_or((pair, "")).1.replace('+', " ")));
    segments.chain([job]).chain(values).flatten().collect()
}

fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = |place: usize| char::from(*bytes.get(place)?).to_digit(16);
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).ok()?);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// The texts in a message of ours; those of Google's own types are written in a form of theirs.
fn texts(message: &DynamicMessage) -> Vec<String> {
    if message.descriptor().full_name().starts_with("google.") {
        return Vec::new();
    }
    message.fields().flat_map(|(_, value)| texts_of(value)).collect()
}

fn texts_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Message(inner) => texts(inner),
        Value::List(items) => items.iter().flat_map(texts_of).collect(),
        _ => Vec::new(),
    }
}
