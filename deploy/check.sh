#!/usr/bin/env bash
# Runs the image as compose.yaml does (no rights, a read-only root) and asks it what a user would ask: a key, an answer under
# a schema, its figures; then stops it and starts it again. A minute or two; volumes and containers are removed at the end.
#   IMAGE    what to check                          (default: sluice:local)
#   ENGINE   docker or podman                       (default: the first that is there)
#   MODELS   a cache folder that has the model      (default: ~/.cache/sluice; without one the container fetches it)
set -euo pipefail

image=${IMAGE:-sluice:local}
engine=${ENGINE:-$(command -v docker || command -v podman || true)}
models=${MODELS:-$HOME/.cache/sluice}
name=sluice-check-$$

fail() {
    printf 'check: %s\n' "$@" >&2
    "$engine" logs --tail 40 "$name" >&2 || true
    exit 1
}

said() { printf '%-34s %s\n' "$@"; }

cleaned() {
    "$engine" rm --force "$name" >/dev/null 2>&1 || true
    "$engine" volume rm --force "$name"-{models,data,kernels} >/dev/null 2>&1 || true
}

# Podman's own timer for health checks needs systemd; asked directly it needs nothing.
healthy() {
    case $engine in
    *podman) "$engine" healthcheck run "$name" >/dev/null 2>&1 ;;
    *) [ "$("$engine" inspect --format '{{.State.Health.Status}}' "$name")" = healthy ] ;;
    esac
}

until_healthy() {
    local begun=$SECONDS
    until healthy; do
        [ "$("$engine" inspect --format '{{.State.Running}}' "$name")" = true ] || fail "it ended before it was ready"
        [ $((SECONDS - begun)) -lt 900 ] || fail "it is not ready after 15 minutes"
        sleep 0.5
    done
    said "$1" "$((SECONDS - begun)) s"
}

# 143: it ended by itself, and says that SIGTERM was why.
stopped() {
    "$engine" stop --time 45 "$name" >/dev/null
    [ "$("$engine" inspect --format '{{.State.ExitCode}}' "$name")" = 143 ] || fail "SIGTERM did not end it cleanly"
    [[ $("$engine" logs --tail 5 "$name" 2>&1) == *"shutdown complete"* ]] || fail "it did not shut down by itself"
    said "SIGTERM" "ended by itself"
}

kernels() { "$engine" exec "$name" sh -c 'find /opt/kernels -type f | sort | xargs cksum | cksum'; }

[ -n "$engine" ] || fail "neither docker nor podman was found"
"$engine" image inspect "$image" >/dev/null || fail "there is no image $image: make image"
trap cleaned EXIT
said "image" "$image, $(($("$engine" image inspect --format '{{.Size}}' "$image") / 1000000)) MB"

if [ -d "$models/models" ]; then
    "$engine" run --rm --user 0 --entrypoint sh --volume "$name-models:/var/cache/sluice" --volume "$models:/from:ro" \
        "$image" -c 'cp -a /from/models /var/cache/sluice && chown -R sluice: /var/cache/sluice'
fi
compiled=$("$engine" run --rm --entrypoint sh "$image" -c 'find /opt/kernels -type f | sort | xargs cksum | cksum')
"$engine" run --detach --name "$name" --init --read-only --tmpfs /tmp --cap-drop ALL \
    --security-opt no-new-privileges --volume "$name-models:/var/cache/sluice" --volume "$name-data:/var/lib/sluice" \
    --volume "$name-kernels:/opt/kernels" "$image" >/dev/null
until_healthy "first start"
[ "$("$engine" exec "$name" id -u)" = 10001 ] || fail "it does not run as user 10001"
"$engine" exec "$name" touch /opt/sluice/written 2>/dev/null && fail "its root can be written to"
said "user" "10001, on a read-only root"

key=$("$engine" exec "$name" sluice keys create check --tenant house)
"$engine" exec --interactive "$name" python - "$key" <<'ASKED' || fail "it does not answer"
import json
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

BASE = "http://127.0.0.1:8000"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
ASKED = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Name a city and say how many people live there."}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
    "max_tokens": 100,
}


def chat(key: str):
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return urlopen(Request(f"{BASE}/v1/chat/completions", json.dumps(ASKED).encode(), headers), timeout=120)


try:
    chat("sk-of-nobody")
    sys.exit("it answers without a key")
except HTTPError as error:
    assert error.code == 401, error.code
answer = chat(sys.argv[1])
value = json.loads(json.load(answer)["choices"][0]["message"]["content"])
assert list(value) == ["city", "people"] and isinstance(value["people"], int), value
print(f"{'an answer under a schema':34} {json.dumps(value)}, enforced by {answer.headers['x-sluice-enforced']}")
assert b"sluice_engine_up 1.0" in urlopen(f"{BASE}/metrics").read()
ASKED
stopped
"$engine" start "$name" >/dev/null
until_healthy "second start"
[ "$(kernels)" = "$compiled" ] || fail "kernels were compiled again, for this CPU: build where it runs"
said "kernels" "as the image has them, after both starts"
stopped
