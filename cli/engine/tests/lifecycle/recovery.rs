//! What a new daemon makes of what a killed one left.

use bytes::Bytes;
use husk_api::ErrorCode;
use husk_engine::{Engine, LogQuery, WaitCondition};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::world::{Daemon, World, collect, shell, with_host, with_stdin};

fn vmm_pid(daemon: &Daemon, id: &str) -> Pid {
    let state = daemon.run(daemon.engine.inspect(id)).unwrap().docker.state.unwrap();
    Pid::from_raw(i32::try_from(state.pid.unwrap()).unwrap()).unwrap()
}

fn everything() -> LogQuery {
    LogQuery { stdout: true, stderr: true, ..LogQuery::default() }
}

#[test]
fn a_new_daemon_finds_the_running_container_its_output_and_its_end() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(with_stdin(shell("echo one; read x; echo two $x; exit 5"), false));
    daemon.run(async {
        let mut attached = daemon.engine.attach(&id, false, false, true).await.unwrap();
        daemon.engine.start(&id).await.unwrap();
        assert_eq!(attached.output.recv().await.unwrap().bytes, "one\n");
    });
    let pid = vmm_pid(&daemon, &id);
    daemon.crash();
    test_kill_process(pid).unwrap();

    let daemon = world.engine();
    assert_eq!(daemon.state(&id).0, "running");
    assert_eq!(vmm_pid(&daemon, &id), pid);
    daemon.run(async {
        let attached = daemon.engine.attach(&id, true, true, true).await.unwrap();
        let wait = daemon.engine.wait(&id, WaitCondition::NotRunning).await.unwrap();
        attached.input.unwrap().send(Bytes::from("more\n")).await.unwrap();
        assert_eq!(collect(attached.output).await.0, b"one\ntwo more\n");
        assert_eq!(wait.await.unwrap().status_code, 5);
        let (_, logged) = daemon.engine.logs(&id, everything()).await.unwrap();
        assert_eq!(collect(logged).await.0, b"one\ntwo more\n");
    });
}

#[test]
fn output_and_end_while_no_daemon_runs_are_not_lost() {
    let world = World::new();
    let marker = world.config.data_root.join("go");
    let daemon = world.engine();
    let script = format!(
        "echo start; while [ ! -e {m} ]; do :; done; seq 20000; touch {m}.done; exit 9",
        m = marker.display()
    );
    let id = daemon.create(shell(&script));
    daemon.run(daemon.engine.start(&id)).unwrap();
    daemon.crash();
    std::fs::write(&marker, "").unwrap();
    while !marker.with_extension("done").exists() {
        std::thread::yield_now();
    }
    let daemon = world.engine();
    daemon.run(async {
        let wait = daemon.engine.wait(&id, WaitCondition::NotRunning).await.unwrap();
        assert_eq!(wait.await.unwrap().status_code, 9);
        let (_, logged) = daemon.engine.logs(&id, everything()).await.unwrap();
        let text = String::from_utf8(collect(logged).await.0).unwrap();
        let expected: Vec<String> = (1..=20_000).map(|number| number.to_string()).collect();
        assert_eq!(text.lines().next(), Some("start"));
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn a_killed_vmm_ends_its_container_with_137_and_a_reason() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(shell("read x"));
    daemon.run(daemon.engine.start(&id)).unwrap();
    let pid = vmm_pid(&daemon, &id);
    daemon.run(async {
        let wait = daemon.engine.wait(&id, WaitCondition::NotRunning).await.unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let ended = wait.await.unwrap();
        assert_eq!(ended.status_code, 137);
        assert!(ended.error.unwrap().message.unwrap().contains("husk-vmm"));
    });
    let (state, code, error) = daemon.state(&id);
    assert_eq!((state.as_str(), code), ("exited", 137));
    assert!(error.starts_with(&format!("husk-vmm (process {}) ended", pid.as_raw_nonzero())));
    daemon.run(daemon.engine.remove(&id, false)).unwrap();
    drop(daemon);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn a_vmm_killed_while_no_daemon_ran_is_noticed() {
    let world = World::new();
    let daemon = world.engine();
    let kept = daemon.create(shell("read x"));
    let removed = daemon.create(with_host(shell("read x"), |host| host.auto_remove = Some(true)));
    for id in [&kept, &removed] {
        daemon.run(daemon.engine.start(id)).unwrap();
    }
    let pids = [vmm_pid(&daemon, &kept), vmm_pid(&daemon, &removed)];
    daemon.crash();
    for pid in pids {
        kill_process(pid, Signal::KILL).unwrap();
    }
    let daemon = world.engine();
    let (state, code, error) = daemon.state(&kept);
    assert_eq!((state.as_str(), code), ("exited", 137));
    assert!(error.contains("ended while no daemon ran"), "{error}");
    let gone = daemon.run(daemon.engine.inspect(&removed)).unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
    assert!(std::fs::read_dir(world.config.exec_root.join("s")).unwrap().next().is_none());
}

#[test]
fn a_start_cut_short_is_undone() {
    let world = World::new();
    let daemon = world.engine();
    // Its guest never calls back.
    let id = daemon.create(with_host(shell("true"), |host| host.memory = Some(6 << 20)));
    let record = world.config.exec_root.join("s").join(&id[..12]).join("vmm.json");
    daemon.run(async {
        let engine = daemon.engine.clone();
        let starting = id.clone();
        tokio::spawn(async move { engine.start(&starting).await });
        while !record.exists() {
            tokio::task::yield_now().await;
        }
    });
    daemon.crash();
    let daemon = world.engine();
    let (state, _, error) = daemon.state(&id);
    assert_eq!(state, "created");
    assert_eq!(error, "the daemon ended while it was being started");
    assert!(std::fs::read_dir(world.config.exec_root.join("s")).unwrap().next().is_none());
}

#[test]
fn directories_without_a_record_are_removed() {
    let world = World::new();
    world.engine().crash();
    let run = world.config.exec_root.join("s").join("0123456789ab");
    let container = world.config.data_root.join("containers").join("ab".repeat(32));
    std::fs::create_dir(&run).unwrap();
    std::fs::create_dir(&container).unwrap();
    drop(world.engine());
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn a_second_daemon_is_refused() {
    let world = World::new();
    let first = world.engine();
    let error = first.run(Engine::open(world.config.clone())).unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "another husk daemon (pid {}) already uses {}",
            std::process::id(),
            world.config.data_root.display()
        )
    );
}

#[test]
fn shutting_down_leaves_containers_running() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(shell("read x"));
    daemon.run(async {
        daemon.engine.start(&id).await.unwrap();
        daemon.engine.shutdown().await;
        assert_eq!(daemon.engine.start(&id).await.unwrap_err().code, ErrorCode::Unavailable);
    });
    daemon.crash();
    let daemon = world.engine();
    assert_eq!(daemon.state(&id).0, "running");
    daemon.run(daemon.engine.remove(&id, true)).unwrap();
    drop(daemon);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}
