//! Policy texts become rules: parsed, named, their annotations read, everything that is wrong
//! with them found at once.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Effect as CedarEffect, EntityTypeName, EntityUid, Policy, PolicyId,
    PolicySet, PrincipalConstraint, ResourceConstraint, Schema, ValidationMode, Validator,
};
use corral_model::ids::{GroupName, ResourceName};
use corral_model::limits;
use corral_model::resource::{HumanDuration, TargetSpec};

use crate::decision::HoldTerm;
use crate::policy::actions::{Actions, Kind, UNMASK};
use crate::policy::depth;
use crate::policy::fields::{self, Fields};
use crate::policy::nearest::nearest;
use crate::policy::problem::{PolicyProblem, Severity};
use crate::policy::schema::{self, Types};
use crate::policy::subject::PolicySource;

/// The rule that denies when a policy cannot be evaluated.
pub(crate) const POLICY_ERROR: &str = "policy-error";

/// Names that rules of the gateway itself have.
const RESERVED: [&str; 3] = [POLICY_ERROR, "masking", "limits"];

const ANNOTATIONS: [&str; 5] = ["id", "reason", "approval", "quorum", "expires"];

/// What a rule does where it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuleEffect {
    Permit,
    Forbid,
    /// Forbids until these people approve.
    Approval {
        group: String,
        quorum: u32,
        expires_in: Option<Duration>,
    },
}

/// One policy with what Corral reads out of it.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) policy: Policy,
    /// `@id`, or `SOURCE#3` for the third policy of a source.
    pub(crate) name: String,
    pub(crate) source: ResourceName,
    pub(crate) line: u32,
    pub(crate) reason: Option<String>,
    pub(crate) effect: RuleEffect,
    /// The actions that its head names, groups with their members; None for all.
    pub(crate) actions: Option<Vec<String>>,
    /// The one target that its head is bound to.
    pub(crate) target: Option<String>,
    /// The group that its head is bound to.
    pub(crate) group: Option<String>,
    pub(crate) fields: Fields,
    /// Whether it may tell a table from its target.
    pub(crate) at_objects: bool,
    /// Whether it may tell a run from its principal.
    pub(crate) at_principal: bool,
}

impl Rule {
    pub(crate) fn is_permit(&self) -> bool {
        self.effect == RuleEffect::Permit
    }

    pub(crate) fn hold_term(&self) -> Option<HoldTerm> {
        match &self.effect {
            RuleEffect::Permit | RuleEffect::Forbid => None,
            RuleEffect::Approval { group, quorum, expires_in } => Some(HoldTerm {
                rule: self.name.clone(),
                group: group.clone(),
                quorum: *quorum,
                reason: self.reason.clone().unwrap_or_else(|| format!("{group} must approve this")),
                expires_in: *expires_in,
            }),
        }
    }
}

/// What sources became: rules by policy id, and everything that is wrong.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) rules: BTreeMap<PolicyId, Rule>,
    pub(crate) problems: Vec<PolicyProblem>,
}

impl Compiled {
    pub(crate) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// What policies are checked against.
pub(crate) struct Checks<'a> {
    pub(crate) actions: &'a Actions,
    pub(crate) types: &'a Types,
    pub(crate) schema: &'a Schema,
    /// None: targets are not known here.
    pub(crate) targets: Option<&'a [TargetSpec]>,
}

