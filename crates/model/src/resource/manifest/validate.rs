//! What the types of a resource do not already enforce.

use std::net::SocketAddr;

use super::Invalid;
use crate::limits;
use crate::resource::{
    CommandSpec, CredentialKind, CredentialSpec, HumanDuration, IdentityProviderSpec, LimitSpec,
    LimitSubject, OidcSpec, ParsedAddress, PolicySpec, ProviderSecret, RelaySpec, Resource,
    RunLimits, SecretSource, TargetSpec, TargetTlsMode, TextSource, UserSpec, WorkloadSpec,
};
use crate::resource::{WorkloadSecret, command, poll, trust, webhook};

/// Everything that is wrong with a resource by itself. Whether its protocol exists, its policy
/// fits the schema or its sponsor is known is for the gateway to say.
#[must_use]
pub fn validate(resource: &Resource) -> Vec<Invalid> {
    let mut faults = Faults(Vec::new());
    match resource {
        Resource::Target(spec) => check_target(spec, &mut faults),
        Resource::User(spec) => check_user(spec, &mut faults),
        Resource::Workload(spec) => check_workload(spec, &mut faults),
        Resource::Policy(spec) => check_policy(spec, &mut faults),
        Resource::Limit(spec) => check_limit(spec, &mut faults),
        Resource::Command(spec) => check_command(spec, &mut faults),
        Resource::Relay(spec) => check_relay(spec, &mut faults),
        Resource::IdentityProvider(spec) => check_provider(spec, &mut faults),
    }
    faults.0
}

struct Faults(Vec<Invalid>);

impl Faults {
    fn add(&mut self, key: &str, text: impl Into<String>, help: &str) {
        let help = (!help.is_empty()).then(|| help.to_owned());
        self.0.push(Invalid { key: key.to_owned(), text: text.into(), help });
    }

    fn require_text(&mut self, key: &str, text: &str) {
        if text.trim().is_empty() {
            self.add(key, format!("{key} is empty"), "write a value or leave the key out");
        } else if text.contains('\0') {
            self.add(key, format!("{key} holds a NUL character"), "");
        }
    }
}

fn check_target(spec: &TargetSpec, faults: &mut Faults) {
    faults.require_text("protocol", &spec.protocol);
    if let Err(error) = spec.parsed_address() {
        faults.add(
            "address",
            error.to_string(),
            "write host:port, or the absolute directory of a Unix socket",
        );
    }
    if spec.relay.is_some() && matches!(spec.parsed_address(), Ok(ParsedAddress::Unix(_))) {
        faults.add("relay", "a Unix socket is not reached through a relay", "write host:port");
    }
    if let Some(database) = &spec.database {
        faults.require_text("database", database);
    }
    if let Some(tls) = &spec.tls {
        if tls.mode != TargetTlsMode::VerifyFull && tls.ca_file.is_some() {
            faults.add(
                "tls.ca_file",
                "a CA file is used with mode verify-full only",
                "write mode: verify-full, or leave ca_file out",
            );
        }
        if let Some(ca_file) = &tls.ca_file {
            faults.require_text("tls.ca_file", ca_file);
        }
    }
    if let Some(credential) = &spec.credential {
        check_credential("credential", credential, faults);
    }
    if let Some(credential) = &spec.masked_credential {
        check_credential("masked_credential", credential, faults);
        if spec.credential.is_none() {
            faults.add(
                "masked_credential",
                "masked_credential without credential",
                "add credential: it is what sessions use that may see masked columns",
            );
        }
    }
    for (key, value) in &spec.labels {
        check_label(key, value, faults);
    }
    for (index, classification) in spec.classify.iter().enumerate() {
        let at = format!("classify.{index}");
        if classification.columns.is_empty() {
            faults.add(&at, "no columns are classified here", "list schema.table.column");
        }
        faults.require_text(&format!("{at}.class"), &classification.class);
    }
    if let Some(listen) = &spec.listen {
        let address: Option<SocketAddr> = listen.parse().ok();
        if address.is_none() {
            faults.add(
                "listen",
                format!("'{listen}' is not an IP address with a port"),
                "write 127.0.0.1:5500 or [::1]:5500",
            );
        }
    }
}

