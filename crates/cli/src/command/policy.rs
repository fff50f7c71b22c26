//! `policy check` and `test`, offline; `policy explain`, by the gateway.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use corral_api::DecisionView;
use corral_gate::policy::{
    CaseResult, Engine, PolicyProblem, PolicySource, PolicyTests, Severity, check_sources,
    run_tests,
};
use corral_model::ids::{PolicyVersion, ResourceName};
use corral_model::limits;
use corral_model::resource::{Resource, TextSource};
use serde::Serialize;

use crate::Context;
use crate::discover::read_bounded;
use crate::event_line;
use crate::failure::{Exit, Failure};
use crate::manifest::{files_in, load};
use crate::output;

/// Check, test and explain policies
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral policy check shop.cedar
  corral policy check policies/
  corral policy test shop.tests.yaml
  corral policy test shop.tests.yaml --policies shop.cedar
  corral policy explain DECISION_ID")]
pub enum PolicyCommand {
    /// Check policies against the schema; needs no gateway
    Check {
        /// .cedar files, manifests, or directories of them
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
    },
    /// Ask policies the cases of a test file; needs no gateway
    Test(TestArgs),
    /// Explain one decision, by the id that its refusal names
    Explain {
        #[arg(value_name = "DECISION_ID")]
        id: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// Files of cases, YAML with `tests:`, or directories of them
    #[arg(value_name = "PATH", required = true)]
    pub tests: Vec<PathBuf>,
    /// The policies to test; when absent those that the test file names in `policies:`
    #[arg(long, value_name = "PATH")]
    pub policies: Vec<PathBuf>,
}

pub(crate) async fn policy(context: &Context<'_>, command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check { paths } => check(context, &paths),
        PolicyCommand::Test(args) => test(context, &args),
        PolicyCommand::Explain { id } => explain(context, &id).await,
    }
}

/// Policies with the files that they came from.
#[derive(Debug, Default)]
struct Sources {
    sources: Vec<PolicySource>,
    files: BTreeMap<ResourceName, String>,
}

/// One problem as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Problem {
    file: String,
    policy: String,
    line: u32,
    column: u32,
    severity: Severity,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Sources {
    fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut sources = Self::default();
        for path in paths {
            if path.is_dir() {
                for file in files_in(path, &["cedar"])? {
                    sources.add_cedar(&file)?;
                }
                let mut manifests = files_in(path, &["yaml", "yml"])?;
                manifests.retain(|file| !holds_cases(file));
                sources.add_manifests(&manifests, Missing::IsFine)?;
            } else if path.extension().is_some_and(|extension| extension == "cedar") {
                sources.add_cedar(path)?;
            } else {
                sources.add_manifests(std::slice::from_ref(path), Missing::IsAnError)?;
            }
        }
        if sources.sources.is_empty() {
            return Err(Failure::failed("there is no policy in what was named")
                .with_hint("name .cedar files, manifests with `kind: Policy`, or directories"));
        }
        Ok(sources)
    }

    fn add_cedar(&mut self, file: &Path) -> Result<(), Failure> {
        let cedar = read_bounded(file)?;
        // A manifest beside it may have brought the same file.
        if self.sources.iter().any(|source| source.cedar == cedar) {
            return Ok(());
        }
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        self.add(&stem, cedar, file.display().to_string())
    }

    fn add_manifests(&mut self, files: &[PathBuf], missing: Missing) -> Result<(), Failure> {
        // Secrets are of no interest here, so none has to be there.
        let loaded = load(files, &|_| Some("not read".to_owned()))?;
        let before = self.sources.len();
        for one in loaded {
            if let Resource::Policy(policy) = one.resource
                && let TextSource::Inline(cedar) = policy.cedar
                && !self.sources.iter().any(|source| source.cedar == cedar)
            {
                let file = one.file.display().to_string();
                self.add(policy.name.as_str(), cedar, file)?;
            }
        }
        match (missing, files) {
            (Missing::IsAnError, [file]) if self.sources.len() == before => {
                Err(Failure::failed(format!("{} holds no policy", file.display())))
            }
            (Missing::IsAnError | Missing::IsFine, _) => Ok(()),
        }
    }

    fn add(&mut self, name: &str, cedar: String, file: String) -> Result<(), Failure> {
        let allowed: String = name
            .chars()
            .map(|c| {
                let is_allowed =
                    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+');
                if is_allowed { c } else { '-' }
            })
            .collect();
        let name = ResourceName::new(allowed)
            .map_err(|error| Failure::failed(format!("{file}: {error}")))?;
        if let Some(other) = self.files.insert(name.clone(), file.clone()) {
            return Err(Failure::failed(format!(
                "{file} and {other} hold two policies called '{name}'; name one of them otherwise"
            )));
        }
        self.sources.push(PolicySource { name, cedar });
        Ok(())
    }

    fn problem(&self, problem: PolicyProblem) -> Problem {
        Problem {
            file: self.files.get(&problem.source).cloned().unwrap_or_default(),
            policy: problem.source.to_string(),
            line: problem.line,
            column: problem.column,
            severity: problem.severity,
            text: problem.text,
            help: problem.help,
        }
    }
}

