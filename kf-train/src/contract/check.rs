//! What a placement must hold, so that no environment or file made from it is broken.

use std::net::IpAddr;

use super::node::{Address, Node};

/// More ranks than any machine park holds; a bound on what hostile input can make a contract allocate.
pub(super) const MAX_RANKS: usize = 1 << 20;

/// Of each node its first rank, and, last, how many ranks there are; or what is wrong.
pub(super) fn check(job: &str, run_id: &str, nodes: &[Node], master: &Address) -> Result<Vec<usize>, String> {
    is_text("the job's name", job)?;
    is_text("the run id", run_id)?;
    is_host("the master's host", &master.host)?;
    if master.port == 0 {
        return Err("the master's port is 0; it must be known before the ranks start".into());
    }
    if nodes.is_empty() {
        return Err("it has no nodes; at least 1 is needed".into());
    }
    let mut first_ranks = vec![0];
    let mut world_size = 0_usize;
    for (number, node) in nodes.iter().enumerate() {
        is_host(&format!("the host of node {number}"), &node.host)?;
        let name = format!("node {number} (`{}`)", node.host);
        is_text(&format!("the role of {name}"), &node.role)?;
        if node.ranks == 0 {
            return Err(format!("{name} has 0 ranks; at least 1 is needed"));
        }
        world_size = world_size
            .checked_add(node.ranks)
            .filter(|&ranks| ranks <= MAX_RANKS)
            .ok_or_else(|| format!("with {name}, it has more than {MAX_RANKS} ranks"))?;
        first_ranks.push(world_size);
        if !node.ports.is_empty() && node.ports.len() != node.ranks {
            return Err(format!("{name} has {} ports for {} ranks", node.ports.len(), node.ranks));
        }
        if node.ports.contains(&0) {
            return Err(format!("{name} has port 0; ports must be known before the ranks start"));
        }
    }
    Ok(first_ranks)
}

fn is_text(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{what} is {text:?}; it must have characters, and no control characters"));
    }
    Ok(())
}

/// Whether a text is a host that can stand in a hostfile, in `host:port` and in a list with commas.
fn is_host(what: &str, host: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name =
        host.len() <= 253 && host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.chars().all(fits);
    if name || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!(
        "{what} is {host:?}; it must be an IP address, or a name of at most 253 letters, digits, `-`, `.` and `_`"
    ))
}
