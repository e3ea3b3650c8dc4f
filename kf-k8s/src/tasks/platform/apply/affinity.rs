//! Which nodes and pods the pod is drawn to, and which it stays away from.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm as KubePodAffinityTerm, PreferredSchedulingTerm, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{Draft, filled, given};
use crate::tasks::platform::error::shown;
use crate::tasks::platform::exact::exact;
use crate::tasks::platform::{PlatformError, PodAffinityTerm, SelectorRequirement};

impl Draft<'_> {
    pub(super) fn node_affinity(&mut self) -> Result<(), PlatformError> {
        let (mut required, mut preferred) = (Vec::new(), Vec::new());
        for (index, item) in self.config.node_affinity.iter().enumerate() {
            let pointer = format!("/nodeAffinity/{index}");
            if let Some(parameter) = &item.node_affinity_json {
                let pointer = format!("{pointer}/nodeAffinityJson");
                let Some(value) = self.value(parameter, &pointer)? else { continue };
                let unfit = |problem| {
                    PlatformError::unfit(&pointer, shown(&value), format!("a node affinity: {problem}"))
                };
                let NodeAffinity {
                    required_during_scheduling_ignored_during_execution: one,
                    preferred_during_scheduling_ignored_during_execution: other,
                } = exact(&value).map_err(unfit)?;
                required.extend(one.into_iter().flat_map(|selector| selector.node_selector_terms));
                preferred.extend(other.into_iter().flatten());
                continue;
            }
            let term = NodeSelectorTerm {
                match_expressions: filled(node_conditions(&item.match_expressions)),
                match_fields: filled(node_conditions(&item.match_fields)),
            };
            match item.weight {
                _ if term == NodeSelectorTerm::default() => self.leave_out(&pointer),
                Some(weight) => {
                    preferred.push(PreferredSchedulingTerm {
                        weight: weight_at(&pointer, weight)?,
                        preference: term,
                    });
                }
                None => required.push(term),
            }
        }
        if required.is_empty() && preferred.is_empty() {
            return Ok(());
        }
        let node = self.affinity().node_affinity.get_or_insert_default();
        if !required.is_empty() {
            let selector = node.required_during_scheduling_ignored_during_execution.get_or_insert_default();
            selector.node_selector_terms = both(&selector.node_selector_terms, required);
        }
        if !preferred.is_empty() {
            node.preferred_during_scheduling_ignored_during_execution
                .get_or_insert_default()
                .extend(preferred);
        }
        Ok(())
    }

    pub(super) fn pod_affinity(&mut self) -> Result<(), PlatformError> {
        for (index, item) in self.config.pod_affinity.iter().enumerate() {
            let pointer = format!("/podAffinity/{index}");
            let term = match &item.pod_affinity_json {
                Some(parameter) => {
                    let pointer = format!("{pointer}/podAffinityJson");
                    let Some(value) = self.value(parameter, &pointer)? else { continue };
                    let unfit = |problem| {
                        PlatformError::unfit(
                            &pointer,
                            shown(&value),
                            format!("a pod affinity term: {problem}"),
                        )
                    };
                    exact(&value).map_err(unfit)?
                }
                None => pod_term(item),
            };
            if term.label_selector.is_none()
                && term.namespace_selector.is_none()
                && item.pod_affinity_json.is_none()
            {
                self.leave_out(&pointer);
                continue;
            }
            given(&pointer, "topologyKey", &term.topology_key)?;
            let weight = item.weight.map(|weight| weight_at(&pointer, weight)).transpose()?;
            let affinity = self.affinity();
            // Two types of the same fields.
            let (required, preferred) = if item.anti.unwrap_or(false) {
                let anti = affinity.pod_anti_affinity.get_or_insert_default();
                (
                    &mut anti.required_during_scheduling_ignored_during_execution,
                    &mut anti.preferred_during_scheduling_ignored_during_execution,
                )
            } else {
                let with = affinity.pod_affinity.get_or_insert_default();
                (
                    &mut with.required_during_scheduling_ignored_during_execution,
                    &mut with.preferred_during_scheduling_ignored_during_execution,
                )
            };
            match weight {
                Some(weight) => {
                    let term = WeightedPodAffinityTerm { weight, pod_affinity_term: term };
                    preferred.get_or_insert_default().push(term);
                }
                None => required.get_or_insert_default().push(term),
            }
        }
        Ok(())
    }

    fn affinity(&mut self) -> &mut Affinity {
        self.spec.affinity.get_or_insert_default()
    }

    fn leave_out(&mut self, pointer: &str) {
        self.notes.push(format!("`{pointer}` is left out: it has no condition"));
    }
}

fn pod_term(item: &PodAffinityTerm) -> KubePodAffinityTerm {
    let selector = |labels: &std::collections::BTreeMap<String, String>,
                    conditions: &[SelectorRequirement]| {
        filled(LabelSelector {
            match_labels: filled(labels.clone()),
            match_expressions: filled(label_conditions(conditions)),
        })
    };
    KubePodAffinityTerm {
        label_selector: selector(&item.match_pod_labels, &item.match_pod_expressions),
        namespace_selector: selector(&item.match_namespace_labels, &item.match_namespace_expressions),
        namespaces: filled(item.namespaces.clone()),
        topology_key: item.topology_key.clone(),
        ..Default::default()
    }
}

/// What fits both: a node fits a list where it fits one of its terms, and a term where it fits all of its conditions.
fn both(before: &[NodeSelectorTerm], more: Vec<NodeSelectorTerm>) -> Vec<NodeSelectorTerm> {
    if before.is_empty() {
        return more;
    }
    let joined = |one: &Option<Vec<NodeSelectorRequirement>>,
                  other: &Option<Vec<NodeSelectorRequirement>>| {
        filled(one.iter().chain(other).flatten().cloned().collect())
    };
    let terms = before.iter().flat_map(|one| more.iter().map(move |other| (one, other)));
    let terms = terms.map(|(one, other)| NodeSelectorTerm {
        match_expressions: joined(&one.match_expressions, &other.match_expressions),
        match_fields: joined(&one.match_fields, &other.match_fields),
    });
    terms.collect()
}

fn weight_at(pointer: &str, weight: i32) -> Result<i32, PlatformError> {
    match weight {
        1..=100 => Ok(weight),
        _ => Err(PlatformError::unfit(
            &format!("{pointer}/weight"),
            weight.to_string(),
            "a number from 1 to 100",
        )),
    }
}

fn node_conditions(conditions: &[SelectorRequirement]) -> Vec<NodeSelectorRequirement> {
    let condition = |condition: &SelectorRequirement| NodeSelectorRequirement {
        key: condition.key.clone(),
        operator: condition.operator.clone(),
        values: filled(condition.values.clone()),
    };
    conditions.iter().map(condition).collect()
}

fn label_conditions(conditions: &[SelectorRequirement]) -> Vec<LabelSelectorRequirement> {
    let condition = |condition: &SelectorRequirement| LabelSelectorRequirement {
        key: condition.key.clone(),
        operator: condition.operator.clone(),
        values: filled(condition.values.clone()),
    };
    conditions.iter().map(condition).collect()
}
