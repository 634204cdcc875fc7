//! How values are shown: Go templates (a subset), tables, units.

mod eval;
mod listing;
mod parser;
mod table;
mod template;
mod token;
pub(crate) mod units;

pub(crate) use listing::Listing;
pub(crate) use template::Template;

use serde::Serialize as _;
use serde_json::Value;

/// JSON for people, with an indent of Docker's choice.
pub(crate) fn pretty(value: &Value, indent: &str) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("a JSON value is always serialisable");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}
