//! Image configuration and request, merged as Docker does.

use std::collections::HashMap;

use husk_api::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use husk_api::{ApiError, ErrorCode};
use husk_image::Image;
use oci_spec::image::Config as ImageProcess;

use crate::id::ContainerId;
use crate::store::Definition;

/// Merges what the image says with what the client asks for; the client has the last word.
///
/// # Errors
/// `InvalidArgument` if neither names a program.
pub(crate) fn merge(
    id: &ContainerId,
    image: &Image,
    body: &ContainerCreateBody,
) -> Result<Definition, ApiError> {
    let process = image.config.config().clone().unwrap_or_default();
    let (entrypoint, cmd) = merge_command(&process, body);
    let config = ContainerConfig {
        hostname: Some(non_empty(body.hostname.clone()).unwrap_or_else(|| id.short().to_owned())),
        domainname: Some(body.domainname.clone().unwrap_or_default()),
        user: Some(non_empty(body.user.clone()).or(process.user().clone()).unwrap_or_default()),
        attach_stdin: Some(body.attach_stdin.unwrap_or(false)),
        attach_stdout: Some(body.attach_stdout.unwrap_or(false)),
        attach_stderr: Some(body.attach_stderr.unwrap_or(false)),
        exposed_ports: merge_sets(
            body.exposed_ports.as_deref(),
            process.exposed_ports().as_deref(),
        ),
        tty: Some(body.tty.unwrap_or(false)),
        open_stdin: Some(body.open_stdin.unwrap_or(false)),
        stdin_once: Some(body.stdin_once.unwrap_or(false)),
        env: Some(merge_env(body.env.as_deref(), process.env().as_deref())),
        cmd,
        healthcheck: body.healthcheck.clone(),
        image: body.image.clone(),
        volumes: merge_sets(body.volumes.as_deref(), process.volumes().as_deref()),
        working_dir: Some(
            non_empty(body.working_dir.clone())
                .or(process.working_dir().clone())
                .unwrap_or_default(),
        ),
        entrypoint,
        labels: Some(merge_labels(body.labels.as_ref(), process.labels().as_ref())),
        stop_signal: non_empty(body.stop_signal.clone()).or(process.stop_signal().clone()),
        stop_timeout: body.stop_timeout,
        ..ContainerConfig::default()
    };
    let definition = Definition {
        image: body.image.clone().unwrap_or_default(),
        image_id: image.id.to_string(),
        platform: image.platform.os.clone(),
        config,
        host_config: host_config(body),
    };
    if definition.args().is_empty() {
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            format!("no command specified: image {} has none, so name one", definition.image),
        ));
    }
    Ok(definition)
}

/// The values that Docker shows for what was left open.
fn host_config(body: &ContainerCreateBody) -> HostConfig {
    let mut host = body.host_config.clone().unwrap_or_default();
    host.network_mode = non_empty(host.network_mode).or(Some("default".to_owned()));
    host.ipc_mode = non_empty(host.ipc_mode).or(Some("private".to_owned()));
    host.runtime = Some("husk".to_owned());
    host.shm_size = host.shm_size.filter(|size| *size > 0).or(Some(64 << 20));
    host
}

fn merge_command(
    process: &ImageProcess,
    body: &ContainerCreateBody,
) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let mut entrypoint = body.entrypoint.clone();
    let mut cmd = body.cmd.clone();
    if entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if cmd.as_ref().is_none_or(Vec::is_empty) {
            cmd.clone_from(process.cmd());
        }
        if entrypoint.is_none() {
            entrypoint.clone_from(process.entrypoint());
        }
    }
    // `--entrypoint ""` takes the image's away and sets none.
    if entrypoint.as_deref() == Some(&[String::new()]) {
        entrypoint = None;
    }
    (entrypoint, cmd)
}

/// The client's variables, then those of the image that the client does not name.
fn merge_env(ours: Option<&[String]>, image: Option<&[String]>) -> Vec<String> {
    let mut env = ours.unwrap_or_default().to_vec();
    for variable in image.unwrap_or_default() {
        if !env.iter().any(|other| key(other) == key(variable)) {
            env.push(variable.clone());
        }
    }
    env
}

/// The name in `name=value`.
pub(crate) fn key(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(key, _)| key)
}

fn merge_sets(ours: Option<&[String]>, image: Option<&[String]>) -> Option<Vec<String>> {
    let mut all: Vec<String> = ours.unwrap_or_default().to_vec();
    all.extend(image.unwrap_or_default().iter().cloned());
    all.sort();
    all.dedup();
    (!all.is_empty()).then_some(all)
}

fn merge_labels(
    ours: Option<&HashMap<String, String>>,
    image: Option<&HashMap<String, String>>,
) -> HashMap<String, String> {
    let mut labels = image.cloned().unwrap_or_default();
    labels.extend(ours.cloned().unwrap_or_default());
    labels
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ConfigBuilder;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageProcess {
        let mut builder = ConfigBuilder::default();
        if !entrypoint.is_empty() {
            builder = builder.entrypoint(words(entrypoint));
        }
        if !cmd.is_empty() {
            builder = builder.cmd(words(cmd));
        }
        builder.build().unwrap()
    }

    fn merged(
        image: &ImageProcess,
        entrypoint: Option<&[&str]>,
        cmd: Option<&[&str]>,
    ) -> Vec<String> {
        let body = ContainerCreateBody {
            entrypoint: entrypoint.map(words),
            cmd: cmd.map(words),
            ..ContainerCreateBody::default()
        };
        let (entrypoint, cmd) = merge_command(image, &body);
        [entrypoint.unwrap_or_default(), cmd.unwrap_or_default()].concat()
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        let both = image(&["/entry"], &["default"]);
        assert_eq!(merged(&both, None, None), ["/entry", "default"]);
        assert_eq!(merged(&both, None, Some(&["x"])), ["/entry", "x"]);
        assert_eq!(merged(&both, Some(&["/mine"]), None), ["/mine"]);
        assert_eq!(merged(&both, Some(&["/mine"]), Some(&["x"])), ["/mine", "x"]);
        assert_eq!(merged(&both, Some(&[""]), Some(&["x"])), ["x"]);
        assert_eq!(merged(&both, Some(&[]), None), ["default"]);
        let cmd_only = image(&[], &["sh"]);
        assert_eq!(merged(&cmd_only, None, None), ["sh"]);
        assert_eq!(merged(&cmd_only, None, Some(&["true"])), ["true"]);
    }

    #[test]
    fn the_clients_variables_win_and_come_first() {
        let merged =
            merge_env(Some(&words(&["A=1", "B"])), Some(&words(&["PATH=/bin", "A=0", "B=2"])));
        assert_eq!(merged, ["A=1", "B", "PATH=/bin"]);
    }
}
