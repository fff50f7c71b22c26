//! Every limit of Corral, with its unit and its reason. Reaching one denies or ends; it never
//! forwards.

use std::time::Duration;

/// An id, in bytes: long enough for a UUID with a prefix, short enough for a table's column.
pub const ID_BYTES_MAX: usize = 63;
/// The name of a person, workload, group or policy, in bytes (an e-mail address has at most 254).
pub const NAME_BYTES_MAX: usize = 254;
/// Groups of one person, and entries of one provider's mapping of groups: each is a parent in every
/// decision of policy.
pub const GROUPS_MAX: usize = 1_000;
/// An address of the web, in bytes: what browsers and servers take.
pub const URL_BYTES_MAX: usize = 2_048;
/// People whom one provider writes by SCIM: each is a resource of the configuration.
pub const SCIM_USERS_MAX: usize = 10_000;
/// Groups that one provider writes by SCIM.
pub const SCIM_GROUPS_MAX: usize = 2_000;
/// Memberships in all groups that one provider writes: 20 for each person. One takes about a
/// kilobyte of memory.
pub const SCIM_MEMBERSHIPS_MAX: usize = 200_000;
/// One request of a provider by SCIM, in bytes: a group with as many members as it may have, each
/// with its address and a name.
pub const SCIM_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How old a security event may be when it arrives: transmitters try again for hours.
pub const SIGNAL_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How old the token of a global revocation may be: it is made for one request.
pub const REVOCATION_AGE_MAX: Duration = Duration::from_secs(10 * 60);
/// A token as a client presents it, in bytes (CONTRACT section 5).
pub const TOKEN_BYTES_MAX: usize = 64;

