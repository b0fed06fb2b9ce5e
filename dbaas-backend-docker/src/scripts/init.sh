# The command of the container that initialises a node together with its copies: /bin/sh -c <this> dbaas-init <boot id> <user> <node> <node of a copy>...
# The copies are made before the first start, so a new instance needs one initdb and no base backup.
set -u
umask 077
export LC_ALL=C
id=$1 user=$2 V=$3
shift 3
C=$V/dbaas D=$V/pgdata
cd "$C" || exit 64
B=$C/boot-$id

# Shows the node that this container is alive, every second; whoever kills it ends this too.
n=0
while :; do
  n=$((n + 1))
  echo "$n" > "init-alive-$id.new" && mv "init-alive-$id.new" "init-alive-$id" || :
  sleep 1
done 2> /dev/null &
failed() {
  head -c 16384 "init-out-$id" > init-failed.new 2> /dev/null || echo "no room" > init-failed.new
  mv init-failed.new "init-failed-$id"
  exit 65
}
initialise() {
  rm -rf "$D" && mkdir -m 700 "$D" &&
    initdb -D "$D" -U "$user" -E UTF8 --locale="$1" --data-checksums --no-sync --no-instructions \
      --auth-host=scram-sha-256 --auth-local=scram-sha-256 --pwfile="$B/pwfile"
}
: > incomplete && sync incomplete . || sync
rm -f "$C"/init-out-*
if ! initialise C.UTF-8 > "init-out-$id" 2>&1; then
  grep -q 'invalid locale' "init-out-$id" || failed
  initialise C > "init-out-$id" 2>&1 || failed
fi
copies=
for s in "$@"; do
  {
    rm -rf "$s/arrived" "$s/pgdata.arriving"
    cp -a "$D" "$s/pgdata.arriving" && : > "$s/arrived"
  } > /dev/null 2>&1 &
  copies="$copies $!"
done
[ -z "$copies" ] || wait $copies
sync -f "$V" 2> /dev/null || sync
for s in "$@"; do
  # A copy that did not come about, or a node that has data of its own: it takes a base backup instead.
  [ -f "$s/arrived" ] || continue
  if [ -f "$s/pgdata/postmaster.opts" ]; then
    rm -rf "$s/pgdata.arriving"
    continue
  fi
  rm -rf "$s/pgdata" && mv "$s/pgdata.arriving" "$s/pgdata" && rm -f "$s/dbaas/incomplete" && : > "$s/dbaas/seeded" || :
  rm -f "$s/arrived"
done
rm -f incomplete "init-out-$id"
sync . 2> /dev/null || sync
: > "init-done-$id"
