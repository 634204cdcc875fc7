//! PID 1 that ends its machine at once: a restart request, which QEMU's `-no-reboot` takes as the
//! end.

fn main() {
    // There is nobody to tell of a failure; a PID 1 that ends also ends the machine.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
}
