//! `husk rm`.

use super::{Session, each};
use crate::args::RmArgs;
use crate::exit::CommandResult;

pub(super) async fn run(session: &Session, args: &RmArgs) -> CommandResult {
    let client = session.client()?;
    each(&args.containers, async |id| {
        match client.remove(id, args.force, args.volumes).await {
            // With --force a container that is not there is removed already.
            Err(error) if args.force && error.status() == Some(404) => Ok(()),
            other => other,
        }
    })
    .await
}
