//! Requests of the Engine API, before anything acts on them: paths, parameters, filters,
//! credentials.

#![no_main]

use husk_fuzz::{MEBIBYTE, bounded};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Uri};
use libfuzzer_sys::fuzz_target;

// The daemon is a program, not a library: its parsers are compiled in as they are.
#[path = "../../../cli/src/daemon/auth.rs"]
mod auth;
#[path = "../../../cli/src/daemon/filter.rs"]
mod filter;
#[path = "../../../cli/src/daemon/query.rs"]
mod query;
#[path = "../../../cli/src/daemon/route.rs"]
mod route;

fuzz_target!(|bytes: &[u8]| {
    bounded(4 * MEBIBYTE, || {
        let Some((&choice, bytes)) = bytes.split_first() else { return };
        if let Ok(value) = HeaderValue::from_bytes(bytes) {
            let mut headers = HeaderMap::new();
            headers.insert("x-registry-auth", value);
            let _ = auth::credentials(&headers);
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let methods = [Method::GET, Method::POST, Method::DELETE, Method::HEAD, Method::PUT];
        let method = &methods[usize::from(choice) % methods.len()];
        let found = route::find(method, text);
        let version = route::Route::Version;
        assert!(
            found != version || text.trim_matches('/').contains("version") || text.contains('%')
        );
        if let Ok(filters) = filter::parse(Some(text)) {
            for pattern in filters.values().flatten() {
                let _ = filter::glob(pattern, text);
            }
        }
        let (pattern, name) = text.split_once('\n').unwrap_or((text, text));
        if !pattern.contains(['*', '?']) {
            assert_eq!(filter::glob(pattern, name), pattern == name);
        }
        if let Ok(uri) = text.parse::<Uri>() {
            read_query(&uri);
        }
    });
});

fn read_query(uri: &Uri) {
    let Ok(query) = query::Query::of(uri) else { return };
    for name in ["since", "until", "tail", "h", "w", "signal", "all", "fromImage", "filters"] {
        let _ = query.flag(name);
        let _ = query.text(name);
        let _ = query.number::<u16>(name);
        let _ = query.number::<i64>(name);
        if let Ok(Some(time)) = query.time(name) {
            assert_ne!(time, 0);
        }
    }
}
