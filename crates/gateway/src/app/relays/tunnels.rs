//! One connection of a relay process, from its handshake to its end.

use std::sync::Arc;
use std::time::Duration;

use corral_model::event::{EventBody, Origin};
use corral_model::limits;
use corral_transport::Accepted;
use corral_transport::tunnel::{
    AllowedAddress, GatewayEnd, Installed, Membership, RelayCertificate, RelayPool, Settings,
    Tunnel, TunnelEnd, TunnelError,
};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::authority::RelayRequest;
use crate::app::App;
use crate::app::error::describe;

/// How often in a certificate's life it is looked whether it is due, at least.
const RENEW_CHECKS: u32 = 20;

const HANDSHAKE_LATE: &str = "its handshake did not end in time";

/// How many connections there may be.
pub(super) struct Places {
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(limits::RELAY_HANDSHAKES_MAX)),
            connections: Arc::new(Semaphore::new(limits::RELAY_CONNECTIONS_MAX)),
        }
    }
}

impl App {
    /// Serves whoever connected to the listener for relays.
    pub(crate) async fn serve_relay(self: Arc<Self>, accepted: Accepted) {
        let address = accepted.client_address;
        let places = &self.relays.tunnels;
        let Ok(place) = places.connections.clone().try_acquire_owned() else {
            tracing::warn!("a relay is not taken: there are as many as there may be");
            return;
        };
        let Ok(handshake) = places.handshakes.clone().try_acquire_owned() else {
            tracing::warn!("a relay is not taken: too many connect at once");
            return;
        };
        let Ok(plain) = accepted.stream.into_plain() else { return };
        let tls = self.relays.authority.tls.accept(plain);
        let (io, certificate) = match timeout(limits::RELAY_HANDSHAKE_DEADLINE, tls).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => return self.no_relay(None, address, describe(&error)),
            Err(_) => return self.no_relay(None, address, HANDSHAKE_LATE.to_owned()),
        };
        let begun = timeout(limits::RELAY_HANDSHAKE_DEADLINE, GatewayEnd::start(io)).await;
        let relay = || Some(certificate.relay.clone());
        let (tunnel, end) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return self.no_relay(relay(), address, describe(&error)),
            Err(_) => return self.no_relay(relay(), address, HANDSHAKE_LATE.to_owned()),
        };
        let connection = Connection { app: self.clone(), tunnel, certificate, address };
        connection.serve(end.run(), handshake).await;
        drop(place);
    }

    /// Records that whoever connected is not taken.
    fn no_relay(&self, relay: Option<String>, address: String, reason: String) {
        tracing::warn!(relay, reason, "a relay is not taken");
        let body = EventBody::RelayRefused { relay, address: Some(address), reason };
        self.note(Origin::default(), body);
    }

    /// What speaks against a relay's certificate; None when nothing does.
    async fn fault_of_relay(&self, certificate: &RelayCertificate) -> Option<&'static str> {
        let RelayCertificate { relay, serial, .. } = certificate;
        if self.known_relay(relay).is_err() {
            return Some("there is no relay of this name");
        }
        match self.store.relay_certificate(serial).await {
            Ok(Some(row)) if row.relay != *relay => Some("the certificate is another relay's"),
            Ok(Some(row)) if row.revoked_at.is_some() => Some("the certificate was revoked"),
            Ok(Some(row)) if row.expires_at <= OffsetDateTime::now_utc() => {
                Some("the certificate has expired")
            }
            Ok(Some(_)) => None,
            Ok(None) => Some("the certificate was not issued, or its relay was deleted"),
            Err(error) => {
                tracing::error!(error = %describe(&error), "a relay's certificate cannot be checked");
                Some("the certificate cannot be checked at the moment")
            }
        }
    }
}

/// A relay's connection, while something else drives it.
struct Connection {
    app: Arc<App>,
    tunnel: Tunnel,
    certificate: RelayCertificate,
    address: String,
}

