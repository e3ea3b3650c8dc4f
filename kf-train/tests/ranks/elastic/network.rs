//! Nodes with a network of their own: a namespace each, joined by a switch, whose links can be cut and slowed.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A switch and its nodes. All is gone when it is dropped.
pub(crate) struct Network {
    name: String,
    nodes: usize,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Why this machine has no such networks, if it has none.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("namespaces take root".into());
    }
    ["ip", "nft", "tc"].into_iter().find_map(|tool| {
        let found = Command::new(tool).arg("-V").output().is_ok();
        (!found).then(|| format!("no `{tool}`: apt-get install iproute2 nftables"))
    })
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Result<Self, String> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let network = Self { name: format!("kf{}x{count}", std::process::id()), nodes };
        let switch = network.switch();
        run(&["ip", "netns", "add", &switch])?;
        run(&["ip", "-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        run(&["ip", "-n", &switch, "link", "set", "br0", "up"])?;
        for node in 0..nodes {
            let (name, port, address) =
                (network.node(node), format!("port{node}"), format!("{}/24", address(node)));
            run(&["ip", "netns", "add", &name])?;
            let link = ["ip", "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0"];
            run(&[&link[..], &["netns", &name]].concat())?;
            run(&["ip", "-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            run(&["ip", "-n", &name, "addr", "add", &address, "dev", "eth0"])?;
            run(&["ip", "-n", &name, "link", "set", "eth0", "up"])?;
            run(&["ip", "-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn switch(&self) -> String {
        format!("{}s", self.name)
    }

    fn node(&self, node: usize) -> String {
        format!("{}n{node}", self.name)
    }

    /// What a program on a node is started by.
    pub(crate) fn within(&self) -> impl Fn(usize) -> Vec<String> + use<> {
        let name = self.name.clone();
        move |node| ["ip", "netns", "exec", &format!("{name}n{node}")].map(str::to_owned).to_vec()
    }

    /// Drops all packets from and to a node. Nobody is told.
    pub(crate) fn cut(&self, node: usize) {
        let rules = "table inet cut {
            chain in { type filter hook input priority 0; iifname \"eth0\" drop; }
            chain out { type filter hook output priority 0; oifname \"eth0\" drop; }
        }";
        self.on(node, &["nft", rules]);
    }

    pub(crate) fn mend(&self, node: usize) {
        self.on(node, &["nft", "delete table inet cut"]);
    }

    /// Lets a node send only so much, such as `100kbit`.
    pub(crate) fn slow(&self, node: usize, rate: &str) {
        self.on(
            node,
            &[
                "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "4kb", "latency",
                "500ms",
            ],
        );
    }

    pub(crate) fn unslow(&self, node: usize) {
        self.on(node, &["tc", "qdisc", "del", "dev", "eth0", "root"]);
    }

    fn on(&self, node: usize, line: &[&str]) {
        run(&[&["ip", "netns", "exec", &self.node(node)], line].concat()).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            let _ = run(&["ip", "netns", "del", &self.node(node)]);
        }
        let _ = run(&["ip", "netns", "del", &self.switch()]);
    }
}

/// A node's address in its network.
pub(crate) fn address(node: usize) -> String {
    format!("10.77.0.{}", node + 1)
}

fn run(line: &[&str]) -> Result<(), String> {
    let output =
        Command::new(line[0]).args(&line[1..]).output().map_err(|error| format!("{line:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{line:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
