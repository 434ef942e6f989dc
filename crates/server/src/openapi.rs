//! The OpenAPI document of this server: what the descriptors say, and the paths whose bodies are fixed.

use airunner_core::{Error, Result};
use airunner_proto::DESCRIPTOR_SET;
use serde_json::{Map, Value, json};

use crate::{
    error::http_status,
    job_rest,
    json::{About, Transcoder},
};

/// The document as it is sent and kept, which [`text`] makes: a server that made it at its start would start later.
pub const COMMITTED: &str = include_str!("../../../docs/openapi.json");

/// What any call may end with.
const FAILURES: &[(u16, &str)] = &[
    (400, "The request is not what the path takes; the error names the field."),
    (401, "Nobody that this environment knows made the call, or it no longer counts."),
    (403, "The caller lacks the permission that the error names, or may not act on this thing."),
    (404, "There is no such thing."),
    (405, "The path takes other methods: see Allow."),
    (409, "It exists already, or the state of things forbids it."),
    (413, "More bytes than are taken at a time."),
    (415, "The body's type or encoding is not served."),
    (429, "Too much in too short a time: see Retry-After."),
    (500, "Our fault; the server's log has it under the request id."),
    (503, "A part is down, full or behind: try again, or another server."),
    (504, "The time that the caller gave the call is over."),
];

const DESCRIPTION: &str = "\
The airunner API over JSON. Every call is made with a client certificate of the environment, but for those that are \
public. Names are those of canonical proto3 JSON; the spelling of the proto files is taken too. Every failure has a \
label, which docs/errors.md lists.";

/// The document.
///
/// # Errors
/// `internal` for bindings that contradict each other.
pub fn document() -> Result<Value> {
    let about = About {
        title: "airunner",
        version: env!("CARGO_PKG_VERSION"),
        description: DESCRIPTION,
        permission: "airunner.authz.v1.permission",
        example: "airunner.http.v1.example",
        failures: FAILURES,
    };
    let transcoder = Transcoder::new(DESCRIPTOR_SET, http_status).map_err(Error::internal)?;
    let mut paths = job_rest::paths(FAILURES)?;
    paths.extend(documents());
    Ok(transcoder.openapi(&about, paths))
}

/// The paths that are no call.
fn documents() -> Map<String, Value> {
    let read = |id: &str, description: &str, schema: Value| {
        json!({ "get": {
            "operationId": id,
            "description": description,
            "security": [],
            "responses": { "200": {
                "description": "It is there.",
                "content": { "application/json": { "schema": schema } },
            } },
        } })
    };
    let health = json!({ "type": "object", "properties": { "status": { "type": "string" } } });
    let itself = json!({ "type": "object" });
    Map::from_iter([
        ("/v1/health".to_owned(), read("GetHealth", "Whether the server answers.", health)),
        ("/openapi.json".to_owned(), read("GetOpenApi", "This document.", itself)),
    ])
}

/// The document, indented, with a line's end.
///
/// # Errors
/// As [`document`].
pub fn text() -> Result<String> {
    Ok(serde_json::to_string_pretty(&document()?).map_err(Error::internal)? + "\n")
}

#[cfg(test)]
mod tests {
    use airunner_proto::DESCRIPTOR_SET;
    use prost_reflect::{DescriptorPool, DynamicMessage};
    use serde_json::{Map, Value};

    #[test]
    fn the_document_in_docs_is_that_of_this_code() {
        assert!(
            super::COMMITTED == super::text().unwrap(),
            "the API has changed: run `make docs-generate` and commit the result"
        );
    }

    /// The example of a JSON body, and the message that it is of.
    fn example<'a>(content: &'a Value, otherwise: &str) -> (&'a Value, String) {
        let schema =
            content["schema"]["$ref"].as_str().and_then(|of| of.strip_prefix("#/components/schemas/"));
        (&content["example"], schema.unwrap_or(otherwise).to_owned())
    }

    #[test]
    fn every_example_is_a_message_that_would_be_taken() {
        let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
        let document = super::document().unwrap();
        let mut seen = 0;
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let paths = document["paths"].as_object().unwrap().values();
            let operations = paths.flat_map(|path| path.as_object().unwrap().values());
            let operation =
                operations.into_iter().find(|operation| operation["operationId"] == method.name());
            let Some(operation) = operation else { continue };
            let request = &operation["requestBody"]["content"]["application/json"];
            let response = &operation["responses"]["200"]["content"]["application/json"];
            let (input, output) = (method.input(), method.output());
            for (content, of) in [(request, input.full_name()), (response, output.full_name())] {
                if content.is_null() {
                    continue;
                }
                let (example, name) = example(content, of);
                let message = pool.get_message_by_name(&name).unwrap();
                // Of some requests, the path says it all.
                let properties =
                    content["schema"]["properties"].as_object().map_or(message.fields().len(), Map::len);
                assert!(
                    properties == 0 || example.as_object().is_some_and(|example| !example.is_empty()),
                    "{name}"
                );
                let read = DynamicMessage::deserialize(message, example);
                assert!(read.is_ok(), "{name}: {read:?} of {example}");
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }
}
