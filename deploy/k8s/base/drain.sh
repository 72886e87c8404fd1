# What Envoy does before it is stopped: `bash drain.sh ADMIN_PORT MOST_SECONDS LEAVE_SECONDS`.
#
# SIGTERM would cut every stream at once. So it first says that it is not ready, and asks each client
# with its next answer to close the connection; it ends when nobody is served any more, or in the end.
set -u
port=$1
gives_up_at=$((SECONDS + $2))

# The image has no program that speaks HTTP; the interface is on this pod's loopback alone.
admin() {
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf '%s %s HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$1" "$2" >&3
    cat <&3
    exec 3<&-
}

# Requests that are being answered, WebSockets among them; not those of the admin interface.
served() {
    local sum=0 name number
    while IFS=': ' read -r name number; do
        case "$name" in http.gateway.* | http.egress.*) sum=$((sum + ${number%%[!0-9]*})) ;; esac
    done < <(admin GET "/stats?filter=downstream_rq_active")
    echo "$sum"
}

admin POST /healthcheck/fail >/dev/null
# Whoever still finds us is served, until names and Services have followed.
sleep "$3"
while [ "$SECONDS" -lt "$gives_up_at" ] && [ "$(served)" != 0 ]; do
    sleep 1
done
