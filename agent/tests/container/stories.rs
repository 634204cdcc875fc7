//! The stories. Each has a guest of its own.

use std::time::{Duration, Instant};

use husk_protocol::{AgentErrorKind, GENERATION, Open, ReplyBody, RequestBody, Stream};
use serde_json::json;

use crate::client::{
    Finished, acknowledge, connect, container, container_with, error_of, feed, input, open, output,
    read_all, read_chunk, run, shell, write_frame,
};
use crate::guest::Guest;

macro_rules! stories {
    ($($name:ident),* $(,)?) => {
        /// All stories by name.
        pub(crate) fn all() -> Vec<(&'static str, fn(&Guest))> {
            vec![$((stringify!($name), $name as fn(&Guest))),*]
        }
    };
}

stories![
    output_and_exit_code_come_back,
    exit_codes_and_signals_are_told_apart,
    programs_that_cannot_run_say_why,
    ten_megabytes_go_through_cat,
    output_survives_reconnection,
    a_slow_reader_holds_the_writer,
    a_terminal_has_a_size_and_follows_it,
    the_user_comes_from_the_image,
    environment_directory_and_names_are_set,
    a_container_sees_only_itself,
    privileges_are_dockers,
    limits_of_a_process_are_set,
    a_background_child_does_not_keep_the_container,
    every_process_can_be_signalled,
    a_failed_creation_leaves_nothing,
    a_read_only_root_cannot_be_written,
    a_hostile_image_stays_inside,
    wrong_requests_are_refused,
    descriptors_are_given_back,
    output_unread_at_the_end_is_kept,
];

fn output_and_exit_code_come_back(guest: &Guest) {
    let script = "echo out; echo err >&2; exit 7";
    let finished = run(guest, container("c", &["sh", "-c", script]));
    let expected = Finished { code: 7, stdout: "out\n".into(), stderr: "err\n".into() };
    assert_eq!(finished, expected);
    let mut control = guest.control();
    assert_eq!(control.wait("c").code, 7, "also long after the end");
    assert!(control.wait("c").exited_at_unix_ns > 1_600_000_000_000_000_000);
    assert!(matches!(control.ask(RequestBody::Info), ReplyBody::Info(_)));
}

fn exit_codes_and_signals_are_told_apart(guest: &Guest) {
    let mut control = guest.control();
    for code in [0, 1, 42, 255] {
        let id = format!("c{code}");
        let finished = run(guest, container(&id, &["sh", "-c", &format!("exit {code}")]));
        assert_eq!(finished.code, code);
    }
    control.create(container("killed", &["sleep", "1000"]));
    control.start("killed");
    control.signal("killed", 9, false);
    assert_eq!(control.wait("killed").code, 137);
    let trap = "trap 'exit 33' TERM; echo ready; while :; do sleep 0.01; done";
    control.create(container("trap", &["sh", "-c", trap]));
    control.start("trap");
    let mut connection = output(guest, "trap", Stream::Stdout, 0).unwrap();
    assert_eq!(read_chunk(&mut connection).unwrap(), b"ready\n");
    control.signal("trap", 15, false);
    assert_eq!(control.wait("trap").code, 33);
}

fn programs_that_cannot_run_say_why(guest: &Guest) {
    use AgentErrorKind::{CommandNotExecutable, CommandNotFound};
    let cases = [
        ("nothere", CommandNotFound, 127, "exec: \"nothere\": executable file not found in $PATH"),
        (
            "/nothere",
            CommandNotFound,
            127,
            "exec: \"/nothere\": stat /nothere: no such file or directory",
        ),
        ("/opt/plain", CommandNotExecutable, 126, "exec: \"/opt/plain\": permission denied"),
        ("/etc", CommandNotExecutable, 126, "exec: \"/etc\": is a directory"),
        ("/opt/orphan", CommandNotFound, 127, "exec /opt/orphan: no such file or directory"),
    ];
    let mut control = guest.control();
    for (index, (program, kind, code, message)) in cases.into_iter().enumerate() {
        let id = format!("c{index}");
        control.create(container(&id, &[program]));
        let error = error_of(control.ask(RequestBody::Start { process: id.clone() }));
        assert_eq!((error.kind, error.message.as_str()), (kind, message));
        assert_eq!(control.wait(&id).code, code);
        assert_eq!(read_all(guest, &id, Stream::Stdout), b"");
    }
}

