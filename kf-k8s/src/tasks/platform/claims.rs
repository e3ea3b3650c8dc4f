//! Tasks that make and delete volume claims, which have an image that is never pulled.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::PlatformError;
use super::error::shown;
use super::exact::exact;
use super::quantity::{self, quantity};

/// The image of tasks that make a claim.
pub const CREATE_CLAIM: &str = "argostub/createpvc";
/// The image of tasks that delete a claim.
pub const DELETE_CLAIM: &str = "argostub/deletepvc";

/// Who may mount a volume.
pub(super) const ACCESS_MODES: &str =
    "`ReadWriteOnce`, `ReadOnlyMany`, `ReadWriteMany` or `ReadWriteOncePod`";

/// Whether it is one of these.
pub(super) fn is_access_mode(mode: &str) -> bool {
    ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"].contains(&mode)
}

/// What a task does that has no pod.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimTask {
    /// It makes a claim.
    Create {
        /// The claim.
        claim: Box<PersistentVolumeClaim>,
        /// The parameters that the task gives: `name`, the claim's name.
        outputs: BTreeMap<String, Json>,
    },
    /// It deletes a claim; that there is none is as well.
    Delete {
        /// The claim's name.
        name: String,
    },
}

impl ClaimTask {
    /// What a task of this image and these input parameters does; none where the image is another one.
    ///
    /// `generated` is what a claim is called, before its `pvc_name_suffix`, where no `pvc_name` is given. The same for the
    /// same attempt, it lets a claim be found again that was made before its maker stopped.
    ///
    /// A claim without `storage_class_name` is of the cluster's default class; that of an empty one is bound to volumes that
    /// were made beforehand, which is what `CreatePVC` asks for where its user says nothing.
    ///
    /// # Errors
    /// [`PlatformError::Claim`]: an input that is missing, of another type, or not known.
    pub fn of(
        image: &str,
        parameters: &Map<String, Json>,
        generated: &str,
    ) -> Result<Option<Self>, PlatformError> {
        match image {
            CREATE_CLAIM => create(&Inputs { image: CREATE_CLAIM, parameters }, generated).map(Some),
            DELETE_CLAIM => delete(&Inputs { image: DELETE_CLAIM, parameters }).map(Some),
            _ => Ok(None),
        }
    }
}

fn create(inputs: &Inputs<'_>, generated: &str) -> Result<ClaimTask, PlatformError> {
    inputs.only(&[
        "pvc_name",
        "pvc_name_suffix",
        "access_modes",
        "size",
        "storage_class_name",
        "volume_name",
        "annotations",
        "data_source",
    ])?;
    let given = |input: &str| Ok(inputs.text(input)?.filter(|text| !text.is_empty()));
    let name = match (given("pvc_name")?, given("pvc_name_suffix")?) {
        (Some(name), Some(_)) => {
            return Err(inputs.unfit(
                "pvc_name",
                format!("`{name}`"),
                "nothing, since `pvc_name_suffix` is given",
            ));
        }
        (Some(name), None) => name.to_owned(),
        (None, suffix) => format!("{generated}{}", suffix.unwrap_or_default()),
    };
    if !is_name(&name) {
        let input = if given("pvc_name")?.is_some() { "pvc_name" } else { "pvc_name_suffix" };
        let expected = "for a name at most 253 lower-case letters, digits, `-` and `.`, the first and last of them a letter or \
                        digit";
        return Err(inputs.unfit(input, format!("`{name}`"), expected));
    }
    let modes = inputs.required("access_modes")?;
    let expected = || format!("a list of {ACCESS_MODES}");
    let access_modes = Vec::<String>::deserialize(modes)
        .ok()
        .filter(|modes| !modes.is_empty() && modes.iter().all(|mode| is_access_mode(mode)))
        .ok_or_else(|| inputs.unfit("access_modes", shown(modes), expected()))?;
    let size = inputs.required("size")?;
    let storage = size.as_str().and_then(quantity);
    let storage = storage.ok_or_else(|| inputs.unfit("size", shown(size), quantity::EXPECTED))?;
    let annotations = inputs.get("annotations").map(|value| {
        let texts = BTreeMap::<String, String>::deserialize(value);
        texts.map_err(|_| inputs.unfit("annotations", shown(value), "an object of texts"))
    });
    let data_source = inputs.get("data_source").map(|value| {
        let unfit = |problem| inputs.unfit("data_source", shown(value), format!("a reference: {problem}"));
        let source: TypedLocalObjectReference = exact(value).map_err(unfit)?;
        match source.kind.is_empty() || source.name.is_empty() {
            true => Err(unfit("no `kind` or no `name`".to_owned())),
            false => Ok(source),
        }
    });
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: annotations.transpose()?.filter(|annotations| !annotations.is_empty()),
            ..Default::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(access_modes),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage)])),
                limits: None,
            }),
            storage_class_name: inputs.text("storage_class_name")?.map(str::to_owned),
            volume_name: given("volume_name")?.map(str::to_owned),
            data_source: data_source.transpose()?,
            ..Default::default()
        }),
        status: None,
    };
    Ok(ClaimTask::Create {
        claim: Box::new(claim),
        outputs: BTreeMap::from([("name".to_owned(), json!(name))]),
    })
}

fn delete(inputs: &Inputs<'_>) -> Result<ClaimTask, PlatformError> {
    inputs.only(&["pvc_name"])?;
    let value = inputs.required("pvc_name")?;
    match value.as_str().filter(|name| is_name(name)) {
        Some(name) => Ok(ClaimTask::Delete { name: name.to_owned() }),
        None => Err(inputs.unfit("pvc_name", shown(value), "the name of a claim")),
    }
}

/// What a task was given. One that is null was not.
struct Inputs<'a> {
    image: &'static str,
    parameters: &'a Map<String, Json>,
}

impl Inputs<'_> {
    fn get(&self, input: &str) -> Option<&Json> {
        self.parameters.get(input).filter(|value| !value.is_null())
    }

    fn text(&self, input: &str) -> Result<Option<&str>, PlatformError> {
        let Some(value) = self.get(input) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.unfit(input, shown(value), "a text"))
    }

    fn required(&self, input: &str) -> Result<&Json, PlatformError> {
        self.get(input).ok_or_else(|| self.unfit(input, "nothing", "a value"))
    }

    fn only(&self, known: &[&str]) -> Result<(), PlatformError> {
        match self.parameters.iter().find(|(input, _)| !known.contains(&input.as_str())) {
            None => Ok(()),
            Some((input, value)) => {
                let expected = format!("only {}", known.join(", "));
                Err(self.unfit(input, shown(value), expected))
            }
        }
    }

    fn unfit(&self, input: &str, found: impl Into<String>, expected: impl Into<String>) -> PlatformError {
        let (input, found, expected) = (input.to_owned(), found.into(), expected.into());
        PlatformError::Claim { image: self.image, input, found, expected }
    }
}

/// Whether it is a subdomain as DNS has them (RFC 1123).
fn is_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(inside) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}
