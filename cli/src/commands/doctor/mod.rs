//! `husk doctor`: whether and how this host can run microVMs, and what to do about it.

mod check;
mod host;
mod probe;

use super::Session;
use crate::args::{DoctorArgs, DoctorFormat};
use crate::exit::CommandResult;
use crate::format;
use crate::printer;

use check::{Finding, Status};

pub(super) async fn run(session: &Session, args: &DoctorArgs) -> CommandResult {
    let mut findings = probe::findings(&crate::location::libexec()).await;
    findings.extend(host::findings());
    findings.push(daemon(session).await);
    match args.format {
        DoctorFormat::Json => {
            let document = serde_json::to_value(&findings).expect("findings are plain texts");
            printer::line(&format::pretty(&document, "  "));
        }
        DoctorFormat::Text => findings.iter().for_each(|finding| printer::line(&finding.text())),
    }
    Ok(u8::from(findings.iter().any(|finding| finding.status == Status::Fail)))
}

/// Asks, but does not start it.
async fn daemon(session: &Session) -> Finding {
    const NAME: &str = "daemon";
    let socket = match session.socket() {
        Ok(socket) => socket,
        Err(error) => return Finding::fail(NAME, error.to_string(), "give another --host"),
    };
    match crate::autostart::answers(&socket) {
        Ok(false) => Finding::ok(
            NAME,
            format!("not running; it starts on first use (unix://{})", socket.display()),
        ),
        Err(error) => Finding::fail(NAME, error.to_string(), "check the socket and who you are"),
        Ok(true) => match crate::client::Client::new(&socket) {
            Err(error) => Finding::fail(NAME, error.to_string(), "restart the daemon"),
            Ok(client) => match client.version().await {
                Ok(version) => Finding::ok(
                    NAME,
                    format!(
                        "version {} answers on unix://{}",
                        version.version.unwrap_or_default(),
                        socket.display()
                    ),
                ),
                Err(error) => Finding::fail(NAME, error.to_string(), "restart the daemon"),
            },
        },
    }
}