/// A signed JWT as somebody shows it, in bytes: a person in a thousand groups fits, headers of
/// HTTP take less.
pub const JWT_BYTES_MAX: usize = 64 * 1024;
/// How far the clocks of an issuer and of the gateway may be apart.
pub const JWT_LEEWAY: Duration = Duration::from_secs(30);
/// An issuer's name, in bytes.
pub const ISSUER_BYTES_MAX: usize = 1024;
/// Rules of trust of one workload: each costs a comparison for every token of its issuer.
pub const TRUST_RULES_MAX: usize = 32;
/// Claims that one rule may match.
pub const TRUST_CLAIMS_MAX: usize = 32;
/// What names a job at its issuer, in bytes.
pub const JOB_KEY_BYTES_MAX: usize = 512;
/// One delivery of a webhook, in bytes: a pipeline with all its jobs.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The secret that a webhook is signed with, at least: whoever sees a delivery can try secrets.
pub const WEBHOOK_SECRET_BYTES_MIN: usize = 16;
/// Signatures of one delivery that are looked at: one for each key while keys change.
pub const WEBHOOK_SIGNATURES_MAX: usize = 8;
/// Between the time at which a delivery was signed and the gateway's clock (Standard Webhooks).
pub const WEBHOOK_CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);
/// Badly signed pushes (webhooks, events) from one address for one name that are each recorded;
/// more are a burst, which is recorded once.
pub const BAD_PUSHES_MAX: u32 = 20;
/// A burst is over when nothing bad came for so long.
pub const BAD_PUSHES_QUIET: Duration = Duration::from_secs(60);
/// Programs that a wrapper names of those that a command left behind.
pub const LEFT_PROGRAMS_MAX: usize = 16;
/// Name of one of them, in bytes: what Linux keeps of it.
pub const LEFT_PROGRAM_BYTES_MAX: usize = 64;
/// Refused sessions, and refused runs, of one source that are each recorded; more are counted.
pub const REFUSALS_SINGLE_MAX: u32 = 100;
/// After so long without a refusal, those of a source are recorded one by one again.
pub const REFUSALS_QUIET: Duration = Duration::from_secs(60);
/// A count of refusals is recorded after so long, also when they go on.
pub const REFUSALS_COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// Different reasons that a count of refusals names.
pub const REFUSAL_REASONS_MAX: usize = 8;
/// Sources whose refusals are counted apart: a few kilobytes each at most.
pub const REFUSED_SOURCES_MAX: usize = 256;
/// Names with addresses whose bad pushes are counted apart: about 100 bytes each.
pub const BAD_PUSHERS_MAX: usize = 4_096;
/// Jobs in one delivery; each is compared with every run.
pub const WEBHOOK_JOBS_MAX: usize = 2_000;
/// Time between two questions about one job at its CI system's API, when nobody says another.
pub const JOB_POLL_INTERVAL: Duration = Duration::from_secs(30);
/// The longest that may be chosen.
pub const JOB_POLL_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// One answer about a job, in bytes: a CircleCI workflow with all its jobs.
pub const JOB_POLL_BYTES_MAX: usize = 2 * 1024 * 1024;
/// One answer about a job, from the question on.
pub const JOB_POLL_DEADLINE: Duration = Duration::from_secs(10);
/// Questions of one workload at its API at once.
pub const JOB_POLLS_AT_ONCE_MAX: usize = 4;
/// Answers in a row that there is no such job, from an API that knew it, until it counts as
/// ended: one may come from a server that lags behind.
pub const JOB_GONE_ANSWERS: u32 = 2;
/// Longest wait before an API that failed is asked again, unless its interval is longer.
pub const JOB_POLL_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The longest that an API may ask to be left alone; GitHub's limits begin again each hour.
pub const JOB_POLL_RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Claims of a job that are kept.
pub const JOB_CLAIMS_MAX: usize = 32;
/// One such claim, in characters; longer ones are cut.
pub const JOB_CLAIM_CHARS_MAX: usize = 256;
/// An access token of the gateway's own that is a JWT, in bytes: a tree of the greatest depth
/// with the longest names.
pub const ACCESS_TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How long such a token is good, unless its run ends before: whoever finds one in a log or a
/// dump finds it too late.
pub const ACCESS_TOKEN_TTL: Duration = Duration::from_secs(15 * 60);
/// A request to the token service, in bytes: a token and what it is to become.
pub const TOKEN_REQUEST_BYTES_MAX: usize = 128 * 1024;
/// How old a proof of a key's possession may be (RFC 9449 section 11.1).
pub const PROOF_AGE_MAX: Duration = Duration::from_secs(60);
/// How long ago the nonce of a proof may have been given out: what a proof that is made ahead can
/// be used for at most, and how often a client that is slower than this is asked to prove again.
pub const PROOF_NONCE_AGE_MAX: Duration = Duration::from_secs(2 * 60);
/// Everybody gets the same nonce for so long.
pub const PROOF_NONCE_STEP: Duration = Duration::from_secs(30);
/// Proofs that are remembered, so that none is taken twice; more at once are refused.
pub const PROOFS_MAX: usize = 100_000;
/// Keys that one issuer may publish: large ones publish about ten.
pub const JWKS_KEYS_MAX: usize = 100;
/// One document of an issuer (its configuration, its keys), in bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Reading an issuer's configuration and keys, both together.
pub const JWKS_DEADLINE: Duration = Duration::from_secs(5);
/// An issuer is asked for its keys no more often than this, whatever is shown to the gateway.
pub const JWKS_INTERVAL: Duration = Duration::from_secs(10);
/// Keys older than this are asked for again; where that fails, they are used for a while.
pub const JWKS_FRESH: Duration = Duration::from_secs(5 * 60);
/// Keys older than this verify nothing: an issuer that took a key back is heard by then.
pub const JWKS_AGE_MAX: Duration = Duration::from_secs(3600);

/// One manifest file, in bytes, before it is parsed.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Nodes of one manifest's YAML tree: far above any honest file, far below what costs a second.
pub const MANIFEST_NODES_MAX: usize = 50_000;
/// Nesting of one manifest's YAML tree.
pub const MANIFEST_DEPTH_MAX: usize = 32;

/// A client that has not finished its login by then is disconnected.
pub const LOGIN_DEADLINE: Duration = Duration::from_secs(20);
/// Dialling and logging in to a target.
pub const TARGET_LOGIN_DEADLINE: Duration = Duration::from_secs(15);
/// Logins at targets that have their turn at once, per listener: more make a server no faster, and
/// whoever is logged in slower.
pub const TARGET_LOGIN_TURNS: usize = 8;
/// The same at targets on this machine, whose new processes want the processors that open sessions
/// run on. With one turn those wait as long, and all logins take half as long again.
pub const LOCAL_TARGET_LOGIN_TURNS: usize = 2;
/// After this time the next one begins, although the login goes on. With targets that answer later
/// than that, a listener begins 320 logins a second, at targets on this machine 80.
pub const TARGET_LOGIN_TURN: Duration = Duration::from_millis(25);
/// Connections that log in at once, per listener: ten thousand mute connections cost at most this
/// many small buffers.
pub const PENDING_LOGINS_MAX: usize = 512;
/// Connections that wait for a place among those, per listener; one more is closed. Each costs a
/// descriptor and a small task.
pub const WAITING_LOGINS_MAX: usize = 4096;
/// How long a connection waits for such a place. Shorter than [`LOGIN_DEADLINE`], so that mute
/// connections that wait are gone before those that hold the places make room.
pub const WAITING_LOGIN_DEADLINE: Duration = Duration::from_secs(8);
/// Sessions open at once on one gateway.
pub const SESSIONS_MAX: usize = 10_000;

