//! The compiled policies of one configuration, and the questions that they answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::{AuthorizationError, Authorizer, PolicyId};
use corral_model::ids::{PolicyVersion, ResourceName};
use corral_model::limits;
use corral_model::resource::{ColumnName, TargetSpec};
use corral_model::statement::{Facts, Obstacle};

use crate::decision::{Denial, DenialKind, Ruling, Verdict};
use crate::policy::actions::{Actions, CONNECT, UNMASK};
use crate::policy::depth;
use crate::policy::fields::Fields;
use crate::policy::grant::{self, GrantError};
use crate::policy::index::{Bucket, Index, Sets};
use crate::policy::problem::{PolicyProblem, Severity};
use crate::policy::question::{Node, Parts, Question};
use crate::policy::requirement::{self, Need, Requirement, Resource};
use crate::policy::rules::{self, Checks, Compiled, Rule};
use crate::policy::schema::{self, Types};
use crate::policy::subject::{Context, PolicySource, ProtocolVerbs, RunNode, Subject, TargetFacts};
use crate::policy::verdict::{Answer, Collector, Judged};
use crate::policy::wording;

/// The compiled policies of one configuration. Immutable; shared as an `Arc`.
#[derive(Debug, Clone)]
pub struct Engine {
    version: PolicyVersion,
    actions: Arc<Actions>,
    types: Arc<Types>,
    rules: Arc<BTreeMap<PolicyId, Rule>>,
    index: Arc<Index>,
    /// Fields of `context` that some rule reads.
    fields: Fields,
    warnings: Arc<[PolicyProblem]>,
    authorizer: Authorizer,
    /// Some rule is too long to be evaluated on any thread's stack.
    needs_stack: bool,
}

impl Engine {
    /// Compiles and checks all policies of a configuration.
    ///
    /// # Errors
    /// Every problem that was found, warnings included, when one of them is an error. Whoever
    /// wrote the policies is to blame.
    pub fn compile(
        version: PolicyVersion,
        sources: &[PolicySource],
        protocols: &[ProtocolVerbs],
        targets: &[TargetSpec],
    ) -> Result<Self, Vec<PolicyProblem>> {
        Self::compile_for(version, sources, protocols, Some(targets))
    }

    fn compile_for(
        version: PolicyVersion,
        sources: &[PolicySource],
        protocols: &[ProtocolVerbs],
        targets: Option<&[TargetSpec]>,
    ) -> Result<Self, Vec<PolicyProblem>> {
        // Cedar's parser recurses, some 50 KB for each bracket when it is not optimised.
        stacker::grow(limits::POLICY_STACK_BYTES, || {
            Self::compile_here(version, sources, protocols, targets)
        })
    }

    fn compile_here(
        version: PolicyVersion,
        sources: &[PolicySource],
        protocols: &[ProtocolVerbs],
        targets: Option<&[TargetSpec]>,
    ) -> Result<Self, Vec<PolicyProblem>> {
        let actions = Actions::of(protocols).map_err(|error| own_fault(error.to_string()))?;
        let types = Types::new().map_err(own_fault)?;
        let compile = |is_wanted: &dyn Fn(&str) -> bool| -> Result<Compiled, Vec<PolicyProblem>> {
            let schema = schema::compile(&actions, is_wanted).map_err(own_fault)?;
            let checks = Checks { actions: &actions, types: &types, schema: &schema, targets };
            Ok(rules::compile(sources, &checks))
        };
        let is_named = |verb: &str| {
            let quoted = format!("\"{verb}\"");
            sources.iter().any(|source| source.cedar.contains(&quoted))
        };
        let mut compiled = compile(&is_named)?;
        if compiled.has_errors() {
            // A verb may be named in another way, such as by an escape.
            compiled = compile(&|_| true)?;
        }
        if compiled.has_errors() {
            return Err(compiled.problems);
        }
        let index = Index::of(&compiled.rules, &actions).map_err(own_fault)?;
        let mut fields = Fields::default();
        compiled.rules.values().for_each(|rule| fields.add(rule.fields));
        Ok(Self {
            version,
            actions: Arc::new(actions),
            types: Arc::new(types),
            rules: Arc::new(compiled.rules),
            index: Arc::new(index),
            fields,
            warnings: compiled.problems.into(),
            authorizer: Authorizer::new(),
            needs_stack: sources.iter().any(|source| depth::needs_stack(&source.cedar)),
        })
    }

