//! Who a jailed VMM is on the host.
//!
//! A `husk-vmm` that root started gives root up before its guest runs. All that it needs by then are
//! open descriptors, but for the sockets that a guest may call by their port: it connects to them by
//! path, as this user. Who makes [`Vsock::directory`](crate::Vsock::directory) lets this group search
//! it and this user write to the sockets in it. A VMM that another user started stays that user.

/// The user, by convention the one who owns nothing.
pub const JAIL_UID: u32 = 65534;

/// The group, likewise.
pub const JAIL_GID: u32 = 65534;