/// One statement's text, in bytes: larger texts are refused, never forwarded unseen.
pub const STATEMENT_BYTES_MAX: usize = 1024 * 1024;
/// One text of SQL, in bytes. Less than [`CLIENT_MESSAGE_BYTES_MAX`], because a session holds it
/// twice while it is decided.
pub const SQL_TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Tokens of one text of SQL: what its tree costs. A tree took up to 850 bytes for each, so that all
/// analysis threads together need less than 900 MB for a moment.
pub const SQL_TEXT_TOKENS_MAX: usize = 512 * 1024;
/// One message from a client, in bytes, parameters included.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// One message from a client before it has logged in, in bytes (PostgreSQL: 10,000 for startup).
pub const LOGIN_MESSAGE_BYTES_MAX: usize = 10_000;
/// One message from a target that must be held whole (errors, row descriptions, masked rows), in
/// bytes. Rows that need no mask stream through and are not held.
pub const TARGET_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes waiting to be written to one side; above it, reading from the other side stops.
pub const WRITE_BUFFER_BYTES_HIGH: usize = 256 * 1024;
/// An empty buffer that is longer is given back while its session waits, in bytes.
pub const IDLE_BUFFER_BYTES_KEPT: usize = 256;
/// Bytes read from a socket at once.
pub const READ_CHUNK_BYTES: usize = 32 * 1024;
/// Bytes of a client's TLS read from a socket at once, on the stack: the longest record
/// (RFC 8446 section 5.2) and its head.
pub const TLS_READ_BYTES: usize = 16 * 1024 + 256 + 5;
/// Bytes of a TLS record or handshake message that is not whole yet; as much as rustls keeps.
pub const TLS_INCOMING_BYTES_MAX: usize = 64 * 1024;
/// Bytes encrypted for a client at once.
pub const TLS_PIECE_BYTES: usize = 64 * 1024;
/// Bytes that TLS adds to [`TLS_PIECE_BYTES`] at most: the heads and tags of its records, and new
/// keys or an alert in front of them.
pub const TLS_OVERHEAD_BYTES: usize = 1024;
/// Prepared statements and portals that one session may keep open.
pub const PREPARED_PER_SESSION_MAX: usize = 10_000;
/// Statements that a client may send ahead before their answers arrive; above it reading stops.
pub const PIPELINE_DEPTH_MAX: usize = 1_024;