    /// The same policies in another configuration, in which only people differ.
    #[must_use]
    pub fn at(&self, version: PolicyVersion) -> Self {
        Self { version, ..self.clone() }
    }

    #[must_use]
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// What compiled, but probably does not do what its author wants: a target that does not
    /// exist, a rule that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyProblem] {
        &self.warnings
    }

    /// What policy says of a statement: for the acting run, for each of its ancestors and for the
    /// principal, together.
    #[must_use]
    pub fn rule(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        facts: &Facts,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        self.stamp(&self.judge(subject, target, facts, context), decision_id)
    }

    /// Whether every run of a chain was granted what a statement needs, whatever policy says of it.
    /// [`Engine::rule`] asks this first.
    ///
    /// # Errors
    /// The [`Denial`] that the client reads.
    pub fn within_grants(&self, chain: &[RunNode], facts: &Facts) -> Result<(), Denial> {
        let needed = requirement::of(facts, &self.actions, &|_| false);
        let actions = needed.iter().map(|requirement| requirement.action);
        grant::refusal(&self.actions, chain, actions).map_or(Ok(()), Err)
    }

    /// Whether a run below `above` (root first) may be granted these actions.
    ///
    /// # Errors
    /// [`GrantError`]: whoever asks for them is to blame.
    pub fn check_grant(&self, above: &[RunNode], asked: &[String]) -> Result<(), GrantError> {
        grant::check(&self.actions, above, asked)
    }

    /// Whether a session may be opened. A connection cannot wait: what would be held is denied.
    #[must_use]
    pub fn may_connect(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        context: &Context,
        decision_id: String,
    ) -> Ruling {
        self.stamp(&self.judge_connect(subject, target, context), decision_id)
    }

    pub(crate) fn judge_connect(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        context: &Context,
    ) -> Judged {
        let needed = [requirement::on_target(CONNECT, Need::Permit)];
        let facts = Facts::default();
        let asked = Asked { subject, target, facts: &facts, context };
        let mut judged = self.judge_all(&asked, &needed);
        if let Verdict::Hold(terms) = &judged.verdict {
            let reasons: Vec<&str> = terms.iter().map(|term| term.reason.as_str()).collect();
            let text = format!("{} A connection cannot wait for an approval.", reasons.join(" "));
            let mut denial = Denial::new(DenialKind::Forbidden, text);
            denial.rules = judged.rules.to_vec();
            judged.verdict = Verdict::Deny(denial);
        }
        judged
    }

    /// Whether a masked column may be read raw. Asked when a session opens and when policy
    /// changes, so a rule on `unmask` should not depend on the time or on one statement.
    #[must_use]
    pub fn may_unmask(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        column: &ColumnName,
        context: &Context,
    ) -> bool {
        let resource =
            Resource::Column { schema: &column.schema, table: &column.table, name: &column.column };
        let needed = [Requirement { action: UNMASK, resource, need: Need::Permit }];
        let facts = Facts::default();
        let asked = Asked { subject, target, facts: &facts, context };
        self.judge_all(&asked, &needed).verdict == Verdict::Allow
    }

    /// The group of actions that a verb belongs to: `select` to `read`. None for what is none.
    #[must_use]
    pub fn group_of_action(&self, name: &str) -> Option<&'static str> {
        self.actions.group_of(name)
    }

    /// The fields that make equal statements of equal subjects differ.
    pub(crate) fn fields(&self) -> Fields {
        self.fields
    }

    pub(crate) fn actions(&self) -> &Actions {
        &self.actions
    }

    #[cfg(test)]
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }

    pub(crate) fn stamp(&self, judged: &Judged, decision_id: String) -> Ruling {
        let mut verdict = judged.verdict.clone();
        if let Verdict::Deny(denial) = &mut verdict {
            denial.decision_id = Some(decision_id.clone());
        }
        Ruling { decision_id, verdict, rules: judged.rules.clone(), policy_version: self.version }
    }

    pub(crate) fn judge(
        &self,
        subject: &Subject,
        target: &TargetFacts,
        facts: &Facts,
        context: &Context,
    ) -> Judged {
        if let Some(obstacle) = &facts.obstacle {
            return obstructed(obstacle);
        }
        let needed = self.needed(target, facts);
        self.judge_all(&Asked { subject, target, facts, context }, &needed)
    }

    /// What a statement needs; for each object only where some rule tells objects apart.
    pub(crate) fn needed<'a>(
        &self,
        target: &TargetFacts,
        facts: &'a Facts,
    ) -> Vec<Requirement<'a>> {
        let is_per_object = |action: &str| {
            self.index.bucket(action, target.name.as_str()).is_some_and(|bucket| bucket.at_objects)
        };
        requirement::of(facts, &self.actions, &is_per_object)
    }

    fn judge_all(&self, asked: &Asked<'_>, needed: &[Requirement<'_>]) -> Judged {
        if asked.is_too_much(needed) {
            return too_many_objects();
        }
        let actions = needed.iter().map(|requirement| requirement.action);
        if let Some(denial) = grant::refusal(&self.actions, &asked.subject.runs, actions) {
            return refused(denial);
        }
        self.with_stack(|| self.judge_needed(asked, needed))
    }

    /// Does `work` where there is stack enough to evaluate the longest rule. Cedar's evaluation
    /// recurses; where the stack ends it fails, and a failed rule denies.
    pub(crate) fn with_stack<R>(&self, work: impl FnOnce() -> R) -> R {
        if self.needs_stack { stacker::grow(limits::POLICY_STACK_BYTES, work) } else { work() }
    }

    fn judge_needed(&self, asked: &Asked<'_>, needed: &[Requirement<'_>]) -> Judged {
        let mut collector = Collector::default();
        let mut is_of_the_moment = false;
        if needed.iter().all(|requirement| self.bucket(asked.target, requirement).is_none()) {
            // No rule speaks of any of it: Cedar need not be asked to know that.
            for requirement in needed {
                self.collect(&mut collector, &Answer::default(), requirement, asked.facts);
            }
            return collector.judge(false);
        }
        let question = match self.question(asked, needed) {
            Ok(question) => question,
            Err(internal) => {
                collector.error(internal);
                return collector.judge(true);
            }
        };
        for requirement in needed {
            let bucket = self.bucket(asked.target, requirement);
            is_of_the_moment |= bucket.is_some_and(|bucket| bucket.fields.time);
            let tells_runs = bucket.is_some_and(|bucket| bucket.at_principal);
            let nodes = if tells_runs { question.nodes.len() } else { 1 };
            for node in question.nodes.iter().take(nodes) {
                match self.ask(&question, node, requirement, asked) {
                    Ok(answer) => {
                        self.collect(&mut collector, &answer, requirement, asked.facts);
                    }
                    Err(internal) => collector.error(internal),
                }
            }
        }
        collector.judge(is_of_the_moment)
    }

    fn collect(
        &self,
        collector: &mut Collector,
        answer: &Answer<'_>,
        requirement: &Requirement<'_>,
        facts: &Facts,
    ) {
        collector.add(
            answer,
            requirement.need == Need::Permit,
            || wording::not_permitted(&self.actions, requirement, facts),
            || wording::forbidden(requirement, facts),
        );
    }

    /// # Errors
    /// Cedar's own words; the caller denies.
    pub(crate) fn question<'a>(
        &'a self,
        asked: &Asked<'a>,
        needed: &'a [Requirement<'a>],
    ) -> Result<Question<'a>, String> {
        let parts = Parts {
            subject: asked.subject,
            target: asked.target,
            facts: asked.facts,
            context: asked.context,
            requirements: needed,
            fields: self.fields,
        };
        Question::new(&self.types, &self.actions, &parts)
    }

    fn bucket(&self, target: &TargetFacts, requirement: &Requirement<'_>) -> Option<&Bucket> {
        self.index.bucket(requirement.action, target.name.as_str())
    }

    /// The rules that apply to one node, action and resource.
    ///
    /// # Errors
    /// Cedar's own words; the caller denies.
    pub(crate) fn ask(
        &self,
        question: &Question<'_>,
        node: &Node,
        requirement: &Requirement<'_>,
        asked: &Asked<'_>,
    ) -> Result<Answer<'_>, String> {
        let mut answer = Answer::default();
        let Some(bucket) = self.bucket(asked.target, requirement) else { return Ok(answer) };
        let request = question.request(node, requirement)?;
        let mut errors: Vec<AuthorizationError> = Vec::new();
        let mut evaluate = |sets: &Sets| -> Vec<PolicyId> {
            let mut matching = Vec::new();
            for set in sets.for_groups(&asked.subject.groups) {
                let response = self.authorizer.is_authorized(&request, set, question.entities());
                matching.extend(response.diagnostics().reason().cloned());
                errors.extend(response.diagnostics().errors().cloned());
            }
            matching.sort();
            matching
        };
        let permits = evaluate(&bucket.permits);
        let forbids = evaluate(&bucket.forbids);
        answer.permits = permits.iter().filter_map(|id| self.rules.get(id)).collect();
        answer.forbids = forbids.iter().filter_map(|id| self.rules.get(id)).collect();
        answer.errors = errors
            .iter()
            .map(|error| match error {
                AuthorizationError::PolicyEvaluationError(inner) => {
                    (self.rules.get(inner.policy_id()), error.to_string())
                }
            })
            .collect();
        Ok(answer)
    }
}

