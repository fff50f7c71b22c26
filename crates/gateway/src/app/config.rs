//! The configuration as it decides: resources checked together and compiled, replaced whole. Where
//! only people change, the next one shares everything else with the one before.

mod people;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use corral_gate::policy::{
    DecisionCache, Engine, PolicyProblem, PolicySource, Severity, Subject, TargetFacts,
};
use corral_gate::{Rights, Verdict, budget, runbook};
use corral_identity::job_api::JobApi;
use corral_identity::jwks::KeySource;
use corral_model::ids::{
    CommandName, GroupName, PolicyVersion, PrincipalName, ResourceName, TargetName,
};
use corral_model::resource::{
    ColumnName, CommandSpec, IdentityProviderSpec, LimitSpec, LimitSubject, ParsedAddress,
    PolicySpec, RelaySpec, Resource, ResourceKind, SamlSpec, TargetSpec, TextSource, UserSpec,
    WorkloadSpec, manifest,
};
use corral_model::statement::Facts;
use corral_model::{Effect, Effects, Principal, PrincipalKind};
use corral_transport::tunnel::{Reachable, reachable};
use corral_transport::{Address, Endpoint};
use sha2::{Digest as _, Sha256};

use super::{Problem, issuers, job_polls};
use crate::protocols;

pub(crate) use people::People;

/// A target, ready to be connected to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) spec: TargetSpec,
    pub(crate) revision: u64,
    pub(crate) facts: Arc<TargetFacts>,
    pub(crate) endpoint: Endpoint,
    pub(crate) classified: Arc<[ColumnName]>,
    /// As the sessions of its protocol get them.
    pub(crate) options: Arc<serde_json::Map<String, serde_json::Value>>,
    /// The commands that are for it, by name.
    pub(crate) commands: Arc<[CommandSpec]>,
    /// Digest of the policies, of this target and its commands: an approval holds only while it stays the same.
    pub(crate) meaning: String,
}

/// Who answers for a principal, and which groups it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) sponsor: PrincipalName,
    pub(crate) groups: Vec<GroupName>,
}

/// Why a principal may not act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoStanding {
    #[error("there is no {kind} '{name}'")]
    Unknown { kind: &'static str, name: PrincipalName },
    #[error("user '{0}' is disabled")]
    Disabled(PrincipalName),
    #[error("user '{0}' is suspended until the next sign-in")]
    Suspended(PrincipalName),
    #[error("the sponsor of workload '{workload}', '{sponsor}', is disabled or suspended")]
    SponsorDisabled { workload: PrincipalName, sponsor: PrincipalName },
    #[error("the sponsor of workload '{workload}', '{sponsor}', does not exist")]
    SponsorMissing { workload: PrincipalName, sponsor: PrincipalName },
    #[error("workload '{0}' has no sponsor: only a job whose token names a person starts its runs")]
    NoSponsor(PrincipalName),
}

/// One version of everything that was applied.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) version: PolicyVersion,
    pub(crate) engine: Arc<Engine>,
    pub(crate) users: People,
    pub(crate) workloads: Arc<BTreeMap<PrincipalName, WorkloadSpec>>,
    pub(crate) targets: Arc<BTreeMap<TargetName, Arc<Target>>>,
    pub(crate) limits: Arc<[LimitSpec]>,
    pub(crate) relays: Arc<BTreeMap<ResourceName, RelaySpec>>,
    pub(crate) providers: Arc<BTreeMap<ResourceName, IdentityProviderSpec>>,
    /// The facts of all targets, for limits by label.
    pub(crate) target_facts: Arc<[TargetFacts]>,
    /// All resources but people, by kind and name.
    others: Arc<BTreeMap<(ResourceKind, String), Resource>>,
}

