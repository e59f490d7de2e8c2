//! Bytes on their way out: whole or in part (RFC 9110, ranges and conditions), never more to a browser than a file to save
//! unless they are of a kind that is safe to show.

use std::fmt::Write as _;
use std::ops::Range;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Body, IntoResponse, Request, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::{Binary, Payload as _};
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;

use crate::error::Result;
use crate::query::Queries;
use crate::query::attachments::Found;

/// What a request wants of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// Nothing: they are what the client has.
    Unchanged,
    /// All of them.
    Whole,
    /// These.
    Part(Range<u64>),
    /// Something that is not there.
    Beyond,
}

/// Whether a list of tags names this one. Tags here are strong; a client may have been given a weak one by somebody between.
fn names(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// A place in bytes, as digits write it and nothing else does. One beyond all numbers is beyond all bytes.
fn place(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// `may_part` is whether the request is of a kind that can ask for a part: only GET can (RFC 9110, section 14.2).
fn wanted(headers: &HeaderMap, may_part: bool, tag: &str, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|list| names(list, tag)) {
        return Wanted::Unchanged;
    }
    // A part of what the client has a part of already, only as long as that is still the same.
    if text(header::IF_RANGE).is_some_and(|known| known != tag) {
        return Wanted::Whole;
    }
    let ranges = text(header::RANGE).filter(|_| may_part).and_then(|ranges| ranges.split_once('='));
    let Some((_, range)) = ranges.filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes")) else {
        return Wanted::Whole;
    };
    // Several at once, with commas between, may be answered with everything; nobody asks for it.
    match range.trim().split_once('-').map(|(from, to)| (place(from), place(to), from, to)) {
        Some((Some(from), Some(to), ..)) if from <= to => part(from, to.saturating_add(1), size),
        Some((Some(from), None, _, "")) => part(from, size, size),
        Some((None, Some(last), "", _)) => part(size.saturating_sub(last), size, if last == 0 { 0 } else { size }),
        // What cannot be understood is as good as not said.
        _ => Wanted::Whole,
    }
}

fn part(from: u64, to: u64, size: u64) -> Wanted {
    if from < size { Wanted::Part(from..to.min(size)) } else { Wanted::Beyond }
}

/// How a browser is to take it (RFC 6266): the name in ASCII for old ones, and as it is (RFC 8187).
fn disposition(found: &Found) -> String {
    let kind = if found.inline { "inline" } else { "attachment" };
    let plain: String = found
        .name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') { c } else { '_' })
        .collect();
    let mut text = format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''");
    for byte in found.name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Bytes, or a part of them.
pub(super) struct Content(Response);

impl Content {
    /// What a request asks for of what was found.
    pub(super) async fn of(queries: &Queries, found: &Found, request: &Request) -> Result<Self> {
        // The framework makes a GET of a HEAD.
        let asked = request.extensions().get::<Method>().unwrap_or(request.method());
        let wanted = wanted(request.headers(), asked == Method::GET, &found.tag, found.size);
        let mut response = Response::builder()
            .header(header::ETAG, &found.tag)
            .header(header::ACCEPT_RANGES, "bytes")
            // Kept by whoever has it, and asked for each time: the right to it may be gone.
            .header(header::CACHE_CONTROL, "private, no-cache")
            .header(header::CONTENT_DISPOSITION, disposition(found))
            .header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox; frame-ancestors 'none'")
            .header("cross-origin-resource-policy", "cross-origin")
            .content_type(&found.media_type);
        let range = match wanted {
            Wanted::Unchanged => return Ok(Self(response.status(StatusCode::NOT_MODIFIED).finish())),
            Wanted::Beyond => {
                let response = response
                    .status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .header(header::CONTENT_RANGE, format!("bytes */{}", found.size));
                return Ok(Self(response.finish()));
            }
            Wanted::Whole => None,
            Wanted::Part(range) => Some(range),
        };
        let length = range.as_ref().map_or(found.size, |range| range.end - range.start);
        if let Some(range) = &range {
            let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, found.size);
            response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, shown);
        }
        let response = response.header(header::CONTENT_LENGTH, length);
        if asked == Method::HEAD {
            return Ok(Self(response.finish()));
        }
        let bytes = queries.bytes(found, range).await?;
        let failed = |error: crate::error::Error| std::io::Error::other(error.to_string());
        let body = Body::from_bytes_stream(futures_util::TryStreamExt::map_err(bytes, failed));
        Ok(Self(response.body(body)))
    }
}

