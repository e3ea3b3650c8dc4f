//! Where engines that are killed keep what they know.

use std::path::Path;
use std::sync::Arc;

use kf_core::Home;
use kf_core::metadata::MetadataStore;
use kf_pipeline::prelude::*;
use serde::{Deserialize, Serialize};

use super::program::Begin;
use super::watched::Watched;
use super::witness::Witness;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Stores {
    /// In its home, which the next engine has too.
    Home,
    /// In servers, and the next engine has another home.
    #[cfg(all(feature = "postgres", feature = "s3"))]
    Servers(crate::shared::Servers),
}

impl Stores {
    pub(crate) fn is_home(&self) -> bool {
        matches!(self, Self::Home)
    }

    /// How the next engine begins.
    pub(super) fn next(&self) -> Begin {
        match self {
            Self::Home => Begin::Start,
            #[cfg(all(feature = "postgres", feature = "s3"))]
            Self::Servers(_) => Begin::StandBy,
        }
    }

    /// An engine, with a witness of its commits where one is given.
    pub(crate) async fn engine(
        &self,
        home: &Path,
        witness: Option<Witness>,
    ) -> Result<Engine, Box<dyn std::error::Error + Send + Sync>> {
        let (metadata, builder, home): (Arc<dyn MetadataStore>, _, _) = match self {
            Self::Home => (Home::open(home).await?.metadata(), Engine::builder(), home.to_owned()),
            #[cfg(all(feature = "postgres", feature = "s3"))]
            Self::Servers(servers) => {
                let metadata = Arc::new(servers.metadata().await?);
                let artifacts = servers.artifacts(home.join("artifacts"))?;
                let builder = Engine::builder().artifacts(artifacts).lease(servers.lease);
                (metadata, builder, home.join("home"))
            }
        };
        let metadata = match witness {
            Some(witness) => Arc::new(Watched { inner: metadata, witness }),
            None => metadata,
        };
        Ok(builder.metadata(metadata).open(home).await?)
    }
}