/// Stack of the threads that parse hostile statements, in bytes. Virtual memory only.
pub const ANALYSIS_STACK_BYTES: usize = 64 * 1024 * 1024;
/// Threads that analyse statements.
pub const ANALYSIS_THREADS: usize = 2;
/// Statements waiting for analysis, over all sessions.
pub const ANALYSIS_QUEUE_LEN_MAX: usize = 1_024;
/// Analysed statements kept, over all sessions of one target.
pub const ANALYSIS_CACHE_LEN_MAX: usize = 4_096;
/// Analysed statements that one session keeps at hand, in front of those of its target.
pub const SESSION_ANALYSES_MAX: usize = 512;
/// Iterations that a target may ask for when the gateway logs in by SCRAM: 24 times PostgreSQL's
/// default. Each costs about a quarter of a microsecond, once for each password and salt.
pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;
/// Keys derived from passwords of targets that are kept at once, 64 bytes each.
pub const SCRAM_KEYS_MAX: usize = 1_024;
/// Targets (with account and database) whose catalogues are kept at once.
pub const SHARED_TARGETS_MAX: usize = 1_024;
/// Answers to the gateway's own questions to a target (its catalogue), in bytes.
pub const CATALOGUE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Rows of a result in one event, with `record: {rows: full}`.
pub const EVENT_ROWS_MAX: usize = 256;
/// Texts longer than this are analysed each time and not kept, in bytes.
pub const ANALYSIS_CACHE_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Brackets, or `if`s, inside each other in one policy: far above what anybody can read.
pub const POLICY_DEPTH_MAX: usize = 32;
/// Operators in one policy; `a && b && c` nests as deep as it is long.
pub const POLICY_OPERATORS_MAX: usize = 500;
/// Operators of a policy that any thread's stack can evaluate; longer ones get a stack of their
/// own, which costs some microseconds for each decision that is not remembered.
pub const POLICY_OPERATORS_PLAIN: usize = 60;
/// Stack on which policies are parsed and checked, and long ones evaluated, in bytes. Virtual memory, for that time only.
pub const POLICY_STACK_BYTES: usize = 64 * 1024 * 1024;
/// Questions to the policies for one statement: verbs times objects times runs of the chain. About
/// a tenth of a second; reached only with rules on single tables and thousands of partitions.
pub const DECISION_QUESTIONS_MAX: usize = 20_000;
/// Decisions kept, over all sessions.
pub const DECISION_CACHE_LEN_MAX: usize = 65_536;
/// Decisions that one session keeps for itself, without a lock, in front of the shared ones.
pub const DECISIONS_PER_SESSION_MAX: usize = 64;
/// Relations, functions and types read from one target's catalogue.
pub const CATALOGUE_OBJECTS_MAX: usize = 500_000;
/// How old the catalogue of a target may be before it is read again.
pub const CATALOGUE_AGE_MAX: Duration = Duration::from_secs(5);
/// How long a session waits for the catalogue that another one reads; then it reads it itself.
pub const CATALOGUE_WAIT_MAX: Duration = Duration::from_millis(250);
/// How soon a session that waits for it looks again, at least.
pub const CATALOGUE_LOOK_INTERVAL_MIN: Duration = Duration::from_millis(2);
/// How long a statement waits while another session changes objects that it names, and a definition
/// while another session uses what it changes. A target would wait for ever; a client that is
/// refused can try again, and a session that never ends its transaction stops nobody for good.
pub const DEFINITION_WAIT_MAX: Duration = Duration::from_secs(60);
/// How soon who waits so looks again, at most.
pub const DEFINITION_LOOK_INTERVAL_MAX: Duration = Duration::from_millis(100);
/// Definitions in one transaction that are remembered one by one; more count as a change of
/// everything.
pub const DEFINITIONS_SENT_MAX: usize = 256;
/// Statements of one transaction whose names are remembered up to its end.
pub const NAMES_HELD_MAX: usize = 64;

/// How long a held statement waits when the policy's `@expires` says nothing.
pub const APPROVAL_WAIT: Duration = Duration::from_secs(15 * 60);
/// Longest wait that a policy's `@expires` may ask for.
pub const APPROVAL_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most people that a policy's `@quorum` may ask for.
pub const APPROVAL_QUORUM_MAX: u32 = 10;
/// Approvals pending at once on one gateway.
pub const APPROVALS_PENDING_MAX: usize = 1_000;
/// A held statement's client is told again after this long, so that middle boxes keep the
/// connection.
pub const APPROVAL_NOTICE_INTERVAL: Duration = Duration::from_secs(30);