impl IntoResponse for Content {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Content {
    fn meta() -> MetaResponses {
        let of = |schema, name: &str, description: &str| MetaHeader {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            required: true,
            deprecated: false,
            schema,
        };
        let header = |name: &str, description: &str| of(String::schema_ref(), name, description);
        // Each has its own.
        let bytes = || vec![MetaMediaType { content_type: "*/*", schema: <Binary<Vec<u8>>>::schema_ref() }];
        let response = |status: u16, description, content, headers| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content,
            headers,
        };
        let tag = || header("ETag", "What changes with the bytes: for If-None-Match and If-Range.");
        let range = || header("Content-Range", "Which of how many bytes, such as `bytes 0-1023/4096`.");
        let none = || header("Content-Range", "How many bytes there are, such as `bytes */4096`.");
        let common = || {
            vec![
                tag(),
                of(u64::schema_ref(), "Content-Length", "How many bytes come."),
                header("Accept-Ranges", "Always `bytes`."),
                header("Content-Disposition", "`inline` or `attachment`, and the name (RFC 6266)."),
            ]
        };
        let partial = || common().into_iter().chain([range()]).collect();
        MetaResponses {
            responses: vec![
                response(200, "The bytes, with their own media type", bytes(), common()),
                response(206, "The bytes that Range asks for", bytes(), partial()),
                response(304, "They are what If-None-Match names", Vec::new(), vec![tag()]),
                response(416, "Range asks for what is not there", Vec::new(), vec![none()]),
            ],
        }
    }

    fn register(_registry: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(header::HeaderName, &str)]) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(name, HeaderValue::from_str(value).expect("a header"));
        }
        wanted(&headers, true, "\"tag\"", 100)
    }

    #[test]
    fn parts_are_understood_as_rfc_9110_has_them() {
        let range = |text: &str| ask(&[(header::RANGE, text)]);
        assert_eq!(range("bytes=0-0"), Wanted::Part(0..1));
        assert_eq!(range("bytes=10-19"), Wanted::Part(10..20));
        assert_eq!(range("bytes=90-"), Wanted::Part(90..100));
        assert_eq!(range("bytes=90-1000"), Wanted::Part(90..100));
        assert_eq!(range("bytes=-5"), Wanted::Part(95..100));
        assert_eq!(range("bytes=-500"), Wanted::Part(0..100));
        assert_eq!(range("bytes=100-"), Wanted::Beyond);
        assert_eq!(range("bytes=-0"), Wanted::Beyond);
        assert_eq!(range(&format!("bytes=0-{}", u64::MAX)), Wanted::Part(0..100));
        assert_eq!(range("Bytes=0-1"), Wanted::Part(0..2), "a unit is the same in capitals");
        // Beyond all numbers is beyond what is there, and up to there is up to its end.
        let beyond = "99999999999999999999999";
        assert_eq!(range(&format!("bytes={beyond}-")), Wanted::Beyond);
        assert_eq!(range(&format!("bytes={beyond}-{beyond}")), Wanted::Beyond);
        assert_eq!(range(&format!("bytes=10-{beyond}")), Wanted::Part(10..100));
        assert_eq!(range(&format!("bytes=-{beyond}")), Wanted::Part(0..100));
        for odd in [
            "bytes=9-1",
            "bytes=x-y",
            "bytes=",
            "bytes=-",
            "lines=0-1",
            "bytes=0-1,5-6",
            "bytes=0-1,-1",
            "bytes=+1-5",
            "bytes=1-+5",
            "bytes=-+5",
            "bytes=+5-",
            "bytes=--5",
            "bytes=1 - 5",
            "bytes 0-1",
            "0-1",
            "bytes=1.5-2",
        ] {
            assert_eq!(range(odd), Wanted::Whole, "{odd}");
        }
    }

    #[test]
    fn only_what_gets_bytes_gets_a_part_of_them() {
        let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-1"))]);
        assert_eq!(wanted(&headers, false, "\"tag\"", 100), Wanted::Whole);
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("\"tag\""))]);
        assert_eq!(wanted(&headers, false, "\"tag\"", 100), Wanted::Unchanged);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"tag\"")]), Wanted::Unchanged);
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"a\", W/\"tag\"")]), Wanted::Unchanged);
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "*")]), Wanted::Unchanged);
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"other\"")]), Wanted::Whole);
        let part = (header::RANGE, "bytes=0-1");
        assert_eq!(ask(&[(header::IF_RANGE, "\"tag\""), part.clone()]), Wanted::Part(0..2));
        assert_eq!(ask(&[(header::IF_RANGE, "\"other\""), part.clone()]), Wanted::Whole);
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"tag\""), part]), Wanted::Unchanged);
    }
}
