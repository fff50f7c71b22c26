//! What one session may ask: rulings, approvals, budgets, its place in the record.

use std::sync::Arc;

use corral_gate::budget::Ticket;
use corral_gate::policy::{Context, SessionDecisions};
use corral_gate::{Denial, DenialKind, Rights, Ruling, Tap, TapError, Verdict};
use corral_model::event::CloseReason;
use corral_model::ids::{ApprovalId, PolicyVersion, SessionId, StatementSeq};
use corral_model::resource::CommandSpec;
use corral_model::statement::Facts;
use corral_model::{ObjectRef, Statement};
use corral_record::SessionTap;
use corral_session::scope::BoxFuture;
use corral_session::{Scope, Totals, Usage};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::App;
use super::admit::Entry;
use super::config::{Config, Target};
use super::live::sessions::LiveSession;

/// A place in every limit, given back when it is dropped.
pub(crate) struct TicketHolder {
    app: Arc<App>,
    ticket: Option<Ticket>,
}

impl TicketHolder {
    pub(crate) fn new(app: Arc<App>, ticket: Ticket) -> Self {
        Self { app, ticket: Some(ticket) }
    }
}

impl Drop for TicketHolder {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.app.live.ledger().close(ticket);
        }
    }
}

/// The configuration as this session last saw it.
struct View {
    config: Arc<Config>,
    target: Arc<Target>,
}

/// All that one session may touch.
pub(crate) struct SessionScope {
    app: Arc<App>,
    session: Arc<LiveSession>,
    view: View,
    decisions: SessionDecisions,
    context: Context,
    told: Told,
    /// As the protocol was told.
    commands: Arc<[CommandSpec]>,
    /// Verbs that this session's run is known to have used.
    verbs: Vec<&'static str>,
    tap: SessionTap,
    /// Released last: fields are dropped in order, and the place is free once the rest is gone.
    _place: Place,
}

/// What the protocol was told.
struct Told {
    rights: Rights,
    version: PolicyVersion,
}

/// A session's place in the list of sessions and in every limit.
pub(crate) struct Place {
    app: Arc<App>,
    session: Arc<LiveSession>,
    _ticket: TicketHolder,
}

impl Place {
    pub(crate) fn new(app: Arc<App>, session: Arc<LiveSession>, ticket: TicketHolder) -> Self {
        Self { app, session, _ticket: ticket }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.live.sessions().remove(&self.session.id);
        self.app.withdraw_all_of(&self.session);
    }
}

impl SessionScope {
    pub(crate) fn new(
        app: Arc<App>,
        entry: &Entry,
        place: Place,
        rights: &Rights,
        tap: SessionTap,
    ) -> Self {
        Self {
            session: place.session.clone(),
            commands: entry.target.commands.clone(),
            verbs: Vec::new(),
            view: View { config: entry.config.clone(), target: entry.target.clone() },
            decisions: SessionDecisions::new(entry.subject.clone(), entry.target.facts.clone()),
            context: entry.context.clone(),
            told: Told { rights: rights.clone(), version: entry.config.version },
            tap,
            _place: place,
            app,
        }
    }

    /// Takes over the newest configuration. An error when this session has no place in it.
    fn renew(&mut self) -> Result<(), Denial> {
        // Reading the number touches nothing that other threads write to.
        if self.app.version() == self.view.config.version {
            return Ok(());
        }
        let config = self.app.config();
        let ended = |text: &str| Denial::new(DenialKind::Ended, text);
        let standing = config
            .standing_under(&self.session.principal, &self.session.sponsor)
            .map_err(|_| ended("this session's principal is no longer active"))?;
        let target = config
            .targets
            .get(&self.session.target)
            .cloned()
            .ok_or_else(|| ended("this session's target was removed"))?;
        let mut subject = (**self.decisions.subject()).clone();
        subject.groups = standing.groups;
        self.decisions.renew(Arc::new(subject), target.facts.clone());
        self.view = View { config, target };
        Ok(())
    }

    /// Whether this session may still act at all.
    fn check_alive(&mut self) -> Result<(), Denial> {
        let now = Instant::now();
        let is_run_live = self.session.run.as_ref().is_none_or(|run| run.is_live(now));
        if self.session.activity.is_ending() || !is_run_live {
            return Err(Denial::new(DenialKind::Ended, "this session has ended"));
        }
        self.app.check_authority_at(now)?;
        self.renew()
    }

    fn ask(&mut self, statement: &Statement) -> Ruling {
        let seq = statement.seq.0;
        let decision_id = decision_id(&self.session.id, seq);
        if let Err(denial) = self.check_alive() {
            return self.refuse(decision_id, denial);
        }
        if let Err(denial) = self.check_commands(statement) {
            return self.refuse(decision_id, denial);
        }
        let context = Context {
            in_transaction: statement.in_transaction,
            time: OffsetDateTime::now_utc(),
            ..self.context.clone()
        };
        let engine = &self.view.config.engine;
        self.decisions.rule(engine, &self.app.decisions, &statement.facts, &context, decision_id)
    }

    /// The session was told its target's commands when it opened; one that changed since must not
    /// run as it was.
    fn check_commands(&self, statement: &Statement) -> Result<(), Denial> {
        let is_command = |object: &&ObjectRef| object.kind == "command";
        for object in statement.facts.objects.iter().filter(is_command) {
            let find = |commands: &[CommandSpec]| {
                commands.iter().find(|command| command.name.as_str() == object.name).cloned()
            };
            if find(&self.commands) != find(&self.view.target.commands) {
                let name = &object.name;
                let text = format!("the command '{name}' was changed; open another session");
                return Err(Denial::new(DenialKind::Forbidden, text));
            }
        }
        Ok(())
    }

