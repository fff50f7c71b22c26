//! What a document means here: whether somebody can be a user, and in which groups.

use std::collections::BTreeSet;

use corral_model::ids::{GroupName, PrincipalName};
use corral_model::limits;
use corral_model::resource::{ExternalIdentity, IdentityProviderSpec, UserSpec};
use corral_scim::{Document, ErrorType, ResourceKind, ScimError};

use super::directory::{Entry, Realm};
use super::{ScimProvider, refused};
use crate::app::offboard::{disable, enable};
use crate::app::resources::Author;
use crate::app::{App, AppError};

impl App {
    /// Whether a document can be kept.
    ///
    /// # Errors
    /// 400 `invalidValue`, 409 `uniqueness`: what would be right stands in the text.
    pub(super) fn check_document(
        &self,
        provider: &ScimProvider,
        entry: &Entry,
        before: Option<&Entry>,
    ) -> Result<(), ScimError> {
        let document = &entry.document;
        let realms = self.directory.read();
        let realm = realms.get(&provider.name);
        match document.kind() {
            ResourceKind::User => {
                let taken = realm.and_then(|realm| realm.user_named(document.name()));
                if taken.is_some_and(|taken| taken.id != entry.id) {
                    let detail = format!("there is a user '{}' already", document.name());
                    return Err(ScimError::taken(detail));
                }
                self.check_name(provider, document.name())
            }
            ResourceKind::Group => {
                let known: BTreeSet<&str> =
                    before.map(|before| before.document.members().collect()).unwrap_or_default();
                let others = realm.map_or(0, |realm| realm.memberships_without(&entry.id));
                let count = document.members().count();
                if count > known.len() && others + count > limits::SCIM_MEMBERSHIPS_MAX {
                    let most = limits::SCIM_MEMBERSHIPS_MAX;
                    let detail = format!(
                        "{} memberships in all groups of this provider; at most {most}",
                        others + count
                    );
                    return Err(ScimError::bad(ErrorType::TooMany, detail));
                }
                let is_user = |id: &str| {
                    realm.is_some_and(|realm| realm.get(ResourceKind::User, id).is_some())
                };
                match document.members().find(|id| !known.contains(id) && !is_user(id)) {
                    None => Ok(()),
                    Some(id) => {
                        let id: String = id.chars().take(limits::ID_BYTES_MAX).collect();
                        let detail = format!(
                            "member '{id}' is no user of this provider; groups hold users, by \
                             their id"
                        );
                        Err(ScimError::bad(ErrorType::InvalidValue, detail))
                    }
                }
            }
        }
    }