impl Config {
    /// Checks resources against each other and compiles them.
    ///
    /// # Errors
    /// Every problem; whoever applied the resources is to blame.
    pub(crate) fn compile(
        version: PolicyVersion,
        mut resources: Vec<Resource>,
        earlier: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        resources.sort_by(|one, other| place(one).cmp(&place(other)));
        let mut parts = Parts::default();
        let mut problems: Vec<Problem> = Vec::new();
        for resource in &resources {
            problems.extend(faults_of(resource));
            parts.add(resource);
        }
        problems.extend(parts.check());
        let sources = parts.policy_sources(&mut problems);
        let specs: Vec<TargetSpec> = parts.targets.values().cloned().collect();
        let engine = Engine::compile(version, &sources, &protocols::verbs(), &specs);
        let engine = match engine {
            Ok(engine) => Some(engine),
            Err(found) => {
                let errors = found.iter().filter(|problem| problem.severity == Severity::Error);
                problems.extend(errors.map(problem_of_policy));
                None
            }
        };
        let (Some(engine), true) = (engine, problems.is_empty()) else { return Err(problems) };
        let meaning = digest_of_policies(&sources);
        let targets = parts.ready_targets(&meaning, version, earlier)?;
        Ok(Self {
            version,
            engine: Arc::new(engine),
            users: parts.users,
            workloads: Arc::new(parts.workloads),
            target_facts: targets.values().map(|target| (*target.facts).clone()).collect(),
            targets: Arc::new(targets),
            limits: parts.limits.into(),
            relays: Arc::new(parts.relays),
            providers: Arc::new(parts.providers),
            others: Arc::new(others_of(resources)),
        })
    }

    /// The same with people who are new or changed: nothing but them is checked or copied.
    ///
    /// # Errors
    /// Every problem; whoever changed the people is to blame.
    pub(crate) fn with_people(
        &self,
        version: PolicyVersion,
        changed: &[&UserSpec],
    ) -> Result<Self, Vec<Problem>> {
        let mut users = self.users.clone();
        let mut problems: Vec<Problem> = Vec::new();
        for user in changed {
            let user = UserSpec::clone(user);
            if self.workloads.contains_key(&user.name) {
                let place = Some(format!("Workload/{}", user.name));
                problems.push(Problem::new(place, SAME_NAME));
            }
            let fault = fault_of_person(&user, &self.providers);
            problems.extend(fault.map(|text| Problem::new(place_of(&user), text)));
            users.put(user.clone());
            problems.extend(faults_of(&Resource::User(user)));
        }
        for user in changed {
            for (account, id) in &user.accounts {
                let other = users.other_with_account(account, id, &user.name);
                problems.extend(other.map(|other| shared_account(user, account, other)));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            version,
            engine: Arc::new(self.engine.at(version)),
            users,
            workloads: self.workloads.clone(),
            targets: self.targets.clone(),
            limits: self.limits.clone(),
            relays: self.relays.clone(),
            providers: self.providers.clone(),
            target_facts: self.target_facts.clone(),
            others: self.others.clone(),
        })
    }

    /// One resource as it was applied.
    pub(crate) fn resource(&self, kind: ResourceKind, name: &str) -> Option<Resource> {
        match kind {
            ResourceKind::User => {
                let name = PrincipalName::new(name).ok()?;
                self.users.get(&name).cloned().map(Resource::User)
            }
            ResourceKind::Target
            | ResourceKind::Workload
            | ResourceKind::Policy
            | ResourceKind::Limit
            | ResourceKind::Command
            | ResourceKind::Relay
            | ResourceKind::IdentityProvider => self.others.get(&(kind, name.to_owned())).cloned(),
        }
    }

    /// All resources of a kind, by name.
    pub(crate) fn resources(&self, kind: ResourceKind) -> Vec<Resource> {
        match kind {
            ResourceKind::User => self.users.sorted().cloned().map(Resource::User).collect(),
            ResourceKind::Target
            | ResourceKind::Workload
            | ResourceKind::Policy
            | ResourceKind::Limit
            | ResourceKind::Command
            | ResourceKind::Relay
            | ResourceKind::IdentityProvider => {
                let all = self.others.values();
                all.filter(|resource| resource.resource_kind() == kind).cloned().collect()
            }
        }
    }

