#!/bin/sh
# A command for the live tests: records its call as stand_handlers.py does, and executes the words in the file's first line.
printf '{"path": "%s", "sha256": "%s", "attempt": %s, "pid": %s, "parcel": "", "id": "%s"}\n' "$INBOXD_FILE_RELATIVE_PATH" \
    "$INBOXD_FILE_SHA256" "$INBOXD_FILE_ATTEMPT" "$$" "$INBOXD_FILE_ID" >>"$STAND_FOLDER/handler_calls.jsonl"
IFS=' ' read -r word rest <"$1"
case $word in
    reject) echo "$rest" >&2; exit 65 ;;
    always_raise) echo "$rest" >&2; exit 1 ;;
    raise_twice)
        printf . >>"$STAND_FOLDER/calls-$INBOXD_FILE_ID"
        [ "$(wc -c <"$STAND_FOLDER/calls-$INBOXD_FILE_ID")" -gt 2 ] || exit 75 ;;
    sleep) sleep "$rest" ;;
    hold) while ! [ -e "$STAND_FOLDER/release" ]; do sleep 0.05; done ;;
    die) kill -KILL $$ ;;
    family) sleep "$rest" & setsid sleep "$rest" & sleep "$rest" ;;
    print) echo "out $rest"; echo "err $rest" >&2 ;;
esac
