//! Specs against Docker's documented defaults.

use husk_api::models::ContainerConfig;
use oci_spec::runtime::Capability;
use serde_json::json;

use super::*;

fn definition(config: serde_json::Value, host: serde_json::Value) -> Definition {
    let mut config: ContainerConfig = serde_json::from_value(config).unwrap();
    config.hostname.get_or_insert_with(|| "0123456789ab".to_owned());
    config.cmd.get_or_insert_with(|| vec!["true".to_owned()]);
    Definition {
        image: "busybox".to_owned(),
        image_id: "sha256:0".to_owned(),
        platform: "linux".to_owned(),
        config,
        host_config: serde_json::from_value(host).unwrap(),
    }
}

fn spec(config: serde_json::Value, host: serde_json::Value) -> serde_json::Value {
    serde_json::to_value(build(&definition(config, host)).unwrap()).unwrap()
}

fn strings(value: &serde_json::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn the_default_process_is_dockers() {
    let spec = spec(json!({}), json!({}));
    let process = &spec["process"];
    assert_eq!(process["args"], json!(["true"]));
    assert_eq!(process["cwd"], "/");
    assert_eq!(
        process["env"],
        json!([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=0123456789ab"
        ])
    );
    assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(process["capabilities"]["effective"], process["capabilities"]["permitted"]);
    assert_eq!(process["capabilities"]["inheritable"], json!([]));
    assert_eq!(process["capabilities"]["ambient"], json!([]));
    assert_eq!(process["noNewPrivileges"], false);
    assert_eq!(spec["hostname"], "0123456789ab");
    assert_eq!(spec["root"]["readonly"], false);
}

#[test]
fn the_default_mounts_paths_and_namespaces_are_dockers() {
    let spec = spec(json!({}), json!({}));
    let mounts = spec["mounts"].as_array().unwrap();
    let destinations: Vec<_> =
        mounts.iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    assert_eq!(
        destinations,
        ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]
    );
    assert!(strings(&mounts[3]["options"]).contains(&"ro"));
    assert!(strings(&mounts[4]["options"]).contains(&"ro"));
    assert!(strings(&mounts[6]["options"]).contains(&"size=67108864"));
    let linux = &spec["linux"];
    assert!(strings(&linux["maskedPaths"]).contains(&"/proc/kcore"));
    assert_eq!(
        strings(&linux["readonlyPaths"]),
        ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    );
    let namespaces: Vec<_> = linux["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| namespace["type"].as_str().unwrap())
        .collect();
    assert_eq!(namespaces, ["pid", "mount", "uts", "ipc", "network", "cgroup"]);
}

#[test]
fn variables_replace_each_other_in_place_and_can_be_taken_away() {
    let spec = spec(
        json!({"Tty": true, "Env": ["PATH=/bin", "A=1", "A=2", "HOSTNAME", "B="]}),
        json!({"ConsoleSize": [24, 80]}),
    );
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "TERM=xterm", "A=2", "B="]));
    assert_eq!(spec["process"]["terminal"], true);
    assert_eq!(spec["process"]["consoleSize"], json!({"height": 24, "width": 80}));
}

#[test]
fn resources_become_cgroup_limits() {
    let spec = spec(
        json!({}),
        json!({"Memory": 64 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 100,
               "CpuShares": 512, "ShmSize": 1 << 20}),
    );
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["memory"]["limit"], 64 << 20);
    assert_eq!(resources["cpu"]["quota"], 150_000);
    assert_eq!(resources["cpu"]["period"], 100_000);
    assert_eq!(resources["cpu"]["shares"], 512);
    assert_eq!(resources["pids"]["limit"], 100);
    assert!(strings(&spec["mounts"][6]["options"]).contains(&"size=1048576"));
}

#[test]
fn rlimits_default_to_open_files_and_take_ulimits() {
    let spec = spec(
        json!({}),
        json!({"Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20},
                           {"Name": "core", "Soft": -1, "Hard": -1}]}),
    );
    assert_eq!(
        spec["process"]["rlimits"],
        json!([{"type": "RLIMIT_NOFILE", "hard": 20, "soft": 10},
               {"type": "RLIMIT_CORE", "hard": u64::MAX, "soft": u64::MAX}])
    );
}

#[test]
fn privileged_has_all_capabilities_and_hides_nothing() {
    let built = build(&definition(json!({}), json!({"Privileged": true}))).unwrap();
    let process = built.process().clone().unwrap();
    let bounding = process.capabilities().clone().unwrap().bounding().clone().unwrap();
    assert!(bounding.contains(&Capability::SysAdmin));
    let linux = built.linux().clone().unwrap();
    assert_eq!(linux.masked_paths().clone().unwrap(), Vec::<String>::new());
    assert_eq!(linux.readonly_paths().clone().unwrap(), Vec::<String>::new());
    let sys = built.mounts().clone().unwrap()[3].options().clone().unwrap();
    assert!(sys.contains(&"rw".to_owned()));
}

#[test]
fn further_settings_reach_the_spec() {
    let spec = spec(
        json!({"WorkingDir": "/srv", "Domainname": "example.org", "Entrypoint": ["/e"], "Cmd": ["x"]}),
        json!({"ReadonlyRootfs": true, "OomScoreAdj": 500,
               "Sysctls": {"net.ipv4.ip_forward": "1"},
               "SecurityOpt": ["no-new-privileges"],
               "Tmpfs": {"/run": "size=1m,exec"}}),
    );
    assert_eq!(spec["process"]["cwd"], "/srv");
    assert_eq!(spec["process"]["args"], json!(["/e", "x"]));
    assert_eq!(spec["process"]["oomScoreAdj"], 500);
    assert_eq!(spec["process"]["noNewPrivileges"], true);
    assert_eq!(spec["root"]["readonly"], true);
    assert_eq!(spec["domainname"], "example.org");
    assert_eq!(spec["linux"]["sysctl"], json!({"net.ipv4.ip_forward": "1"}));
    let tmpfs = &spec["mounts"][7];
    assert_eq!(tmpfs["destination"], "/run");
    assert_eq!(strings(&tmpfs["options"]), ["nosuid", "nodev", "size=1m"]);
}

#[test]
fn provided_files_name_the_host_and_its_servers() {
    let definition = definition(
        json!({"Hostname": "web", "Domainname": "example.org"}),
        json!({"ExtraHosts": ["db:10.0.0.2", "v6=[::2]"], "Dns": ["10.0.0.1"],
               "DnsSearch": ["example.org"], "DnsOptions": ["ndots:2"]}),
    );
    let files = provided_files(&definition);
    assert_eq!(files[0], ("/etc/hostname".to_owned(), "web\n".to_owned()));
    assert!(files[1].1.starts_with("127.0.0.1\tlocalhost\n"));
    assert!(files[1].1.contains("10.0.0.2\tdb\n") && files[1].1.contains("::2\tv6\n"));
    assert!(files[1].1.ends_with("127.0.1.1\tweb.example.org web\n"));
    assert_eq!(files[2].1, "nameserver 10.0.0.1\nsearch example.org\noptions ndots:2\n");
}