/// A statement's text in an event, in bytes; a longer one is replaced by its digest and length.
pub const EVENT_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Events waiting for one follower of the event stream; a slower follower is told what it missed.
pub const EVENT_STREAM_LEN_MAX: usize = 4_096;
/// One entry of the record, in bytes: above it, it is refused (a message of
/// [`CLIENT_MESSAGE_BYTES_MAX`] written as hexadecimal text still fits).
pub const RECORD_ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Sessions that the record holds open at once, with those whose end could not be written yet.
pub const RECORD_SESSIONS_MAX: usize = 2 * SESSIONS_MAX;
/// Entries about what already happened that one session keeps while the device refuses them.
pub const RECORD_NOTES_MAX: usize = 64;
/// The same, in bytes.
pub const RECORD_NOTES_BYTES_MAX: usize = 1024 * 1024;
/// Waits for a sync of the record, over all sessions.
pub const RECORD_SYNC_QUEUE_LEN_MAX: usize = RECORD_SESSIONS_MAX;
/// Threads that sync files of the record at once.
pub const RECORD_SYNC_THREADS: usize = 4;
/// The journal that synced sessions share, in bytes: filled ahead, so that syncing it changes no
/// metadata. When it is full, the sessions' own files are synced.
pub const RECORD_JOURNAL_BYTES: u64 = 32 * 1024 * 1024;
/// What one session has waiting for the journal, in bytes; of more, its own file is synced.
pub const RECORD_JOURNAL_PIECE_BYTES_MAX: usize = 64 * 1024;
/// Files that the journal stands in for at once: they stay open until they are synced themselves.
pub const RECORD_JOURNAL_FILES_MAX: usize = 1_024;
/// Time between two signed checkpoints while something changes: entries younger than this are
/// chained, but not signed yet.
pub const RECORD_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// Entries of the gateway's chain after which a checkpoint does not wait for its time.
pub const RECORD_CHECKPOINT_ENTRIES: u64 = 1_024;
/// One segment of the gateway's chain, in bytes, after which the next checkpoint starts another:
/// a start of the gateway reads one segment.
pub const RECORD_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// A buffer that one large entry made longer than this is given back, in bytes.
pub const RECORD_BUFFER_BYTES_KEPT: usize = 64 * 1024;
/// An event larger than this, in bytes of its entry, goes to followers without its rows and
/// parameters: [`EVENT_STREAM_LEN_MAX`] of them wait in memory. The record has them.
pub const RECORD_FOLLOWED_BYTES_MAX: u64 = 64 * 1024;
/// Events that one replay shows at most.
pub const RECORD_REPLAY_LEN_MAX: usize = 200_000;
/// The same, in bytes of memory: one stream recorded to its limit both ways still plays.
pub const RECORD_REPLAY_BYTES_MAX: u64 = 384 * 1024 * 1024;
/// Events that one search returns at most.
pub const RECORD_SEARCH_LEN_MAX: usize = 10_000;
/// Rows kept with `record: {rows: sample}` for one statement.
pub const SAMPLE_ROWS_MAX: usize = 10;
/// Bytes kept with `record: {rows: sample}` for one statement.
pub const SAMPLE_BYTES_MAX: usize = 16 * 1024;

/// TTL of a run when nobody names one.
pub const RUN_TTL: Duration = Duration::from_secs(15 * 60);
/// Longest TTL of a run, when no `Limit` says less.
pub const RUN_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Depth of a run tree, when no `Limit` says less.
pub const RUN_DEPTH_MAX: u32 = 16;
/// Children of one run, when no `Limit` says less.
pub const RUN_CHILDREN_MAX: u64 = 1_000;
/// A run's wrapper is asked this often whether it is still there.
pub const ATTACH_PING_INTERVAL: Duration = Duration::from_secs(1);
/// A wrapper that has not answered for this long is taken for gone, and its run ends: with the
/// time that ending takes, nothing of a run is alive five seconds after it was cut off.
pub const ATTACH_LEASE: Duration = Duration::from_secs(4);
/// How long a run's wrapper has to come back after the gateway was started again.
pub const ATTACH_RETURN: Duration = Duration::from_secs(10);
/// One line between a wrapper and the gateway, in bytes.
pub const ATTACH_LINE_BYTES_MAX: usize = 256;
/// The file of a process's program, in bytes: the longest path that Linux opens (`PATH_MAX`).
pub const PROCESS_PROGRAM_BYTES_MAX: usize = 4_096;
/// Arguments of a process that are kept.
pub const PROCESS_ARGUMENTS_MAX: usize = 64;
/// The same, in bytes together.
pub const PROCESS_ARGUMENTS_BYTES_MAX: usize = 4_096;
/// Processes of one wrapper that have a run of their own at once.
pub const ATTRIBUTED_PROCESSES_MAX: usize = 1_000;
/// Connections that one wrapper carries at once.
pub const ATTRIBUTED_CONNECTIONS_MAX: usize = 1_024;
/// Finding out whose a connection is, and a run for it.
pub const ATTRIBUTION_DEADLINE: Duration = Duration::from_secs(15);
/// Processes between a process and the wrapper that it descends from.
pub const PROCESS_DEPTH_MAX: usize = 1_024;
/// What a wrapper says of a connection that it refuses, in bytes.
pub const REFUSAL_BYTES_MAX: usize = 500;
/// Between the end of a command and the killing of the processes that it left behind: until then
/// they may end by themselves.
pub const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// Actions that one run may name.
pub const RUN_ACTIONS_MAX: usize = 64;
/// Shortest interval in which a run may have to be renewed: shorter ones end runs for a slow network.
pub const RUN_RENEW_WITHIN_MIN: Duration = Duration::from_secs(1);
/// Statements that run when a budget is spent may take this long to end by themselves; then their
/// run ends.
pub const BUDGET_GRACE: Duration = Duration::from_secs(2);
/// What runs used is stored this often: a gateway that is killed forgets no more than this.
pub const BUDGET_STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Sessions of a run that ended may be charged for what they sent for this long.
pub const RUN_PARTING: Duration = Duration::from_secs(10);
/// A gateway that could not ask its store for this long admits nothing and ends what it has.
pub const STORE_LEASE: Duration = Duration::from_secs(10);
/// The store is asked this often whether it still reads and writes.
pub const STORE_BEAT_INTERVAL: Duration = Duration::from_secs(2);
/// One such question; several fit into [`STORE_LEASE`].
pub const STORE_BEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// TTL of a login token.
pub const LOGIN_TTL: Duration = Duration::from_secs(12 * 3600);
/// Longest life of a credential that a client gets for a token (a certificate): it outlives a
/// revoked token by no more than this, and is checked against the token at every login anyway.
pub const CLIENT_CREDENTIAL_TTL: Duration = Duration::from_secs(5 * 60);
/// A host's name, in bytes (RFC 1035, section 2.3.4).
pub const HOST_BYTES_MAX: usize = 253;
/// One request to a key agent, in bytes: as OpenSSH's own agent has it.
pub const AGENT_REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Programs that talk to one key agent at once; one more is turned away.
pub const AGENT_CLIENTS_MAX: usize = 512;
/// Password hashes computed at once: argon2 takes 19 MiB for each.
pub const PASSWORD_CHECKS_MAX: usize = 4;

