//! The resource kinds of CONTRACT section 3, as they are applied, stored and shown.
//!
//! A manifest names where a secret is ([`SecretSource`]). The command that applies it reads the
//! secret and sends it as [`SecretSource::Value`]; the gateway seals it and keeps the spec
//! without it, so that a stored or shown spec never holds one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, PrincipalName, ResourceName, TargetName};
use crate::principal::OffboardCause;

mod address;
mod command;
mod credential;
mod identity_provider;
pub mod manifest;
mod poll;
pub mod relay;
mod secret_source;
pub mod trust;
mod webhook;

pub use address::{AddressError, ParsedAddress};
pub use command::{
    CommandSpec, IntegerRange, ParameterSpec, Template, TemplateError, TemplatePart,
    is_parameter_name,
};
pub use credential::{CredentialKind, CredentialSpec};
pub use identity_provider::{
    EMAIL_CLAIM, FirstSignIn, IdentityProviderSpec, OidcSpec, ProviderSecret, SamlSpec, ScimSpec,
    SignalsSpec,
};
pub use poll::PollSpec;
pub use relay::RelaySpec;
pub use trust::{Job, JobApiKind, OneOrMany, PersonClue, Platform, TrustRule};
pub use webhook::WebhookSpec;

/// Where a manifest says that a secret is. `Debug` does not show a value.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// In the manifest itself.
    Value(String),
    /// In this environment variable of the command that applies it.
    Env(String),
    /// In this file, without its last line break, relative to the manifest.
    File(String),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::Env(name) => write!(f, "Env({name:?})"),
            Self::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// A text that stands in the manifest or in a file beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TextSource {
    Inline(String),
    File { file: String },
}

impl<'de> Deserialize<'de> for TextSource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextSourceVisitor)
    }
}

struct TextSourceVisitor;

impl<'de> serde::de::Visitor<'de> for TextSourceVisitor {
    type Value = TextSource;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, or {file: PATH}")
    }

    fn visit_str<E>(self, text: &str) -> Result<TextSource, E> {
        Ok(TextSource::Inline(text.to_owned()))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<TextSource, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct InFile {
            file: String,
        }
        let InFile { file } =
            Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(TextSource::File { file })
    }
}

/// A database, cluster, host or API that is reached through the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    pub name: TargetName,
    /// Name of a protocol that the gateway lists.
    pub protocol: String,
    /// `host:port`, or the directory of a Unix socket.
    pub address: String,
    /// The relay through which it is reached; the gateway itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<ResourceName>,
    /// The default database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialSpec>,
    /// The database floor: a login that has no right to the masked columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked_credential: Option<CredentialSpec>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classify: Vec<Classification>,
    #[serde(default)]
    pub record: RecordSpec,
    /// A listener for this target alone, `address:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// What only the target's protocol knows; it checks and reads them.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// TLS from the gateway to a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTls {
    pub mode: TargetTlsMode,
    /// Certificates that are trusted, PEM; the system's when absent. In a manifest a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// How sure the gateway must be of whom it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetTlsMode {
    Disable,
    /// Encrypted, without a check of the certificate.
    Require,
    VerifyFull,
}

/// Columns that are masked for everybody who may not `unmask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// `schema.table.column`.
    pub columns: Vec<ColumnName>,
    /// A label for people, such as `pii`.
    pub class: String,
}

/// `schema.table.column`; a name that needs it is written in double quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnName {
    pub schema: String,
    pub table: String,
    pub column: String,
}

impl ColumnName {
    /// Reads `schema.table.column`. Unquoted parts are folded to lower case, as SQL does.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = split_quoted(text)?.into_iter();
        let (schema, table, column) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none();
        is_whole.then_some(Self { schema, table, column })
    }
}

fn split_quoted(text: &str) -> Option<Vec<String>> {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if name.contains('"') {
                    return None;
                }
                (name.to_lowercase(), after)
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        if after.is_empty() {
            return Some(parts);
        }
        rest = after.strip_prefix('.')?;
    }
}

fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

impl std::fmt::Display for ColumnName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quote = |name: &str| -> String {
            let is_plain = !name.is_empty()
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
        };
        write!(f, "{}.{}.{}", quote(&self.schema), quote(&self.table), quote(&self.column))
    }
}

impl Serialize for ColumnName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("'{text}' is not a column; write schema.table.column"))
        })
    }
}

