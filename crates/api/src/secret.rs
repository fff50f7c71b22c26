//! A secret on its way over TLS, the only form in which one is ever serialised.

use corral_model::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// A password or token in a request or an answer. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Debug, ToSchema)]
#[schema(value_type = String, format = Password)]
pub struct WireSecret(Secret);

impl WireSecret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    #[must_use]
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

impl From<Secret> for WireSecret {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl Serialize for WireSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.reveal())
    }
}

impl<'de> Deserialize<'de> for WireSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}
