//! Every bound on what a registry may send, in one place.

/// Bytes of a manifest or index; Docker's registry has the same bound.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Bytes of an image config.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Bytes of a token service's answer.
pub const TOKEN_BYTES_MAX: u64 = 1 << 20;
/// Bytes read of an error's body; the rest is not looked at.
pub const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Characters of a registry's own words that are repeated to the user.
pub const REGISTRY_MESSAGE_CHARS_MAX: usize = 200;
/// Indexes inside indexes: the one a tag names, and one more.
pub const INDEX_DEPTH_MAX: u32 = 2;
/// Layers of an image: as many as can be merged. Docker's own builder stops at 127.
pub const LAYERS_MAX: usize = 500;
/// Compressed bytes of one layer.
pub const LAYER_BYTES_MAX: u64 = 1 << 40;
/// Entries of an index that are looked at.
pub const INDEX_ENTRIES_MAX: usize = 1000;
/// Characters of an operating system, architecture or variant.
pub const PLATFORM_CHARS_MAX: usize = 64;
/// Times that a layer may grow when decompressed, once it is past [`EXPANSION_FREE_BYTES`].
pub const EXPANSION_RATIO_MAX: u64 = 1000;
/// Decompressed bytes up to which the ratio is not looked at: small layers of zeros are common.
pub const EXPANSION_FREE_BYTES: u64 = 64 << 20;
/// Binary logarithm of the largest zstd window, 128 MiB: what `zstd --long` writes.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Layers fetched at once by all pulls of a store, as Docker's default.
pub const LAYERS_AT_ONCE: usize = 3;
/// Redirects followed for one request.
pub const REDIRECTS_MAX: usize = 10;
/// Bytes of a program in a system image.
pub const PROGRAM_BYTES_MAX: u64 = 256 << 20;
