//! Runs compiled filters in a small interpreter of the instructions used.

use super::*;

/// What a filter answers for an access.
fn decide(program: &[u64], kind: u32, major: i32, minor: i32, access: u32) -> bool {
    let mut registers = [0_u32; 16];
    let context = [access << 16 | kind, major.cast_unsigned(), minor.cast_unsigned()];
    let mut at = 0;
    loop {
        let [code, operands, low, high, ..] = program[at].to_le_bytes();
        let (destination, source) = (usize::from(operands & 15), usize::from(operands >> 4));
        let offset = usize::from(u16::from_le_bytes([low, high]));
        let immediate = u32::try_from(program[at] >> 32).unwrap();
        at += 1;
        match code {
            LOAD_WORD => registers[destination] = context[offset / 4],
            SHIFT_RIGHT => registers[destination] >>= immediate,
            AND => registers[destination] &= immediate,
            MOVE => registers[destination] = immediate,
            MOVE_REGISTER => registers[destination] = registers[source],
            JUMP_NOT_EQUAL if registers[destination] != immediate => at += offset,
            JUMP_EQUAL if registers[destination] == immediate => at += offset,
            JUMP_NOT_EQUAL | JUMP_EQUAL => {}
            EXIT => return registers[0] == 1,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn of(json: &str) -> Vec<u64> {
    compile(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap()).unwrap()
}

#[test]
fn without_rules_only_the_standard_devices_open() {
    let program = of("[]");
    assert!(decide(&program, CHARACTER, 1, 3, READ | WRITE));
    assert!(decide(&program, CHARACTER, 136, 7, READ | WRITE));
    assert!(!decide(&program, BLOCK, 254, 0, READ));
    assert!(!decide(&program, CHARACTER, 1, 1, READ), "/dev/mem");
    assert!(decide(&program, BLOCK, 254, 0, MKNOD), "making a node opens nothing");
    assert!(!decide(&program, BLOCK, 254, 0, MKNOD | READ));
}

#[test]
fn a_denial_of_all_leaves_the_standard_devices() {
    let program = of(r#"[{"allow":false,"access":"rwm"}]"#);
    assert!(decide(&program, CHARACTER, 1, 5, READ));
    assert!(!decide(&program, BLOCK, 8, 0, READ));
}

#[test]
fn a_later_rule_outweighs_an_earlier_one() {
    let program = of(r#"[{"allow":true,"type":"b","major":8,"access":"rw"},
        {"allow":false,"type":"b","major":8,"minor":1,"access":"w"}]"#);
    assert!(decide(&program, BLOCK, 8, 0, READ | WRITE));
    assert!(decide(&program, BLOCK, 8, 1, READ));
    assert!(!decide(&program, BLOCK, 8, 1, READ | WRITE));
    assert!(!decide(&program, CHARACTER, 8, 0, READ));
}

#[test]
fn an_allowance_of_all_opens_everything() {
    let program = of(r#"[{"allow":false},{"allow":true,"type":"a","access":"rwm"}]"#);
    assert!(decide(&program, BLOCK, 8, 0, READ | WRITE | MKNOD));
    let last = program.last().unwrap();
    assert_eq!(*last, instruction(EXIT, 0, 0, 0, 0));
}

#[test]
fn senseless_rules_are_refused() {
    let refused = |json: &str| {
        compile(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap()).unwrap_err()
    };
    assert_eq!(
        refused(r#"[{"allow":true,"access":"rx"}]"#),
        DeviceRuleError::Access("rx".to_owned())
    );
    assert_eq!(refused(r#"[{"allow":true,"major":-2}]"#), DeviceRuleError::Number(-2));
    assert_eq!(refused(r#"[{"allow":true,"minor":4294967296}]"#), DeviceRuleError::Number(1 << 32));
}
