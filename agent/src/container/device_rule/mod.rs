//! Which devices a container may use: the rules of a runtime spec compiled to BPF instructions
//! (runtime-spec `config-linux.md`, device allow list; kernel `cgroup-v2`, device controller).
//!
//! Without such a filter, a container with `CAP_MKNOD`, which Docker gives to all, could open the
//! guest's disks. Pure: rules in, instructions out.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// Access bits of the kernel's device filter.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;

/// Device types of the kernel's device filter.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Rules of one container at most: bounds the program, which the kernel bounds as well.
const RULES_MAX: usize = 512;

/// Why rules were refused.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum DeviceRuleError {
    /// The access is not made of `r`, `w` and `m`.
    #[error("device access {0:?} is not made of r, w and m")]
    Access(String),
    /// A device number does not exist.
    #[error("device number {0} is out of range")]
    Number(i64),
    /// Too many rules.
    #[error("{0} device rules are more than {RULES_MAX}")]
    TooMany(usize),
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    allow: bool,
    /// `None` is every type, and so on.
    device_type: Option<u32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: u32,
}

/// What every container may use, whatever its spec says (runtime-spec, default devices), and
/// making device nodes, which opens none.
const DEFAULTS: [Rule; 11] = [
    allow(CHARACTER, None, None, MKNOD),
    allow(BLOCK, None, None, MKNOD),
    allow(CHARACTER, Some(1), Some(3), ALL), // null
    allow(CHARACTER, Some(1), Some(5), ALL), // zero
    allow(CHARACTER, Some(1), Some(7), ALL), // full
    allow(CHARACTER, Some(1), Some(8), ALL), // random
    allow(CHARACTER, Some(1), Some(9), ALL), // urandom
    allow(CHARACTER, Some(5), Some(0), ALL), // tty
    allow(CHARACTER, Some(5), Some(1), ALL), // console
    allow(CHARACTER, Some(5), Some(2), ALL), // ptmx
    allow(CHARACTER, Some(136), None, ALL),  // pts
];

const fn allow(kind: u32, major: Option<i32>, minor: Option<i32>, access: u32) -> Rule {
    Rule { allow: true, device_type: Some(kind), major, minor, access }
}

/// Compiles the rules of a spec, followed by the defaults. A later rule outweighs an earlier one;
/// what no rule names is denied.
///
/// # Errors
/// [`DeviceRuleError`]
pub fn compile(rules: &[LinuxDeviceCgroup]) -> Result<Vec<u64>, DeviceRuleError> {
    if rules.len() > RULES_MAX {
        return Err(DeviceRuleError::TooMany(rules.len()));
    }
    let rules = rules.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),     // r2 = access << 16 | type
        instruction(MOVE_REGISTER, 3, 2, 0, 0), // r3 = r2
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),  // r3 = access
        instruction(AND, 2, 0, 0, 0xffff),      // r2 = type
        instruction(LOAD_WORD, 4, 1, 4, 0),     // r4 = major
        instruction(LOAD_WORD, 5, 1, 8, 0),     // r5 = minor
    ];
    for rule in rules.iter().chain(&DEFAULTS).rev() {
        if emit(&mut program, *rule) {
            // The verifier refuses instructions behind a rule that decides everything.
            return Ok(program);
        }
    }
    program.push(instruction(MOVE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    Ok(program)
}

fn rule(rule: &LinuxDeviceCgroup) -> Result<Rule, DeviceRuleError> {
    let device_type = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(BLOCK),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
        // A named pipe is no device that the filter ever sees.
        Some(LinuxDeviceType::P) => Some(u32::from(u16::MAX)),
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                let access = rule.access().clone().unwrap_or_default();
                return Err(DeviceRuleError::Access(access));
            }
        };
    }
    Ok(Rule {
        allow: rule.allow(),
        device_type,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access,
    })
}

/// A device number; absent and -1 mean every one.
fn number(number: Option<i64>) -> Result<Option<i32>, DeviceRuleError> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => i32::try_from(number)
            .ok()
            .filter(|number| *number >= 0)
            .map(Some)
            .ok_or(DeviceRuleError::Number(number)),
    }
}

/// Appends a rule: each condition that does not hold jumps behind it. Returns whether the rule
/// has no condition at all.
fn emit(program: &mut Vec<u64>, rule: Rule) -> bool {
    let mut conditions: Vec<(u8, u8, i32)> = Vec::new();
    let mut setup = Vec::new();
    if let Some(kind) = rule.device_type {
        conditions.push((JUMP_NOT_EQUAL, 2, kind.cast_signed()));
    }
    if let Some(major) = rule.major {
        conditions.push((JUMP_NOT_EQUAL, 4, major));
    }
    if let Some(minor) = rule.minor {
        conditions.push((JUMP_NOT_EQUAL, 5, minor));
    }
    if rule.access != ALL {
        // Allowed if nothing beyond the rule's access is asked, denied if anything of it is.
        let (mask, jump) = if rule.allow {
            (!rule.access & ALL, JUMP_NOT_EQUAL)
        } else {
            (rule.access, JUMP_EQUAL)
        };
        setup.push(instruction(MOVE_REGISTER, 0, 3, 0, 0));
        setup.push(instruction(AND, 0, 0, 0, mask.cast_signed()));
        conditions.push((jump, 0, 0));
    }
    let unconditional = conditions.is_empty();
    program.extend(setup);
    let count = conditions.len();
    for (index, (jump, register, value)) in conditions.into_iter().enumerate() {
        let behind = i16::try_from(count - index - 1 + 2).expect("a rule has four conditions");
        program.push(instruction(jump, register, 0, behind, value));
    }
    program.push(instruction(MOVE, 0, 0, 0, i32::from(rule.allow)));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    unconditional
}

/// Operation codes of `linux/bpf.h`.
const LOAD_WORD: u8 = 0x61;
const SHIFT_RIGHT: u8 = 0x74;
const AND: u8 = 0x54;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Encodes one instruction (kernel `bpf/standardization/instruction-set`), little endian.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

#[cfg(test)]
mod tests;
