//! How psql, and everything else that stands on libpq, is told where to connect.

use corral_model::native::{ClientVariable, NativeClient, Reach, VariableValue};

/// The variables of libpq for a listener.
pub(crate) fn client(reach: &Reach) -> NativeClient {
    let mut variables = vec![
        ClientVariable::new("PGHOST", VariableValue::Host),
        ClientVariable::new("PGPORT", VariableValue::Text(reach.port.to_string())),
        ClientVariable::new("PGUSER", VariableValue::Claim),
        ClientVariable::new("PGPASSWORD", VariableValue::Token),
        ClientVariable::new("PGSSLMODE", VariableValue::Text("verify-full".to_owned())),
        ClientVariable::new("PGSSLROOTCERT", VariableValue::CaFile),
    ];
    if let Some(target) = reach.named_target() {
        let name = VariableValue::Text(target.name.clone());
        variables.push(ClientVariable::new("PGDATABASE", name));
    }
    NativeClient::of_variables("psql", variables)
}
