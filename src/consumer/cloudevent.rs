//! CloudEvents 1.0 over NATS: an event as one JSON document, however it was sent.
//!
//! In the structured mode the payload is that document. In the binary mode the payload is only its `data`, and each other
//! member is a header with the prefix `ce-`, percent-encoded where a header could not carry it. What is in the document is
//! not looked at here.

use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};

/// The most bytes of a payload that anybody looks at.
pub const PAYLOAD_LIMIT: usize = 256 << 10;

/// The media type of the structured mode.
const STRUCTURED: &str = "application/cloudevents+json";
/// What begins the name of a header that is a member of the envelope.
const PREFIX: &str = "ce-";

/// The event as one document.
pub fn envelope(headers: &[(String, String)], payload: &[u8]) -> Result<Value> {
    if payload.len() > PAYLOAD_LIMIT {
        return Err(Error::new(Code::TooLarge, "too_large", "the payload is larger than 256 KiB"));
    }
    let content_type = header(headers, "content-type").map(media_type);
    let attributes = attributes(headers);
    let document = parse(payload)?;
    if attributes.is_empty() || content_type.as_deref() == Some(STRUCTURED) {
        return Ok(document);
    }
    let mut envelope = Map::new();
    if let Some(given) = header(headers, "content-type") {
        envelope.insert("datacontenttype".into(), given.into());
    }
    envelope.extend(attributes);
    envelope.insert("data".into(), document);
    Ok(envelope.into())
}

fn parse(payload: &[u8]) -> Result<Value> {
    // What is not JSON is not repeated: where it stops being so is enough.
    serde_json::from_slice(payload).map_err(|error| {
        let place = format!("the payload is not JSON, at line {} column {}", error.line(), error.column());
        Error::invalid("not_json", place)
    })
}

/// Members of the envelope that come as headers; names of headers are taken in any case, as clients write them.
fn attributes(headers: &[(String, String)]) -> Map<String, Value> {
    let mut attributes = Map::new();
    for (name, value) in headers {
        if let Some(start) = name.get(..PREFIX.len())
            && start.eq_ignore_ascii_case(PREFIX)
        {
            attributes.entry(name[PREFIX.len()..].to_ascii_lowercase()).or_insert_with(|| decoded(value).into());
        }
    }
    attributes
}

fn header<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
}

/// A media type without its parameters.
fn media_type(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A value as it was before it was percent-encoded; what is no encoding of anything is left as it is.
fn decoded(value: &str) -> String {
    let bytes = value.trim().as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |place: usize| bytes.get(place).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_modes_are_one_document() {
        let document = json!({ "id": "1", "source": "/shop", "data": { "total": 1 } });
        let structured = document.to_string();
        for given in [&[][..], &[("Content-Type", "application/cloudevents+json; charset=utf-8"), ("ce-id", "9")]] {
            assert_eq!(envelope(&headers(given), structured.as_bytes()).ok(), Some(document.clone()), "{given:?}");
        }
        let binary = headers(&[("ce-id", "1"), ("Ce-Source", "/shop"), ("Nats-Msg-Id", "1"), ("CE-ID", "2")]);
        assert_eq!(envelope(&binary, br#"{"total":1}"#).ok(), Some(document));
    }

    #[test]
    fn the_type_of_the_data_comes_from_either_header() {
        let both = headers(&[("ce-id", "1"), ("ce-datacontenttype", "text/xml"), ("content-type", "application/json")]);
        assert_eq!(envelope(&both, b"{}").expect("JSON")["datacontenttype"], "text/xml", "the one of the envelope");
        let one = headers(&[("ce-id", "1"), ("content-type", "application/json")]);
        assert_eq!(envelope(&one, b"{}").expect("JSON")["datacontenttype"], "application/json");
    }

    #[test]
    fn a_header_is_decoded_where_it_is_encoded() {
        for (value, wanted) in
            [("caf%C3%A9%20%25", "café %"), (" plain ", "plain"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%FF", "%FF")]
        {
            assert_eq!(decoded(value), wanted);
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let reason = |payload: &[u8]| envelope(&[], payload).err().map(|error| error.reason());
        let deep = "[".repeat(200_000);
        for bad in ["", "{", "hello", "{\"a\":1e999}", "\u{feff}{}", deep.as_str()] {
            assert_eq!(reason(bad.as_bytes()), Some("not_json"), "{bad:.20}");
        }
        assert_eq!(reason(b"\xff\xfe"), Some("not_json"));
        let large = format!("\"{}\"", "x".repeat(PAYLOAD_LIMIT - 2));
        assert_eq!(reason(large.as_bytes()), None);
        assert_eq!(reason(format!("{large} ").as_bytes()), Some("too_large"));
    }
}
