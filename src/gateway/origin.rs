//! Whether a browser's page may open a socket here. Programs send no `Origin` and are not asked.

use poem::Request;
use poem::http::header::{HOST, ORIGIN};

use crate::config::Cors;
use crate::error::{Code, Error, Result};

/// Refuses a page of a foreign origin that was not allowed in.
pub fn check(request: &Request, cors: &Cors) -> Result<()> {
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    match origin.to_str() {
        Ok(origin) if cors.allows(origin) || is_same(origin, host) => Ok(()),
        _ => Err(Error::new(Code::Forbidden, "foreign_origin", "pages of this origin may not connect here")),
    }
}

fn is_same(origin: &str, host: Option<&str>) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some() && authority == host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(origin: &'static str, cors: &Cors) -> bool {
        let request = Request::builder().header("Host", "chat.shop.test").header("Origin", origin).finish();
        check(&request, cors).is_err()
    }

    #[test]
    fn only_the_same_or_an_allowed_origin_may_connect() {
        let allowed = Cors::Origins(vec!["https://shop.test".into()]);
        assert!(!refused("https://chat.shop.test", &allowed));
        assert!(!refused("https://shop.test", &allowed));
        assert!(refused("https://evil.test", &allowed));
        assert!(refused("null", &allowed));
        assert!(!refused("https://evil.test", &Cors::Any));
        assert!(check(&Request::builder().finish(), &Cors::SameOrigin).is_ok());
    }
}