fn ten_megabytes_go_through_cat(guest: &Guest) {
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut control = guest.control();
    let mut cat = container("cat", &["cat"]);
    cat.stdin = true;
    control.create(cat);
    control.start("cat");
    let started = Instant::now();
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (first, second) = bytes.split_at(4_000_000);
            let mut connection = input(guest, "cat").unwrap();
            feed(&mut connection, first);
            drop(connection);
            // A connection that has gone leaves the input open for the next.
            let mut connection = input(guest, "cat").unwrap();
            feed(&mut connection, second);
            feed(&mut connection, b"");
        });
        read_all(guest, "cat", Stream::Stdout)
    });
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    assert_eq!(control.wait("cat").code, 0);
    println!("   10 MB through cat in {:?}", started.elapsed());
    let error = input(guest, "cat").unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::InvalidState);
}

fn output_survives_reconnection(guest: &Guest) {
    let mut control = guest.control();
    control.create(container("c", &["sh", "-c", "seq 1 300000"]));
    control.start("c");
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    let mut stored = Vec::new();
    let mut connection = output(guest, "c", Stream::Stdout, 0).unwrap();
    for round in 0.. {
        match read_chunk(&mut connection) {
            Some(chunk) => stored.extend(chunk),
            None => break,
        }
        if round % 3 == 0 {
            acknowledge(&mut connection, stored.len());
        }
        if round % 5 == 4 {
            // Bytes that came but were not stored are sent again.
            stored.truncate(stored.len() - 1000);
            let again = output(guest, "c", Stream::Stdout, stored.len() as u64);
            connection = again
                .or_else(|_| {
                    // They were acknowledged in the meantime.
                    stored.extend(&expected.as_bytes()[stored.len()..stored.len() + 1000]);
                    output(guest, "c", Stream::Stdout, stored.len() as u64)
                })
                .unwrap();
        }
    }
    assert!(stored == expected.as_bytes());
    acknowledge(&mut connection, stored.len());
    let end = stored.len() as u64;
    let mut again = output(guest, "c", Stream::Stdout, end).unwrap();
    assert_eq!(read_chunk(&mut again), None, "the end is told again");
    let error = output(guest, "c", Stream::Stdout, 5).unwrap_err();
    assert!(error.message.contains("is gone"), "{error}");
    let error = output(guest, "c", Stream::Stdout, end + 1).unwrap_err();
    assert!(error.message.contains("does not exist yet"), "{error}");
}

fn a_slow_reader_holds_the_writer(guest: &Guest) {
    let mut control = guest.control();
    let script = "head -c 3000000 /dev/zero; echo done >&2";
    control.create(container("c", &["sh", "-c", script]));
    control.start("c");
    let mut connection = output(guest, "c", Stream::Stdout, 0).unwrap();
    let mut stderr = output(guest, "c", Stream::Stderr, 0).unwrap();
    stderr.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut count = 0;
    connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while count < 1 << 20 {
        count += read_chunk(&mut connection).unwrap().len();
    }
    assert_eq!(count, 1 << 20, "no more than may be unacknowledged");
    let mut byte = [0; 1];
    assert!(std::io::Read::read(&mut connection, &mut byte).is_err(), "nothing more comes");
    assert!(std::io::Read::read(&mut stderr, &mut byte).is_err(), "the writer waits");
    acknowledge(&mut connection, count);
    while let Some(chunk) = read_chunk(&mut connection) {
        count += chunk.len();
        acknowledge(&mut connection, count);
    }
    assert_eq!(count, 3_000_000);
    assert_eq!(read_chunk(&mut stderr).unwrap(), b"done\n");
}