/// What is kept of a target's sessions, and how surely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSpec {
    #[serde(default)]
    pub rows: RecordRows,
    #[serde(default)]
    pub durability: Durability,
}

/// How much of the rows (after masking) is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordRows {
    #[default]
    None,
    Count,
    Sample,
    Full,
}

/// What an entry survives before its statement is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A crash of the gateway.
    #[default]
    Written,
    /// A loss of power.
    Synced,
}

/// A person: with a local account, or from an identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    pub name: PrincipalName,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// Accounts elsewhere by which tokens name the person: `github: "583231"`. No two people
    /// have the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, String>,
    #[serde(default)]
    pub disabled: bool,
    /// Who disabled it by hand. Written by the gateway: only enabling it by hand takes it away, so
    /// that applying an old manifest again brings nobody back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<String>,
    /// Why it was disabled, unless by a manifest: whoever took the standing away gives it back.
    /// Written by the gateway only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_cause: Option<OffboardCause>,
    /// The identity provider through which this person signs in, and no longer by password. The
    /// first sign-in with a verified e-mail address equal to the name links the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ResourceName>,
    /// Who this is at the provider. Written by the gateway only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ExternalIdentity>,
    /// Not active until the next good sign-in, and why. Written by the gateway only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<OffboardCause>,
}

/// A person as an identity provider knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalIdentity {
    pub provider: ResourceName,
    /// The provider's own, lasting name for it (`sub`). Absent until the first sign-in of a
    /// person whom SCIM made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl UserSpec {
    /// A person of whom nothing more is known than the name.
    #[must_use]
    pub fn new(name: PrincipalName) -> Self {
        Self {
            name,
            groups: Vec::new(),
            accounts: BTreeMap::new(),
            password: None,
            disabled: false,
            disabled_by: None,
            disabled_cause: None,
            provider: None,
            identity: None,
            suspended: None,
        }
    }

    /// Whether this person may act, or anybody for whom they answer.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.disabled && self.suspended.is_none()
    }

    /// The provider that alone signs this person in; `None` for a local account.
    #[must_use]
    pub fn signs_in_by(&self) -> Option<&ResourceName> {
        self.identity.as_ref().map(|identity| &identity.provider).or(self.provider.as_ref())
    }
}

/// A CI job or a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    pub name: PrincipalName,
    /// The person who answers for it. It may be absent where every rule of `trust` says how the
    /// person who started the job is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor: Option<PrincipalName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
    /// Whose tokens start its runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<TrustRule>,
    /// How its CI system says that a job has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// How its CI system is asked whether a job has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<PollSpec>,
}

/// Which secret of a workload that the gateway itself uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadSecret {
    Webhook,
    Poll,
}

impl WorkloadSecret {
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Poll];

    /// Its key in manifests.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Webhook => "webhook.secret",
            Self::Poll => "poll.token",
        }
    }
}

impl WorkloadSpec {
    /// The secret as the manifest has it; None when it is not written there.
    #[must_use]
    pub fn secret_of(&self, which: WorkloadSecret) -> Option<&SecretSource> {
        match which {
            WorkloadSecret::Webhook => self.webhook.as_ref()?.secret.as_ref(),
            WorkloadSecret::Poll => self.poll.as_ref()?.token.as_ref(),
        }
    }

    /// The same, to be replaced; None without the part that it belongs to.
    pub fn secret_of_mut(&mut self, which: WorkloadSecret) -> Option<&mut Option<SecretSource>> {
        match which {
            WorkloadSecret::Webhook => self.webhook.as_mut().map(|webhook| &mut webhook.secret),
            WorkloadSecret::Poll => self.poll.as_mut().map(|poll| &mut poll.token),
        }
    }

    /// Whether the part that a secret belongs to is there at all.
    #[must_use]
    pub fn has_part_of(&self, which: WorkloadSecret) -> bool {
        match which {
            WorkloadSecret::Webhook => self.webhook.is_some(),
            WorkloadSecret::Poll => self.poll.is_some(),
        }
    }
}

/// Rules in Cedar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    pub name: ResourceName,
    pub cedar: TextSource,
}

/// Limits for whom they match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    pub name: ResourceName,
    pub subject: LimitSubject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<LimitTarget>,
    /// Sessions open at once, for each principal that matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ttl: Option<HumanDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<HumanDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunLimits>,
}

