# Runs Envoy, and exchanges it so that nobody notices: `bash proxy.sh CONFIGURATION THREADS`.
#
# The program and the configuration lie in a volume that jobs write. When one of them is another one, a
# second Envoy starts beside the first and listens on the same port; once it is ready the first one takes
# nothing new, finishes what it has in hand, and ends. What the new one can't start with changes nothing:
# the old one goes on, and the container counts as unhealthy. docs/decisions/0087-proxies.md says why.
set -u
. "${BASH_SOURCE[0]%/*}/drain.sh"

configuration=$1
threads=$2
program=${configuration%/*}/envoy
place=${TMPDIR:-/tmp}
most_leaving=2         # its memory holds so many beside the one that takes what is new; a further change waits
drain_seconds=630      # an answer may take 600 (CHAT_LONGEST_TURN_SECONDS)
stop_seconds=20        # the same, where the container is to end; `stop_grace_period` is longer
ready_seconds=60
keys_seconds=5         # how long one that is ready may still lack keys that auth did not give at once
again_seconds=60       # after one that was not taken up: what it missed may be there by then
admin_address='{address: "127.0.0.1", port_value: '

declare -A leaving=()  # those that take nothing new: process id by admin port
current='' port='' text='' runs='' pid='' ending='' again_at='' told_port=''
seen_configuration='' seen_program='' seen_text=''
exec {clock}<> <(:)    # nothing ever comes: to wait on it starts no process

say() { printf '{"event": "%s", "process": "proxy", "admin_port": %s}\n' "$1" "${2:-null}" >&2; }
pause() { read -rt "$1" -u "$clock" || true; }
alive() { kill -0 "$1" 2>/dev/null; }

# Holds both files open as they are now, by which another one is told from them. To ask for newer ones would
# not do: a clock may be set back, and a file was written before it comes here.
look() {
    [ -z "$seen_configuration" ] || exec {seen_configuration}<&-
    [ -z "$seen_program" ] || exec {seen_program}<&-
    seen_configuration='' seen_program='' seen_text=''
    exec {seen_configuration}<"$configuration" || return 1
    exec {seen_program}<"$program" || return 1
    touch -r "$configuration" "$place/seen" || return 1
    seen_text=$(<"/dev/fd/$seen_configuration")
}

changed() {
    [ -r "$configuration" ] && [ -r "$program" ] || return 1
    ! [ "$configuration" -ef "/dev/fd/$seen_configuration" ] || ! [ "$program" -ef "/dev/fd/$seen_program" ] ||
        # Who writes into the file that is there, as the jobs of older versions do, leaves it the same one.
        [ "$configuration" -nt "$place/seen" ] || [ "$configuration" -ot "$place/seen" ] ||
        { [ -n "$again_at" ] && [ "$SECONDS" -ge "$again_at" ]; }
}

# Sets `told_port`, the admin interface's, instead of which each Envoy gets one of its own. There is none in
# an empty file, nor in one for the containers before this script.
read_port() { # TEXT
    [[ $1 =~ admin:[[:space:]]+address:\ \{socket_address:\ "$admin_address"([0-9]+)\} ]] || return 1
    told_port=${BASH_REMATCH[1]}
}

free_port() {
    local free=$told_port
    while (exec 3<>"/dev/tcp/127.0.0.1/$free") 2>/dev/null; do free=$((free + 1)); done
    echo "$free"
}

# Starts one with a copy of its own, so that what it runs on can be read; sets `pid`.
launch() { # PORT TEXT
    local told="$admin_address$told_port}" own="$admin_address$1}"
    printf '%s\n' "${2//"$told"/"$own"}" >"$place/$1.yaml"
    "$program" --config-path "$place/$1.yaml" --mode validate --log-level warning >/dev/null || return 1
    "$program" --config-path "$place/$1.yaml" --concurrency "$threads" --disable-hot-restart \
        --log-level warning --file-flush-interval-msec 1000 &
    pid=$!
}

# How many times auth's keys are fetched: each share of the clients has all that fetches them for itself.
fetches() { # TEXT
    local line of_one=0 shares=0
    while read -r line; do
        case "$line" in
            'async_fetch: '*) of_one=$((of_one + 1)) ;;
            '- name: share-'*) shares=$((shares + 1)) ;;
        esac
    done <<<"$1"
    echo $((of_one * (shares > 0 ? shares : 1)))
}

ready() { # PORT PID TEXT
    local gives_up_at=$((SECONDS + ready_seconds)) keys_by='' fetches fetched
    fetches=$(fetches "$3")
    while alive "$2" && [ "$SECONDS" -lt "$gives_up_at" ] && [ -z "$ending" ]; do
        case "$(admin "$1" GET /ready 2>/dev/null)" in
            # So it is without auth's keys as well, where auth did not answer every time; the one that runs has
            # them. It asks again each second. An egress fetches none.
            *LIVE*)
                fetched=$(total "$1" jwks_fetch_success)
                if [ "${fetched:-0}" -ge "$fetches" ]; then return; fi
                : "${keys_by:=$((SECONDS + keys_seconds))}"
                [ "$SECONDS" -lt "$keys_by" ] || return 1
                ;;
        esac
        pause 0.1
    done
    return 1
}

# Takes nothing new from here on: who waits to be accepted goes over to the other's port
# (tcp_migrate_req), and each answer asks for its connection to be closed.
turn_away() { # PORT
    admin "$1" POST /drain_listeners >/dev/null
    admin "$1" POST /healthcheck/fail >/dev/null
}

# Until nobody is connected any more, or in the end. To end while clients keep a connection for their
# next question would be to close it under a question that is already on its way.
leave() { # PORT PID SECONDS
    local gives_up_at=$((SECONDS + $3))
    while alive "$2" && [ "$SECONDS" -lt "$gives_up_at" ] && [ "$(total "$1" downstream_cx_active)" != 0 ]; do
        sleep 1
    done
    kill "$2" 2>/dev/null
}

# What runs now is what was seen: by its file others see that an exchange is over.
settled() { # PORT
    current=$pid port=$1 text=$seen_text
    [ -z "$runs" ] || exec {runs}<&-
    exec {runs}<&"$seen_program"
    rm -f "$place/refused"
    echo "$current" >"$place/current"
}

exchange() {
    local new_port
    pid='' again_at=''
    look || return
    if [ "$seen_text" = "$text" ] && [ "/dev/fd/$seen_program" -ef "/dev/fd/$runs" ]; then
        rm -f "$place/refused"
        return
    fi
    if read_port "$seen_text" && new_port=$(free_port) && launch "$new_port" "$seen_text" && ready "$new_port" "$pid" "$seen_text"; then
        turn_away "$port"
        leaving[$port]=$current
        leave "$port" "$current" "$drain_seconds" &
        settled "$new_port"
        say proxy_exchanged "$port"
    else
        [ -z "$pid" ] || kill "$pid" 2>/dev/null
        say proxy_kept_as_it_was "$port"
        : >"$place/refused"
        again_at=$((SECONDS + again_seconds))
    fi
}

stop() {
    local one
    turn_away "$port"
    for one in "${!leaving[@]}"; do leave "$one" "${leaving[$one]}" "$stop_seconds" & done
    leave "$port" "$current" "$stop_seconds"
    wait
    exit 0
}

start() {
    local waits=''
    until [ -x "$program" ] && [ -r "$configuration" ] && look && read_port "$seen_text"; do
        [ -n "$waits" ] || say proxy_waits
        waits=1
        pause 0.2
    done
    launch "$told_port" "$seen_text" || exit 1
    settled "$told_port"
}

run() {
    local one
    start
    # No more than a mark: a handler that runs while `read` waits is broken off when its time is over.
    trap 'ending=1' TERM INT
    while alive "$current"; do
        [ -z "$ending" ] || stop
        for one in "${!leaving[@]}"; do
            alive "${leaving[$one]}" || unset "leaving[$one]"
        done
        if [ "${#leaving[@]}" -lt "$most_leaving" ] && changed; then exchange; fi
        pause 1
    done
    wait "$current"
}

# On one line: a shell reads its script as it goes, and this one may be replaced while it runs.
run; exit
