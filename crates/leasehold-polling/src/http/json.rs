//! Parts of a JSON text, exactly as they are written there: pure.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

/// What is at a JSON pointer (RFC 6901); none where there is nothing.
///
/// # Errors
/// When the text is no JSON.
pub(super) fn at<'a>(text: &'a str, pointer: &str) -> Result<Option<&'a str>, serde_json::Error> {
    let mut found: &RawValue = serde_json::from_str(text)?;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let next = if found.get().starts_with('{') {
            let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(found.get())?;
            fields.get(part.as_str()).copied()
        } else if found.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(found.get())?;
            part.parse::<usize>().ok().and_then(|at| items.get(at).copied())
        } else {
            None
        };
        match next {
            Some(next) => found = next,
            None => return Ok(None),
        }
    }
    Ok(Some(found.get()))
}

/// The items of an array; none if it is no array.
pub(super) fn items(text: &str) -> Option<Vec<&str>> {
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(items.into_iter().map(RawValue::get).collect())
}

/// A text without its quotes, anything else as it is written; none for null.
pub(super) fn plain(text: &str) -> Option<String> {
    if text == "null" {
        return None;
    }
    Some(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_is_written() {
        let text = r#"{"a/b": {"x": [1.10, {"id": "z\u0041"}, 123456789012345678901234567890]}, "n": null}"#;
        assert_eq!(at(text, "").unwrap(), Some(text));
        let array = at(text, "/a~1b/x").unwrap().unwrap();
        assert_eq!(items(array).unwrap(), ["1.10", r#"{"id": "z\u0041"}"#, "123456789012345678901234567890"]);
        assert_eq!(plain(at(text, "/a~1b/x/1/id").unwrap().unwrap()).as_deref(), Some("zA"));
        assert_eq!(plain("17").as_deref(), Some("17"));
        assert_eq!((plain("null"), at(text, "/a/b").unwrap(), items("{}")), (None, None, None));
        assert!(at("{", "/a").is_err());
    }
}
