//! What is kept of one session with a cluster.

use corral_gate::{Admission, Denial, DenialKind};
use corral_model::resource::TargetTlsMode;
use corral_session::SessionHandle;
use corral_transport::Endpoint;

use super::options::Options;
use super::outgoing::{Outgoing, identity};
use crate::http_parts::sessions::Kept;
use crate::http_parts::target::Target;

/// One session with a cluster.
pub(crate) struct Cluster {
    pub(crate) session: SessionHandle,
    pub(crate) options: Options,
    pub(crate) target: Target,
    pub(crate) outgoing: Outgoing,
}

impl Kept for Cluster {
    fn new(
        session: SessionHandle,
        admission: Admission,
        endpoint: Endpoint,
    ) -> Result<Self, Denial> {
        let options = Options::read(&admission.options).map_err(|error| {
            let mut denial =
                Denial::new(DenialKind::TargetUnavailable, "the target's options cannot be read");
            denial.internal = Some(error);
            denial
        })?;
        if endpoint.tls == TargetTlsMode::Disable && !admission.is_target_local {
            let text = "the gateway sends no token in clear to another machine";
            return Err(Denial::new(DenialKind::TargetUnavailable, text));
        }
        let outgoing = Outgoing::new(&admission, &options.impersonate)?;
        let target = Target::new(endpoint, identity(&admission), session.clone());
        Ok(Self { session, options, target, outgoing })
    }

    fn session(&self) -> &SessionHandle {
        &self.session
    }
}