pub(crate) fn compile(sources: &[PolicySource], checks: &Checks<'_>) -> Compiled {
    let mut compiled = Compiled { rules: BTreeMap::new(), problems: Vec::new() };
    let mut names: BTreeMap<String, ResourceName> = BTreeMap::new();
    let mut seen: Vec<&ResourceName> = Vec::new();
    for source in sources {
        let place = Place { source };
        if seen.contains(&&source.name) {
            let text = format!("there are two policies named '{}'", source.name);
            compiled.problems.push(place.error(0, text, None));
            continue;
        }
        seen.push(&source.name);
        let policies = match parse(&place) {
            Ok(policies) => policies,
            Err(problems) => {
                compiled.problems.extend(problems);
                continue;
            }
        };
        compiled.problems.extend(validate(&place, &policies, checks));
        for (offset, policy) in policies {
            let reader = Reader { place: &place, offset, checks };
            let (rule, problems) = reader.read(policy);
            compiled.problems.extend(problems);
            if let Some(first) = names.insert(rule.name.clone(), source.name.clone()) {
                let text = format!("the id '{}' is used twice, first in '{first}'", rule.name);
                compiled.problems.push(place.error(offset, text, None));
            }
            compiled.rules.insert(rule.policy.id().clone(), rule);
        }
    }
    compiled.problems.sort();
    compiled.problems.dedup();
    compiled
}

/// A source, and how an offset in it is shown.
struct Place<'a> {
    source: &'a PolicySource,
}

impl Place<'_> {
    fn at(
        &self,
        severity: Severity,
        offset: usize,
        text: String,
        help: Option<String>,
    ) -> PolicyProblem {
        let (line, column) = line_and_column(&self.source.cedar, offset);
        PolicyProblem { source: self.source.name.clone(), line, column, severity, text, help }
    }

    fn error(&self, offset: usize, text: String, help: Option<String>) -> PolicyProblem {
        self.at(Severity::Error, offset, text, help)
    }

    fn detailed(&self, severity: Severity, error: &DetailedError) -> Vec<PolicyProblem> {
        let offset = error.source_locations.first().map_or(0, |label| label.loc.start);
        let mut text = error.message.clone();
        let label = error.source_locations.first().and_then(|label| label.label.as_deref());
        if let Some(label) = label.filter(|label| !text.contains(*label)) {
            text = format!("{text}: {label}");
        }
        let mut problems = vec![self.at(severity, offset, text, error.help.clone())];
        for related in &error.related {
            problems.extend(self.detailed(severity, related));
        }
        problems
    }
}

/// Line and column, both from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let before: &str = text.get(..offset.min(text.len())).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The policies of a source with their offsets, in order, with ids that are unique over all
/// sources.
fn parse(place: &Place<'_>) -> Result<Vec<(usize, Policy)>, Vec<PolicyProblem>> {
    if let Some((offset, what)) = depth::too_deep(&place.source.cedar) {
        let text = format!("too many {what} in one policy");
        let help = Some("write several policies".to_owned());
        return Err(vec![place.error(offset, text, help)]);
    }
    let set = PolicySet::from_str(&place.source.cedar)
        .map_err(|errors| place.detailed(Severity::Error, &DetailedError::from(&errors)))?;
    if let Some(template) = set.templates().next() {
        let offset = template.as_ref().loc().map_or(0, |loc| loc.start());
        let text = "templates (?principal, ?resource) are not used here".to_owned();
        let help = Some("write the entity itself".to_owned());
        return Err(vec![place.error(offset, text, help)]);
    }
    let offset_of = |policy: &Policy| policy.as_ref().loc().map_or(0, |loc| loc.start());
    let mut policies: Vec<(usize, Policy)> =
        set.policies().map(|policy| (offset_of(policy), policy.clone())).collect();
    policies.sort_by_key(|(offset, _)| *offset);
    let name = |index: usize| PolicyId::new(format!("{}#{}", place.source.name, index + 1));
    let numbered = policies.into_iter().enumerate();
    Ok(numbered.map(|(index, (offset, policy))| (offset, policy.new_id(name(index)))).collect())
}

