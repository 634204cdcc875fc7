//! Pulls, told in Docker's progress lines.

use std::sync::Arc;

use husk_api::models::{CreateImageInfo, ErrorDetail, ProgressDetail};
use husk_api::{ApiError, ErrorCode};
use husk_image::{
    Credentials, ErrorKind, ImageError, LayerProgress, Platform, PullEvent, Reference,
};
use tokio::sync::mpsc;

use crate::images::ImageSource;
use crate::request::PullProgress;

/// Progress lines that wait for the client; a slow one slows the pull's telling, not the pull.
const LINES: usize = 256;

/// Starts a pull. It stops if the receiver is dropped.
///
/// # Errors
/// `InvalidArgument` for a malformed reference or platform.
pub(crate) fn start(
    images: Arc<dyn ImageSource>,
    reference: &str,
    platform: Option<&str>,
    auth: Option<(String, String)>,
) -> Result<PullProgress, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidArgument, message);
    let reference: Reference = reference.parse().map_err(|error| invalid(format!("{error}")))?;
    let platform = platform.filter(|platform| !platform.is_empty());
    let platform: Option<Platform> =
        platform.map(str::parse).transpose().map_err(|error| invalid(format!("{error}")))?;
    let auth = auth
        .filter(|(username, password)| !username.is_empty() || !password.is_empty())
        .map(|(username, password)| Credentials { username, password });
    let (lines, receiver) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let (progress, mut events) = mpsc::channel(LINES);
        let telling = async {
            while let Some(event) = events.recv().await {
                if lines.send(line(&event)).await.is_err() {
                    return;
                }
            }
        };
        let pulling = images.pull(&reference, platform.as_ref(), auth, progress);
        let (result, ()) = tokio::select! {
            both = async { tokio::join!(pulling, telling) } => both,
            // Nobody wants the image any more.
            () = lines.closed() => return,
        };
        if let Err(error) = result {
            // A client that left needs no error.
            let _ = lines.send(failure(&error)).await;
        }
    });
    Ok(receiver)
}

fn line(event: &PullEvent) -> CreateImageInfo {
    let detail = match event {
        PullEvent::Layer {
            progress: LayerProgress::Downloading { current_bytes, total_bytes },
            ..
        } => {
            let number = |bytes: u64| i64::try_from(bytes).ok();
            ProgressDetail { current: number(*current_bytes), total: number(*total_bytes) }
        }
        _ => ProgressDetail::default(),
    };
    CreateImageInfo {
        id: event.id().map(str::to_owned),
        status: Some(event.to_string()),
        progress_detail: matches!(event, PullEvent::Layer { .. }).then_some(detail),
        error_detail: None,
    }
}

fn failure(error: &ImageError) -> CreateImageInfo {
    CreateImageInfo {
        error_detail: Some(ErrorDetail { code: None, message: Some(error.report()) }),
        ..CreateImageInfo::default()
    }
}

/// An image error as the API answers it.
pub(crate) fn api_error(error: &ImageError) -> ApiError {
    let code = match error.kind() {
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::Unauthorized => ErrorCode::Unauthorized,
        ErrorKind::InvalidReference | ErrorKind::InvalidPlatform | ErrorKind::InvalidSettings => {
            ErrorCode::InvalidArgument
        }
        ErrorKind::PlatformMismatch => ErrorCode::NotFound,
        ErrorKind::Unavailable | ErrorKind::Locked => ErrorCode::Unavailable,
        ErrorKind::Unsupported => ErrorCode::Unsupported,
        ErrorKind::Corrupt | ErrorKind::NoSpace | ErrorKind::TooLarge | ErrorKind::Internal => {
            ErrorCode::Internal
        }
    };
    ApiError::new(code, error.report())
}
