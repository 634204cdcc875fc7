//! The client of the Engine API.
//!
//! Plain calls go through bollard; what needs a connection of its own (attach), or the moment
//! when the answer's head arrives (wait), or says more than Docker's model (inspect), goes through
//! `connection`.

mod connection;
mod error;
mod streams;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    ResizeContainerTTYOptionsBuilder, StartContainerOptions,
};
use bollard::{ClientVersion, Docker};
use futures_util::{Stream, StreamExt as _};
use husk_api::ContainerInspect;
use husk_api::models::{
    ContainerCreateBody, ContainerCreateResponse, ContainerSummary, CreateImageInfo, ImageSummary,
    SystemInfo, SystemVersion,
};

pub(crate) use connection::{Attached, LogRequest, PendingWait};
pub(crate) use error::ClientError;
pub(crate) use streams::{Input, Streams, StreamsEnd};

use crate::reference::ImageName;

/// A start may boot a microVM on a slow emulator; the daemon has the deadline that counts.
const ANSWER_TIMEOUT_S: u64 = 3600;

/// The version this client speaks.
const VERSION: ClientVersion = ClientVersion { major_version: 1, minor_version: 51 };

/// Talks to one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    docker: Docker,
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at `socket`; connects with the first call.
    pub(crate) fn new(socket: &Path) -> Result<Self, ClientError> {
        let path = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, ANSWER_TIMEOUT_S, &VERSION)
            .map_err(ClientError::call)?;
        Ok(Self { docker, socket: socket.to_owned() })
    }

    /// `POST /containers/create`.
    pub(crate) async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<ContainerCreateResponse, ClientError> {
        let mut options = CreateContainerOptionsBuilder::new();
        if let Some(name) = name {
            options = options.name(name);
        }
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        self.docker.create_container(Some(options.build()), body).await.map_err(ClientError::call)
    }

    /// `POST /containers/{id}/start`.
    pub(crate) async fn start(&self, id: &str) -> Result<(), ClientError> {
        let id = segment(id);
        self.docker
            .start_container(&id, None::<StartContainerOptions>)
            .await
            .map_err(ClientError::call)
    }

    /// `POST /containers/{id}/kill`.
    pub(crate) async fn kill(&self, id: &str, signal: &str) -> Result<(), ClientError> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        self.docker.kill_container(&segment(id), Some(options)).await.map_err(ClientError::call)
    }

    /// `POST /containers/{id}/resize`.
    pub(crate) async fn resize(
        &self,
        id: &str,
        rows: u16,
        columns: u16,
    ) -> Result<(), ClientError> {
        let options =
            ResizeContainerTTYOptionsBuilder::new().h(rows.into()).w(columns.into()).build();
        self.docker.resize_container_tty(&segment(id), options).await.map_err(ClientError::call)
    }

    /// `DELETE /containers/{id}`.
    pub(crate) async fn remove(
        &self,
        id: &str,
        force: bool,
        volumes: bool,
    ) -> Result<(), ClientError> {
        let options = RemoveContainerOptionsBuilder::new().force(force).v(volumes).build();
        self.docker.remove_container(&segment(id), Some(options)).await.map_err(ClientError::call)
    }

    /// `GET /containers/{id}/json`.
    pub(crate) async fn inspect(&self, id: &str) -> Result<ContainerInspect, ClientError> {
        connection::inspect(&self.socket, &segment(id)).await
    }

    /// `GET /containers/json`.
    pub(crate) async fn list(
        &self,
        all: bool,
        limit: Option<i32>,
        filters: &HashMap<String, Vec<String>>,
    ) -> Result<Vec<ContainerSummary>, ClientError> {
        let mut options = ListContainersOptionsBuilder::new().all(all).filters(filters);
        if let Some(limit) = limit {
            options = options.limit(limit);
        }
        self.docker.list_containers(Some(options.build())).await.map_err(ClientError::call)
    }

    /// `GET /images/json`.
    pub(crate) async fn images(
        &self,
        filters: &HashMap<String, Vec<String>>,
    ) -> Result<Vec<ImageSummary>, ClientError> {
        let options = ListImagesOptionsBuilder::new().filters(filters).build();
        self.docker.list_images(Some(options)).await.map_err(ClientError::call)
    }

    /// `POST /images/create`; the last item is an error if the pull failed.
    pub(crate) fn pull(
        &self,
        image: &ImageName,
        platform: Option<&str>,
    ) -> impl Stream<Item = Result<CreateImageInfo, ClientError>> + use<> {
        let mut options = CreateImageOptionsBuilder::new()
            .from_image(&image.canonical_name())
            .tag(image.tag_or_digest());
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        let progress: std::pin::Pin<Box<dyn Stream<Item = _>>> =
            Box::pin(self.docker.clone().create_image(Some(options.build()), None, None));
        progress.map(|item| item.map_err(ClientError::call))
    }

    /// `GET /version`.
    pub(crate) async fn version(&self) -> Result<SystemVersion, ClientError> {
        self.docker.version().await.map_err(ClientError::call)
    }

    /// `GET /info`.
    pub(crate) async fn info(&self) -> Result<SystemInfo, ClientError> {
        self.docker.info().await.map_err(ClientError::call)
    }

    /// `POST /containers/{id}/attach`, as a connection of its own.
    pub(crate) async fn attach(&self, id: &str, stdin: bool) -> Result<Attached, ClientError> {
        connection::attach(&self.socket, &segment(id), stdin).await
    }

    /// `POST /containers/{id}/wait`; gives back once the daemon has registered the waiting.
    pub(crate) async fn wait(&self, id: &str, condition: &str) -> Result<PendingWait, ClientError> {
        connection::wait(&self.socket, &segment(id), condition).await
    }

    /// `GET /containers/{id}/logs`, printed as they come.
    pub(crate) async fn logs(
        &self,
        id: &str,
        request: &LogRequest,
        tty: bool,
    ) -> Result<(), ClientError> {
        connection::logs(&self.socket, &segment(id), request, tty).await
    }
}

/// A name as one segment of a path: whatever a user types must not change the route.
fn segment(name: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':');
    utf8_percent_encode(name.trim_start_matches('/'), &KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("a_b.c-1"), "a_b.c-1");
        assert_eq!(segment("/web"), "web");
        assert_eq!(segment("a/../b?c d"), "a%2F..%2Fb%3Fc%20d");
    }
}
