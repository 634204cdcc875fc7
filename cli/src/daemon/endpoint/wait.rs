//! Waiting for a container's end.

use bytes::Bytes;
use futures_util::stream;
use husk_api::models::{ContainerWaitExitError, ContainerWaitResponse};
use husk_api::{ApiError, ErrorCode};
use husk_engine::{Engine, WaitCondition};

use super::super::query::Query;
use super::super::reply::{self, Reply};

/// `POST /containers/{id}/wait`: the head goes out once the waiting is registered, for the stock
/// client starts the container only then; the body follows at the end.
pub(super) async fn wait(engine: &Engine, id: &str, query: &Query) -> Result<Reply, ApiError> {
    let end = engine.wait(id, condition(query.text("condition"))?).await?;
    let body = stream::once(async move {
        let response = end.await.unwrap_or_else(|_| ContainerWaitResponse {
            status_code: -1,
            error: Some(ContainerWaitExitError {
                message: Some("the daemon stopped waiting for the container".to_owned()),
            }),
        });
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    Ok(reply::stream("application/json", body))
}

fn condition(text: Option<&str>) -> Result<WaitCondition, ApiError> {
    match text {
        None | Some("not-running") => Ok(WaitCondition::NotRunning),
        Some("next-exit") => Ok(WaitCondition::NextExit),
        Some("removed") => Ok(WaitCondition::Removed),
        Some(other) => {
            Err(ApiError::new(ErrorCode::InvalidArgument, format!("invalid condition: {other:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_dockers_names() {
        assert_eq!(condition(None), Ok(WaitCondition::NotRunning));
        assert_eq!(condition(Some("next-exit")), Ok(WaitCondition::NextExit));
        assert_eq!(condition(Some("removed")), Ok(WaitCondition::Removed));
        assert!(condition(Some("later")).is_err());
    }
}
