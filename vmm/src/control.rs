//! The control socket: events to everyone who connects, commands from them.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use husk_vmm_config::{Command, Event};

use crate::poll::{Poll, Watch};

/// Clients at once; the next is turned away.
const CLIENTS_MAX: usize = 16;

/// The longest command line.
const LINE_LENGTH_MAX: usize = 4096;

/// The token of the listener; clients follow.
const LISTENER: u32 = 0;

/// The listener, the clients, and all that was told so far.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    history: Vec<u8>,
    clients: Vec<Option<Client>>,
    /// Added to the tokens below.
    tokens: u64,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    line: Vec<u8>,
}

impl Control {
    /// Announces the listener and later its clients on `poll`, under `tokens` and a lower half
    /// that is its own.
    pub(crate) fn new(listener: UnixListener, poll: &Poll, tokens: u64) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        poll.add(&listener, tokens | u64::from(LISTENER), Watch::Readable)?;
        Ok(Self { listener, history: Vec::new(), clients: Vec::new(), tokens })
    }

    /// Tells one client, whose event had that token.
    pub(crate) fn answer(&mut self, token: u32, event: &Event) {
        let index = (token as usize).checked_sub(1);
        let Some(place) = index.and_then(|index| self.clients.get_mut(index)) else { return };
        if place.as_mut().is_some_and(|client| client.stream.write_all(&line(event)).is_err()) {
            *place = None;
        }
    }

    /// Tells everyone, now and later.
    ///
    /// All events of a microVM together are far smaller than a socket's buffer: who has not even
    /// room for them has stopped reading, and is dropped.
    pub(crate) fn tell(&mut self, event: &Event) {
        let line = line(event);
        for place in &mut self.clients {
            if place.as_mut().is_some_and(|client| client.stream.write_all(&line).is_err()) {
                *place = None;
            }
        }
        self.history.extend(line);
    }

    /// Handles an event; returns the commands that came.
    pub(crate) fn handle(&mut self, token: u32, poll: &Poll) -> Vec<Command> {
        if token == LISTENER {
            self.accept(poll);
            return Vec::new();
        }
        let index = token as usize - 1;
        let Some(place) = self.clients.get_mut(index) else { return Vec::new() };
        let Some(client) = place else { return Vec::new() };
        let (commands, keep) = client.read();
        if !keep {
            *place = None;
        }
        commands
    }

    fn accept(&mut self, poll: &Poll) {
        // Whatever fails here, the client sees its connection end.
        let Ok((stream, _)) = self.listener.accept() else { return };
        let index = match self.clients.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.clients.len() < CLIENTS_MAX => {
                self.clients.push(None);
                self.clients.len() - 1
            }
            None => return,
        };
        let _ = self.welcome(stream, index, poll);
    }

    fn welcome(&mut self, mut stream: UnixStream, index: usize, poll: &Poll) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.write_all(&self.history)?;
        poll.add(&stream, self.tokens | (index as u64 + 1), Watch::Readable)?;
        self.clients[index] = Some(Client { stream, line: Vec::new() });
        Ok(())
    }
}

fn line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("events have string keys only");
    line.push(b'\n');
    line
}