    /// What is probably not what was meant.
    pub(crate) fn warnings(&self) -> Vec<Problem> {
        let of_policies = self.engine.warnings().iter().map(problem_of_policy);
        self.warnings_of_groups().into_iter().chain(of_policies).collect()
    }

    /// A limit for a group that nobody is in limits nobody: probably a typing error.
    fn warnings_of_groups(&self) -> Vec<Problem> {
        let of_groups = self.limits.iter().filter_map(|limit| match &limit.subject {
            LimitSubject::Group(group) => Some((limit, group)),
            LimitSubject::User(_) | LimitSubject::Workload(_) | LimitSubject::Any(_) => None,
        });
        let of_groups: Vec<(&LimitSpec, &GroupName)> = of_groups.collect();
        if of_groups.is_empty() {
            return Vec::new();
        }
        let of_users = self.users.sorted().flat_map(|user| &user.groups);
        let of_workloads = self.workloads.values().flat_map(|workload| &workload.groups);
        let groups: BTreeSet<&GroupName> = of_users.chain(of_workloads).collect();
        let unused = of_groups.into_iter().filter(|(_, group)| !groups.contains(group));
        let warning = |(limit, group): (&LimitSpec, &GroupName)| {
            let resource = Some(format!("Limit/{}", limit.name));
            Problem::new(resource, format!("nobody is in group '{group}'"))
        };
        unused.map(warning).collect()
    }

    /// Whether a principal may act now, and for whom.
    pub(crate) fn standing(&self, principal: &Principal) -> Result<Standing, NoStanding> {
        match principal.kind {
            PrincipalKind::User => {
                let name = &principal.name;
                let user = self
                    .users
                    .get(name)
                    .ok_or_else(|| NoStanding::Unknown { kind: "user", name: name.clone() })?;
                if user.disabled {
                    return Err(NoStanding::Disabled(name.clone()));
                }
                if user.suspended.is_some() {
                    return Err(NoStanding::Suspended(name.clone()));
                }
                Ok(Standing { sponsor: name.clone(), groups: user.groups.clone() })
            }
            PrincipalKind::Workload => self.standing_of_workload(&principal.name),
        }
    }

    /// As [`Config::standing`], for what was begun under a sponsor: that person must be active too,
    /// also when somebody else answers for the principal by now.
    pub(crate) fn standing_under(
        &self,
        principal: &Principal,
        sponsor: &PrincipalName,
    ) -> Result<Standing, NoStanding> {
        let of_sponsor = self.standing(&Principal::user(sponsor.clone()))?;
        match principal.kind {
            PrincipalKind::User => self.standing(principal),
            PrincipalKind::Workload => match self.standing(principal) {
                // Then whoever started the job answers, and nobody else.
                Err(NoStanding::NoSponsor(name)) => {
                    let groups = self.workloads.get(&name).map(|spec| spec.groups.clone());
                    Ok(Standing { groups: groups.unwrap_or_default(), ..of_sponsor })
                }
                standing => standing,
            },
        }
    }

    fn standing_of_workload(&self, name: &PrincipalName) -> Result<Standing, NoStanding> {
        let workload = self
            .workloads
            .get(name)
            .ok_or_else(|| NoStanding::Unknown { kind: "workload", name: name.clone() })?;
        let sponsor = workload.sponsor.clone();
        let sponsor = sponsor.ok_or_else(|| NoStanding::NoSponsor(name.clone()))?;
        match self.users.get(&sponsor) {
            None => Err(NoStanding::SponsorMissing { workload: name.clone(), sponsor }),
            Some(user) if !user.is_active() => {
                Err(NoStanding::SponsorDisabled { workload: name.clone(), sponsor })
            }
            Some(_) => Ok(Standing { sponsor, groups: workload.groups.clone() }),
        }
    }

    /// The user or workload with this name.
    pub(crate) fn principal(&self, name: &str) -> Option<Principal> {
        let name = PrincipalName::new(name).ok()?;
        if self.users.contains_key(&name) {
            Some(Principal::user(name))
        } else if self.workloads.contains_key(&name) {
            Some(Principal::workload(name))
        } else {
            None
        }
    }