fn check_label(key: &str, value: &str, faults: &mut Faults) {
    let is_plain = |text: &str| {
        !text.is_empty()
            && text.len() <= limits::NAME_BYTES_MAX
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    };
    if !is_plain(key) || !(value.is_empty() || is_plain(value)) {
        faults.add(
            &format!("labels.{key}"),
            format!("label '{key}' is not plain"),
            "labels and their values hold letters, digits, '-', '_', '.' and '/'",
        );
    }
}

fn check_credential(key: &str, credential: &CredentialSpec, faults: &mut Faults) {
    let names_itself =
        matches!(credential.kind(), CredentialKind::Token | CredentialKind::ClientKey);
    if !names_itself || !credential.username.is_empty() {
        faults.require_text(&format!("{key}.username"), &credential.username);
    }
    for (kind, source) in credential.secrets() {
        check_secret(&format!("{key}.{}", kind.word()), kind, source, faults);
    }
    let written: Vec<&str> = credential.secrets().map(|(kind, _)| kind.word()).collect();
    if written.len() > 1 || (credential.issued && !written.is_empty()) {
        let text = format!("{key} has more than one secret: {}", written.join(", "));
        faults.add(key, text, "write one of password, private_key, token, client_key and issued");
    }
    if credential.client_certificate.is_some() && credential.kind() != CredentialKind::ClientKey {
        let at = format!("{key}.client_certificate");
        faults.add(&at, "a client certificate needs its key", "add client_key");
    }
}

fn check_secret(key: &str, kind: CredentialKind, source: &SecretSource, faults: &mut Faults) {
    let (text, name) = match source {
        SecretSource::Value(text) => (text, "value"),
        SecretSource::Env(text) => (text, "env"),
        SecretSource::File(text) => (text, "file"),
    };
    if text.is_empty() {
        faults.add(key, format!("{key} has an empty {name}"), "leave the key out for no secret");
    }
    let max = match kind {
        CredentialKind::Password => limits::PASSWORD_BYTES_MAX,
        CredentialKind::PrivateKey | CredentialKind::Token | CredentialKind::ClientKey => {
            limits::CREDENTIAL_BYTES_MAX
        }
    };
    if text.len() > max {
        faults.add(key, format!("{key} is longer than {max} bytes"), "");
    }
}

fn check_groups(groups: &[crate::ids::GroupName], faults: &mut Faults) {
    for (index, group) in groups.iter().enumerate() {
        let is_repeated = groups.iter().take(index).any(|earlier| earlier == group);
        if is_repeated {
            faults.add(&format!("groups.{index}"), format!("group '{group}' stands twice"), "");
        }
    }
}

fn check_user(spec: &UserSpec, faults: &mut Faults) {
    if spec.groups.len() > limits::GROUPS_MAX {
        let text = format!("{} groups; at most {}", spec.groups.len(), limits::GROUPS_MAX);
        faults.add("groups", text, "");
    } else {
        check_groups(&spec.groups, faults);
    }
    for (name, id) in &spec.accounts {
        let key = format!("accounts.{name}");
        faults.require_text(&key, id);
        if id.len() > limits::NAME_BYTES_MAX {
            faults.add(&key, "this account is too long", "");
        }
    }
    if let Some(password) = &spec.password {
        check_secret("password", CredentialKind::Password, password, faults);
        if spec.provider.is_some() {
            faults.add(
                "password",
                "a person with a provider has no password here",
                "leave out password, or provider for a local account",
            );
        }
    }
}

fn check_provider(spec: &IdentityProviderSpec, faults: &mut Faults) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !spec.name.as_str().chars().all(is_plain) {
        let text = "the name of an identity provider is part of addresses";
        faults.add("name", text, "use letters, digits, '-', '_' and '.'");
    }
    match (&spec.oidc, &spec.saml) {
        (None, None) => {
            faults.add("name", "this identity provider speaks nothing", "add oidc or saml");
        }
        (Some(_), Some(_)) => {
            faults.add("saml", "one provider has both oidc and saml", "make two of it");
        }
        (Some(oidc), None) => check_oidc(oidc, faults),
        (None, Some(saml)) => {
            let (TextSource::Inline(text) | TextSource::File { file: text }) = &saml.metadata;
            faults.require_text("saml.metadata", text);
            for (key, text) in [
                ("saml.user_attribute", &saml.user_attribute),
                ("saml.groups_attribute", &saml.groups_attribute),
            ] {
                if let Some(text) = text {
                    faults.require_text(key, text);
                }
            }
        }
    }
    for theirs in spec.groups.keys() {
        faults.require_text("groups", theirs);
    }
    let max = limits::GROUPS_MAX;
    if spec.groups.len() > max {
        let text = format!("groups has {} entries; at most {max}", spec.groups.len());
        faults.add("groups", text, "");
    }
    if let Some(signals) = &spec.signals {
        check_web_address("signals.issuer", &signals.issuer, faults);
        check_web_address("signals.jwks_uri", &signals.jwks_uri, faults);
        faults.require_text("signals.audience", &signals.audience);
    }
    for which in ProviderSecret::ALL {
        if let Some(secret) = spec.secret(which) {
            check_secret(which.key(), CredentialKind::Token, secret, faults);
        }
    }
}

