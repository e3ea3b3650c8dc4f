//! Tasks that make and delete volume claims: they have no pod.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kf_core::artifact::Metadata;
use kf_pipeline::{AttemptEnd, AttemptHandle, AttemptOutputs};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use super::create::{Patience, Refusal, refusal};
use super::executor::Shared;
use super::platform::ClaimTask;
use super::pod::ATTEMPT;
use super::problem::PodProblem;
use crate::again::Again;
use crate::answer::in_time;

/// Does what such a task does, once for an attempt.
pub(super) async fn carry(shared: &Shared, handle: &AttemptHandle, task: ClaimTask) -> AttemptEnd {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let done = match task {
        ClaimTask::Create { mut claim, outputs } => {
            let annotations = claim.metadata.annotations.get_or_insert_default();
            annotations.insert(ATTEMPT.to_owned(), handle.0.clone());
            make(shared, &claims, handle, &claim).await.map(|()| outputs.into_iter().collect())
        }
        ClaimTask::Delete { name } => delete(shared, &claims, &name).await.map(|()| Metadata::new()),
    };
    match done {
        Ok(parameters) => {
            let mut outputs = AttemptOutputs::default();
            outputs.parameters = parameters;
            AttemptEnd::Succeeded(outputs)
        }
        Err(end) => end,
    }
}

async fn make(
    shared: &Shared,
    claims: &Api<PersistentVolumeClaim>,
    handle: &AttemptHandle,
    claim: &PersistentVolumeClaim,
) -> Result<(), AttemptEnd> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let params = PostParams { field_manager: Some("kf".into()), ..PostParams::default() };
    let (mut again, mut patience) = (Again::default(), Patience::default());
    loop {
        let made = shared.pace.send(in_time(claims.create(&params, claim))).await;
        let Err(error) = made else { return Ok(()) };
        if refusal(&error) != Refusal::There {
            later(shared, name, &error, &mut patience)?;
        } else if let Ok(Some(there)) = in_time(claims.get_opt(name)).await {
            let of = there.metadata.annotations.as_ref().and_then(|all| all.get(ATTEMPT));
            if of == Some(&handle.0) {
                return Ok(());
            }
            let message = format!(
                "volume claim `{name}` is there in namespace `{}` already: give it another name, or leave out the task that \
                 makes it",
                shared.namespace
            );
            return Err(AttemptEnd::Failed { message, permanent: true });
        }
        again.wait().await;
    }
}

async fn delete(shared: &Shared, claims: &Api<PersistentVolumeClaim>, name: &str) -> Result<(), AttemptEnd> {
    let (mut again, mut patience) = (Again::default(), Patience::default());
    loop {
        match shared.pace.send(in_time(claims.delete(name, &DeleteParams::background()))).await {
            Ok(_) => return Ok(()),
            // An engine that died may have deleted it before.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                tracing::warn!(claim = name, "it was not there to be deleted");
                return Ok(());
            }
            Err(error) => {
                later(shared, name, &error, &mut patience)?;
            }
        }
        again.wait().await;
    }
}

/// Nothing, where it is worth trying again.
fn later(
    shared: &Shared,
    name: &str,
    error: &kube::Error,
    patience: &mut Patience,
) -> Result<(), AttemptEnd> {
    let namespace = || shared.namespace.clone();
    let refusal = refusal(error);
    if !matches!(refusal, Refusal::Forbidden(_)) {
        patience.renew();
    }
    match refusal {
        Refusal::Forbidden(reason) if patience.is_over() => {
            Err(PodProblem::forbidden(&namespace(), reason).end())
        }
        Refusal::NoNamespace => Err(PodProblem::NoNamespace { namespace: namespace() }.end()),
        Refusal::Refused(reason) => {
            let message = format!("namespace `{}` refuses volume claim `{name}`: {reason}", namespace());
            Err(AttemptEnd::Failed { message, permanent: true })
        }
        Refusal::Forbidden(_) | Refusal::There | Refusal::Quota(_) | Refusal::Later(_) => {
            tracing::debug!(claim = name, %error, "it is tried again");
            Ok(())
        }
    }
}
