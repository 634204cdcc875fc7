//! Bounds on everything that crosses between host and guest, and what each prevents.

/// Bytes of JSON in a frame: bounds what either side allocates for a message.
pub const FRAME_MAX: u32 = 4 << 20;

/// Bytes in a chunk of a stream: bounds a reader's buffer.
pub const CHUNK_MAX: u32 = 64 << 10;

/// Bytes of output the agent keeps for the host, each stream: a writer waits when it is full.
pub const UNACKNOWLEDGED_MAX: usize = 1 << 20;

/// Requests under way on one control connection: bounds the host's and the agent's tables.
pub const REQUESTS_MAX: usize = 256;