fn check_oidc(oidc: &OidcSpec, faults: &mut Faults) {
    check_web_address("oidc.issuer", &oidc.issuer, faults);
    for (key, text) in [("oidc.client_id", &oidc.client_id), ("oidc.user_claim", &oidc.user_claim)]
    {
        faults.require_text(key, text);
    }
    let optional = [
        ("oidc.groups_claim", &oidc.groups_claim),
        ("oidc.ca_file", &oidc.ca_file),
        ("oidc.prompt", &oidc.prompt),
    ];
    for (key, text) in optional {
        if let Some(text) = text {
            faults.require_text(key, text);
        }
    }
    if !oidc.scopes.iter().any(|scope| scope == "openid") {
        let text = "oidc.scopes is without openid, so there would be no ID token";
        faults.add("oidc.scopes", text, "write [openid, email, profile]");
    }
    for (index, scope) in oidc.scopes.iter().enumerate() {
        // RFC 6749 section 3.3.
        let is_scope = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        if scope.is_empty() || !scope.chars().all(is_scope) {
            faults.add(&format!("oidc.scopes.{index}"), format!("'{scope}' is not a scope"), "");
        }
    }
}

/// An address of somebody else's: encrypted, unless it is on this machine.
fn check_web_address(key: &str, text: &str, faults: &mut Faults) {
    let has_host = |rest: &str| rest.chars().next().is_some_and(|c| c != '/');
    let is_sound = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => has_host(rest),
        (None, Some(rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            let host = match authority.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
                Some(_) | None => authority,
            };
            matches!(host, "127.0.0.1" | "localhost" | "[::1]")
        }
        (None, None) => false,
    };
    let is_plain = text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '#' | '?' | '@'));
    if !is_sound || !is_plain || text.len() > limits::URL_BYTES_MAX {
        faults.add(
            key,
            format!("{key} is not an https address without query and fragment"),
            "write https://HOST/PATH; http is for addresses on loopback only",
        );
    }
}

fn check_workload(spec: &WorkloadSpec, faults: &mut Faults) {
    check_groups(&spec.groups, faults);
    check_trust(spec, faults);
    if spec.sponsor.as_ref() == Some(&spec.name) {
        faults.add(
            "sponsor",
            "a workload cannot be its own sponsor",
            "name the person who answers for it",
        );
    }
    if let Some(secret) = &spec.secret {
        check_secret("secret", CredentialKind::Password, secret, faults);
    }
    for which in WorkloadSecret::ALL {
        if let Some(secret) = spec.secret_of(which) {
            check_secret(which.key(), CredentialKind::Password, secret, faults);
        }
    }
    if let Some(poll) = &spec.poll {
        check_duration("poll.every", poll.every, faults);
        check_web_address("poll.api", &poll.api, faults);
    }
    for (key, text, help) in webhook::faults(spec).into_iter().chain(poll::faults(spec)) {
        faults.add(key, text, help);
    }
}

fn check_trust(spec: &WorkloadSpec, faults: &mut Faults) {
    if spec.trust.len() > limits::TRUST_RULES_MAX {
        let text = format!("trust has more than {} rules", limits::TRUST_RULES_MAX);
        faults.add("trust", text, "use several workloads");
    }
    for (index, rule) in spec.trust.iter().enumerate() {
        for (key, text, help) in trust::faults(rule) {
            faults.add(&format!("trust.{index}.{key}"), text, help);
        }
    }
    // Whatever it runs, somebody answers for it.
    let finds_person = |rule: &trust::TrustRule| rule.names_person();
    let is_answered_for = spec.sponsor.is_some()
        || (spec.secret.is_none() && !spec.trust.is_empty() && spec.trust.iter().all(finds_person));
    if !is_answered_for {
        faults.add(
            "sponsor",
            "nobody answers for this workload",
            "name its sponsor; only rules of trust that find a person (sponsor_claim, or platform \
             github, gitlab or circleci) do without",
        );
    }
}

