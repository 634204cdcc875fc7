//! Images: list, pull, inspect.

use bytes::Bytes;
use futures_util::stream;
use husk_api::models::{CreateImageInfo, ImageSummary};
use husk_api::{ApiError, ErrorCode};
use husk_engine::{Engine, PullProgress};
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

use super::super::auth;
use super::super::filter::{self, Filters};
use super::super::query::Query;
use super::super::reply::{self, Reply};

/// `GET /images/json`.
pub(super) async fn list(engine: &Engine, query: &Query) -> Result<Reply, ApiError> {
    let filters = filter::parse(query.text("filters"))?;
    let unknown =
        filters.keys().find(|name| !matches!(name.as_str(), "reference" | "dangling" | "label"));
    if let Some(name) = unknown {
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            format!(
                "invalid filter '{name}': husk filters images by reference, label and dangling"
            ),
        ));
    }
    let mut images = engine.images().await?;
    images.retain_mut(|image| passes(image, &filters));
    Ok(reply::json(StatusCode::OK, &images))
}

/// `GET /images/{name}/json`.
pub(super) async fn inspect(engine: &Engine, name: &str) -> Result<Reply, ApiError> {
    Ok(reply::json(StatusCode::OK, &engine.image_inspect(name).await?))
}

/// `POST /images/create`: a pull; importing a file system is another thing.
pub(super) async fn pull(
    engine: &Engine,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Reply, ApiError> {
    let invalid = |message: &str| ApiError::new(ErrorCode::InvalidArgument, message);
    if query.text("fromSrc").is_some() {
        return Err(ApiError::new(
            ErrorCode::Unsupported,
            "husk does not support importing images yet",
        ));
    }
    let name = query.text("fromImage").ok_or_else(|| invalid("fromImage must name an image"))?;
    let reference = reference(name, query.text("tag"))?;
    let auth = auth::credentials(headers)?;
    let platform = query.text("platform").map(str::to_owned);
    let progress = engine.pull(reference, platform, auth).await?;
    Ok(reply::stream("application/json", lines(progress)))
}

/// Joins `fromImage` and `tag`, either of which may hold the tag or digest.
fn reference(name: &str, tag: Option<&str>) -> Result<String, ApiError> {
    let has_tag =
        name.contains('@') || name.rsplit_once('/').map_or(name, |(_, last)| last).contains(':');
    match tag {
        Some(_) if name.contains('@') => Ok(name.to_owned()),
        Some(tag) if has_tag => {
            let (bare, _) = name.rsplit_once(':').expect("it has a tag");
            Ok(join(bare, tag))
        }
        Some(tag) => Ok(join(name, tag)),
        None if has_tag => Ok(name.to_owned()),
        None => Err(ApiError::new(
            ErrorCode::Unsupported,
            format!("husk does not support pulling all tags of {name:?} yet: name a tag"),
        )),
    }
}

fn join(name: &str, tag: &str) -> String {
    let separator = if tag.contains(':') { '@' } else { ':' };
    format!("{name}{separator}{tag}")
}

/// One JSON object a line, as it comes.
fn lines(
    progress: PullProgress,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold(progress, |mut progress| async {
        let info = progress.recv().await?;
        Some((line(&info), progress))
    })
}

/// Older clients look for the text in `error`, which the model does not have.
fn line(info: &CreateImageInfo) -> Result<Bytes, std::io::Error> {
    let mut document = serde_json::to_value(info)?;
    if let (Value::Object(fields), Some(detail)) = (&mut document, &info.error_detail) {
        let message = detail.message.clone().unwrap_or_default();
        fields.insert("error".to_owned(), Value::String(message));
    }
    let mut bytes = serde_json::to_vec(&document)?;
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes.into())
}

/// Whether an image is wanted; narrows its tags to those a `reference` filter matches.
fn passes(image: &mut ImageSummary, filters: &Filters) -> bool {
    if let Some(patterns) = filters.get("reference") {
        image.repo_tags.retain(|tag| patterns.iter().any(|pattern| names(pattern, tag)));
        image.repo_digests.retain(|digest| patterns.iter().any(|pattern| names(pattern, digest)));
        if image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            return false;
        }
    }
    if let Some(wanted) = filters.get("dangling") {
        let wanted = wanted.iter().any(|value| matches!(value.as_str(), "true" | "1"));
        if image.repo_tags.is_empty() != wanted {
            return false;
        }
    }
    filters.get("label").is_none_or(|labels| {
        labels.iter().all(|label| match label.split_once('=') {
            Some((key, value)) => image.labels.get(key).is_some_and(|have| have == value),
            None => image.labels.contains_key(label),
        })
    })
}

/// A pattern matches the whole reference or its name without tag or digest.
fn names(pattern: &str, reference: &str) -> bool {
    let bare = match reference.split_once('@') {
        Some((bare, _)) => bare,
        None => match reference.rsplit_once(':') {
            Some((bare, tag)) if !tag.contains('/') => bare,
            _ => reference,
        },
    };
    filter::glob(pattern, reference) || filter::glob(pattern, bare)
}

#[cfg(test)]
mod tests {
    use husk_api::models::ErrorDetail;

    use super::*;

    #[test]
    fn name_and_tag_are_joined() {
        assert_eq!(reference("docker.io/library/a", Some("1")).unwrap(), "docker.io/library/a:1");
        assert_eq!(reference("h:5000/a", Some("sha256:00")).unwrap(), "h:5000/a@sha256:00");
        assert_eq!(reference("a:1", Some("2")).unwrap(), "a:2");
        assert_eq!(reference("a:1", None).unwrap(), "a:1");
        assert_eq!(reference("h:5000/a", None).unwrap_err().code, ErrorCode::Unsupported);
    }

    #[test]
    fn an_error_line_has_both_forms() {
        let info = CreateImageInfo {
            error_detail: Some(ErrorDetail { code: None, message: Some("no".into()) }),
            ..CreateImageInfo::default()
        };
        let text = line(&info).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["error"], "no");
        assert_eq!(document["errorDetail"]["message"], "no");
        assert!(text.ends_with(b"\r\n"));
    }

    #[test]
    fn a_reference_filter_narrows_the_tags() {
        let mut image = ImageSummary {
            repo_tags: vec!["busybox:latest".into(), "other:1".into()],
            ..ImageSummary::default()
        };
        let wanted =
            |value: &str| Filters::from([("reference".to_owned(), vec![value.to_owned()])]);
        assert!(passes(&mut image, &wanted("busy*")));
        assert_eq!(image.repo_tags, ["busybox:latest"]);
        assert!(passes(&mut image, &wanted("busybox:latest")));
        assert!(!passes(&mut image, &wanted("nginx")));
    }
}
