//! `husk inspect`.

use serde_json::Value;

use super::Session;
use crate::args::InspectArgs;
use crate::exit::{CommandResult, Failure};
use crate::format::{self, Template};
use crate::printer;

pub(super) async fn run(session: &Session, args: &InspectArgs) -> CommandResult {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(text) => Some(Template::parse(text)?),
    };
    let client = session.client()?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &args.names {
        match client.inspect(name).await {
            Ok(container) => found.push(to_value(&container)?),
            Err(error) if error.status() == Some(404) => {
                missing.push(format!("Error: No such object: {name}"));
            }
            Err(error) => missing.push(error.to_string()),
        }
    }
    match &template {
        None => printer::line(&format::pretty(&Value::Array(found), "    ")),
        Some(template) => {
            for container in &found {
                printer::line(&template.render(container)?);
            }
        }
    }
    for message in &missing {
        printer::error_line(message);
    }
    Ok(u8::from(!missing.is_empty()))
}

/// An API model as a template sees it.
pub(super) fn to_value<T: serde::Serialize>(model: &T) -> Result<Value, Failure> {
    serde_json::to_value(model)
        .map_err(|error| Failure::new(format!("failed to read the daemon's answer: {error}")))
}