fn a_terminal_has_a_size_and_follows_it(guest: &Guest) {
    let mut control = guest.control();
    let script = "stty size; tty; test -c /dev/console && echo console; read line; stty size; \
                  echo got $line";
    let mut wanted = container_with("c", &["sh", "-c", script], |spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({"height": 33, "width": 101});
    });
    wanted.stdin = true;
    control.create(wanted);
    control.start("c");
    let mut connection = output(guest, "c", Stream::Stdout, 0).unwrap();
    let mut text = String::new();
    while !text.ends_with("console\r\n") {
        text += &String::from_utf8(read_chunk(&mut connection).unwrap()).unwrap();
    }
    assert_eq!(text, "33 101\r\n/dev/pts/0\r\nconsole\r\n");
    let process = "c".to_owned();
    let reply = control.ask(RequestBody::Resize { process, rows: 50, columns: 200 });
    assert_eq!(reply, ReplyBody::Done);
    let mut keyboard = input(guest, "c").unwrap();
    feed(&mut keyboard, b"typed\n");
    let mut rest = String::new();
    while let Some(chunk) = read_chunk(&mut connection) {
        rest += &String::from_utf8(chunk).unwrap();
    }
    assert_eq!(rest, "typed\r\n50 200\r\ngot typed\r\n");
    assert_eq!(control.wait("c").code, 0);
    let error = output(guest, "c", Stream::Stderr, 0).unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::InvalidArgument);
    // Ctrl-C reaches the process.
    let script = "trap 'exit 44' INT; echo ready; while :; do sleep 0.01; done";
    let mut wanted = container_with("int", &["sh", "-c", script], |spec| {
        spec["process"]["terminal"] = json!(true);
    });
    wanted.stdin = true;
    control.create(wanted);
    control.start("int");
    let mut connection = output(guest, "int", Stream::Stdout, 0).unwrap();
    assert_eq!(read_chunk(&mut connection).unwrap(), b"ready\r\n");
    feed(&mut input(guest, "int").unwrap(), b"\x03");
    assert_eq!(control.wait("int").code, 44);
}

fn the_user_comes_from_the_image(guest: &Guest) {
    let mut web =
        container("web", &["sh", "-c", "id -u; id -g; id -G; echo $HOME; echo x >/dev/stdout"]);
    web.user = "web".to_owned();
    assert_eq!(run(guest, web).stdout, "33\n34\n34 50\n/srv\nx\n");
    let mut number = container("number", &["sh", "-c", "id -u; id -g; echo $HOME"]);
    number.user = "1234:audio".to_owned();
    assert_eq!(run(guest, number).stdout, "1234\n50\n/\n");
    let more = container_with("more", &["id", "-G"], |spec| {
        spec["process"]["user"]["additionalGids"] = json!([77]);
    });
    assert_eq!(run(guest, more).stdout, "0 50 77\n");
    let mut ghost = container("ghost", &["true"]);
    ghost.user = "ghost".to_owned();
    let mut control = guest.control();
    let error = error_of(control.ask(RequestBody::CreateContainer(Box::new(ghost))));
    assert_eq!(error.kind, AgentErrorKind::InvalidArgument);
    assert_eq!(error.message, "unable to find user ghost: no matching entries in passwd file");
}

fn environment_directory_and_names_are_set(guest: &Guest) {
    let script =
        "pwd; hostname; cat /etc/hostname; echo $A $HOME; umask; ip addr show lo | grep -c UP";
    let mut wanted = container_with("c", &["sh", "-c", script], |spec| {
        spec["process"]["cwd"] = json!("/new/deep");
        spec["process"]["env"] = json!(["PATH=/bin", "A=1"]);
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    });
    wanted.files = vec![("/etc/hostname".into(), "from the host\n".into())];
    assert_eq!(run(guest, wanted).stdout, "/new/deep\nden\nfrom the host\n1 /root\n0022\n1\n");
}

