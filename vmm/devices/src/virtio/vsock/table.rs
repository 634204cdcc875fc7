//! All connections of a device, found by port pair or by token.

use std::collections::HashMap;

use super::connection::{Connection, Key};

/// The most connections, handshakes included: each holds a descriptor of the VMM open.
pub const CONNECTIONS_MAX: usize = 1024;

/// The table is full, or the ports are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NoPlace;

/// A bounded table. A token is a connection's place and is used again once that is free.
pub(super) struct Table<S> {
    places: Vec<Option<Connection<S>>>,
    free: Vec<u32>,
    keys: HashMap<Key, u32>,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), keys: HashMap::new() }
    }
}

impl<S> Table<S> {
    /// Whether another connection fits.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.places.len() < CONNECTIONS_MAX
    }

    /// Takes a connection in.
    pub(super) fn insert(&mut self, connection: Connection<S>) -> Result<u32, NoPlace> {
        if !self.has_room() {
            return Err(NoPlace);
        }
        let key = connection.key();
        if key.is_some_and(|key| self.keys.contains_key(&key)) {
            return Err(NoPlace);
        }
        let token = match self.free.pop() {
            Some(token) => token,
            None => {
                self.places.push(None);
                u32::try_from(self.places.len() - 1).expect("the table is bounded")
            }
        };
        self.places[token as usize] = Some(connection);
        if let Some(key) = key {
            self.keys.insert(key, token);
        }
        Ok(token)
    }

    /// The connection in that place.
    pub(super) fn get(&mut self, token: u32) -> Option<&mut Connection<S>> {
        self.places.get_mut(token as usize)?.as_mut()
    }

    /// The place of those ports.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.keys.get(&key).copied()
    }

    /// Gives the connection in that place its ports.
    pub(super) fn name(&mut self, token: u32, key: Key) {
        self.keys.insert(key, token);
    }

    /// Frees the ports of a connection that lives on without the guest.
    pub(super) fn forget(&mut self, token: u32) {
        let key = self.get(token).and_then(|connection| connection.key());
        if let Some(key) = key
            && self.keys.get(&key) == Some(&token)
        {
            self.keys.remove(&key);
        }
    }

    /// Takes a connection out, which closes its stream.
    pub(super) fn remove(&mut self, token: u32) -> Option<Connection<S>> {
        self.forget(token);
        let connection = self.places.get_mut(token as usize)?.take()?;
        self.free.push(token);
        Some(connection)
    }

    /// Connections in it.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes all connections out.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
