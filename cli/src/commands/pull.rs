//! `husk pull`.

use super::{Session, progress};
use crate::args::PullArgs;
use crate::exit::CommandResult;
use crate::multiplex::Output;
use crate::printer;
use crate::reference::ImageName;

pub(super) async fn run(session: &Session, args: &PullArgs) -> CommandResult {
    let client = session.client()?;
    let image = ImageName::parse(&args.image)?;
    if image.tag.is_none() && image.digest.is_none() && !args.quiet {
        printer::line("Using default tag: latest");
    }
    let platform = args.platform.as_deref();
    progress::pull(&client, &image, platform, (Output::Stdout, args.quiet)).await?;
    printer::line(&image.canonical());
    Ok(0)
}
