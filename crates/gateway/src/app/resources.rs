//! Resources: applied all or nothing, shown without secrets, deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use corral_model::event::{EventBody, Origin};
use corral_model::ids::{PolicyVersion, PrincipalName};
use corral_model::resource::{
    CredentialKind, CredentialSpec, ProviderSecret, Resource, ResourceKind, SecretSource, UserSpec,
    WorkloadSecret,
};
use corral_model::{
    OffboardCause, OffboardEffect, Offboarding, Principal, PrincipalKind, Secret, limits,
};
use corral_store::{Apply, Change as StoreChange, Put, ScimChange, SecretChange};
use time::OffsetDateTime;

use super::config::{Config, Target, key};
use super::offboard::Disabled;
use super::sweep::Swept;
use super::{App, AppError, Caller, Problem};

/// How to apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Validate and tell the changes; change nothing.
    pub dry_run: bool,
    /// Delete every resource that is not named.
    pub prune: bool,
}

/// What happens to one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

impl ChangeKind {
    /// As in JSON and events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// One resource's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: String,
    pub name: String,
    pub change: ChangeKind,
    /// Before and after as JSON without secrets; for `corral diff`. A changed secret shows as
    /// `"password": "changed"`.
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
}

/// What was (or with `dry_run` would be) done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub version: PolicyVersion,
    pub changes: Vec<Change>,
    /// What was applied, but probably does not do what was meant.
    pub warnings: Vec<Problem>,
}

/// One resource as it is shown: its spec without secrets, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceView {
    pub kind: String,
    pub name: String,
    /// Grows when this resource changes.
    pub revision: u64,
    pub spec: serde_json::Value,
}

impl App {
    /// Applies resources, all or nothing. Secrets come as values and texts inline: the command
    /// that reads the manifests resolves them. A credential, password or secret that is absent
    /// keeps what is stored, so that a manifest can be applied again without its secrets. A user
    /// who was disabled by hand stays disabled, whatever the manifest says.
    ///
    /// # Errors
    /// [`AppError::Denied`] unless the caller administers. [`AppError::Invalid`] with every
    /// problem found; then nothing changed.
    pub async fn apply(
        &self,
        caller: &Caller,
        resources: Vec<Resource>,
        options: ApplyOptions,
    ) -> Result<Applied, AppError> {
        caller.require_admin()?;
        let _one_at_a_time = self.config.changing.lock().await;
        let config = self.config();
        let plan = Plan::of(&config, resources, options.prune)?;
        let author = Author::by_hand(caller);
        let (applied, _) = self.carry_out(&author, &config, plan, options.dry_run).await?;
        // Another mapping of groups is another set of groups for people who are there already.
        self.project_groups().await?;
        Ok(applied)
    }

    /// Gives people the groups that their providers' documents say. The caller holds the lock.
    async fn project_groups(&self) -> Result<(), AppError> {
        for (author, people) in self.scim_projection() {
            self.put_people(&author, people, Vec::new()).await?;
        }
        Ok(())
    }

    /// As [`App::project_groups`], at the start.
    pub(super) async fn scim_project_all(&self) -> Result<(), AppError> {
        let _one_at_a_time = self.config.changing.lock().await;
        self.project_groups().await
    }

    /// Changes people as their provider says, together with the documents that say it. The caller
    /// holds the lock for changes.
    pub(super) async fn put_people(
        &self,
        author: &Author,
        people: Vec<UserSpec>,
        documents: Vec<ScimChange>,
    ) -> Result<(), AppError> {
        let config = self.config();
        let is_enabled = |user: &&UserSpec| {
            let before = config.users.get(&user.name);
            !user.disabled && before.is_some_and(|before| before.disabled)
        };
        let enabled: Vec<PrincipalName> =
            people.iter().filter(is_enabled).map(|user| user.name.clone()).collect();
        let asked = people
            .into_iter()
            .map(|user| Asked { resource: Resource::User(user), secrets: Secrets::default() });
        let plan = Plan { asked: asked.collect(), deletes: Vec::new(), documents };
        self.carry_out(author, &config, plan, false).await?;
        for person in enabled {
            self.note_enabled(&person, &author.by);
        }
        Ok(())
    }

