//! What passes, and how the rest is refused.

use std::collections::HashMap;

use husk_api::models::{EndpointSettings, NetworkingConfig, ResourcesUlimits};
use serde_json::json;

use super::*;

fn check_host(host: serde_json::Value) -> Result<(), ApiError> {
    let body = ContainerCreateBody {
        host_config: Some(serde_json::from_value(host).unwrap()),
        ..ContainerCreateBody::default()
    };
    validate(&body, 2)
}

#[test]
fn what_a_stock_docker_client_sends_passes() {
    let text = r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true,
        "AttachStderr": true, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null,
        "Cmd": ["true"], "Image": "busybox", "Volumes": {}, "WorkingDir": "", "Entrypoint": null,
        "Labels": {},
        "HostConfig": {
            "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}},
            "NetworkMode": "default", "PortBindings": {},
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": true,
            "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [24, 80], "CapAdd": null,
            "CapDrop": null, "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
            "ExtraHosts": null, "GroupAdd": null, "IpcMode": "", "Cgroup": "", "Links": null,
            "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
            "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
            "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [],
            "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [],
            "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
            "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [],
            "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0,
            "MemorySwap": 0, "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0,
            "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0,
            "IOMaximumBandwidth": 0, "MaskedPaths": null, "ReadonlyPaths": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": {}}}
    }"#;
    let body: ContainerCreateBody = serde_json::from_str(text).unwrap();
    validate(&body, 2).unwrap();
}

#[test]
fn what_would_be_ignored_is_refused_by_name() {
    for (host, field) in [
        (json!({"Binds": ["/a:/b"]}), "Binds"),
        (json!({"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b"}]}), "Mounts"),
        (json!({"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}), "PortBindings"),
        (json!({"PublishAllPorts": true}), "PublishAllPorts"),
        (json!({"NetworkMode": "host"}), "NetworkMode \"host\""),
        (json!({"NetworkMode": "container:x"}), "NetworkMode"),
        (json!({"RestartPolicy": {"Name": "always"}}), "RestartPolicy"),
        (json!({"Init": true}), "Init"),
        (json!({"PidMode": "host"}), "PidMode"),
        (json!({"IpcMode": "host"}), "IpcMode"),
        (json!({"CpusetCpus": "0"}), "CpusetCpus"),
        (json!({"BlkioWeight": 10}), "BlkioWeight"),
        (json!({"Devices": [{"PathOnHost": "/dev/null"}]}), "Devices"),
        (json!({"DeviceRequests": [{"Count": -1}]}), "DeviceRequests"),
        (json!({"MemorySwap": 1, "Memory": 0}), "MemorySwap"),
        (json!({"MemoryReservation": 7}), "MemoryReservation"),
        (json!({"OomKillDisable": true}), "OomKillDisable"),
        (json!({"Runtime": "runc"}), "Runtime \"runc\""),
        (json!({"LogConfig": {"Type": "syslog", "Config": {}}}), "LogConfig.Type \"syslog\""),
        (json!({"SecurityOpt": ["seccomp=/x.json"]}), "SecurityOpt"),
        (json!({"GroupAdd": ["audio"]}), "GroupAdd"),
        (json!({"StorageOpt": {"size": "1G"}}), "StorageOpt"),
        (json!({"Links": ["db"]}), "Links"),
    ] {
        let error = check_host(host.clone()).unwrap_err();
        assert!(error.message.starts_with(field), "{host}: {error}");
        assert_eq!(error.code, ErrorCode::Unsupported, "{host}");
        assert!(!error.message.contains('\n'));
    }
}

#[test]
fn bad_values_are_refused_in_dockers_words() {
    for (host, text) in [
        (json!({"Memory": 4 << 20}), "Minimum memory limit allowed is 6MB"),
        (json!({"Memory": -1}), "Minimum memory limit allowed is 6MB"),
        (
            json!({"NanoCpus": 3_000_000_000_u64}),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (
            json!({"NanoCpus": 1_000_000_000, "CpuPeriod": 1000}),
            "Conflicting options: Nano CPUs and CPU Period cannot both be set.",
        ),
        (json!({"CapAdd": ["NO_SUCH"]}), "invalid capability: NO_SUCH"),
        (json!({"Annotations": {"husk.accel": "fast"}}), "husk.accel is \"fast\""),
        (json!({"Annotations": {"husk.color": "red"}}), "unknown annotation husk.color"),
        (json!({"Tmpfs": {"relative": ""}}), "Tmpfs path \"relative\""),
    ] {
        let error = check_host(host.clone()).unwrap_err();
        assert!(error.message.starts_with(text), "{host}: {error}");
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{host}");
    }
    check_host(json!({"Memory": 6 << 20, "MemorySwap": 12 << 20})).unwrap();
    check_host(json!({"NanoCpus": 2_000_000_000_u64})).unwrap();
}

#[test]
fn process_settings_are_checked() {
    let refused = |body: ContainerCreateBody| validate(&body, 1).unwrap_err().message;
    let body = ContainerCreateBody::default;
    let relative = ContainerCreateBody { working_dir: Some("x".to_owned()), ..body() };
    assert!(refused(relative).contains("needs to be an absolute path"));
    let nameless = ContainerCreateBody { env: Some(vec!["=1".to_owned()]), ..body() };
    assert!(refused(nameless).starts_with("invalid environment variable"));
    let signal = ContainerCreateBody { stop_signal: Some("SIGNO".to_owned()), ..body() };
    assert_eq!(refused(signal), "invalid signal: SIGNO");
    let hostname = ContainerCreateBody { hostname: Some("a b".to_owned()), ..body() };
    assert_eq!(refused(hostname), "invalid hostname format: a b");
}

#[test]
fn only_built_in_networks_pass() {
    let on = |network: &str, endpoint: EndpointSettings| ContainerCreateBody {
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    };
    validate(&on("bridge", EndpointSettings::default()), 1).unwrap();
    assert!(validate(&on("mine", EndpointSettings::default()), 1).is_err());
    let alias =
        EndpointSettings { aliases: Some(vec!["db".to_owned()]), ..EndpointSettings::default() };
    assert!(validate(&on("bridge", alias), 1).is_err());
}

#[test]
fn unknown_limits_of_resources_are_refused() {
    let ulimit = |name: &str, soft, hard| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(soft),
        hard: Some(hard),
    };
    let with = |ulimit| {
        let host = HostConfig { ulimits: Some(vec![ulimit]), ..HostConfig::default() };
        validate(
            &ContainerCreateBody { host_config: Some(host), ..ContainerCreateBody::default() },
            1,
        )
    };
    with(ulimit("nofile", 10, 20)).unwrap();
    with(ulimit("core", -1, -1)).unwrap();
    assert!(
        with(ulimit("files", 1, 2)).unwrap_err().message.contains("invalid ulimit type: files")
    );
    assert!(with(ulimit("nofile", 30, 20)).is_err());
}