/// A DNS name, in bytes (RFC 1035 section 2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// Entries of one relay's list of addresses: sent whole to the relay at every change.
pub const RELAY_ADDRESSES_MAX: usize = 1_000;
/// Streams open at once through one relay process. With [`RELAY_STREAM_WINDOW_BYTES`] it bounds
/// what stalled streams can hold in memory.
pub const RELAY_STREAMS_MAX: u32 = 1_024;
/// Bytes of one relayed stream that may be on their way unread. A stream that nobody reads holds
/// this much of the connection's window, which has room for [`RELAY_STREAMS_MAX`] of them: so it
/// stalls nobody else.
pub const RELAY_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of one relayed stream that wait on the sending side for a slow connection.
pub const RELAY_SEND_BUFFER_BYTES: usize = 256 * 1024;
/// One frame of a relayed stream, in bytes: others wait behind it for that long.
pub const RELAY_FRAME_BYTES: u32 = 64 * 1024;
/// Bytes that a relay connection takes from its socket at once.
pub const RELAY_READ_BYTES: usize = 64 * 1024;
/// A relay connection that is silent is asked this often whether it is still there.
pub const RELAY_PING_INTERVAL: Duration = Duration::from_secs(5);
/// A relay, or gateway, that has not answered for this long is cut off: its streams end on the
/// side that noticed.
pub const RELAY_LEASE: Duration = Duration::from_secs(15);
/// TLS handshake and first words of a relay connection.
pub const RELAY_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Relay connections that have not finished their handshake, at once.
pub const RELAY_HANDSHAKES_MAX: usize = 64;
/// Relay connections at once, over all names.
pub const RELAY_CONNECTIONS_MAX: usize = 256;
/// Resolving a name and connecting to a target, at the relay.
pub const RELAY_DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// One message between gateway and relay beside the streams, in bytes: a list of
/// [`RELAY_ADDRESSES_MAX`] addresses with the longest names.
pub const RELAY_MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// An answer to such a message.
pub const RELAY_ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Streams of a relay that stops may finish for this long; others have taken over meanwhile.
pub const RELAY_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// First wait of a relay before it connects again; each further one is twice as long.
pub const RELAY_RECONNECT_MIN: Duration = Duration::from_millis(500);
/// Longest wait of a relay before it connects again.
pub const RELAY_RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Lifetime of a relay's certificate, when the gateway's configuration names no other.
pub const RELAY_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often it is looked whether a certificate is due.
pub const RELAY_RENEW_CHECK: Duration = Duration::from_secs(60);
/// A token that lets one relay process join, when nobody says otherwise.
pub const RELAY_JOIN_TTL: Duration = Duration::from_secs(3600);
/// Longest life of such a token.
pub const RELAY_JOIN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A certificate request as a relay sends it, in bytes.
pub const RELAY_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Time between SIGTERM and the end of the last session.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that read the store at once; there is one that writes.
pub const STORE_READERS_MAX: u32 = 4;
/// How long a write waits for another process that holds the store, such as a backup.
pub const STORE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection to the store, behind other callers.
pub const STORE_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the store lists what is over: sessions, runs and approvals. The record's own
/// account has no such limit.
pub const STORE_HISTORY_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Rows that one listing of runs, sessions or approvals returns.
pub const LIST_LEN_MAX: u32 = 10_000;
/// Changes in one `apply`: one transaction, held in memory.
pub const APPLY_CHANGES_MAX: usize = 10_000;
/// A password or secret as somebody types it, in bytes: argon2 hashes all of it.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// A private key or token for a target, in bytes: an RSA key of 8192 bits in PEM has 6,400.
pub const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;

