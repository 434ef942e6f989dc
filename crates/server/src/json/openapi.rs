//! The OpenAPI 3.1 document of the bindings, out of the descriptors.

use prost_reflect::{FieldDescriptor, Kind, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::{
    Rpc, Transcoder,
    example::Examples,
    message::field_at,
    route::Rule,
    schema::{Comments, Schemas},
};

/// What the document says of itself.
pub struct About<'a> {
    /// The API's name.
    pub title: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What a reader should know first.
    pub description: &'a str,
    /// The extension of a method's options that names the permission it needs.
    pub permission: &'a str,
    /// The extension of a field's options that holds an example of it.
    pub example: &'a str,
    /// Statuses that any call may end with, and when.
    pub failures: &'a [(u16, &'a str)],
}

impl Transcoder {
    /// The document, with `more` paths beside those of the bindings.
    pub fn openapi(&self, about: &About<'_>, more: Map<String, Value>) -> Value {
        let comments = Comments::of(&self.pool);
        let examples = Examples::of(&self.pool, about.example);
        let mut schemas = Schemas::new(&comments, &examples);
        let mut paths = more;
        let mut bindings: Vec<_> = self.routes.iter().collect();
        bindings.sort_by_key(|(rule, rpc)| (rule.path.clone(), rpc.path.clone()));
        for (n, (rule, rpc)) in bindings.iter().enumerate() {
            let again = bindings[..n].iter().filter(|(_, other)| other.path == rpc.path).count();
            let mut operation = self.operation(about, &comments, rpc, again);
            operation["parameters"] = parameters(&mut schemas, rule, rpc).into();
            if !rule.body.is_empty() {
                operation["requestBody"] = request(&mut schemas, &examples, rule, rpc);
            }
            operation["responses"] = responses(about, &mut schemas, &examples, rpc);
            let path = paths.entry(rule.path.clone()).or_insert_with(|| json!({}));
            path[rule.verb.as_str().to_ascii_lowercase()] = operation;
        }
        let tags: Vec<_> = self
            .pool
            .services()
            .map(
                |service| json!({ "name": service.name(), "description": comments.get(service.full_name()) }),
            )
            .collect();
        let mut made = schemas.into_map();
        made.insert("Error".to_owned(), error_schema());
        json!({
            "openapi": "3.1.0",
            "info": { "title": about.title, "version": about.version, "description": about.description },
            "servers": [{ "url": "/" }],
            "tags": tags,
            "security": [{ "certificate": [] }],
            "paths": paths,
            "components": {
                "schemas": made,
                "responses": failures(about),
                "securitySchemes": {
                    "certificate": {
                        "type": "mutualTLS",
                        "description": "A certificate of this environment: see airunner-cli enroll.",
                    },
                },
            },
        })
    }

    fn operation(&self, about: &About<'_>, comments: &Comments, rpc: &Rpc, again: usize) -> Value {
        let method = rpc.path.trim_start_matches('/').replace('/', ".");
        let (service, name) = method.rsplit_once('.').unwrap_or_default();
        let mut id = name.to_owned();
        if again > 0 {
            id.push_str(&(again + 1).to_string());
        }
        let mut operation = json!({
            "operationId": id,
            "tags": [service.rsplit('.').next()],
            "description": comments.get(&method).unwrap_or_default(),
        });
        if let Some(permission) = self.permission(about, service, name) {
            if permission == "anonymous" {
                operation["security"] = json!([]);
            }
            operation["x-permission"] = permission.into();
        }
        operation
    }

    fn permission(&self, about: &About<'_>, service: &str, name: &str) -> Option<String> {
        let service = self.pool.get_service_by_name(service)?;
        let method: MethodDescriptor = service.methods().find(|method| method.name() == name)?;
        let extension = self.pool.get_extension_by_name(about.permission)?;
        let value = method.options().get_extension(&extension).into_owned();
        value.as_str().map(str::to_owned)
    }
}

/// What stands in the path, and for a binding without a body what may stand in the query.
fn parameters(schemas: &mut Schemas<'_>, rule: &Rule, rpc: &Rpc) -> Vec<Value> {
    let mut all = Vec::new();
    for name in rule.variables() {
        if let Ok(field) = field_at(&rpc.input, name) {
            // A segment is never empty.
            let mut schema = schemas.field(&field);
            schema["minLength"] = 1.into();
            all.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        }
    }
    if rule.body.is_empty() {
        let in_query = |field: &FieldDescriptor| {
            let textual = match field.kind() {
                Kind::Message(message) => message.full_name().starts_with("google.protobuf."),
                _ => true,
            };
            textual && !field.is_map() && !rule.variables().any(|name| name == field.name())
        };
        for field in rpc.input.fields().filter(in_query) {
            let schema = schemas.field(&field);
            all.push(json!({ "name": field.name(), "in": "query", "schema": schema }));
        }
    }
    all
}

/// The body: one field, or the message without what the path says.
fn request(schemas: &mut Schemas<'_>, examples: &Examples, rule: &Rule, rpc: &Rpc) -> Value {
    let in_path: Vec<_> = rule.variables().collect();
    let (schema, example) = if let Ok(field) = field_at(&rpc.input, &rule.body) {
        (schemas.field(&field), examples.field(&field))
    } else {
        let example = examples.message(&rpc.input, &in_path);
        (schemas.message_without(&rpc.input, &in_path), Some(example.into()))
    };
    json!({ "content": { "application/json": { "schema": schema, "example": example } } })
}

fn responses(about: &About<'_>, schemas: &mut Schemas<'_>, examples: &Examples, rpc: &Rpc) -> Value {
    let schema = schemas.message(&rpc.output);
    let example = Value::Object(examples.message(&rpc.output, &[]));
    let content = if rpc.gives_stream {
        let text = json!({ "type": "string" });
        let end = json!({ "end": {} });
        json!({
            "application/x-ndjson": { "x-line": schema, "schema": text, "example": format!("{example}\n{end}\n") },
            "text/event-stream": {
                "x-data": schema,
                "schema": text,
                "example": format!("data: {example}\n\nevent: end\ndata: {{}}\n\n"),
            },
        })
    } else {
        json!({ "application/json": { "schema": schema, "example": example } })
    };
    let mut responses = json!({ "200": { "description": "It was done.", "content": content } });
    for (status, _) in about.failures {
        let name = status.to_string();
        responses[&name] = json!({ "$ref": format!("#/components/responses/{name}") });
    }
    responses
}

fn failures(about: &About<'_>) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    let response =
        |when: &str| json!({ "description": when, "content": { "application/json": { "schema": schema } } });
    about
        .failures
        .iter()
        .map(|(status, when)| (status.to_string(), response(when)))
        .collect::<Map<_, _>>()
        .into()
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["label", "message"],
                "properties": {
                    "label": { "type": "string", "description": "The stable name of the failure." },
                    "message": { "type": "string", "description": "A sentence that says what to do." },
                    "field": { "type": "string", "description": "The field at fault, or the permission that is missing." },
                    "request_id": { "type": "string", "description": "Under which the server's log has it." },
                },
            },
        },
    })
}