    /// A target by the text that a client wrote.
    pub(crate) fn target(&self, name: &str) -> Option<&Arc<Target>> {
        let name = TargetName::new(name).ok()?;
        self.targets.get(&name)
    }

    /// What a session of this subject is told when it opens, and when it changes.
    pub(crate) fn rights(
        &self,
        decisions: &DecisionCache,
        subject: &Arc<Subject>,
        target: &Target,
        context: &corral_gate::policy::Context,
    ) -> Rights {
        Rights {
            masked: self.masked(subject, target, context),
            may_run_unknown: self.may_run_unknown(decisions, subject, target, context),
        }
    }

    /// The classified columns that this subject may not read raw.
    pub(crate) fn masked(
        &self,
        subject: &Subject,
        target: &Target,
        context: &corral_gate::policy::Context,
    ) -> Arc<[ColumnName]> {
        let is_masked =
            |column: &&ColumnName| !self.engine.may_unmask(subject, &target.facts, column, context);
        target.classified.iter().filter(is_masked).cloned().collect()
    }

    fn may_run_unknown(
        &self,
        decisions: &DecisionCache,
        subject: &Arc<Subject>,
        target: &Target,
        context: &corral_gate::policy::Context,
    ) -> bool {
        let known = protocols::find(&target.spec.protocol);
        let verbs = known.map(|protocol| protocol.spec().verbs).unwrap_or_default().iter();
        let facts = Facts {
            verbs: verbs.filter(|verb| verb.effect == Some(Effect::Unknown)).copied().collect(),
            effects: Effects::of(Effect::Unknown),
            statement_count: 1,
            ..Facts::default()
        };
        let (facts, id) = (Arc::new(facts), String::new());
        let ruling = decisions.rule(&self.engine, subject, &target.facts, &facts, context, id);
        ruling.verdict == Verdict::Allow
    }
}

fn place(resource: &Resource) -> (&str, &str) {
    (resource.kind(), resource.name())
}

/// `kind/name`, by which resources are told apart.
pub(crate) fn key(resource: &Resource) -> String {
    format!("{}/{}", resource.kind(), resource.name())
}

/// The resources by kind, before they are known to fit together.
#[derive(Default)]
struct Parts {
    users: People,
    workloads: BTreeMap<PrincipalName, WorkloadSpec>,
    targets: BTreeMap<TargetName, TargetSpec>,
    limits: Vec<LimitSpec>,
    policies: BTreeMap<ResourceName, PolicySpec>,
    commands: BTreeMap<CommandName, CommandSpec>,
    relays: BTreeMap<ResourceName, RelaySpec>,
    providers: BTreeMap<ResourceName, IdentityProviderSpec>,
}