fn a_container_sees_only_itself(guest: &Guest) {
    let pids = shell(guest, "pids", "echo $$; ls -d /proc/[0-9]* | wc -l");
    assert!(pids.starts_with("1\n"), "{pids}");
    assert!(pids.trim().ends_with('3') || pids.trim().ends_with('4'), "{pids}");
    assert_eq!(shell(guest, "fds", "ls /proc/self/fd | xargs"), "0 1 2 3\n");
    let devices = shell(guest, "dev", "cd /dev; echo *; ls -l null | cut -c1-10");
    assert_eq!(
        devices,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n\
         crw-rw-rw-\n"
    );
    assert_eq!(shell(guest, "cgroup", "cat /proc/self/cgroup | grep ^0"), "0::/\n");
    let masked = "head -c1 /proc/kcore 2>/dev/null | wc -c; ls /proc/scsi 2>/dev/null | wc -l; \
                  echo x 2>/dev/null >/proc/sys/kernel/hostname || echo ro; \
                  touch /sys/x 2>/dev/null || echo ro";
    assert_eq!(shell(guest, "masked", masked), "0\n0\nro\nro\n");
    let mounts = shell(guest, "mounts", "cut -d' ' -f2 /proc/mounts | sort -u | xargs");
    assert!(mounts.starts_with("/ /dev /dev/mqueue /dev/pts /dev/shm /proc"), "{mounts}");
    assert!(!mounts.contains("run"), "{mounts}");
    let disk = "mknod /tmp/d b 7 0 && head -c1 /tmp/d 2>&1 >/dev/null | sed 's/.*: //'";
    assert_eq!(shell(guest, "disk", disk), "Operation not permitted\n");
    let signals = "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | sort -u";
    assert_eq!(shell(guest, "signals", signals), "0000000000000000\n");
}

fn privileges_are_dockers(guest: &Guest) {
    let status = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)' /proc/self/status | cut -f2 | xargs";
    assert_eq!(
        shell(guest, "root", status),
        "0000000000000000 00000000a80425fb 00000000a80425fb 00000000a80425fb 0000000000000000 0\n"
    );
    let mut web = container_with("web", &["sh", "-c", status], |spec| {
        spec["process"]["noNewPrivileges"] = json!(true);
        spec["process"]["capabilities"]["inheritable"] = json!(["CAP_NET_BIND_SERVICE"]);
        spec["process"]["capabilities"]["ambient"] = json!(["CAP_NET_BIND_SERVICE"]);
    });
    web.user = "web".to_owned();
    assert_eq!(
        run(guest, web).stdout,
        "0000000000000400 0000000000000400 0000000000000400 00000000a80425fb 0000000000000400 1\n"
    );
    let none =
        container_with("none", &["sh", "-c", "grep CapBnd /proc/self/status | cut -f2"], |s| {
            s["process"]["capabilities"] = json!(null);
        });
    assert_eq!(run(guest, none).stdout, "0000000000000000\n");
}

fn limits_of_a_process_are_set(guest: &Guest) {
    let wanted = container_with(
        "c",
        &["sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj"],
        |spec| {
            spec["process"]["rlimits"] =
                json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
            spec["process"]["oomScoreAdj"] = json!(123);
        },
    );
    assert_eq!(run(guest, wanted).stdout, "100\n200\n123\n");
}

