//! `husk create`, and the first half of `husk run`.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::{Session, progress};
use crate::args::{CreateArgs, PullPolicy};
use crate::client::{Client, ClientError};
use crate::exit::{CommandResult, Failure};
use crate::multiplex::Output;
use crate::printer;
use crate::reference::ImageName;

pub(super) async fn run(session: &Session, args: &CreateArgs) -> CommandResult {
    let created = async { create(&session.client()?, args, true).await };
    let id = created.await.map_err(|failure: Failure| failure.of_command("create"))?;
    printer::line(&id);
    Ok(0)
}

/// Creates a container, pulling its image as the policy says; gives back its ID.
pub(super) async fn create(
    client: &Client,
    args: &CreateArgs,
    attached: bool,
) -> Result<String, Failure> {
    let lookup = |name: &str| std::env::var(name).ok();
    let body = args.body(attached, &lookup).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(path) = &args.cidfile
        && path.exists()
    {
        return Err(Failure::new(format!(
            "container ID file found, make sure the other container isn't running or delete {}",
            path.display()
        )));
    }
    let image = ImageName::parse(args.image())?;
    if args.pull == PullPolicy::Always {
        pull(client, &image, args).await?;
    }
    let (name, platform) = (args.name.as_deref(), args.platform.as_deref());
    let mut created = client.create(name, platform, body.clone()).await;
    if let Err(error) = &created
        && is_missing_image(error)
        && args.pull == PullPolicy::Missing
    {
        if !args.quiet {
            let familiar = image.familiar();
            printer::error_line(&format!("Unable to find image '{familiar}' locally"));
        }
        pull(client, &image, args).await?;
        created = client.create(name, platform, body).await;
    }
    let created = created?;
    for warning in &created.warnings {
        printer::error_line(&format!("WARNING: {warning}"));
    }
    write_cidfile(args, &created.id)?;
    Ok(created.id)
}

/// The output of a pull is no output of the container: it goes to standard error.
async fn pull(client: &Client, image: &ImageName, args: &CreateArgs) -> Result<(), Failure> {
    let platform = args.platform.as_deref();
    progress::pull(client, image, platform, (Output::Stderr, args.quiet)).await
}

fn is_missing_image(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status: 404, message }
        if message.contains("No such image"))
}

fn write_cidfile(args: &CreateArgs, id: &str) -> Result<(), Failure> {
    let Some(path) = &args.cidfile else { return Ok(()) };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(id.as_bytes()))
        .map_err(|error| {
            Failure::new(format!("failed to write container ID file {}: {error}", path.display()))
        })
}
