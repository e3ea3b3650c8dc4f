//! Aliases: names that move from version to version, with a history.

use std::fmt;

use kf_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::AliasConflict;
use crate::limits::shorten;
use crate::{AliasName, Error, ModelName, Result, limits};

/// What an alias must hold for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Anything, or nothing.
    Anything,
    /// Nothing: it was never set, or deleted.
    Unset,
    /// This version.
    Version(u32),
}

impl Expected {
    fn fits(self, found: Option<u32>) -> bool {
        match self {
            Self::Anything => true,
            Self::Unset => found.is_none(),
            Self::Version(version) => found == Some(version),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("anything"),
            Self::Unset => f.write_str("that it is not set"),
            Self::Version(version) => write!(f, "version {version}"),
        }
    }
}

/// A wish to move or delete an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AliasChange {
    /// The model.
    pub model: ModelName,
    /// The alias.
    pub alias: AliasName,
    /// The version that it shall hold; none deletes it.
    pub to: Option<u32>,
    /// What it must hold now.
    pub expected: Expected,
    /// Who does it; 1 to 256 bytes.
    pub actor: String,
    /// Why; up to 4,096 bytes.
    pub reason: String,
}

impl AliasChange {
    /// `actor` lets `alias` hold `version`, whatever it holds now.
    pub fn set(model: ModelName, alias: AliasName, version: u32, actor: impl Into<String>) -> Self {
        Self {
            model,
            alias,
            to: Some(version),
            expected: Expected::Anything,
            actor: actor.into(),
            reason: String::new(),
        }
    }

    /// `actor` deletes `alias`, whatever it holds now. Its history stays.
    pub fn delete(model: ModelName, alias: AliasName, actor: impl Into<String>) -> Self {
        Self { to: None, ..Self::set(model, alias, 0, actor) }
    }

    /// Makes the change only where the alias holds this.
    pub fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// Says why.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Refuses what no registry stores. Implementations call it first.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field named.
    pub fn validate(&self) -> Result<()> {
        limits::actor("actor", &self.actor, true)?;
        limits::reason(&self.reason)?;
        if self.to == Some(0) {
            return Err(Error::invalid("version", "0", "a number from 1"));
        }
        Ok(())
    }

    /// What the change does to an alias whose last event is `last`: pure, the same for every implementation.
    ///
    /// An alias that holds the wanted version already is left alone, whatever was expected: the wish is
    /// fulfilled, and a caller that retries after a lost answer is not refused.
    ///
    /// # Errors
    /// [`Error::AliasConflict`] where it holds something else than expected; [`Error::NotFound`] where it is
    /// to be deleted and never was set.
    pub fn decide(&self, last: Option<&AliasEvent>) -> Result<AliasDecision> {
        let found = last.and_then(|event| event.to);
        match last {
            Some(_) if found == self.to => return Ok(AliasDecision::AlreadySo),
            None if self.to.is_none() => {
                return Err(Error::NotFound {
                    what: format!("alias `{}` of model `{}`", self.alias, self.model),
                    next: "there is nothing to delete".to_owned(),
                });
            }
            _ => {}
        }
        if self.expected.fits(found) {
            return Ok(AliasDecision::Append { from: found });
        }
        Err(Error::AliasConflict(Box::new(AliasConflict {
            model: self.model.clone(),
            alias: self.alias.clone(),
            expected: self.expected,
            found,
            last_change: last.map(AliasEvent::told),
        })))
    }
}

/// What [`AliasChange::decide`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AliasDecision {
    /// The alias is as wished; nothing is to be written.
    AlreadySo,
    /// An event is to be appended.
    Append {
        /// What the alias holds now.
        from: Option<u32>,
    },
}

/// One change of an alias; never altered once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasEvent {
    /// Grows with each event of the registry; other aliases' events lie between.
    pub sequence: u64,
    /// The model.
    pub model: ModelName,
    /// The alias.
    pub alias: AliasName,
    /// The version that it held before.
    pub from: Option<u32>,
    /// The version that it holds from here on; none where it was deleted.
    pub to: Option<u32>,
    /// Who did it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl AliasEvent {
    fn told(&self) -> String {
        let did = match self.to {
            Some(_) => "set",
            None => "deleted",
        };
        let why = match self.reason.as_str() {
            "" => String::new(),
            reason => format!(": {}", shorten(reason)),
        };
        format!("{did} by {} at {}{why}", shorten(&self.actor), self.at)
    }
}

/// The answer to an alias's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AliasChanged {
    /// The alias's last event: this change's, or the earlier one that made it so.
    pub event: AliasEvent,
    /// Whether this call appended it.
    pub changed: bool,
}

impl AliasChanged {
    /// The answer of an implementation.
    pub fn new(event: AliasEvent, changed: bool) -> Self {
        Self { event, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(to: Option<u32>, expected: Expected) -> AliasChange {
        let (model, alias) = (ModelName::new("m").unwrap(), AliasName::new("champion").unwrap());
        AliasChange { to, ..AliasChange::delete(model, alias, "ann") }.expecting(expected)
    }

    fn event(to: Option<u32>) -> AliasEvent {
        let AliasChange { model, alias, .. } = change(None, Expected::Anything);
        let (actor, reason) = ("bob".to_owned(), "better".to_owned());
        AliasEvent { sequence: 1, model, alias, from: None, to, actor, reason, at: Timestamp::from_millis(0) }
    }

    #[test]
    fn every_state_against_every_expectation() {
        let states = [None, Some(event(None)), Some(event(Some(1))), Some(event(Some(2)))];
        for last in &states {
            let found = last.as_ref().and_then(|e| e.to);
            for expected in [Expected::Anything, Expected::Unset, Expected::Version(1), Expected::Version(2)]
            {
                let decision = change(Some(2), expected).decide(last.as_ref());
                let fits = match expected {
                    Expected::Anything => true,
                    Expected::Unset => found.is_none(),
                    Expected::Version(v) => found == Some(v),
                };
                if found == Some(2) {
                    assert_eq!(decision.unwrap(), AliasDecision::AlreadySo);
                } else if fits {
                    assert_eq!(decision.unwrap(), AliasDecision::Append { from: found });
                } else {
                    assert!(matches!(decision, Err(Error::AliasConflict(_))), "{found:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn a_conflict_names_the_holder() {
        let error = change(Some(2), Expected::Unset).decide(Some(&event(Some(1)))).unwrap_err();
        let text = error.to_string();
        for part in ["`champion`", "`m`", "holds version 1", "bob", "better", "not set"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn deleting() {
        assert!(matches!(change(None, Expected::Anything).decide(None), Err(Error::NotFound { .. })));
        assert_eq!(
            change(None, Expected::Version(1)).decide(Some(&event(Some(1)))).unwrap(),
            AliasDecision::Append { from: Some(1) }
        );
        assert_eq!(
            change(None, Expected::Anything).decide(Some(&event(None))).unwrap(),
            AliasDecision::AlreadySo
        );
    }
}
