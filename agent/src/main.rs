//! PID 1 of the guest.

use husk_agent::init;

fn main() {
    init::run()
}
