//! `husk logs`.

use jiff::Timestamp;

use super::Session;
use crate::args::LogsArgs;
use crate::client::{ClientError, LogRequest};
use crate::exit::{CommandResult, Failure};
use crate::printer::BROKEN_PIPE_STATUS;

pub(super) async fn run(session: &Session, args: &LogsArgs) -> CommandResult {
    let now = Timestamp::now();
    let time = |text: &Option<String>, name: &str| match text {
        None => Ok(None),
        Some(text) => unix_time(text, now).map(Some).ok_or_else(|| {
            Failure::new(format!("invalid value for {name:?}: failed to parse {text:?} as a time"))
        }),
    };
    if args.tail != "all" && args.tail.parse::<i64>().is_err() {
        return Err(Failure::new(format!("invalid value for \"tail\": {:?}", args.tail)));
    }
    let request = LogRequest {
        follow: args.follow,
        tail: args.tail.clone(),
        since: time(&args.since, "since")?,
        until: time(&args.until, "until")?,
        timestamps: args.timestamps,
    };
    let client = session.client()?;
    let container = client.inspect(&args.container).await?.docker;
    let tty = container.config.and_then(|config| config.tty) == Some(true);
    match client.logs(&args.container, &request, tty).await {
        Err(ClientError::Print(error)) if error.is_broken_pipe() => {
            Err(Failure::silent(BROKEN_PIPE_STATUS))
        }
        other => other.map(|()| 0).map_err(Failure::from),
    }
}

/// A time in RFC 3339, a unix time, or a duration before `now`, as `seconds.nanoseconds`.
fn unix_time(text: &str, now: Timestamp) -> Option<String> {
    let number = text.strip_prefix('-').unwrap_or(text);
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Some(text.to_owned());
    }
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => match text.parse::<jiff::civil::DateTime>() {
            Ok(local) => local.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp(),
            Err(_) => now.checked_sub(text.parse::<jiff::SignedDuration>().ok()?).ok()?,
        },
    };
    Some(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative() {
        let now = Timestamp::from_second(1000).unwrap();
        let time = |text| unix_time(text, now);
        assert_eq!(time("12.5").as_deref(), Some("12.5"));
        assert_eq!(time("1970-01-01T00:00:07Z").as_deref(), Some("7.000000000"));
        assert_eq!(time("1m30s").as_deref(), Some("910.000000000"));
        assert_eq!(time("yesterday"), None);
    }
}
