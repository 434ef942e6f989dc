//! Brings up the loopback of a new network namespace. Must not touch any other device.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// The loopback is the first device of every network namespace.
const LOOPBACK_INDEX: i32 = 1;
const IFF_UP: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const HEADER: usize = 16;

/// One request of rtnetlink(7), and its acknowledgement.
pub(super) fn bring_up() -> io::Result<()> {
    // No protocol is number 0, and that is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &request(), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    verdict(&answer[..length])
}

/// `struct nlmsghdr` and `struct ifinfomsg`, in the machine's byte order.
fn request() -> Vec<u8> {
    let mut message = Vec::with_capacity(2 * HEADER);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence and port: there is one request, and the kernel knows the socket.
    message.extend([0; 8]);
    // Family, padding and type of the device: any.
    message.extend([0; 4]);
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    // Which flags are changed.
    message.extend(IFF_UP.to_ne_bytes());
    message
}

/// `struct nlmsgerr` follows the header; an acknowledgement is an error of zero.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let unknown = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).ok_or_else(unknown)?;
    let code = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(unknown)?;
    match (u16::from_ne_bytes(kind), i32::from_ne_bytes(code)) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, code) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(unknown()),
    }
}
