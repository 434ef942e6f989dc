//! The table of `google.api.http` bindings.

use std::sync::Arc;

use http::Method as Verb;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

use super::{
    Rpc,
    message::field_at,
    template::{self, Template},
};

/// One binding of an RPC.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) verb: Verb,
    /// The template as it is written.
    pub(super) path: String,
    template: Template,
    /// The field that the body is, `*` for the whole message, or nothing for no body.
    pub(super) body: String,
    /// The field of the answer that is sent, or nothing for the whole message.
    pub(super) response_body: String,
}

/// Bindings, those that say more about the path before those that say less.
#[derive(Debug, Default)]
pub(super) struct Routes(Vec<(Arc<Rule>, Arc<Rpc>)>);

/// What there is for a request.
pub(super) enum Found {
    Route {
        rpc: Arc<Rpc>,
        rule: Arc<Rule>,
        variables: Vec<(String, String)>,
    },
    /// The path is known with other verbs, for these RPCs.
    OtherVerb {
        allowed: Vec<Verb>,
        there: Vec<String>,
    },
    /// A variable in the path is no text.
    Garbled {
        field: String,
        there: Vec<String>,
    },
    Nothing,
}

impl Routes {
    pub(super) fn add(&mut self, rule: Rule, rpc: &Arc<Rpc>) -> Result<(), String> {
        if let Some((_, other)) = self
            .0
            .iter()
            .find(|(known, _)| known.verb == rule.verb && known.template.overlaps(&rule.template))
        {
            return Err(format!("{} and {} are bound to the same path", other.path, rpc.path));
        }
        self.0.push((Arc::new(rule), rpc.clone()));
        self.0.sort_by_key(|(rule, _)| std::cmp::Reverse(rule.template.precision()));
        Ok(())
    }

    /// Every binding with its RPC.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Rule, &Rpc)> {
        self.0.iter().map(|(rule, rpc)| (&**rule, &**rpc))
    }

    /// HEAD is GET without its body. A path that ends in a template's verb is of that template, and never the name of
    /// a thing that ends so: such a name has its colon percent-encoded.
    pub(super) fn find(&self, verb: &Verb, path: &str) -> Found {
        let asked = if verb == Verb::HEAD { &Verb::GET } else { verb };
        let given = template::segments(path);
        let (mut allowed, mut there) = (Vec::new(), Vec::new());
        let mut of_a_verb = false;
        for (rule, rpc) in &self.0 {
            if of_a_verb && !rule.template.has_verb() {
                break;
            }
            let matched = match rule.template.matches(&given) {
                Ok(matched) => matched,
                Err(field) => return Found::Garbled { field, there: vec![rpc.path.clone()] },
            };
            let Some(variables) = matched else { continue };
            of_a_verb |= rule.template.has_verb();
            if rule.verb == *asked {
                return Found::Route { rpc: rpc.clone(), rule: rule.clone(), variables };
            }
            there.push(rpc.path.clone());
            if !allowed.contains(&rule.verb) {
                allowed.push(rule.verb.clone());
            }
        }
        if there.is_empty() {
            return Found::Nothing;
        }
        if allowed.contains(&Verb::GET) {
            allowed.push(Verb::HEAD);
        }
        Found::OtherVerb { allowed, there }
    }
}

impl Rule {
    /// The fields that the path gives.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.template.fields()
    }

    /// The bindings that a method declares.
    pub(super) fn of(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Vec<Self>, String> {
        let options = method.options();
        let Some(extension) = pool.get_extension_by_name("google.api.http") else { return Ok(Vec::new()) };
        if !options.has_extension(&extension) {
            return Ok(Vec::new());
        }
        let value = options.get_extension(&extension).into_owned();
        let Some(first) = value.as_message() else { return Ok(Vec::new()) };
        let more = first.get_field_by_name("additional_bindings").map(std::borrow::Cow::into_owned);
        let more = more.as_ref().and_then(Value::as_list).unwrap_or_default();
        let rules = std::iter::once(first).chain(more.iter().filter_map(Value::as_message));
        let named = |fault| format!("{}: {fault}", method.full_name());
        rules.map(|rule| Self::read(rule, method).map_err(named)).collect()
    }

    fn read(rule: &DynamicMessage, method: &MethodDescriptor) -> Result<Self, String> {
        let text = |name: &str| {
            let value = rule.get_field_by_name(name).map(std::borrow::Cow::into_owned);
            value.as_ref().and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let verbs = [
            ("get", Verb::GET),
            ("put", Verb::PUT),
            ("post", Verb::POST),
            ("delete", Verb::DELETE),
            ("patch", Verb::PATCH),
        ];
        let mut patterns = verbs.into_iter().filter_map(|(name, verb)| text(name).map(|path| (verb, path)));
        let (verb, path) = patterns.next().ok_or("a binding names no path")?;
        let template = Template::parse(&path)?;
        for field in template.fields() {
            field_at(&method.input(), field)?;
        }
        let body = text("body").unwrap_or_default();
        if !matches!(body.as_str(), "" | "*") {
            field_at(&method.input(), &body)?;
        }
        let response_body = text("response_body").unwrap_or_default();
        if !response_body.is_empty() {
            field_at(&method.output(), &response_body)?;
        }
        Ok(Self { verb, path, template, body, response_body })
    }
}
