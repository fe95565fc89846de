//! Texts in which names stand for what a message has.

use std::fmt;

use leasehold_core::message::Message;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// In a URL everything else is encoded: a value cannot add a path, a query or a host.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Key,
    Header(String),
}

/// A text with places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

/// What a template asks for and a message lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has no {0}, which the template asks for")]
pub struct TemplateError(String);

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, place) = rest.split_at(open);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let inner = place.strip_prefix('{').and_then(|place| place.split_once('}'));
            let Some((name, after)) = inner else {
                return Err(
                    "it has a brace that none belongs to: write {id}, {key} or {header.NAME}".to_owned()
                );
            };
            parts.push(match name {
                "id" => Part::Id,
                "key" => Part::Key,
                _ => match name.strip_prefix("header.") {
                    Some(header) if !header.is_empty() => Part::Header(header.to_owned()),
                    _ => {
                        return Err(format!(
                            "it asks for {{{name}}}: there are {{id}}, {{key}} and {{header.NAME}}"
                        ));
                    }
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// A URL of HTTP whose scheme, host and port are fixed.
    pub(super) fn parse_url(text: &str) -> Result<Self, String> {
        let template = Self::parse(text)?;
        let example = "for example https://crm.example/orders/{header.region}";
        let fixed = match template.0.first() {
            Some(Part::Text(fixed)) => fixed.as_str(),
            _ => return Err(format!("it begins with no scheme and host, {example}")),
        };
        let rest = fixed.strip_prefix("https://").or_else(|| fixed.strip_prefix("http://"));
        let Some(rest) = rest else { return Err(format!("it is not of http or https, {example}")) };
        if template.0.len() > 1 && !rest.contains(['/', '?', '#']) {
            return Err(format!(
                "its host is not fixed: a message must not choose whom it goes to, {example}"
            ));
        }
        let tried = template.fill_with(|_| Ok("x".to_owned()), false).map_err(|error| error.to_string())?;
        let url =
            reqwest::Url::parse(&tried).map_err(|error| format!("it cannot be read ({error}), {example}"))?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err(
                "it holds a user or a password: give these as a secret header, authorization".to_owned()
            );
        }
        Ok(template)
    }

    /// The text, if it asks for nothing.
    pub(super) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(fixed)] => Some(fixed),
            _ => None,
        }
    }

    pub(super) fn fill(&self, message: &Message) -> Result<String, TemplateError> {
        self.fill_with(|part| value(part, message), false)
    }

    pub(super) fn fill_url(&self, message: &Message) -> Result<String, TemplateError> {
        self.fill_with(|part| value(part, message), true)
    }

    fn fill_with(
        &self,
        value: impl Fn(&Part) -> Result<String, TemplateError>,
        encoded: bool,
    ) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                // A segment of dots would climb up in the path.
                place => match value(place)? {
                    dots if encoded && matches!(dots.as_str(), "." | "..") => {
                        text.push_str(&dots.replace('.', "%252E"))
                    }
                    plain if encoded => text.extend(utf8_percent_encode(&plain, KEPT)),
                    plain => text.push_str(&plain),
                },
            }
        }
        Ok(text)
    }
}

fn value(part: &Part, message: &Message) -> Result<String, TemplateError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match part {
        Part::Text(fixed) => Ok(fixed.clone()),
        Part::Id => Ok(message.id().into_owned()),
        Part::Key => message.key().map(|key| text(key)).ok_or_else(|| TemplateError("key".to_owned())),
        Part::Header(name) => message
            .header(name)
            .map(|value| text(value))
            .ok_or_else(|| TemplateError(format!("header {name:?}"))),
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(fixed) => f.write_str(fixed)?,
                Part::Id => f.write_str("{id}")?,
                Part::Key => f.write_str("{key}")?,
                Part::Header(name) => write!(f, "{{header.{name}}}")?,
            }
        }
        Ok(())
    }
}