impl Parts {
    fn add(&mut self, resource: &Resource) {
        match resource.clone() {
            Resource::User(spec) => self.users.put(spec),
            Resource::Workload(spec) => drop(self.workloads.insert(spec.name.clone(), spec)),
            Resource::Policy(spec) => drop(self.policies.insert(spec.name.clone(), spec)),
            Resource::Limit(spec) => self.limits.push(spec),
            Resource::Command(spec) => drop(self.commands.insert(spec.name.clone(), spec)),
            Resource::Relay(spec) => drop(self.relays.insert(spec.name.clone(), spec)),
            Resource::IdentityProvider(spec) => {
                drop(self.providers.insert(spec.name.clone(), spec));
            }
            Resource::Target(spec) => drop(self.targets.insert(spec.name.clone(), spec)),
        }
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        let mut add = |kind: &str, name: &str, text: String| {
            problems.push(Problem::new(Some(format!("{kind}/{name}")), text));
        };
        for provider in self.providers.values() {
            for text in check_provider(provider) {
                add("IdentityProvider", provider.name.as_str(), text);
            }
        }
        for user in self.users.sorted() {
            if let Some(text) = fault_of_person(user, &self.providers) {
                add("User", user.name.as_str(), text);
            }
        }
        for workload in self.workloads.values() {
            let name = workload.name.as_str();
            if let Some(sponsor) = &workload.sponsor
                && !self.users.contains_key(sponsor)
            {
                add("Workload", name, format!("sponsor: there is no user '{sponsor}'"));
            }
            for (index, rule) in workload.trust.iter().enumerate() {
                if let Err(error) = KeySource::new(&issuers::options(rule)) {
                    add("Workload", name, format!("trust.{index}: {error}"));
                }
            }
            if let Some(Err(error)) =
                job_polls::options(workload).map(|options| JobApi::new(&options))
            {
                add("Workload", name, format!("poll.api: {error}"));
            }
            if self.users.contains_key(&workload.name) {
                add("Workload", name, SAME_NAME.to_owned());
            }
        }
        for target in self.targets.values() {
            let of_relay = self.fault_of_relay(target);
            for text in check_target(target).into_iter().chain(of_relay) {
                add("Target", target.name.as_str(), text);
            }
        }
        for (address, names) in self.listeners() {
            for name in names.iter().skip(1) {
                let first = names.first().map_or("", |first| first.as_str());
                let text = format!("listen: {address} is also the listener of target '{first}'");
                add("Target", name.as_str(), text);
            }
        }
        for limit in &self.limits {
            if let Err(error) = budget::check_limit(limit) {
                add("Limit", limit.name.as_str(), error.to_string());
            }
            if let Some(text) = self.unknown_in_limit(limit) {
                add("Limit", limit.name.as_str(), text);
            }
        }
        for command in self.commands.values() {
            for text in self.unknown_in_command(command) {
                add("Command", command.name.as_str(), text);
            }
        }
        for user in self.users.sorted() {
            for (account, id) in &user.accounts {
                let other = self.users.other_with_account(account, id, &user.name);
                // Once for the two of them.
                let other = other.filter(|other| **other < user.name);
                problems.extend(other.map(|other| shared_account(user, account, other)));
            }
        }
        problems
    }

    /// A target's relay is there, and may dial it.
    fn fault_of_relay(&self, target: &TargetSpec) -> Option<String> {
        let name = target.relay.as_ref()?;
        let Some(relay) = self.relays.get(name) else {
            return Some(format!("relay: there is no relay '{name}'"));
        };
        let Ok(ParsedAddress::Tcp { host, port }) = target.parsed_address() else { return None };
        let is_refused = reachable(&relay.addresses, &host, port) == Reachable::Refused;
        is_refused.then(|| {
            format!("address: relay '{name}' may not dial it; add it to the relay's addresses")
        })
    }

    /// Dedicated listeners with a fixed port, and whose they are.
    fn listeners(&self) -> BTreeMap<SocketAddr, Vec<&TargetName>> {
        let mut listeners: BTreeMap<SocketAddr, Vec<&TargetName>> = BTreeMap::new();
        for target in self.targets.values() {
            if let Some(address) = target.listen_address().filter(|address| address.port() != 0) {
                listeners.entry(address).or_default().push(&target.name);
            }
        }
        listeners
    }

    fn unknown_in_limit(&self, limit: &LimitSpec) -> Option<String> {
        let unknown = match &limit.subject {
            LimitSubject::User(name) if !self.users.contains_key(name) => {
                Some(format!("subject: there is no user '{name}'"))
            }
            LimitSubject::Workload(name) if !self.workloads.contains_key(name) => {
                Some(format!("subject: there is no workload '{name}'"))
            }
            LimitSubject::User(_)
            | LimitSubject::Workload(_)
            | LimitSubject::Group(_)
            | LimitSubject::Any(_) => None,
        };
        let target = limit.target.as_ref().and_then(|target| target.name.as_ref());
        let unknown_target = target
            .filter(|name| !self.targets.contains_key(*name))
            .map(|name| format!("target: there is no target '{name}'"));
        unknown.or(unknown_target)
    }

