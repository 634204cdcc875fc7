//! Who may send how much (section 5.10.6.3), as arithmetic alone.

use std::num::Wrapping;

/// Bytes that one connection buffers for the host: two of the longest packets.
pub(super) const WINDOW: u32 = 128 << 10;

/// The guest sent more than it was allowed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the guest exceeded its credit")]
pub(super) struct Overrun;

/// The counters of both directions of one connection, all modulo 2^32.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    /// The guest's buffer, and what it says it took out of it.
    peer_buf_alloc: u32,
    peer_fwd_cnt: Wrapping<u32>,
    /// Bytes sent to the guest.
    sent: Wrapping<u32>,
    /// Bytes that came from the guest, that left for the host, and of these what the guest knows.
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    told: Wrapping<u32>,
}

impl Credit {
    /// Bytes that may be sent to the guest now. A guest that claims to have taken out more than
    /// was sent gets nothing until it says something better.
    pub(super) fn sendable(&self) -> u32 {
        self.peer_buf_alloc.saturating_sub((self.sent - self.peer_fwd_cnt).0)
    }

    /// `count` bytes left for the guest; at most [`sendable`](Self::sendable).
    pub(super) fn send(&mut self, count: u32) {
        self.sent += count;
    }

    /// The guest's figures, which every packet of its carries.
    pub(super) fn learn(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.peer_buf_alloc = buf_alloc;
        self.peer_fwd_cnt = Wrapping(fwd_cnt);
    }

    /// `count` bytes came from the guest.
    pub(super) fn receive(&mut self, count: u32) -> Result<(), Overrun> {
        let held = (self.received - self.forwarded).0;
        if count > WINDOW - held.min(WINDOW) {
            return Err(Overrun);
        }
        self.received += count;
        Ok(())
    }

    /// `count` of them left for the host.
    pub(super) fn forward(&mut self, count: u32) {
        self.forwarded += count;
    }

    /// What a packet to the guest carries as `buf_alloc` and `fwd_cnt`.
    pub(super) fn tell(&mut self) -> (u32, u32) {
        self.told = self.forwarded;
        (WINDOW, self.forwarded.0)
    }

    /// Whether the guest should hear of the room it has, before it runs out of what it knows of.
    pub(super) fn update_due(&self) -> bool {
        (self.forwarded - self.told).0 >= WINDOW / 4
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_sendable_before_the_guest_has_told() {
        assert_eq!(Credit::default().sendable(), 0);
    }

    #[test]
    fn what_is_sent_is_sendable_again_once_taken_out() {
        let mut credit = Credit::default();
        credit.learn(1000, 0);
        credit.send(1000);
        assert_eq!(credit.sendable(), 0);
        credit.learn(1000, 400);
        assert_eq!(credit.sendable(), 400);
        credit.learn(100, 400);
        assert_eq!(credit.sendable(), 0, "a shrunken buffer is not an underflow");
    }

    #[test]
    fn lies_about_the_count_stop_the_stream_and_nothing_else() {
        let mut credit = Credit::default();
        credit.learn(1000, 1);
        assert_eq!(credit.sendable(), 0);
        credit.learn(u32::MAX, 1);
        assert_eq!(credit.sendable(), 0);
        credit.learn(1000, 0);
        assert_eq!(credit.sendable(), 1000);
    }

    #[test]
    fn more_than_the_window_is_an_overrun() {
        let mut credit = Credit::default();
        credit.receive(WINDOW).unwrap();
        assert_eq!(credit.receive(1), Err(Overrun));
        assert_eq!(credit.receive(u32::MAX), Err(Overrun));
        credit.forward(1);
        credit.receive(1).unwrap();
    }

    proptest! {
        /// A guest that follows the rules is never refused and never starves, across wrap-arounds.
        #[test]
        fn an_honest_guest_always_gets_on(sizes in prop::collection::vec((1..=WINDOW, 1..=WINDOW), 1..200)) {
            let mut credit = Credit { received: Wrapping(u32::MAX - 7), forwarded: Wrapping(u32::MAX - 7), told: Wrapping(u32::MAX - 7), ..Credit::default() };
            let (mut guest_sent, mut guest_known) = (Wrapping(u32::MAX - 7), Wrapping(u32::MAX - 7));
            let mut backlog = 0;
            for (send, forward) in sizes {
                let room = WINDOW - (guest_sent - guest_known).0;
                let count = send.min(room);
                prop_assert!(credit.receive(count).is_ok());
                guest_sent += count;
                backlog += count;
                let out = forward.min(backlog);
                credit.forward(out);
                backlog -= out;
                if credit.update_due() {
                    guest_known = Wrapping(credit.tell().1);
                }
                let room = WINDOW - (guest_sent - guest_known).0;
                prop_assert!(room > 0 || backlog > 0, "starved with nothing left to forward");
            }
        }
    }
}
