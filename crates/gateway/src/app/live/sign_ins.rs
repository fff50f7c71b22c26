//! Sign-ins of people that are on their way: at a provider, between its answer and the token, and
//! devices that wait for a person. All of it is bounded in number and time, and gone with the
//! gateway. Nothing here is a secret: what a browser or device holds is known by its digest.

use std::collections::{HashMap, VecDeque};

use corral_identity::oidc::Begun;
use corral_model::ids::{PrincipalName, ResourceName};
use corral_model::limits;
use corral_model::token::TokenDigest;
use tokio::time::Instant;

/// What a sign-in is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignInFor {
    /// A command line that listens on loopback (RFC 8252) and proves itself (RFC 7636).
    CommandLine { redirect_uri: String, state: Option<String>, challenge: String },
    /// A device that waits; named by its user code.
    Device(String),
}

/// A person who is at the provider.
#[derive(Debug)]
pub(crate) struct AtProvider {
    pub(crate) provider: ResourceName,
    /// The browser that began it.
    pub(crate) browser: TokenDigest,
    pub(crate) purpose: SignInFor,
    pub(crate) begun: Begun,
    pub(crate) deadline: Instant,
}

/// A person who signed in, for whoever shows the code.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) person: PrincipalName,
    pub(crate) provider: ResourceName,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: String,
    pub(crate) deadline: Instant,
}

/// A person who signed in and has not said yet whether the device is theirs.
#[derive(Debug)]
pub(crate) struct Confirming {
    pub(crate) person: PrincipalName,
    pub(crate) provider: ResourceName,
    pub(crate) browser: TokenDigest,
    pub(crate) user_code: String,
    pub(crate) deadline: Instant,
}

/// What a device hears when it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceState {
    Waiting,
    Denied,
    Allowed { person: PrincipalName, provider: ResourceName },
}

#[derive(Debug)]
struct Device {
    user_code: String,
    state: DeviceState,
    asked_at: Option<Instant>,
    deadline: Instant,
}

/// Why a device gets nothing (RFC 8628 section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceAnswer {
    Pending,
    SlowDown,
    Denied,
    Expired,
}

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct SignIns {
    at_provider: HashMap<String, AtProvider>,
    arrived: HashMap<TokenDigest, Arrived>,
    confirming: HashMap<TokenDigest, Confirming>,
    devices: HashMap<TokenDigest, Device>,
    guesses: VecDeque<Instant>,
}

impl SignIns {
    fn forget_over(&mut self, now: Instant) {
        self.at_provider.retain(|_, one| now < one.deadline);
        self.arrived.retain(|_, one| now < one.deadline);
        self.confirming.retain(|_, one| now < one.deadline);
        self.devices.retain(|_, one| now < one.deadline);
    }

    pub(crate) fn begin(&mut self, one: AtProvider, now: Instant) -> Result<(), Full> {
        self.forget_over(now);
        if self.at_provider.len() >= limits::SIGN_INS_PENDING_MAX {
            return Err(Full);
        }
        self.at_provider.insert(one.begun.state.clone(), one);
        Ok(())
    }

    /// The sign-in that this answer belongs to, once: it must come back from the same provider to
    /// the same browser. A wrong browser does not use it up.
    pub(crate) fn take(
        &mut self,
        state: &str,
        provider: &ResourceName,
        browser: &TokenDigest,
        now: Instant,
    ) -> Option<AtProvider> {
        self.forget_over(now);
        let one = self.at_provider.get(state)?;
        let is_its =
            one.provider == *provider && corral_identity::token::is_same(&one.browser, browser);
        if is_its { self.at_provider.remove(state) } else { None }
    }

    pub(crate) fn arrive(
        &mut self,
        code: TokenDigest,
        one: Arrived,
        now: Instant,
    ) -> Result<(), Full> {
        self.forget_over(now);
        if self.arrived.len() >= limits::SIGN_INS_PENDING_MAX {
            return Err(Full);
        }
        self.arrived.insert(code, one);
        Ok(())
    }