impl Client {
    /// Reads what is there: the commands in it, and whether to go on with this client.
    fn read(&mut self) -> (Vec<Command>, bool) {
        let mut commands = Vec::new();
        let mut bytes = [0; 512];
        loop {
            let count = match self.stream.read(&mut bytes) {
                Ok(0) => return (commands, false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (commands, true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return (commands, false),
            };
            for &byte in &bytes[..count] {
                if byte != b'\n' {
                    self.line.push(byte);
                    continue;
                }
                match serde_json::from_slice(&self.line) {
                    Ok(command) => commands.push(command),
                    // Who speaks another language is not understood by going on.
                    Err(_) => return (commands, false),
                }
                self.line.clear();
            }
            if self.line.len() > LINE_LENGTH_MAX {
                return (commands, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    use std::time::Duration;

    use super::*;

    struct Setting {
        control: Control,
        poll: Poll,
        address: SocketAddr,
    }

    impl Setting {
        fn new(name: &str) -> Self {
            let name = format!("husk-control-{name}-{}", std::process::id());
            let address = SocketAddr::from_abstract_name(name).unwrap();
            let listener = UnixListener::bind_addr(&address).unwrap();
            let poll = Poll::new().unwrap();
            let control = Control::new(listener, &poll, 1 << 32).unwrap();
            Self { control, poll, address }
        }

        fn connect(&mut self) -> UnixStream {
            let stream = UnixStream::connect_addr(&self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            self.turn();
            stream
        }

        /// Handles what is there.
        fn turn(&mut self) -> Vec<Command> {
            let mut events = Vec::new();
            self.poll.wait(&mut events, Some(Duration::ZERO)).unwrap();
            let tokens = events.iter().map(|&(token, _)| u32::try_from(token & 0xffff_ffff));
            tokens.flat_map(|token| self.control.handle(token.unwrap(), &self.poll)).collect()
        }
    }

    fn hello() -> Event {
        Event::Hello { version: "1".into(), pid: 7 }
    }

    #[test]
    fn a_late_client_hears_what_an_early_one_heard() {
        let mut setting = Setting::new("late");
        let early = setting.connect();
        setting.control.tell(&hello());
        let late = setting.connect();
        for client in [early, late] {
            let mut line = String::new();
            BufReader::new(client).read_line(&mut line).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), hello());
        }
    }

    #[test]
    fn commands_arrive_in_pieces_and_together() {
        let mut setting = Setting::new("pieces");
        let mut client = setting.connect();
        client.write_all(b"{\"command\":").unwrap();
        assert_eq!(setting.turn(), []);
        client.write_all(b"\"stop\"}\n{\"command\":\"stop\"}\n").unwrap();
        assert_eq!(setting.turn(), [Command::Stop, Command::Stop]);
    }

    #[test]
    fn an_answer_is_for_the_one_who_asked() {
        let mut setting = Setting::new("answer");
        let asking = setting.connect();
        let other = setting.connect();
        let event = Event::Statistics(husk_vmm_config::Statistics::default());
        setting.control.answer(1, &event);
        setting.control.tell(&hello());
        for (client, expected) in [(asking, event), (other, hello())] {
            let mut line = String::new();
            BufReader::new(client).read_line(&mut line).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), expected);
        }
    }

    #[test]
    fn nonsense_and_lines_without_end_lose_their_connection() {
        let mut setting = Setting::new("nonsense");
        for bytes in [b"what?\n".to_vec(), vec![b'x'; LINE_LENGTH_MAX + 600]] {
            let mut client = setting.connect();
            client.write_all(&bytes).unwrap();
            assert_eq!(setting.turn(), []);
            assert!(setting.control.clients.iter().all(Option::is_none));
        }
    }

    #[test]
    fn who_never_reads_is_dropped_and_the_others_stay() {
        let mut setting = Setting::new("deaf");
        let _deaf = setting.connect();
        let console = "x".repeat(4096);
        let event = Event::Stopped { reason: husk_vmm_config::StopReason::Guest, console };
        for _ in 0..200 {
            setting.control.tell(&event);
        }
        assert!(setting.control.clients.iter().all(Option::is_none));
    }

    #[test]
    fn clients_beyond_the_limit_are_turned_away() {
        let mut setting = Setting::new("limit");
        let clients: Vec<_> = (0..=CLIENTS_MAX).map(|_| setting.connect()).collect();
        assert_eq!(setting.control.clients.len(), CLIENTS_MAX);
        let mut last = &clients[CLIENTS_MAX];
        assert_eq!(last.read(&mut [0]).unwrap(), 0);
    }
}