/// Test cases stand beside policies and are no manifests: `shop.tests.yaml`, `shop-tests.yaml`.
fn holds_cases(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// Whether a manifest without a policy is a mistake.
#[derive(Debug, Clone, Copy)]
enum Missing {
    IsFine,
    IsAnError,
}

fn problem_line(problem: &Problem) -> String {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let help = problem.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
    let Problem { file, line, column, text, .. } = problem;
    crate::text::visible(&format!("{file}:{line}:{column}: {severity}: {text}{help}"))
}

fn problem_lines(problems: &[Problem]) -> String {
    problems.iter().map(problem_line).collect::<Vec<String>>().join("\n")
}

fn check(context: &Context<'_>, paths: &[PathBuf]) -> Result<(), Failure> {
    let sources = Sources::read(paths)?;
    let problems: Vec<Problem> = check_sources(&sources.sources, context.protocols)
        .into_iter()
        .map(|problem| sources.problem(problem))
        .collect();
    let count = sources.sources.len();
    output::show(context.format(), &problems, |problems| match problems.as_slice() {
        [] => format!("ok: {count} policies"),
        problems => problem_lines(problems),
    })?;
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Failure::silent(Exit::Failed));
    }
    Ok(())
}

/// What became of one case, with its file.
#[derive(Debug, Serialize)]
struct Tested {
    file: String,
    #[serde(flatten)]
    result: CaseResult,
}

fn test(context: &Context<'_>, args: &TestArgs) -> Result<(), Failure> {
    let mut tested: Vec<Tested> = Vec::new();
    for file in test_files(&args.tests)? {
        let cases = read_tests(&file)?;
        let engine = compile(context, &Sources::read(&policies_of(&file, &cases, args)?)?)?;
        let results = run_tests(&engine, &cases);
        let shown = file.display().to_string();
        tested.extend(results.into_iter().map(|result| Tested { file: shown.clone(), result }));
    }
    let failed = tested.iter().filter(|one| !one.result.passed).count();
    output::show(context.format(), &tested, |tested| {
        let mut lines: Vec<String> = Vec::new();
        for one in tested {
            let word = if one.result.passed { "pass" } else { "FAIL" };
            lines.push(format!("{word}  {}: {}", one.file, crate::text::visible(&one.result.name)));
            if let Some(failure) = &one.result.failure {
                lines.push(format!("      {}", crate::text::visible(failure)));
            }
        }
        lines.push(format!("{} passed, {failed} failed", tested.len() - failed));
        lines.join("\n")
    })?;
    if failed > 0 {
        return Err(Failure::silent(Exit::Failed));
    }
    Ok(())
}