    fn refuse(&self, decision_id: String, mut denial: Denial) -> Ruling {
        denial.decision_id = Some(decision_id.clone());
        Ruling {
            decision_id,
            rules: denial.rules.as_slice().into(),
            verdict: Verdict::Deny(denial),
            policy_version: self.view.config.version,
        }
    }

    /// Charges one allowed statement to the run and its ancestors.
    fn charge_statement(&mut self, ruling: Ruling, facts: &Facts) -> Ruling {
        let Some(run) = self.session.run.clone() else { return ruling };
        match run.budget().charge_statement(facts.effects, facts.statement_count) {
            Ok(()) => {
                for verb in facts.verbs.iter().filter(|verb| verb.effect.is_some()) {
                    if !self.verbs.contains(&verb.name) {
                        self.verbs.push(verb.name);
                        run.acted(verb.name);
                    }
                }
                ruling
            }
            Err(spent) => {
                self.app.budget_spent(&spent);
                self.refuse(ruling.decision_id, Denial::from(spent))
            }
        }
    }
}

/// `SESSION.SEQ`.
fn decision_id(session: &SessionId, seq: u64) -> String {
    let mut digits = itoa::Buffer::new();
    [session.as_str(), ".", digits.format(seq)].concat()
}

impl Scope for SessionScope {
    fn tap(&mut self) -> &mut dyn Tap {
        &mut self.tap
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<(), TapError>> {
        Box::pin(self.tap.sync())
    }

    fn rule(&mut self, statement: &Statement) -> Ruling {
        self.session.activity.count_statement();
        let ruling = self.ask(statement);
        let ruling = match &ruling.verdict {
            Verdict::Allow => self.charge_statement(ruling, &statement.facts),
            Verdict::Deny(_) | Verdict::Hold(_) => ruling,
        };
        self.app.metrics.statement_decided(&ruling.verdict);
        ruling
    }

    fn check(&mut self, statement: &Statement) -> Ruling {
        self.ask(statement)
    }

    fn hold<'a>(
        &'a mut self,
        statement: &'a Statement,
        ruling: &'a Ruling,
    ) -> BoxFuture<'a, Result<(ApprovalId, String), Denial>> {
        let app = self.app.clone();
        let session = self.session.clone();
        let meaning = self.view.target.meaning.clone();
        Box::pin(async move { app.file_approval(&session, statement, ruling, &meaning).await })
    }

    fn rule_approved(&mut self, statement: &Statement, approval: &ApprovalId) -> Ruling {
        self.session.activity.wait_for(None);
        let ruling = self.ask(statement);
        let meaning = self.view.target.meaning.clone();
        let used = self.app.use_approval(&self.session, statement, approval, &meaning);
        let ruling = match (used, &ruling.verdict) {
            (_, Verdict::Deny(_)) => ruling,
            (Err(denial), Verdict::Allow | Verdict::Hold(_)) => {
                self.refuse(ruling.decision_id, denial)
            }
            (Ok(_), Verdict::Allow) => self.charge_statement(ruling, &statement.facts),
            (Ok(waiting), Verdict::Hold(terms)) if waiting.covers(terms) => {
                let ruling = Ruling { verdict: Verdict::Allow, ..ruling };
                self.charge_statement(ruling, &statement.facts)
            }
            (Ok(_), Verdict::Hold(_)) => {
                let text = "the policy asks for more than was approved; send it again";
                self.refuse(ruling.decision_id, Denial::new(DenialKind::ApprovalDenied, text))
            }
        };
        self.app.metrics.statement_decided(&ruling.verdict);
        ruling
    }

    fn withdraw(&mut self, approval: &ApprovalId, _seq: StatementSeq) {
        self.session.activity.wait_for(None);
        self.app.withdraw_approval(approval);
    }

    fn charge(&mut self, usage: Usage) -> Result<(), Denial> {
        self.session.activity.count(usage);
        self.app.metrics.moved(usage);
        let Some(run) = &self.session.run else { return Ok(()) };
        let bytes = usage.bytes_to_client.saturating_add(usage.bytes_to_target);
        run.budget().charge(usage.rows, bytes).map_err(|spent| {
            self.app.budget_spent(&spent);
            Denial::from(spent)
        })
    }

    fn rights_changed(&mut self) -> Option<Rights> {
        if self.app.version() == self.told.version {
            return None;
        }
        if let Err(denial) = self.renew() {
            // Whoever changed the configuration ends this session too; whichever comes first.
            self.session.end(CloseReason::Disabled, denial);
            return None;
        }
        self.told.version = self.view.config.version;
        let subject = self.decisions.subject().clone();
        let context = Context { time: OffsetDateTime::now_utc(), ..self.context.clone() };
        let View { config, target } = &self.view;
        let rights = config.rights(&self.app.decisions, &subject, target, &context);
        if rights == self.told.rights {
            return None;
        }
        self.told.rights = rights.clone();
        Some(rights)
    }

    fn opened(&mut self, cancel_key: Vec<u8>) {
        self.session.activity.opened();
        self.app.live.sessions().opened(&self.session.id, cancel_key);
    }

    fn close(mut self: Box<Self>, reason: CloseReason, totals: Totals) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let at = OffsetDateTime::now_utc();
            let recorded = corral_record::Totals {
                statements: totals.statements,
                rows: totals.rows,
                bytes_to_client: totals.bytes_to_client,
                bytes_to_target: totals.bytes_to_target,
                duration_ms: u64::try_from(totals.duration.as_millis()).unwrap_or(u64::MAX),
            };
            if let Err(error) = self.tap.close(at, reason, recorded) {
                tracing::warn!(session = %self.session.id, %error, "its end is written later");
            }
            self.app.metrics.session_closed(reason);
        })
    }
}
