//! `husk version`.

use std::fmt::Write as _;

use husk_api::models::SystemVersion;
use serde_json::{Value, json};

use super::Session;
use super::inspect::to_value;
use crate::args::FormatArgs;
use crate::exit::{CommandResult, Failure};
use crate::format::Template;
use crate::printer;

pub(super) async fn run(session: &Session, args: &FormatArgs) -> CommandResult {
    let template = args.format.as_deref().map(Template::of_format).transpose()?;
    let server = async { session.client()?.version().await }.await;
    if let Some(template) = template {
        let mut document = json!({ "Client": client() });
        document["Server"] = match &server {
            Ok(server) => to_value(server)?,
            Err(_) => Value::Null,
        };
        printer::line(&template.render(&document)?);
    } else {
        printer::text_out(&text(server.as_ref().ok()));
    }
    server.map(|_| 0).map_err(Failure::from)
}

/// `linux/amd64`, in Docker's words.
fn platform() -> (&'static str, &'static str) {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    (std::env::consts::OS, arch)
}

fn client() -> Value {
    let (os, arch) = platform();
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": husk_api::API_VERSION,
        "DefaultAPIVersion": husk_api::API_VERSION,
        "Os": os,
        "Arch": arch,
    })
}

fn text(server: Option<&SystemVersion>) -> String {
    let (os, arch) = platform();
    let mut text = format!(
        "Client: Husk\n Version:           {}\n API version:       {}\n OS/Arch:           {os}/{arch}\n",
        env!("CARGO_PKG_VERSION"),
        husk_api::API_VERSION,
    );
    let Some(server) = server else { return text };
    let of = |field: &Option<String>| field.clone().unwrap_or_default();
    let rows = [
        ("Version:", of(&server.version)),
        (
            "API version:",
            format!(
                "{} (minimum version {})",
                of(&server.api_version),
                of(&server.min_api_version)
            ),
        ),
        ("OS/Arch:", format!("{}/{}", of(&server.os), of(&server.arch))),
        ("Kernel version:", of(&server.kernel_version)),
    ];
    text += "\nServer: Husk\n Engine:\n";
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(text, "  {name:<17}{value}").expect("a string takes all");
    }
    text
}