    /// Checks, stores, records and puts into use. The caller holds the lock for changes.
    async fn carry_out(
        &self,
        author: &Author,
        config: &Config,
        plan: Plan,
        is_dry_run: bool,
    ) -> Result<(Applied, Disabled), AppError> {
        let next = PolicyVersion(config.version.0 + 1);
        let people = plan.only_people();
        let compiled = match &people {
            Some(people) => config.with_people(next, people),
            None => Config::compile(next, plan.outcome(config), Some(config)),
        };
        let compiled = compiled.map_err(AppError::Invalid)?;
        let changes = plan.changes(config);
        let is_nothing = changes.iter().all(|change| change.change == ChangeKind::Unchanged);
        if is_nothing && !is_dry_run && !plan.documents.is_empty() {
            self.store.change_scim_documents(&plan.documents).await?;
        }
        if is_dry_run || is_nothing {
            let version = if is_nothing { config.version } else { next };
            let warnings = compiled.warnings();
            return Ok((Applied { version, changes, warnings }, Disabled::default()));
        }
        let puts = self.puts(&plan).await?;
        let offboardings = plan.offboardings(config, author);
        let listed: Vec<String> = changes
            .iter()
            .filter(|change| change.change != ChangeKind::Unchanged)
            .map(|change| {
                format!("{} {}/{}", change.change.name(), change.kind.to_lowercase(), change.name)
            })
            .collect();
        tracing::info!(version = next.0, changes = listed.len(), "configuration changes");
        let by = author.by.clone();
        let body = EventBody::ConfigChanged { by: by.clone(), version: next, changes: listed };
        self.append(Origin::default(), body)?;
        let apply = Apply {
            changes: puts,
            expected: Some(config.version),
            by,
            at: OffsetDateTime::now_utc(),
            offboardings: offboardings.clone(),
            documents: plan.documents.clone(),
        };
        let applied = self.store.apply(apply).await?;
        let warnings = compiled.warnings();
        let swept = match &people {
            Some(people) => {
                self.use_people(compiled);
                Swept::People(people.iter().map(|user| user.name.clone()).collect())
            }
            None => {
                self.use_config(compiled);
                Swept::Everything
            }
        };
        for principal in plan.removed_principals(config) {
            self.live.logins().remove_of(&principal);
        }
        let ended = self.end_offboarded(offboardings).await;
        self.sweep(&swept).await;
        if people.is_none() {
            self.signals.targets.notify_one();
        }
        Ok((Applied { version: applied.version, changes, warnings }, ended))
    }

    /// The plan as the store takes it, with secrets apart and passwords hashed.
    async fn puts(&self, plan: &Plan) -> Result<Vec<StoreChange>, AppError> {
        let mut changes: Vec<StoreChange> = Vec::new();
        for (kind, name) in &plan.deletes {
            changes.push(StoreChange::Delete { kind: *kind, name: name.clone() });
        }
        for asked in &plan.asked {
            let mut put = Put::new(asked.resource.clone());
            put.credential = set(asked.secrets.credential.as_ref());
            put.masked_credential = set(asked.secrets.masked_credential.as_ref());
            put.workload_secrets.clone_from(&asked.secrets.workload);
            put.provider_secrets.clone_from(&asked.secrets.provider);
            if let Some(password) = &asked.secrets.login {
                let hash = self.passwords.hash(password.clone()).await.map_err(|error| {
                    let place = Some(key(&asked.resource));
                    AppError::Invalid(vec![Problem::new(place, error.to_string())])
                })?;
                put.login_hash = SecretChange::Set(Secret::new(hash.as_phc().to_owned()));
            }
            changes.push(StoreChange::Put(Box::new(put)));
        }
        Ok(changes)
    }

    /// Changes one user; the author has the right to. Returns what ended by it.
    pub(super) async fn change_user(
        &self,
        author: &Author,
        name: &PrincipalName,
        change: impl FnOnce(&mut UserSpec),
    ) -> Result<Disabled, AppError> {
        let choose = |config: &Config| {
            let user = config.users.get(name).cloned();
            let mut user = user.ok_or_else(|| no_user(name.as_str()))?;
            change(&mut user);
            Ok(user)
        };
        self.change_person(author, choose).await
    }

    /// Makes or changes the user that `choose` finds in the configuration of that moment; nobody
    /// else changes it meanwhile. Returns what ended by it.
    pub(super) async fn change_person(
        &self,
        author: &Author,
        choose: impl FnOnce(&Config) -> Result<UserSpec, AppError>,
    ) -> Result<Disabled, AppError> {
        let _one_at_a_time = self.config.changing.lock().await;
        let config = self.config();
        let user = choose(&config)?;
        let asked = Asked { resource: Resource::User(user), secrets: Secrets::default() };
        let plan = Plan { asked: vec![asked], deletes: Vec::new(), documents: Vec::new() };
        self.carry_out(author, &config, plan, false).await.map(|(_, ended)| ended)
    }