/// The template of a `Command`, in bytes: one line that a person can read.
pub const COMMAND_TEMPLATE_BYTES_MAX: usize = 4 * 1024;
/// Parameters of one `Command`.
pub const COMMAND_PARAMETERS_MAX: usize = 32;
/// One parameter's value, in bytes: a path has at most 4,096, few have a quarter of that.
pub const COMMAND_VALUE_BYTES_MAX: usize = 1024;
/// One parameter's regular expression, in bytes.
pub const COMMAND_PATTERN_BYTES_MAX: usize = 512;
/// The same, compiled, in bytes: it is compiled for each use, so this bounds the time too.
pub const COMMAND_PATTERN_PROGRAM_BYTES_MAX: usize = 256 * 1024;
/// Brackets inside each other in it.
pub const COMMAND_PATTERN_DEPTH_MAX: u32 = 32;
/// One object in a target's answer that must be held whole to be masked, in bytes: ten times what
/// its store takes, for the longer text form.
pub const ANSWER_OBJECT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Nesting of one object: deeper than any schema of an honest one.
pub const OBJECT_DEPTH_MAX: usize = 100;
/// Nodes of one object that is written as YAML, which costs more to read than JSON.
pub const OBJECT_NODES_MAX: usize = 200_000;

/// One WebSocket frame of a stream, in bytes: what the servers behind it take. It is passed on in
/// pieces and never held.
pub const WEBSOCKET_FRAME_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Lines of the difference that one change made to an object, for people and the record.
pub const DIFF_LINES_MAX: usize = 200;
/// One value in such a line, in bytes.
pub const DIFF_VALUE_BYTES_MAX: usize = 256;