    /// Whoever shows a code uses it up, also when what is shown with it is wrong.
    pub(crate) fn redeem(&mut self, code: &TokenDigest, now: Instant) -> Option<Arrived> {
        self.forget_over(now);
        self.arrived.remove(code)
    }

    pub(crate) fn ask_to_confirm(
        &mut self,
        key: TokenDigest,
        one: Confirming,
        now: Instant,
    ) -> Result<(), Full> {
        self.forget_over(now);
        if self.confirming.len() >= limits::SIGN_INS_PENDING_MAX {
            return Err(Full);
        }
        self.confirming.insert(key, one);
        Ok(())
    }

    /// The person of this browser says whether the device is theirs. None when nobody asked that
    /// browser, or the device is gone.
    pub(crate) fn confirm(
        &mut self,
        key: &TokenDigest,
        browser: &TokenDigest,
        is_allowed: bool,
        now: Instant,
    ) -> Option<PrincipalName> {
        self.forget_over(now);
        let one = self.confirming.get(key)?;
        if !corral_identity::token::is_same(&one.browser, browser) {
            return None;
        }
        let Confirming { person, provider, user_code, .. } = self.confirming.remove(key)?;
        let mut devices = self.devices.values_mut();
        let device = devices.find(|device| device.user_code == user_code)?;
        if device.state != DeviceState::Waiting {
            return None;
        }
        device.state = if is_allowed {
            DeviceState::Allowed { person: person.clone(), provider }
        } else {
            DeviceState::Denied
        };
        Some(person)
    }

    pub(crate) fn add_device(
        &mut self,
        device: TokenDigest,
        user_code: String,
        now: Instant,
    ) -> Result<(), Full> {
        self.forget_over(now);
        let is_taken = self.devices.values().any(|other| other.user_code == user_code);
        if is_taken || self.devices.len() >= limits::DEVICES_PENDING_MAX {
            return Err(Full);
        }
        let deadline = now + limits::SIGN_IN_DEADLINE;
        let state = DeviceState::Waiting;
        self.devices.insert(device, Device { user_code, state, asked_at: None, deadline });
        Ok(())
    }

    /// Whether a device waits under this code. Too many wrong codes: none is looked at.
    pub(crate) fn find_device(&mut self, user_code: &str, now: Instant) -> Result<bool, Full> {
        self.forget_over(now);
        while self.guesses.front().is_some_and(|at| *at + limits::DEVICE_GUESSES_SPAN <= now) {
            self.guesses.pop_front();
        }
        if self.guesses.len() >= limits::DEVICE_GUESSES_MAX {
            return Err(Full);
        }
        let is_waiting = self
            .devices
            .values()
            .any(|device| device.user_code == user_code && device.state == DeviceState::Waiting);
        if !is_waiting {
            self.guesses.push_back(now);
        }
        Ok(is_waiting)
    }

    /// A device asks. What it was waiting for is given once.
    pub(crate) fn poll(
        &mut self,
        device: &TokenDigest,
        now: Instant,
    ) -> Result<(PrincipalName, ResourceName), DeviceAnswer> {
        self.forget_over(now);
        let one = self.devices.get_mut(device).ok_or(DeviceAnswer::Expired)?;
        // A little sooner is a matter of the network.
        let soonest = limits::DEVICE_INTERVAL.mul_f32(0.8);
        let is_too_soon = one.asked_at.is_some_and(|at| now < at + soonest);
        if is_too_soon {
            return Err(DeviceAnswer::SlowDown);
        }
        one.asked_at = Some(now);
        match one.state.clone() {
            DeviceState::Waiting => Err(DeviceAnswer::Pending),
            DeviceState::Denied => {
                self.devices.remove(device);
                Err(DeviceAnswer::Denied)
            }
            DeviceState::Allowed { person, provider } => {
                self.devices.remove(device);
                Ok((person, provider))
            }
        }
    }