    /// All resources of a kind (`target`, `Target` or `targets`), by name. Only the administrator
    /// sees more than the targets that it may use, and their commands.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for an unknown kind, [`AppError::Denied`].
    pub fn list_resources(
        &self,
        caller: &Caller,
        kind: &str,
    ) -> Result<Vec<ResourceView>, AppError> {
        let kind = readable_kind(caller, kind)?;
        let config = self.config();
        let found = config.resources(kind);
        let found = found.iter().filter(|resource| self.may_know(&config, caller, resource));
        Ok(found.map(|resource| view(&config, caller, resource)).collect())
    }

    /// Whether a caller may see a resource of a kind that it may see at all.
    fn may_know(&self, config: &Config, caller: &Caller, resource: &Resource) -> bool {
        match resource {
            Resource::Target(spec) => {
                let target = config.targets.get(&spec.name);
                target.is_some_and(|known| self.may_know_target(config, caller, known))
            }
            // Whoever may use one of its targets may read how a command is called.
            Resource::Command(spec) => {
                let mut targets = config.targets.values();
                let may_know = |target: &Arc<Target>| self.may_know_target(config, caller, target);
                matches!(caller, Caller::Admin)
                    || targets.any(|known| spec.applies_to(&known.spec) && may_know(known))
            }
            Resource::User(_)
            | Resource::Workload(_)
            | Resource::Policy(_)
            | Resource::Limit(_)
            | Resource::Relay(_)
            | Resource::IdentityProvider(_) => true,
        }
    }

    /// One resource.
    ///
    /// # Errors
    /// [`AppError::NotFound`] and as [`App::list_resources`].
    pub fn show_resource(
        &self,
        caller: &Caller,
        kind: &str,
        name: &str,
    ) -> Result<ResourceView, AppError> {
        let config = self.config();
        let found = config.resource(readable_kind(caller, kind)?, name);
        let found = found.filter(|resource| self.may_know(&config, caller, resource));
        found.map(|resource| view(&config, caller, &resource)).ok_or_else(|| not_found(kind, name))
    }

    /// Deletes one resource.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Denied`], [`AppError::Invalid`] when another resource
    /// still names it.
    pub async fn delete_resource(
        &self,
        caller: &Caller,
        kind: &str,
        name: &str,
    ) -> Result<Applied, AppError> {
        caller.require_admin()?;
        let kind = read_kind(kind)?;
        let _one_at_a_time = self.config.changing.lock().await;
        let config = self.config();
        if config.resource(kind, name).is_none() {
            return Err(not_found(kind.name(), name));
        }
        let deletes = vec![(kind, name.to_owned())];
        let plan = Plan { asked: Vec::new(), deletes, documents: Vec::new() };
        let author = Author::by_hand(caller);
        self.carry_out(&author, &config, plan, false).await.map(|(applied, _)| applied)
    }
}

/// Who changes the configuration, and what it means for those who lose their standing by it.
pub(super) struct Author {
    pub(super) by: String,
    pub(super) cause: OffboardCause,
}

impl Author {
    fn by_hand(caller: &Caller) -> Self {
        Self { by: caller.label(), cause: OffboardCause::ByHand }
    }
}

pub(super) fn no_user(name: &str) -> AppError {
    AppError::NotFound { kind: "user", name: name.to_owned() }
}

/// Secrets of one resource, as they were sent.
#[derive(Default)]
struct Secrets {
    credential: Option<Secret>,
    masked_credential: Option<Secret>,
    /// A user's password or a workload's secret.
    login: Option<Secret>,
    /// Of a workload's webhook and poll.
    workload: Vec<(WorkloadSecret, Secret)>,
    /// Of an identity provider.
    provider: Vec<(ProviderSecret, Secret)>,
}

impl Secrets {
    fn is_empty(&self) -> bool {
        self.credential.is_none()
            && self.masked_credential.is_none()
            && self.login.is_none()
            && self.workload.is_empty()
            && self.provider.is_empty()
    }
}

/// One resource that is to be as it was sent, without its secrets.
struct Asked {
    resource: Resource,
    secrets: Secrets,
}

/// What is to be done, before it is known to be right.
struct Plan {
    asked: Vec<Asked>,
    deletes: Vec<(ResourceKind, String)>,
    /// What providers wrote, to be kept with it.
    documents: Vec<ScimChange>,
}

