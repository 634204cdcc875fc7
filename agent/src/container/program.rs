//! Finding and executing the program, with the errors that Docker's users know.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use husk_protocol::AgentErrorKind;
use rustix::fs::{Access, FileType, access, stat};
use rustix::io::Errno;

use crate::sys::process::execute;

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No directory of `PATH` has it.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// There is nothing at that path.
    #[error("exec: {program:?}: stat {program}: no such file or directory")]
    Absent {
        /// As it was asked for.
        program: String,
    },
    /// It is a directory.
    #[error("exec: {0:?}: is a directory")]
    Directory(String),
    /// It may not be executed.
    #[error("exec: {0:?}: permission denied")]
    Permission(String),
    /// The kernel refused it; what is missing may also be its interpreter.
    #[error("exec {program}")]
    Refused {
        /// What was executed.
        program: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

impl ProgramError {
    /// The kind by which the host chooses the exit code.
    pub fn kind(&self) -> AgentErrorKind {
        match self {
            Self::NotInPath(_) | Self::Absent { .. } => AgentErrorKind::CommandNotFound,
            Self::Refused { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                AgentErrorKind::CommandNotFound
            }
            Self::Directory(_) | Self::Permission(_) | Self::Refused { .. } => {
                AgentErrorKind::CommandNotExecutable
            }
        }
    }
}

/// Finds `program` by the value of `PATH`; one with a slash is taken as it is, from the current
/// directory.
///
/// # Errors
/// [`ProgramError`]
pub fn find(program: &OsStr, search_path: Option<&OsStr>) -> Result<PathBuf, ProgramError> {
    let name = || program.to_string_lossy().into_owned();
    if program.as_bytes().contains(&b'/') {
        return match check(Path::new(program)) {
            Ok(()) => Ok(program.into()),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(ProgramError::Absent { program: name() }),
            Err(Errno::ISDIR) => Err(ProgramError::Directory(name())),
            Err(_) => Err(ProgramError::Permission(name())),
        };
    }
    search_path
        .unwrap_or_default()
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(|directory| Path::new(OsStr::from_bytes(directory)))
        // A relative directory would run whatever lies in the working directory.
        .filter(|directory| directory.is_absolute() && !program.is_empty())
        .map(|directory| directory.join(program))
        .find(|candidate| check(candidate).is_ok())
        .ok_or_else(|| ProgramError::NotInPath(name()))
}

/// Executes the program at `path`. Returns only if that failed.
pub fn run(path: &Path, arguments: &[CString], environment: &[CString]) -> ProgramError {
    let program = path.to_string_lossy().into_owned();
    let source = match CString::new(path.as_os_str().as_bytes()) {
        Ok(path) => execute(&path, arguments, environment),
        Err(_) => io::ErrorKind::InvalidInput.into(),
    };
    if source.kind() == io::ErrorKind::PermissionDenied {
        return ProgramError::Permission(program);
    }
    ProgramError::Refused { program, source }
}

/// Whether there is a file that this process may execute.
fn check(path: &Path) -> Result<(), Errno> {
    if FileType::from_raw_mode(stat(path)?.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    access(path, Access::EXEC_OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for (name, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("b/plain", 0o644)] {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(tree.path().join("a/folder")).unwrap();
        tree
    }

    fn search(tree: &tempfile::TempDir, program: &str) -> Result<PathBuf, ProgramError> {
        let root = tree.path().display();
        find(program.as_ref(), Some(format!("{root}/a:relative::{root}/b").as_ref()))
    }

    #[test]
    fn the_first_executable_file_of_the_path_is_taken() {
        let tree = tree();
        assert_eq!(search(&tree, "tool").unwrap(), tree.path().join("b/tool"));
    }

    #[test]
    fn what_the_path_does_not_have_is_not_found() {
        let tree = tree();
        for name in ["absent", "plain", "folder", ""] {
            let error = search(&tree, name).unwrap_err();
            assert_eq!(error.kind(), AgentErrorKind::CommandNotFound);
            assert_eq!(
                error.to_string(),
                format!("exec: {name:?}: executable file not found in $PATH")
            );
        }
        assert!(find("sh".as_ref(), None).is_err());
    }

    #[test]
    fn a_path_with_a_slash_is_taken_as_it_is() {
        let tree = tree();
        let at = |name: &str| tree.path().join(name);
        let find = |name: &str| find(at(name).as_os_str(), None);
        assert_eq!(find("b/tool").unwrap(), at("b/tool"));
        let absent = find("b/absent").unwrap_err();
        assert_eq!(absent.kind(), AgentErrorKind::CommandNotFound);
        assert!(absent.to_string().ends_with("no such file or directory"));
        let plain = find("b/plain").unwrap_err();
        assert_eq!(plain.kind(), AgentErrorKind::CommandNotExecutable);
        assert!(plain.to_string().ends_with("permission denied"));
        assert!(find("a/folder").unwrap_err().to_string().ends_with("is a directory"));
    }
}