fn validate(
    place: &Place<'_>,
    policies: &[(usize, Policy)],
    checks: &Checks<'_>,
) -> Vec<PolicyProblem> {
    let set = match PolicySet::from_policies(policies.iter().map(|(_, policy)| policy.clone())) {
        Ok(set) => set,
        Err(error) => return vec![place.error(0, error.to_string(), None)],
    };
    let result = Validator::new(checks.schema.clone()).validate(&set, ValidationMode::Strict);
    let mut problems: Vec<PolicyProblem> = Vec::new();
    for error in result.validation_errors() {
        let mut detailed = without_id(&DetailedError::from(error));
        if let Some(rest) = detailed.message.strip_prefix("unrecognized action `Corral::Action::\"")
        {
            let written = rest.trim_end_matches('`').trim_end_matches('"');
            let actions = checks.actions.iter().map(|(action, _)| action);
            let meant = nearest(written, actions);
            detailed.help =
                meant.map(|meant| format!("did you mean `Corral::Action::\"{meant}\"`?"));
        }
        problems.extend(place.detailed(Severity::Error, &detailed));
    }
    if !problems.is_empty() {
        // Warnings beside errors mostly follow from them.
        return problems;
    }
    for warning in result.validation_warnings() {
        let detailed = without_id(&DetailedError::from(warning));
        problems.extend(place.detailed(Severity::Warning, &detailed));
    }
    problems
}

/// Cedar starts with "for policy `shop#1`, ", which the place says already, and repeats what is
/// wrong with `context` for every action.
fn without_id(error: &DetailedError) -> DetailedError {
    let mut error = error.clone();
    let action = " for Corral::Action::\"";
    if let Some((before, (_, after))) = error
        .message
        .split_once(action)
        .and_then(|(before, rest)| rest.split_once('"').map(|split| (before, split)))
    {
        error.message = format!("{before}{after}");
    }
    if let Some((_, rest)) =
        error.message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, "))
    {
        error.message = rest.to_owned();
    }
    error
}

/// Reads one policy.
struct Reader<'a> {
    place: &'a Place<'a>,
    offset: usize,
    checks: &'a Checks<'a>,
}