/// The files that were named, and those with cases in directories that were.
fn test_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut found = files_in(path, &["yaml", "yml"])?;
            found.retain(|file| holds_cases(file));
            if found.is_empty() {
                let text = format!("there is no file of cases in {}", path.display());
                return Err(Failure::failed(text).with_hint("their names end with tests.yaml"));
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// What a file of cases tests: what the command line says, else what the file says, relative to
/// itself.
fn policies_of(file: &Path, cases: &PolicyTests, args: &TestArgs) -> Result<Vec<PathBuf>, Failure> {
    if !args.policies.is_empty() {
        return Ok(args.policies.clone());
    }
    if cases.policies.is_empty() {
        return Err(Failure::failed(format!("{} names no policies", file.display()))
            .with_hint("write `policies: [FILE.cedar]` at its head, or pass --policies PATH"));
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(cases.policies.iter().map(|policy| folder.join(policy)).collect())
}

fn compile(context: &Context<'_>, sources: &Sources) -> Result<Engine, Failure> {
    Engine::compile(PolicyVersion::default(), &sources.sources, context.protocols, &[]).map_err(
        |problems| {
            let problems: Vec<Problem> =
                problems.into_iter().map(|problem| sources.problem(problem)).collect();
            Failure::failed(problem_lines(&problems))
        },
    )
}

fn read_tests(file: &Path) -> Result<PolicyTests, Failure> {
    let text = read_bounded(file)?;
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_aliases = 0;
    budget.max_anchors = 0;
    budget.max_depth = limits::MANIFEST_DEPTH_MAX;
    budget.max_nodes = limits::MANIFEST_NODES_MAX;
    options.budget = Some(budget);
    options.strict_booleans = true;
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        let place = error
            .location()
            .map(|at| format!(":{}:{}", at.line(), at.column()))
            .unwrap_or_default();
        Failure::failed(format!("{}{place}: {}", file.display(), first_line(&error.to_string())))
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

async fn explain(context: &Context<'_>, id: &str) -> Result<(), Failure> {
    let decision: DecisionView = context.client()?.get(&["decisions", id]).await?;
    output::show(context.format(), &decision, explain_text)
}

fn explain_text(decision: &DecisionView) -> String {
    let mut lines: Vec<String> = vec![event_line::line(&decision.event)];
    if let corral_model::EventBody::StatementDecided {
        statement,
        effects,
        objects,
        reason,
        policy_version,
        ..
    } = &decision.event.body
    {
        let effects: Vec<&str> = effects.iter().map(corral_model::Effect::name).collect();
        let objects: Vec<String> = objects
            .iter()
            .map(|object| format!("{} {}.{}", object.kind, object.schema, object.name))
            .collect();
        let statement = match statement {
            corral_model::event::EventText::Whole(text) => text.clone(),
            corral_model::event::EventText::Digest { sha256, bytes } => {
                format!("{bytes} bytes, sha256 {sha256}")
            }
        };
        let facts = output::fields(&[
            ("statement", Some(statement)),
            ("effects", (!effects.is_empty()).then(|| effects.join(", "))),
            ("objects", (!objects.is_empty()).then(|| objects.join(", "))),
            ("reason", reason.clone()),
            ("policy version", Some(policy_version.0.to_string())),
        ]);
        lines.push(facts.trim_end().to_owned());
    }
    for rule in &decision.rules {
        let policy = rule.policy.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
        let reason = rule.reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        let text = format!("rule {}{policy} ({}){reason}", rule.id, rule.effect);
        lines.push(crate::text::visible(&text));
    }
    if decision.rules.is_empty() {
        lines.push("no rule determined it, or none of them stands any more".to_owned());
    }
    if let Some(verdict) = &decision.verdict_now {
        let reason = verdict.reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        let version = decision.version_now.0;
        let text = format!("with policy version {version}: {}{reason}", verdict.outcome.name());
        lines.push(crate::text::visible(&text));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("writes");
        }
        dir
    }

    const PERMIT: &str = "permit (principal, action, resource);";

    #[test]
    fn a_policy_that_a_manifest_names_is_read_once() {
        let manifest = "kind: Policy\nname: p\ncedar: {file: shop.cedar}\n---\n\
                        kind: User\nname: ada\npassword: {env: NOT_SET}\n";
        let dir = folder(&[("shop.cedar", PERMIT), ("shop.yaml", manifest)]);
        let sources = Sources::read(&[dir.path().to_owned()]).expect("is read");
        assert_eq!(sources.sources.len(), 1);
        assert_eq!(sources.sources[0].name.as_str(), "shop");
    }

    #[test]
    fn cases_beside_policies_are_no_manifests() {
        let dir = folder(&[("shop.cedar", PERMIT), ("shop.tests.yaml", "tests: []")]);
        let sources = Sources::read(&[dir.path().to_owned()]).expect("is read");
        assert_eq!(sources.sources.len(), 1);
    }

    #[test]
    fn what_holds_no_policy_is_refused() {
        let dir = folder(&[("users.yaml", "kind: User\nname: ada\n")]);
        assert!(Sources::read(&[dir.path().join("users.yaml")]).is_err());
        assert!(Sources::read(&[dir.path().to_owned()]).is_err());
    }

    #[test]
    fn cases_name_their_policies_relative_to_themselves() {
        let args = |policies: &[&str]| TestArgs {
            tests: Vec::new(),
            policies: policies.iter().map(PathBuf::from).collect(),
        };
        let cases = |names: &[&str]| PolicyTests {
            policies: names.iter().map(ToString::to_string).collect(),
            tests: Vec::new(),
        };
        let file = Path::new("policies/shop.tests.yaml");
        let found = policies_of(file, &cases(&["shop.cedar"]), &args(&[]));
        assert_eq!(found, Ok(vec![PathBuf::from("policies/shop.cedar")]));
        let found = policies_of(file, &cases(&["shop.cedar"]), &args(&["new.cedar"]));
        assert_eq!(found, Ok(vec![PathBuf::from("new.cedar")]));
        assert!(policies_of(file, &cases(&[]), &args(&[])).is_err());
    }

    #[test]
    fn a_wrong_file_of_cases_is_told_with_its_place() {
        let dir = folder(&[("t.yaml", "tests: []\nbogus: 1\n")]);
        let failure = read_tests(&dir.path().join("t.yaml")).expect_err("is refused");
        assert!(failure.message.contains("t.yaml:2:1: "), "{failure}");
        assert!(failure.message.contains("bogus") && !failure.message.contains('\n'), "{failure}");
    }

    #[test]
    fn problems_name_the_file() {
        let dir = folder(&[("bad.cedar", "permit (principal, action, resource;")]);
        let sources = Sources::read(&[dir.path().join("bad.cedar")]).expect("is read");
        let problems = check_sources(&sources.sources, &[]);
        let problem = sources.problem(problems.into_iter().next().expect("a problem"));
        assert!(problem_line(&problem).contains("bad.cedar:1:"), "{problem:?}");
    }
}
