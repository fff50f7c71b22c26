"""Where Corral answers otherwise than the cluster would, and why. What stops to differ fails."""

UNREADABLE = "an object that Corral cannot read is refused by Corral, with 403"

KNOWN = {
    "impersonation_flags": "impersonation headers of a client are not forwarded; policies see "
                           "context.asks_impersonation",
    "broken_patch": UNREADABLE,
    "create broken json": UNREADABLE,
    "create unknown type": UNREADABLE,
    "update wrong name": "a body that names another object than the path is refused by Corral",
    "options": "the API has no method OPTIONS: refused by Corral with 403, by the cluster with 405",
}
NO_STREAMS = "streams into containers are not carried by the engine"
KNOWN |= dict.fromkeys((
    "exec_exit_codes_and_outputs", "exec_with_stdin", "exec_of_much_output", "exec_on_a_terminal",
    "attach_and_run", "attach_with_stdin", "copy_both_ways", "port_forward", "python_execs",
    "python_forwards_ports"), NO_STREAMS)
