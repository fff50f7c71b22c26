//! What a command line asks for when it sends a browser here (RFC 6749 section 4.1.1, RFC 7636, RFC
//! 8252). Where the code goes is decided here, before anything else.

use corral_api::sign_in::{CALLBACK_PATH, CLIENT_ID};

use super::field;
use crate::app::sign_in::SignInFor;

/// A state of the command line's, in bytes; it makes 43.
const STATE_BYTES_MAX: usize = 256;

/// What a command line asks for, when it asks as it should.
pub(super) fn command_line(query: &[(String, String)]) -> Option<SignInFor> {
    let redirect_uri = field(query, "redirect_uri").filter(|uri| is_loopback(uri))?;
    let challenge = field(query, "code_challenge")?;
    let state = field(query, "state");
    let is_sound = field(query, "client_id") == Some(CLIENT_ID)
        && field(query, "response_type") == Some("code")
        && field(query, "code_challenge_method") == Some("S256")
        && challenge.len() == 43
        && state.is_none_or(|state| state.len() <= STATE_BYTES_MAX);
    is_sound.then(|| SignInFor::CommandLine {
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        challenge: challenge.to_owned(),
    })
}

/// RFC 8252 section 7.3: an address of this machine's own, by number, with any port.
fn is_loopback(uri: &str) -> bool {
    let rest = uri.strip_prefix("http://127.0.0.1:").or_else(|| uri.strip_prefix("http://[::1]:"));
    let port = rest.and_then(|rest| rest.strip_suffix(CALLBACK_PATH));
    port.is_some_and(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Fields;
    use super::*;

    #[test]
    fn only_a_command_line_on_this_machine_is_sent_a_code() {
        let check = |uri: &str, is_taken: bool| assert_eq!(is_loopback(uri), is_taken, "{uri}");
        check("http://127.0.0.1:40000/callback", true);
        check("http://[::1]:1/callback", true);
        check("http://127.0.0.1/callback", false);
        check("http://127.0.0.1:0/callback", false);
        check("http://127.0.0.1:99999/callback", false);
        check("http://127.0.0.1:80@evil.example/callback", false);
        check("http://127.0.0.1:80/x/callback", false);
        check("http://127.0.0.1:80/callback?x", false);
        check("http://127.0.0.1.evil.example:80/callback", false);
        check("http://localhost:80/callback", false);
        check("https://evil.example/callback", false);
        check("", false);
    }

    fn query(changed: (&str, &str)) -> Fields {
        let sound = [
            ("client_id", "corral-cli"),
            ("response_type", "code"),
            ("redirect_uri", "http://127.0.0.1:40000/callback"),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
            ("state", "s"),
        ];
        let own = |(name, value): (&str, &str)| {
            let value = if name == changed.0 { changed.1 } else { value };
            (name.to_owned(), value.to_owned())
        };
        sound.into_iter().map(own).collect()
    }

    #[test]
    fn a_request_without_a_proof_key_is_not_begun() {
        assert!(command_line(&query(("", ""))).is_some());
        for changed in [
            ("client_id", "other"),
            ("response_type", "token"),
            ("code_challenge", "short"),
            ("code_challenge", ""),
            ("code_challenge_method", "plain"),
            ("code_challenge_method", ""),
            ("redirect_uri", "https://evil.example/callback"),
        ] {
            assert_eq!(command_line(&query(changed)), None, "{changed:?}");
        }
        let mut twice = query(("", ""));
        twice.push(("redirect_uri".into(), "http://127.0.0.1:1/callback".into()));
        assert_eq!(command_line(&twice), None);
    }
}
