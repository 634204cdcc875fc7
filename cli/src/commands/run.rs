//! `husk run`: create, attach, wait, start, stream.

use super::attached::{self, Plan};
use super::{Session, create};
use crate::args::RunArgs;
use crate::exit::{CommandResult, Failure};
use crate::printer;
use crate::terminal;

pub(super) async fn run(session: &Session, args: &RunArgs) -> CommandResult {
    let result = run_inner(session, args).await;
    result.map_err(|failure| failure.of_command("run"))
}

async fn run_inner(session: &Session, args: &RunArgs) -> CommandResult {
    let foreground = !args.detach;
    if foreground && args.create.tty && args.create.interactive && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let keys = attached::detach_keys(args.detach_keys.as_deref())?;
    let client = session.client()?;
    let id = create::create(&client, &args.create, foreground).await?;
    if args.detach {
        attached::start(&client, &id).await?;
        printer::line(&id);
        return Ok(0);
    }
    let plan = Plan {
        stdin: args.create.interactive,
        tty: args.create.tty,
        keys,
        sig_proxy: args.sig_proxy,
        auto_remove: args.create.rm,
    };
    attached::run(&client, &id, plan).await
}