    /// A command names targets that there are, and that run commands.
    fn unknown_in_command(&self, command: &CommandSpec) -> Vec<String> {
        let fault = |name: &TargetName| match self.targets.get(name) {
            None => Some(format!("targets: there is no target '{name}'")),
            Some(target) if !runs_commands(target) => {
                Some(format!("targets: '{name}' is {}, which runs no commands", target.protocol))
            }
            Some(_) => None,
        };
        command.targets.iter().filter_map(fault).collect()
    }

    fn policy_sources(&self, problems: &mut Vec<Problem>) -> Vec<PolicySource> {
        let mut sources: Vec<PolicySource> = Vec::new();
        for policy in self.policies.values() {
            match &policy.cedar {
                TextSource::Inline(cedar) => {
                    sources.push(PolicySource { name: policy.name.clone(), cedar: cedar.clone() });
                }
                TextSource::File { .. } => problems.push(Problem::new(
                    Some(format!("Policy/{}", policy.name)),
                    "cedar: the gateway reads no files; send the text itself",
                )),
            }
        }
        sources
    }

    fn ready_targets(
        &self,
        policies: &str,
        version: PolicyVersion,
        earlier: Option<&Config>,
    ) -> Result<BTreeMap<TargetName, Arc<Target>>, Vec<Problem>> {
        let mut targets = BTreeMap::new();
        for spec in self.targets.values() {
            let known = earlier.and_then(|earlier| earlier.targets.get(&spec.name));
            let revision = known.filter(|known| known.spec == *spec).map(|known| known.revision);
            let resource = || Some(format!("Target/{}", spec.name));
            let endpoint = endpoint(spec)
                .map_err(|text| vec![Problem::new(resource(), format!("address: {text}"))])?;
            let mut digest = Sha256::new();
            digest.update(policies);
            digest.update(serde_json::to_vec(spec).unwrap_or_default());
            let of_target = self.commands.values().filter(|command| command.applies_to(spec));
            let commands: Arc<[CommandSpec]> = of_target.cloned().collect();
            digest.update(serde_json::to_vec(&commands).unwrap_or_default());
            let of_protocol = protocols::find(&spec.protocol).map(|known| known.classified(spec));
            let classified: BTreeSet<ColumnName> = spec
                .classify
                .iter()
                .flat_map(|class| class.columns.iter().cloned())
                .chain(of_protocol.into_iter().flatten())
                .collect();
            let target = Target {
                facts: Arc::new(TargetFacts::from(spec)),
                revision: revision.unwrap_or(version.0),
                endpoint,
                classified: classified.into_iter().collect(),
                meaning: hex(&digest.finalize()),
                options: Arc::new(spec.options.clone()),
                commands,
                spec: spec.clone(),
            };
            targets.insert(spec.name.clone(), Arc::new(target));
        }
        Ok(targets)
    }
}

const SAME_NAME: &str = "there is a user of the same name; a name means one principal";

fn place_of(user: &UserSpec) -> Option<String> {
    Some(format!("User/{}", user.name))
}

/// What is wrong with a resource by itself.
fn faults_of(resource: &Resource) -> impl Iterator<Item = Problem> {
    let place = key(resource);
    manifest::validate(resource).into_iter().map(move |invalid| {
        Problem::new(Some(place.clone()), format!("{}: {}", invalid.key, invalid.text))
    })
}

fn others_of(resources: Vec<Resource>) -> BTreeMap<(ResourceKind, String), Resource> {
    let others = resources.into_iter().filter(|one| one.resource_kind() != ResourceKind::User);
    others.map(|one| ((one.resource_kind(), one.name().to_owned()), one)).collect()
}

fn shared_account(user: &UserSpec, account: &str, other: &PrincipalName) -> Problem {
    Problem::new(place_of(user), format!("accounts.{account}: '{other}' has the same account"))
}

