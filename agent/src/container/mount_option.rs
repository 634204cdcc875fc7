//! Options of a mount in a runtime spec, split into attributes of the mount and options of the
//! file system (runtime-spec `config.md`, Linux mount options; mount(8)).

use rustix::mount::MountAttrFlags;

use super::error::ContainerError;

/// What a mount's options ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountOptions<'a> {
    /// Attributes of the mount.
    pub attributes: MountAttrFlags,
    /// Options of the file system: a name alone, or a name and a value.
    pub options: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> MountOptions<'a> {
    /// Splits `options`; a later one outweighs an earlier one.
    ///
    /// # Errors
    /// [`ContainerError::Unsupported`] for bind mounts and shared propagation.
    pub fn parse(options: &'a [String]) -> Result<Self, ContainerError> {
        let mut attributes = MountAttrFlags::empty();
        let mut rest = Vec::new();
        for option in options {
            match option.as_str() {
                // New mounts are private; without a peer, private, slave and unbindable differ
                // only in what later mounts may do.
                "defaults" | "private" | "rprivate" | "slave" | "rslave" | "unbindable"
                | "runbindable" => {}
                "bind" | "rbind" | "shared" | "rshared" | "tmpcopyup" | "idmap" | "ridmap" => {
                    return Err(ContainerError::Unsupported(format!("mount option {option}")));
                }
                other => match attribute(other) {
                    Some((flag, true)) => set(&mut attributes, flag),
                    Some((flag, false)) => attributes.remove(flag),
                    None => rest.push(match other.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (other, None),
                    }),
                },
            }
        }
        Ok(Self { attributes, options: rest })
    }
}

/// Sets an attribute; the ways of keeping access times exclude each other.
fn set(attributes: &mut MountAttrFlags, flag: MountAttrFlags) {
    let times = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    if times.intersects(flag) {
        attributes.remove(times);
    }
    attributes.insert(flag);
}

/// The attribute that an option sets (true) or clears (false).
fn attribute(option: &str) -> Option<(MountAttrFlags, bool)> {
    Some(match option {
        "ro" => (MountAttrFlags::MOUNT_ATTR_RDONLY, true),
        "rw" => (MountAttrFlags::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, true),
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, false),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, true),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, false),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
        "noatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, true),
        "atime" | "norelatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, false),
        "strictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, true),
        "nostrictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, false),
        // The default, and the value zero: it sets nothing.
        "relatime" => (MountAttrFlags::empty(), true),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<(MountAttrFlags, String), String> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        MountOptions::parse(&options)
            .map(|parsed| (parsed.attributes, format!("{:?}", parsed.options)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn dockers_options_of_dev_are_split() {
        let (attributes, options) =
            parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]).unwrap();
        assert_eq!(
            attributes,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME
        );
        assert_eq!(options, r#"[("mode", Some("755")), ("size", Some("65536k"))]"#);
    }

    #[test]
    fn a_later_option_outweighs_an_earlier_one() {
        assert_eq!(parse(&["ro", "rw"]).unwrap().0, MountAttrFlags::empty());
        assert_eq!(
            parse(&["noatime", "strictatime"]).unwrap().0,
            MountAttrFlags::MOUNT_ATTR_STRICTATIME
        );
    }

    #[test]
    fn bind_mounts_are_refused() {
        assert_eq!(parse(&["rbind", "ro"]).unwrap_err(), "mount option rbind is not supported");
    }
}
