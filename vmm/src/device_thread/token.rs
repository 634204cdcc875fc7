//! Who an event of a group's loop is for: the device's place, a class, and a number of its own.

/// The loop shall end.
const STOP: u64 = u64::MAX;

const CLASS_SHIFT: u32 = 32;
const DEVICE_SHIFT: u32 = 40;
const CLASS_DEVICE: u64 = 0;
const CLASS_TRANSPORT: u64 = 1;
const CLASS_KICK: u64 = 2;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Token {
    /// The loop shall end.
    Stop,
    /// Something that the device watches, under its own token.
    Device(usize, u32),
    /// The device's transport wants something.
    Transport(usize),
    /// The driver kicked that queue.
    Kick(usize, u32),
}

/// The tokens of the device in that place of its group; the lower half is the device's own.
pub(crate) fn device_tokens(place: usize) -> u64 {
    Token::Device(place, 0).encode()
}

impl Token {
    pub(crate) fn encode(self) -> u64 {
        let (place, class, number) = match self {
            Self::Stop => return STOP,
            Self::Device(place, number) => (place, CLASS_DEVICE, number),
            Self::Transport(place) => (place, CLASS_TRANSPORT, 0),
            Self::Kick(place, number) => (place, CLASS_KICK, number),
        };
        (place as u64) << DEVICE_SHIFT | class << CLASS_SHIFT | u64::from(number)
    }

    pub(super) fn decode(token: u64) -> Self {
        if token == STOP {
            return Self::Stop;
        }
        let place = usize::try_from(token >> DEVICE_SHIFT).expect("24 bits fit");
        let number = u32::try_from(token & u64::from(u32::MAX)).expect("32 bits fit");
        match token >> CLASS_SHIFT & 0xff {
            CLASS_DEVICE => Self::Device(place, number),
            CLASS_TRANSPORT => Self::Transport(place),
            _ => Self::Kick(place, number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_encoding() {
        for token in [
            Token::Stop,
            Token::Device(0, 0),
            Token::Device(9, u32::MAX),
            Token::Transport(8),
            Token::Kick(7, 1),
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
        assert_eq!(Token::decode(device_tokens(3) | 5), Token::Device(3, 5));
    }
}
