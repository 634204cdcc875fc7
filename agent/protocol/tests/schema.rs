//! The contract as it is on the wire, frozen in one file a generation. A change that this test
//! notices breaks hosts and guests of the other version: it needs a new generation and a new file.
//!
//! `HUSK_FREEZE=1 cargo test -p husk-protocol --test schema` writes the file of a generation that
//! has none yet.

use std::fs;
use std::path::PathBuf;

use husk_protocol::{
    AGENT_PORT, AgentError, AgentErrorKind, CreateContainer, ExitStatus, GENERATION, GuestInfo,
    IMAGE_DISK, Open, Opened, READY_PORT, Reply, ReplyBody, Request, RequestBody, Rootfs,
    SYSTEM_DISK, Stream, WRITABLE_DISK, frame, limits,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn opens() -> Vec<Open> {
    let process = || "web".to_owned();
    let all = vec![
        Open::Control { generation: 1 },
        Open::Output { process: process(), stream: Stream::Stdout, offset: 4096 },
        Open::Output { process: process(), stream: Stream::Stderr, offset: u64::MAX },
        Open::Input { process: process() },
    ];
    for open in &all {
        // A new variant does not compile until it has an example above.
        match open {
            Open::Control { .. } | Open::Output { .. } | Open::Input { .. } => {}
        }
    }
    all
}

fn requests() -> Vec<Request> {
    let process = || "web".to_owned();
    let bodies = vec![
        RequestBody::CreateContainer(Box::new(create_container())),
        RequestBody::Start { process: process() },
        RequestBody::Wait { process: process() },
        RequestBody::Signal { process: process(), signal: 15, all: true },
        RequestBody::Resize { process: process(), rows: 24, columns: 80 },
        RequestBody::SetTime { unix_ns: 1_700_000_000_123_456_789 },
        RequestBody::Info,
        RequestBody::Shutdown,
    ];
    for body in &bodies {
        match body {
            RequestBody::CreateContainer(_)
            | RequestBody::Start { .. }
            | RequestBody::Wait { .. }
            | RequestBody::Signal { .. }
            | RequestBody::Resize { .. }
            | RequestBody::SetTime { .. }
            | RequestBody::Info
            | RequestBody::Shutdown => {}
        }
    }
    bodies.into_iter().zip(1..).map(|(body, id)| Request { id, body }).collect()
}

fn create_container() -> CreateContainer {
    CreateContainer {
        id: "web".to_owned(),
        rootfs: Rootfs {
            image_disk: IMAGE_DISK.to_owned(),
            writable_disk: WRITABLE_DISK.to_owned(),
        },
        user: "www-data:adm".to_owned(),
        spec: serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["sh", "-c", "true"],
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
        }))
        .expect("the example is a spec"),
        files: vec![("/etc/hostname".to_owned(), "web\n".to_owned())],
        stdin: true,
    }
}

fn replies() -> Vec<Reply> {
    let mut bodies = vec![
        ReplyBody::Done,
        ReplyBody::Started { pid: 42 },
        ReplyBody::Exited(ExitStatus {
            code: 137,
            oom_killed: true,
            exited_at_unix_ns: 1_700_000_000_123_456_789,
        }),
        ReplyBody::Info(GuestInfo {
            agent_version: "0.1.0".to_owned(),
            kernel_release: "6.12.0".to_owned(),
            boot_id: "00000000-0000-4000-8000-000000000000".to_owned(),
            uptime_ms: 1234,
        }),
    ];
    bodies.extend(errors().into_iter().map(ReplyBody::Error));
    for body in &bodies {
        match body {
            ReplyBody::Done
            | ReplyBody::Started { .. }
            | ReplyBody::Exited(_)
            | ReplyBody::Info(_)
            | ReplyBody::Error(_) => {}
        }
    }
    bodies.into_iter().zip(1..).map(|(body, id)| Reply { id, body }).collect()
}

fn errors() -> Vec<AgentError> {
    use AgentErrorKind::{
        CommandNotExecutable, CommandNotFound, Internal, InvalidArgument, InvalidState, NotFound,
        Unsupported,
    };
    let kinds = [
        CommandNotFound,
        CommandNotExecutable,
        InvalidArgument,
        NotFound,
        InvalidState,
        Unsupported,
        Internal,
    ];
    for kind in kinds {
        match kind {
            CommandNotFound | CommandNotExecutable | InvalidArgument | NotFound | InvalidState
            | Unsupported | Internal => {}
        }
    }
    let error = |kind| AgentError { kind, message: "what went wrong".to_owned() };
    kinds.map(error).into()
}

fn opened() -> Vec<Opened> {
    let mut all = vec![Opened { generation: 1, error: None }];
    all.extend(errors().into_iter().take(1).map(|e| Opened { generation: 1, error: Some(e) }));
    all
}

fn schema() -> Value {
    json!({
        "generation": GENERATION,
        "ports": {"agent": AGENT_PORT, "ready": READY_PORT},
        "disks": [SYSTEM_DISK, IMAGE_DISK, WRITABLE_DISK],
        "limits": {
            "frame": limits::FRAME_MAX,
            "chunk": limits::CHUNK_MAX,
            "unacknowledged": limits::UNACKNOWLEDGED_MAX,
            "requests": limits::REQUESTS_MAX,
        },
        "open": opens(),
        "opened": opened(),
        "request": requests(),
        "reply": replies(),
    })
}

#[test]
fn the_contract_is_the_one_frozen_for_its_generation() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("schema/gen-{GENERATION}.json"));
    let text = format!("{:#}\n", schema());
    if std::env::var_os("HUSK_FREEZE").is_some() && !path.exists() {
        fs::write(&path, &text).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        frozen == text,
        "the contract differs from {}: raise GENERATION and freeze a new file\n{text}",
        path.display()
    );
}

#[test]
fn every_frozen_message_is_still_understood() {
    fn understood<T: DeserializeOwned + Serialize>(messages: &Value) {
        for message in messages.as_array().unwrap() {
            let decoded: T = serde_json::from_value(message.clone()).unwrap();
            assert_eq!(&serde_json::to_value(decoded).unwrap(), message);
        }
    }
    let schema = schema();
    understood::<Open>(&schema["open"]);
    understood::<Opened>(&schema["opened"]);
    understood::<Request>(&schema["request"]);
    understood::<Reply>(&schema["reply"]);
}

#[test]
fn every_message_survives_its_frame() {
    fn round_trip<T: DeserializeOwned + Serialize + std::fmt::Debug>(messages: Vec<T>) {
        for message in messages {
            let bytes = frame::encode(&message).unwrap();
            let (header, json) = bytes.split_first_chunk().unwrap();
            assert_eq!(frame::decode_length(*header).unwrap(), json.len());
            let decoded: T = frame::decode(json).unwrap();
            assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
        }
    }
    round_trip(opens());
    round_trip(opened());
    round_trip(requests());
    round_trip(replies());
}
