//! One pull's conversation with one registry: authorisation, retries, bounded documents.

use std::sync::Mutex;

use oci_client::token_cache::RegistryToken;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use super::challenge::{Challenge, parse_challenge};
use super::endpoint::Endpoint;
use super::failure::{
    ReadFailure, denied, is_broken_connection, read_bounded, refused, root_cause, unreachable,
};
use super::retry::{Backoff, is_temporary, retry_after};
use crate::digest::Digest;
use crate::error::{ErrorKind, ImageError};
use crate::limits::{MANIFEST_BYTES_MAX, TOKEN_BYTES_MAX};
use crate::manifest::ACCEPTED_MANIFESTS;
use crate::reference::Reference;
use crate::store::Credentials;

/// distribution-spec, "Pulling manifests".
const DIGEST_HEADER: &str = "docker-content-digest";

/// A document as it came.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// What the registry calls it.
    pub(crate) media_type: Option<String>,
    /// `Docker-Content-Digest`, where it is one we know.
    pub(crate) announced_digest: Option<Digest>,
}

/// The conversation. Shared by all requests of a pull.
#[derive(Debug)]
pub(crate) struct Session {
    endpoint: Endpoint,
    repository: String,
    /// The familiar name with tag or digest, for messages.
    pub(crate) subject: String,
    credentials: Option<Credentials>,
    /// Index of the base that answered.
    base: Mutex<usize>,
    authorization: tokio::sync::Mutex<Option<HeaderValue>>,
}

/// One thing to ask for.
#[derive(Clone, Copy, Debug)]
struct Request<'a> {
    /// Below `/v2/<repository>/`.
    path: &'a str,
    /// "manifest", "config", "layer …".
    what: &'a str,
    accept: &'static str,
    /// First byte wanted.
    offset: u64,
}

impl Session {
    /// Starts talking; nothing is sent yet. A mirror gets no credentials: they are the registry's.
    pub(crate) fn new(
        endpoint: Endpoint,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Self {
        let credentials = credentials.filter(|_| !endpoint.is_mirror);
        Self {
            endpoint,
            repository: reference.repository().to_owned(),
            subject: reference.familiar(),
            credentials,
            base: Mutex::new(0),
            authorization: tokio::sync::Mutex::new(None),
        }
    }

    /// Who is asked, for messages.
    pub(crate) fn authority(&self) -> &str {
        &self.endpoint.authority
    }

    /// Fetches a manifest or index by tag or digest, at most [`MANIFEST_BYTES_MAX`] long.
    pub(crate) async fn manifest(&self, tag_or_digest: &str) -> Result<Fetched, ImageError> {
        let path = format!("manifests/{tag_or_digest}");
        let request =
            Request { path: &path, what: "manifest", accept: ACCEPTED_MANIFESTS, offset: 0 };
        self.document(request, MANIFEST_BYTES_MAX).await
    }

    /// Fetches a small blob of at most `limit` bytes.
    pub(crate) async fn small_blob(
        &self,
        digest: Digest,
        what: &str,
        limit: u64,
    ) -> Result<Fetched, ImageError> {
        let path = format!("blobs/{digest}");
        self.document(Request { path: &path, what, accept: "*/*", offset: 0 }, limit).await
    }

    /// Asks for a blob from `offset` on; answers 200 or 206.
    pub(super) async fn blob(
        &self,
        digest: Digest,
        what: &str,
        offset: u64,
    ) -> Result<Response, ImageError> {
        let path = format!("blobs/{digest}");
        self.request(Request { path: &path, what, accept: "*/*", offset }).await
    }

    async fn document(&self, request: Request<'_>, limit: u64) -> Result<Fetched, ImageError> {
        let mut backoff = Backoff::default();
        loop {
            let mut response = self.request(request).await?;
            let header = |name: &str| response.headers().get(name)?.to_str().ok();
            let media_type = header(CONTENT_TYPE.as_str()).map(str::to_owned);
            let announced_digest = header(DIGEST_HEADER).and_then(|text| text.parse().ok());
            match read_bounded(&mut response, limit).await {
                Ok(bytes) => return Ok(Fetched { bytes, media_type, announced_digest }),
                Err(ReadFailure::TooLarge) => {
                    return Err(ImageError::too_large(
                        format!("{} of {}", request.what, self.subject),
                        format!("over the limit of {limit} bytes; the registry is at fault"),
                    ));
                }
                Err(ReadFailure::Interrupted(error)) => {
                    if !backoff.wait(None).await {
                        return Err(self.unreachable(request.what, &error));
                    }
                }
            }
        }
    }

    /// Sends a request until there is an answer to keep: success, or an error for good.
    async fn request(&self, request: Request<'_>) -> Result<Response, ImageError> {
        let response = self.authorized(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response, &self.endpoint.authority, &self.subject, request.what).await)
    }

