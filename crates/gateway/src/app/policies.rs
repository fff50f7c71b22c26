//! Policies: checking a text, explaining a decision.

use std::sync::Arc;

use corral_gate::Verdict;
use corral_gate::policy::{
    Context, PolicySource, RunNode, Subject, TargetFacts, check_sources, schema_text,
};
use corral_model::event::EventBody;
use corral_model::ids::{PolicyVersion, PrincipalName, ResourceName};
use corral_model::statement::{Attribute, Facts};
use corral_model::{Event, limits};

use super::audit::EventFilter;
use super::config::{Config, problem_of_policy};
use super::live::runs::attribution_of;
use super::{App, AppError, Caller, Problem};
use crate::protocols;

/// Why something was decided, and what the present policy would say.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The `statement.decided` (or `session.refused`) entry of the record.
    pub event: Event,
    /// The rules that determined it, with their reasons, as far as they still stand.
    pub rules: Vec<ExplainedRule>,
    pub version_now: PolicyVersion,
    /// The same facts asked again; None when the principal, run or target is gone.
    pub verdict_now: Option<Verdict>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedRule {
    pub id: String,
    /// `permit`, `forbid`, `approval` or `error` of the policies in use; `then` for a rule that
    /// decided and does not apply any more.
    pub effect: String,
    pub reason: Option<String>,
    /// Name of the `Policy` that holds it.
    pub policy: Option<String>,
}

impl App {
    /// Checks Cedar texts (name, text) against the schema of this gateway's protocols, without
    /// storing them. An empty list means that they are right.
    ///
    /// # Errors
    /// [`AppError::Denied`] for a run.
    pub fn check_policies(
        &self,
        caller: &Caller,
        policies: &[(String, String)],
    ) -> Result<Vec<Problem>, AppError> {
        if matches!(caller, Caller::Run { .. }) {
            return Err(AppError::Denied("a run does not check policies".to_owned()));
        }
        let mut problems: Vec<Problem> = Vec::new();
        let mut sources: Vec<PolicySource> = Vec::new();
        for (name, cedar) in policies {
            match ResourceName::new(name.clone()) {
                Ok(name) => sources.push(PolicySource { name, cedar: cedar.clone() }),
                Err(error) => problems.push(Problem::new(Some(name.clone()), error.to_string())),
            }
        }
        let found = check_sources(&sources, &protocols::verbs());
        problems.extend(found.iter().map(|problem| {
            let mut problem = problem_of_policy(problem);
            problem.resource = problem.resource.map(|name| name.replacen("Policy/", "", 1));
            problem
        }));
        Ok(problems)
    }

    /// Explains the decision with this id, from the record.
    ///
    /// # Errors
    /// [`AppError::NotFound`], also when the caller may not see its session.
    pub async fn explain(
        &self,
        caller: &Caller,
        decision_id: &str,
    ) -> Result<Explanation, AppError> {
        let not_found = || AppError::NotFound { kind: "decision", name: decision_id.to_owned() };
        // A statement's decision is named after its session; others are found by their text.
        let events = match decision_id.rsplit_once('.') {
            Some((session, _)) => {
                self.replay(caller, session).await.map_err(|error| match error {
                    AppError::NotFound { .. } => not_found(),
                    other => other,
                })?
            }
            None => {
                let filter = EventFilter {
                    event: Some("session.refused".to_owned()),
                    text: Some(decision_id.to_owned()),
                    ..EventFilter::default()
                };
                self.search_events(caller, filter).await?
            }
        };
        let is_it = |event: &Event| match &event.body {
            EventBody::StatementDecided { decision, .. } => decision == decision_id,
            EventBody::SessionRefused { reason, .. } => reason.contains(decision_id),
            _ => false,
        };
        // A statement that was approved was decided twice: the last one is what happened.
        let event = events.into_iter().rfind(is_it).ok_or_else(not_found)?;
        let config = self.config();
        let asked = self.asked_again(&config, &event).await?;
        let (rules, verdict_now) = match asked {
            Some(asked) => asked.answer(&config, &event),
            None => (named_rules(&event), None),
        };
        Ok(Explanation { event, rules, version_now: config.version, verdict_now })
    }

