"""Where Corral answers otherwise than the cluster would, and why. What stops to differ fails."""

UNREADABLE = "an object that Corral cannot read is refused by Corral, with 403"

KNOWN = {
    "impersonation_flags": "impersonation headers of a client are not forwarded; policies see "
                           "context.asks_impersonation",
    "broken_patch": UNREADABLE,
    "create broken json": UNREADABLE,
    "create unknown type": UNREADABLE,
    "update wrong name": "a body that names another object than the path is refused by Corral",
    "exec without upgrade": "a stream into a container needs an upgrade: refused by Corral first",
    "options": "the API has no method OPTIONS: refused by Corral with 403, by the cluster with 405",
}

# With CORRAL_K8S=oldest, beside those.
KNOWN_WITH_OLDEST = {
    "port_forward": "an API server takes tunnels over WebSocket from 1.31 on; over SPDY, as the "
                    "client does it directly, Corral carries none",
}
