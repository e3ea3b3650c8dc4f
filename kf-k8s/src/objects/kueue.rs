//! What tells Kueue where a job queues and how near to each other its pods must be.

/// The label of a job with the LocalQueue, in its namespace, that it waits in.
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";
/// The label of a job with the WorkloadPriorityClass that tells how soon it is let in.
pub const PRIORITY_CLASS_LABEL: &str = "kueue.x-k8s.io/priority-class";

/// The annotation of a pod template with a level of the topology, as a node's label: all pods must be in one domain of it.
pub const REQUIRED_TOPOLOGY: &str = "kueue.x-k8s.io/podset-required-topology";
/// The annotation of a pod template with a level of the topology: all pods should be in one domain of it, and else in one
/// as near to it as there is room.
pub const PREFERRED_TOPOLOGY: &str = "kueue.x-k8s.io/podset-preferred-topology";
/// The annotation of a pod template, with the value `true`, whose pods may be anywhere in the topology.
pub const UNCONSTRAINED_TOPOLOGY: &str = "kueue.x-k8s.io/podset-unconstrained-topology";
