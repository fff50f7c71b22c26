//! How kubectl, and everything else that reads a kubeconfig, is told where to connect. The token
//! comes from a credential plugin: it stands in no file.

use corral_model::native::{
    Bare, ClientFile, ClientVariable, FileKind, Listener, NativeClient, Piece, Reach, VariableValue,
};

/// The file's name, in the caller's directory.
const FILE: &str = "kubeconfig";
/// Known to client-go since 1.22.
const EXEC_VERSION: &str = "client.authentication.k8s.io/v1";

/// The kubeconfig for a listener: a context for each target, named as the target. With one
/// target, it is the current one. None when there is no target to be led to.
pub(crate) fn client(reach: &Reach) -> Option<NativeClient> {
    if reach.targets.is_empty() {
        return None;
    }
    let mut pieces = vec![Piece::text("apiVersion: v1\nkind: Config\nclusters:\n")];
    for target in &reach.targets {
        let path = match reach.listener {
            Listener::Shared => format!("/k8s/{}", target.name),
            Listener::OfTarget => String::new(),
        };
        pieces.push(Piece::Text(format!(
            "- name: \"{}\"\n  cluster:\n    server: \"https://",
            target.name
        )));
        pieces.push(Piece::UrlHost);
        pieces.push(Piece::Text(format!(
            ":{}{path}\"\n    certificate-authority-data: \"",
            reach.port
        )));
        pieces.push(Piece::CaBase64);
        pieces.push(Piece::text("\"\n"));
    }
    pieces.push(Piece::Text(format!(
        "users:\n- name: corral\n  user:\n    exec:\n      apiVersion: {EXEC_VERSION}\n      \
         command: \""
    )));
    pieces.push(Piece::Directory);
    // The token is only ever asked of, and sent to, the gateway that wrote this file.
    pieces.push(Piece::text("/bin/corral\"\n      args: [\"k8s-credential\", \"--gateway\", \""));
    pieces.push(Piece::Gateway);
    pieces.push(Piece::text("\", \"--ca-file\", \""));
    pieces.push(Piece::Directory);
    pieces.push(Piece::text(
        "/ca.pem\"]\n      interactiveMode: Never\n      provideClusterInfo: false\ncontexts:\n",
    ));
    for target in &reach.targets {
        pieces.push(Piece::Text(format!(
            "- name: \"{0}\"\n  context: {{cluster: \"{0}\", user: corral}}\n",
            target.name
        )));
    }
    let current = match reach.targets.as_slice() {
        [only] => only.name.as_str(),
        _ => "",
    };
    pieces.push(Piece::Text(format!("current-context: \"{current}\"\n")));
    let path = vec![Piece::Directory, Piece::text(format!("/{FILE}"))];
    let variables = vec![
        ClientVariable::new("KUBECONFIG", VariableValue::Pieces(path)),
        // The plugin's: whoever writes this may have found the token elsewhere.
        ClientVariable::new("CORRAL_TOKEN", VariableValue::Token),
    ];
    let mut client = NativeClient::of_variables("kubectl", variables);
    client.bare = Bare::Shell;
    client.files = vec![ClientFile { name: FILE.to_owned(), kind: FileKind::Text, pieces }];
    Some(client)
}

#[cfg(test)]
mod tests {
    use corral_model::native::{Lifetime, ReachedTarget};

    use super::*;

    fn text(listener: Listener, names: &[&str]) -> String {
        let target = |name: &&str| ReachedTarget { name: (*name).into(), username: String::new() };
        let targets = names.iter().map(target).collect();
        let reach = Reach { port: 443, listener, lifetime: Lifetime::Process, targets };
        let client = client(&reach).expect("there are targets");
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::UrlHost => "[::1]".to_owned(),
            Piece::Directory => "/dir".to_owned(),
            Piece::CaBase64 => "Q0E=".to_owned(),
            Piece::Gateway => "https://gate".to_owned(),
            other => panic!("no {other:?} is asked for"),
        };
        client.files.iter().flat_map(|file| &file.pieces).map(piece).collect()
    }

    #[test]
    fn a_kubeconfig_leads_to_the_target_without_a_token() {
        let expect = "apiVersion: v1\nkind: Config\nclusters:\n- name: \"k\"\n  cluster:\n    \
            server: \"https://[::1]:443/k8s/k\"\n    certificate-authority-data: \"Q0E=\"\n\
            users:\n- name: corral\n  user:\n    exec:\n      \
            apiVersion: client.authentication.k8s.io/v1\n      \
            command: \"/dir/bin/corral\"\n      args: [\"k8s-credential\", \
            \"--gateway\", \"https://gate\", \"--ca-file\", \"/dir/ca.pem\"]\n      \
            interactiveMode: Never\n      provideClusterInfo: false\n\
            contexts:\n- name: \"k\"\n  context: {cluster: \"k\", user: corral}\n\
            current-context: \"k\"\n";
        assert_eq!(text(Listener::Shared, &["k"]), expect);
    }

    #[test]
    fn targets_have_contexts_of_their_own() {
        let several = text(Listener::Shared, &["a", "b"]);
        assert!(several.contains("/k8s/a\"") && several.contains("/k8s/b\""));
        assert!(several.ends_with("current-context: \"\"\n"));
        let own = text(Listener::OfTarget, &["a"]);
        assert!(own.contains("server: \"https://[::1]:443\"\n"), "{own}");
    }
}
