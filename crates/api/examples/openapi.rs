//! Prints the OpenAPI document, as it stands in `docs/openapi.json`.

fn main() -> Result<(), serde_json::Error> {
    println!("{}", corral_api::openapi().to_pretty_json()?);
    Ok(())
}