impl Plan {
    fn of(config: &Config, resources: Vec<Resource>, prune: bool) -> Result<Self, AppError> {
        let mut problems: Vec<Problem> = Vec::new();
        let mut asked: Vec<Asked> = Vec::new();
        let mut named: BTreeSet<(ResourceKind, String)> = BTreeSet::new();
        for mut resource in resources {
            let place = key(&resource);
            if !named.insert((resource.resource_kind(), resource.name().to_owned())) {
                problems.push(Problem::new(Some(place), "stands twice; name it once"));
                continue;
            }
            let secrets = take_secrets(&resource).unwrap_or_else(|text| {
                problems.push(Problem::new(Some(place.clone()), text));
                Secrets::default()
            });
            if let Resource::User(user) = &mut resource {
                keep_what_is_ours(config, user, &mut problems);
            }
            asked.push(Asked { resource: resource.without_secrets(), secrets });
        }
        if !problems.is_empty() {
            return Err(AppError::Invalid(problems));
        }
        let is_named =
            |stored: &Resource| named.contains(&(stored.resource_kind(), stored.name().to_owned()));
        // Whom a provider made is not a manifest's to take away.
        let is_foreign =
            |stored: &Resource| stored.as_user().is_some_and(|user| user.identity.is_some());
        let is_stale = |stored: &Resource| !is_named(stored) && !is_foreign(stored);
        let kinds = ResourceKind::ALL.into_iter().filter(|_| prune);
        let stale = kinds.flat_map(|kind| config.resources(kind)).filter(is_stale);
        let deletes: Vec<(ResourceKind, String)> =
            stale.map(|stored| (stored.resource_kind(), stored.name().to_owned())).collect();
        Ok(Self { asked, deletes, documents: Vec::new() })
    }

    /// The people who are all that changes; None when there is more to it.
    fn only_people(&self) -> Option<Vec<&UserSpec>> {
        if !self.deletes.is_empty() {
            return None;
        }
        self.asked.iter().map(|asked| asked.resource.as_user()).collect()
    }

    /// All resources as they will be.
    fn outcome(&self, config: &Config) -> Vec<Resource> {
        let of_asked = |asked: &Asked| asked.resource.clone();
        let asked =
            self.asked.iter().map(|asked| (asked.resource.resource_kind(), asked.resource.name()));
        let deleted = self.deletes.iter().map(|(kind, name)| (*kind, name.as_str()));
        let replaced: BTreeSet<(ResourceKind, &str)> = asked.chain(deleted).collect();
        let stored = ResourceKind::ALL.into_iter().flat_map(|kind| config.resources(kind));
        let kept =
            stored.filter(|stored| !replaced.contains(&(stored.resource_kind(), stored.name())));
        kept.chain(self.asked.iter().map(of_asked)).collect()
    }

    fn changes(&self, config: &Config) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for asked in &self.asked {
            let before = config.resource(asked.resource.resource_kind(), asked.resource.name());
            let change = match &before {
                None => ChangeKind::Created,
                Some(before) if *before == asked.resource && asked.secrets.is_empty() => {
                    ChangeKind::Unchanged
                }
                Some(_) => ChangeKind::Changed,
            };
            changes.push(Change {
                kind: asked.resource.kind().to_owned(),
                name: asked.resource.name().to_owned(),
                change,
                before: before.as_ref().map(shown),
                after: Some(shown_with_secrets(&asked.resource, &asked.secrets)),
            });
        }
        for (kind, name) in &self.deletes {
            let before = config.resource(*kind, name);
            changes.push(Change {
                kind: kind.name().to_owned(),
                name: name.clone(),
                change: ChangeKind::Deleted,
                before: before.as_ref().map(shown),
                after: None,
            });
        }
        changes
    }

    /// The people who are active, and will not be.
    fn offboardings(&self, config: &Config, author: &Author) -> Vec<Offboarding> {
        let mut offboardings: Vec<Offboarding> = Vec::new();
        for asked in &self.asked {
            let Some(after) = asked.resource.as_user() else { continue };
            let Some(before) = config.users.get(&after.name) else { continue };
            let mut add = |effect: OffboardEffect| {
                let (person, by) = (after.name.clone(), author.by.clone());
                offboardings.push(Offboarding { person, effect, cause: author.cause, by });
            };
            if after.disabled && !before.disabled {
                add(OffboardEffect::Disabled);
            }
            if after.suspended.is_some() && before.suspended.is_none() {
                add(OffboardEffect::Suspended);
            }
        }
        offboardings
    }

    fn removed_principals(&self, config: &Config) -> Vec<Principal> {
        let names = self.deletes.iter().filter_map(|(_, name)| config.principal(name));
        let is_removed = |principal: &Principal| {
            let kind = match principal.kind {
                PrincipalKind::User => ResourceKind::User,
                PrincipalKind::Workload => ResourceKind::Workload,
            };
            self.deletes.iter().any(|(of, name)| *of == kind && name == principal.name.as_str())
        };
        names.filter(is_removed).collect()
    }
}

