//! One finding of `husk doctor`.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, but slower or with less.
    Warn,
    /// Containers cannot run.
    Fail,
}

/// What was looked at and found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) status: Status,
    /// What was looked at.
    pub(super) name: &'static str,
    /// What was found.
    pub(super) detail: String,
    /// What to do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    /// A good one.
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { status: Status::Ok, name, detail: detail.into(), remedy: None }
    }

    /// A drawback.
    pub(super) fn warn(name: &'static str, detail: impl Into<String>, remedy: &str) -> Self {
        Self { status: Status::Warn, name, detail: detail.into(), remedy: Some(remedy.to_owned()) }
    }

    /// A bad one.
    pub(super) fn fail(name: &'static str, detail: impl Into<String>, remedy: &str) -> Self {
        Self { status: Status::Fail, ..Self::warn(name, detail, remedy) }
    }

    /// One line.
    pub(super) fn text(&self) -> String {
        let status = match self.status {
            Status::Ok => "OK",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        let remedy = self.remedy.iter().map(|remedy| format!(": {remedy}")).collect::<String>();
        format!("{status:<5}{:<14}{}{remedy}", self.name, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_remedy() {
        assert_eq!(Finding::ok("kernel", "/x").text(), "OK   kernel        /x");
        assert_eq!(
            Finding::fail("emulator", "none", "install it").text(),
            "FAIL emulator      none: install it"
        );
    }
}
