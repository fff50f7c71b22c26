#!/usr/bin/env bash
# The nightly report as a CI job, as in examples/ci/github-actions.yml: the CI system signs what this
# job is, Corral is shown that, and no secret is kept anywhere.
set -eu
answer=$(curl -fsS -H "Authorization: Bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
    "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=corral")
CORRAL_TOKEN=$(sed -E 's/.*"value": *"([^"]*)".*/\1/' <<<"$answer")
export CORRAL_TOKEN
exec corral run --name planner "$@" --purpose "nightly report" -- \
    "$DEMO_PYTHON" "$(dirname "$0")/planner.py"
