//! Buffers of the driver, gathered until the longest frame fits and used frame by frame.

use std::collections::VecDeque;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::VolatileSlice;

use super::{HEADER_LENGTH, PIECES_MAX};
use crate::virtio::used::add_used_together;
use crate::virtio::{Buffers, Chain, Memory, QueueError};

/// Chains taken in one turn: a driver that offers useless ones without end has to wait.
const CHAINS_MAX: usize = 4096;

/// Where the header says how many buffers a frame fills.
const BUFFER_COUNT: usize = 10;

/// What gathering came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gathered {
    /// The longest frame fits.
    Ready,
    /// The driver has to offer more; its queue is empty.
    Starved,
    /// It has offered so much of no use that the turn is over.
    Spent,
}

/// Chains that were taken from the queue and not used yet.
///
/// A frame's length shows only once it is read, so there must be room for the longest one before;
/// what it leaves is there for the next, and goes back to the queue in the end.
pub(super) struct Room<'m> {
    memory: &'m Memory,
    /// In the queue's order, with nothing of the queue between them.
    chains: VecDeque<(u16, Buffers<'m>)>,
    /// Bytes and pieces of all chains.
    capacity: usize,
    piece_count: usize,
    /// Bytes of the longest frame, header included.
    frame_length: usize,
    /// Whether a frame may fill several chains.
    mergeable: bool,
    left: usize,
    pieces: Vec<VolatileSlice<'m>>,
    used: Vec<(u16, u32)>,
}

impl<'m> Room<'m> {
    pub(super) fn new(memory: &'m Memory, frame_length: usize, mergeable: bool) -> Self {
        Self {
            memory,
            chains: VecDeque::new(),
            capacity: 0,
            piece_count: 0,
            frame_length,
            mergeable,
            left: CHAINS_MAX,
            pieces: Vec::with_capacity(PIECES_MAX),
            used: Vec::with_capacity(PIECES_MAX),
        }
    }

    /// Takes chains until the longest frame fits.
    pub(super) fn gather(&mut self, queue: &mut Queue) -> Result<Gathered, QueueError> {
        while self.capacity < self.frame_length {
            let Some(chain) = queue.iter(self.memory)?.next() else {
                return Ok(Gathered::Starved);
            };
            let head = chain.head_index();
            let room = Chain::collect(chain, self.memory).map(|chain| chain.writable);
            let room = room.unwrap_or_default();
            let useful = room.len() >= self.length_min();
            self.capacity += room.len();
            self.piece_count += room.slices().len();
            self.chains.push_back((head, room));
            // What comes after a chain of no use must not go back to the queue without it.
            if !useful || self.piece_count > PIECES_MAX {
                self.refuse(queue)?;
            }
            self.left -= 1;
            if self.left == 0 {
                return Ok(Gathered::Spent);
            }
        }
        self.aim();
        Ok(Gathered::Ready)
    }

    /// Where the next frame goes.
    pub(super) fn pieces(&self) -> &[VolatileSlice<'m>] {
        &self.pieces
    }

    /// Uses the chains that hold the frame of `length` bytes that was read into
    /// [`pieces`](Self::pieces).
    pub(super) fn commit(&mut self, queue: &mut Queue, length: usize) -> Result<(), QueueError> {
        let mut left = length;
        self.used.clear();
        for (head, room) in &self.chains {
            if left == 0 {
                break;
            }
            let written = room.len().min(left);
            self.used.push((*head, u32::try_from(written).expect("a frame is bounded")));
            left -= written;
        }
        let count = u16::try_from(self.used.len()).expect("it is at most PIECES_MAX");
        let (_, mut first) = self.chains[0].clone();
        // Every chain in here has room for the header.
        if first.take(BUFFER_COUNT).is_ok() {
            first.copy_from(&count.to_le_bytes());
        }
        for (_, room) in self.chains.drain(..self.used.len()) {
            self.capacity -= room.len();
            self.piece_count -= room.slices().len();
        }
        add_used_together(queue, self.memory, &self.used)
    }

    /// Gives the chains that were not used back to the queue, for the next turn.
    pub(super) fn put_back(self, queue: &mut Queue) {
        let count = u16::try_from(self.chains.len()).expect("it is at most PIECES_MAX");
        queue.set_next_avail(queue.next_avail().wrapping_sub(count));
    }

    /// The least length of a chain (section 5.1.6.3.1).
    fn length_min(&self) -> usize {
        if self.mergeable { HEADER_LENGTH } else { self.frame_length }
    }

    /// Gives all chains back to the driver, empty.
    fn refuse(&mut self, queue: &mut Queue) -> Result<(), QueueError> {
        self.used.clear();
        self.used.extend(self.chains.drain(..).map(|(head, _)| (head, 0)));
        self.capacity = 0;
        self.piece_count = 0;
        add_used_together(queue, self.memory, &self.used)
    }

    /// Lists the pieces that hold the longest frame, and no more.
    fn aim(&mut self) {
        self.pieces.clear();
        let mut left = self.frame_length;
        for piece in self.chains.iter().flat_map(|(_, room)| room.slices()) {
            let length = piece.len().min(left);
            if length == 0 {
                break;
            }
            self.pieces.extend(piece.subslice(0, length));
            left -= length;
        }
    }
}