    /// A `userName` becomes the name of a principal, which nobody else may have.
    fn check_name(&self, provider: &ScimProvider, name: &str) -> Result<(), ScimError> {
        let name = PrincipalName::new(name).map_err(|error| {
            let detail = format!("userName cannot be the name of a user here: {error}");
            ScimError::bad(ErrorType::InvalidValue, detail)
        })?;
        let config = self.config();
        if config.workloads.contains_key(&name) {
            return Err(ScimError::taken(format!("'{name}' is the name of a workload")));
        }
        match config.users.get(&name) {
            Some(user) if user.signs_in_by() != Some(&provider.name) => {
                Err(ScimError::taken(format!(
                    "'{name}' is not this provider's; an administrator can hand that user over \
                     with `provider: {}`",
                    provider.name
                )))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The user that a document describes, when it is not so already. Somebody whom SCIM had
    /// disabled is active again; whom an administrator disabled stays so.
    ///
    /// # Errors
    /// 400 when the name is none.
    pub(super) fn person_of(
        &self,
        provider: &ScimProvider,
        entry: &Entry,
        earlier_name: Option<&str>,
    ) -> Result<Option<UserSpec>, ScimError> {
        let name = PrincipalName::new(entry.document.name())
            .map_err(|error| ScimError::bad(ErrorType::InvalidValue, error.to_string()))?;
        let config = self.config();
        let spec = config.providers.get(&provider.name).ok_or_else(|| gone(provider))?;
        let stored = config.users.get(&name);
        let mut user = stored.cloned().unwrap_or_else(|| UserSpec::new(name));
        // Under another name it is still the same person at the provider.
        let earlier = earlier_name.and_then(|name| PrincipalName::new(name).ok());
        let known = stored.or_else(|| earlier.and_then(|earlier| config.users.get(&earlier)));
        let subject = known
            .and_then(|known| known.identity.as_ref())
            .filter(|identity| identity.provider == provider.name)
            .and_then(|identity| identity.subject.clone());
        user.identity = Some(ExternalIdentity { provider: provider.name.clone(), subject });
        if says_groups(spec) {
            let realms = self.directory.read();
            let realm = realms.get(&provider.name);
            user.groups = groups_of(spec, realm, &entry.id, None, None);
        }
        let Author { by, cause } = provider.author();
        match entry.document.is_active() {
            true if user.disabled_cause == Some(cause) => enable(&mut user),
            true => {}
            false => disable(&mut user, cause, &by),
        }
        Ok((stored != Some(&user)).then_some(user))
    }

    /// The person of a document that is gone: disabled, and in no group. Somebody who is not the
    /// provider's is left alone.
    pub(super) fn gone_person(&self, provider: &ScimProvider, name: &str) -> Option<UserSpec> {
        let name = PrincipalName::new(name).ok()?;
        let config = self.config();
        let stored = config.users.get(&name)?;
        if stored.signs_in_by() != Some(&provider.name) {
            return None;
        }
        let mut user = UserSpec { groups: Vec::new(), ..stored.clone() };
        let Author { by, cause } = provider.author();
        disable(&mut user, cause, &by);
        // Whoever has this name next is not the same person at the provider.
        user.identity = Some(ExternalIdentity { provider: provider.name.clone(), subject: None });
        (user != *stored).then_some(user)
    }

    /// Those of the members whose groups are not what they should be. `changed` is a group that
    /// will be `to`, or gone.
    pub(super) fn people_of(
        &self,
        provider: &ScimProvider,
        members: &BTreeSet<String>,
        changed: Option<&str>,
        to: Option<&Document>,
    ) -> Vec<UserSpec> {
        let config = self.config();
        let spec = config.providers.get(&provider.name).filter(|spec| says_groups(spec));
        let Some(spec) = spec else { return Vec::new() };
        let realms = self.directory.read();
        let Some(realm) = realms.get(&provider.name) else { return Vec::new() };
        let to = to.map(|document| To {
            group: spec.group(document.name()),
            members: document.members().collect(),
        });
        let mut people: Vec<UserSpec> = Vec::new();
        for id in members {
            let Some(entry) = realm.get(ResourceKind::User, id) else { continue };
            let name = PrincipalName::new(entry.document.name()).ok();
            let Some(user) = name.and_then(|name| config.users.get(&name)) else { continue };
            if user.signs_in_by() != Some(&provider.name) {
                continue;
            }
            let groups = groups_of(spec, Some(realm), id, changed, to.as_ref());
            if groups != user.groups {
                people.push(UserSpec { groups, ..user.clone() });
            }
        }
        people
    }
}

/// Whether SCIM says the groups of people: where sign-ins do, its groups are kept and mean
/// nothing, so that two accounts of one thing do not undo each other.
fn says_groups(spec: &IdentityProviderSpec) -> bool {
    let by_claim = spec.oidc.as_ref().is_some_and(|oidc| oidc.groups_claim.is_some());
    let by_attribute = spec.saml.as_ref().is_some_and(|saml| saml.groups_attribute.is_some());
    !by_claim && !by_attribute
}

/// What a group will be.
struct To<'d> {
    group: Option<GroupName>,
    members: BTreeSet<&'d str>,
}

/// The groups of a user here: those of its groups there that the mapping names, in order.
fn groups_of(
    spec: &IdentityProviderSpec,
    realm: Option<&Realm>,
    user: &str,
    changed: Option<&str>,
    to: Option<&To<'_>>,
) -> Vec<GroupName> {
    let kept = realm.into_iter().flat_map(|realm| realm.groups_of(user));
    let kept = kept.filter(|group| Some(group.id.as_str()) != changed);
    let mut groups: BTreeSet<GroupName> =
        kept.filter_map(|group| spec.group(group.document.name())).collect();
    if let Some(to) = to.filter(|to| to.members.contains(user)) {
        groups.extend(to.group.clone());
    }
    groups.into_iter().collect()
}

fn gone(provider: &ScimProvider) -> ScimError {
    refused(AppError::NotFound { kind: "identity provider", name: provider.name.to_string() })
}
