//! Compiles the system call filters of `src/seccomp` to BPF, as Rust arrays.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, anyhow};
use seccompiler::{BpfProgram, compile_from_json};

fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let source = format!("src/seccomp/{arch}.json");
    println!("cargo::rerun-if-changed={source}");
    let file = File::open(&source)
        .with_context(|| format!("there are no system call filters for {arch}: write {source}"))?;
    let target = arch.as_str().try_into().map_err(|error| anyhow!("{arch}: {error}"))?;
    let filters = compile_from_json(file, target)
        .map_err(|error| anyhow!("failed to compile {source}: {error}"))?;
    let out = Path::new(&env::var("OUT_DIR")?).join("filters.rs");
    fs::write(&out, render(&filters.into_iter().collect()))
        .with_context(|| format!("failed to write {}", out.display()))
}

/// One static array of instructions a filter.
fn render(filters: &BTreeMap<String, BpfProgram>) -> String {
    let mut text = String::new();
    for (name, program) in filters {
        let name = name.to_uppercase();
        let _ = writeln!(text, "static {name}: [libc::sock_filter; {}] = [", program.len());
        for step in program {
            let (code, jt, jf, k) = (step.code, step.jt, step.jf, step.k);
            let _ = writeln!(
                text,
                "    libc::sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k:#x} }},"
            );
        }
        text.push_str("];\n");
    }
    text
}