/// One subject, target, statement and context.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) target: &'a TargetFacts,
    pub(crate) facts: &'a Facts,
    pub(crate) context: &'a Context,
}

impl Asked<'_> {
    pub(crate) fn is_too_much(&self, needed: &[Requirement<'_>]) -> bool {
        let chain_len = self.subject.runs.len().saturating_add(1);
        needed.len().saturating_mul(chain_len) > limits::DECISION_QUESTIONS_MAX
    }
}

fn obstructed(obstacle: &Obstacle) -> Judged {
    let kind = if obstacle.is_size { DenialKind::TooLarge } else { DenialKind::Forbidden };
    let mut denial = Denial::new(kind, obstacle.text.clone());
    denial.rules = vec![obstacle.rule.to_owned()];
    denial.position = obstacle.position;
    refused(denial)
}

fn refused(denial: Denial) -> Judged {
    let rules = denial.rules.as_slice().into();
    Judged { verdict: Verdict::Deny(denial), rules, is_of_the_moment: false }
}

fn too_many_objects() -> Judged {
    obstructed(&Obstacle {
        rule: "limits",
        text: "this statement uses more tables than can be judged at once".to_owned(),
        position: None,
        is_size: true,
    })
}

/// A problem that no policy's author can mend.
fn own_fault(text: String) -> Vec<PolicyProblem> {
    // The name below is a constant that `ResourceName` allows.
    let source = ResourceName::new("schema").into_iter();
    source
        .map(|source| PolicyProblem {
            source,
            line: 1,
            column: 1,
            severity: Severity::Error,
            text: text.clone(),
            help: None,
        })
        .collect()
}

/// Checks policies offline: syntax, schema, annotations. Without targets, so that targets that do
/// not exist are not found. Sorted by source and place; empty when all is well.
#[must_use]
pub fn check_sources(sources: &[PolicySource], protocols: &[ProtocolVerbs]) -> Vec<PolicyProblem> {
    match Engine::compile_for(PolicyVersion::default(), sources, protocols, None) {
        Ok(engine) => engine.warnings.to_vec(),
        Err(problems) => problems,
    }
}
