//! The container's environment.

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector,
};

use super::{Draft, given};
use crate::tasks::platform::PlatformError;

impl Draft<'_> {
    pub(super) fn environment(&mut self) -> Result<(), PlatformError> {
        for (index, item) in self.config.secret_as_env.iter().enumerate() {
            let pointer = format!("/secretAsEnv/{index}");
            let parameter = item.secret_name_parameter.as_ref();
            let Some(name) = self.name(parameter, &item.secret_name, &pointer, "secretName")? else {
                continue;
            };
            for (index, entry) in item.key_to_env.iter().enumerate() {
                let pointer = format!("{pointer}/keyToEnv/{index}");
                let selector = SecretKeySelector {
                    name: name.clone(),
                    key: given(&pointer, "secretKey", &entry.secret_key)?.to_owned(),
                    optional: item.optional,
                };
                let source = EnvVarSource { secret_key_ref: Some(selector), ..Default::default() };
                self.variable(given(&pointer, "envVar", &entry.env_var)?, source);
            }
        }
        for (index, item) in self.config.config_map_as_env.iter().enumerate() {
            let pointer = format!("/configMapAsEnv/{index}");
            let parameter = item.config_map_name_parameter.as_ref();
            let Some(name) = self.name(parameter, &item.config_map_name, &pointer, "configMapName")? else {
                continue;
            };
            for (index, entry) in item.key_to_env.iter().enumerate() {
                let pointer = format!("{pointer}/keyToEnv/{index}");
                let selector = ConfigMapKeySelector {
                    name: name.clone(),
                    key: given(&pointer, "configMapKey", &entry.config_map_key)?.to_owned(),
                    optional: item.optional,
                };
                let source = EnvVarSource { config_map_key_ref: Some(selector), ..Default::default() };
                self.variable(given(&pointer, "envVar", &entry.env_var)?, source);
            }
        }
        for (index, item) in self.config.field_path_as_env.iter().enumerate() {
            let pointer = format!("/fieldPathAsEnv/{index}");
            let field_path = given(&pointer, "fieldPath", &item.field_path)?.to_owned();
            let field = ObjectFieldSelector { field_path, api_version: None };
            let source = EnvVarSource { field_ref: Some(field), ..Default::default() };
            self.variable(given(&pointer, "name", &item.name)?, source);
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, source: EnvVarSource) {
        let variable = EnvVar { name: name.to_owned(), value: None, value_from: Some(source) };
        self.main.env.get_or_insert_default().push(variable);
    }
}
