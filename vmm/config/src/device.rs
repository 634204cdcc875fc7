//! The devices of a [`VmConfig`](crate::VmConfig).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::FdIndex;

/// One virtio block device, backed by a concatenation of files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The device's serial (virtio-blk `GET_ID`), by which the agent finds it: 1 to 20 bytes ASCII.
    pub serial: String,
    /// The pieces in order; a writable disk has exactly one.
    pub segments: Vec<Segment>,
    /// True refuses every write in the VMM, whatever the guest thinks.
    pub read_only: bool,
    /// What its requests may use, reads and writes together; none is no limit.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
}

/// A piece of a disk.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// A regular file.
    pub fd: FdIndex,
    /// Bytes of the disk that it backs, a multiple of 512; what lies behind its end reads as zeros.
    pub length: u64,
}

/// The virtio socket device, its host side on unix sockets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's context ID, 3 or higher.
    pub guest_cid: u32,
    /// A listening unix stream socket: who connects and writes `CONNECT <port>\n` gets `OK <port>\n`
    /// and then the bytes of a connection to that guest port, or end of file where nobody listens.
    pub listener: FdIndex,
    /// A directory: a guest that connects to host port `p` reaches the unix socket `guest-<p>.sock`
    /// in it, or is refused.
    pub directory: PathBuf,
}

/// One virtio network device on a tap of the host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// `/dev/net/tun`, attached to its interface (`TUNSETIFF`) with exactly the flags `IFF_TAP`,
    /// `IFF_NO_PI` and `IFF_VNET_HDR`. The VMM sets the length of the header and the offloads.
    pub tap: FdIndex,
    /// The guest's address; frames that it sends under another are dropped.
    pub mac: MacAddress,
    /// Bytes of the longest packet, the 14 of the Ethernet header not counted:
    /// [`crate::MTU_MIN`] to 65,535.
    pub mtu: u16,
    /// What may reach the guest; none is no limit. An operation is a frame, or one of up to 64 KiB
    /// that is yet to be cut into TCP segments.
    #[serde(default)]
    pub rx_rate_limit: Option<RateLimit>,
    /// What the guest may send.
    #[serde(default)]
    pub tx_rate_limit: Option<RateLimit>,
}

/// An Ethernet address, its six bytes in the order of the wire.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(formatter, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(formatter, ":{byte:02x}"))
    }
}

/// One virtio persistent-memory device: a file that the guest sees as memory and cannot change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pmem {
    /// A regular file, open for reading.
    pub fd: FdIndex,
    /// Bytes that the guest sees, a positive multiple of [`crate::PMEM_ALIGNMENT`]; what lies
    /// behind the file's end reads as zeros.
    pub length: u64,
}

/// The virtio balloon, by which guest memory comes back to the host.
///
/// The software accelerator's is the emulator's own, whose statistics stay with it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Balloon {
    /// The guest reports pages that it has freed, and the host takes them at once.
    pub free_page_reporting: bool,
    /// The guest tells how it uses its memory.
    pub statistics: bool,
    /// A guest that runs out of memory may take back what the balloon holds.
    pub deflate_on_oom: bool,
}

/// What a queue may use in the course of time; a bucket that is not there limits nothing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Bytes of data.
    #[serde(default)]
    pub bytes: Option<TokenBucket>,
    /// Requests or frames.
    #[serde(default)]
    pub operations: Option<TokenBucket>,
}

/// A token bucket, full at first: in any `t` seconds it yields at most its size, the rest of the
/// burst, and `t` times its rate. Whoever needs more at once than its size waits longer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBucket {
    /// Tokens that it holds, 1 to [`crate::TOKENS_MAX`].
    pub size: u64,
    /// Tokens that come on top once and are not filled up again, at most [`crate::TOKENS_MAX`].
    #[serde(default)]
    pub one_time_burst: u64,
    /// Tokens that flow in, 1 to [`crate::TOKENS_MAX`].
    pub refill_per_second: u64,
}