/// What the gateway writes of a person stays as it is, whatever a manifest says: disabled by hand
/// stays disabled, so that an old manifest brings nobody back, and what a provider says of its
/// person is the provider's.
fn keep_what_is_ours(config: &Config, user: &mut UserSpec, problems: &mut Vec<Problem>) {
    let stored = config.users.get(&user.name);
    let mut refuse = |text: &str| {
        problems.push(Problem::new(Some(format!("User/{}", user.name)), text));
    };
    let disabled_by = stored.and_then(|stored| stored.disabled_by.clone());
    if user.disabled_by.is_some() && user.disabled_by != disabled_by {
        refuse("disabled_by: is written by the gateway; use `corral users disable`");
    }
    let cause = stored.and_then(|stored| stored.disabled_cause);
    if user.disabled_cause.is_some() && user.disabled_cause != cause {
        refuse("disabled_cause: is written by the gateway; use `corral users disable`");
    }
    let identity = stored.and_then(|stored| stored.identity.clone());
    if user.identity.is_some() && user.identity != identity {
        refuse("identity: is written by the gateway when somebody signs in; write provider");
    }
    let suspended = stored.and_then(|stored| stored.suspended);
    if user.suspended.is_some() && user.suspended != suspended {
        refuse("suspended: is written by the gateway; use `corral users disable`");
    }
    if let (Some(stored), Some(identity)) = (stored, &identity)
        && config.providers.get(&identity.provider).is_some_and(|known| known.decides_groups())
    {
        if !user.groups.is_empty() && user.groups != stored.groups {
            refuse("groups: are for the person's identity provider to say; leave them out");
        }
        user.groups.clone_from(&stored.groups);
    }
    user.disabled = user.disabled || disabled_by.is_some();
    user.disabled_by = disabled_by;
    user.disabled_cause = cause;
    user.identity = identity;
    user.suspended = suspended;
}

/// The secrets that were sent with a resource.
///
/// # Errors
/// A text, when one of them is not a value or too short: whoever sent it is to blame.
fn take_secrets(resource: &Resource) -> Result<Secrets, String> {
    let value = |source: Option<&SecretSource>| match source {
        None => Ok(None),
        Some(SecretSource::Value(text)) => Ok(Some(Secret::new(text.clone()))),
        Some(SecretSource::Env(_) | SecretSource::File(_)) => {
            let text = "the gateway reads no variables or files of yours; send the secret's value";
            Err(text.to_owned())
        }
    };
    let password = |credential: Option<&CredentialSpec>| {
        value(
            credential.and_then(|credential| credential.secrets().next()).map(|(_, secret)| secret),
        )
    };
    Ok(match resource {
        Resource::Target(spec) => Secrets {
            credential: password(spec.credential.as_ref())?,
            masked_credential: password(spec.masked_credential.as_ref())?,
            ..Secrets::default()
        },
        Resource::User(spec) => {
            Secrets { login: value(spec.password.as_ref())?, ..Secrets::default() }
        }
        Resource::Workload(spec) => {
            let login = value(spec.secret.as_ref())?;
            let mut workload: Vec<(WorkloadSecret, Secret)> = Vec::new();
            for which in WorkloadSecret::ALL {
                workload.extend(value(spec.secret_of(which))?.map(|secret| (which, secret)));
            }
            let min = limits::WEBHOOK_SECRET_BYTES_MIN;
            let is_short = |(which, secret): &(WorkloadSecret, Secret)| {
                *which == WorkloadSecret::Webhook && secret.reveal().len() < min
            };
            if workload.iter().any(is_short) {
                return Err(format!(
                    "webhook.secret is shorter than {min} bytes; make one with: openssl rand -hex 32"
                ));
            }
            Secrets { login, workload, ..Secrets::default() }
        }
        Resource::IdentityProvider(spec) => {
            let mut provider: Vec<(ProviderSecret, Secret)> = Vec::new();
            for which in ProviderSecret::ALL {
                provider.extend(value(spec.secret(which))?.map(|secret| (which, secret)));
            }
            Secrets { provider, ..Secrets::default() }
        }
        Resource::Policy(_) | Resource::Limit(_) | Resource::Command(_) | Resource::Relay(_) => {
            Secrets::default()
        }
    })
}