fn check_policy(spec: &PolicySpec, faults: &mut Faults) {
    match &spec.cedar {
        TextSource::Inline(text) | TextSource::File { file: text } => {
            faults.require_text("cedar", text);
        }
    }
}

fn check_limit(spec: &LimitSpec, faults: &mut Faults) {
    if spec.subject == LimitSubject::Any(false) {
        faults.add("subject", "subject any: false matches nobody", "write any: true");
    }
    if let Some(target) = &spec.target {
        match (&target.name, &target.label) {
            (None, None) => faults.add(
                "target",
                "target names nothing",
                "write {name: TARGET} or {label: key=value}, or leave target out",
            ),
            (Some(_), Some(_)) => faults.add(
                "target",
                "target has both name and label",
                "write {name: TARGET} or {label: key=value}",
            ),
            (None, Some(label)) if !is_label_pair(label) => faults.add(
                "target.label",
                format!("'{label}' is not a label"),
                "write key=value, such as env=prod",
            ),
            (Some(_), None) | (None, Some(_)) => {}
        }
    }
    let has_run_limit = spec.run.as_ref().is_some_and(|run| *run != RunLimits::default());
    let has_limit = spec.sessions_max.is_some()
        || spec.session_ttl.is_some()
        || spec.idle_timeout.is_some()
        || has_run_limit;
    if !has_limit {
        faults.add(
            "name",
            "this Limit limits nothing",
            "add sessions_max, session_ttl, idle_timeout or run",
        );
    }
    check_duration("session_ttl", spec.session_ttl, faults);
    check_duration("idle_timeout", spec.idle_timeout, faults);
    if let Some(run) = &spec.run {
        check_run_limits(run, faults);
    }
}

fn check_command(spec: &CommandSpec, faults: &mut Faults) {
    for (key, value) in &spec.labels {
        check_label(key, value, faults);
    }
    if let Some(description) = &spec.description {
        faults.require_text("description", description);
    }
    for (key, text, help) in command::faults(spec) {
        faults.add(&key, text, help);
    }
}

fn check_relay(spec: &RelaySpec, faults: &mut Faults) {
    let max = limits::RELAY_ADDRESSES_MAX;
    if spec.addresses.is_empty() {
        let help = "list what it may dial, such as db.internal:5432";
        faults.add("addresses", "this relay may dial nothing", help);
    }
    if spec.addresses.len() > max {
        let text = format!("addresses has {} entries; at most {max}", spec.addresses.len());
        faults.add("addresses", text, "write networks or '*.domain', or use several relays");
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        if spec.addresses.iter().take(index).any(|earlier| earlier == address) {
            faults.add(&format!("addresses.{index}"), format!("'{address}' stands twice"), "");
        }
    }
}

fn is_label_pair(label: &str) -> bool {
    label.split_once('=').is_some_and(|(key, _)| !key.is_empty())
}

fn check_run_limits(run: &RunLimits, faults: &mut Faults) {
    check_duration("run.ttl_max", run.ttl_max, faults);
    if run.ttl_max.is_some_and(|ttl| ttl.0 > limits::RUN_TTL_MAX) {
        let max = HumanDuration(limits::RUN_TTL_MAX);
        faults.add("run.ttl_max", format!("run.ttl_max is above {max}"), "write 24h or less");
    }
    check_duration("run.wall_time_max", run.wall_time_max, faults);
    if run.depth_max.is_some_and(|depth| depth > limits::RUN_DEPTH_MAX) {
        let max = limits::RUN_DEPTH_MAX;
        faults.add("run.depth_max", format!("run.depth_max is above {max}"), "");
    }
}

fn check_duration(key: &str, duration: Option<HumanDuration>, faults: &mut Faults) {
    let second = std::time::Duration::from_secs(1);
    if duration.is_some_and(|duration| duration.0 < second) {
        faults.add(key, format!("{key} is shorter than a second"), "write 1s or more, such as 30m");
    }
}
