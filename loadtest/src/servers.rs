//! Which processes are the servers: those that listen on the port of a URL, on this machine.

use std::fs;
use std::path::Path;

/// The process that listens on the port of `url`; `None` if it runs elsewhere, or cannot be seen.
pub fn listener(url: &str, default_port: u16) -> Option<u32> {
    let (host, port) = host_and_port(url, default_port)?;
    if !["127.0.0.1", "localhost", "::1"].contains(&host) {
        return None;
    }
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    // The server itself is older than the processes that it has started.
    let holders = pids().into_iter().filter(|pid| holds_socket(*pid, &inodes));
    holders.min()
}

/// All processes of this machine.
pub fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn host_and_port(url: &str, default_port: u16) -> Option<(&str, u16)> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let address = authority
        .rsplit_once('@')
        .map_or(authority, |(_, address)| address);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        Some(_) | None => (address, default_port),
    };
    Some((host.trim_matches(['[', ']']), port))
}

/// The inodes of the sockets that listen on a port, from a table of the kernel.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let wanted = format!(":{port:04X}");
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 9 && row[1].ends_with(&wanted) && row[3] == LISTENING)
        .map(|row| row[9].to_owned())
        .collect()
}

fn holds_socket(pid: u32, inodes: &[String]) -> bool {
    let Ok(entries) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| {
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        assert_eq!(host_and_port("amqp://a:b@h:1234/%2f", 1), Some(("h", 1234)));
        assert_eq!(host_and_port("postgres://h/db", 5432), Some(("h", 5432)));
        assert_eq!(
            host_and_port("postgres://u@[::1]:7/db", 5432),
            Some(("::1", 7))
        );
        assert_eq!(host_and_port("nothing", 5432), None);
    }

    #[test]
    fn a_listening_socket_is_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
                     1: 0100007F:1F90 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listening_inodes(table, 0x1f90), ["4711"]);
    }
}
