# What Envoy does before it is stopped: `bash drain.sh ADMIN_PORT MOST_SECONDS LEAVE_SECONDS`.
#
# SIGTERM would cut every stream at once. So it first says that it is not ready, and asks each client
# with its next answer to close the connection; it ends when nobody is served any more, or in the end.
# deploy/compose/proxy.sh takes the two functions from here.
set -u

# The image has no program that speaks HTTP; the interface is on loopback alone.
admin() { # PORT METHOD PATH
    local interface
    exec {interface}<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf '%s %s HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$2" "$3" >&$interface
    cat <&$interface
    exec {interface}<&-
}

# A sum over the two listeners for clients, not that of the admin interface: `downstream_rq_active` are
# requests that are being answered, WebSockets among them, `downstream_cx_active` connections. Nothing is
# printed where there is no such statistic, or no answer: who does not answer may still serve somebody.
total() { # PORT STATISTIC
    local sum='' name number
    while IFS=': ' read -r name number; do
        case "$name" in http.gateway.* | http.egress.*) sum=$((sum + ${number%%[!0-9]*})) ;; esac
    done < <(admin "$1" GET "/stats?filter=$2")
    echo "$sum"
}

[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

port=$1
gives_up_at=$((SECONDS + $2))
admin "$port" POST /healthcheck/fail >/dev/null
# Whoever still finds us is served, until names and Services have followed.
sleep "$3"
while [ "$SECONDS" -lt "$gives_up_at" ] && [ "$(total "$port" downstream_rq_active)" != 0 ]; do
    sleep 1
done
