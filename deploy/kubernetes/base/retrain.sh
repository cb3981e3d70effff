#!/bin/sh
# Train what has changed, export it, and let the service serve it: CONFIG, RUN and SERVICE are in kustomization.yaml.
# A model that does not beat popularity is not exported, and this fails.
set -eu
exec 9> runs/retrain.lock
flock 9
before=$(ls "$RUN/artifacts" 2> /dev/null | tail -n 1)
if [ "$CONFIG" = configs/demo.toml ]; then recjpq-train download "$RUN/data"; fi
# Without --restart first: it goes on with a training that was interrupted, and does nothing if nothing has changed.
errors=$(mktemp)
recjpq-train all --config "$CONFIG" 2> "$errors" || {
  cat "$errors" >&2
  grep -q -- --restart "$errors" || exit 2
  recjpq-train all --config "$CONFIG" --restart
}
version=$(ls "$RUN/artifacts" | tail -n 1)
# The first is found by the service itself, which waits for it.
if [ -z "$before" ]; then exit 0; fi
# Written down first: a run that comes after one whose activation failed must not find that nothing has changed.
pending="$RUN/activate"
if [ "$version" != "$before" ]; then
  if [ -z "${RECJPQ_ADMIN_KEY:-}" ]; then echo "$version is not served yet: no secret recjpq-admin"; exit 0; fi
  echo "$version" > "$pending"
fi
if [ ! -e "$pending" ]; then echo "nothing has changed since $version"; exit 0; fi
python -c '
import os, sys, urllib.request
url = f"{sys.argv[1]}/admin/models/{sys.argv[2]}/activate"
headers = {"Authorization": "Bearer " + os.environ["RECJPQ_ADMIN_KEY"]}
with urllib.request.urlopen(urllib.request.Request(url, b"", headers), timeout=600) as answer:
    print(answer.read().decode())
' "$SERVICE" "$(cat "$pending")"
rm "$pending"