/// A person's provider is there, and nobody else says what it says.
fn fault_of_person(
    user: &UserSpec,
    providers: &BTreeMap<ResourceName, IdentityProviderSpec>,
) -> Option<String> {
    if let (Some(identity), Some(provider)) = (&user.identity, &user.provider)
        && identity.provider != *provider
    {
        let linked = &identity.provider;
        return Some(format!(
            "provider: this person signs in through '{linked}'; delete the user first to change \
             that"
        ));
    }
    let name = user.signs_in_by()?;
    let Some(provider) = providers.get(name) else {
        return Some(format!("provider: there is no identity provider '{name}'"));
    };
    let is_foreign =
        user.identity.is_none() && !user.groups.is_empty() && provider.decides_groups();
    is_foreign.then(|| format!("groups: are for '{name}' to say; leave them out here"))
}

fn check_provider(provider: &IdentityProviderSpec) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let ca = provider.oidc.as_ref().and_then(|oidc| oidc.ca_file.as_ref());
    if ca.is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        texts.push("oidc.ca_file: send the certificates themselves, in PEM".to_owned());
    }
    let metadata = provider.saml.as_ref().map(|saml| &saml.metadata);
    if matches!(metadata, Some(TextSource::File { .. })) {
        let text = "saml.metadata: the gateway reads no files; send the text itself";
        texts.push(text.to_owned());
    } else if let Some(saml) = &provider.saml {
        texts.extend(fault_of_saml(saml));
    }
    texts
}

#[cfg(feature = "saml")]
fn fault_of_saml(saml: &SamlSpec) -> Option<String> {
    super::saml::fault_of(saml)
}

#[cfg(not(feature = "saml"))]
fn fault_of_saml(_: &SamlSpec) -> Option<String> {
    Some(
        "saml: this gateway was built without it; use oidc, or a build with the feature".to_owned(),
    )
}

fn runs_commands(target: &TargetSpec) -> bool {
    protocols::find(&target.protocol)
        .is_some_and(|protocol| protocol.spec().verbs.contains(&runbook::COMMAND))
}

fn check_target(target: &TargetSpec) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    match protocols::find(&target.protocol) {
        Some(protocol) => texts.extend(protocol.check_target(target)),
        None => {
            let known: Vec<&str> = protocols::ids().collect();
            texts.push(format!(
                "protocol: this gateway does not serve '{}'; it serves {}",
                target.protocol,
                known.join(", ")
            ));
        }
    }
    if target.credential.is_none() {
        texts.push("credential: is missing; the gateway logs in with it".to_owned());
    }
    let ca = target.tls.as_ref().and_then(|tls| tls.ca_file.as_ref());
    if ca.is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        texts.push("tls: ca_file: send the certificates themselves, in PEM".to_owned());
    }
    if target.masked_credential.is_some() && target.classify.is_empty() {
        texts.push("masked_credential: is never used, because `classify` is empty".to_owned());
    }
    texts
}

fn endpoint(spec: &TargetSpec) -> Result<Endpoint, String> {
    let address = match spec.parsed_address().map_err(|error| error.to_string())? {
        ParsedAddress::Tcp { host, port } => Address::Tcp { host, port },
        ParsedAddress::Unix(directory) => {
            let directory = PathBuf::from(directory);
            let protocol = protocols::find(&spec.protocol);
            Address::Unix(match protocol {
                Some(protocol) => protocol.socket_path(&directory),
                None => directory,
            })
        }
    };
    let ca_pem = spec.tls.as_ref().and_then(|tls| tls.ca_file.clone());
    Ok(Endpoint { address, route: corral_transport::Route::Direct, tls: spec.tls_mode(), ca_pem })
}

pub(super) fn problem_of_policy(problem: &PolicyProblem) -> Problem {
    let text = match &problem.help {
        Some(help) => format!("{}; {help}", problem.text),
        None => problem.text.clone(),
    };
    Problem {
        resource: Some(format!("Policy/{}", problem.source)),
        text,
        line: Some(problem.line),
        column: Some(problem.column),
    }
}

fn digest_of_policies(sources: &[PolicySource]) -> String {
    let mut digest = Sha256::new();
    for source in sources {
        digest.update(source.name.as_str());
        digest.update([0]);
        digest.update(&source.cedar);
        digest.update([0]);
    }
    hex(&digest.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
