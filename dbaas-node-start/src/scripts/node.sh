# The command of a node's container: /bin/sh -c <this> dbaas-node <node directory>; of a virtual machine: /bin/sh <this> <node directory>.
# POSIX shell; runs as the image's postgres user. Starts PostgreSQL once per ticket, so that a container which somebody else starts (docker start,
# docker restart) does nothing.
set -u
umask 077
export LC_ALL=C
V=$1 C=$1/dbaas D=$1/pgdata N=$1/pgdata.backup
cd "$C" || exit 64

word= id=
[ ! -f ticket ] || read -r word id < ticket || :
case $word:$id in
start:*[!0-9a-f-]*) word= ;;
esac
if [ "$word" != start ]; then
  echo "dbaas: this container is started by its control plane only; nothing runs" >&2
  exit 64
fi
B=$C/boot-$id

# Ends the start: which program failed, then what it said (a file). The first 16 kB tell why.
failed() {
  { echo "$1"; head -c 16384 "$2"; } > exit.new && mv exit.new "exit-$id"
  echo "dbaas: $1 failed" >&2
  cat "$2" >&2
  rm -rf "$B"
  exit 65
}
complete() { # the data directory is whole, and on the disk
  sync -f "$V" 2> /dev/null || sync
  rm -f incomplete
  sync . 2> /dev/null || sync
}
incomplete() { # before the data directory is touched
  : > incomplete && sync incomplete . 2> /dev/null || sync
}
word_of() { sed -n "s/^$1=//p" "$B/job"; }

echo "used $id" > ticket.new && mv ticket.new ticket || failed ticket /dev/null
# Of earlier starts.
for f in boot-* exit-* up-* init-done-* init-failed-* init-alive-*; do
  case $f in *-"$id") ;; *) rm -rf "$f" ;; esac
done
rm -rf "$N"

case $(word_of prepare) in
existing) ;;
init)
  if [ "$(word_of ahead)" = take ]; then
    # Initialised ahead, with a password that nobody knows. A single-user server gives the superuser ours; doing it once more changes nothing.
    rm -f "$D/postmaster.pid"
    {
      printf 'ALTER ROLE "%s" PASSWORD '"'" "$(word_of user)"
      sed "s/'/''/g" "$B/pwfile" | tr -d '\n'
      echo "'"
    } | postgres --single -D "$D" -c log_min_error_statement=panic -c log_min_messages=warning postgres > out 2>&1 ||
      { incomplete; failed postgres out; }
    # The statement is nowhere in there.
    ! grep -q 'ERROR:' out || { incomplete; failed postgres out; }
  else
    incomplete
    # In MB, where whoever runs this script has a wish.
    segments=16
    [ ! -f wal-segments ] || read -r segments < wal-segments || :
    initialise() {
      rm -rf "$D" && mkdir -m 700 "$D" &&
        initdb -D "$D" -U "$(word_of user)" -E UTF8 --locale="$1" --data-checksums --no-sync --no-instructions \
          --wal-segsize="$segments" --auth-host=scram-sha-256 --auth-local=scram-sha-256 --pwfile="$B/pwfile"
    }
    if ! initialise C.UTF-8 > out 2>&1; then
      # Older C libraries have no C.UTF-8; C orders the same, it only knows no letters beyond ASCII.
      grep -q 'invalid locale' out || failed initdb out
      initialise C > out 2>&1 || failed initdb out
    fi
    complete
    if [ -n "${DBAAS_COPY:-}" ]; then
      # The disk is copied for the first standbys, before the first start, by whoever runs this script.
      : > "$DBAAS_COPY/ready"
      while [ ! -e "$DBAAS_COPY/done" ]; do sleep 0.1; done
    fi
    # For the warm pool: whoever asked for it should have taken the disk by now.
    if [ "$(word_of ahead)" = make ]; then echo "initialised ahead; nothing is to be started" > out; failed ahead out; fi
  fi
  ;;
