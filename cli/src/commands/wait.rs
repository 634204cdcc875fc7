//! `husk wait`.

use super::Session;
use crate::args::WaitArgs;
use crate::exit::CommandResult;
use crate::printer;

pub(super) async fn run(session: &Session, args: &WaitArgs) -> CommandResult {
    let client = session.client()?;
    let mut status = 0;
    for id in &args.containers {
        let code = async { client.wait(id, "not-running").await?.code().await };
        match code.await {
            Ok(code) => printer::line(&code.to_string()),
            Err(error) => {
                printer::error_line(&error.to_string());
                status = 1;
            }
        }
    }
    Ok(status)
}