fn a_background_child_does_not_keep_the_container(guest: &Guest) {
    let started = Instant::now();
    let finished = run(guest, container("c", &["sh", "-c", "sleep 1000 & echo started"]));
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "started\n"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

fn every_process_can_be_signalled(guest: &Guest) {
    let mut control = guest.control();
    let script = "trap 'wait; exit 5' TERM; \
                  (trap 'echo child; exit' TERM; echo ready; while :; do sleep 0.01; done) & \
                  wait; wait";
    control.create(container("c", &["sh", "-c", script]));
    let process = "c".to_owned();
    let early = control.ask(RequestBody::Signal { process, signal: 15, all: true });
    assert_eq!(error_of(early).kind, AgentErrorKind::InvalidState);
    control.start("c");
    let mut connection = output(guest, "c", Stream::Stdout, 0).unwrap();
    assert_eq!(read_chunk(&mut connection).unwrap(), b"ready\n");
    control.signal("c", 15, true);
    assert_eq!(read_chunk(&mut connection).unwrap(), b"child\n");
    assert_eq!(control.wait("c").code, 5);
    control.create(container("k", &["sh", "-c", "sleep 1000 & sleep 1000"]));
    control.start("k");
    control.signal("k", 9, true);
    assert_eq!(control.wait("k").code, 137);
    control.create(container("never", &["true"]));
    control.signal("never", 9, false);
    assert_eq!(control.wait("never").code, 137);
}

fn a_failed_creation_leaves_nothing(guest: &Guest) {
    let mut control = guest.control();
    let mut ask = |change: fn(&mut husk_protocol::CreateContainer), spec: serde_json::Value| {
        let mut wanted = container_with("c", &["true"], |all| {
            for (key, value) in spec.as_object().unwrap() {
                all["linux"][key] = value.clone();
            }
        });
        change(&mut wanted);
        error_of(control.ask(RequestBody::CreateContainer(Box::new(wanted)))).message
    };
    let message = ask(|wanted| wanted.rootfs.image_disk = "none".into(), json!({}));
    assert_eq!(message, "no disk has the serial \"none\"");
    let message = ask(|_| {}, json!({"resources": {"unified": {"nothing.max": "1"}}}));
    assert!(message.contains("its cgroup controller nothing is not available"), "{message}");
    let message = ask(|_| {}, json!({"sysctl": {"no.such": "1"}}));
    assert!(message.contains("set the sysctl no.such"), "{message}");
    let message = ask(|wanted| wanted.user = "0:ghost".into(), json!({}));
    assert_eq!(message, "unable to find group ghost: no matching entries in group file");
    let message = ask(|_| {}, json!({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}));
    assert_eq!(message, "a seccomp profile is not supported");
    assert_eq!(shell(guest, "c", "echo works"), "works\n");
    let error =
        error_of(control.ask(RequestBody::CreateContainer(Box::new(container("c", &["true"])))));
    assert_eq!(error.kind, AgentErrorKind::InvalidState);
}

fn a_read_only_root_cannot_be_written(guest: &Guest) {
    let script = "touch /x 2>/dev/null || echo ro; touch /tmp/x && echo tmp";
    let wanted = container_with("c", &["sh", "-c", script], |spec| {
        spec["root"]["readonly"] = json!(true);
        spec["mounts"].as_array_mut().unwrap().push(json!({"destination": "/tmp", "type": "tmpfs",
            "source": "tmpfs", "options": ["nosuid", "nodev", "size=1m"]}));
    });
    assert_eq!(run(guest, wanted).stdout, "ro\ntmp\n");
    let message = |spec: fn(&mut serde_json::Value)| {
        let wanted = container_with("m", &["true"], spec);
        error_of(guest.control().ask(RequestBody::CreateContainer(Box::new(wanted)))).message
    };
    let bind = message(|spec| {
        spec["mounts"][0] = json!({"destination": "/m", "type": "bind", "source": "/",
            "options": ["rbind"]});
    });
    assert_eq!(bind, "mounting type bind at /m is not supported");
}

fn a_hostile_image_stays_inside(guest: &Guest) {
    let mut wanted =
        container("c", &["sh", "-c", "cat /tmp/escaped; ls -d /srv/dev/null; readlink /dev"]);
    wanted.rootfs.image_disk = "hostile".into();
    wanted.files = vec![("/etc/hostname".into(), "caught\n".into())];
    let finished = run(guest, wanted);
    assert_eq!(finished.stdout, "caught\n/srv/dev/null\n../../../../srv/dev\n");
    assert!(!std::path::Path::new("/tmp/escaped").exists());
    assert!(!std::path::Path::new("/srv/dev").exists());
}

fn wrong_requests_are_refused(guest: &Guest) {
    let error = open(guest, &Open::Control { generation: GENERATION + 1 }).unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::Unsupported);
    let error = output(guest, "none", Stream::Stdout, 0).unwrap_err();
    assert_eq!(error.kind, AgentErrorKind::NotFound);
    let mut control = guest.control();
    let process = || "none".to_owned();
    for body in [
        RequestBody::Start { process: process() },
        RequestBody::Wait { process: process() },
        RequestBody::Resize { process: process(), rows: 1, columns: 1 },
    ] {
        assert_eq!(error_of(control.ask(body)).kind, AgentErrorKind::NotFound);
    }
    control.create(container("c", &["true"]));
    let process = || "c".to_owned();
    let error =
        error_of(control.ask(RequestBody::Signal { process: process(), signal: 65, all: false }));
    assert_eq!(error.kind, AgentErrorKind::InvalidArgument);
    let error =
        error_of(control.ask(RequestBody::Resize { process: process(), rows: 1, columns: 1 }));
    assert_eq!(error.message, "process c has no terminal");
    assert_eq!(input(guest, "c").unwrap_err().kind, AgentErrorKind::InvalidState);
    control.start("c");
    assert_eq!(control.wait("c").code, 0);
    let error = error_of(control.ask(RequestBody::Start { process: process() }));
    assert_eq!(error.message, "cannot start process c: it is exited");
    // What cannot be understood is answered, if it has an ID at all.
    let mut raw = open(guest, &Open::Control { generation: GENERATION }).unwrap();
    write_frame(&mut raw, &json!({"request_id": 9, "request": "dance"}));
    let reply: husk_protocol::Reply = crate::client::read_frame(&mut raw).unwrap();
    assert_eq!((reply.id, error_of(reply.body).kind), (9, AgentErrorKind::InvalidArgument));
    write_frame(&mut raw, &json!("nonsense"));
    assert!(crate::client::read_frame::<husk_protocol::Reply>(&mut raw).is_err(), "closed");
    let mut raw = connect(&guest.socket()).unwrap();
    std::io::Write::write_all(&mut raw, &u32::MAX.to_le_bytes()).unwrap();
    assert!(crate::client::read_frame::<husk_protocol::Opened>(&mut raw).is_err(), "closed");
}

fn descriptors_are_given_back(guest: &Guest) {
    // The first container makes what all share.
    shell(guest, "first", "true");
    let mut control = guest.control();
    control.ask(RequestBody::Info);
    let before = guest.descriptors();
    for index in 0..5 {
        let id = format!("c{index}");
        shell(guest, &id, "true");
        let mut ghost = container("ghost", &["true"]);
        ghost.user = "ghost".to_owned();
        error_of(control.ask(RequestBody::CreateContainer(Box::new(ghost))));
    }
    control.ask(RequestBody::Info);
    // Each container that has ended keeps its cgroup's directory, and nothing else.
    assert_eq!(guest.descriptors(), before + 5);
}

fn output_unread_at_the_end_is_kept(guest: &Guest) {
    let mut control = guest.control();
    let script = "head -c 1200000 /dev/zero; echo end >&2";
    control.create(container("c", &["sh", "-c", script]));
    control.start("c");
    // Nobody reads until the process has ended, its last bytes in the pipe.
    assert_eq!(control.wait("c").code, 0);
    assert_eq!(read_all(guest, "c", Stream::Stdout).len(), 1_200_000);
    assert_eq!(read_all(guest, "c", Stream::Stderr), b"end\n");
}
