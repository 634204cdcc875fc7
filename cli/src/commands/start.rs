//! `husk start`.

use super::attached::{self, Plan};
use super::{Session, each};
use crate::args::StartArgs;
use crate::client::Client;
use crate::exit::{CommandResult, Failure};

pub(super) async fn run(session: &Session, args: &StartArgs) -> CommandResult {
    let client = session.client()?;
    if args.attach || args.interactive {
        return match args.containers.as_slice() {
            [id] => attach(&client, id, args).await,
            _ => Err(Failure::new("you cannot start and attach multiple containers at once")),
        };
    }
    let status = each(&args.containers, async |id| client.start(id).await).await?;
    if status != 0 {
        return Err(Failure::with_status(1, "failed to start containers"));
    }
    Ok(0)
}

async fn attach(client: &Client, id: &str, args: &StartArgs) -> CommandResult {
    let keys = attached::detach_keys(args.detach_keys.as_deref())?;
    let container = client.inspect(id).await?.docker;
    let config = container.config.unwrap_or_default();
    let host = container.host_config.unwrap_or_default();
    let plan = Plan {
        stdin: args.interactive && config.open_stdin == Some(true),
        tty: config.tty == Some(true),
        keys,
        sig_proxy: true,
        auto_remove: host.auto_remove == Some(true),
    };
    let id = container.id.unwrap_or_else(|| id.to_owned());
    attached::run(client, &id, plan).await
}
