//! `husk kill`.

use super::{Session, each};
use crate::args::KillArgs;
use crate::exit::CommandResult;

pub(super) async fn run(session: &Session, args: &KillArgs) -> CommandResult {
    let client = session.client()?;
    let signal = args.signal.as_deref().unwrap_or("KILL");
    each(&args.containers, async |id| client.kill(id, signal).await).await
}
