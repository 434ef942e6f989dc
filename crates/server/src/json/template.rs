//! Path templates of `google.api.http`: literals, `*`, `**`, variables over them, and a verb after a colon.

use percent_encoding::percent_decode_str;

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Segment>,
    variables: Vec<Variable>,
    verb: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// One segment, whatever it is.
    One,
    /// What is left of the path; stands last.
    Rest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    /// The field, with dots between names.
    field: String,
    /// Its segments: from, to.
    from: usize,
    to: usize,
}

impl Template {
    /// Reads a template such as `/v1/{name=shelves/*}:move`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = |what: &str| format!("the path template {text:?} {what}");
        let rest = text.strip_prefix('/').ok_or_else(|| fault("does not begin with a slash"))?;
        let (path, verb) = match rest.rsplit_once(':') {
            Some((path, verb)) if !verb.contains(['/', '}']) => (path, Some(verb.to_owned())),
            _ => (rest, None),
        };
        let mut template = Self { segments: Vec::new(), variables: Vec::new(), verb };
        let mut left = path;
        loop {
            left = if let Some(variable) = left.strip_prefix('{') {
                let (inside, after) =
                    variable.split_once('}').ok_or_else(|| fault("leaves a variable open"))?;
                template.variable(inside);
                after
            } else {
                let end = left.find('/').unwrap_or(left.len());
                template.segments.push(Segment::read(&left[..end]));
                &left[end..]
            };
            match left.strip_prefix('/') {
                Some(next) => left = next,
                None if left.is_empty() => break,
                None => return Err(fault("has a variable that is not a whole segment")),
            }
        }
        let inner = &template.segments[..template.segments.len().saturating_sub(1)];
        if inner.contains(&Segment::Rest) {
            return Err(fault("has ** before its end"));
        }
        if template.segments.iter().any(|segment| *segment == Segment::Literal(String::new())) {
            return Err(fault("has an empty segment"));
        }
        Ok(template)
    }

    fn variable(&mut self, inside: &str) {
        let (field, pattern) = inside.split_once('=').unwrap_or((inside, "*"));
        let from = self.segments.len();
        self.segments.extend(pattern.split('/').map(Segment::read));
        self.variables.push(Variable { field: field.to_owned(), from, to: self.segments.len() });
    }

    /// The fields that the path gives.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.field.as_str())
    }

    /// Whether a path is both this template's and the other's can't be told apart.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.segments == other.segments && self.verb == other.verb
    }

    /// Whether it ends in a verb, as in `:revoke`.
    pub(super) fn has_verb(&self) -> bool {
        self.verb.is_some()
    }

    /// A verb and more literals come before none and fewer.
    pub(super) fn precision(&self) -> (bool, usize) {
        let literals = self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_)));
        (self.has_verb(), literals.count())
    }

    /// What the variables are in a path of these segments, if it is of this template.
    ///
    /// Fails where a variable's percent encoding is not of UTF-8.
    pub(super) fn matches(&self, path: &[&str]) -> Result<Option<Vec<(String, String)>>, String> {
        let Some((last, _)) = path.split_last() else { return Ok(None) };
        let stem = match &self.verb {
            None => last,
            Some(verb) => match last.strip_suffix(verb.as_str()).and_then(|last| last.strip_suffix(':')) {
                Some(stem) => stem,
                None => return Ok(None),
            },
        };
        let given = |at: usize| if at + 1 == path.len() { stem } else { path[at] };
        if !self.fits(path.len(), given) {
            return Ok(None);
        }
        let value = |variable: &Variable| {
            let to = if self.segments[variable.to - 1] == Segment::Rest { path.len() } else { variable.to };
            let parts = (variable.from..to).map(|at| percent_decode_str(given(at)).decode_utf8());
            match parts.collect::<Result<Vec<_>, _>>() {
                Ok(parts) => Ok((variable.field.clone(), parts.join("/"))),
                Err(_) => Err(variable.field.clone()),
            }
        };
        self.variables.iter().map(value).collect::<Result<_, _>>().map(Some)
    }

    fn fits<'a>(&self, count: usize, given: impl Fn(usize) -> &'a str) -> bool {
        let open = self.segments.last() == Some(&Segment::Rest);
        let fixed = self.segments.len() - usize::from(open);
        let enough = if open { count >= fixed } else { count == fixed };
        enough
            && self.segments[..fixed].iter().enumerate().all(|(at, segment)| match segment {
                Segment::Literal(literal) => literal == given(at),
                Segment::One => !given(at).is_empty(),
                Segment::Rest => true,
            })
    }
}

/// The segments of a path, each as it is encoded; none of what is no path.
pub(super) fn segments(path: &str) -> Vec<&str> {
    path.strip_prefix('/').map(|path| path.split('/').collect()).unwrap_or_default()
}

impl Segment {
    fn read(text: &str) -> Self {
        match text {
            "*" => Self::One,
            "**" => Self::Rest,
            literal => Self::Literal(literal.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(template: &str, path: &str) -> Option<Vec<String>> {
        let found = Template::parse(template).unwrap().matches(&segments(path)).unwrap();
        found.map(|found| found.into_iter().map(|(field, value)| format!("{field}={value}")).collect())
    }

    #[test]
    fn a_variable_is_one_segment_and_decoded() {
        assert_eq!(
            matched("/v1/principals/{principal_id}", "/v1/principals/w%2F1"),
            Some(vec!["principal_id=w/1".to_owned()])
        );
        assert_eq!(matched("/v1/principals/{principal_id}", "/v1/principals/"), None);
        assert_eq!(matched("/v1/principals/{principal_id}", "/v1/principals/w1/x"), None);
        assert_eq!(matched("/v1/principals/{principal_id}", "/v2/principals/w1"), None);
    }

    #[test]
    fn a_verb_stands_after_the_last_colon() {
        let template = "/v1/principals/{principal_id}:suspend";
        assert_eq!(
            matched(template, "/v1/principals/a:b:suspend"),
            Some(vec!["principal_id=a:b".to_owned()])
        );
        assert_eq!(matched(template, "/v1/principals/a"), None);
        assert_eq!(matched(template, "/v1/principals/a%3Asuspend"), None);
        assert_eq!(matched(template, "/v1/principals/:suspend"), None);
    }

    #[test]
    fn a_variable_may_be_a_pattern_of_its_own() {
        let template = "/v1/{name=shelves/*/books/*}:move";
        assert_eq!(
            matched(template, "/v1/shelves/1/books/2:move"),
            Some(vec!["name=shelves/1/books/2".to_owned()])
        );
        assert_eq!(matched("/files/{path=**}", "/files/a/b%20c"), Some(vec!["path=a/b c".to_owned()]));
        assert_eq!(matched("/files/{path=**}", "/files"), Some(vec!["path=".to_owned()]));
    }

    #[test]
    fn what_is_no_text_is_named() {
        let template = Template::parse("/v1/{id}").unwrap();
        assert_eq!(template.matches(&segments("/v1/%ff")), Err("id".to_owned()));
    }

    #[test]
    fn a_template_that_means_nothing_is_refused() {
        for text in ["v1/x", "/v1//x", "/v1/{id", "/v1/{id}x", "/v1/**/x", "/v1/{p=**}/x"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