/// Whom a limit is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSubject {
    Group(GroupName),
    User(PrincipalName),
    Workload(PrincipalName),
    /// Everybody; written `any` or `{any: true}`.
    Any(bool),
}

impl<'de> Deserialize<'de> for LimitSubject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LimitSubjectVisitor)
    }
}

struct LimitSubjectVisitor;

impl<'de> serde::de::Visitor<'de> for LimitSubjectVisitor {
    type Value = LimitSubject;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{group: NAME}, {user: NAME}, {workload: NAME} or any")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<LimitSubject, E> {
        match text {
            "any" => Ok(LimitSubject::Any(true)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<LimitSubject, A::Error> {
        use serde::de::Error;
        const KEYS: &[&str] = &["group", "user", "workload", "any"];
        let key: Option<String> = map.next_key()?;
        let subject = match key.as_deref() {
            Some("group") => LimitSubject::Group(map.next_value()?),
            Some("user") => LimitSubject::User(map.next_value()?),
            Some("workload") => LimitSubject::Workload(map.next_value()?),
            Some("any") => LimitSubject::Any(map.next_value()?),
            Some(other) => return Err(A::Error::unknown_field(other, KEYS)),
            None => return Err(A::Error::custom("this subject names nobody")),
        };
        match map.next_key::<serde::de::IgnoredAny>()? {
            None => Ok(subject),
            Some(_) => Err(A::Error::custom("a subject is one of group, user, workload and any")),
        }
    }
}

/// Which targets a limit is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitTarget {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<TargetName>,
    /// `key=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Limits of a run; budgets are charged to the run and to every ancestor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_max: Option<HumanDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements_max: Option<u64>,
    /// Statements that may do more than read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<ByteSize>,
    /// From its start to its end, however often it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_time_max: Option<HumanDuration>,
}

/// A duration written as `30m`, `1h 30m`, `10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub std::time::Duration);

impl HumanDuration {
    /// Reads whole numbers with the units `ms`, `s`, `m`, `h` or `d`, added up.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut total = std::time::Duration::ZERO;
        let mut rest = text.trim();
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits_end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, after) = rest.split_at(digits_end);
            let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let unit_ms: u64 = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            let count: u64 = digits.parse().ok()?;
            let part = std::time::Duration::from_millis(count.checked_mul(unit_ms)?);
            total = total.checked_add(part)?;
            rest = after.trim_start();
        }
        Some(Self(total))
    }
}

impl std::fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => f.write_str("0s"),
            _ if ms.is_multiple_of(86_400_000) => write!(f, "{}d", ms / 86_400_000),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("'{text}' is not a duration; write 30m, 1h or 10s"))
        })
    }
}

/// A size written as `1GiB`, `500KiB`, `10MB` or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let unit_bytes: u64 = match unit.trim() {
            "" | "B" => 1,
            "KB" => 1_000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        let count: u64 = digits.parse().ok()?;
        count.checked_mul(unit_bytes).map(Self)
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("0B"),
            b if b % (1 << 30) == 0 => write!(f, "{}GiB", b >> 30),
            b if b % (1 << 20) == 0 => write!(f, "{}MiB", b >> 20),
            b if b % (1 << 10) == 0 => write!(f, "{}KiB", b >> 10),
            b => write!(f, "{b}B"),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByteSizeVisitor)
    }
}

struct ByteSizeVisitor;

impl serde::de::Visitor<'_> for ByteSizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size such as 1GiB or 500KiB, or a number of bytes")
    }

    fn visit_u64<E>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
        ByteSize::parse(text)
            .ok_or_else(|| E::custom(format!("'{text}' is not a size; write 1GiB or 500KiB")))
    }
}

/// One resource of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
#[allow(clippy::large_enum_variant, reason = "there are few of them, and none on a hot path")]
pub enum Resource {
    Target(TargetSpec),
    User(UserSpec),
    Workload(WorkloadSpec),
    Policy(PolicySpec),
    Limit(LimitSpec),
    Command(CommandSpec),
    Relay(RelaySpec),
    IdentityProvider(IdentityProviderSpec),
}

/// The kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKind {
    Target,
    User,
    Workload,
    Policy,
    Limit,
    Command,
    Relay,
    IdentityProvider,
}

