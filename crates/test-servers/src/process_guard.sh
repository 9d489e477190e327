# Keeps one server: starts it when told so, and when standard input ends, ends it and removes the
# folder. The pipe ends with whoever holds its other end, also where that one was killed.
#
# keeper.sh FOLDER SIGNAL COMMAND..: SIGNAL ends the server at once.

folder=$1
signal=$2
shift 2
server=

# The system sends it when whoever started a server that stands still is gone.
trap '' HUP

while read -r order; do
    case $order in
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

# Again and again, because a server that is only starting does not hear all signals; then by force.
# A stopped one is woken so that it hears.
tries=0
while [ -n "$server" ] && kill -s "$signal" "$server"; do
    kill -s CONT "$server"
    sleep 0.1
    tries=$((tries + 1))
    [ "$tries" -lt 80 ] || signal=KILL
done
# Another program of the server's may still be writing there; without its folder it gives up.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$folder"
    [ -e "$folder" ] || break
    sleep 0.5
done