impl Connection {
    /// From the first word to the last; `driven` moves the connection's bytes.
    async fn serve(self, driven: impl Future<Output = TunnelEnd>, handshake: OwnedSemaphorePermit) {
        tokio::pin!(driven);
        let admitted = tokio::select! {
            end = &mut driven => Err(text_of(&end)),
            admitted = self.admit() => admitted,
        };
        drop(handshake);
        let (pool, membership) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                tokio::select! {
                    _ = &mut driven => {}
                    _ = self.tunnel.refuse(&reason) => {}
                }
                let relay = Some(self.certificate.relay.clone());
                return self.app.no_relay(relay, self.address.clone(), reason);
            }
        };
        let RelayCertificate { relay, serial, .. } = self.certificate.clone();
        tracing::info!(relay, serial, "a relay joined");
        let address = self.address.clone();
        let joined = EventBody::RelayJoined {
            relay: relay.clone(),
            serial: serial.clone(),
            address: address.clone(),
        };
        self.app.note(Origin::default(), joined);
        let reason = tokio::select! {
            end = &mut driven => text_of(&end),
            reason = self.keep(&pool) => {
                tokio::select! {
                    _ = &mut driven => {}
                    _ = self.tunnel.refuse(&reason) => {}
                }
                reason
            }
        };
        let streams = self.tunnel.streams();
        drop(membership);
        tracing::info!(relay, serial, reason, streams, "a relay left");
        let streams = u64::try_from(streams).unwrap_or(u64::MAX);
        let left = EventBody::RelayLeft { relay, serial, address, reason, streams };
        self.app.note(Origin::default(), left);
    }

    /// Checks the certificate, gives the relay its settings, and puts it into its pool.
    async fn admit(&self) -> Result<(Arc<RelayPool>, Membership), String> {
        if let Some(fault) = self.app.fault_of_relay(&self.certificate).await {
            return Err(fault.to_owned());
        }
        let name = &self.certificate.relay;
        let pool = self.app.relays.pool(name).ok_or("there is no relay of this name")?;
        let (version, addresses) = pool.follow().current();
        self.set(version, addresses).await.map_err(|error| describe(&error))?;
        let membership =
            pool.join(self.tunnel.clone(), self.certificate.clone(), self.address.clone());
        // Whoever revokes first changes the store and then ends what is in the pool: either it
        // finds this connection there, or this finds the changed store.
        match self.app.fault_of_relay(&self.certificate).await {
            None => Ok((pool, membership)),
            Some(fault) => Err(fault.to_owned()),
        }
    }

    async fn set(&self, version: u64, addresses: Arc<[AllowedAddress]>) -> Result<(), TunnelError> {
        let settings = Settings {
            relay: self.certificate.relay.clone(),
            gateway: self.app.identity().name.clone(),
            addresses: addresses.to_vec(),
        };
        self.tunnel.set(&settings, version).await
    }

    /// Tells the relay each change of its list and renews its certificate, until one of them
    /// fails. Gives why.
    async fn keep(&self, pool: &RelayPool) -> String {
        let lifetime = self.app.relays.certificate_lifetime;
        let mut current = self.certificate.clone();
        let mut followed = pool.follow();
        // The list may have changed while this relay was taken in.
        let mut is_changed = true;
        loop {
            if is_changed {
                let (version, addresses) = followed.current();
                if let Err(error) = self.set(version, addresses).await {
                    return describe(&error);
                }
            }
            if let Some(fault) = self.app.fault_of_relay(&current).await {
                return fault.to_owned();
            }
            if is_due(&current, lifetime) {
                match self.renew(&current.relay).await {
                    Ok(next) => current = next,
                    // It is tried again until the certificate ends.
                    Err(error) => tracing::warn!(error, "a relay's certificate is renewed later"),
                }
            }
            let wait = limits::RELAY_RENEW_CHECK.min(lifetime / RENEW_CHECKS);
            is_changed = tokio::select! {
                changed = followed.changed() => changed,
                () = tokio::time::sleep(wait) => false,
            };
        }
    }

    async fn renew(&self, relay: &str) -> Result<RelayCertificate, String> {
        let request = self.tunnel.ask_request().await.map_err(|error| describe(&error))?;
        let request = Some(request.request_pem)
            .filter(|pem| pem.len() <= limits::RELAY_REQUEST_BYTES_MAX)
            .and_then(|pem| RelayRequest::read(&pem))
            .ok_or("the relay's request cannot be read")?;
        let issued = self.app.issue_relay_certificate(&request, relay).await;
        let issued = issued.map_err(|error| error.to_string())?;
        let installed = Installed { certificate_pem: issued.pem };
        self.tunnel.install(&installed).await.map_err(|error| describe(&error))?;
        tracing::info!(relay, serial = issued.facts.serial, "a relay's certificate was renewed");
        Ok(issued.facts)
    }
}

/// A certificate is renewed once a seventh of its life has passed: a relay may be away for most of
/// it and still comes back by itself.
fn is_due(certificate: &RelayCertificate, lifetime: Duration) -> bool {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let now = Duration::from_secs(u64::try_from(now).unwrap_or(0));
    certificate.ends_at.saturating_sub(now) < lifetime * 6 / 7
}

fn text_of(end: &TunnelEnd) -> String {
    match end {
        TunnelEnd::Closed => "the relay closed the connection".to_owned(),
        TunnelEnd::Ended => "the gateway closed the connection".to_owned(),
        TunnelEnd::CutOff => {
            format!("nothing was heard for {} s", limits::RELAY_LEASE.as_secs())
        }
        TunnelEnd::Failed(error) => format!("the connection was lost: {error}"),
    }
}