/// Orders from the streams of one session to the task that owns it; more wait at their sender.
pub const SESSION_ORDERS_LEN_MAX: usize = 64;
/// Statements of one session that are held at once: each is a channel or request that waits.
pub const SESSION_HOLDS_MAX: usize = 32;
/// Tasks of one session: channels, forwards and requests that run at once.
pub const SESSION_TASKS_MAX: usize = 1_024;
/// One stream's bytes in the record, each way; of what is longer, size and digest are recorded.
pub const STREAM_RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// One recorded piece of a stream, in bytes.
pub const STREAM_PIECE_BYTES_MAX: usize = 64 * 1024;
/// Known secrets shorter than this, in bytes, are not looked for in recordings: they would
/// appear by chance.
pub const SECRET_BYTES_MIN: usize = 4;
/// Held requests whose clients did not stay to wait, over all sessions of one protocol; each
/// keeps its session open.
pub const PARKED_REQUESTS_MAX: usize = 256;
/// How long a request that was decided waits for its client to come back for it.
pub const PARKED_OUTCOME_WAIT: Duration = Duration::from_secs(10 * 60);
/// Sessions of one client's HTTP connection: each is another token or target.
pub const SESSIONS_PER_CONNECTION_MAX: usize = 16;
/// One object of an API that a client writes, in bytes, held whole to be judged; the Kubernetes
/// API server takes no larger ones either.
pub const OBJECT_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Until an object that a client writes has arrived.
pub const OBJECT_DEADLINE: Duration = Duration::from_secs(60);
/// Until the head of a target's answer arrives. What streams afterwards takes as long as it
/// takes; the Kubernetes API server gives its own answers 60 s.
pub const TARGET_HEAD_DEADLINE: Duration = Duration::from_secs(120);
/// How often the gateway looks whether credentials of targets are to be renewed.
pub const CREDENTIAL_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A credential that is not due yet is looked at again after this: it may have been replaced.
pub const CREDENTIAL_LOOK_MAX: Duration = Duration::from_secs(30);
/// Asking a target for a new credential.
pub const CREDENTIAL_RENEWAL_DEADLINE: Duration = Duration::from_secs(20);
/// Targets that are asked for a new credential at once.
pub const CREDENTIAL_RENEWALS_MAX: usize = 8;
/// Between two renewals of one credential at least, and after a failed try at first.
pub const CREDENTIAL_RENEWAL_WAIT_MIN: Duration = Duration::from_secs(2);
/// Between two failed tries at most.
pub const CREDENTIAL_RENEWAL_WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// Silence on a TCP connection until its peer is asked whether it is there: a watch is mute for
/// hours, and middle boxes forget what is silent for some minutes.
pub const TCP_KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between two such questions that nobody answers.
pub const TCP_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered questions until the connection counts as lost: two minutes after the last word.
pub const TCP_KEEP_ALIVE_PROBES: u32 = 4;
/// Requests on one HTTP/2 connection to a target; servers refuse more than 100 or 250.
pub const TARGET_REQUESTS_PER_CONNECTION: usize = 90;
/// Connections of one session to a target that may wait for their next request.
pub const TARGET_CONNECTIONS_IDLE_MAX: usize = 8;
/// Password checks waiting behind [`PASSWORD_CHECKS_MAX`] running ones; more are refused.
pub const PASSWORD_CHECKS_WAITING_MAX: usize = 64;

/// One request's body at the API, in bytes: an `apply` of many manifests.
pub const API_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Until the API's answer begins; streams go on for longer.
pub const API_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that are read and thrown away of a request that was answered before it was whole, so that
/// its sender gets to the answer.
pub const API_LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long they may take.
pub const API_LINGER: Duration = Duration::from_secs(2);
/// Events that one search answers with, and one page of an export.
pub const EVENTS_PAGE_LEN_MAX: usize = 10_000;
/// A silent event stream sends a comment this often, so that middle boxes keep it.
pub const EVENT_STREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a follower of the event stream must still be somebody.
pub const EVENT_STREAM_RECHECK: Duration = Duration::from_secs(2);

/// Sign-ins of people that are on their way at once: each is a browser somewhere.
pub const SIGN_INS_PENDING_MAX: usize = 1_000;
/// From the first page of a sign-in to its end.
pub const SIGN_IN_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// How long the code that ends a sign-in may be shown, once (RFC 6749 section 4.1.2: 10 minutes at
/// most; the command line shows it at once).
pub const SIGN_IN_CODE_TTL: Duration = Duration::from_secs(60);
/// Devices that wait for a person at once.
pub const DEVICES_PENDING_MAX: usize = 1_000;
/// How often a device may ask (RFC 8628 section 3.5).
pub const DEVICE_INTERVAL: Duration = Duration::from_secs(2);
/// Wrong user codes over all people in [`DEVICE_GUESSES_SPAN`]; more are not looked at. With eight
/// letters of twenty and [`DEVICES_PENDING_MAX`] devices, guessing one takes a lifetime.
pub const DEVICE_GUESSES_MAX: usize = 30;
/// See [`DEVICE_GUESSES_MAX`].
pub const DEVICE_GUESSES_SPAN: Duration = Duration::from_secs(60);
/// Until people with live logins or runs are asked after at their provider, when the gateway's
/// configuration says nothing else.
pub const IDENTITY_RECHECK_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// A provider that could not answer for a person for this long counts as one that refused.
pub const IDENTITY_UNREACHABLE_MAX: Duration = Duration::from_secs(60 * 60);
/// People of one provider who are asked after at once.
pub const IDENTITY_RECHECKS_MAX: usize = 8;
/// How long ago a logout token may have been issued.
pub const LOGOUT_TOKEN_AGE_MAX: Duration = Duration::from_secs(5 * 60);
