//! Image configs (image-spec, config.md). Pure; the bytes are hostile.

use oci_spec::image::ImageConfiguration;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::PLATFORM_CHARS_MAX;
use crate::platform::Platform;

/// A config, and what the store needs of it.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// As parsed.
    pub(crate) parsed: ImageConfiguration,
    /// What the image is for.
    pub(crate) platform: Platform,
    /// Layers, lowest first.
    pub(crate) diff_ids: Vec<Digest>,
}

/// Parses a config. `subject` names the image for messages.
pub(crate) fn parse_config(bytes: &[u8], subject: &str) -> Result<Config, ImageError> {
    let about = || format!("config of {subject}");
    let parsed = ImageConfiguration::from_reader(bytes)
        .map_err(|error| ImageError::corrupt(about(), format!("not an image config: {error}")))?;
    let architecture = parsed.architecture().to_string();
    let os = parsed.os().to_string();
    let variant = parsed.variant().clone().unwrap_or_default();
    if [&architecture, &os, &variant].iter().any(|part| part.len() > PLATFORM_CHARS_MAX) {
        return Err(ImageError::corrupt(about(), "its platform has no sensible length"));
    }
    let diff_ids = parsed
        .rootfs()
        .diff_ids()
        .iter()
        .map(|text| {
            text.parse().map_err(|error| ImageError::corrupt(about(), format!("diffID: {error}")))
        })
        .collect::<Result<_, _>>()?;
    let platform = Platform::new(&os, &architecture, &variant);
    Ok(Config { parsed, platform, diff_ids })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn platform_and_layers_are_found() {
        let digest = Digest::of(b"layer");
        let config = format!(
            r#"{{"os":"linux","architecture":"arm","variant":"v6","unknown":1,
                "config":{{"Cmd":["sh"],"Healthcheck":{{}}}},
                "rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let config = parse_config(config.as_bytes(), "app").unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm/v6");
        assert_eq!(config.diff_ids, [digest]);
        assert_eq!(config.parsed.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["sh"]);
    }

    #[test]
    fn bad_diff_ids_are_refused() {
        let config = r#"{"os":"linux","architecture":"amd64",
            "rootfs":{"type":"layers","diff_ids":["sha256:../x"]}}"#;
        let error = parse_config(config.as_bytes(), "app:1").unwrap_err().to_string();
        assert_eq!(error, "config of app:1: diffID: invalid checksum digest length");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_config(&bytes, "app:1");
        }
    }
}
