//! `husk info`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Session;
use super::inspect::to_value;
use crate::args::FormatArgs;
use crate::exit::CommandResult;
use crate::format::{Template, units};
use crate::printer;

/// What is shown: label, field, and whether the value is a number of bytes.
const ROWS: [(&str, &str, bool); 18] = [
    ("Containers", "Containers", false),
    (" Running", "ContainersRunning", false),
    (" Paused", "ContainersPaused", false),
    (" Stopped", "ContainersStopped", false),
    ("Images", "Images", false),
    ("Server Version", "ServerVersion", false),
    ("Storage Driver", "Driver", false),
    ("Cgroup Driver", "CgroupDriver", false),
    ("Cgroup Version", "CgroupVersion", false),
    ("Default Runtime", "DefaultRuntime", false),
    ("Kernel Version", "KernelVersion", false),
    ("Operating System", "OperatingSystem", false),
    ("OSType", "OSType", false),
    ("Architecture", "Architecture", false),
    ("CPUs", "NCPU", false),
    ("Total Memory", "MemTotal", true),
    ("Name", "Name", false),
    ("Docker Root Dir", "DockerRootDir", false),
];

pub(super) async fn run(session: &Session, args: &FormatArgs) -> CommandResult {
    let template = args.format.as_deref().map(Template::of_format).transpose()?;
    let mut info = to_value(&session.client()?.info().await?)?;
    if let Some(template) = template {
        info["ClientInfo"] = json!({ "Version": env!("CARGO_PKG_VERSION"), "Context": "default" });
        printer::line(&template.render(&info)?);
        return Ok(0);
    }
    printer::text_out(&text(&info));
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        printer::error_line(warning.as_str().unwrap_or_default());
    }
    Ok(0)
}

fn text(info: &Value) -> String {
    let mut text = format!("Client: Husk\n Version:    {}\n\nServer:\n", env!("CARGO_PKG_VERSION"));
    for (label, field, is_bytes) in ROWS {
        let value = match &info[field] {
            Value::Null => continue,
            Value::String(value) if value.is_empty() => continue,
            Value::String(value) => value.clone(),
            Value::Number(number) if is_bytes => {
                units::binary_size(number.as_u64().unwrap_or_default())
            }
            other => other.to_string(),
        };
        writeln!(text, " {label}: {value}").expect("a string takes all");
    }
    list(&mut text, "Insecure Registries", &info["RegistryConfig"]["InsecureRegistryCIDRs"]);
    list(&mut text, "Registry Mirrors", &info["RegistryConfig"]["Mirrors"]);
    text
}

fn list(text: &mut String, label: &str, values: &Value) {
    let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
    let lines: String = values.map(|value| format!("  {value}\n")).collect();
    if !lines.is_empty() {
        write!(text, " {label}:\n{lines}").expect("a string takes all");
    }
}
