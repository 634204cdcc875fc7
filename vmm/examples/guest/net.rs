//! What the test guest does with its network device.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::{PIECE, hash, sys, write_pattern};

/// The kinds of all virtio devices, in the order in which they were found.
pub(crate) fn devices() -> io::Result<String> {
    let mut names: Vec<_> = fs::read_dir("/sys/bus/virtio/devices")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    names.sort();
    let kinds = names.iter().map(|name| fs::read_to_string(name.join("device")));
    let kinds: Vec<_> = kinds.collect::<io::Result<_>>()?;
    Ok(kinds
        .iter()
        .map(|kind| kind.trim().trim_start_matches("0x000").trim_start_matches("0x00"))
        .collect::<Vec<_>>()
        .join(" "))
}

/// Brings eth0 up; its address, MTU, and the numbers of the accepted features.
pub(crate) fn bring_up(address: &str) -> io::Result<String> {
    let address: Ipv4Addr = address.parse().map_err(io::Error::other)?;
    sys::bring_up("eth0", address, Ipv4Addr::new(255, 255, 255, 0))?;
    let fact = |name: &str| fs::read_to_string(format!("/sys/class/net/eth0/{name}"));
    let bits = fact("device/features")?;
    let bits: Vec<String> = bits
        .trim()
        .bytes()
        .zip(0..)
        .filter(|&(bit, _)| bit == b'1')
        .map(|(_, place): (u8, u32)| place.to_string())
        .collect();
    Ok(format!("{} {} {}", fact("address")?.trim(), fact("mtu")?.trim(), bits.join(",")))
}

/// Sends a datagram, and hashes the one that comes back.
pub(crate) fn datagram(to: &str, count: u64) -> io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut bytes = Vec::new();
    write_pattern(&mut bytes, count)?;
    socket.send_to(&bytes, to)?;
    let mut answer = vec![0; 1 << 16];
    let (length, _) = socket.recv_from(&mut answer)?;
    hash(&answer[..length])
}

/// Reads every connection to its end: on port 1 it answers the hash, on others the count.
pub(crate) fn serve(port: &str) -> io::Result<String> {
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream, port));
        }
    });
    Ok("ok".into())
}

fn answer(mut stream: TcpStream, port: u16) -> io::Result<()> {
    let answer = if port == 1 { hash(&stream)? } else { count(&stream)?.to_string() };
    stream.write_all(answer.as_bytes())
}

fn count(mut source: impl Read) -> io::Result<u64> {
    let mut bytes = vec![0; PIECE];
    let mut total = 0;
    loop {
        match source.read(&mut bytes)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}

/// Sends so many bytes, and waits until the other side has had them all.
pub(crate) fn push(to: &str, count: u64) -> io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    write_pattern(&mut stream, count)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok("ok".into())
}