impl Reader<'_> {
    fn read(&self, policy: Policy) -> (Rule, Vec<PolicyProblem>) {
        let mut problems = Vec::new();
        let looks = match policy.to_json() {
            Ok(json) => fields::of_policy(&json),
            // A policy that cannot be looked through may look at everything.
            Err(_) => fields::Looks { fields: Fields::ALL, at_objects: true, at_principal: true },
        };
        let (resource_target, is_of_objects) = self.resource(&policy);
        let (group, is_of_principal) = self.principal(&policy);
        let rule = Rule {
            name: self.name(&policy, &mut problems),
            source: self.place.source.name.clone(),
            line: line_and_column(&self.place.source.cedar, self.offset).0,
            reason: annotation(&policy, "reason"),
            effect: self.effect(&policy, &mut problems),
            actions: self.actions(&policy),
            target: resource_target,
            group,
            fields: looks.fields,
            at_objects: looks.at_objects || is_of_objects,
            at_principal: looks.at_principal || is_of_principal,
            policy,
        };
        self.check_head(&rule, &mut problems);
        self.check_entities(&rule, &mut problems);
        (rule, problems)
    }

    fn name(&self, policy: &Policy, problems: &mut Vec<PolicyProblem>) -> String {
        let Some(name) = annotation(policy, "id") else { return policy.id().to_string() };
        if let Err(error) = ResourceName::new(name.clone()) {
            problems.push(self.error(format!("@id: {error}"), None));
        }
        if RESERVED.contains(&name.as_str()) {
            let text = format!("the id '{name}' belongs to the gateway itself");
            problems.push(self.error(text, Some("choose another".to_owned())));
        }
        name
    }

    fn effect(&self, policy: &Policy, problems: &mut Vec<PolicyProblem>) -> RuleEffect {
        for (key, _) in policy.annotations() {
            if !ANNOTATIONS.contains(&key) {
                let help = format!("known are @{}", ANNOTATIONS.join(", @"));
                problems
                    .push(self.warning(format!("the annotation @{key} means nothing"), Some(help)));
            }
        }
        let is_permit = policy.effect() == CedarEffect::Permit;
        let approval = annotation(policy, "approval");
        let Some(group) = approval.filter(|_| !is_permit) else {
            for key in ["approval", "quorum", "expires"] {
                if policy.annotation(key).is_some() {
                    let text = format!("@{key} has no meaning here");
                    let help = "it belongs to a forbid with @approval(\"group\")".to_owned();
                    problems.push(self.error(text, Some(help)));
                }
            }
            return if is_permit { RuleEffect::Permit } else { RuleEffect::Forbid };
        };
        if let Err(error) = GroupName::new(group.clone()) {
            problems.push(self.error(format!("@approval: {error}"), None));
        }
        RuleEffect::Approval {
            group,
            quorum: self.quorum(policy, problems),
            expires_in: self.expires(policy, problems),
        }
    }

    fn quorum(&self, policy: &Policy, problems: &mut Vec<PolicyProblem>) -> u32 {
        let Some(text) = annotation(policy, "quorum") else { return 1 };
        let max = limits::APPROVAL_QUORUM_MAX;
        let quorum = text.parse::<u32>().ok().filter(|quorum| (1..=max).contains(quorum));
        quorum.unwrap_or_else(|| {
            let text = format!("@quorum(\"{text}\") is not a number of people");
            problems.push(self.error(text, Some(format!("write a number from 1 to {max}"))));
            1
        })
    }

    fn expires(&self, policy: &Policy, problems: &mut Vec<PolicyProblem>) -> Option<Duration> {
        let text = annotation(policy, "expires")?;
        let range = Duration::from_secs(1)..=limits::APPROVAL_WAIT_MAX;
        let wait = HumanDuration::parse(&text).filter(|wait| range.contains(&wait.0));
        if wait.is_none() {
            let text = format!("@expires(\"{text}\") is not a time to wait");
            let longest = HumanDuration(limits::APPROVAL_WAIT_MAX);
            problems.push(self.error(text, Some(format!("write 1s to {longest}, such as 15m"))));
        }
        wait.map(|wait| wait.0)
    }

    /// The actions of its head, groups with their members.
    fn actions(&self, policy: &Policy) -> Option<Vec<String>> {
        let with_members = |uid: &EntityUid| -> Vec<String> {
            let name = uid.id().unescaped().to_owned();
            let actions = self.checks.actions.iter().map(|(action, _)| action);
            let members =
                actions.filter(|action| self.checks.actions.group_of(action) == Some(&name));
            members.map(str::to_owned).chain([name.clone()]).collect()
        };
        match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(uid) => Some(vec![uid.id().unescaped().to_owned()]),
            ActionConstraint::In(uids) => {
                let mut actions: Vec<String> = uids.iter().flat_map(with_members).collect();
                actions.sort();
                actions.dedup();
                Some(actions)
            }
        }
    }

    /// The target of its head, and whether the head can tell a table from its target.
    fn resource(&self, policy: &Policy) -> (Option<String>, bool) {
        let types = self.checks.types;
        let target_of = |uid: &EntityUid| {
            let target = schema::target_of(types, uid.type_name(), uid.id().unescaped());
            target.map(str::to_owned)
        };
        match policy.resource_constraint() {
            ResourceConstraint::Any => (None, false),
            ResourceConstraint::In(uid) => (target_of(&uid), *uid.type_name() != types.target),
            ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
                (target_of(&uid), true)
            }
            ResourceConstraint::Is(_) => (None, true),
        }
    }

    /// The group of its head, and whether the head can tell a run from its principal.
    fn principal(&self, policy: &Policy) -> (Option<String>, bool) {
        let types = self.checks.types;
        let is_run = |type_name: &EntityTypeName| *type_name == types.run;
        let group_of = |uid: &EntityUid| {
            (*uid.type_name() == types.group).then(|| uid.id().unescaped().to_owned())
        };
        match policy.principal_constraint() {
            PrincipalConstraint::Any => (None, false),
            PrincipalConstraint::In(uid) => (group_of(&uid), is_run(uid.type_name())),
            PrincipalConstraint::IsIn(_, uid) => (group_of(&uid), true),
            PrincipalConstraint::Eq(_) | PrincipalConstraint::Is(_) => (None, true),
        }
    }

    /// Heads that are right for Cedar and still not what anybody means.
    fn check_head(&self, rule: &Rule, problems: &mut Vec<PolicyProblem>) {
        let forbids = !rule.is_permit();
        let severity = if forbids { Severity::Error } else { Severity::Warning };
        if let ActionConstraint::Eq(uid) = rule.policy.action_constraint() {
            let action = uid.id().unescaped();
            if self.checks.actions.has_members(action) && action != "connect" {
                let text = format!("`action == {uid}` does not reach its members");
                let help = format!("write `action in {uid}`");
                problems.push(self.place.at(severity, self.offset, text, Some(help)));
            }
        }
        let has_objects = rule.actions.as_ref().is_none_or(|actions| {
            actions.iter().any(|action| match self.checks.actions.kind(action) {
                Some(Kind::Group(_) | Kind::Verb(Some(_)) | Kind::Unmask) => true,
                Some(Kind::Connect | Kind::Verb(None)) | None => false,
            })
        });
        if let ResourceConstraint::Eq(uid) = rule.policy.resource_constraint()
            && has_objects
            && [&self.checks.types.target, &self.checks.types.schema].contains(&uid.type_name())
        {
            let text = format!("`resource == {uid}` does not reach the tables below it");
            let help = format!("write `resource in {uid}`");
            problems.push(self.place.at(severity, self.offset, text, Some(help)));
        }
        let covers = |name: &str| {
            rule.actions.as_ref().is_none_or(|actions| actions.iter().any(|action| action == name))
        };
        if rule.hold_term().is_some() && (covers("connect") || covers(UNMASK)) {
            let text = "it also covers connect or unmask, where nobody can wait: denied".to_owned();
            let help = "name the actions that need an approval".to_owned();
            problems.push(self.warning(text, Some(help)));
        }
        let only_unmask =
            rule.actions.as_ref().is_some_and(|actions| actions.iter().all(|name| name == UNMASK));
        if only_unmask && (rule.fields.time || rule.fields.in_transaction || rule.fields.facts) {
            let text = "unmask is decided when a session opens and when policy changes".to_owned();
            let help = "it cannot depend on one statement or on the time of day".to_owned();
            problems.push(self.warning(text, Some(help)));
        }
    }

    /// Entities that cannot exist.
    fn check_entities(&self, rule: &Rule, problems: &mut Vec<PolicyProblem>) {
        let types = self.checks.types;
        for uid in rule.policy.entity_literals() {
            let id = uid.id().unescaped();
            if !schema::is_resource(types, uid.type_name()) {
                continue;
            }
            let Some(target) = schema::target_of(types, uid.type_name(), id) else {
                let text = format!("{uid} names no target");
                problems.push(self.error(text, Some("write TARGET/schema.table".to_owned())));
                continue;
            };
            let Some(targets) = self.checks.targets else { continue };
            if !targets.iter().any(|known| known.name.as_str() == target) {
                let known: Vec<&str> = targets.iter().map(|spec| spec.name.as_str()).collect();
                let help = format!("there are: {}", known.join(", "));
                let help = (!known.is_empty()).then_some(help);
                problems.push(self.warning(format!("there is no target '{target}'"), help));
            }
        }
    }

    fn error(&self, text: String, help: Option<String>) -> PolicyProblem {
        self.place.at(Severity::Error, self.offset, text, help)
    }

    fn warning(&self, text: String, help: Option<String>) -> PolicyProblem {
        self.place.at(Severity::Warning, self.offset, text, help)
    }
}

fn annotation(policy: &Policy, key: &str) -> Option<String> {
    policy.annotation(key).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}
