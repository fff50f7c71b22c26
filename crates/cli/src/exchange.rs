//! Starts a run with whatever token there is: the API takes the gateway's own, the token service
//! those that a CI system or cluster signed.

use corral_api::oauth::{JWT_TYPE, RUN_DETAIL, RunDetail, TOKEN_EXCHANGE, TokenResponse};
use corral_api::sign_in::TOKEN_PATH;
use corral_api::{StartRunRequest, StartRunResponse};

use crate::client::{Client, of_oauth};
use crate::failure::Failure;
use crate::sign_in::form;

/// # Errors
/// Whatever kept the run from starting.
pub(crate) async fn start(
    client: &Client,
    request: &StartRunRequest,
) -> Result<StartRunResponse, Failure> {
    let token = client.token()?.reveal();
    if !is_jwt(token) {
        return client.post(&["runs"], request).await;
    }
    if request.for_principal.is_some() {
        return Err(Failure::usage("a job's token says whose run it is; leave --for away"));
    }
    let detail = RunDetail {
        kind: RUN_DETAIL.to_owned(),
        name: Some(request.name.clone()),
        run_id: None,
        purpose: request.purpose.clone(),
        targets: request.targets.iter().map(ToString::to_string).collect(),
        actions: request.actions.clone(),
        renew_within_s: request.renew_within_s,
        ttl_s: request.ttl_s,
    };
    let details = serde_json::to_string(&[detail])
        .map_err(|error| Failure::failed(format!("cannot write the request: {error}")))?;
    let fields = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", token),
        ("subject_token_type", JWT_TYPE),
        ("authorization_details", details.as_str()),
    ];
    let trace = request.traceparent.as_ref();
    let response: TokenResponse = match client.post_form(TOKEN_PATH, &form(&fields), trace).await? {
        Ok(response) => response,
        Err(refusal) => return Err(Failure::from(of_oauth(refusal)).without_hint()),
    };
    let mut started = response.authorization_details.into_iter();
    let started = started
        .next()
        .ok_or_else(|| Failure::failed("the gateway's answer does not say which run it started"))?;
    Ok(StartRunResponse {
        run_id: started.run_id,
        token: response.access_token,
        expires_at: started.expires_at,
        name: started.name,
        path: started.path,
        principal: started.principal,
        sponsor: started.sponsor,
        parent: started.parent,
        targets: started.targets,
        actions: started.actions,
    })
}

/// Three parts, the first of which is a JSON object.
fn is_jwt(token: &str) -> bool {
    token.starts_with("eyJ") && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_is_told_from_a_token_of_the_gateway() {
        assert!(is_jwt("eyJhbGciOiJFZERTQSJ9.e30.AA"));
        for other in ["crl_abc", "eyJ.e30", "", "a.b.c"] {
            assert!(!is_jwt(other), "{other}");
        }
    }
}