    /// Who asked, where and what, as far as they still exist.
    async fn asked_again(
        &self,
        config: &Config,
        event: &Event,
    ) -> Result<Option<AskedAgain>, AppError> {
        let origin = &event.origin;
        let principal = origin.principal.as_ref().and_then(|name| config.principal(name));
        let target = origin.target.as_ref().and_then(|name| config.targets.get(name));
        let (Some(principal), Some(target)) = (principal, target) else { return Ok(None) };
        let sponsor = origin.sponsor.as_ref().and_then(|name| PrincipalName::new(name).ok());
        let standing = match &sponsor {
            Some(sponsor) => config.standing_under(&principal, sponsor),
            None => config.standing(&principal),
        };
        let Ok(standing) = standing else { return Ok(None) };
        let mut runs: Vec<RunNode> = Vec::new();
        let mut next = origin.run.clone();
        while let Some(id) = next.take() {
            let Some(run) = self.store.run(&id).await? else { return Ok(None) };
            let attribution = attribution_of(&run);
            runs.push(RunNode { id: run.id, name: run.name, attribution, actions: run.actions });
            next = run.parent.filter(|_| runs.len() <= usize_of(limits::RUN_DEPTH_MAX));
        }
        runs.reverse();
        let subject = Subject { principal, groups: standing.groups, runs };
        let (facts, in_transaction) = match &event.body {
            EventBody::StatementDecided {
                verbs,
                effects,
                objects,
                functions,
                in_transaction,
                attributes,
                ..
            } => {
                let known = protocols::find(&target.spec.protocol);
                let spec = known.map(|protocol| *protocol.spec());
                let known = spec.map(|spec| spec.verbs).unwrap_or_default();
                let verb = |name: &String| known.iter().find(|verb| verb.name == name).copied();
                let fields = spec.map(|spec| spec.attributes).unwrap_or_default();
                let field = |(name, value): (&String, &Attribute)| {
                    let known = fields.iter().find(|field| field.name == name)?;
                    Some((known.name, value.clone()))
                };
                let facts = Facts {
                    verbs: verbs.iter().filter_map(verb).collect(),
                    effects: *effects,
                    objects: objects.clone(),
                    functions: functions.clone(),
                    statement_count: 1,
                    obstacle: None,
                    is_masked: false,
                    attributes: attributes.iter().filter_map(field).collect(),
                };
                (Some(facts), *in_transaction)
            }
            _ => (None, false),
        };
        let context = Context { in_transaction, time: event.time, tls: true, source_ip: None };
        Ok(Some(AskedAgain { subject, target: target.facts.clone(), facts, context }))
    }

    /// The Cedar schema that policies are checked against, in Cedar's own syntax.
    #[must_use]
    pub fn policy_schema(&self) -> String {
        schema_text(&protocols::verbs())
    }
}

/// A decision's question, to be asked of the policies in use.
struct AskedAgain {
    subject: Subject,
    target: Arc<TargetFacts>,
    /// None: the question was whether a session may be opened.
    facts: Option<Facts>,
    context: Context,
}

impl AskedAgain {
    fn answer(&self, config: &Config, event: &Event) -> (Vec<ExplainedRule>, Option<Verdict>) {
        let engine = &config.engine;
        let id = String::new();
        let Some(facts) = &self.facts else {
            let ruling = engine.may_connect(&self.subject, &self.target, &self.context, id);
            return (named_rules(event), Some(ruling.verdict));
        };
        let ruling = engine.rule(&self.subject, &self.target, facts, &self.context, id);
        let steps = engine.explain(&self.subject, &self.target, facts, &self.context).steps;
        let mut rules: Vec<ExplainedRule> = Vec::new();
        for rule in steps.into_iter().flat_map(|step| step.rules) {
            let explained = ExplainedRule {
                id: rule.rule,
                effect: rule.effect,
                reason: rule.reason,
                policy: Some(format!("{}:{}", rule.source, rule.line)),
            };
            if !rules.contains(&explained) {
                rules.push(explained);
            }
        }
        for named in named_rules(event) {
            if !rules.iter().any(|rule| rule.id == named.id) {
                rules.push(named);
            }
        }
        (rules, Some(ruling.verdict))
    }
}

/// The rules that the event names, when more cannot be said of them.
fn named_rules(event: &Event) -> Vec<ExplainedRule> {
    let EventBody::StatementDecided { rules, reason, .. } = &event.body else {
        return Vec::new();
    };
    let named = |id: &String| ExplainedRule {
        id: id.clone(),
        effect: "then".to_owned(),
        reason: reason.clone(),
        policy: None,
    };
    rules.iter().map(named).collect()
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
