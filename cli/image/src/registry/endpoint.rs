//! Where a reference is asked for: mirrors, then its registry.

use reqwest::{Client, Url};

use super::address::{InsecureRegistry, is_loopback};
use super::client::Clients;
use crate::error::ImageError;
use crate::reference::{DEFAULT_REGISTRY, Reference};
use crate::store::Settings;

/// Where `docker.io` answers.
const DEFAULT_ENDPOINT: &str = "registry-1.docker.io";

/// The user's settings, checked, and the HTTP clients.
#[derive(Debug)]
pub(crate) struct Registries {
    mirrors: Vec<Url>,
    insecure: Vec<InsecureRegistry>,
    clients: Clients,
}

/// One place to ask.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `host[:port]`, for messages.
    pub(crate) authority: String,
    /// Stands in for the default registry; gets no credentials.
    pub(crate) is_mirror: bool,
    /// Base addresses, best first; the next one is tried if there is no TLS on this one.
    pub(super) bases: Vec<Url>,
    /// Plain HTTP and unverified certificates are allowed.
    pub(super) is_insecure: bool,
    pub(super) client: Client,
}

impl Registries {
    /// Checks the settings.
    pub(crate) fn new(settings: Settings) -> Result<Self, ImageError> {
        let Settings { registry_mirrors, insecure_registries } = settings;
        let mirrors =
            registry_mirrors.iter().map(|text| parse_mirror(text)).collect::<Result<_, _>>()?;
        let insecure = insecure_registries
            .into_iter()
            .map(|text| {
                InsecureRegistry::parse(&text).ok_or_else(|| {
                    ImageError::Settings(format!(
                        "insecure-registries: \"{text}\" is neither host[:port] nor address/prefix"
                    ))
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { mirrors, insecure, clients: Clients::new() })
    }

    /// The places to ask for `reference`, in order.
    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, ImageError> {
        let mut endpoints = Vec::new();
        let mut authority = reference.registry();
        if authority == DEFAULT_REGISTRY {
            for mirror in &self.mirrors {
                endpoints.push(self.mirror(mirror)?);
            }
            authority = DEFAULT_ENDPOINT;
        }
        let is_insecure = self.is_insecure(authority);
        let schemes: &[&str] = if is_insecure { &["https", "http"] } else { &["https"] };
        let bases = schemes
            .iter()
            .map(|scheme| Url::parse(&format!("{scheme}://{authority}/")))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                ImageError::Settings(format!("\"{authority}\" is no registry address: {error}"))
            })?;
        endpoints.push(Endpoint {
            authority: authority.to_owned(),
            is_mirror: false,
            bases,
            is_insecure,
            client: self.clients.get(is_insecure, is_loopback(authority))?,
        });
        Ok(endpoints)
    }

    fn mirror(&self, url: &Url) -> Result<Endpoint, ImageError> {
        let authority = authority_of(url);
        let is_insecure = url.scheme() == "http" || self.is_insecure(&authority);
        let client = self.clients.get(is_insecure, is_loopback(&authority))?;
        Ok(Endpoint { authority, is_mirror: true, bases: vec![url.clone()], is_insecure, client })
    }

    fn is_insecure(&self, authority: &str) -> bool {
        is_loopback(authority) || self.insecure.iter().any(|entry| entry.covers(authority))
    }
}

fn authority_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// `http[s]://host[:port][/]`, as Docker wants its mirrors.
fn parse_mirror(text: &str) -> Result<Url, ImageError> {
    let refused = |why: &str| {
        ImageError::Settings(format!(
            "registry-mirrors: \"{text}\" {why}; write http[s]://host[:port]"
        ))
    };
    let url = Url::parse(text).map_err(|_| refused("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused("is no HTTP address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("has a user or password in it"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refused("has a path, query or fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(mirrors: &[&str], insecure: &[&str]) -> Result<Registries, ImageError> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Registries::new(Settings {
            registry_mirrors: owned(mirrors),
            insecure_registries: owned(insecure),
        })
    }

    fn bases(registries: &Registries, reference: &str) -> Vec<String> {
        let endpoints = registries.endpoints(&reference.parse().unwrap()).unwrap();
        endpoints.iter().flat_map(|endpoint| endpoint.bases.iter().map(Url::to_string)).collect()
    }

    #[test]
    fn mirrors_come_first_and_for_the_default_registry_only() {
        let registries = registries(&["http://127.0.0.1:5000", "http://127.0.0.2/"], &[]).unwrap();
        assert_eq!(
            bases(&registries, "busybox")[..2],
            ["http://127.0.0.1:5000/", "http://127.0.0.2/"]
        );
        assert_eq!(bases(&registries, "localhost/a"), ["https://localhost/", "http://localhost/"]);
    }

    #[test]
    fn plain_http_is_for_insecure_registries_only() {
        let registries = registries(&[], &["10.0.0.0/8", "r.lan:80"]).unwrap();
        assert_eq!(bases(&registries, "10.1.1.1/a").len(), 2);
        assert_eq!(bases(&registries, "r.lan:80/a").len(), 2);
        assert!(!registries.is_insecure("r.lan") && !registries.is_insecure("ghcr.io"));
    }

    #[test]
    fn malformed_mirrors_are_refused() {
        for text in ["127.0.0.1:5000", "ftp://a", "http://a/b", "http://u:p@a", "http://a?b", ""] {
            let error = registries(&[text], &[]).unwrap_err().to_string();
            assert!(error.starts_with("registry-mirrors: "), "{error}");
        }
    }
}