impl ResourceKind {
    pub const ALL: [Self; 8] = [
        Self::Target,
        Self::User,
        Self::Workload,
        Self::Policy,
        Self::Limit,
        Self::Command,
        Self::Relay,
        Self::IdentityProvider,
    ];

    /// As it is written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Target => "Target",
            Self::User => "User",
            Self::Workload => "Workload",
            Self::Policy => "Policy",
            Self::Limit => "Limit",
            Self::Command => "Command",
            Self::Relay => "Relay",
            Self::IdentityProvider => "IdentityProvider",
        }
    }

    /// Reads the name as a manifest writes it.
    #[must_use]
    pub fn parse_exact(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }

    /// Reads the name as people type it: any case, singular or plural.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let singular = match lower.as_str() {
            "policies" => "policy",
            other => other.strip_suffix('s').unwrap_or(other),
        };
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(singular))
    }
}

impl std::fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Resource {
    #[must_use]
    pub fn resource_kind(&self) -> ResourceKind {
        match self {
            Self::Target(_) => ResourceKind::Target,
            Self::User(_) => ResourceKind::User,
            Self::Workload(_) => ResourceKind::Workload,
            Self::Policy(_) => ResourceKind::Policy,
            Self::Limit(_) => ResourceKind::Limit,
            Self::Command(_) => ResourceKind::Command,
            Self::Relay(_) => ResourceKind::Relay,
            Self::IdentityProvider(_) => ResourceKind::IdentityProvider,
        }
    }

    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.resource_kind().name()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Target(spec) => spec.name.as_str(),
            Self::User(spec) => spec.name.as_str(),
            Self::Workload(spec) => spec.name.as_str(),
            Self::Policy(spec) => spec.name.as_str(),
            Self::Limit(spec) => spec.name.as_str(),
            Self::Command(spec) => spec.name.as_str(),
            Self::Relay(spec) => spec.name.as_str(),
            Self::IdentityProvider(spec) => spec.name.as_str(),
        }
    }

    /// The person that it is, if it is one.
    #[must_use]
    pub fn as_user(&self) -> Option<&UserSpec> {
        match self {
            Self::User(spec) => Some(spec),
            Self::Target(_)
            | Self::Workload(_)
            | Self::Policy(_)
            | Self::Limit(_)
            | Self::Command(_)
            | Self::Relay(_)
            | Self::IdentityProvider(_) => None,
        }
    }

    /// The same without passwords and secrets, wherever they were said to be: as it is stored
    /// and shown.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        match &mut self {
            Self::Target(spec) => {
                let both = [&mut spec.credential, &mut spec.masked_credential];
                for credential in both.into_iter().flatten() {
                    credential.strip();
                }
            }
            Self::User(spec) => spec.password = None,
            Self::Workload(spec) => {
                spec.secret = None;
                for which in WorkloadSecret::ALL {
                    if let Some(secret) = spec.secret_of_mut(which) {
                        *secret = None;
                    }
                }
            }
            Self::IdentityProvider(spec) => spec.strip(),
            Self::Policy(_) | Self::Limit(_) | Self::Command(_) | Self::Relay(_) => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_names_fold_and_quote_as_sql_does() {
        let check = |text: &str, expect: Option<(&str, &str, &str)>| {
            let found = ColumnName::parse(text);
            let found = found.as_ref().map(|c| (&*c.schema, &*c.table, &*c.column));
            assert_eq!(found, expect, "{text}");
        };
        check("public.customers.ssn", Some(("public", "customers", "ssn")));
        check("Public.Customers.SSN", Some(("public", "customers", "ssn")));
        check(r#"public."Customers"."a.b""c""#, Some(("public", "Customers", "a.b\"c")));
        check("customers.ssn", None);
        check("a.b.c.d", None);
        check("a..c", None);
        check(r#"a."b.c"#, None);
    }

    #[test]
    fn durations_and_sizes_read_back_as_written() {
        for text in ["30m", "1h", "10s", "1500ms", "2d"] {
            assert_eq!(HumanDuration::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(HumanDuration::parse("1h 30m").expect("two units").to_string(), "90m");
        for text in ["", "5", "m", "1x", "-1s"] {
            assert!(HumanDuration::parse(text).is_none(), "{text}");
        }
        for text in ["1GiB", "3MiB", "7B"] {
            assert_eq!(ByteSize::parse(text).expect(text).to_string(), text);
        }
        assert!(ByteSize::parse("1 parsec").is_none());
    }
}