    /// What this person had not used yet is worth nothing any more.
    pub(crate) fn remove_of(&mut self, gone: &PrincipalName) {
        self.arrived.retain(|_, one| one.person != *gone);
        self.confirming.retain(|_, one| one.person != *gone);
        self.devices.retain(
            |_, one| !matches!(&one.state, DeviceState::Allowed { person, .. } if person == gone),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PrincipalName {
        PrincipalName::new(text).expect("a name")
    }

    fn corp() -> ResourceName {
        ResourceName::new("corp").expect("a name")
    }

    fn confirming(user_code: &str, deadline: Instant) -> Confirming {
        Confirming {
            person: name("ada"),
            provider: corp(),
            browser: TokenDigest([1; 32]),
            user_code: user_code.to_owned(),
            deadline,
        }
    }

    #[test]
    fn a_device_gets_its_person_once_and_only_from_the_browser_that_signed_in() {
        let start = Instant::now();
        let mut sign_ins = SignIns::default();
        let (device, key) = (TokenDigest([7; 32]), TokenDigest([8; 32]));
        let (own, other) = (TokenDigest([1; 32]), TokenDigest([2; 32]));
        sign_ins.add_device(device, "BCDF-GHJK".into(), start).expect("room");
        assert_eq!(sign_ins.poll(&device, start), Err(DeviceAnswer::Pending));
        assert_eq!(sign_ins.poll(&device, start), Err(DeviceAnswer::SlowDown));
        let waiting = confirming("BCDF-GHJK", start + limits::SIGN_IN_DEADLINE);
        sign_ins.ask_to_confirm(key, waiting, start).expect("room");
        assert_eq!(sign_ins.confirm(&key, &other, true, start), None);
        assert_eq!(sign_ins.confirm(&key, &own, true, start), Some(name("ada")));
        assert_eq!(sign_ins.confirm(&key, &own, true, start), None);
        let later = start + limits::DEVICE_INTERVAL;
        assert_eq!(sign_ins.poll(&device, later), Ok((name("ada"), corp())));
        let again = later + limits::DEVICE_INTERVAL;
        assert_eq!(sign_ins.poll(&device, again), Err(DeviceAnswer::Expired));
    }

    #[test]
    fn what_an_offboarded_person_had_not_used_is_worth_nothing() {
        let start = Instant::now();
        let mut sign_ins = SignIns::default();
        let (device, key) = (TokenDigest([7; 32]), TokenDigest([8; 32]));
        sign_ins.add_device(device, "BCDF-GHJK".into(), start).expect("room");
        let deadline = start + limits::SIGN_IN_DEADLINE;
        sign_ins.ask_to_confirm(key, confirming("BCDF-GHJK", deadline), start).expect("room");
        sign_ins.confirm(&key, &TokenDigest([1; 32]), true, start).expect("allowed");
        let code = TokenDigest([9; 32]);
        let arrived = Arrived {
            person: name("ada"),
            provider: corp(),
            redirect_uri: String::new(),
            challenge: String::new(),
            deadline,
        };
        sign_ins.arrive(code, arrived, start).expect("room");
        sign_ins.remove_of(&name("ada"));
        assert_eq!(sign_ins.poll(&device, start), Err(DeviceAnswer::Expired));
        assert!(sign_ins.redeem(&code, start).is_none());
    }

    #[test]
    fn guessing_codes_and_waiting_for_ever_have_an_end() {
        let start = Instant::now();
        let mut sign_ins = SignIns::default();
        sign_ins.add_device(TokenDigest([7; 32]), "BCDF-GHJK".into(), start).expect("room");
        for _ in 0..limits::DEVICE_GUESSES_MAX {
            assert_eq!(sign_ins.find_device("XXXX-XXXX", start), Ok(false));
        }
        assert_eq!(sign_ins.find_device("BCDF-GHJK", start), Err(Full));
        let later = start + limits::DEVICE_GUESSES_SPAN;
        assert_eq!(sign_ins.find_device("BCDF-GHJK", later), Ok(true));
        let over = start + limits::SIGN_IN_DEADLINE;
        assert_eq!(sign_ins.find_device("BCDF-GHJK", over), Ok(false));
        for count in 0..limits::DEVICES_PENDING_MAX {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&count.to_be_bytes());
            sign_ins.add_device(TokenDigest(digest), count.to_string(), over).expect("room");
        }
        let one_more = sign_ins.add_device(TokenDigest([9; 32]), "x".into(), over);
        assert_eq!(one_more, Err(Full));
    }
}
