//! Containers: create, start, kill, resize, list, inspect, remove.

use husk_api::models::ContainerCreateBody;
use husk_api::{ApiError, ErrorCode, signal};
use husk_engine::{CreateRequest, Engine};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::Value;

use super::super::filter;
use super::super::query::Query;
use super::super::reply::{self, Reply};

/// `POST /containers/create`.
pub(super) async fn create(
    engine: &Engine,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let document: Value = super::body(request).await?;
    let request = CreateRequest {
        name: query.text("name").map(str::to_owned),
        platform: query.text("platform").map(str::to_owned),
        body: parse_body(document)?,
    };
    Ok(reply::json(StatusCode::CREATED, &engine.create(request).await?))
}

/// `Cmd` and `Entrypoint` may be one string instead of a list.
fn parse_body(mut document: Value) -> Result<ContainerCreateBody, ApiError> {
    for name in ["Cmd", "Entrypoint"] {
        if let Some(field) = document.get_mut(name)
            && field.is_string()
        {
            *field = Value::Array(vec![field.take()]);
        }
    }
    serde_json::from_value(document).map_err(|error| {
        ApiError::new(
            ErrorCode::InvalidArgument,
            format!("invalid container configuration: {error}"),
        )
    })
}

/// `POST /containers/{id}/start`.
pub(super) async fn start(engine: &Engine, id: &str) -> Result<Reply, ApiError> {
    engine.start(id).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/kill`.
pub(super) async fn kill(engine: &Engine, id: &str, query: &Query) -> Result<Reply, ApiError> {
    let signal = signal::parse(query.text("signal").unwrap_or("KILL"))?;
    engine.kill(id, signal).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/resize`.
pub(super) async fn resize(engine: &Engine, id: &str, query: &Query) -> Result<Reply, ApiError> {
    let side = |name: &str| {
        query.number::<u16>(name)?.ok_or_else(|| {
            ApiError::new(ErrorCode::InvalidArgument, format!("resize needs the parameter {name}"))
        })
    };
    engine.resize(id, side("h")?, side("w")?).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /containers/json`.
pub(super) async fn list(engine: &Engine, query: &Query) -> Result<Reply, ApiError> {
    let filters = filter::parse(query.text("filters"))?;
    // Clients say "no limit" as 0 or -1.
    let limit = query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let all = query.flag("all") || limit.is_some();
    Ok(reply::json(StatusCode::OK, &engine.list(all, limit, &filters).await?))
}

/// `GET /containers/{id}/json`.
pub(super) async fn inspect(engine: &Engine, id: &str) -> Result<Reply, ApiError> {
    Ok(reply::json(StatusCode::OK, &engine.inspect(id).await?))
}

/// `DELETE /containers/{id}`.
pub(super) async fn remove(engine: &Engine, id: &str, query: &Query) -> Result<Reply, ApiError> {
    if query.flag("link") {
        return Err(ApiError::new(ErrorCode::Unsupported, "husk does not support links"));
    }
    engine.remove(id, query.flag("force")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_may_be_one_string() {
        let body = parse_body(json!({"Image": "a", "Cmd": "ls", "Entrypoint": null})).unwrap();
        assert_eq!(body.cmd, Some(vec!["ls".to_owned()]));
        assert_eq!(body.entrypoint, None);
    }

    #[test]
    fn a_wrong_type_is_refused_by_what_is_wrong() {
        let error = parse_body(json!({"Image": 7})).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.contains("integer `7`"), "{}", error.message);
    }

    #[test]
    fn what_the_stock_client_sends_is_understood() {
        let body = json!({
            "Hostname": "", "User": "", "AttachStdin": false, "ExposedPorts": {"80/tcp": {}},
            "Tty": false, "Env": null, "Cmd": ["true"], "Image": "busybox", "Volumes": {},
            "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
            "HostConfig": {
                "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}},
                "NetworkMode": "bridge", "PortBindings": {}, "AutoRemove": true,
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "ConsoleSize": [24, 80],
                "CgroupnsMode": "", "Isolation": "", "Ulimits": [], "MemorySwappiness": -1,
                "BlkioWeight": 0, "OomKillDisable": false, "PidsLimit": 0, "Init": null,
                "MaskedPaths": null, "DeviceRequests": null, "Devices": []
            },
            "NetworkingConfig": {"EndpointsConfig": {"default": {
                "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "",
                "DriverOpts": null, "GwPriority": 0, "NetworkID": "", "EndpointID": "",
                "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
                "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null
            }}}
        });
        let body = parse_body(body).unwrap();
        assert_eq!(body.host_config.unwrap().auto_remove, Some(true));
    }
}
