//! Distinguished names, to the text that people read and to the form in which rcgen writes them again.

use data_encoding::HEXLOWER;
use rcgen::{DistinguishedName, DnType, DnValue};
use x509_parser::{
    asn1_rs::Tag,
    x509::{AttributeTypeAndValue, X509Name},
};

/// A name that is a common name alone, as text (RFC 4514).
pub(crate) fn common_name_text(common_name: &str) -> String {
    let mut text = String::with_capacity(common_name.len() + 3);
    text.push_str("CN=");
    push_escaped(&mut text, common_name);
    text
}

/// A name as text (RFC 4514 section 2.1: the last RDN first).
pub(crate) fn text(name: &X509Name<'_>) -> String {
    let rdns: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (place, rdn) in rdns.iter().rev().enumerate() {
        for (part, attribute) in rdn.iter().enumerate() {
            if part > 0 {
                text.push('+');
            } else if place > 0 {
                text.push(',');
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

/// The name as rcgen would write it; none if rcgen has no way to write it byte for byte: an RDN of several attributes,
/// an attribute type that stands twice, or a string of an old type.
pub(crate) fn reproduced(name: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut reproduced = DistinguishedName::new();
    for rdn in name.iter_rdn() {
        let mut attributes = rdn.iter();
        let (attribute, None) = (attributes.next()?, attributes.next()) else { return None };
        let components: Vec<u64> = attribute.attr_type().iter()?.collect();
        let dn_type = DnType::from_oid(&components);
        if reproduced.get(&dn_type).is_some() {
            return None;
        }
        reproduced.push(dn_type, value(attribute)?);
    }
    Some(reproduced)
}

fn value(attribute: &AttributeTypeAndValue<'_>) -> Option<DnValue> {
    let text = attribute.as_str().ok()?;
    match attribute.attr_value().tag() {
        Tag::Utf8String => Some(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => Some(DnValue::PrintableString(text.try_into().ok()?)),
        Tag::Ia5String => Some(DnValue::Ia5String(text.try_into().ok()?)),
        _ => None,
    }
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let known = KEYWORDS.iter().find(|(known, _)| *known == oid);
    text.push_str(known.map_or(oid.as_str(), |(_, keyword)| keyword));
    text.push('=');
    if let Ok(value) = attribute.as_str() {
        push_escaped(text, value);
    } else {
        text.push('#');
        text.push_str(&HEXLOWER.encode(attribute.attr_value().data));
    }
}

/// RFC 4514 section 2.4; control characters too, so that a name can't forge a line of a log.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (place, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            '#' if place == 0 => text.push_str("\\#"),
            ' ' if place == 0 || place == last => text.push_str("\\ "),
            _ if character.is_control() => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    text.push('\\');
                    text.push_str(&HEXLOWER.encode(&[byte]));
                }
            }
            _ => text.push(character),
        }
    }
}

/// RFC 4514 section 3, and the one that everybody knows beside them.
const KEYWORDS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_pass_for_another() {
        assert_eq!(common_name_text("alice"), "CN=alice");
        assert_eq!(common_name_text("a,O=x"), "CN=a\\,O=x");
        assert_eq!(common_name_text("#a b "), "CN=\\#a b\\ ");
        assert_eq!(common_name_text("a\nb"), "CN=a\\0ab");
    }
}
