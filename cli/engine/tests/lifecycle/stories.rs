//! What clients do with containers.

use bytes::Bytes;
use husk_api::ErrorCode;
use husk_engine::{LogQuery, WaitCondition};

use crate::world::{World, collect, command, shell, with_host, with_stdin};

const BOTH: LogQuery = LogQuery {
    stdout: true,
    stderr: true,
    follow: false,
    tail: None,
    since_unix_ns: None,
    until_unix_ns: None,
};

#[test]
fn output_and_exit_code_come_back_and_nothing_stays() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(shell("echo out; echo err >&2; exit 3"));
    let engine = &daemon.engine;
    daemon.run(async {
        let attached = engine.attach(&id, false, false, true).await.unwrap();
        let wait = engine.wait(&id, WaitCondition::NextExit).await.unwrap();
        engine.start(&id).await.unwrap();
        let output = collect(attached.output).await;
        assert_eq!(output, (b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(wait.await.unwrap().status_code, 3);
        let (tty, logged) = engine.logs(&id, BOTH).await.unwrap();
        assert!(!tty);
        assert_eq!(collect(logged).await, (b"out\n".to_vec(), b"err\n".to_vec()));
    });
    assert_eq!(daemon.state(&id), ("exited".to_owned(), 3, String::new()));
    daemon.run(engine.remove(&id[..8], false)).unwrap();
    assert_eq!(daemon.run(engine.inspect(&id)).unwrap_err().code, ErrorCode::NotFound);
    drop(daemon);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn megabytes_of_both_streams_arrive_byte_exact_and_apart() {
    let world = World::new();
    let daemon = world.engine();
    let script = "head -c 8000000 /dev/zero | tr '\\0' o & \
                  head -c 1000000 /dev/zero | tr '\\0' e >&2; wait";
    let id = daemon.create(shell(script));
    daemon.run(async {
        let attached = daemon.engine.attach(&id, false, false, true).await.unwrap();
        daemon.engine.start(&id).await.unwrap();
        let (out, err) = collect(attached.output).await;
        assert_eq!((out.len(), err.len()), (8_000_000, 1_000_000));
        assert!(out.iter().all(|byte| *byte == b'o') && err.iter().all(|byte| *byte == b'e'));
    });
}

#[test]
fn input_comes_back_through_cat_and_ends_with_the_client() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(with_stdin(command(&["cat"]), true));
    daemon.run(async {
        let attached = daemon.engine.attach(&id, true, false, true).await.unwrap();
        daemon.engine.start(&id).await.unwrap();
        let input = attached.input.unwrap();
        let sending = async move {
            for _ in 0..100 {
                input.send(Bytes::from(vec![b'x'; 10_000])).await.unwrap();
            }
        };
        let ((), (output, _)) = tokio::join!(sending, collect(attached.output));
        assert_eq!(output.len(), 1_000_000);
        let wait = daemon.engine.wait(&id, WaitCondition::NotRunning).await.unwrap();
        assert_eq!(wait.await.unwrap().status_code, 0);
    });
}

#[test]
fn a_container_of_one_run_is_removed_before_its_waiter_hears() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(with_host(shell("exit 7"), |host| host.auto_remove = Some(true)));
    daemon.run(async {
        let wait = daemon.engine.wait(&id, WaitCondition::Removed).await.unwrap();
        daemon.engine.start(&id).await.unwrap();
        assert_eq!(wait.await.unwrap().status_code, 7);
        assert!(daemon.engine.inspect(&id).await.is_err());
    });
    drop(daemon);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn a_program_that_is_not_there_has_dockers_words_and_code() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(command(&["no-such-program"]));
    let error = daemon.run(daemon.engine.start(&id)).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    let words = "exec: \"no-such-program\": executable file not found in $PATH";
    assert!(error.message.ends_with(words), "{error}");
    let (state, code, text) = daemon.state(&id);
    assert_eq!((state.as_str(), code), ("created", 127));
    assert_eq!(text, error.message);

    let directory = daemon.create(command(&["/etc"]));
    let error = daemon.run(daemon.engine.start(&directory)).unwrap_err();
    assert!(error.message.contains("permission denied"), "{error}");
    assert_eq!(daemon.state(&directory).1, 126);
}

#[test]
fn signals_reach_the_process_and_set_its_exit_code() {
    let world = World::new();
    let daemon = world.engine();
    for (signal, code) in [(15, 143), (9, 137)] {
        let id = daemon.create(shell("read x"));
        daemon.run(async {
            assert_eq!(daemon.engine.kill(&id, 15).await.unwrap_err().code, ErrorCode::Conflict);
            daemon.engine.start(&id).await.unwrap();
            assert_eq!(daemon.engine.start(&id).await.unwrap_err().code, ErrorCode::NotModified);
            let wait = daemon.engine.wait(&id, WaitCondition::NotRunning).await.unwrap();
            daemon.engine.kill(&id, signal).await.unwrap();
            assert_eq!(wait.await.unwrap().status_code, code);
        });
    }
}