init-elsewhere)
  # Another container initialises this node and its copies at the same time: see init.sh. It shows that it is alive; if it is not, the
  # control plane starts it again.
  n=0 silent=0 heard=
  while [ ! -f "init-done-$id" ]; do
    [ ! -f "init-failed-$id" ] || failed initdb "init-failed-$id"
    n=$((n + 1)) silent=$((silent + 1)) beat=
    [ ! -f "init-alive-$id" ] || read -r beat < "init-alive-$id" || :
    if [ "$beat" != "$heard" ]; then heard=$beat silent=0; fi
    if [ "$silent" -gt 300 ]; then echo "the container that initialises the node ended before its time" > out; failed initdb out; fi
    if [ "$n" -gt 12000 ]; then echo "the first start did not end within 600 s" > out; failed initdb out; fi
    sleep 0.05
  done
  rm -f init-alive-*
  ;;
seed)
  n=0
  while [ ! -f seeded ] || [ -f incomplete ]; do
    n=$((n + 1))
    if [ "$n" -gt 1200 ]; then echo "no copy of the first node came within 60 s" > out; failed seed out; fi
    sleep 0.05
  done
  ;;
no-seed)
  echo "the first node has a data directory already and left no copy here" > out
  failed seed out
  ;;
base-backup)
  mkdir -m 700 "$N" || failed mkdir /dev/null
  export PGPASSFILE="$B/pgpass"
  pg_basebackup -D "$N" -X stream -c fast --no-sync --no-manifest -S "$(word_of slot)" -d "$(word_of conninfo)" > out 2>&1 &
  backup=$!
  unset PGPASSFILE
  # What is there is given up as soon as the source sends, so that there is room for no more than one copy; and not before, as it may be the
  # last one.
  while kill -0 "$backup" 2> /dev/null && [ -z "$(ls -A "$N")" ]; do sleep 0.05; done
  if [ -n "$(ls -A "$N")" ]; then
    incomplete
    rm -f seeded
    rm -rf "$D"
  fi
  wait "$backup" || failed pg_basebackup out
  mv "$N" "$D" || failed mv /dev/null
  complete
  ;;
rewind)
  incomplete
  # The node is off. What is left of its last life would make the single-user server that pg_rewind needs refuse to recover.
  rm -f "$D/postmaster.pid" "$D/standby.signal" "$D/recovery.signal"
  export PGPASSFILE="$B/pgpass"
  if ! pg_rewind -D "$D" --no-sync --source-server "$(word_of conninfo)" > out 2>&1; then
    # It connects before it touches anything: then the data is as whole as it was.
    ! grep -q 'connection to server' out || rm -f incomplete
    failed pg_rewind out
  fi
  # It recovered first, which wrote checkpoints, and found nothing to rewind: they stay, and are in nobody else's WAL.
  if grep -q 'to complete crash recovery' out && grep -q 'no rewind required' out; then failed pg_rewind out; fi
  unset PGPASSFILE
  # Slots of its life as a primary would keep WAL for standbys that follow another one now.
  rm -rf "$D"/pg_replslot/*
  complete
  ;;
*)
  echo "there is no job" > out
  failed start out
  ;;
esac

# A controller that ended and the one after it may each have asked for a start: the last one counts.
case $(cat boot.json) in
*"$id"*) ;;
*) rm -rf "$B"; echo "dbaas: another start was asked for meanwhile; nothing runs" >&2; exit 66 ;;
esac
[ ! -f incomplete ] || { echo "the data directory is not complete" > out; failed start out; }
rm -f "$D/recovery.signal" "$D/postmaster.pid"
for f in "$B"/files/*; do
  [ -f "$f" ] || continue
  name=${f##*/}
  cp "$f" "$D/.dbaas.$name" 2> out && sync "$D/.dbaas.$name" 2> out && mv "$D/.dbaas.$name" "$D/$name" 2> out || failed files out
done
case $(word_of role) in
standby) : > "$D/standby.signal" && sync "$D/standby.signal" 2> out || failed files out ;;
*) rm -f "$D/standby.signal" ;;
esac
sync "$D" ticket boot.json . 2> out || failed files out
rm -rf "$B" out
: > "up-$id" || exit 65
echo "dbaas: prepared $id" >&2
cd "$D" || exit 65
exec postgres -D "$D" -c 'listen_addresses=*' -c port=5432 -c unix_socket_directories=/var/run/postgresql \
  -c logging_collector=off -c log_destination=stderr
