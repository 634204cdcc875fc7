//! `husk ps`.

use husk_api::models::ContainerSummary;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Session, filters};
use crate::args::PsArgs;
use crate::exit::CommandResult;
use crate::format::{Listing, units};
use crate::printer;

/// Columns of the table: header and field.
const COLUMNS: [(&str, &str); 7] = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];

/// Headers of fields that only a template shows.
const MORE: [(&str, &str); 4] = [
    ("CREATED AT", "CreatedAt"),
    ("STATE", "State"),
    ("LABELS", "Labels"),
    ("NETWORKS", "Networks"),
];

pub(super) async fn run(session: &Session, args: &PsArgs) -> CommandResult {
    let listing = Listing::new(args.format.as_deref(), args.quiet, &COLUMNS, &MORE)?;
    let limit = if args.latest { Some(1) } else { args.last.filter(|last| *last > 0) };
    let limit = limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
    let client = session.client()?;
    let containers = client.list(args.all, limit, &filters(&args.filter)?).await?;
    let now = Timestamp::now();
    let rows: Vec<Value> =
        containers.iter().map(|container| row(container, args.no_trunc, now)).collect();
    printer::text_out(&listing.render(&rows)?);
    Ok(0)
}

fn row(container: &ContainerSummary, no_trunc: bool, now: Timestamp) -> Value {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let id = text(&container.id);
    let command = text(&container.command);
    let created = container.created.unwrap_or_default();
    let mut labels: Vec<String> =
        container.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    let networks: Vec<&str> = container
        .network_settings
        .iter()
        .filter_map(|settings| settings.networks.as_ref())
        .flat_map(|networks| networks.keys().map(String::as_str))
        .collect();
    let state = container.state.map(|state| state.to_string()).unwrap_or_default();
    json!({
        "ID": if no_trunc { id } else { units::short_id(&id) },
        "Image": text(&container.image),
        "Command": format!("{:?}", if no_trunc { command } else { units::ellipsis(&command, 20) }),
        "CreatedAt": units::local_time(created),
        "RunningFor": units::ago(created, now),
        "Ports": "",
        "State": state,
        "Status": text(&container.status),
        "Names": names(container.names.as_deref().unwrap_or_default()),
        "Labels": labels.join(","),
        "Networks": networks.join(","),
    })
}

fn names(names: &[String]) -> String {
    let bare: Vec<&str> = names.iter().map(|name| name.trim_start_matches('/')).collect();
    bare.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: Option<&str>, quiet: bool) -> String {
        let container = ContainerSummary {
            id: Some("0123456789abcdef".into()),
            image: Some("busybox".into()),
            command: Some("sh -c 'echo a very long command'".into()),
            created: Some(0),
            names: Some(vec!["/web".into()]),
            status: Some("Up 2 hours".into()),
            ..ContainerSummary::default()
        };
        let now = Timestamp::from_second(7200).unwrap();
        let listing = Listing::new(format, quiet, &COLUMNS, &MORE).unwrap();
        listing.render(&[row(&container, false, now)]).unwrap()
    }

    #[test]
    fn the_table_is_dockers() {
        assert_eq!(
            rendered(None, false),
            "CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS       PORTS     NAMES\n\
             0123456789ab   busybox   \"sh -c 'echo a very …\"   2 hours ago   Up 2 hours             web\n"
        );
    }

    #[test]
    fn quiet_and_templates_choose_fields() {
        assert_eq!(rendered(None, true), "0123456789ab\n");
        assert_eq!(rendered(Some("{{.Names}}: {{.Image}}"), false), "web: busybox\n");
        assert_eq!(
            rendered(Some("table {{.Names}}\\t{{.Status}}"), false),
            "NAMES     STATUS\nweb       Up 2 hours\n"
        );
        assert!(Listing::new(Some("table {{.Nope}}"), false, &COLUMNS, &MORE).is_err());
    }
}
