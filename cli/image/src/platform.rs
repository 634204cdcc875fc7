//! Platforms: `os/arch[/variant]`, normalised and matched as containerd does.

use std::fmt;
use std::str::FromStr;

use crate::limits::PLATFORM_CHARS_MAX;

/// An operating system, an architecture (Go's names), and a variant of it or none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …; empty for the architecture's base.
    pub variant: String,
}

/// Why a text is no platform.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("\"{text}\" is an unknown platform; write os/arch[/variant], as in linux/amd64")]
pub struct PlatformError {
    /// The text.
    text: String,
}

const KNOWN_SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const KNOWN_ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// What a guest on this host runs: Linux on the host's architecture.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// Normalises names as they stand in indexes and configs.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normalise(architecture, variant);
        Self { os, architecture, variant }
    }

    /// How well an image for `offered` serves one who asks for `self`: 0 is an exact match, higher
    /// is an older variant; `None` is no match.
    pub(crate) fn distance_to(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let wanted = self.variant_number()?;
        let other = offered.variant_number()?;
        wanted.checked_sub(other)
    }

    /// Whether an image for `offered` serves one who asks for `self`.
    #[must_use]
    pub fn accepts(&self, offered: &Self) -> bool {
        self.distance_to(offered).is_some()
    }

    /// The variant as a number where newer ones run what was built for older ones.
    fn variant_number(&self) -> Option<u32> {
        let base = match self.architecture.as_str() {
            "amd64" => 1,
            "arm64" => 8,
            "arm" => 7,
            _ => return None,
        };
        if self.variant.is_empty() {
            return Some(base);
        }
        self.variant.strip_prefix('v')?.parse().ok().filter(|number| *number < 100)
    }
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) | ("arm", "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        (other, variant) => (other, variant),
    };
    let variant = if architecture == "arm" && variant == "v7" { "" } else { variant };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refused = || PlatformError { text: text.chars().take(PLATFORM_CHARS_MAX).collect() };
        let is_part = |part: &&str| {
            !part.is_empty()
                && part.len() <= PLATFORM_CHARS_MAX
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').take(4).collect();
        if !parts.iter().all(is_part) {
            return Err(refused());
        }
        let host = Self::host();
        let platform = match parts.as_slice() {
            [one] => {
                let as_system = Self::new(one, &host.architecture, "");
                if KNOWN_SYSTEMS.contains(&as_system.os.as_str()) {
                    as_system
                } else {
                    Self::new("linux", one, "")
                }
            }
            [os, architecture] => Self::new(os, architecture, ""),
            [os, architecture, variant] => Self::new(os, architecture, variant),
            _ => return Err(refused()),
        };
        let known = KNOWN_SYSTEMS.contains(&platform.os.as_str())
            && KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str());
        if known { Ok(platform) } else { Err(refused()) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(formatter, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_normalised_as_containerd_does() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/x86-64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/armhf", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("arm64", "linux/arm64"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(parse(text).to_string(), normal, "{text}");
            assert_eq!(parse(normal), parse(text), "{text}");
        }
    }

    #[test]
    fn unknown_platforms_are_refused() {
        for text in ["", "/", "linux/", "linux/vax", "beos/amd64", "linux/amd64/v1/x", "a b", "no"]
        {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        let error = "linux/vax".parse::<Platform>().unwrap_err().to_string();
        assert!(error.contains("\"linux/vax\" is an unknown platform"), "{error}");
    }

    #[test]
    fn newer_variants_run_what_was_built_for_older_ones() {
        assert_eq!(parse("linux/arm/v7").distance_to(&parse("linux/arm/v6")), Some(1));
        assert_eq!(parse("linux/arm/v6").distance_to(&parse("linux/arm/v7")), None);
        assert_eq!(parse("linux/amd64/v3").distance_to(&parse("linux/amd64")), Some(2));
        assert_eq!(parse("linux/amd64").distance_to(&parse("linux/amd64/v2")), None);
        assert_eq!(parse("linux/amd64").distance_to(&parse("linux/arm64")), None);
        assert_eq!(parse("linux/arm64").distance_to(&parse("linux/arm64/v8")), Some(0));
    }
}
