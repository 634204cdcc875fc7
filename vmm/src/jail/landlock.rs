//! Landlock, as much of it as the kernel has: a second lock behind the empty root directory.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

/// Denies this process and its threads every file that it has not opened yet, every TCP port, and
/// every abstract unix socket but its own. Where sockets with a path count as files, those in
/// `directory` remain.
pub(super) fn restrict(directory: &Path) -> io::Result<()> {
    let restrict = || -> Result<(), RulesetError> {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V9))?
            .handle_access(AccessNet::from_all(ABI::V9))?
            // Not signals: the emulator that we have to end lives outside.
            .scope(Scope::AbstractUnixSocket)?
            .create()?;
        let ruleset = match PathFd::new(directory) {
            Ok(directory) => {
                ruleset.add_rule(PathBeneath::new(directory, AccessFs::ResolveUnix))?
            }
            // It cannot be opened to name it, so it cannot be reached either.
            Err(_) => ruleset,
        };
        ruleset.restrict_self().map(|_| ())
    };
    restrict().map_err(io::Error::other)
}