fn set(secret: Option<&Secret>) -> SecretChange {
    secret.map_or(SecretChange::Keep, |secret| SecretChange::Set(secret.clone()))
}

/// The kind, where this caller may see resources of it.
fn readable_kind(caller: &Caller, kind: &str) -> Result<ResourceKind, AppError> {
    let kind = read_kind(kind)?;
    if !matches!(kind, ResourceKind::Target | ResourceKind::Command) {
        caller.require_admin()?;
    }
    Ok(kind)
}

fn read_kind(text: &str) -> Result<ResourceKind, AppError> {
    ResourceKind::parse(text).ok_or_else(|| {
        let known: Vec<&str> = ResourceKind::ALL.iter().map(|kind| kind.name()).collect();
        let text = format!("'{text}' is not a kind; there are {}", known.join(", "));
        AppError::Invalid(vec![Problem::new(None, text)])
    })
}

fn not_found(kind: &str, name: &str) -> AppError {
    let kind = ResourceKind::parse(kind).map_or("resource", |kind| match kind {
        ResourceKind::Target => "target",
        ResourceKind::User => "user",
        ResourceKind::Workload => "workload",
        ResourceKind::Policy => "policy",
        ResourceKind::Limit => "limit",
        ResourceKind::Command => "command",
        ResourceKind::Relay => "relay",
        ResourceKind::IdentityProvider => "identity provider",
    });
    AppError::NotFound { kind, name: name.to_owned() }
}

fn shown(resource: &Resource) -> serde_json::Value {
    serde_json::to_value(resource).unwrap_or_default()
}

/// A secret that was sent shows as changed, never as itself.
fn shown_with_secrets(resource: &Resource, secrets: &Secrets) -> serde_json::Value {
    let mut value = shown(resource);
    let changed = || serde_json::Value::from("changed");
    let mut mark = |path: &[&str]| {
        let (last, parents) = path.split_last().unwrap_or((&"", &[]));
        let parent = parents.iter().try_fold(&mut value, |value, key| value.get_mut(*key));
        if let Some(serde_json::Value::Object(keys)) = parent {
            keys.insert((*last).to_owned(), changed());
        }
    };
    if let Resource::Target(target) = resource {
        let kind = |credential: Option<&CredentialSpec>| {
            credential.map_or(CredentialKind::Password, CredentialSpec::kind).word()
        };
        if secrets.credential.is_some() {
            mark(&["credential", kind(target.credential.as_ref())]);
        }
        if secrets.masked_credential.is_some() {
            mark(&["masked_credential", kind(target.masked_credential.as_ref())]);
        }
    }
    if secrets.login.is_some() {
        match resource {
            Resource::Workload(_) => mark(&["secret"]),
            Resource::Target(_)
            | Resource::User(_)
            | Resource::Policy(_)
            | Resource::Limit(_)
            | Resource::Command(_)
            | Resource::Relay(_)
            | Resource::IdentityProvider(_) => mark(&["password"]),
        }
    }
    let of_workload = secrets.workload.iter().map(|(which, _)| which.key());
    for key in of_workload.chain(secrets.provider.iter().map(|(which, _)| which.key())) {
        let path: Vec<&str> = key.split('.').collect();
        mark(&path);
    }
    value
}

/// Where a target is and how the gateway logs in there is for the administrator only.
fn view(config: &Config, caller: &Caller, resource: &Resource) -> ResourceView {
    let mut spec = shown(resource);
    let is_admin = matches!(caller, Caller::Admin);
    if let (false, serde_json::Value::Object(keys)) = (is_admin, &mut spec) {
        for hidden in ["address", "relay", "tls", "credential", "masked_credential"] {
            keys.remove(hidden);
        }
    }
    let target = config.target(resource.name());
    let is_target = resource.resource_kind() == ResourceKind::Target;
    ResourceView {
        kind: resource.kind().to_owned(),
        name: resource.name().to_owned(),
        revision: target.filter(|_| is_target).map_or(config.version.0, |target| target.revision),
        spec,
    }
}
