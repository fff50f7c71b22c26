//! YAML manifests: text to resources, with line and column in every error.
