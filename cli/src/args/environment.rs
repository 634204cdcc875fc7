//! Environment variables from `-e` and `--env-file`, labels from `-l`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A larger file is not a list of variables.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A variable or file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// The file cannot be read.
    #[error("open {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is too large or no text.
    #[error(
        "poorly formatted environment: env file {path} contains invalid utf8 bytes or is larger than 16 MiB"
    )]
    NoText {
        /// The file.
        path: PathBuf,
    },
    /// A name with a blank in it.
    #[error("poorly formatted environment: variable '{0}' contains whitespaces")]
    Blank(String),
    /// A line without a name.
    #[error("poorly formatted environment: no variable name on line '{0}'")]
    NoName(String),
    /// `-e =x`.
    #[error("invalid environment variable: {0}")]
    Variable(String),
}

/// Looks up a variable of the client's own environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All variables: those of the files first, so that `-e` wins.
pub(crate) fn collect(
    files: &[PathBuf],
    variables: &[String],
    lookup: Lookup<'_>,
) -> Result<Vec<String>, EnvironmentError> {
    let mut collected = Vec::new();
    for file in files {
        collected.extend(parse_file(&read(file)?, lookup)?);
    }
    for variable in variables {
        collected.push(variable_of(variable, lookup)?);
    }
    Ok(collected)
}

/// `NAME=value` as it is; `NAME` with the client's value, or alone, which unsets the image's.
fn variable_of(text: &str, lookup: Lookup<'_>) -> Result<String, EnvironmentError> {
    match text.split_once('=') {
        Some(("", _)) => Err(EnvironmentError::Variable(text.to_owned())),
        Some(_) => Ok(text.to_owned()),
        None if text.is_empty() => Err(EnvironmentError::Variable(text.to_owned())),
        None => Ok(lookup(text).map_or_else(|| text.to_owned(), |value| format!("{text}={value}"))),
    }
}

/// Lines of `NAME=value` (taken as they are, quotes too) or `NAME`; `#` begins a comment line.
fn parse_file(text: &str, lookup: Lookup<'_>) -> Result<Vec<String>, EnvironmentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(EnvironmentError::NoName(line.to_owned()));
        }
        if name.contains(char::is_whitespace) {
            return Err(EnvironmentError::Blank(name.to_owned()));
        }
        match value {
            Some(value) => variables.push(format!("{name}={value}")),
            None => variables.extend(lookup(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(variables)
}

fn read(path: &Path) -> Result<String, EnvironmentError> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| EnvironmentError::Read {
        path: path.to_owned(),
        reason: match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        },
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let small = u64::try_from(bytes.len()).is_ok_and(|len| len <= FILE_BYTES_MAX);
    match String::from_utf8(bytes) {
        Ok(text) if small => Ok(text),
        _ => Err(EnvironmentError::NoText { path: path.to_owned() }),
    }
}

/// `key=value` pairs; a key alone has an empty value.
pub(crate) fn pairs(texts: &[String]) -> HashMap<String, String> {
    texts
        .iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/h".to_owned())
    }

    #[test]
    fn a_file_has_comments_values_and_names() {
        let text = "\u{feff}# comment\n\n  A=1 # not a comment\nB=\"q\"\nHOME\nNONE\nC=a=b\r\n";
        assert_eq!(
            parse_file(text, &lookup).unwrap(),
            ["A=1 # not a comment", "B=\"q\"", "HOME=/h", "C=a=b"]
        );
    }

    #[test]
    fn bad_lines_are_named() {
        let error = |text| parse_file(text, &lookup).unwrap_err().to_string();
        assert_eq!(
            error("A B=1"),
            "poorly formatted environment: variable 'A B' contains whitespaces"
        );
        assert_eq!(error("=1"), "poorly formatted environment: no variable name on line '=1'");
    }

    #[test]
    fn a_flag_comes_after_the_files_and_may_take_the_clients_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "A=file").unwrap();
        let flags = ["A=flag".to_owned(), "HOME".to_owned(), "GONE".to_owned()];
        assert_eq!(
            collect(&[file.path().to_owned()], &flags, &lookup).unwrap(),
            ["A=file", "A=flag", "HOME=/h", "GONE"]
        );
        assert!(collect(&[], &["=x".to_owned()], &lookup).is_err());
        assert!(collect(&["/nonexistent".into()], &[], &lookup).is_err());
    }
}