#[test]
fn a_running_container_is_removed_by_force_only() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(shell("read x"));
    daemon.run(async {
        daemon.engine.start(&id).await.unwrap();
        let error = daemon.engine.remove(&id, false).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(error.message.contains("container is running"), "{error}");
        let wait = daemon.engine.wait(&id, WaitCondition::Removed).await.unwrap();
        daemon.engine.remove(&id, true).await.unwrap();
        assert_eq!(wait.await.unwrap().status_code, 137);
    });
    drop(daemon);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn removed_containers_are_gone_at_once_and_their_remains_soon() {
    let world = World::new();
    let daemon = world.engine();
    for round in 0..200 {
        let id = daemon.create(shell("read x"));
        daemon.run(async {
            daemon.engine.start(&id).await.unwrap();
            daemon.engine.remove(&id, true).await.unwrap();
            let error = daemon.engine.inspect(&id).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::NotFound, "round {round}");
        });
    }
    drop(daemon);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn what_was_counted_of_a_microvm_is_told_while_it_runs_and_afterwards() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(with_stdin(shell("read x"), false));
    daemon.run(async {
        let sandbox = || async { daemon.engine.inspect(&id).await.unwrap().sandbox };
        assert_eq!(sandbox().await, None, "it has not run");
        let wait = daemon.engine.wait(&id, WaitCondition::NextExit).await.unwrap();
        daemon.engine.start(&id).await.unwrap();
        let running = sandbox().await.unwrap();
        assert_eq!(running.accelerator, "software");
        assert_eq!(running.boot_steps[0].microseconds, 1200);
        assert_eq!(running.exits["hlt"], 3);
        daemon.engine.kill(&id, 9).await.unwrap();
        wait.await.unwrap();
        // Written down behind the answer, before the next start begins.
        let _ = daemon.engine.kill(&id, 9).await.unwrap_err();
        assert_eq!(sandbox().await, Some(running));
    });
}

#[test]
fn a_container_can_run_again_and_its_log_goes_on() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(shell("echo run"));
    daemon.run(async {
        for _ in 0..2 {
            let wait = daemon.engine.wait(&id, WaitCondition::NextExit).await.unwrap();
            daemon.engine.start(&id).await.unwrap();
            assert_eq!(wait.await.unwrap().status_code, 0);
        }
        let (_, logged) = daemon.engine.logs(&id, BOTH).await.unwrap();
        assert_eq!(collect(logged).await.0, b"run\nrun\n");
        let last = LogQuery { tail: Some(1), ..BOTH };
        let (_, logged) = daemon.engine.logs(&id, last).await.unwrap();
        assert_eq!(collect(logged).await.0, b"run\n");
    });
}

#[test]
fn a_microvm_that_cannot_be_set_up_is_one_clear_error() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(with_host(shell("true"), |host| host.memory = Some(7 << 20)));
    let error = daemon.run(daemon.engine.start(&id)).unwrap_err();
    assert!(error.message.contains("there is not enough memory"), "{error}");
    assert_eq!(error.message.lines().count(), 1);
    assert_eq!(daemon.state(&id).0, "created");
    assert!(std::fs::read_dir(world.config.exec_root.join("s")).unwrap().next().is_none());
}

#[test]
fn a_start_that_hangs_can_be_taken_back() {
    let world = World::new();
    let daemon = world.engine();
    let id = daemon.create(with_host(shell("true"), |host| host.memory = Some(6 << 20)));
    daemon.run(async {
        let removing = async {
            // Once the microVM is there.
            while !world.config.exec_root.join("s").join(&id[..12]).join("vmm.json").exists() {
                tokio::task::yield_now().await;
            }
            daemon.engine.remove(&id, true).await.unwrap();
        };
        let (started, ()) = tokio::join!(daemon.engine.start(&id), removing);
        assert_eq!(started.unwrap_err().code, ErrorCode::Conflict);
    });
    drop(daemon);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn names_are_unique_and_free_again_after_removal() {
    let world = World::new();
    let daemon = world.engine();
    let create = |name: &str| {
        let request = husk_engine::CreateRequest {
            name: Some(name.to_owned()),
            platform: None,
            body: shell("true"),
        };
        daemon.run(daemon.engine.create(request))
    };
    let first = create("web").unwrap();
    assert_eq!(
        first.warnings,
        ["no usable KVM on this host (there is no /dev/kvm): running under software emulation"]
    );
    let error = create("web").unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert_eq!(
        error.message,
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{}\". You \
             have to remove (or rename) that container to be able to reuse that name.",
            first.id
        )
    );
    assert_eq!(create("w").unwrap_err().code, ErrorCode::InvalidArgument);
    daemon.run(daemon.engine.remove("/web", false)).unwrap();
    create("web").unwrap();
}

#[test]
fn an_image_that_is_not_there_is_not_found() {
    let world = World::new();
    let daemon = world.engine();
    let request = husk_engine::CreateRequest {
        name: None,
        platform: None,
        body: husk_api::models::ContainerCreateBody {
            image: Some("nothing".to_owned()),
            ..shell("true")
        },
    };
    let error = daemon.run(daemon.engine.create(request)).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::NotFound, "No such image: nothing:latest")
    );
}