    /// Sends with what authorisation there is; on 401 gets a new one and sends once more.
    async fn authorized(&self, request: Request<'_>) -> Result<Response, ImageError> {
        let used = self.authorization.lock().await.clone();
        let response = self.send(request, used.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let mut authorization = self.authorization.lock().await;
        // Another request may have renewed it meanwhile.
        if *authorization == used {
            *authorization = Some(self.authorize(&response).await?);
        }
        let renewed = authorization.clone();
        drop(authorization);
        self.send(request, renewed.as_ref()).await
    }

    /// Sends with retries, over the first base that can be reached.
    async fn send(
        &self,
        request: Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, ImageError> {
        let mut backoff = Backoff::default();
        loop {
            let index = *self.base.lock().expect("no panic while held");
            let base = &self.endpoint.bases[index];
            let builder = self.build(base, request, authorization)?;
            let error = match builder.send().await {
                Ok(response) if is_temporary(response.status()) => {
                    if !backoff.wait(retry_after(response.headers())).await {
                        return Ok(response);
                    }
                    continue;
                }
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let is_last_base = index + 1 == self.endpoint.bases.len();
            if error.is_connect() && !is_last_base {
                *self.base.lock().expect("no panic while held") = index + 1;
                continue;
            }
            if error.is_redirect() {
                return Err(self.bad_redirect(request, &error));
            }
            if !is_broken_connection(&error) || !backoff.wait(None).await {
                return Err(self.unreachable(request.what, &error));
            }
            // A registry that was restarting may have its TLS back.
            *self.base.lock().expect("no panic while held") = 0;
        }
    }

    fn build(
        &self,
        base: &Url,
        request: Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<RequestBuilder, ImageError> {
        let url = base
            .join(&format!("v2/{}/{}", self.repository, request.path))
            .map_err(|error| ImageError::Internal(format!("no address of a blob: {error}")))?;
        let mut builder = self.endpoint.client.get(url).header(ACCEPT, request.accept);
        if request.offset > 0 {
            builder = builder.header(RANGE, format!("bytes={}-", request.offset));
        }
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        Ok(builder)
    }

    fn unreachable(&self, what: &str, error: &reqwest::Error) -> ImageError {
        let wanted = format!("{what} of {}", self.subject);
        unreachable(&self.endpoint.authority, &wanted, error, self.endpoint.is_insecure)
    }

    fn bad_redirect(&self, request: Request<'_>, error: &reqwest::Error) -> ImageError {
        ImageError::Registry {
            message: format!(
                "registry {} sends a request for {} of {} elsewhere: {}",
                self.endpoint.authority,
                request.what,
                self.subject,
                root_cause(error)
            ),
            kind: ErrorKind::Unavailable,
        }
    }

    /// Answers the challenge of a 401.
    async fn authorize(&self, response: &Response) -> Result<HeaderValue, ImageError> {
        let challenges = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenges
            .iter()
            .filter_map(|header| header.to_str().ok())
            .find_map(parse_challenge)
            .ok_or_else(|| self.denied(None))?;
        match challenge {
            Challenge::Bearer { realm, service } => self.token(realm, service).await,
            Challenge::Basic => {
                let credentials = self.credentials.as_ref().ok_or_else(|| self.denied(None))?;
                // The HTTP layer encodes it; the request itself is never sent.
                self.endpoint
                    .client
                    .get(response.url().clone())
                    .basic_auth(&credentials.username, Some(&credentials.password))
                    .build()
                    .ok()
                    .and_then(|request| request.headers().get(AUTHORIZATION).cloned())
                    .ok_or_else(|| self.denied(None))
            }
        }
    }

    /// Gets a token to pull with; anonymously, or with user and password.
    async fn token(&self, realm: Url, service: Option<String>) -> Result<HeaderValue, ImageError> {
        let speaks_tls = self.endpoint.bases[*self.base.lock().expect("no panic while held")]
            .scheme()
            == "https";
        if speaks_tls && realm.scheme() != "https" && !self.endpoint.is_insecure {
            return Err(self.denied(Some("its token service has no TLS")));
        }
        let mut url = realm;
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", &service);
            }
            query.append_pair("scope", &format!("repository:{}:pull", self.repository));
        }
        let mut backoff = Backoff::default();
        let mut response = loop {
            let mut builder = self.endpoint.client.get(url.clone());
            if let Some(credentials) = &self.credentials {
                builder = builder.basic_auth(&credentials.username, Some(&credentials.password));
            }
            match builder.send().await {
                Ok(response) if is_temporary(response.status()) => {
                    if !backoff.wait(retry_after(response.headers())).await {
                        break response;
                    }
                }
                Ok(response) => break response,
                Err(error) => {
                    if !is_broken_connection(&error) || !backoff.wait(None).await {
                        let host = url.host_str().unwrap_or("token service");
                        let wanted = format!("a token for {}", self.subject);
                        let is_insecure = self.endpoint.is_insecure;
                        return Err(unreachable(host, &wanted, &error, is_insecure));
                    }
                }
            }
        };
        if !response.status().is_success() {
            return Err(refused(response, &self.endpoint.authority, &self.subject, "a token").await);
        }
        let body = read_bounded(&mut response, TOKEN_BYTES_MAX).await.ok();
        let token: Option<RegistryToken> = body.and_then(|body| serde_json::from_slice(&body).ok());
        token
            .and_then(|token| HeaderValue::from_str(&token.bearer_token()).ok())
            .map(|mut header| {
                header.set_sensitive(true);
                header
            })
            .ok_or_else(|| self.denied(Some("its token service sent no token")))
    }

    fn denied(&self, said: Option<&str>) -> ImageError {
        denied(&self.subject, &self.endpoint.authority, said)
    }
}
