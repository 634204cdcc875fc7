//! `husk images`.

use husk_api::models::ImageSummary;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Session, filters};
use crate::args::ImagesArgs;
use crate::exit::CommandResult;
use crate::format::{Listing, units};
use crate::printer;

const COLUMNS: [(&str, &str); 5] = [
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

const WITH_DIGESTS: [(&str, &str); 6] = [
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("DIGEST", "Digest"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

const MORE: [(&str, &str); 2] = [("CREATED AT", "CreatedAt"), ("DIGEST", "Digest")];

/// What stands for a missing name, tag or digest.
const NONE: &str = "<none>";

pub(super) async fn run(session: &Session, args: &ImagesArgs) -> CommandResult {
    let columns: &[_] = if args.digests { &WITH_DIGESTS } else { &COLUMNS };
    let listing = Listing::new(args.format.as_deref(), args.quiet, columns, &MORE)?;
    let mut filters = filters(&args.filter)?;
    if let Some(reference) = &args.reference {
        filters.entry("reference".to_owned()).or_default().push(reference.clone());
    }
    let images = session.client()?.images(&filters).await?;
    let now = Timestamp::now();
    let rows: Vec<Value> = images.iter().flat_map(|image| rows(image, args, now)).collect();
    printer::text_out(&listing.render(&rows)?);
    Ok(0)
}

/// One row for each tag, or one for an image without.
fn rows(image: &ImageSummary, args: &ImagesArgs, now: Timestamp) -> Vec<Value> {
    let row = |repository: &str, tag: &str| {
        let digest = image
            .repo_digests
            .iter()
            .filter_map(|digest| digest.split_once('@'))
            .find(|(name, _)| *name == repository)
            .map_or(NONE, |(_, digest)| digest);
        json!({
            "Repository": repository,
            "Tag": tag,
            "Digest": digest,
            "ID": if args.no_trunc { image.id.clone() } else { units::short_id(&image.id) },
            "CreatedSince": units::ago(image.created, now),
            "CreatedAt": units::local_time(image.created),
            "Size": units::size(u64::try_from(image.size).unwrap_or_default()),
        })
    };
    let tagged: Vec<Value> = image
        .repo_tags
        .iter()
        .filter_map(|tag| tag.rsplit_once(':'))
        .map(|(repository, tag)| row(repository, tag))
        .collect();
    if !tagged.is_empty() {
        return tagged;
    }
    let repository = image.repo_digests.iter().find_map(|digest| digest.split_once('@'));
    vec![row(repository.map_or(NONE, |(name, _)| name), NONE)]
}
