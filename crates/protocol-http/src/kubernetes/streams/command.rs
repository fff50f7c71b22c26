//! What a command in a container is called in decisions: its exact arguments, quoted as a shell
//! would need them.

/// Programs that read commands. What they are told later is recorded, and not decided.
const SHELLS: [&str; 18] = [
    "ash", "bash", "busybox", "csh", "dash", "fish", "irb", "ksh", "lua", "node", "perl", "php",
    "pwsh", "ruby", "sh", "tcsh", "toybox", "zsh",
];

/// A command as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// Arguments, each quoted where it needs it.
    pub(crate) text: String,
    /// The program's name without its folder.
    pub(crate) program: String,
    /// It reads further commands, from its input or its arguments.
    pub(crate) is_shell: bool,
}

impl Command {
    pub(crate) fn of<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let arguments: Vec<&str> = arguments.into_iter().collect();
        let text: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
        let path = arguments.first().copied().unwrap_or_default();
        let program = path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_shell = SHELLS.contains(&program.as_str()) || program.starts_with("python");
        Self { text: text.join(" "), program, is_shell }
    }
}

/// The line that people and the record read.
pub(crate) fn line(
    verb: &str,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
    command: Option<&Command>,
    is_interactive: bool,
) -> String {
    let mut line = format!("{verb} {}/{}", quoted(namespace), quoted(pod));
    if let Some(container) = container {
        line.push_str(" -c ");
        line.push_str(&quoted(container));
    }
    if let Some(command) = command {
        line.push_str(" -- ");
        line.push_str(&command.text);
    }
    if is_interactive {
        line.push_str(" (interactive)");
    }
    line
}

/// An argument that a POSIX shell reads as exactly this one.
fn quoted(argument: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    match !argument.is_empty() && argument.bytes().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_so_that_they_cannot_be_taken_for_others() {
        let check = |arguments: &[&str], expect: &str| {
            assert_eq!(Command::of(arguments.iter().copied()).text, expect);
        };
        check(&["ls", "-l", "/a b"], "ls -l '/a b'");
        check(&["ls", "-l /a", "b"], "ls '-l /a' b");
        check(&["echo", "it's", "", "$x", "a;b"], r"echo 'it'\''s' '' '$x' 'a;b'");
        check(&["a\nb"], "'a\nb'");
        check(&[], "");
    }

    #[test]
    fn shells_are_told_by_their_programs() {
        let check = |arguments: &[&str], program: &str, expect: bool| {
            let command = Command::of(arguments.iter().copied());
            assert_eq!((command.program.as_str(), command.is_shell), (program, expect));
        };
        check(&["/bin/sh", "-c", "ls"], "sh", true);
        check(&["python3.12"], "python3.12", true);
        check(&["ls"], "ls", false);
        check(&[], "", false);
    }

    #[test]
    fn a_line_names_everything_that_it_is_about() {
        let command = Command::of(["sh"]);
        assert_eq!(
            line("exec", "shop", "web-1", Some("app"), Some(&command), true),
            "exec shop/web-1 -c app -- sh (interactive)"
        );
        assert_eq!(line("attach", "shop", "web-1", None, None, false), "attach shop/web-1");
    }
}
