# Guards one server: starts it on command, and when standard input ends, stops it and removes its folder.
# The pipe ends when the process at its other end exits, even if that process is killed.
#
# process_guard.sh FOLDER SIGNAL COMMAND..: SIGNAL stops the server immediately.

folder=$1
signal=$2
shift 2
server=

# The system sends SIGHUP if the parent exits while a server is suspended.
trap '' HUP

while read -r command; do
    case $command in
    start)
        "$@" </dev/null >>"$folder/log" 2>&1 &
        server=$!
        echo "$server"
        ;;
    reap)
        wait "$server"
        server=
        echo
        ;;
    esac
done

# Repeatedly, because a server that is just starting ignores some signals; then by SIGKILL.
# A suspended server is resumed so that it gets the signal.
tries=0
while [ -n "$server" ] && kill -s "$signal" "$server"; do
    kill -s CONT "$server"
    sleep 0.1
    tries=$((tries + 1))
    [ "$tries" -lt 80 ] || signal=KILL
done
# Another process of the server may still be writing to the folder; without the folder it exits.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$folder"
    [ -e "$folder" ] || break
    sleep 0.5
done
