//! `husk run` of real images: what the command prints, and how it ends.

use std::fs;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use husk_tests::registry::{Distribution, Registry};
use husk_tests::{Husk, Result, api, pace, require, skip};

/// Why stories that pull from the real registry cannot run here, if so.
fn missing() -> Option<String> {
    let programs = ["docker-registry", "skopeo", "mmdebstrap"];
    skip::without_root().or_else(|| programs.into_iter().find_map(skip::without_program))
}

#[test]
fn prints_what_the_command_prints() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    let by_name = husk.husk(&["run", "--rm", "busybox", "echo", "hello", "world"]).run()?;
    assert_eq!(by_name.expect_code(0)?.out(), "hello world\n");
    let reference = registry.reference("library/busybox:1");
    let by_address = husk.husk(&["run", "--rm", &reference, "cat", "/etc/group"]).output()?;
    assert!(by_address.starts_with("root:x:0:\n"));
    assert_eq!(husk.husk(&["ps", "-aq"]).output()?, "", "--rm removes");
    Ok(())
}

#[test]
fn python_has_tls_a_database_threads_and_processes() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    let program = r"
import ssl, sqlite3, subprocess, threading, hashlib, socket, tempfile, os
print('ssl', ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED)
with tempfile.TemporaryDirectory() as folder:
    database = sqlite3.connect(os.path.join(folder, 'x.db'))
    database.execute('create table t (n integer)')
    database.executemany('insert into t values (?)', [(n,) for n in range(1000)])
    database.commit()
    print('sqlite3', database.execute('select sum(n) from t').fetchone()[0])
total = []
threads = [threading.Thread(target=lambda n=n: total.append(n)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print('threads', sum(total))
print('subprocess', subprocess.run('echo $((6 * 7))', shell=True, capture_output=True).stdout.decode().strip())
a, b = socket.socketpair()
a.sendall(b'x' * 10)
print('socket', len(b.recv(100)))
print('random', len(os.urandom(32)))
";
    let run = husk.husk(&["run", "--rm", "debian:python", "python3", "-c", program]);
    let text = run.deadline(Duration::from_secs(240)).output()?;
    let expected = "ssl True\nsqlite3 499500\nthreads 28\nsubprocess 42\nsocket 10\nrandom 32\n";
    assert_eq!(text, expected);
    Ok(())
}

#[test]
fn ends_with_each_of_the_256_exit_codes() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    // One run to have the image; then all others, two at a time.
    husk.husk(&["run", "--rm", "busybox", "true"]).run()?.expect_code(0)?;
    // Evenly spread, the last one among them.
    let step = 255 / i32::try_from(pace::scaled("exit codes", 256, 4) - 1)?;
    let codes = AtomicI32::new(0);
    let worker = || -> Result<()> {
        loop {
            let code = codes.fetch_add(step, Ordering::Relaxed);
            if code > 255 {
                return Ok(());
            }
            let command = format!("exit {code}");
            husk.husk(&["run", "--rm", "busybox", "sh", "-c", &command])
                .run()?
                .expect_code(code)?;
        }
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })
}

#[test]
fn a_killed_process_gives_128_and_its_signal() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    let script = "echo ready; sleep 1000 & wait";
    let running = husk.husk(&["run", "--name", "killed", "busybox", "sh", "-c", script]).start()?;
    running.expect_output("ready")?;
    let (status, body) =
        api::request(&husk.socket(), "POST", "/containers/killed/kill?signal=KILL", "")?;
    ensure!(status == 204, "kill answers {status}: {body}");
    running.wait()?.expect_code(137)?;
    let list = husk.husk(&["ps", "-a"]).output()?;
    assert!(list.contains("Exited (137)"), "{list}");

    let running =
        husk.husk(&["run", "--name", "removed", "busybox", "sh", "-c", script]).start()?;
    running.expect_output("ready")?;
    husk.husk(&["rm", "-f", "removed"]).output()?;
    running.wait()?.expect_code(137)?;
    Ok(())
}

#[test]
fn a_background_child_does_not_keep_the_container() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    // The child holds standard output open, as daemons that were started carelessly do.
    let script = "sleep 1000 & echo main is done; exit 3";
    let run = husk.husk(&["run", "--rm", "busybox", "sh", "-c", script]);
    let finished = run.deadline(Duration::from_secs(60)).run()?.expect_code(3)?;
    assert_eq!(finished.out(), "main is done\n");
    Ok(())
}

#[test]
fn the_process_is_what_the_flags_ask_for() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    fs::write(husk.root().join("env"), "# a comment\nFROM_FILE=two words\nFROM_HOST\n")?;
    let script = "echo $A:$FROM_FILE:$FROM_HOST; id; pwd; hostname; cat /etc/hostname; echo $HOME";
    let flags = ["run", "--name", "flags", "-e", "A=1", "--env-file", "env", "-w", "/var/new"];
    let more =
        ["-u", "app:staff", "--hostname", "guest-1", "--entrypoint", "sh", "busybox", "-c", script];
    let run = husk.husk(&flags).args(more).env("FROM_HOST", "host");
    let expected = "1:two words:host\nuid=1000(app) gid=50(staff) groups=50(staff)\n/var/new\n\
                    guest-1\nguest-1\n/home/app\n";
    assert_eq!(run.output()?, expected);
    assert_eq!(husk.husk(&["logs", "flags"]).output()?, expected, "the log keeps it");
    husk.husk(&["run", "--name", "flags", "busybox"])
        .run()?
        .expect_error(125, &["flags", "in use"])?;
    husk.husk(&["rm", "flags"]).output()?;
    Ok(())
}

#[test]
fn the_process_is_confined_as_dockers_is() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    let script = r"
echo pid $$
grep CapEff /proc/self/status
grep NoNewPrivs /proc/self/status
head -c 1 /proc/kcore 2>/dev/null | wc -c
echo 1 2>/dev/null >/proc/sys/kernel/panic || echo read-only
mount -t tmpfs none /mnt 2>/dev/null || echo no mounts
ls /proc/self/ns | wc -l
cat /proc/1/comm
";
    let text = husk.husk(&["run", "--rm", "busybox", "sh", "-c", script]).output()?;
    // CAP_CHOWN to CAP_SETFCAP as in Docker's default set.
    let parts =
        ["pid 1\n", "CapEff:\t00000000a80425fb", "read-only\n", "no mounts\n", "\nsh\n", "\n0\n"];
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    Ok(())
}

#[test]
fn memory_and_cpu_limits_are_what_the_workload_gets() -> Result<()> {
    require!(missing());
    let registry = Distribution::start()?;
    let husk = Husk::new(&registry)?;
    // Twice the limit in a program's own memory: the kernel kills it, not the machine.
    let script = "cat /sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/cpu.max; \
                  dd if=/dev/zero bs=1M count=80 | tail >/dev/null; echo $?";
    let flags = ["run", "--rm", "-m", "32m", "--cpus", "0.5", "busybox", "sh", "-c", script];
    let text = husk.husk(&flags).output()?;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"33554432"), "{text}");
    assert_eq!(lines.get(1), Some(&"50000 100000"), "{text}");
    assert!(lines.contains(&"137"), "{text}");
    Ok(())
}
