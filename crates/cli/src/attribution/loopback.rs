//! Whose a TCP connection of this machine is: the kernel lists sockets by inode, and processes
//! list theirs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::process;

/// The process below `ancestor` that holds the client's end of a connection. Where several hold
/// it, one has inherited it from another: the one that started first is meant.
pub(crate) fn owner(client: SocketAddr, server: SocketAddr, ancestor: u32) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| inode_of(&fs::read_to_string(table).ok()?, client, server))?;
    let socket = format!("socket:[{inode}]");
    let mut below = process::descendants(ancestor);
    below.sort_by_key(|(_, stat)| stat.start_ticks);
    below.into_iter().map(|(pid, _)| pid).find(|pid| holds(*pid, &socket))
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket))
}

/// In a table as proc_pid_net(5) has it: number, local and remote address, …, the inode as the
/// tenth field.
fn inode_of(table: &str, client: SocketAddr, server: SocketAddr) -> Option<u64> {
    let wanted = (plain(client), plain(server));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = address(fields.next()?)?;
        let remote = address(fields.next()?)?;
        let inode = fields.nth(6)?.parse::<u64>().ok()?;
        ((local, remote) == wanted && inode != 0).then_some(inode)
    })
}

/// `0100007F:1538`: words of four bytes in this machine's order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (digits, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes: Vec<u8> = Vec::new();
    for word in digits.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match (<[u8; 4]>::try_from(bytes.as_slice()), <[u8; 16]>::try_from(bytes.as_slice())) {
        (Ok(four), _) => IpAddr::V4(Ipv4Addr::from(four)),
        (_, Ok(sixteen)) => IpAddr::V6(Ipv6Addr::from(sixteen)),
        (Err(_), Err(_)) => return None,
    };
    Some(plain(SocketAddr::new(ip, port)))
}

/// An IPv4 address within IPv6 as what it is: the same connection is listed either way.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_connection_is_found_in_both_tables() {
        let client: SocketAddr = "127.0.0.1:5432".parse().expect("an address");
        let server: SocketAddr = "127.0.0.1:80".parse().expect("an address");
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n";
        let four = "   0: 0100007F:1538 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 777 1 x\n";
        let six = "   0: 0000000000000000FFFF00000100007F:1538 0000000000000000FFFF00000100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 888 1 x\n";
        assert_eq!(inode_of(&format!("{head}{four}"), client, server), Some(777));
        assert_eq!(inode_of(&format!("{head}{six}"), client, server), Some(888));
        assert_eq!(inode_of(&format!("{head}{four}"), server, client), None);
        assert_eq!(inode_of("nonsense\n1 2 3\n", client, server), None);
    }
}
